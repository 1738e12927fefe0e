"""Random architectures over everything the graph can express, for the tests of the int8 pieces."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tinynas.arch import Arch, ConvLayer, MBConv, Pool, Separable, WeightBits, pair
from tinynas.errors import ArchError
from tinynas.graph import Graph, lower


def random_arch(seed: int, *, small: bool = True) -> Arch:
    """A buildable architecture; ``small`` keeps it below a few million MACs."""
    draw = random.Random(seed)
    while True:
        arch = _draw(draw, small)
        try:
            lower(arch)
        except ArchError:
            continue
        return arch


def random_graph(seed: int, *, small: bool = True) -> Graph:
    return lower(random_arch(seed, small=small))


def with_bits(arch: Arch, seed: int, choices: Sequence[WeightBits] = (8, 4)) -> Arch:
    """``arch`` with weights of random bits, operator by operator."""
    draw = random.Random(seed)

    def drawn(*fields: str) -> dict[str, WeightBits]:
        return {field: draw.choice(choices) for field in fields}

    def layer(conv: ConvLayer | None) -> ConvLayer | None:
        return None if conv is None else conv.model_copy(update=drawn("weight_bits"))

    blocks = []
    for block in arch.blocks:
        fields = {MBConv: ("weight_bits", "depthwise_bits"), Separable: ("weight_bits", "depthwise_bits"), ConvLayer: ("weight_bits",)}
        blocks.append(block.model_copy(update=drawn(*fields.get(type(block), ()))))
    update = {"stem": layer(arch.stem), "blocks": tuple(blocks), "head": layer(arch.head), **drawn("classifier_bits")}
    return Arch.model_validate(arch.model_copy(update=update).model_dump())


def with_dilation(arch: Arch, seed: int, *, along: Sequence[int] = (0, 1)) -> Arch:
    """``arch`` with kernels of stride 1 whose taps are 1 to 4 pixels apart, along the axes ``along`` (0: the height)."""
    draw = random.Random(seed)

    def apart(layer: Any) -> Any:
        if layer is None or isinstance(layer, Pool) or pair(layer.stride) != (1, 1):
            return layer
        return layer.model_copy(update={"dilation": tuple(draw.choice([1, 2, 3, 4]) if axis in along else 1 for axis in (0, 1))})

    update = {"stem": apart(arch.stem), "blocks": tuple(map(apart, arch.blocks))}
    return Arch.model_validate(arch.model_copy(update=update).model_dump())


def with_attention(arch: Arch, seed: int) -> Arch:
    """``arch`` with random attention and h-swish in its inverted residuals, where they can have them."""
    draw = random.Random(seed)
    for index, block in enumerate(arch.blocks):
        if isinstance(block, MBConv):
            act = draw.choice([block.act, "h_swish"])
            changed = block.model_copy(update={"attention": draw.choice(["none", "se", "spatial"]), "act": act})
            try:
                tried = Arch.model_validate({**arch.model_dump(), "blocks": (*arch.blocks[:index], changed, *arch.blocks[index + 1 :])})
                lower(tried)
            except (ArchError, ValueError):
                continue
            arch = tried
    return arch


def _draw(draw: random.Random, small: bool) -> Arch:
    side = (8, 48) if small else (16, 128)
    act = draw.choice(["relu6", "relu6", "relu", "none"])
    height = draw.randint(*side)
    width = height if draw.random() < 0.7 else draw.randint(*side)
    channels = draw.choice([3, 3, 1])

    def width_of() -> int:
        return draw.choice([1, 3, 8, 12, 16, 20, 24, 32, 33])

    stem = None
    carried = channels
    if draw.random() < 0.85:
        stem = ConvLayer(out=width_of(), kernel=draw.choice([1, 3, 5]), stride=draw.choice([1, 2, 2]), act=act)
        carried = stem.out
    blocks = []
    for _ in range(draw.randint(0 if stem else 1, 6)):
        kind = draw.choice(["mbconv", "mbconv", "mbconv", "separable", "conv", "pool"])
        stride = draw.choice([1, 1, 2, 3])
        kernel = draw.choice([1, 2, 3, 3, 5, 7])
        if kind == "mbconv":
            residual = stride == 1 and draw.random() < 0.6
            out = carried if residual else width_of()
            expand = draw.choice([1, 1.5, 3, 4])
            mid = draw.choice([None, None, carried, 17])
            blocks.append(MBConv(out=out, kernel=kernel, stride=stride, expand=expand, mid=mid, residual=residual, act=act))
        elif kind == "separable":
            out = width_of()
            blocks.append(Separable(out=out, kernel=kernel, stride=stride, act=act))
        elif kind == "conv":
            out = width_of()
            blocks.append(ConvLayer(out=out, kernel=draw.choice([1, 3]), stride=stride, act=act))
        else:
            out = carried
            blocks.append(Pool(op=draw.choice(["max", "avg"]), kernel=draw.choice([2, 3]), stride=draw.choice([1, 2])))
        carried = out
    head = ConvLayer(out=draw.choice([16, 40, 64]), kernel=1, act=act) if draw.random() < 0.4 else None
    classes = draw.choice([1, 2, 2, 3, 10, 20, 100, 257])
    return Arch(height=height, width=width, channels=channels, classes=classes, stem=stem, blocks=tuple(blocks), head=head)
