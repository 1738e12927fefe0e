"""Space: exact size, decoding, canonical genotypes, sampling, refusals."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tinynas.api import load_space
from tinynas.arch import MBConv
from tinynas.config import shipped
from tinynas.errors import ConfigError
from tinynas.graph import lower
from tinynas.space import Space, make_divisible


def tiny(**changes: object) -> Space:
    content = {
        "resolution": [16, 24],
        "stem": {"out": 4},
        "stages": [{"out": [4, 8], "depth": [1, 2], "kernel": [3, 5], "expand": [1, 2], "stride": [1, 2]}],
        "divisor": 4,
    }
    return Space.model_validate({**content, **changes})


def test_size_is_the_number_of_canonical_genotypes() -> None:
    space = tiny()
    every = {space.canonical(genotype) for genotype in itertools.product(*(range(len(gene.choices)) for gene in space.genes))}
    assert len(every) == space.size
    # Different canonical genotypes are different networks here.
    assert len({space.decode(genotype, 2).id for genotype in every}) == space.size


@pytest.mark.parametrize("name", sorted(shipped("search_spaces")))
def test_shipped_spaces_give_networks_that_can_be_built(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert str(len(space.stages)) in space.describe()
    generator = random.Random(0)
    for _ in range(50):
        genotype = space.draw(lambda _, n: generator.randrange(n))
        assert genotype == space.canonical(genotype)
        arch = space.decode(genotype, 7)
        graph = lower(arch)
        assert graph.classes == 7
        assert min(min(graph.shape(op.output)) for op in graph.ops) >= 1


def test_extreme_networks_of_shipped_spaces() -> None:
    for name in shipped("search_spaces"):
        space = load_space(name)
        smallest, largest = (lower(space.sample(pick, 2)) for pick in (lambda _, n: 0, lambda _, n: n - 1))
        assert len(largest.ops) > len(smallest.ops)


def test_sampling_asks_for_active_genes_only() -> None:
    space = tiny()
    asked: list[str] = []

    def choose(name: str, n: int) -> int:
        asked.append(name)
        return 0

    space.draw(choose)
    assert "s0.b0.kernel" in asked
    assert "s0.b1.kernel" not in asked
    assert len(asked) == sum(space.active([0] * len(space.genes)))


def test_decoding() -> None:
    space = tiny(width_mult=[0.5, 2.0], color=["rgb", "gray"], head={"out": [0, 16]})
    at = space.gene_index
    genotype = [0] * len(space.genes)
    for gene, index in {"resolution": 1, "color": 1, "width_mult": 1, "s0.out": 1, "s0.depth": 1, "s0.b1.kernel": 1, "head.out": 1}.items():
        genotype[at[gene]] = index
    arch = space.decode(genotype, 3)
    assert (arch.height, arch.width, arch.channels, arch.classes) == (24, 24, 1, 3)
    assert arch.stem is not None
    assert arch.stem.out == 8
    assert [(b.out, b.kernel, b.residual) for b in arch.blocks if isinstance(b, MBConv)] == [(16, 3, False), (16, 5, True)]
    assert arch.head is not None
    assert arch.head.out == 32


def test_residual_where_shape_is_kept() -> None:
    space = tiny()
    arch = space.decode([0] * len(space.genes), 2)
    assert isinstance(arch.blocks[0], MBConv)
    assert arch.blocks[0].residual  # 4 channels in and out, stride 1


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [(32 * 0.35, 8, 16), (16 * 0.35, 8, 8), (24 * 0.25, 8, 8), (1, 8, 8), (100, 1, 100), (11.9, 4, 12), (18, 8, 24)],
)
def test_make_divisible(channels: float, divisor: int, expected: int) -> None:
    assert make_divisible(channels, divisor) == expected
    assert expected >= 0.9 * channels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": []}, "at least one"),
        ({"resolution": [16, 16]}, "twice"),
        ({"resolution": [4]}, "must be an integer from 8 to 1024, or [height, width]"),
        ({"stages": []}, "at least 1"),
        ({"stages": [{"out": 8, "kernel": 4}]}, "must be 1, 3, 5, 7 or 9, or [height, width]"),
        ({"stages": [{"out": 8000, "expand": 16}]}, "channels"),
        ({"stages": [{"out": 8, "depth": 0}]}, "greater than or equal to 1"),
        ({"width_mult": [0]}, "greater than 0"),
        ({"widths": [1]}, 'did you mean "width_mult"'),
        ({"act": "swish"}, "must be one of"),
    ],
)
def test_faults_are_explained(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    import yaml

    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"resolution": [16], "stages": [{"out": 8}], **changes}))
    with pytest.raises(ConfigError) as caught:
        load_space(str(path))
    assert message in str(caught.value)
