"""What only a GPU shows: recorded steps give the same training as steps run kernel by kernel, and states move between devices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_train import ARCH, GRAPH, TRAIN, VAL, recipe
from tinynas.graph import lower
from tinynas.recipe import Augment
from tinynas.train import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("kind", ["none", "light", "wake-vision"])
def test_a_recorded_step_is_the_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recipe(epochs=3, augment=Augment(kind=kind), precision="float32")
    recorded = Trainer(GRAPH, TRAIN, VAL, settings, seed=0)
    recorded.run()
    assert recorded._recorded is not None
    monkeypatch.setattr(Trainer, "_may_record", lambda self: False)
    plain = Trainer(GRAPH, TRAIN, VAL, settings, seed=0)
    plain.run()
    assert plain._recorded is None
    np.testing.assert_allclose([m.loss for m in recorded.history], [m.loss for m in plain.history], rtol=0.05)
    assert abs(recorded.history[-1].val_loss - plain.history[-1].val_loss) < 0.1


def test_a_state_of_the_gpu_goes_on_anywhere(tmp_path: Path) -> None:
    settings = recipe(epochs=4)
    first = Trainer(GRAPH, TRAIN, VAL, settings, seed=0)
    first.run(2)
    first.save(tmp_path / "state")
    for device in ("cuda", "cpu"):
        then = Trainer(GRAPH, TRAIN, VAL, settings, seed=0, device=torch.device(device))
        then.load(tmp_path / "state")
        then.run()
        assert then.epoch == 4 and then.history[-1].val_accuracy > 0.5


def test_grids_that_come_late_are_recorded_anew() -> None:
    assert ARCH.stem is not None
    graph = lower(ARCH.model_copy(update={"classifier_bits": 4, "stem": ARCH.stem.model_copy(update={"weight_bits": 2})}))
    trainer = Trainer(graph, TRAIN, VAL, recipe(epochs=4, few_bits_from=0.5), seed=0)
    trainer.run(2)
    before = trainer._recorded
    steps = {name: value.detach().clone() for name, value in trainer.network.named_parameters() if "log_step" in name}
    trainer.run()
    assert trainer._recorded is not None and trainer._recorded is not before
    moved = dict(trainer.network.named_parameters())
    assert len(steps) == 2 and all((moved[name] != value).all() for name, value in steps.items())
    assert trainer.history[-1].val_accuracy > 0.6
