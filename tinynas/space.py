"""Space: which networks may be chosen; ``Space.sample(choose) -> Arch``. Knows nothing of Optuna.

A space is a flat, ordered list of genes (integer choices). A genotype is a tuple of indices, one a gene.
Genes of blocks beyond a stage's chosen depth do not matter; :meth:`Space.canonical` sets them to 0, so that
equal networks have equal genotypes. :meth:`Space.decode` is pure: genotype -> ``Arch``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Annotated, Any, Literal, Self, assert_never

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from tinynas.arch import (
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_REACH,
    MAX_RESOLUTION,
    Arch,
    Attention,
    Axes,
    ConvLayer,
    LayerActivation,
    MBConv,
    Separable,
    WeightBits,
    axes,
    pair,
    reach,
    told_apart,
)
from tinynas.config import Config
from tinynas.errors import counted
from tinynas.front_end import (
    Bins,
    ClipMs,
    Coefficients,
    FeatureKind,
    FrontEnd,
    HighHz,
    Layout,
    LowHz,
    SampleRate,
    StrideMs,
    WindowMs,
)
from tinynas.inputs import KIND_CHANNELS, Input

Genotype = tuple[int, ...]
StageKind = Literal["mbconv", "separable"]
"""Blocks of a stage: inverted residuals, or depthwise separable convolutions (DS-CNN, MobileNetV1)."""


def _as_choices(value: object) -> object:
    # "kernel: 3" means the same as "kernel: [3]"; duplicates would bias sampling, so they are refused.
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise PydanticCustomError("choices", "must offer at least one value")
    # [3, 3] is the kernel 3.
    if len({str(v[0]) if isinstance(v, (list, tuple)) and len(v) == 2 and v[0] == v[1] else str(v) for v in values}) != len(values):
        raise PydanticCustomError("choices", "offers a value twice")
    return values


_C = BeforeValidator(_as_choices)
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_CHANNELS)], ...], _C]
Kernels = Annotated[tuple[Annotated[Axes, axes(range(1, 10, 2), "1, 3, 5, 7 or 9", heights=range(1, 16, 2))], ...], _C]
Strides = Annotated[tuple[Annotated[Axes, axes(range(1, 3), "1 or 2")], ...], _C]
Dilations = Annotated[tuple[Annotated[Axes, axes(range(1, 33))], ...], _C]
Bits = Annotated[tuple[WeightBits, ...], _C]
_OF_IMAGES = axes(range(8, MAX_RESOLUTION + 1))


def _size(value: object) -> object:
    # [frames, 1] is of a series of given features.
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[1] == 1 and type(value[0]) is int and 2 <= value[0] <= MAX_RESOLUTION:
        return value[0], 1
    return _OF_IMAGES.func(value)  # type: ignore[call-arg]


_FRAMES = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 2, "maximum": MAX_RESOLUTION})]
_ONE = Annotated[int, WithJsonSchema({"type": "integer", "enum": [1]})]
_SIZE = BeforeValidator(_size, json_schema_input_type=_OF_IMAGES.json_schema_input_type | tuple[_FRAMES, _ONE])
Sizes = Annotated[tuple[Annotated[Axes, _SIZE], ...], _C]
#: What a space offers that says nothing of bits: no gene.
EIGHT: tuple[WeightBits, ...] = (8,)


class StemSpace(Config):
    """Choices for the first convolution."""

    out: Widths = (16,)
    """Output channels before the width multiplier."""
    kernel: Kernels = (3,)
    """Kernel sizes in pixels, each a side or [height, width]."""
    stride: Strides = (2,)
    """Strides, each for both directions or [height, width]."""
    weight_bits: Bits = EIGHT
    """Bits of its weights."""


class StageSpace(Config):
    """A run of blocks of one kind at one width; the first block carries the stride."""

    kind: Annotated[tuple[StageKind, ...], _C] = ("mbconv",)
    """Kinds of blocks, one choice for the stage: mbconv (inverted residual), separable (depthwise, then pointwise; no expansion, attention
    or shortcut)."""
    out: Widths
    """Output channels before the width multiplier."""
    depth: Annotated[tuple[Annotated[int, Field(ge=1, le=12)], ...], _C] = (1,)
    """Numbers of blocks."""
    kernel: Kernels = (3, 5, 7)
    """Depthwise kernel sizes, each a side or [height, width], chosen for each block."""
    dilation: Dilations = (1,)
    """Pixels from one tap of a depthwise kernel to the next, each for both directions or [height, width], chosen for each block. A dilated
    kernel has no stride: where a stage offers one its first block is not dilated."""
    expand: Annotated[tuple[Annotated[float, Field(ge=1, le=16)], ...], _C] = (3, 4, 6)
    """Expand ratios, chosen for each block of kind mbconv."""
    stride: Strides = (1,)
    """Strides of the first block, each for both directions or [height, width]."""
    weight_bits: Bits | None = None
    """Bits of the weights of expand and project convolutions, one choice for the stage; none: the space's."""
    depthwise_bits: Bits | None = None
    """Bits of the weights of depthwise convolutions, one choice for the stage; none: the space's."""
    attention: Annotated[tuple[Attention, ...], _C] = ("none",)
    """Gates of the blocks, one choice for the stage: none, se (squeeze-and-excite), spatial (coco_mcu's)."""
    act: Annotated[tuple[LayerActivation, ...], _C] | None = None
    """Activations of the blocks, one choice for the stage; none: the space's."""

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, content: Any) -> Any:
        # Where no block expands there is nothing to choose.
        if isinstance(content, Mapping) and content.get("kind") in ("separable", ["separable"], ("separable",)) and "expand" not in content:
            return {**content, "expand": 1}
        return content

    @model_validator(mode="after")
    def _has_what_it_offers(self) -> Self:
        if "mbconv" not in self.kind:
            given = [name for name, plain in (("expand", (1,)), ("attention", ("none",))) if getattr(self, name) != plain]
            if given:
                raise ValueError(
                    f"{' and '.join(given)}: of kind mbconv, which is not offered: leave it out, or offer kind: [mbconv, separable]"
                )
        return self

    @model_validator(mode="after")
    def _has_what_it_dilates(self) -> Self:
        if self.dilation == (1,):
            return self
        if self.dilations(0) == (1,) and max(self.depth) == 1:
            raise ValueError(
                "dilation: its only block carries the stride, and a dilated kernel has none: offer stride 1 alone, or more depth"
            )
        found = [(kernel, told_apart(kernel, dilation)) for kernel, dilation in product(self.kernel, self.dilation)]
        if len(set(found)) < len(found):
            one = next(each for each in found if found.count(each) > 1)
            raise ValueError(f"dilation: kernel {_listed(one[0])} has no two taps to put apart there: leave it out, or the dilations")
        if (most := max(max(reach(pair(kernel), pair(dilation))) for kernel, dilation in found)) > MAX_REACH:
            raise ValueError(f"dilation: a kernel spans up to {most} pixels; at most {MAX_REACH} are possible")
        return self

    def dilations(self, block: int) -> tuple[Axes, ...]:
        """What block ``block`` of the stage can choose of :attr:`dilation`."""
        strided = block == 0 and any(pair(stride) != (1, 1) for stride in self.stride)
        return (1,) if strided else self.dilation

    def windows(self, block: int) -> list[tuple[Axes, Axes]]:
        """(kernel, dilation) that block ``block`` can have, the dilation changing fastest."""
        return [(kernel, told_apart(kernel, dilation)) for kernel, dilation in product(self.kernel, self.dilations(block))]

    def ways(self, kind: StageKind, block: int) -> int:
        """How many blocks of ``kind`` can be chosen in place ``block``."""
        return len(self.windows(block)) * (len(self.expand) if kind == "mbconv" else 1)


class HeadSpace(Config):
    """Choices for the last 1x1 convolution; 0 means none."""

    out: Annotated[tuple[Annotated[int, Field(ge=0, le=MAX_CHANNELS)], ...], _C] = (0,)
    """Output channels before the width multiplier; 0 for no last convolution."""
    weight_bits: Bits | None = None
    """Bits of its weights; none: the space's."""


class FrontEndSpace(Config):
    """Choices for the front end of a space of sounds: what :class:`tinynas.front_end.FrontEnd` says of each, a value or a list.

    Every combination of them must be a front end.
    """

    kind: Annotated[tuple[FeatureKind, ...], _C] = ("mel",)
    """Features: mel (logarithms of the filter bank's channels) or mfcc (the first of their cosine transform)."""
    sample_rate: SampleRate = 16000
    """Samples a second; recordings of another rate are resampled."""
    clip_ms: Annotated[tuple[ClipMs, ...], _C] = (1000,)
    """What the network hears at once, in milliseconds."""
    window_ms: Annotated[tuple[WindowMs, ...], _C] = (30,)
    """One frame, in milliseconds."""
    stride_ms: Annotated[tuple[StrideMs, ...], _C] = (20,)
    """From one frame to the next, in milliseconds."""
    bins: Annotated[tuple[Bins, ...], _C] = (40,)
    """Channels of the filter bank."""
    coefficients: Annotated[tuple[Coefficients, ...], _C] = (10,)
    """Of the cosine transform that are kept; with ``kind: mfcc``."""
    low_hz: LowHz = 125.0
    """Where the filter bank begins."""
    high_hz: HighHz | None = None
    """Where it ends; none: 7,500 Hz, or 15/16 of half the sample rate where that is less."""
    noise_reduction: Annotated[tuple[bool, ...], _C] = (True,)
    """Subtract a running estimate of each channel's steady noise."""
    pcan: Annotated[tuple[bool, ...], _C] = (True,)
    """Automatic gain control of each channel (PCAN)."""
    layout: Layout = "map"
    """``map``: frames x features with one channel, for 2-D convolutions; ``series``: frames x 1 with a channel a feature, for 1-D ones."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if "mfcc" not in self.kind and self.coefficients != (10,):
            raise ValueError("coefficients are of kind mfcc, which is not offered: leave them out, or offer kind: [mel, mfcc]")
        if (count := math.prod(len(getattr(self, name)) for name in _CHOSEN)) > MAX_FRONT_ENDS:
            raise ValueError(f"{count:,} front ends are offered; at most {MAX_FRONT_ENDS:,} are possible")
        faults: dict[str, list[dict[str, Any]]] = {}
        for values in product(*(getattr(self, name) for name in _CHOSEN)):
            chosen = dict(zip(_CHOSEN, values, strict=True))
            try:
                self.front_end(chosen)
            except ValidationError as error:
                for fault in error.errors():
                    faults.setdefault(fault["msg"].removeprefix("Value error, "), []).append(chosen)
        if faults:
            raise ValueError("; ".join(f"{self._shared(chosen)}: {fault}" for fault, chosen in faults.items()))
        return self

    def _shared(self, combinations: Sequence[Mapping[str, Any]]) -> str:
        """What ``combinations`` have in common of all that is a choice."""
        shared = [name for name in _CHOSEN if len(getattr(self, name)) > 1 and len({one[name] for one in combinations}) == 1]
        return f"with {', '.join(f'{name} {combinations[0][name]}' for name in shared)}" if shared else "every combination"

    def front_end(self, chosen: Mapping[str, Any]) -> FrontEnd:
        """The front end of a value for each parameter that can be a choice. Raises ValidationError where there is none of these."""
        fixed = {name: getattr(self, name) for name in ("sample_rate", "low_hz", "high_hz", "layout")}
        # What the kind does not use must not tell networks apart.
        unused = ("coefficients",) if chosen["kind"] != "mfcc" else ()
        return FrontEnd.model_validate({**fixed, **{name: value for name, value in chosen.items() if name not in unused}})


#: Combinations of a front end's choices that a space may offer.
MAX_FRONT_ENDS = 4096
#: Parameters of a front end that a space may offer choices of, in the order of their genes; the first of them decide its shape.
_SHAPING = ("kind", "clip_ms", "window_ms", "stride_ms", "bins", "coefficients")
_CHOSEN = (*_SHAPING, "noise_reduction", "pcan")


@dataclass(frozen=True, slots=True)
class Gene:
    """One integer choice. ``stage`` and ``block`` say where it acts (-1 for the whole network).

    It acts only where the gene ``only_with``, which comes before it, chooses ``only_for``; none: something else than 0.
    """

    name: str
    choices: tuple[Any, ...]
    stage: int = -1
    block: int = -1
    only_with: str | None = None
    only_for: str | None = None

    def acts_with(self, value: Any) -> bool:
        """Whether it acts where ``value`` is what the gene ``only_with`` chooses."""
        return bool(value) if self.only_for is None else bool(value == self.only_for)


@dataclass(frozen=True, slots=True)
class InputSize:
    """One of the sizes that a space's inputs can have, and what chooses it."""

    choices: tuple[int, ...]
    """Of the genes :attr:`Space.size_genes`, by index."""
    resolution: Axes
    """Of images a side or (height, width) in pixels; of sounds (frames, features)."""
    text: str
    """For people: ``48px``, ``49 frames of 40``."""
    front_end: Mapping[str, Any] | None = None
    """What these genes choose, of sounds."""

    @property
    def numbers(self) -> int:
        """Height x width, or frames x features."""
        height, width = pair(self.resolution)
        return height * width


class Space(Config):
    """A search space over ProxylessNAS (MobileNet inverted residual) blocks and depthwise separable convolutions."""

    name: str = "space"
    """A name for people."""
    resolution: Sizes | None = None
    """Input resolutions in pixels, each a side or [height, width]; a space of sounds has a front end instead."""
    color: Annotated[tuple[Literal["rgb", "gray"], ...], _C] = ("rgb",)
    """Input colors: rgb (3 channels) or gray (1)."""
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] | None = None
    """Of given features as a series, instead of color: features of a frame, each a channel; the resolution is [frames, 1]."""
    front_end: FrontEndSpace | None = None
    """Of a space of sounds: what turns them into features, instead of resolution and color."""
    width_mult: Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], _C] = (1.0,)
    """Width multipliers applied to every channel count of the space."""
    divisor: Annotated[int, Field(ge=1, le=64)] = 8
    """Channel counts are rounded to a multiple of this (never below 90 % of the value, MobileNet's rule)."""
    stem: StemSpace = StemSpace()
    """First convolution."""
    stages: Annotated[tuple[StageSpace, ...], Field(min_length=1, max_length=12)]
    """The body."""
    head: HeadSpace = HeadSpace()
    """Last convolution."""
    act: LayerActivation = "relu6"
    """Activation of every non-linear convolution."""
    causal: bool = False
    """Whether its networks pad along the height in front alone, so that they can be streamed: see ``causal`` of an architecture."""
    weight_bits: Bits = EIGHT
    """Bits of weights: of the stages' expand and project convolutions, the head and the classifier, where they do not say their own.

    Depthwise convolutions and the stem are not meant: they hold few of a network's bytes, and with 4 bits depthwise convolutions
    cost accuracy (results/benchmarks/bits_training).
    """
    depthwise_bits: Bits = EIGHT
    """Bits of the weights of the stages' depthwise convolutions, where they do not say their own."""
    classifier_bits: Bits | None = None
    """Bits of the weights of the classifier; none: the space's."""

    @model_validator(mode="after")
    def _reads_one_thing(self) -> Self:
        if self.front_end is None and self.resolution is None:
            raise ValueError("says nothing of its inputs: give resolution (of images), or front_end (of sounds)")
        given = [name for name in ("resolution", "color", "channels") if name in self.model_fields_set and getattr(self, name) is not None]
        plain = self.color == ("rgb",)
        if self.front_end is not None and given and not (given == ["color"] and plain):
            raise ValueError(f"{' and '.join(given)} are of images, and front_end is of sounds: give one or the other")
        if self.channels is not None and not plain:
            raise ValueError("color and channels both say how many channels there are: give one of them")
        series = [pair(size)[1] == 1 for size in self.resolution or ()]
        if any(series) if self.channels is None else not all(series):
            raise ValueError("channels and a resolution of [frames, 1] say together that given features are a series: give both or neither")
        return self

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        if sum(max(stage.depth) for stage in self.stages) > MAX_BLOCKS:
            raise ValueError(f"more than {MAX_BLOCKS} blocks")
        widest = max(self.width_mult) * max(max(s.out) * max(s.expand) for s in self.stages)
        if widest > MAX_CHANNELS:
            raise ValueError(f"the widest network has {widest:.0f} channels; at most {MAX_CHANNELS} are possible")
        if self.causal and any(stage.attention != ("none",) for stage in self.stages):
            raise ValueError("causal networks cannot have attention: its gates are worked out from rows that are yet to come")
        return self

    # genes ------------------------------------------------------------------------------------------

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes in decoding order; each stage lists depth before its blocks.

        A stage's kind is a gene where it is a choice, and so is a block's dilation. Bits, attention and activations come last, and only
        those that are a choice, or bits other than 8.
        """
        genes = [
            *self.input_genes,
            Gene("width_mult", self.width_mult),
            Gene("stem.out", self.stem.out),
            Gene("stem.kernel", self.stem.kernel),
            Gene("stem.stride", self.stem.stride),
        ]
        for s, stage in enumerate(self.stages):
            genes.append(Gene(f"s{s}.out", stage.out, s))
            genes.append(Gene(f"s{s}.stride", stage.stride, s))
            genes.append(Gene(f"s{s}.depth", stage.depth, s))
            if len(stage.kind) > 1:
                genes.append(Gene(f"s{s}.kind", stage.kind, s))
            for b in range(max(stage.depth)):
                genes.append(Gene(f"s{s}.b{b}.kernel", stage.kernel, s, b))
                if len(stage.dilations(b)) > 1:
                    genes.append(Gene(f"s{s}.b{b}.dilation", stage.dilations(b), s, b))
                genes.append(_of_mbconv(Gene(f"s{s}.b{b}.expand", stage.expand, s, b), stage))
        genes.append(Gene("head.out", self.head.out))
        return (*genes, *filter(_chooses, self._others))

    @cached_property
    def input_genes(self) -> tuple[Gene, ...]:
        """The first genes: what decides the input. Of images resolution and color, of sounds the front end's parameters."""
        if self.front_end is None:
            return Gene("resolution", self.resolution or ()), Gene("color", self.color if self.channels is None else ("features",))
        found = []
        for name in _CHOSEN:
            gene = Gene(f"front_end.{name}", getattr(self.front_end, name))
            if name == "coefficients" and "mel" in self.front_end.kind:
                gene = replace(gene, only_with="front_end.kind", only_for="mfcc")
            found.append(gene)
        return tuple(found)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """What each combination of :attr:`input_genes` reads, the last gene changing fastest: see :meth:`input_number`."""
        combinations = product(*(gene.choices for gene in self.input_genes))
        if self.front_end is None:
            return tuple(Input(*pair(size), self.channels or KIND_CHANNELS[color], color) for size, color in combinations)
        made = [self.front_end.front_end(dict(zip(_CHOSEN, values, strict=True))) for values in combinations]
        return tuple(Input(*front_end.shape, "features", front_end=front_end) for front_end in made)

    def input_number(self, genotype: Any) -> Any:
        """Which of :attr:`inputs` a genotype reads; of a sequence of arrays, one a gene, an array."""
        number: Any = 0
        for at, gene in enumerate(self.input_genes):
            number = number * len(gene.choices) + genotype[at]
        return number

    @property
    def size_genes(self) -> tuple[str, ...]:
        """The genes that decide how large an input is."""
        return ("resolution",) if self.front_end is None else tuple(f"front_end.{name}" for name in _SHAPING)

    @cached_property
    def sizes(self) -> tuple[InputSize, ...]:
        """The sizes that inputs can have, one for each combination of :attr:`size_genes` that differs, in the order of their choices."""
        if self.front_end is None:
            unit = "px" if self.channels is None else f" frames of {self.channels}"
            texts = {size: resolution_text(size) if self.channels is None else str(pair(size)[0]) for size in self.resolution or ()}
            return tuple(InputSize((number,), size, texts[size] + unit) for number, size in enumerate(self.resolution or ()))
        found: list[InputSize] = []
        genes = self.input_genes[: len(_SHAPING)]
        for choices in product(*(range(len(gene.choices)) for gene in genes)):
            values = {name: gene.choices[index] for name, gene, index in zip(_SHAPING, genes, choices, strict=True)}
            if any(index and gene.only_for not in (None, values["kind"]) for gene, index in zip(genes, choices, strict=True)):
                continue  # the same as another
            one = self.front_end.front_end(values)
            told = {name: value for name, value in values.items() if name != "coefficients" or one.kind == "mfcc"}
            found.append(InputSize(choices, (one.frames, one.features), f"{one.frames} frames of {one.features}", told))
        return tuple(InputSize(one.choices, one.resolution, one.text + _apart(one, found), one.front_end) for one in found)

    @cached_property
    def _others(self) -> tuple[Gene, ...]:
        stages = [
            gene
            for s, stage in enumerate(self.stages)
            for gene in (
                Gene(f"s{s}.weight_bits", stage.weight_bits or self.weight_bits, s),
                Gene(f"s{s}.depthwise_bits", stage.depthwise_bits or self.depthwise_bits, s),
                _of_mbconv(Gene(f"s{s}.attention", stage.attention, s), stage),
                Gene(f"s{s}.act", stage.act or (self.act,), s),
            )
        ]
        head = (self.head.weight_bits or self.weight_bits) if any(self.head.out) else EIGHT
        return (
            Gene("stem.weight_bits", self.stem.weight_bits),
            *stages,
            Gene("head.weight_bits", head, only_with="head.out"),
            Gene("classifier_bits", self.classifier_bits or self.weight_bits),
        )

    def offered(self, name: str) -> tuple[Any, ...]:
        """What is offered under ``name``: ``stem.weight_bits``, ``s0.depthwise_bits``, ``classifier_bits``, ``s0.attention``, ``s0.act``,
        ``s0.kind``; a gene where it is a choice, or other bits than 8."""
        return next(gene.choices for gene in (*self._kinds, *self._others) if gene.name == name)

    @property
    def _kinds(self) -> tuple[Gene, ...]:
        return tuple(Gene(f"s{s}.kind", stage.kind, s) for s, stage in enumerate(self.stages))

    @cached_property
    def gene_index(self) -> dict[str, int]:
        """Gene name to position in a genotype."""
        return {gene.name: index for index, gene in enumerate(self.genes)}

    @cached_property
    def size(self) -> int:
        """Exact number of distinct canonical genotypes."""
        first = {gene.name: gene for gene in self.input_genes}
        total = math.prod(len(gene.choices) for gene in first.values() if gene.only_with is None) * len(self.width_mult)
        for gene in first.values():
            if gene.only_with is not None:  # a choice of its own only for some of the other's
                others = first[gene.only_with].choices
                total = total // len(others) * sum(len(gene.choices) if gene.acts_with(value) else 1 for value in others)
        total *= sum(len(self.offered("head.weight_bits")) if out else 1 for out in self.head.out)
        total *= math.prod(len(gene.choices) for gene in self._others if not gene.name.endswith((".attention", "head.weight_bits")))
        total *= len(self.stem.out) * len(self.stem.kernel) * len(self.stem.stride)
        for stage in self.stages:
            bodies = 0
            for kind in stage.kind:
                gates = len(stage.attention) if kind == "mbconv" else 1
                bodies += gates * sum(math.prod(stage.ways(kind, b) for b in range(depth)) for depth in stage.depth)
            total *= len(stage.out) * len(stage.stride) * bodies
        return total

    def active(self, genotype: Sequence[int]) -> tuple[bool, ...]:
        """Which genes matter at the depths, and with the other choices, of ``genotype``."""
        depths = [stage.depth[genotype[self.gene_index[f"s{s}.depth"]]] for s, stage in enumerate(self.stages)]
        return tuple(
            (gene.block < 0 or gene.block < depths[gene.stage])
            and (gene.only_with is None or gene.acts_with(self._value(gene.only_with, genotype)))
            for gene in self.genes
        )

    def holds(self, genotype: Sequence[int]) -> bool:
        """True where ``genotype`` names a network of this space: an index for every gene, within its choices."""
        return len(genotype) == len(self.genes) and all(
            0 <= index < len(gene.choices) for gene, index in zip(self.genes, genotype, strict=True)
        )

    def canonical(self, genotype: Sequence[int]) -> Genotype:
        """``genotype`` with every inactive gene set to 0."""
        return tuple(index if on else 0 for index, on in zip(genotype, self.active(genotype), strict=True))

    # genotype -> Arch -------------------------------------------------------------------------------

    def decode(self, genotype: Sequence[int], classes: int) -> Arch:
        """The network that ``genotype`` names."""
        value = {gene.name: gene.choices[0] for gene in (*self._kinds, *self._others)}
        value |= {f"s{s}.b{b}.dilation": stage.dilations(b)[0] for s, stage in enumerate(self.stages) for b in range(max(stage.depth))}
        value |= {gene.name: gene.choices[index] for gene, index in zip(self.genes, genotype, strict=True)}
        width = value["width_mult"]
        carried = make_divisible(value["stem.out"] * width, self.divisor)
        stem = ConvLayer(
            out=carried,
            kernel=value["stem.kernel"],
            stride=value["stem.stride"],
            act=self.act,
            weight_bits=value["stem.weight_bits"],
        )
        blocks: list[MBConv | Separable] = []
        for s in range(len(self.stages)):
            out = make_divisible(value[f"s{s}.out"] * width, self.divisor)
            for b in range(value[f"s{s}.depth"]):
                blocks.append(self._block(value, s, b, out, carried))
                carried = out
        head = None
        if value["head.out"]:
            head = ConvLayer(
                out=make_divisible(value["head.out"] * width, self.divisor),
                kernel=1,
                act=self.act,
                weight_bits=value["head.weight_bits"],
            )
        given = self.inputs[self.input_number(genotype)]
        return Arch(
            height=given.height,
            width=given.width,
            channels=given.channels,
            input_kind="features" if self.channels is not None else None,
            classes=classes,
            front_end=given.front_end,
            causal=self.causal,
            stem=stem,
            blocks=tuple(blocks),
            stages=tuple(value[f"s{s}.depth"] for s in range(len(self.stages))),
            head=head,
            classifier_bits=value["classifier_bits"],
        )

    @staticmethod
    def _block(value: Mapping[str, Any], s: int, b: int, out: int, carried: int) -> MBConv | Separable:
        """Block ``b`` of stage ``s``, on ``carried`` channels."""
        kind: StageKind = value[f"s{s}.kind"]
        stride = value[f"s{s}.stride"] if b == 0 else 1
        common: dict[str, Any] = {
            "out": out,
            "kernel": value[f"s{s}.b{b}.kernel"],
            "stride": stride,
            "dilation": value[f"s{s}.b{b}.dilation"],
            "act": value[f"s{s}.act"],
            "weight_bits": value[f"s{s}.weight_bits"],
            "depthwise_bits": value[f"s{s}.depthwise_bits"],
        }
        match kind:
            case "separable":
                return Separable(**common)
            case "mbconv":
                expand, attention = value[f"s{s}.b{b}.expand"], value[f"s{s}.attention"]
                return MBConv(**common, expand=expand, residual=pair(stride) == (1, 1) and out == carried, attention=attention)
        assert_never(kind)

    def to_json(self) -> dict[str, Any]:
        """What a YAML of it holds: of images nothing of a front end, of sounds neither resolution nor color nor channels."""
        return self.model_dump(mode="json", exclude={"front_end"} if self.front_end is None else {"resolution", "color", "channels"})

    def draw(self, choose: Callable[[str, int], int]) -> Genotype:
        """A canonical genotype; ``choose(gene name, n)`` gives an index below n, and is asked for active genes only."""
        genotype: list[int] = []
        depth = 0
        for gene in self.genes:
            with_it = gene.only_with is None or gene.acts_with(self._value(gene.only_with, genotype))
            index = choose(gene.name, len(gene.choices)) if (gene.block < depth or gene.block < 0) and with_it else 0
            if gene.name.endswith(".depth"):
                depth = gene.choices[index]
            genotype.append(index)
        return tuple(genotype)

    def _value(self, name: str, genotype: Sequence[int]) -> Any:
        at = self.gene_index[name]
        return self.genes[at].choices[genotype[at]]

    def sample(self, choose: Callable[[str, int], int], classes: int) -> Arch:
        """A network; see :meth:`draw`."""
        return self.decode(self.draw(choose), classes)

    def describe(self) -> str:
        """One line for people: how many networks, resolutions, widths."""
        exponent = math.floor(math.log10(self.size))
        count = f"{self.size:,}" if self.size < 1_000_000 else f"{self.size / 10**exponent:.1f}e{exponent}"
        sizes = sorted((pair(size.resolution) for size in self.sizes), key=lambda size: (size[0] * size[1], size))
        ends = dict.fromkeys((sizes[0], sizes[-1]))
        if self.channels is not None:
            shown = " to ".join(f"{frames} frames of {self.channels}" for frames, _ in ends)
        elif self.front_end is None:
            shown = " to ".join(map(resolution_text, ends)) + " px"
        else:
            shown = " to ".join(f"{frames} frames of {features}" for frames, features in ends)
        return f"{count} network{'' if count == '1' else 's'}, {shown}, {counted(len(self.stages), 'stage')}"


def _of_mbconv(gene: Gene, stage: StageSpace) -> Gene:
    """``gene`` of ``stage``, which acts on blocks of kind mbconv alone."""
    return replace(gene, only_with=f"s{gene.stage}.kind", only_for="mbconv") if len(stage.kind) > 1 else gene


def _chooses(gene: Gene) -> bool:
    """Whether one of the last genes is one: a choice, or bits other than 8."""
    return len(gene.choices) > 1 or (gene.name.endswith("_bits") and gene.choices != EIGHT)


def _apart(one: InputSize, sizes: Sequence[InputSize]) -> str:
    """What tells ``one`` apart among sizes of as many frames and features."""
    alike = [size.front_end or {} for size in sizes if size.resolution == one.resolution]
    telling = {name: value for name, value in (one.front_end or {}).items() if len({other.get(name) for other in alike}) > 1}
    return "".join(f", {name} {value}" for name, value in telling.items())


def input_text(given: Input) -> str:
    """For people: ``48 px``, ``32x20 px``, of sounds ``49 frames of 40``."""
    if given.front_end is not None:
        return f"{given.front_end.frames} frames of {given.front_end.features}"
    if given.kind == "features" and given.width == 1:
        return f"{given.height} frames of {given.channels}"
    return f"{resolution_text((given.height, given.width))} px"


def _listed(size: Axes) -> str:
    """As a YAML says it: ``3``, ``[3, 1]``."""
    return str(size if isinstance(size, int) else list(size))


def resolution_text(resolution: Axes) -> str:
    """``48``, or height x width: ``32x20``."""
    height, width = pair(resolution)
    return str(height) if height == width else f"{height}x{width}"


def make_divisible(channels: float, divisor: int) -> int:
    """``channels`` rounded to a multiple of ``divisor``, never below 90 % of it (MobileNet's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
