"""What a search looks at beside costs: by hand, and of many networks at once as of one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinynas.api import load_space
from tinynas.arch import Arch
from tinynas.cost.anatomy import Figures, figures
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.work import from_graph
from tinynas.graph import lower
from tinynas.space import Space


def test_by_hand() -> None:
    blocks = [{"out": 8, "expand": 2.0, "stride": 2, "kind": "mbconv"}]
    arch = Arch.model_validate({"height": 8, "width": 8, "stem": {"out": 4, "stride": 1}, "blocks": blocks, "classes": 2})
    # Stem 8x8x4 of 3x3x3; expand to 8 channels; depthwise to 4x4; project to 8. The dense layer is not looked at.
    macs = [64 * 4 * 27, 64 * 8 * 4, 16 * 8 * 9, 16 * 8 * 8]
    found = figures(from_graph(lower(arch)))
    assert found.activations == 64 * 4 + 64 * 8 + 16 * 8 + 16 * 8
    assert found.mean_log_macs == pytest.approx(sum(map(math.log, macs)) / 4, abs=5e-4)
    assert found.narrowest == 4


@pytest.mark.parametrize(
    ("name", "runtime"), [("tiny", "tflm"), ("mcunet", "tinyengine"), ("listen-1d", "compiled-rows"), ("attention", "tflm-cmsis-nn")]
)
def test_many_at_once_are_as_one_by_one(name: str, runtime: str) -> None:
    space: Space = load_space(name)
    draw = np.random.default_rng(3)
    rows = [space.draw(lambda _, n: int(draw.integers(n))) for _ in range(25)]
    many = BatchEstimator(space, 3, runtime, "cortex-m4").estimate(np.array(rows)).anatomy
    single = [figures(from_graph(lower(space.decode(row, 3)))) for row in rows]
    for at, field in enumerate(Figures._fields):
        assert many[at] == pytest.approx([each[at] for each in single], abs=0), field
