"""Space: exact size, decoding, canonical genotypes, sampling, refusals."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from tinynas.api import load_space
from tinynas.arch import MBConv, Separable
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


BITS: dict[str, object] = {
    "weight_bits": [8, 4],
    "classifier_bits": [8, 4],
    "stem": {"out": 4, "weight_bits": [4, 8]},
    "stages": [{"out": [4, 8], "depth": [1, 2], "depthwise_bits": [8, 4, 2]}, {"out": 8, "weight_bits": 4}],
    "head": {"out": [0, 16]},
}
BIT_GENES = ["stem.weight_bits", "s0.weight_bits", "s0.depthwise_bits", "s1.weight_bits", "head.weight_bits", "classifier_bits"]


def test_bits_are_genes_behind_all_others_where_something_else_than_8_is_offered() -> None:
    plain, space = tiny(head={"out": [0, 16]}), tiny(**BITS)
    assert not [gene for gene in plain.genes if "bits" in gene.name]
    assert [gene.name for gene in space.genes][-len(BIT_GENES) :] == BIT_GENES
    assert [gene.choices for gene in space.genes][-len(BIT_GENES) :] == [(4, 8), (8, 4), (8, 4, 2), (4,), (8, 4), (8, 4)]
    # A genotype of the space without bits names the same network, where every gene of bits chooses 8.
    switched = tiny(head={"out": [0, 16]}, weight_bits=[8, 4])
    for genotype in itertools.product(*(range(len(gene.choices)) for gene in plain.genes)):
        assert switched.decode((*genotype, 0, 0, 0), 3) == plain.decode(genotype, 3)
        assert "bits" not in plain.decode(genotype, 3).to_yaml()


def test_size_with_bits_is_the_number_of_canonical_genotypes() -> None:
    space = tiny(**BITS)
    every = {space.canonical(genotype) for genotype in itertools.product(*(range(len(gene.choices)) for gene in space.genes))}
    assert len(every) == space.size
    drawn = random.Random(0).sample(sorted(every), 400)
    assert len({space.decode(genotype, 2).id for genotype in drawn}) == len(drawn)


def test_bits_of_a_head_that_is_not_there_do_not_act() -> None:
    space = tiny(**BITS)
    at = space.gene_index
    genotype = [0] * len(space.genes)
    genotype[at["head.weight_bits"]] = 1
    assert not space.active(genotype)[at["head.weight_bits"]] and space.canonical(genotype) == (0,) * len(genotype)
    genotype[at["head.out"]] = 1
    assert space.active(genotype)[at["head.weight_bits"]] and space.canonical(genotype) == tuple(genotype)
    asked: list[str] = []
    for head in (0, 1):
        space.draw(lambda name, _, head=head: asked.append(name) or (head if name == "head.out" else 0))
    assert asked.count("head.weight_bits") == 1 and asked.count("classifier_bits") == 2


def test_decoding_bits() -> None:
    space = tiny(**BITS)
    genotype = [0] * len(space.genes)
    for name, index in {"s0.depth": 1, "s0.weight_bits": 1, "s0.depthwise_bits": 2, "head.out": 1, "head.weight_bits": 1}.items():
        genotype[space.gene_index[name]] = index
    arch = space.decode(genotype, 3)
    assert arch.stem is not None and arch.head is not None
    assert (arch.stem.weight_bits, arch.head.weight_bits, arch.classifier_bits) == (4, 4, 8)
    assert [(b.weight_bits, b.depthwise_bits) for b in arch.blocks if isinstance(b, MBConv)] == [(4, 2), (4, 2), (4, 8)]


KINDS: dict[str, object] = {
    "stages": [
        {"kind": ["mbconv", "separable"], "out": 8, "depth": [1, 2], "kernel": [3, [5, 3]], "expand": [1, 2], "attention": ["none", "se"]},
        {"kind": "separable", "out": [4, 12], "depth": [1, 2], "kernel": [3, 5], "act": ["relu6", "relu"]},
    ]
}


def test_size_with_kinds_is_the_number_of_networks() -> None:
    space = tiny(resolution=[16], **KINDS)
    every = {space.canonical(genotype) for genotype in itertools.product(*(range(len(gene.choices)) for gene in space.genes))}
    # (2 gates x (4 + 16) + 2 + 4) in the first stage; 2 widths x 2 activations x (2 + 4) in the second.
    assert len(every) == space.size == 46 * 24
    assert len({space.decode(genotype, 2).id for genotype in every}) == space.size
    generator = random.Random(0)
    assert {space.draw(lambda _, n: generator.randrange(n)) for _ in range(20)} <= every


def test_decoding_kinds() -> None:
    space = tiny(resolution=[16], **KINDS)
    genotype = [0] * len(space.genes)
    for name, index in {"s0.kind": 1, "s0.depth": 1, "s0.b1.kernel": 1, "s1.act": 1}.items():
        genotype[space.gene_index[name]] = index
    blocks = space.decode(genotype, 3).blocks
    assert blocks == (Separable(out=8), Separable(out=8, kernel=(5, 3)), Separable(out=4, act="relu"))
    assert "s1.kind" not in space.gene_index and space.offered("s1.kind") == ("separable",)
    genotype[space.gene_index["s0.kind"]] = 0
    assert [block.kind for block in space.decode(genotype, 3).blocks] == ["mbconv", "mbconv", "separable"]
    assert Space.model_validate(space.model_dump(mode="json")) == space and Space.model_validate(space.to_json()) == space


def test_one_switch_for_spaces_that_exist() -> None:
    for name in shipped("search_spaces"):
        space = load_space(name, ["weight_bits=[8,4]"])
        bits = [gene.name for gene in space.genes if "bits" in gene.name]
        assert bits == [*(f"s{s}.weight_bits" for s in range(len(space.stages))), "head.weight_bits", "classifier_bits"]
        assert space.size > load_space(name).size * 2 ** (len(space.stages) + 1)


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
        ({"stages": [{"out": 8, "kernel": [[1, 15]]}]}, "must be 1, 3, 5, 7 or 9, or [height, width] of such (height up to 15)"),
        ({"stages": [{"out": 8, "kernel": [[17, 1]]}]}, "(height up to 15)"),
        ({"stages": [{"out": 8, "kernel": 15}]}, "must be 1, 3, 5, 7 or 9"),
        ({"stages": [{"out": 8, "kernel": 4}]}, "must be 1, 3, 5, 7 or 9, or [height, width]"),
        ({"stages": [{"out": 8000, "expand": 16}]}, "channels"),
        ({"stages": [{"out": 8, "kind": "dense"}]}, "must be one of"),
        ({"stages": [{"out": 8, "kind": "separable", "expand": [1, 2]}]}, "expand: of kind mbconv, which is not offered"),
        ({"stages": [{"out": 8, "kind": "separable", "attention": "se"}]}, "attention: of kind mbconv, which is not offered"),
        ({"stages": [{"out": 8, "depth": 0}]}, "greater than or equal to 1"),
        ({"width_mult": [0]}, "greater than 0"),
        ({"widths": [1]}, 'did you mean "width_mult"'),
        ({"act": "swish"}, "must be one of"),
        ({"weight_bits": [8, 3]}, "must be one of 8, 4 or 2"),
        ({"weight_bits": []}, "at least one"),
        ({"classifier_bits": [4, 4]}, "twice"),
    ],
)
def test_faults_are_explained(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    import yaml

    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"resolution": [16], "stages": [{"out": 8}], **changes}))
    with pytest.raises(ConfigError) as caught:
        load_space(str(path))
    assert message in str(caught.value)
