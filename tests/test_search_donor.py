"""One large network trained first, of which all others begin with slices; and searches that end with their images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from search_runs import RECIPE, SPACE, session_of

from tinynas.api import PreparedSearch, prepare_search
from tinynas.errors import RunError
from tinynas.graph import lower
from tinynas.model import load_weights
from tinynas.recipe import Recipe
from tinynas.search import SearchSettings, worker
from tinynas.search import prepare as prepare_module
from tinynas.search.donor import donor_of, train_donor
from tinynas.search.prepare import EPOCH_IMAGES, RunPlan, Speed, donor_file, image_weight, open_session
from tinynas.search.training import Trainings
from tinynas.space import Space
from tinynas.train.slices import slice_weights

Prepared = Callable[..., PreparedSearch]


def test_the_donor_is_the_largest_at_the_smallest_resolution_searched() -> None:
    arch = SPACE.decode(donor_of(SPACE, ()), 3)
    assert (arch.height, arch.width) == (12, 12)
    assert arch.stem is not None and arch.head is not None and (arch.stem.out, arch.head.out) == (16, 32)
    assert [(block.out, block.kernel, block.expand) for block in arch.blocks] == [(16, 5, 3), (16, 5, 3)]  # type: ignore[union-attr]
    # Sub-spaces (resolution, width) by index.
    narrow = SPACE.decode(donor_of(SPACE, [(1, 0)]), 3)
    assert (narrow.height, narrow.stem.out) == (16, 8)  # type: ignore[union-attr]
    mixed = SPACE.decode(donor_of(SPACE, [(1, 0), (0, 0), (1, 1)]), 3)
    assert (mixed.height, mixed.stem.out) == (12, 16)  # type: ignore[union-attr]


def test_of_what_is_no_number_the_donor_has_the_first_choice() -> None:
    stage = {"out": 8, "kernel": [[3, 5], [1, 7], 3], "attention": ["none", "se"], "act": ["relu6", "h_swish"], "weight_bits": [4, 8]}
    space = Space.model_validate({"resolution": [[32, 8], 12], "stages": [stage]})
    block = space.decode(donor_of(space, ()), 2).blocks[0]
    assert block.attention == "none" and block.act == "relu6" and block.weight_bits == 8  # type: ignore[union-attr]
    assert block.kernel == (3, 5)  # type: ignore[union-attr]
    assert space.decode(donor_of(space, ()), 2).height == 12


def test_networks_begin_with_slices_of_the_donor(prepared: Prepared) -> None:
    one = prepared(trials=3, slices=0.5)
    result = one.go()
    assert result.counts.trained == 3
    document = one.run.read_json("plan")
    donor = SPACE.decode(document["donor"], 3)
    assert document["donor"] == list(donor_of(SPACE, RunPlan.from_json(document).subspaces))
    # Half of what three networks take to the first rung and the share that deepens, which is 0.5 * 3 / 64 at three, in whole epochs.
    session = open_session(one.run, one.space, one.budget, one.data, one.settings)
    weight = image_weight(session.speed, session.pool, float(one.budget and _macs(donor)))
    epochs = max(1, round(0.5 * 3 * EPOCH_IMAGES / (1 - 0.5 * 3 / 64) / weight / EPOCH_IMAGES))
    images = len(one.data.members["train"]) // 32 * 32 * epochs  # an epoch has all images where there are fewer than EPOCH_IMAGES
    assert document["donor_images"] == pytest.approx(images * weight)
    assert any("begin with slices of a network" in note and f"{images:,} images" in note for note in result.notes)
    network = load_weights(lower(donor), donor_file(one.run))
    arch = SPACE.decode(tuple(int(i) for i in session.pool.genotypes[0]), 3)
    session.trainings.state_file(arch.id).unlink(missing_ok=True)
    begun = session.trainings.trainer(arch)._raw.state_dict()
    expected = slice_weights(lower(donor), network.state_dict(), lower(arch), seed=one.settings.seed).network.state_dict()
    assert begun.keys() == expected.keys() and all(torch.equal(begun[key], value) for key, value in expected.items())
    assert not list(one.run.state_dir().glob(f"{donor.id}*")), "its state is not kept"


def _macs(arch: object) -> float:
    from tinynas.cost import estimate

    return float(estimate(lower(arch)).macs)  # type: ignore[arg-type]


def test_without_slices_nothing_is_cut(prepared: Prepared) -> None:
    one = prepared(trials=2)
    one.go()
    plan = one.run.read_json("plan")
    assert (plan["donor"], plan["donor_images"]) == ([], 0.0)
    assert session_of(one).trainings.donor is None and not donor_file(one.run).exists()
    # Plans of older versions say nothing of it.
    older = {key: value for key, value in plan.items() if not key.startswith("donor")}
    assert RunPlan.from_json(older).donor == ()


def test_equal_searches_from_slices_write_equal_bytes(prepared: Prepared) -> None:
    one, other = (prepared(name=name, trials=3, slices=0.3, seed=4) for name in ("one", "other"))
    one.go()
    other.go()
    assert one.run.trials_file.read_bytes() == other.run.trials_file.read_bytes()


class KilledError(BaseException):
    pass


def test_a_donor_that_is_killed_goes_on(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    through = prepared(trials=4, slices=0.8)
    through.go()
    one = prepared(name="killed", trials=4, slices=0.8)
    from tinynas.train import Trainer

    save, calls = Trainer.save, 0

    def dies(trainer: Trainer, path: Path) -> None:
        nonlocal calls
        save(trainer, path)
        calls += 1
        if calls == 2:
            raise KilledError

    monkeypatch.setattr(Trainer, "save", dies)
    with pytest.raises(KilledError):
        one.go()
    monkeypatch.setattr(Trainer, "save", save)
    assert one.run.read_json("plan") is None and one.run.read_json("donor") is not None
    epochs: list[int] = []
    run = Trainer.run

    def counts(trainer: Trainer, *arguments: object, **named: object) -> int:
        epochs.append(trainer.epoch)
        return run(trainer, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run", counts)
    assert prepare_search(None, out=one.run.path, resume=True).go().counts.trained == 4
    assert epochs[0] == 2, "two epochs were kept"
    assert one.run.trials_file.read_bytes() == through.run.trials_file.read_bytes()


def test_a_donor_that_is_lost_or_of_another_space_is_said(prepared: Prepared) -> None:
    one = prepared(trials=2, slices=0.3)
    one.go()
    path = donor_file(one.run)
    content = path.read_bytes()
    path.write_bytes(content[:100])
    with pytest.raises(RunError, match=r"donor\.weights\.safetensors"):
        worker(one.run.path)
    path.unlink()
    with pytest.raises(RunError, match=r"donor\.weights\.safetensors.*missing"):
        worker(one.run.path)
    path.write_bytes(content)
    document = one.run.read_json("plan")
    one.run.write_json("plan", {**document, "donor": [*document["donor"][:-1], 99]})
    with pytest.raises(RunError, match="a donor that is not of its space"):
        worker(one.run.path)
    (one.run.path / "plan.json").unlink()
    one.run.write_json("donor", {"genotype": [99]})
    with pytest.raises(RunError, match=r"donor\.json"):
        session_of(one)


def test_where_the_time_ends_the_search_it_ends_the_donor(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float | None]] = []

    def trains(trainings: Trainings, arch: object, path: Path, *, until_epoch: int, deadline: float | None) -> object:
        asked.append((until_epoch, deadline))
        return train_donor(trainings, arch, path, until_epoch=1, deadline=None)  # type: ignore[arg-type]

    monkeypatch.setattr(prepare_module, "train_donor", trains)
    one = prepared(timeout=50.0, slices=0.25)
    clock = prepare_module.Clock(1000.0, 50.0, 1048.0)
    prepare_module.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda *_: None, clock)
    assert asked == [(prepare_module.MAX_DONOR_EPOCHS, 1012.5)]
    assert one.run.read_json("plan")["donor"]


def test_a_donor_without_an_epoch_gives_nothing(prepared: Prepared) -> None:
    one = prepared(timeout=50.0, slices=0.25)
    long_ago = prepare_module.Clock(0.0, 50.0, 48.0)
    said: list[str] = []
    prepare_module.prepare(one.run, one.space, one.budget, one.data, one.settings, lambda _, text: said.append(text), long_ago)
    assert one.run.read_json("plan")["donor"] == [] and not donor_file(one.run).exists()
    assert any("begin as drawn" in text for text in said)


def test_a_search_ends_with_its_images(prepared: Prepared) -> None:
    one = prepared(images=2500)
    result = one.go()
    assert result.reason == "the images are used"
    session = session_of(one)
    mean = float(session.pool.costs["macs"].mean())
    speed = Speed()
    used = sum(trial.images * speed.of(float(trial.costs["macs"] or 0)) / speed.of(mean) for trial in one.run.trials() if trial.was_trained)
    assert session.share_of_images(one.run.trials()) == pytest.approx(used / 2500)
    # No training begins behind the limit; the last one goes over it by what it is, at most.
    assert 2500 <= used < 2500 + 2 * 160 * 3
    again = prepared(name="again", images=2500)
    again.go()
    assert again.run.trials_file.read_bytes() == one.run.trials_file.read_bytes()


def test_the_donor_takes_its_share_of_the_images(prepared: Prepared) -> None:
    plain, sliced = prepared(images=4000), prepared(name="sliced", images=4000, slices=0.5)
    counts = [one.go().counts.trained for one in (plain, sliced)]
    assert 1 <= counts[1] < counts[0]
    session = session_of(sliced)
    assert session.share_of_images([]) == pytest.approx(session.donor_images / 4000)
    assert 0.3 < session.share_of_images([]) < 0.7


def test_half_of_a_search_of_images_explores(prepared: Prepared) -> None:
    """Progress by images is what ends the start of networks, as time does."""
    one = prepared(images=4000, explore=0.3)
    other = prepared(name="other", images=4000, explore=1.0)
    one.go()
    other.go()
    first, second = (len({t.id for t in each.run.trials() if t.was_trained}) for each in (one, other))
    assert first < second


def test_settings_have_their_ranges() -> None:
    assert SearchSettings().slices == 0.0 and SearchSettings().images is None
    for wrong in ({"slices": 1.0}, {"slices": -0.1}, {"images": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SearchSettings.model_validate(wrong)
    assert Recipe.proxy().schedule == "constant"
    assert RECIPE["batch_size"] == 32
