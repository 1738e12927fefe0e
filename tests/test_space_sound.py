"""Spaces of sounds: a front end instead of a resolution, in the space, its costs, what fits, and a search."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from search_runs import budget, small_search
from test_cost_batch import ON, batch_and_single

from tinynas.api import load_net, load_space, prepare_search
from tinynas.config import n_bytes
from tinynas.cost import estimate
from tinynas.data import DataOptions, DataSet, Record, Signal
from tinynas.data.assemble import Source, assemble
from tinynas.data.sources import DATASETS, Dataset
from tinynas.errors import DataError, UserError
from tinynas.graph import lower
from tinynas.inputs import Input
from tinynas.report import write_report
from tinynas.report.words import amount, subspace_input, summary
from tinynas.runs import Run
from tinynas.search.counting import Counter, count_feasible
from tinynas.search.feasible import Feasible, as_genotype
from tinynas.search.spaces import choose_space, rank_spaces
from tinynas.space import Space, input_text

FRONT_END: Mapping[str, Any] = {"bins": [10, 20], "stride_ms": [20, 40], "window_ms": 40, "clip_ms": 400}


def sounds(front_end: Mapping[str, Any] | None = FRONT_END, **changes: Any) -> Space:
    content = {
        "name": "heard",
        "front_end": front_end,
        "width_mult": [0.5, 1.0],
        "divisor": 4,
        "stem": {"out": [4, 8], "kernel": [[5, 3]], "stride": [2, [1, 2]]},
        "stages": [{"out": [8, 12], "depth": [1, 2], "kernel": [3, [5, 3]], "expand": [1, 2], "stride": [2, 1]}],
        "head": {"out": [0, 16]},
    }
    return Space.model_validate({**content, **changes})


#: With both kinds, of which one alone has coefficients.
KINDS = {**FRONT_END, "kind": ["mel", "mfcc"], "coefficients": [5, 10], "noise_reduction": [True, False]}
SERIES = {**FRONT_END, "layout": "series"}
ALONG = {
    "stem": {"out": 8, "kernel": [[5, 1]], "stride": [[2, 1]]},
    "stages": [{"out": [8, 12], "depth": [1, 2], "kernel": [[3, 1], [5, 1]], "expand": [1, 2], "stride": [[2, 1], 1]}],
}


def every(space: Space) -> set[tuple[int, ...]]:
    return {space.canonical(genotype) for genotype in itertools.product(*(range(len(gene.choices)) for gene in space.genes))}


def test_a_front_end_stands_where_resolution_and_color_do() -> None:
    space = sounds(KINDS)
    names = ["kind", "clip_ms", "window_ms", "stride_ms", "bins", "coefficients", "noise_reduction", "pcan"]
    assert [gene.name for gene in space.genes[:9]] == [*(f"front_end.{name}" for name in names), "width_mult"]
    image = Space.model_validate({"resolution": 16, "stages": [{"out": 8}]})
    assert [gene.name for gene in image.genes[:3]] == ["resolution", "color", "width_mult"]
    assert Space.model_validate(space.model_dump(mode="json")) == space and Space.model_validate(image.model_dump(mode="json")) == image
    assert Space.model_validate(sounds().to_json()) == sounds() and Space.model_validate(image.to_json()) == image
    assert "front_end" not in image.to_json() and not {"resolution", "color"} & set(space.to_json())


@pytest.mark.parametrize("front_end", [FRONT_END, KINDS, {**KINDS, "kind": "mfcc"}])
def test_size_is_the_number_of_canonical_genotypes_and_of_networks(front_end: Mapping[str, Any]) -> None:
    space = sounds(front_end, stages=[{"out": 8, "depth": [1, 2], "kernel": [3, 5]}], stem={"out": 8}, head={"out": 0})
    found = every(space)
    assert len(found) == space.size == len({space.decode(genotype, 2).id for genotype in found})


def test_decoding_a_front_end() -> None:
    space = sounds(KINDS)
    genotype = [0] * len(space.genes)
    for name, index in {"front_end.stride_ms": 1, "front_end.bins": 1, "front_end.coefficients": 1, "front_end.noise_reduction": 1}.items():
        genotype[space.gene_index[name]] = index
    arch = space.decode(genotype, 3)
    assert arch.front_end is not None and not arch.front_end.noise_reduction and arch.front_end.pcan
    assert (arch.height, arch.width, arch.channels) == (10, 20, 1)  # 1 + (400 - 40) // 40
    assert arch.id == space.decode(space.canonical(genotype), 3).id  # mel has no coefficients
    genotype[space.gene_index["front_end.kind"]] = 1
    assert space.decode(genotype, 3).input.shape == (10, 10, 1) and space.canonical(genotype) == tuple(genotype)
    series = sounds(SERIES, **ALONG)
    assert series.decode([0] * len(series.genes), 3).input.shape == (19, 1, 10)


@pytest.mark.parametrize("name", ["both", "series"])
@pytest.mark.parametrize(("runtime", "core"), ON)
def test_batch_and_single_estimates_are_the_same(name: str, runtime: str, core: str) -> None:
    space = sounds(KINDS) if name == "both" else sounds(SERIES, **ALONG)
    generator = random.Random(f"{name} {runtime}")
    genotypes = [space.draw(lambda _, n: generator.randrange(n)) for _ in range(25)]
    found, expected = batch_and_single(space, generator.choice([2, 12, 35]), runtime, core, genotypes)
    assert found == expected


def test_counting_draws_what_fits_of_a_space_with_kinds() -> None:
    space = sounds(KINDS, stages=[{"out": 8, "kernel": [3, 5], "expand": [1, 2]}], width_mult=[1.0], stem={"out": 8})
    rows = np.array(sorted(every(space)))
    sram = np.quantile(Feasible(space, 2, budget()).costs(rows)["sram_bytes"], 0.2)
    feasible = Feasible(space, 2, budget(sram=n_bytes(int(sram))))
    fitting = {as_genotype(row) for row in rows[feasible.fits(feasible.costs(rows))]}
    assert 0 < len(fitting) < len(rows)
    pool = count_feasible(feasible, np.random.default_rng(0), 10 * len(fitting))
    assert pool is not None and {as_genotype(row) for row in pool.genotypes} == fitting
    assert pool.share == pytest.approx(len(fitting) / len(rows), rel=0.25)


def test_counting_knows_what_separable_blocks_have() -> None:
    stages = [
        {"kind": ["mbconv", "separable"], "out": 8, "depth": [1, 2], "kernel": 3, "expand": [1, 2], "attention": ["none", "se"]},
        {"kind": "separable", "out": [8, 12], "kernel": [3, [5, 3]]},
    ]
    space = sounds(stages=stages, width_mult=[1.0], stem={"out": 8}, head={"out": 0})
    assert sum(entry[0] for entry in Counter(Feasible(space, 2, budget())).starts()) == space.size == len(every(space))
    rows = np.array(sorted(every(space)))
    sram = np.quantile(Feasible(space, 2, budget()).costs(rows)["sram_bytes"], 0.2)
    feasible = Feasible(space, 2, budget(sram=n_bytes(int(sram))))
    fitting = {as_genotype(row) for row in rows[feasible.fits(feasible.costs(rows))]}
    pool = count_feasible(feasible, np.random.default_rng(0), 10 * len(fitting))
    assert pool is not None and {as_genotype(row) for row in pool.genotypes} == fitting


def test_sub_spaces_are_sizes_of_input_and_widths() -> None:
    space = sounds({**KINDS, "window_ms": [40, 45], "clip_ms": 410})
    texts = [size.text for size in space.sizes]
    assert len(set(texts)) == len(texts) == 2 * 2 * 2 * 3  # windows, strides, bins, and mel or one of two coefficients
    assert "19 frames of 20, window_ms 40" in texts and "19 frames of 10, kind mfcc, window_ms 40, bins 20, coefficients 10" in texts
    table = rank_spaces(sounds(), budget(sram=n_bytes(6000)), draws=40)
    assert len(table.rows) == 4 * 2 and "(input, width) sub-spaces of heard" in table.explain()
    assert "19 frames of 10, x0.5" in table.explain() or "10 frames of 10, x0.5" in table.explain()
    row = next(row for row in table.to_json() if row["front_end"]["bins"] == 20 and row["front_end"]["stride_ms"] == 40)
    assert row["resolution"] == [10, 20] and subspace_input(row) == "10 frames of 20"
    feasible = Feasible(sounds(), 2, budget(), subspaces=[table.rows[0].genes])
    drawn = feasible.draw(50, np.random.default_rng(0))
    assert {tuple(int(i) for i in genes) for genes in drawn[:, feasible.choice]} == {table.rows[0].genes}
    # An image's own size says nothing of sounds.
    assert choose_space([sounds()], budget(), native_size=(8, 8))[0] == sounds()


def test_what_people_read_of_a_network_that_hears() -> None:
    arch = sounds().decode([0] * len(sounds().genes), 2)
    assert summary(arch)[0] == "input 19 frames of 10 mel features" and input_text(arch.input) == "19 frames of 10"
    assert "10 frames of 10 to 19 frames of 20, 1 stage" in sounds().describe()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"front_end": {"stride_ms": [20, 40], "window_ms": [30, 40]}},
            r"with window_ms 30, stride_ms 40: a stride of 40 ms leaves gaps between windows of 30 ms",
        ),
        (
            {"front_end": {"kind": ["mel", "mfcc"], "coefficients": [10, 13], "bins": [12, 40]}},
            r"with kind mfcc, bins 12, coefficients 13: 13 coefficients of 12 bins",
        ),
        ({"front_end": {"coefficients": 12}}, "coefficients are of kind mfcc"),
        ({"front_end": {"bins": [40, 40]}}, "twice"),
        ({"front_end": {"bins": 3}}, "greater than or equal to 4"),
        (
            {"front_end": {"bins": list(range(4, 40)), "stride_ms": list(range(5, 20)), "clip_ms": list(range(100, 110))}},
            "5,400 front ends",
        ),
        ({"resolution": 16}, "are of images"),
        ({"color": "gray"}, "are of images"),
        ({"front_end": None}, "says nothing of its inputs"),
    ],
)
def test_what_no_space_of_sounds_can_be_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        sounds(**changes)


def test_the_space_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "sound.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "\nstages:" in block]
    spaces = []
    for block in blocks:
        (tmp_path / "claps.yaml").write_text(block)
        spaces.append(load_space(str(tmp_path / "claps.yaml")))
        for pick in (lambda _, n: 0, lambda _, n: n - 1):
            assert estimate(lower(spaces[-1].sample(pick, 2))).macs > 0
    assert [len(space.sizes) for space in spaces] == [3 * 3 * 3, 1]  # strides, bins, and mel or one of two coefficients
    assert {kind for stage in spaces[1].stages for kind in stage.kind} == {"mbconv", "separable"}
    for name in ("ds-cnn-kws", "sparknet-c16", "bc-resnet-1"):
        cost = estimate(lower(load_net(name)))
        (row,) = re.findall(rf"^\| `{name}` .*$", page, re.MULTILINE)
        assert row.endswith(f"| {amount('macs', cost.macs)} | {amount('params', cost.params)} |")


# a search -------------------------------------------------------------------------------------------------


def heard(tone: int, network: Input) -> np.ndarray:
    """A made-up front end: energy in the lower or the upper half of the features, which is all there is to tell."""
    if network.front_end is None:
        raise DataError("no front end", "give one")
    draw = np.random.default_rng((tone, *network.shape))
    frames, width, channels = network.shape
    features = draw.integers(0, 160, (frames, width * channels), dtype=np.uint8)
    half = width * channels // 2
    features[:, half * (tone % 2) : half * (tone % 2 + 1)] += 90
    return features.reshape(network.shape)


def open_tones(options: DataOptions, *, seed: int, cache: Path | None, on_progress: Any) -> DataSet:
    tone = Signal(kind="feature", version=1, how="tones", channels=(), decode=lambda data: int.from_bytes(data), fit=heard)
    records = [Record(f"{i}", "high" if i % 2 else "low", None, f"{i}", (1, 400)) for i in range(150)]
    source = Source("tones", tone, records, lambda i: i.to_bytes(2))
    return assemble(source, options, seed=seed, cache=cache, on_progress=on_progress)


@pytest.mark.parametrize("front_end", [FRONT_END, SERIES], ids=["map", "series"])
def test_a_search_from_sounds_to_a_page(front_end: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(DATASETS, "tones", Dataset("low and high tones", open_tones))
    space = sounds(front_end, **(ALONG if front_end is SERIES else {}))
    result = small_search("tones", tmp_path / "run", space=space, trials=7, epoch_images=64, slices=0.2).go()
    run = Run.open(result.run)
    trained = [trial for trial in run.trials() if trial.was_trained]
    assert len(trained) == 7 and max(trial.accuracy or 0 for trial in trained) > 0.8
    arch = run.arch(trained[0].id)
    assert arch.front_end is not None and arch == space.decode(trained[0].genotype, 2).model_copy(update={"name": None})
    page = Path(write_report(run)).read_text(encoding="utf-8")
    assert input_text(arch.input).split(" of ")[0] + " of" in page and "(resolution, width)" not in page


def test_given_features_are_searched_without_a_front_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "set"
    place.mkdir()
    for i in range(60):
        values = np.random.default_rng(i).integers(-20, 20, (20, 8))
        values[10 * (i % 2) : 10 * (i % 2) + 10] += 60
        (place / f"clip_{i}.bin").write_bytes(values.astype(np.int8).tobytes())
    (place / "y_labels.csv").write_text("\n".join(f"clip_{i}.bin,2,{i % 2}" for i in range(60)))

    def prepared(**more: Any) -> Any:
        few = ["data.features=20x8", "epoch_images=256", "rungs=[1]", "pool=60", "baseline=1", "start=1"]
        return prepare_search(budget(), data=str(place), overrides=few, trials=2, workers=1, out=tmp_path / "run", **more)

    with pytest.raises(UserError, match=r"reads 16x16x1, and .*set holds 20x8 features"):
        prepared(space=load_space("tiny", ["resolution=16", "color=gray"]))
    assert not (tmp_path / "run").exists(), "said before there is a run"
    result = prepared().go()
    run = Run.open(result.run)
    trained = [trial for trial in run.trials() if trial.was_trained]
    assert run.arch(trained[0].id).input.shape == (20, 1, 8) and run.arch(trained[0].id).input.kind == "features"
    assert max(trial.accuracy or 0 for trial in trained) > 0.8, "some forty training clips are passed over six times an epoch"


def test_spaces_and_data_must_be_of_one_kind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"hears sounds through a front end, and .* holds images"):
        small_search("synthetic", tmp_path / "run", space=sounds(), trials=2)
