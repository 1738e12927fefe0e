"""The exact size of the .tflite that tinynas writes, from arithmetic alone.

:mod:`tinynas.export.tflite` lays a file out so that its size is a plain sum, and both read the table layouts
below, so the two cannot drift apart. With C output channels, W weights, r4 = rounding up to 4, a file is::

    16-aligned( 8-aligned(front) + quantisation + scales - 12 ) + 12 + constants

* front: header, vtables (each kind once), every table, shape, list and string; each a multiple of 4 bytes. An
  operator's output shares its shape with its input where they are equal, and so do the two operands of an add.
* quantisation: 24 B for each activation with a grid of its own (its table and its zero point), and once for every
  *distinct* C a vector of C zero points, which all weights and biases with C channels share.
* scales: 4 + 4C B for weights and again for biases (full flavour), 8 B per activation.
* constants: 4 + r4(n) B of content, padded so that the next content begins on a multiple of 16; of B contents, H
  leave a gap of 8 B or more behind them, which houses the next one's table.

Nothing depends on the values of weights: the size is known before training. The functions on single numbers work
on numpy integer arrays as well.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, NamedTuple, TypeAlias, assert_never

from tinynas import __version__
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Pool2D

Io = Literal["int8", "uint8", "float"]
"""Type of the file's input and output; the network inside is int8."""
Flavour = Literal["full", "lean"]
"""``full``: tensor names, bias scales, metadata. ``lean``: none of them; smallest, for files that only TFLM reads."""

#: Bytes of the metadata kept for each label: a file whose labels are shorter is padded, so that its size is known
#: without them. Quotes and comma take 3.
LABEL_BYTES = 12
METADATA_NAME = "tinynas"
PLAN_NAME = "OfflineMemoryAllocation"
INPUT_FORMULA = "(pixel-128)/128"
IO_NAMES = ("image", "scores")
"""Names of the input and output where they are not int8."""


@dataclass(frozen=True, slots=True)
class Form:
    """A flatbuffer table that has these fields: (field number, bytes) in the order in which they lie in memory."""

    fields: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the table, its vtable offset included, rounded up to 4."""
        return (4 + sum(size for _, size in self.fields) + 3) & ~3

    def offsets(self) -> dict[int, int]:
        """Field number -> offset in the table."""
        found, at = {}, 4
        for number, size in self.fields:
            found[number] = at
            at += size
        return found

    def vtable(self) -> bytes:
        """The vtable; equal ones are written once."""
        offsets = self.offsets()
        slots = [offsets.get(number, 0) for number in range(max(offsets, default=-1) + 1)]
        return struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), self.size, *slots)


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
("conv" | "dw", stride, act, same) or ("max_pool" | "avg_pool", kernel, stride, same) or ("fc" | "add" | "mean", act)."""

#: Operator codes: (options kind, builtin code, version), in the order in which a file lists those it uses.
#: Versions are those in which the int8 kernels appeared.
OPERATOR_CODES: tuple[tuple[str, int, int], ...] = (
    ("conv", 3, 3),
    ("dw", 4, 3),
    ("add", 0, 2),
    ("mean", 40, 2),
    ("fc", 9, 4),
    ("max_pool", 17, 2),
    ("avg_pool", 1, 2),
    ("quantize", 114, 2),
    ("dequantize", 6, 2),
)


@cache
def options_form(key: OptionKey) -> Form:
    """The options table of ``key``."""
    kind = key[0]
    if kind in ("conv", "dw"):
        _, _, act, same = key
        fields = [(1, 4), (2, 4)] + ([(3, 4)] if kind == "dw" else [])
        fields += [(4 if kind == "dw" else 3, 1)] if act != "none" else []
        return Form((*fields, *(() if same else ((0, 1),))))
    if kind in ("max_pool", "avg_pool"):
        return Form(((1, 4), (2, 4), (3, 4), (4, 4), *(() if key[3] else ((0, 1),))))
    return EMPTY if kind == "mean" or key[1] == "none" else ACT_ONLY


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
    labels: Sequence[str], *, classes: int, arch_id: str = "0123456789", version: str = __version__, input_rotation: int = 0
) -> bytes:
    """The metadata of a full file: one JSON object, padded with spaces to what :data:`LABEL_BYTES` a class allow for."""
    return _metadata(version, arch_id, input_rotation, labels).ljust(metadata_reserve(classes))


@lru_cache(maxsize=256)
def metadata_reserve(classes: int) -> int:
    """Bytes of the metadata of a file with ``classes`` classes whose labels keep to :data:`LABEL_BYTES` on average."""
    return len(_metadata(__version__, "0123456789", 180, ())) + LABEL_BYTES * classes


def _metadata(version: str, arch_id: str, input_rotation: int, labels: Sequence[str]) -> bytes:
    document = {"tinynas": version, "arch": arch_id, "input": INPUT_FORMULA, "input_rotation": input_rotation, "labels": list(labels)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


@lru_cache(maxsize=256)
def metadata_bytes(labels: tuple[str, ...]) -> int:
    """Bytes of the metadata with these labels."""
    return len(metadata_json(labels, classes=len(labels)))


class Terms(NamedTuple):
    """What an operator adds to the sums of the file's size."""

    front: int
    quantisation: int
    scales: int
    constants: int
    houses: int
    contents: int
    tensors: int


# Sizes of what every operator has: its entry in the list, its table (20 B for the kind with code 0, see
# ``file_bytes``), its list of one output; and of a tensor: its entry, its table.
_OPERATOR = 4 + 24 + 8


def activation_terms(name_length: int, *, full: bool, own_grid: bool = True) -> Terms:
    """An activation tensor without its shape; pooling outputs have no grid of their own but their input's."""
    front = 4 + tensor_form(name=full).size + (name_bytes(name_length) if full else 0)
    return Terms(front, 24 if own_grid else 0, 8 if own_grid else 0, 0, 0, 0, 1)


def shape_bytes(rank: int) -> int:
    """Bytes of a shape of ``rank`` dimensions, batch not counted."""
    return 8 + 4 * rank


def weighted_terms(kind: Literal["conv", "dw", "fc"], weights: int, out_channels: int, name_length: int, *, full: bool) -> Terms:
    """A convolution or fully connected layer of an operator name of ``name_length`` characters, without its output tensor.

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


def shared_terms(channels: Iterable[int], classes: Iterable[int]) -> Terms:
    """What operators share: zero points per distinct output channels of convolutions (``channels``) or of 1 for fully
    connected layers, and the shapes of biases (``classes``: outputs of fully connected layers)."""
    convolved, dense = set(channels), set(classes)
    front, quantisation = 8 * len(convolved | dense), 0
    for count in convolved | ({1} if dense else set()):
        # A weight shape lies before the zero points: it brings their 8-byte elements to their alignment.
        shape = shape_bytes(3 if count in convolved else 1)
        front -= shape
        quantisation += shape + 4 + 8 * count
    return Terms(front, quantisation, 0, 0, 0, 0, 0)


def total_bytes(terms: Terms) -> int:
    """The file's size from the sum of all terms; integer arrays give arrays."""
    front, quantisation, scales, constants, houses, contents, _ = terms
    spare = contents - 1 - houses  # tables of contents for which no padding is left: max(spare, 0), written for arrays
    tables = 8 + 8 * (spare * (spare > 0))
    at = ((front + tables + 7) & ~7) + quantisation + scales
    return ((at - 12 + 15) & ~15) + 12 + constants


@lru_cache(maxsize=65536)
def structure_terms(keys: frozenset[OptionKey], *, io: Io, flavour: Flavour, plan: bool) -> Terms:
    """What depends only on which operators and options there are: header, vtables, options, codes, lists, io operators."""
    full = flavour == "full"
    kinds = {key[0] for key in keys}
    codes = [kind for kind, _, _ in OPERATOR_CODES if kind in kinds] + {"int8": [], "uint8": [""], "float": ["", ""]}[io]
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
    if "mean" in kinds:
        forms.append(tensor_form(name=full, buffer=True, quantized=False))
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


_weighted = lru_cache(maxsize=65536)(weighted_terms)
_activation = lru_cache(maxsize=1024)(activation_terms)
_mean = lru_cache(maxsize=1024)(mean_terms)
_shared = lru_cache(maxsize=65536)(shared_terms)


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
    tensors = graph.tensors
    terms = [_activation(len(tensors[graph.input].name), full=full)]
    front = shape_bytes(len(tensors[graph.input].shape))
    keys: set[OptionKey] = set()
    channels: list[int] = []
    classes: list[int] = []
    first, count_first = len(OPERATOR_CODES), 0
    paired = {max(op.input, op.other) for op in graph.ops if type(op) is Add}
    for op in graph.ops:
        target = tensors[op.output]
        source, shape = tensors[op.input].shape, target.shape
        own_grid = True
        match op:
            case Conv2D():
                out, code = op.out_channels, 0
                weights = op.in_channels * out * op.kernel[0] * op.kernel[1]
                terms.append(_weighted("conv", weights, out, len(op.name), full=full))
                keys.add(("conv", op.stride, op.act, same_size(source, shape, op.stride)))
                channels.append(out)
            case DepthwiseConv2D():
                out, code = op.channels, 1
                terms.append(_weighted("dw", out * op.kernel[0] * op.kernel[1], out, len(op.name), full=full))
                keys.add(("dw", op.stride, op.act, same_size(source, shape, op.stride)))
                channels.append(out)
            case Add():
                code = 2
                front += _OPERATOR + 12
                keys.add(("add", op.act))
            case Mean():
                code = 3
                terms.append(_mean(len(op.name), full=full))
                keys.add(("mean",))
            case FullyConnected():
                code = 4
                terms.append(_weighted("fc", op.in_features * op.out_features, op.out_features, len(op.name), full=full))
                keys.add(("fc", op.act))
                classes.append(op.out_features)
            case Pool2D():
                code = 5 if op.op == "max" else 6
                front += _OPERATOR + 8
                own_grid = False
                keys.add((f"{op.op}_pool", op.kernel, op.stride, same_size(source, shape, op.stride)))
            case _:
                assert_never(op)
        terms.append(_activation(len(target.name), full=full, own_grid=own_grid))
        if shape != source and op.output not in paired:
            front += shape_bytes(len(shape))
        if code < first:
            first, count_first = code, 1
        elif code == first:
            count_first += 1
    front -= 4 * count_first  # operator code 0 is the default and is not stored
    terms.append(_shared(tuple(sorted(set(channels))), tuple(sorted(set(classes)))))
    terms.append(structure_terms(frozenset(keys), io=io, flavour=flavour, plan=plan))
    sums = [sum(column) for column in zip(*terms, strict=True)]
    sums[0] += front
    for size in _metadata_contents(labels, graph.classes, metadata, sums[6], full=full, plan=plan):
        sums[3] += constant_bytes(size)
        sums[4] += houses_table(size)
        sums[5] += 1
    return total_bytes(Terms(*sums))


def same_size(source: Sequence[int], target: Sequence[int], stride: tuple[int, int]) -> bool:
    """True where a window's output is SAME's (input size / stride, rounded up); else it is VALID's."""
    return target[0] == -(-source[0] // stride[0]) and target[1] == -(-source[1] // stride[1])


def _metadata_contents(
    labels: Sequence[str] | None, classes: int, metadata: int | None, tensors: int, *, full: bool, plan: bool
) -> list[int]:
    contents = [12 + 4 * tensors] if plan else []
    if full:
        known = metadata_reserve(classes) if labels is None else metadata_bytes(tuple(labels))
        contents.append(known if metadata is None else metadata)
    return contents
