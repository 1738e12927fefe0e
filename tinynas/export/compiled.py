"""A quantised network as C: two files of C99 without heap, recursion or interpreter, for one work area of the promised size.

The network is computed as :mod:`tinynas.cost.streamed` plans it; the arithmetic is TFLM's, bit for bit (:mod:`tinynas.quantize.integer`).
The zero point of an input goes into the biases, since what lies outside of a map is given as that zero point; a depthwise convolution
leaves out what lies outside, and takes the zero point off what it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple, assert_never

import numpy as np
from numpy.typing import NDArray

from tinynas import __version__
from tinynas.cost.compiled import BLOCK, WIDE_INDEX, constant_bytes, kernel_of, most_rows, network_stack
from tinynas.cost.runtimes import refuse, runtime_named
from tinynas.cost.schema import packed_bytes
from tinynas.cost.streamed import Frame, Place, StreamPlan, plan_streamed, row_bytes, rows_left, rows_of, steps_of, taps_of, window_of
from tinynas.cost.work import from_graph
from tinynas.errors import InternalError, UserError
from tinynas.export.formats import Made
from tinynas.export.rotate import turned_back
from tinynas.files import write_atomic
from tinynas.graph import Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, HardSwish, Mean, Mul, Op, Pool2D, Resize, largest, nearest
from tinynas.quantize.fake import ADD_SHIFT, activation_range, swished
from tinynas.quantize.grid import QuantizedGraph
from tinynas.quantize.integer import fixed_point

#: Kind of kernel -> (template of its code, how a step calls it).
KERNELS: dict[str, tuple[str, str]] = {
    "dense": ("dense", "dense(o, o->in_c, rows[0], (uint32_t)o->in_c * o->stride_w, o->out_w, y);"),
    "dense4": ("narrow", "dense4(o, o->in_c, rows[0], (uint32_t)o->in_c * o->stride_w, o->out_w, y);"),
    "dense2": ("narrow", "dense2(o, o->in_c, rows[0], (uint32_t)o->in_c * o->stride_w, o->out_w, y);"),
    "conv": ("conv", "conv_row(o, rows, scratch, y);"),
    "conv4": ("conv", "conv_row(o, rows, scratch, y);"),
    "conv2": ("conv", "conv_row(o, rows, scratch, y);"),
    "dw": ("dw", "dw_row(o, rows, scratch, y);"),
    "dw4": ("dw", "dw_row(o, rows, scratch, y);"),
    "dw2": ("dw", "dw_row(o, rows, scratch, y);"),
    "add": ("add", "add_row(o, rows[0], row_of(m, o->input2, at), y);"),
    "mul": ("mul", "mul_row(o, rows[0], row_of(m, o->input2, at < o->in2_h ? at : o->in2_h - 1u), y);"),
    "max_pool": ("max_pool", "max_pool_row(o, rows, y);"),
    "max_gather": ("max_gather", "max_gather_row(o, rows[0], at % o->each == 0, y);"),
    "avg_pool": ("avg_pool", "avg_pool_row(o, rows, y);"),
    "hard_swish": ("hard_swish", "hard_swish_row(o, rows[0], y);"),
    "resize": ("resize", "resize_row(o, rows[0], y);"),
    "mean": ("mean", "mean_row(o, at, rows[0], (int32_t *)(void *)scratch, y);"),
}


#: Kinds whose kernels are made of matrix products, by the bits of their weights; and those of depthwise convolutions.
_PRODUCTS: dict[int, frozenset[str]] = {
    8: frozenset({"dense", "conv"}),
    4: frozenset({"dense4", "conv4"}),
    2: frozenset({"dense2", "conv2"}),
}
_CONVS, _DEPTHWISE = {"conv": "dense", "conv4": "dense4", "conv2": "dense2"}, {"dw": 8, "dw4": 4, "dw2": 2}

_TAKEN: dict[Frame, str] = {"rows": "row by row", "kept": "frame by frame"}


@dataclass
class _Constants:
    """What an operator reads from flash."""

    weights: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    numbers: list[int] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    wide: bool = False
    """Whether its sums, shifted left where they are, may leave +-2^30."""
    left: bool = False
    """Whether a channel's sums are not shifted right, which is rounded once, not twice."""


Sums = Literal["right", "left", "wide"]
"""How sums become outputs: all are shifted right, and rounded twice; some are not, and rounded once; some may leave +-2^30, and all are
rounded in 64 bits."""


@dataclass(frozen=True)
class CompiledModel:
    """The two files, and what they take."""

    name: str
    files: dict[str, bytes]
    plan: StreamPlan
    constant_bytes: int
    """Weights, biases, multipliers, shifts and tables, in flash."""
    sums: Sums

    def stack_bytes(self, core: str | None) -> int:
        """Bytes of stack that it promises not to exceed on ``core``, interrupts excluded; on any where that is None."""
        return network_stack(self.plan.graph, core)

    @property
    def work_bytes(self) -> int:
        """SRAM beside the stack."""
        return self.plan.work_bytes

    @property
    def most_rows(self) -> int:
        """Most rows that a step reads: it keeps a pointer to each."""
        return most_rows(self.plan.graph.ops)


def compile_network(
    qgraph: QuantizedGraph,
    *,
    name: str = "network",
    frame: Frame = "rows",
    file: str | None = None,
    rotation: int = 0,
    shape: tuple[int, int, int] | None = None,
    learned: bool = False,
) -> CompiledModel:
    """``qgraph`` as ``FILE.h`` and ``FILE.c`` (None: ``NAME``). ``name`` becomes the prefix of all names in C. ``rotation`` is 180 for a
    network that reads its images upside down (:mod:`tinynas.export.rotate`): compiled, it reads them as they are. ``shape``: what the
    header says of its input, another view of the same bytes of each row (None: the input's own). ``learned``: what the last operator
    reads is to be there behind it, because the network learns from it.

    Raises UserError for a name that C cannot hold, or a network of several outputs or of weights that are no int8.
    """
    check_compilable(qgraph, name)
    if rotation:
        qgraph = turned_back(qgraph)
    graph = qgraph.graph
    plan = plan_streamed(graph, frame=frame)
    kinds = [kernel_of(op) for op in graph.ops]
    constants = [constants_for(qgraph, op) for op in graph.ops]
    sums = sums_of(constants)
    file = file or name
    words = {**_words(qgraph, plan, name, shape or graph.input.shape), "file": file}
    used = [kind for kind in KERNELS if kind in kinds]
    words |= bits_words(used) | _rows_words(graph)
    words |= {"done": "", "done_row": ""}
    if learned and rows_left(graph, *plan.segments[-1]):
        # Nothing reads the rows that are left, but they would be written over what is learned from.
        words["done"] = "\n    if (m->at[count - 1u] == ops[count - 1u].steps) return;"
        if len(plan.segments) == 1:
            last = len(graph.ops) - 1
            words["done_row"] = fill(
                f"\n  if (m->at[{last}] == operators[{last}].steps) return ++m->rows >= @UPPER@_HEIGHT; /* nothing reads it */", words
            )
    words["cases"] = "\n".join(f"    case {kind.upper()}: {KERNELS[kind][1]} break;" for kind in used)
    kernels = kernel_sections(used, sums=sums, products=words["products"] == "products")
    sections = ["rows_of", *kernels, "place_resized" if "resize" in used else "place_plain", "driver", frame]
    body = kernel_text(sections, sums=sums)
    enum = "enum { " + ", ".join(kind.upper() for kind in used) + " };\n"
    tables = _tables(qgraph, plan, kinds, constants)
    code = fill(template("types.c"), words) + "\n" + enum + tables + fill(body, words)
    header = fill(template("model.h"), {**words, "api": fill(template(f"{frame}.h"), words)})
    files = {f"{file}.h": header.encode(), f"{file}.c": code.encode()}
    return CompiledModel(name, files, plan, constant_bytes(plan), sums)


def _rows_words(graph: Graph) -> dict[str, str]:
    """Rows that a step spans, and which of them it reads: counted in rows where those lie apart."""
    if not dilated(graph):
        return {"spanned": "o->window", "row": "i"}
    return {"spanned": "(o->window - 1u) * o->apart + 1u", "row": "i * o->apart"}


def dilated(graph: Graph) -> bool:
    """Whether a step of ``graph`` reads rows that lie apart."""
    return any(taps_of(op)[1] > 1 for op in graph.ops)


def check_compilable(qgraph: QuantizedGraph, name: str) -> None:
    """Raise UserError for a ``name`` that C cannot hold, weights of more than 8 bits, or kernels whose taps are apart along the width."""
    refuse(runtime_named("compiled"), from_graph(qgraph.graph).pieces)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r} cannot begin names in C", "use small letters, digits and underscores, a letter first")
    if qgraph.bits > 8:
        raise UserError(f"weights of {qgraph.bits} bits cannot be compiled", "use 8 bits or fewer")


def sums_of(constants: Sequence[_Constants]) -> Sums:
    """What the sums of a network of these ``constants`` need."""
    return "wide" if any(one.wide for one in constants) else "left" if any(one.left for one in constants) else "right"


def kernel_sections(used: Sequence[str], *, sums: Sums, products: bool) -> list[str]:
    """The templates of the kernels of kinds ``used``, in order. ``products``: convolutions choose."""
    wide = sums == "wide"
    widths = [bits for bits, those in _PRODUCTS.items() if those & set(used)]
    weighted, paired = bool(widths or _DEPTHWISE.keys() & set(used)), bool({"add", "mul"} & set(used))
    sections = ["rescale_wide"] if wide or "mean" in used else []
    sections += ["rescale_narrow"] if not wide and (weighted or paired) else []
    sections += ["rescale_add"] if not wide and paired else []
    sections += ["dot", {"right": "output_narrow", "left": "output_left", "wide": "output_wide"}[sums]] if weighted else []
    sections += ["dense"] if 8 in widths else []
    sections += ["parts"] if {4, 2} & set(widths) else []
    sections += [f"narrow{bits}" for bits in widths if bits < 8]
    sections += ["products"] if products else []
    sections += ["unpack"] if {"dw4", "dw2"} & set(used) else []
    return sections + list(dict.fromkeys(KERNELS[kind][0] for kind in used if KERNELS[kind][0] not in {"dense", "narrow"}))


def kernel_text(sections: Sequence[str], *, sums: Sums) -> str:
    """The code of ``sections``, of which words are still to be filled in."""
    body = "".join(_narrow(int(section[-1])) if section in {"narrow4", "narrow2"} else template(f"{section}.c") for section in sections)
    if sums != "wide":
        return body
    # Called, not copied to each of its places, which took 2.3 kB: so the code is no larger than that of networks that need it not, which
    # is what was promised before weights were known.
    body = body.replace("static inline int32_t rescale_wide(", "static APART int32_t rescale_wide(")
    return re.sub(r"\brescale\(", "rescale_wide(", body)


def write_format(made: Made, folder: Path) -> Path:
    """The format ``compiled``: the C files of the network. Raises UserError where the model is not of tinynas's own quantiser."""
    if made.qgraph is None:
        raise UserError("--format compiled: the model was quantised by another exporter", "use the exporter tinynas, and --io int8")
    target = folder / "compiled"
    frame = runtime_named(made.runtime).frame or "rows"
    for path, content in compile_network(made.qgraph, frame=frame, rotation=made.input_rotation).files.items():
        write_atomic(target / path, content)
    return target


#: How four weights in order, of so many bits, are put into bytes 0 and 2 of a word.
_SPREAD = {
    4: "  return (uint32_t)(uint8_t)w[0] | (uint32_t)(uint8_t)w[1] << 16;",
    2: "  const uint32_t four = (uint8_t)*w;\n  return (four & 15u) | (four & 240u) << 12;",
}


def _narrow(bits: int) -> str:
    """The matrix products for weights of ``bits``."""
    parts = range(8 // bits)
    high = f"0x{(0xFF << 8 - bits) & 0xFF:02x}u"
    above = [8 - bits * (part + 1) for part in parts]
    words = {
        "bits": str(bits),
        "group": str(32 // bits),
        "up": str(8 - bits),
        "next": str(8 - 2 * bits),
        "high": high,
        "each": str(len(parts)),
        "four": str(bits // 2),
        "parts": "\n".join(f"      PART({above[part]}, {high}, x0 + {4 * part});" for part in parts),
        "words": "\n".join(f"        ONE({24 + above[part]}, {bits}, x0 + {4 * part});" for part in parts),
        "row": "\n".join(f"      ONE({24 + above[part]}, {bits}, x0 + {part});" for part in parts),
        "spread": _SPREAD[bits],
    }
    return fill(template("narrow.c"), words)


def bits_words(used: Sequence[str]) -> dict[str, str]:
    """What the kernels of a network with these kinds of operators call for the bits of their weights."""
    convs = [kind for kind in _CONVS if kind in used]
    cases = [f"    case {kind.upper()}: {_CONVS[kind]}(o, k, x, step, n, y); break;" for kind in convs]
    found = {
        "products": "products" if len(convs) > 1 else _CONVS[convs[0]] if convs else "",
        "products_cases": "\n".join(cases),
        "dw_weights": "const int8_t *block = o->weights;",
        "dw_next": "block += kernel_h * kernel_w * 4",
        "dw_block": "",
    }
    depthwise = [kind for kind in _DEPTHWISE if kind in used]
    if {"dw4", "dw2"} & set(depthwise):
        *others, last = (f"{_DEPTHWISE[kind]}" for kind in depthwise)
        bits = "".join(f"o->kind == {kind.upper()} ? {one} : " for kind, one in zip(depthwise, others, strict=False)) + last
        block = "unpacked(weights, each, bits, line + 4u * o->out_w)"
        found |= {
            "dw_weights": f"const int8_t *weights = o->weights;\n  const uint32_t each = kernel_h * kernel_w * 4, bits = {bits};",
            "dw_next": "weights += (each * bits + 7) / 8",
            "dw_block": f"const int8_t *const block = {'bits == 8 ? weights : ' if 'dw' in depthwise else ''}{block};\n    ",
        }
    return found


# constants -----------------------------------------------------------------------------------------------


def constants_for(qgraph: QuantizedGraph, op: Op) -> _Constants:
    """What ``op`` reads from flash."""
    target = qgraph.tensors[op.output]
    source = qgraph.tensors[op.inputs[0]]
    match op:
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            return _weighted(qgraph, op)
        case Add():
            second = qgraph.tensors[op.inputs[1]]
            twice = 2.0 * max(source.scale, second.scale)
            pairs = [fixed_point(real) for real in (source.scale / twice, second.scale / twice, twice / ((1 << ADD_SHIFT) * target.scale))]
            return _Constants(numbers=[m for m, _ in pairs], shifts=[-s for _, s in pairs], wide=any(s > 0 for _, s in pairs))
        case Mul():
            m, shift = fixed_point(source.scale * qgraph.tensors[op.inputs[1]].scale / target.scale)
            return _Constants(numbers=[m], shifts=[-shift], wide=shift > 0)
        case Mean():
            height, width, _ = qgraph.graph.shape(op.inputs[0])
            m, shift = fixed_point(source.scale / target.scale)
            extra = min((height * width).bit_length() - 1, 32, 31 + shift)
            return _Constants(numbers=[(m << extra) // (height * width), -height * width * source.zero_point], shifts=[extra - shift])
        case HardSwish():
            return _Constants(weights=np.array(swished(source, target), np.int8))
        case Resize():
            (height, width, _), (rows, columns, _) = qgraph.graph.shape(op.inputs[0]), qgraph.graph.shape(op.output)
            return _Constants(numbers=[_slope(op.name, height, rows), _slope(op.name, width, columns)])
        case Pool2D():
            return _Constants()
    assert_never(op)


def _slope(name: str, size: int, out: int) -> int:
    """m for which m * place / 2^16, rounded down, is what :func:`nearest` says of every place."""
    places = nearest(size, out)
    least = max((-(-(place << 16) // i) for i, place in enumerate(places) if i), default=0)
    most = min((((place + 1 << 16) - 1) // i for i, place in enumerate(places) if i), default=0)
    if least > most:
        raise InternalError(f"{name}: no slope leads from {size} to {out} places as TFLM does")
    return least


def packed_rows(rows: NDArray[np.int8], bits: int) -> NDArray[np.int8]:
    """``rows`` (rows, weights) as the kernels read them: a byte each, or, of fewer ``bits``, words of 32 / bits weights, of which byte j
    holds the numbers j, j + 4 and so on, from its lowest bits up; then what is left of the row in order. Each row begins on a byte.

    Raises InternalError for integers that ``bits`` do not hold.
    """
    if rows.size and int(np.abs(rows.astype(np.int16)).max()) > largest(bits):
        raise InternalError(f"weights reach beyond the {largest(bits)} of {bits} bits", "please report this with the architecture")
    if bits == 8:
        return rows.reshape(-1)
    each, group = 8 // bits, 32 // bits
    count, size = rows.shape
    fields = rows.view(np.uint8) & ((1 << bits) - 1)
    whole = size // group * group
    words = fields[:, :whole].reshape(count, -1, each, 4)
    rest = np.zeros((count, packed_bytes(size - whole, bits), each), np.uint8)
    rest.reshape(count, -1)[:, : size - whole] = fields[:, whole:]
    places = bits * np.arange(each)
    front = (words << places[None, None, :, None]).sum(2).reshape(count, -1)
    packed = np.concatenate([front, (rest << places).sum(2)], axis=1).astype(np.uint8)
    return packed.view(np.int8).reshape(-1)


def _weighted(qgraph: QuantizedGraph, op: Conv2D | DepthwiseConv2D | FullyConnected) -> _Constants:
    weights = qgraph.weights[op.name]
    source, target = qgraph.tensors[op.inputs[0]], qgraph.tensors[op.output]
    scales = qgraph.weight_scales[op.name]
    if isinstance(op, DepthwiseConv2D):
        taps = weights.reshape(-1, op.channels)  # tap, channel
        channels = -(-op.channels // BLOCK) * BLOCK
        packed = np.zeros((taps.shape[0], channels), np.int8)
        packed[:, : op.channels] = taps
        rows = packed.reshape(-1, channels // BLOCK, BLOCK).transpose(1, 0, 2).reshape(channels // BLOCK, -1)
        by_channel = taps.T
    else:
        by_channel = weights.reshape(len(weights), -1)
        rows, channels = by_channel, len(by_channel)
    count = len(by_channel)
    if isinstance(op, FullyConnected):
        # TFLM multiplies input and weight scale in float32 here.
        real = np.full(count, np.float64(np.float32(source.scale) * scales[0]) / target.scale)
    else:
        real = np.float64(source.scale) * scales.astype(np.float64) / np.float64(target.scale)
    pairs = [fixed_point(float(value)) for value in real]
    sums = by_channel.astype(np.int64)
    biases = qgraph.biases[op.name].astype(np.int64)
    if isinstance(op, DepthwiseConv2D):
        most = 255  # of an input less its zero point
    else:
        most, biases = 128, biases - source.zero_point * sums.sum(1)
    reach = np.abs(biases) + most * np.abs(sums).sum(1)
    if int((most * np.abs(sums).sum(1)).max()) << (8 - op.weight_bits) >= 1 << 31:
        raise InternalError(f"{op.name}: sums of weights in the highest bits of a byte beyond 32 bits")
    farthest = max(far << max(shift, 0) for far, (_, shift) in zip(reach.tolist(), pairs, strict=True))
    if farthest >= 1 << 31:
        raise InternalError(f"{op.name}: sums beyond 32 bits")
    numbers, shifts = [0] * (2 * channels), [0] * channels
    for i, (bias, (m, shift)) in enumerate(zip(biases.tolist(), pairs, strict=True)):
        numbers[2 * i], numbers[2 * i + 1] = bias, m
        shifts[i] = -shift - 1 if m else 0  # the second rounding takes the last bit
    return _Constants(packed_rows(rows, op.weight_bits), numbers, shifts, farthest >= 1 << 30, min(shifts) < 0)


# text ----------------------------------------------------------------------------------------------------


def _index_bytes(plan: StreamPlan) -> int:
    return 1 if len(plan.places) < WIDE_INDEX else 2


def network_words(qgraph: QuantizedGraph, name: str, shape: tuple[int, int, int] | None = None) -> dict[str, str]:
    """What every template around a network says of it: its name, the ``shape`` of its input (None: its own), and what its outputs mean."""
    graph = qgraph.graph
    height, width, channels = shape or graph.input.shape
    result = qgraph.tensors[graph.logits]
    return {
        "name": name,
        "UPPER": name.upper(),
        "height": str(height),
        "width": str(width),
        "channels": str(channels),
        "outputs": str(graph.classes),
        "output_scale": np.format_float_scientific(np.float32(result.scale), unique=True, trim="0") + "f",
        "output_zero_point": str(result.zero_point),
    }


def _words(qgraph: QuantizedGraph, plan: StreamPlan, name: str, shape: tuple[int, int, int]) -> dict[str, str]:
    graph = qgraph.graph
    height, width, channels = shape
    source = graph.inputs[0]
    return {
        "star_banner": f"Generated by tinynas {__version__}; licensed under Apache-2.0 apart from the model. Do not edit: export again.",
        "sentence": f"{name}: {height}x{width}x{channels} in, {graph.classes} out, {_TAKEN[plan.frame]}.",
        **network_words(qgraph, name, shape),
        "work_bytes": str(plan.work_bytes),
        "stack_bytes": str(network_stack(graph, None)),
        "area_words": str(plan.area_bytes // 4),
        "counter_type": f"uint{8 * plan.counter_bytes}_t",
        "index_type": f"uint{8 * _index_bytes(plan)}_t",
        "longest": str((plan.counters - 1) // 2),
        "most_rows": str(most_rows(graph.ops)),
        "result": str(plan.places[graph.logits].offset),
        "input": str(source),
        "frame": str(plan.places[source].offset),
    }


def _tables(qgraph: QuantizedGraph, plan: StreamPlan, kinds: Sequence[str], constants: Sequence[_Constants]) -> str:
    graph = qgraph.graph
    operators = []
    for i, op in enumerate(graph.ops):
        begin, end = plan.segments[plan.segment_of(i)]
        writers = {graph.ops[j].output: str(j - begin) for j in range(begin, end)}
        window = (taps_of(op)[0], *window_of(op)[1:])
        row = TableRow(tuple(writers.get(t, "OUTSIDE") for t in op.inputs), window, steps_of(graph, op), plan.scratch[i])
        operators.append(operator_row(qgraph, i, kinds[i], constants[i], row))
    segments = [f"  {{{begin}, {end - begin}}}," for begin, end in plan.segments]
    text = [*constant_arrays(constants), place_table(plan.places), operator_table(operators)]
    text.append("static const segment_t segments[] = {\n" + "\n".join(segments) + "\n};\n")
    return "\n" + "\n".join(text)


def constant_arrays(constants: Sequence[_Constants]) -> list[str]:
    """Weights, numbers and shifts of each operator."""
    text = []
    for i, one in enumerate(constants):
        if one.weights.size:
            text.append(_array(f"static const int8_t weights_{i}", one.weights.tolist()))
        if one.numbers:
            text.append(_array(f"static const int32_t numbers_{i}", one.numbers))
        if one.shifts:
            text.append(_array(f"static const int8_t shifts_{i}", one.shifts))
    return text


def place_table(places: Sequence[Place]) -> str:
    """Where the rows of each tensor lie."""
    rows = [f"  {{{p.offset}u, {p.pitch}u, {p.rows}, {p.step}, {p.shift}}}," for p in places]
    return "static const place_t places[] = {\n" + "\n".join(rows) + "\n};\n"


def operator_table(rows: Sequence[str]) -> str:
    """The operators."""
    return "static const op_t operators[] = {\n" + "\n".join(rows) + "\n};\n"


class TableRow(NamedTuple):
    """What a driver needs of an operator beside its kernel's numbers."""

    sources: tuple[str, ...]
    window: tuple[int, int, int]
    steps: tuple[int, int]
    scratch: int


def operator_row(qgraph: QuantizedGraph, index: int, kind: str, constants: _Constants, row: TableRow) -> str:
    """The row of operator ``index`` in the table of operators."""
    graph = qgraph.graph
    op = graph.ops[index]
    kernel = op.kernel if isinstance(op, Conv2D | DepthwiseConv2D | Pool2D) else (1, 1)
    stride = op.stride if isinstance(op, Conv2D | DepthwiseConv2D | Pool2D) else (1, 1)
    left = op.padding.left if isinstance(op, Conv2D | DepthwiseConv2D | Pool2D) else 0
    if isinstance(op, Mul):
        kernel = (1, len(graph.shape(op.inputs[1])) - 1)  # wider than 1: a map, of which each pixel has its own factors
    low, high = activation_range(op.act if not isinstance(op, Pool2D | Mean | HardSwish | Resize) else "none", qgraph.tensors[op.output])
    zeros = [qgraph.tensors[t].zero_point for t in op.inputs]
    shape, out = graph.shape(op.inputs[0]), graph.shape(op.output)
    sources, (steps, each) = row.sources, row.steps
    two = len(op.inputs) > 1
    values = [
        kind.upper(),
        op.inputs[0],
        op.inputs[1] if two else 0,
        op.output,
        sources[0],
        sources[1] if two else "OUTSIDE",
        *kernel,
        *stride,
        taps_of(op)[1],
        left,
        *row.window,
        zeros[0],
        zeros[1] if two else 0,
        qgraph.tensors[op.output].zero_point,
        low,
        high,
        rows_of(graph, op.inputs[0]),
        rows_of(graph, op.inputs[1]) if two else 0,
        row_bytes(graph, op.inputs[0]) // shape[-1],
        shape[-1],
        row_bytes(graph, op.output) // out[-1],
        out[-1],
        steps,
        each,
        f"{row.scratch}u",
        f"weights_{index}" if constants.weights.size else "NULL",
        f"numbers_{index}" if constants.numbers else "NULL",
        f"shifts_{index}" if constants.shifts else "NULL",
    ]
    return "  {" + ", ".join(map(str, values)) + f"}}, /* {op.name} */"


def _array(declaration: str, values: Iterable[int]) -> str:
    numbers = [str(value) if value > -(1 << 31) else "(-2147483647 - 1)" for value in values]
    lines: list[str] = []
    line = " "
    for number in numbers:
        if len(line) + len(number) > 136:
            lines.append(line)
            line = " "
        line += f" {number},"
    return f"{declaration}[] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def template(name: str) -> str:
    """The text of a template of compiled networks."""
    return (resources.files("tinynas.export") / "templates" / "compiled" / name).read_text(encoding="utf-8")


def fill(text: str, words: dict[str, str]) -> str:
    """``text`` with its ``@words@``."""
    return re.sub(r"@([A-Za-z_]+)@", lambda match: words[match[1]], text)
