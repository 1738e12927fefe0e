"""Arch: what was chosen for a network, nothing computed; YAML in and out, ProxylessNAS JSON in.

Shapes, padding and operator order are :func:`tinynas.graph.lower`'s business. ``Arch.id`` names the
network by content, so that a network is known again whichever way it was reached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from tinynas.config import Config, build, parse_yaml, read_text, resolve
from tinynas.errors import ConfigError, Fault
from tinynas.front_end import FrontEnd
from tinynas.inputs import KIND_CHANNELS, Input, InputKind, kind_of_channels

Activation = Literal["relu6", "relu", "none"]
"""Activations that an operator applies by itself."""
LayerActivation = Literal["relu6", "relu", "h_swish", "none"]
"""Activations of a layer: h_swish, x * relu6(x + 3) / 6, is an operator of its own behind the convolution."""
Attention = Literal["none", "se", "spatial"]
#: Bounds that no microcontroller network comes near; beyond them a number is a typing mistake.
MAX_RESOLUTION, MAX_CHANNELS, MAX_CLASSES, MAX_BLOCKS = 1024, 8192, 10_000, 200

Axes = int | tuple[int, int]
"""One size for both directions, or (height, width)."""


def pair(size: Axes) -> tuple[int, int]:
    """(height, width) of a size."""
    return (size, size) if isinstance(size, int) else size


def axes(sizes: range, words: str | None = None, *, heights: range | None = None) -> BeforeValidator:
    """Validates a size: an integer of ``sizes`` (``words`` for people), or [height, width] of such; a square pair is its side.

    ``heights``: those of a pair, where they may be others: time, along which sounds are long, runs along the height.
    """
    words = words or f"an integer from {sizes[0]} to {sizes[-1]}"
    more = "" if heights is None else f" (height up to {heights[-1]})"

    def check(value: object) -> Axes:
        given = list(value) if isinstance(value, (list, tuple)) else [value, value]
        allowed = (heights or sizes, sizes)
        sides = [
            side for side, of in zip(given, allowed, strict=False) if isinstance(side, int) and not isinstance(side, bool) and side in of
        ]
        if len(given) != 2 or len(sides) != 2:
            raise PydanticCustomError("axes", f"must be {words}, or [height, width] of such{more}")
        return sides[0] if sides[0] == sides[1] else (sides[0], sides[1])

    # For editors: few sizes are listed, many are bounded.
    side: Any = _listed(sizes)
    high: Any = _listed(heights or sizes)
    return BeforeValidator(check, json_schema_input_type=side | tuple[high, side])


def _listed(sizes: range) -> Any:
    rule: dict[str, Any] = {"enum": list(sizes)} if len(sizes) <= 16 else {"minimum": sizes[0], "maximum": sizes[-1]}
    return Annotated[int, WithJsonSchema({"type": "integer", **rule})]


Kernel = Annotated[Axes, axes(range(1, 12), heights=range(1, 32))]
Stride = Annotated[Axes, axes(range(1, 5))]
Dilation = Annotated[Axes, axes(range(1, 33))]
#: Pixels that a dilated kernel may span along an axis.
MAX_REACH = 255
Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
WeightBits = Literal[8, 4, 2]
"""Bits that a weight takes in the file; activations are int8, biases int32."""
#: Fields that networks had not at first: left out of the id where they say what was meant before.
_LATER: dict[str, Any] = {
    "weight_bits": 8,
    "depthwise_bits": 8,
    "classifier_bits": 8,
    "attention": "none",
    "squeeze": 4,
    "front_end": None,
    "causal": False,
    "dilation": 1,
}


def reach(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels that a kernel spans whose taps are ``dilation`` pixels apart."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def told_apart(kernel: Axes, dilation: Axes) -> Axes:
    """``dilation`` as one way to say it: 1 along an axis along which ``kernel`` has one tap."""
    down, across = (apart if taps > 1 else 1 for taps, apart in zip(pair(kernel), pair(dilation), strict=True))
    return down if down == across else (down, across)


class _Dilated(Config):
    """A block with one kernel of several pixels, whose taps may be apart."""

    @model_validator(mode="after")
    def _taps_apart(self) -> Self:
        kernel, stride, dilation = (pair(getattr(self, name)) for name in ("kernel", "stride", "dilation"))
        told = told_apart(kernel, dilation)
        if told != 1 and stride != (1, 1):
            raise ValueError("a dilated kernel needs stride 1: put the stride into a block before or behind it")
        if (most := max(reach(kernel, pair(told)))) > MAX_REACH:
            raise ValueError(f"the dilated kernel spans {most} pixels; at most {MAX_REACH} are possible")
        object.__setattr__(self, "dilation", told)
        return self


class ConvLayer(_Dilated):
    """A dense convolution with folded batch norm and an activation."""

    kind: Literal["conv"] = "conv"
    out: Channels
    """Output channels."""
    kernel: Kernel = 3
    """Kernel size in pixels, or [height, width]."""
    stride: Stride = 1
    """Stride in pixels, or [height, width]."""
    dilation: Dilation = 1
    """Pixels from one tap of the kernel to the next, or [height, width]; beyond 1 it needs stride 1."""
    act: LayerActivation = "relu6"
    """Activation after batch norm."""
    weight_bits: WeightBits = 8
    """Bits of each weight."""


class MBConv(_Dilated):
    """MobileNet inverted residual (ProxylessNAS block): 1x1 expand, k x k depthwise, 1x1 project (linear).

    An expand ratio of 1 has no expand convolution. ``mid``, where given, overrides the expand ratio.
    """

    kind: Literal["mbconv"] = "mbconv"
    out: Channels
    """Output channels."""
    kernel: Kernel = 3
    """Depthwise kernel size in pixels, or [height, width]."""
    stride: Stride = 1
    """Stride of the depthwise convolution, or [height, width]."""
    dilation: Dilation = 1
    """Pixels from one tap of the depthwise kernel to the next, or [height, width]; beyond 1 it needs stride 1."""
    expand: Annotated[float, Field(ge=1, le=32)] = 1
    """Expand ratio: mid channels = round(in channels * expand)."""
    mid: Channels | None = None
    """Mid channels, overriding ``expand`` (which then only says whether there is an expand convolution)."""
    residual: bool = False
    """Add the input to the output; needs stride 1 and as many output as input channels."""
    act: LayerActivation = "relu6"
    """Activation after the expand and the depthwise convolution."""
    weight_bits: WeightBits = 8
    """Bits of each weight of the expand and the project convolution."""
    depthwise_bits: WeightBits = 8
    """Bits of each weight of the depthwise convolution."""
    attention: Attention = "none"
    """``se``: squeeze-and-excite behind the depthwise convolution, a gate for each channel (MobileNetV3). ``spatial``: the output is
    gated by a branch from the input: largest of 3x3 at stride 2, a bottleneck of stride 2, spread over the map (coco_mcu)."""
    squeeze: Annotated[int, Field(ge=1, le=64)] = 4
    """With ``se``: factor by which channels are fewer where the gate is worked out (rounded up to a multiple of 8)."""

    @model_validator(mode="after")
    def _residual_keeps_size(self) -> Self:
        if self.residual and pair(self.stride) != (1, 1):
            raise ValueError("a residual block needs stride 1")
        return self


class Separable(_Dilated):
    """Depthwise separable convolution (MobileNetV1): k x k depthwise, then 1x1, both activated."""

    kind: Literal["separable"] = "separable"
    out: Channels
    """Output channels."""
    kernel: Kernel = 3
    """Depthwise kernel size in pixels, or [height, width]."""
    stride: Stride = 1
    """Stride of the depthwise convolution, or [height, width]."""
    dilation: Dilation = 1
    """Pixels from one tap of the depthwise kernel to the next, or [height, width]; beyond 1 it needs stride 1."""
    act: LayerActivation = "relu6"
    """Activation after both convolutions."""
    weight_bits: WeightBits = 8
    """Bits of each weight of the pointwise convolution."""
    depthwise_bits: WeightBits = 8
    """Bits of each weight of the depthwise convolution."""


class Pool(Config):
    """Spatial pooling without padding (VALID), as ColabNAS uses between its convolutions."""

    kind: Literal["pool"] = "pool"
    op: Literal["max", "avg"] = "max"
    """Maximum or average."""
    kernel: Kernel = 2
    """Window in pixels, or [height, width]."""
    stride: Stride = 2
    """Stride in pixels, or [height, width]."""


Block = Annotated[MBConv | Separable | ConvLayer | Pool, Field(discriminator="kind")]


class Arch(Config):
    """A whole network: input, first convolution, blocks, last convolution, classifier."""

    name: str | None = None
    """A name for people; not part of the id."""
    height: Annotated[int, Field(ge=1, le=MAX_RESOLUTION)]
    """Input height in pixels; of sound: frames."""
    width: Annotated[int, Field(ge=1, le=MAX_RESOLUTION)]
    """Input width in pixels; of sound: features of a frame, or 1 where these are channels."""
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3
    """Input channels: 3 for RGB, 1 for grayscale; any number for features."""
    input_kind: InputKind | None = None
    """What is read: rgb, gray or features; where it is left out, the channels tell."""
    classes: Annotated[int, Field(ge=1, le=MAX_CLASSES)]
    """Outputs of the classifier (logits)."""
    front_end: FrontEnd | None = None
    """What makes the input out of sound; it gives height, width and channels."""
    causal: bool = False
    """Pad along the height in front alone, so that nothing waits for rows (frames of sound) that are yet to come: such a network can be
    streamed (docs/sound.md)."""
    stem: ConvLayer | None = None
    """First convolution."""
    blocks: Annotated[tuple[Block, ...], Field(max_length=MAX_BLOCKS)] = ()
    """The body, in order."""
    stages: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=MAX_BLOCKS)] | None = None
    """Blocks of each stage, for their names (not part of the id); where left out, a stage begins with each stride or change of width."""
    head: ConvLayer | None = None
    """Last convolution before global average pooling (ProxylessNAS feature_mix_layer)."""
    classifier_bits: WeightBits = 8
    """Bits of each weight of the classifier."""

    @model_validator(mode="after")
    def _has_layers(self) -> Self:
        if self.stem is None and not self.blocks and self.head is None:
            raise ValueError("a network needs at least one layer: give stem, blocks or head")
        if self.stages is not None and sum(self.stages) != len(self.blocks):
            raise ValueError(f"the stages hold {sum(self.stages)} blocks, the network has {len(self.blocks)}")
        fixed = None if self.input_kind is None else KIND_CHANNELS.get(self.input_kind)
        if fixed is not None and fixed != self.channels:
            raise ValueError(f"an input of kind {self.input_kind} has {fixed} channel{'s' if fixed > 1 else ''}, not {self.channels}")
        gated = next((b.attention for b in self.blocks if isinstance(b, MBConv) and b.attention != "none"), None)
        if self.causal and gated is not None:
            raise ValueError(f"a causal network cannot have attention {gated}: its gates are worked out from rows that are yet to come")
        if self.front_end is not None:
            given = (self.height, self.width, self.channels)
            if given != self.front_end.shape:
                made, asked = ("x".join(map(str, shape)) for shape in (self.front_end.shape, given))
                raise ValueError(f"the front end makes {made} (frames x features x channels), the network reads {asked}")
            if self.input_kind not in (None, "features"):
                raise ValueError(f"what a front end makes is features, not {self.input_kind}")
        return self

    @cached_property
    def input(self) -> Input:
        """What the network reads."""
        return Input(self.height, self.width, self.channels, self.input_kind or self._usual_kind, front_end=self.front_end)

    @property
    def _usual_kind(self) -> InputKind:
        return "features" if self.front_end is not None else kind_of_channels(self.channels)

    @cached_property
    def block_names(self) -> tuple[str, ...]:
        """``s<stage>.b<block of the stage>`` of each block, both from 0: the same place has the same name in every network of a space."""
        stages = self._found_stages() if self.stages is None else self.stages
        return tuple(f"s{s}.b{b}" for s, count in enumerate(stages) for b in range(count))

    def _found_stages(self) -> list[int]:
        stages: list[int] = []
        before: int | None = None
        for block in self.blocks:
            out = before if isinstance(block, Pool) else block.out
            if not stages or pair(block.stride) != (1, 1) or out != before:
                stages.append(0)
            stages[-1] += 1
            before = out
        return stages

    @cached_property
    def id(self) -> str:
        """Ten hex digits of the SHA-256 of the content: all but the names (``name``, ``stages``)."""
        content = self.model_dump(mode="json", exclude={"name", "stages"})
        if self.input_kind in (None, self._usual_kind):
            del content["input_kind"]  # says nothing that the channels do not
        canonical = json.dumps(_without_later(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    def with_classes(self, classes: int) -> Arch:
        """The same network with another number of outputs."""
        return Arch.model_validate({**self.model_dump(), "classes": classes})

    def to_yaml(self) -> str:
        """YAML text that :func:`load_arch` reads back to an equal ``Arch``."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        for kept, block in zip(content.get("blocks", []), self.blocks, strict=True):
            kept["kind"] = block.kind
        text: str = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
        return text


def _without_later(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_later(value) for key, value in content.items() if key not in _LATER or value != _LATER[key]}
    return [_without_later(value) for value in content] if isinstance(content, list) else content


def classes_for(labels: Sequence[str]) -> int:
    """Outputs of a network that tells ``labels`` apart: one a label, and never fewer than two."""
    return max(2, len(labels))


def load_arch(name_or_path: str) -> Arch:
    """An ``Arch`` from an arch YAML, a ProxylessNAS net-config JSON, or a zoo name.

    Raises ConfigError with every fault at once.
    """
    path = resolve(name_or_path, "zoo")
    arch = _load_file(path)
    return arch if arch.name else arch.model_copy(update={"name": path.stem})


def _load_file(path: Path) -> Arch:
    text = read_text(path)
    if path.suffix == ".json":
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:  # JSONDecodeError, and integers of thousands of digits
            line = getattr(error, "lineno", None)
            raise ConfigError(path, [Fault("file" if line is None else f"line {line}", None, f"is not valid JSON: {error}")]) from None
        if isinstance(document, dict) and "first_conv" in document:
            return from_proxyless(document, source=path)
        return build(document, Arch, source=path)
    document, lines = parse_yaml(text, path)
    return build(document, Arch, source=path, lines=lines)


# ProxylessNAS net-config JSON, as used by MCUNet and the Wake Vision entry mcunet-tiny2.

_ACTS: dict[str | None, Activation] = {"relu6": "relu6", "relu": "relu", None: "none"}


class _Reader:
    """Collects all faults of a net config; a fault yields a harmless stand-in so that reading goes on."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, place: str, value: object, rule: str, remedy: str | None = None) -> None:
        self.faults.append(Fault(place, None if value is None else repr(value)[:80], rule, remedy))

    def mapping(self, node: Mapping[str, Any], key: str, place: str, *, optional: bool = False) -> Mapping[str, Any] | None:
        value = node.get(key)
        if isinstance(value, dict):
            return value
        if value is not None or not optional:
            self.fault(f"{place}{key}", value, "must be an object" + (" or null" if optional else ""))
        return None

    def integer(self, node: Mapping[str, Any], key: str, place: str) -> int:
        value = node.get(key)
        if isinstance(value, list) and len(set(map(str, value))) == 1:  # Once-for-All writes lists of equal sizes
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        self.fault(f"{place}.{key}", value, "must be a positive integer")
        return 1

    def activation(self, node: Mapping[str, Any], place: str) -> Activation:
        act = node.get("act_func")
        if act in _ACTS:
            return _ACTS[act]
        self.fault(f"{place}.act_func", act, "unsupported activation", "supported: relu6, relu, null")
        return "none"

    def forbid(self, node: Mapping[str, Any], place: str, **plain: object) -> None:
        for key, expected in plain.items():
            if node.get(key, expected) not in (expected, None):
                self.fault(f"{place}.{key}", node[key], f"is not supported; only {expected!r} is")


def from_proxyless(document: Mapping[str, Any], source: str | Path = "net config") -> Arch:
    """An ``Arch`` from a ProxylessNAS net-config object.

    Raises ConfigError naming every fault at once (channel counts that do not chain included).
    """
    read = _Reader()
    known = {"name", "bn", "first_conv", "blocks", "feature_mix_layer", "classifier", "resolution"}
    for key in document.keys() - known:
        read.fault(str(key), None, "unknown key", f"known keys: {', '.join(sorted(known))}")

    stem_node = read.mapping(document, "first_conv", "")
    stem, in_channels, carried = None, 3, 3
    if stem_node is not None:
        stem, in_channels = _conv_from(read, stem_node, "first_conv"), read.integer(stem_node, "in_channels", "first_conv")
        carried = stem.out
        if in_channels not in (1, 3):
            read.fault("first_conv.in_channels", in_channels, "must be 3 (RGB) or 1 (grayscale)")

    blocks: list[MBConv] = []
    nodes = document.get("blocks")
    if not isinstance(nodes, list):
        read.fault("blocks", nodes, "must be a list")
        nodes = []
    for index, node in enumerate(nodes):
        place = f"blocks[{index}]"
        if not isinstance(node, dict):
            read.fault(place, node, "must be an object")
            continue
        block = _block_from(read, node, place, carried)
        if block is not None:
            blocks.append(block)
            carried = block.out

    head_node = read.mapping(document, "feature_mix_layer", "", optional=True)
    head = None
    if head_node is not None:
        head = _conv_from(read, head_node, "feature_mix_layer")
        _chains(read, head_node, "in_channels", "feature_mix_layer", carried)
        carried = head.out
    classes = 1
    classifier = read.mapping(document, "classifier", "")
    if classifier is not None:
        classes = read.integer(classifier, "out_features", "classifier")
        _chains(read, classifier, "in_features", "classifier", carried)
        read.forbid(classifier, "classifier", use_bn=False, bias=True)
    resolution = document.get("resolution")
    size = tuple(resolution) if isinstance(resolution, list) else (resolution, resolution)
    if len(size) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in size):
        read.fault("resolution", resolution, "must be an integer, or [height, width]")
        size = (32, 32)
    if read.faults:
        raise ConfigError(source, read.faults)
    return build(
        {
            "height": size[0],
            "width": size[1],
            "channels": in_channels,
            "classes": classes,
            "stem": stem.model_dump() if stem else None,
            "blocks": [block.model_dump() for block in blocks],
            "head": head.model_dump() if head else None,
        },
        Arch,
        source=source,
    )


def _chains(read: _Reader, node: Mapping[str, Any], key: str, place: str, carried: int) -> None:
    declared = read.integer(node, key, place)
    if declared != carried:
        read.fault(f"{place}.{key}", declared, f"does not match the {carried} channels coming in")


def _clamped(read: _Reader, place: str, value: int, upper: int) -> int:
    if value > upper:
        read.fault(place, value, f"must be at most {upper}")
        return 1
    return value


def _conv_from(read: _Reader, node: Mapping[str, Any], place: str) -> ConvLayer:
    read.forbid(node, place, dilation=1, groups=1, has_shuffle=False, bias=False, use_bn=True)
    return ConvLayer(
        out=_clamped(read, f"{place}.out_channels", read.integer(node, "out_channels", place), MAX_CHANNELS),
        kernel=_clamped(read, f"{place}.kernel_size", read.integer(node, "kernel_size", place), 11),
        stride=_clamped(read, f"{place}.stride", read.integer(node, "stride", place), 4),
        act=read.activation(node, place),
    )


def _block_from(read: _Reader, node: Mapping[str, Any], place: str, carried: int) -> MBConv | None:
    conv = node.get("mobile_inverted_conv")
    if conv is None or (isinstance(conv, dict) and conv.get("name") == "ZeroLayer"):
        if node.get("shortcut") is None:
            read.fault(f"{place}.mobile_inverted_conv", None, "is null and there is no shortcut: nothing passes")
        return None  # a block the search skipped: the identity
    inner = f"{place}.mobile_inverted_conv"
    if not isinstance(conv, dict):
        read.fault(inner, conv, "must be an object or null")
        return None
    read.forbid(conv, inner, use_se=False)
    _chains(read, conv, "in_channels", inner, carried)
    expand = conv.get("expand_ratio", 1)
    if not isinstance(expand, (int, float)) or isinstance(expand, bool) or not 1 <= expand <= 32:
        read.fault(f"{inner}.expand_ratio", expand, "must be a number from 1 to 32")
        expand = 1
    mid = (
        None
        if conv.get("mid_channels") is None
        else _clamped(read, f"{inner}.mid_channels", read.integer(conv, "mid_channels", inner), MAX_CHANNELS)
    )
    out = _clamped(read, f"{inner}.out_channels", read.integer(conv, "out_channels", inner), MAX_CHANNELS)
    stride = _clamped(read, f"{inner}.stride", read.integer(conv, "stride", inner), 4)
    residual = node.get("shortcut") is not None
    if residual and (stride != 1 or out != carried):
        read.fault(
            f"{place}.shortcut", None, f"needs stride 1 and {carried} output channels (stride {stride}, {out} channels)", "set it to null"
        )
        residual = False
    return MBConv(
        out=out,
        kernel=_clamped(read, f"{inner}.kernel_size", read.integer(conv, "kernel_size", inner), 11),
        stride=stride,
        expand=expand,
        mid=mid,
        residual=residual,
        act=read.activation(conv, inner),
    )
