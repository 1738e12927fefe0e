"""The exact size of the .tflite that tinynas writes, from arithmetic alone.

:mod:`tinynas.export.tflite` lays a file out so that its size is a plain sum, and both read the table layouts
below, so the two cannot drift apart. With C output channels, W bytes of weights, r4 = rounding up to 4, a file is::

    16-aligned( 8-aligned(front) + quantisation + scales - 12 ) + 12 + constants

* front: header, vtables (each kind once), every table, shape, list and string; each a multiple of 4 bytes. An
  operator's output shares its shape with its input where they are equal, and so do the two operands of an add.
* quantisation: 24 B for each activation with a grid of its own (its table and its zero point), and once for every
  *distinct* C a vector of C zero points, which all weights and biases with C channels share.
* scales: 4 + 4C B for weights and again for biases (full flavour), 8 B per activation.
* constants: 4 + r4(n) B of content (weights of 4 bits lie two in a byte), padded so that the next content begins on a multiple of
  16; of B contents, H leave a gap of 8 B or more behind them, which houses the next one's table.

Nothing depends on the values of weights: the size is known before training. The functions on single numbers work
on numpy integer arrays as well.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias, assert_never

from pydantic import ValidationError

from tinynas import __version__
from tinynas.arch import Activation
from tinynas.cost.schema import packed_bytes
from tinynas.errors import InternalError
from tinynas.front_end import FrontEnd
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Kind, Mean, Mul, Op, Pool2D, Resize, Shape

Io = Literal["int8", "uint8", "float"]
"""Type of the file's input and output; the network inside is int8."""
Flavour = Literal["full", "lean"]
"""``full``: tensor names, bias scales, metadata. ``lean``: none of them; smallest, for files that only TFLM reads."""

#: Bytes of the metadata kept for each label: a file whose labels are shorter is padded, so that its size is known
#: without them. Quotes and comma take 3.
LABEL_BYTES = 12
#: Bytes of the metadata kept for a front end's parameters.
FRONT_END_BYTES = 256
METADATA_NAME = "tinynas"
PLAN_NAME = "OfflineMemoryAllocation"
IO_NAMES = ("image", "scores")
"""Names of the input and output where they are not int8."""


@dataclass(frozen=True, slots=True)
class Form:
    """A flatbuffer table that has these fields: (field number, bytes) in the order in which they lie in memory."""

    fields: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the table, its vtable offset included, rounded up to 4."""
        return _laid_out(self).size

    def offsets(self) -> Mapping[int, int]:
        """Field number -> offset in the table."""
        return _laid_out(self).offsets

    def vtable(self) -> bytes:
        """The vtable; equal ones are written once."""
        return _laid_out(self).vtable


class _Layout(NamedTuple):
    """A table's layout: what a file of many tables asks of each of its few forms again and again."""

    size: int
    offsets: Mapping[int, int]
    vtable: bytes


@cache
def _laid_out(form: Form) -> _Layout:
    offsets, at = {}, 4
    for number, size in form.fields:
        offsets[number] = at
        at += size
    size = (at + 3) & ~3
    slots = [offsets.get(number, 0) for number in range(max(offsets, default=-1) + 1)]
    return _Layout(size, MappingProxyType(offsets), struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size, *slots))


MODEL = Form(((0, 4), (1, 4), (2, 4), (4, 4)))
"""version, operator_codes, subgraphs, buffers."""
MODEL_METADATA = Form((*MODEL.fields, (6, 4)))
OPERATOR_CODE = Form(((2, 4), (0, 1)))
"""version, deprecated_builtin_code (all our codes are below 127, where it is not deprecated in effect)."""
SUBGRAPH = Form(((0, 4), (1, 4), (2, 4), (3, 4)))
"""tensors, inputs, outputs, operators."""
OPERATOR = Form(((1, 4), (2, 4), (4, 4), (3, 1)))
"""inputs, outputs, builtin_options, builtin_options_type; for operator code 0."""
OPERATOR_CODED = Form(((1, 4), (2, 4), (4, 4), (0, 4), (3, 1)))
"""The same with opcode_index."""
OPERATOR_PLAIN = Form(((1, 4), (2, 4), (0, 4)))
"""inputs, outputs, opcode_index: QUANTIZE and DEQUANTIZE have no options."""
QUANTIZATION = Form(((2, 4), (3, 4)))
"""scale, zero_point."""
QUANTIZATION_LAST = Form(((2, 4), (3, 4), (6, 4)))
"""The same with quantized_dimension (3 for depthwise weights)."""
BUFFER = Form(((0, 4),))
METADATA = Form(((0, 4), (1, 4)))
"""name, buffer."""
EMPTY = Form(())
"""Options at their defaults, and the empty buffer."""
ACT_ONLY = Form(((0, 1),))
"""FullyConnectedOptions and AddOptions with an activation."""


@cache
def tensor_form(*, name: bool, buffer: bool = False, quantized: bool = True, typed: bool = True) -> Form:
    """A Tensor table: shape, buffer (constants), name (full flavour), quantization, type (none for float32)."""
    fields = [(0, 4)]
    fields += [(2, 4)] if buffer else []
    fields += [(3, 4)] if name else []
    fields += [(4, 4)] if quantized else []
    fields += [(1, 1)] if typed else []
    return Form(tuple(fields))


OptionKey: TypeAlias = tuple[str | int | tuple[int, int] | bool, ...]
"""What two operators must have in common to share one options table:
("conv" | "dw", stride, act, same), with the dilation where its taps are apart, ("max_pool" | "avg_pool", kernel, stride, same),
("fc" | "add" | "mul", act) or ("mean" | "hard_swish" | "resize",)."""


@dataclass(frozen=True, slots=True)
class OpForm:
    """How an operator stands in a file of TensorFlow Lite's schema."""

    builtin: str
    """Its name there."""
    code: int
    """BuiltinOperator."""
    version: int
    """Version in which its int8 kernel appeared."""
    options: int
    """Member of the BuiltinOptions union."""
    narrow: int = 0
    """Version in which its kernel for int4 weights appeared; 0 where it has no weights."""


#: Every kind of operator, in the order in which a file lists those it uses: the first one's code is not stored.
OP_FORMS: dict[Kind, OpForm] = {
    "conv": OpForm("CONV_2D", 3, 3, 1, 7),
    "dw": OpForm("DEPTHWISE_CONV_2D", 4, 3, 2, 7),
    "add": OpForm("ADD", 0, 2, 11),
    "mean": OpForm("MEAN", 40, 2, 27),
    "fc": OpForm("FULLY_CONNECTED", 9, 4, 8, 10),
    "max_pool": OpForm("MAX_POOL_2D", 17, 2, 5),
    "avg_pool": OpForm("AVERAGE_POOL_2D", 1, 2, 5),
    "mul": OpForm("MUL", 18, 2, 21),
    "hard_swish": OpForm("HARD_SWISH", 117, 1, 91),
    "resize": OpForm("RESIZE_NEAREST_NEIGHBOR", 97, 2, 74),
}
#: The operators that change the type at the ends of a file: they have no options.
END_FORMS: dict[str, OpForm] = {"quantize": OpForm("QUANTIZE", 114, 2, 0), "dequantize": OpForm("DEQUANTIZE", 6, 2, 0)}
#: Operators at the ends of a file, in order, by the type of its input and output.
ENDS: dict[Io, tuple[str, ...]] = {"int8": (), "uint8": ("quantize", "quantize"), "float": ("quantize", "dequantize")}


@cache
def options_form(key: OptionKey) -> Form:
    """The options table of ``key``."""
    kind = key[0]
    match kind:
        case "conv" | "dw":
            _, _, act, same, *dilated = key
            fields = [(1, 4), (2, 4)] + ([(3, 4)] if kind == "dw" else [])
            fields += [(5 if kind == "dw" else 4, 4), (6 if kind == "dw" else 5, 4)] if dilated else []
            fields += [(4 if kind == "dw" else 3, 1)] if act != "none" else []
            return Form((*fields, *(() if same else ((0, 1),))))
        case "max_pool" | "avg_pool":
            return Form(((1, 4), (2, 4), (3, 4), (4, 4), *(() if key[3] else ((0, 1),))))
        case "mean" | "hard_swish" | "resize":
            return EMPTY
        case "fc" | "add" | "mul":
            return EMPTY if key[1] == "none" else ACT_ONLY
    raise InternalError(f"no options are known for operators of kind {kind!r}", "give the kind a case in tinynas.cost.flash.options_form")


def constant_bytes(n: int) -> int:
    """Bytes of a constant of ``n`` bytes: its length, its content, and padding so that the next content is 16-aligned."""
    padded = (n + 3) & ~3
    return padded + 4 + ((12 - padded) & 15)


def houses_table(n: int) -> int:
    """1 where the padding behind a constant of ``n`` bytes has room for a Buffer table (8 B), else 0."""
    return 1 - ((((n + 3) & ~3) >> 3) & 1)


def name_bytes(length: int) -> int:
    """Bytes of a name of ``length`` characters: its length word, its text, a zero, rounded up to 4."""
    return (length + 8) & ~3


def weights_name(op_name: str) -> str:
    """Name of an operator's weight tensor."""
    return f"{op_name}.w"


def bias_name(op_name: str) -> str:
    """Name of an operator's bias tensor."""
    return f"{op_name}.b"


def metadata_json(
    labels: Sequence[str],
    *,
    classes: int,
    formula: str,
    arch_id: str = "0123456789",
    version: str = __version__,
    input_rotation: int = 0,
) -> bytes:
    """The metadata of a full file: one JSON object, padded with spaces to what :data:`LABEL_BYTES` a class allow for.

    ``formula``: what the input's numbers mean and what makes them, :attr:`tinynas.inputs.Input.written`.
    """
    return _metadata(version, arch_id, input_rotation, formula, labels).ljust(metadata_reserve(classes, formula))


@lru_cache(maxsize=256)
def metadata_reserve(classes: int, formula: str) -> int:
    """Bytes of the metadata of a file with ``classes`` classes whose labels keep to :data:`LABEL_BYTES` on average."""
    said, _, front_end = formula.partition("|")
    # all front ends alike, so that a file's size does not hang on how long their numbers are
    return len(_metadata(__version__, "0123456789", 180, said, ())) + LABEL_BYTES * classes + (FRONT_END_BYTES if front_end else 0)


def _metadata(version: str, arch_id: str, input_rotation: int, formula: str, labels: Sequence[str]) -> bytes:
    said, _, front_end = formula.partition("|")
    document: dict[str, Any] = {
        "tinynas": version,
        "arch": arch_id,
        "input": said,
        "input_rotation": input_rotation,
        "labels": list(labels),
    }
    if front_end:
        document["front_end"] = json.loads(front_end)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def told_front_end(metadata: object, shape: Sequence[int]) -> FrontEnd | None:
    """What makes an input of ``shape`` (height, width, channels) out of sound, by a file's ``metadata`` as :func:`metadata_json` writes
    them; None where they say nothing, or nothing that makes such an input."""
    said = metadata.get("front_end") if isinstance(metadata, Mapping) else None
    if said is None:
        return None
    try:
        found = FrontEnd.model_validate(said)
    except ValidationError:
        return None
    return found if found.shape == tuple(shape) else None


@lru_cache(maxsize=256)
def metadata_bytes(labels: tuple[str, ...], formula: str) -> int:
    """Bytes of the metadata with these labels."""
    return len(metadata_json(labels, classes=len(labels), formula=formula))


class Terms(NamedTuple):
    """What an operator adds to the sums of the file's size."""

    front: int
    quantisation: int
    scales: int
    constants: int
    houses: int
    contents: int
    tensors: int


# What every operator has: its entry in the list, its table (20 B for the kind whose code is not stored, else 24), its list of
# one output, and its list of inputs: 4 B an entry and a length.
_OPERATOR = 4 + 24 + 8
#: Bytes that an operator of the first kind in the file's list of codes saves.
CODE_BYTES = 4


def activation_terms(name_length: int, *, full: bool, own_grid: bool = True) -> Terms:
    """An activation tensor without its shape; pooling outputs have no grid of their own but their input's."""
    front = 4 + tensor_form(name=full).size + (name_bytes(name_length) if full else 0)
    return Terms(front, 24 if own_grid else 0, 8 if own_grid else 0, 0, 0, 0, 1)


def shape_bytes(rank: int) -> int:
    """Bytes of a shape of ``rank`` dimensions, batch not counted."""
    return 8 + 4 * rank


def weighted_terms(kind: Literal["conv", "dw", "fc"], weights: int, out_channels: int, name_length: int, *, full: bool) -> Terms:
    """A convolution or fully connected layer with ``weights`` bytes of weights and an operator name of ``name_length`` characters,
    without its output tensor.

    Not in it: what equal channel counts share, see :func:`shared_terms`. Integer arrays give arrays.
    """
    table = QUANTIZATION_LAST if kind == "dw" else QUANTIZATION
    scales = 4 if kind == "fc" else 4 * out_channels  # of the weights, without the length
    front = _OPERATOR + 16
    front += 4 + tensor_form(name=full, buffer=True).size + shape_bytes(1 if kind == "fc" else 3) + table.size
    front += 4 + tensor_form(name=full, buffer=True, quantized=full).size
    front += (2 * name_bytes(name_length + 2) + QUANTIZATION.size) if full else 0
    front += 2 * 4  # the list of buffers
    biases = 4 * out_channels
    return Terms(
        front,
        0,
        2 * (4 + scales) if full else 4 + scales,
        constant_bytes(weights) + constant_bytes(biases),
        houses_table(weights) + houses_table(biases),
        2,
        2,
    )


def mean_terms(name_length: int, *, full: bool) -> Terms:
    """A global average pooling with its axes, whose content (8 B) and shape all share, without its output tensor."""
    front = _OPERATOR + 12 + 4 + tensor_form(name=full, buffer=True, quantized=False).size
    return Terms(front + (name_bytes(name_length + 5) if full else 0), 0, 0, 0, 0, 0, 1)


def resize_terms(name_length: int, *, full: bool) -> Terms:
    """A resizing with the size that it makes, a constant of 8 bytes of its own, without its output tensor."""
    front = _OPERATOR + 12 + 4 + tensor_form(name=full, buffer=True, quantized=False).size + 8 + 4  # shape, entry in the list of buffers
    return Terms(front + (name_bytes(name_length + 5) if full else 0), 0, 0, constant_bytes(8), houses_table(8), 1, 1)


def plain_terms(inputs: int) -> Terms:
    """An operator without constants that reads ``inputs`` tensors, without its output tensor."""
    return Terms(_OPERATOR + 4 + 4 * inputs, 0, 0, 0, 0, 0, 0)


class OpTerms(NamedTuple):
    """What an operator and its output add to a file: sums, and what it shares with others."""

    terms: Terms
    key: OptionKey
    """Its options table."""
    channels: tuple[int, ...]
    """Output channels of a convolution: its zero points and bias shape serve all that have as many."""
    dense: tuple[int, ...]
    """Outputs of a fully connected layer: its bias shape does."""


_Window: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Kernel, stride, dilation."""


def op_terms(op: Op, source: Shape, target: Shape, target_name: str, full: bool, shares_shape: bool) -> OpTerms:
    """The terms of ``op`` that turns a tensor of shape ``source`` into one of ``target``.

    ``shares_shape``: the output lies beside another operand of the operator that reads it, whose shape it shares. Sizes
    may be integer arrays, which give arrays.
    """
    window: _Window | None = None
    act: Activation = "none"
    weights = out = 0
    match op:
        case Conv2D():
            out, window, act = op.out_channels, (op.kernel, op.stride, op.dilation), op.act
            weights = packed_bytes(op.in_channels * out * op.kernel[0] * op.kernel[1], op.weight_bits)
        case DepthwiseConv2D():
            out, window, act = op.channels, (op.kernel, op.stride, op.dilation), op.act
            weights = packed_bytes(out * op.kernel[0] * op.kernel[1], op.weight_bits)
        case FullyConnected():
            out, act = op.out_features, op.act
            weights = packed_bytes(op.in_features * out, op.weight_bits)
        case Add() | Mul():
            act = op.act
        case Mean() | HardSwish() | Resize():
            pass
        case Pool2D():
            window = (op.kernel, op.stride, (1, 1))
        case _:
            assert_never(op)
    given = (op.kind, weights, out, window, act, source, target, len(op.name), len(target_name), full, shares_shape)
    try:
        return _cached_terms(*given)
    except TypeError:  # arrays cannot be looked up
        return _terms(*given)


def _terms(
    kind: Kind,
    weights: int,
    out: int,
    window: _Window | None,
    act: Activation,
    source: Shape,
    target: Shape,
    name_length: int,
    target_length: int,
    full: bool,
    shares_shape: bool,
) -> OpTerms:
    """:func:`op_terms` from what the terms depend on."""
    key: OptionKey
    match kind:
        case "conv" | "dw":
            assert window is not None
            own = weighted_terms(kind, weights, out, name_length, full=full)
            apart = () if window[2] == (1, 1) else window[2:]
            key = (kind, window[1], act, same_window(window[1], source, target), *apart)
        case "fc":
            own, key = weighted_terms(kind, weights, out, name_length, full=full), (kind, act)
        case "add" | "mul":
            own, key = plain_terms(2), (kind, act)
        case "max_pool" | "avg_pool":
            assert window is not None
            own, key = plain_terms(1), (kind, *window[:2], same_window(window[1], source, target))
        case "mean":
            own, key = mean_terms(name_length, full=full), (kind,)
        case "hard_swish":
            own, key = plain_terms(1), (kind,)
        case "resize":
            own, key = resize_terms(name_length, full=full), (kind,)
        case _:
            assert_never(kind)
    written = activation_terms(target_length, full=full, own_grid=kind not in ("max_pool", "avg_pool", "resize"))
    terms = Terms(*[a + b for a, b in zip(own, written, strict=True)])
    if not shares_shape:
        terms = terms._replace(front=terms.front + shape_bytes(len(target)) * differs(source, target))
    return OpTerms(terms, key, (out,) if kind in ("conv", "dw") else (), (out,) if kind == "fc" else ())


_cached_terms = lru_cache(maxsize=65536)(_terms)


def differs(source: Shape, target: Shape) -> int:
    """1 where two shapes differ, 0 where they are equal; arrays give an array."""
    if len(source) != len(target):
        return 1
    different: Any = False
    for a, b in zip(source, target, strict=True):
        different = different | (a != b)
    changed: int = different * 1
    return changed


def shared_terms(channels: Iterable[int], classes: Iterable[int]) -> Terms:
    """What operators share: zero points per distinct output channels of convolutions (``channels``) or of 1 for fully
    connected layers, and the shapes of biases (``classes``: outputs of fully connected layers)."""
    convolved, dense = set(channels), set(classes)
    parts = [zero_point_terms(count, 3) for count in convolved]
    if dense and 1 not in convolved:
        parts.append(zero_point_terms(1, 1))
    parts.append(Terms(BIAS_SHAPE_BYTES * len(convolved | dense), 0, 0, 0, 0, 0, 0))
    return Terms(*[sum(column) for column in zip(*parts, strict=True)])


#: Bytes of the shape of a bias.
BIAS_SHAPE_BYTES = 8


def zero_point_terms(count: int, rank: int) -> Terms:
    """``count`` zero points that all weights with as many share; the first of these weights is of ``rank`` (batch not counted).

    Its shape lies before the zero points: it brings their 8-byte elements to their alignment.
    """
    shape = shape_bytes(rank)
    return Terms(-shape, shape + 4 + 8 * count, 0, 0, 0, 0, 0)


def total_bytes(terms: Terms) -> int:
    """The file's size from the sum of all terms; integer arrays give arrays."""
    front, quantisation, scales, constants, houses, contents, _ = terms
    spare = contents - 1 - houses  # tables of contents for which no padding is left: max(spare, 0), written for arrays
    tables = 8 + 8 * (spare * (spare > 0))
    at = ((front + tables + 7) & ~7) + quantisation + scales
    return ((at - 12 + 15) & ~15) + 12 + constants


def additive_bytes(terms: Terms) -> int:
    """The part of ``terms`` that is sure to be in a file's size whatever else is in it; parts add up to at most the whole."""
    front, quantisation, scales, constants, houses, contents, _ = terms
    return front + quantisation + scales + constants + 8 * (contents - houses)


@lru_cache(maxsize=65536)
def structure_terms(keys: frozenset[OptionKey], *, io: Io, flavour: Flavour, plan: bool) -> Terms:
    """What depends only on which operators and options there are: header, vtables, options, codes, lists, io operators."""
    full = flavour == "full"
    kinds = {key[0] for key in keys}
    codes = [kind for kind in OP_FORMS if kind in kinds] + sorted(set(ENDS[io]))
    entries = int(full) + int(plan)
    model = MODEL_METADATA if entries else MODEL
    front = 8 + model.size + 4 + len(codes) * (4 + OPERATOR_CODE.size) + 8 + SUBGRAPH.size
    front += 8 + 4 + 4  # inputs, tensors, operators; the outputs are the last operator's
    front += 4 + 4 + EMPTY.size  # buffers, the first of which is empty
    distinct = {(form, key[1:]) for key in keys if (form := options_form(key)) is not EMPTY}
    front += sum(form.size for form, _ in distinct)
    forms = [model, OPERATOR_CODE, SUBGRAPH, QUANTIZATION, BUFFER, EMPTY, OPERATOR, tensor_form(name=full), *map(options_form, keys)]
    forms += [OPERATOR_CODED] if len(keys) and len(kinds) > 1 else []
    if kinds & {"conv", "dw", "fc"}:
        forms += [tensor_form(name=full, buffer=True), tensor_form(name=full, buffer=True, quantized=full)]
    forms += [QUANTIZATION_LAST] if "dw" in kinds else []
    tensors = quantisation = scales = 0
    if kinds & {"mean", "resize"}:
        forms.append(tensor_form(name=full, buffer=True, quantized=False))
    if "mean" in kinds:
        front += 8 + 4  # the shape of the axes, their entry in the list of buffers
    if io != "int8":
        typed = io == "uint8"
        tensor = tensor_form(name=full, quantized=typed, typed=typed)
        forms += [OPERATOR_PLAIN, tensor]
        # Two operators with one input and one output each, two tensors; shapes are those of the inner ones.
        front += 2 * (4 + OPERATOR_PLAIN.size + 8 + 8 + 4 + tensor.size)
        front += sum(name_bytes(len(name)) for name in IO_NAMES) if full else 0
        tensors = 2
        quantisation, scales = (48, 16) if typed else (0, 0)
    if entries:
        forms.append(METADATA)
        front += 4 + entries * (4 + METADATA.size + 4)
        front += (name_bytes(len(METADATA_NAME)) if full else 0) + (name_bytes(len(PLAN_NAME)) if plan else 0)
    front += (sum(map(len, {form.vtable() for form in forms})) + 3) & ~3
    axes = "mean" in kinds
    return Terms(front, quantisation, scales, constant_bytes(8) if axes else 0, houses_table(8) if axes else 0, int(axes), tensors)


_activation = lru_cache(maxsize=1024)(activation_terms)
_shared = lru_cache(maxsize=65536)(shared_terms)


def paired_outputs(ops: Iterable[Op]) -> frozenset[int]:
    """Tensors that take their shape from the other operand of the addition that reads them: the later of the two."""
    return frozenset([max(op.inputs) for op in ops if op.kind == "add"])


def file_bytes(
    graph: Graph,
    *,
    labels: Sequence[str] | None = None,
    io: Io = "int8",
    flavour: Flavour = "full",
    plan: bool = True,
    metadata: int | None = None,
) -> int:
    """Bytes of the .tflite of ``graph``, exact.

    ``labels`` matter only where they are longer than :data:`LABEL_BYTES` - 3 bytes on average; ``metadata`` overrides
    the bytes of the metadata. ``plan`` says whether the file carries an offline memory plan.
    """
    full = flavour == "full"
    tensors, ops = graph.tensors, graph.ops
    source = tensors[graph.inputs[0]]
    paired = paired_outputs(ops)
    written = [
        op_terms(op, tensors[op.inputs[0]].shape, (target := tensors[op.output]).shape, target.name, full, op.output in paired)
        for op in ops
    ]
    own, keys, convolved, connected = zip(*written, strict=True)
    terms = [_activation(len(source.name), full=full), *own]
    channels = {count[0] for count in convolved if count}
    dense = {count[0] for count in connected if count}
    front = shape_bytes(len(source.shape)) - CODE_BYTES * first_kind_count([op.kind for op in ops])
    front += 4 + 4 * len(graph.outputs) if len(graph.outputs) > 1 else 0  # a list of their own
    terms.append(_shared(tuple(sorted(channels)), tuple(sorted(dense))))
    terms.append(structure_terms(frozenset(keys), io=io, flavour=flavour, plan=plan))
    sums = list(map(sum, zip(*terms, strict=True)))
    sums[0] += front
    contents = [12 + 4 * sums[6]] if plan else []
    if full:
        formula = graph.input.written
        known = metadata_reserve(graph.shape(graph.outputs[0])[-1], formula) if labels is None else metadata_bytes(tuple(labels), formula)
        contents.append(known if metadata is None else metadata)
    return total_bytes(with_contents(Terms(*sums), contents))


def with_contents(terms: Terms, contents: Sequence[int]) -> Terms:
    """``terms`` and further contents of these bytes (metadata, the memory plan)."""
    for size in contents:
        terms = terms._replace(
            constants=terms.constants + constant_bytes(size), houses=terms.houses + houses_table(size), contents=terms.contents + 1
        )
    return terms


def first_kind_count(kinds: Sequence[Kind]) -> int:
    """How many of an operator list are of the kind whose code comes first in the file (and is not stored)."""
    return next((count for kind in OP_FORMS if (count := kinds.count(kind))), 0)


def same_window(stride: tuple[int, int], source: Sequence[int], target: Sequence[int]) -> bool:
    """True where the output of a window of ``stride`` is SAME's (input size / stride, rounded up); else it is VALID's.

    Raises InternalError for arrays of which some are and some are not: they are networks of two structures.
    """
    (height, width), (rows, columns), (down, across) = source[:2], target[:2], stride
    vertical: Any = rows == -(-height // down)
    horizontal: Any = columns == -(-width // across)
    if not hasattr(vertical, "all") and not hasattr(horizontal, "all"):
        return bool(vertical and horizontal)
    for equal in (vertical, horizontal):
        if hasattr(equal, "all") and bool(equal.any()) != bool(equal.all()):
            raise InternalError("windows are SAME for some sizes of a table and VALID for others", "tabulate the two apart")
    return all(bool(equal.all() if hasattr(equal, "all") else equal) for equal in (vertical, horizontal))
