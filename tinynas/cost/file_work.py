"""The work of a .tflite: what the cost models read of its operators.

MACs are counted by one formula an operator, by the convention of :mod:`tinynas.cost.work`. An operator whose arithmetic the file does
not show (a custom one) is named in :attr:`Work.uncounted`, never counted as 0 in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

from tinynas.cost.builds import file_needs
from tinynas.cost.flatbuffer import broken
from tinynas.cost.kernels import caution
from tinynas.cost.refusals import refusals
from tinynas.cost.schema import FILE_BITS, FileOp, FileTensor, Subgraph, words
from tinynas.cost.scopes import Walk, walk
from tinynas.cost.work import Piece, Work
from tinynas.target.registrations import INT4_OPERATORS, INT8_INPUTS, Alone

#: Operators that move, scale, compare or transform values, or that call subgraphs: no MACs of their own by our convention.
_NO_MACS = frozenset(
    words(
        "ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE ATAN2 AVERAGE_POOL_2D BATCH_TO_SPACE_ND BITCAST BITWISE_XOR BROADCAST_ARGS "
        "BROADCAST_TO BUCKETIZE CALL CALL_ONCE CAST CEIL COMPLEX_ABS CONCATENATION COS CUMSUM DENSIFY DEPTH_TO_SPACE DEQUANTIZE DILATE "
        "DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EMBEDDING_LOOKUP_SPARSE EQUAL EXP EXPAND_DIMS FAKE_QUANT FILL FLOOR FLOOR_DIV "
        "FLOOR_MOD GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_LOOKUP "
        "HASHTABLE_SIZE IF IMAG L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND "
        "LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL "
        "MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 NOT_EQUAL ONE_HOT PACK PAD PADV2 POW PRELU QUANTIZE "
        "RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANGE RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD "
        "REDUCE_WINDOW RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 "
        "RFFT2D RIGHT_SHIFT ROUND RSQRT SCATTER_ND SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SKIP_GRAM SLICE SOFTMAX "
        "SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPARSE_TO_DENSE SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM "
        "TANH TILE TOPK_V2 TRANSPOSE UNIQUE UNPACK UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM "
        "VAR_HANDLE WHERE WHILE ZEROS_LIKE"
    )
)

#: Operators beside those with MACs whose constants are parameters of the network; shapes, axes and paddings are none.
_WITH_PARAMETERS = frozenset(words("ADD SUB MUL DIV PRELU GATHER EMBEDDING_LOOKUP"))
#: Operators that only unpack, cast or turn a constant: what they make of weights are weights.
_UNPACKS = frozenset(words("DEQUANTIZE DENSIFY CAST RESHAPE TRANSPOSE"))

SHORT = {
    "CONV_2D": "conv",
    "DEPTHWISE_CONV_2D": "dw",
    "FULLY_CONNECTED": "fc",
    "AVERAGE_POOL_2D": "avg_pool",
    "MAX_POOL_2D": "max_pool",
    "RESIZE_NEAREST_NEIGHBOR": "resize",
}


def file_work(
    tensors: Sequence[FileTensor],
    ops: Sequence[FileOp],
    subgraphs: Sequence[Subgraph],
    plan: Sequence[int] | None = None,
    faults: Sequence[str] = (),
) -> Work:
    """The work of a file: the operators of all its subgraphs in the order of the file, when each tensor is in memory as TFLM plans
    it, and the state that it keeps. ``plan``: offsets that the file gives its tensors, see :class:`tinynas.cost.tflite.ModelFile`;
    ``faults``: what of the file TFLM refuses beside its operators.

    Raises ModelFileError where operators lack inputs or weights that they must have, or call each other without end.
    """
    weights = _Weights(ops, tensors)
    pieces = [_piece(index, op, tensors, weights) for index, op in enumerate(ops)]
    found = walk(ops, subgraphs, len(tensors), [piece.macs for piece in pieces])
    pieces = [_called(piece, times) for piece, times in zip(pieces, found.times, strict=True)]
    for number, graph in enumerate(subgraphs[1:], start=1):
        for index in graph.ops:
            pieces[index] = replace(pieces[index], name=f"{index}:{pieces[index].kind} of subgraph {number}")
    handles = {op.outputs[0] for op in ops if op.kind == "VAR_HANDLE" and op.outputs}
    kept = [t.is_variable and (plan is None or plan[i] < 0) for i, t in enumerate(tensors)]
    main = subgraphs[0]
    return Work(
        sizes=tuple([0 if t.constant or k or i in handles else t.size_bytes for i, (t, k) in enumerate(zip(tensors, kept, strict=True))]),
        shapes=tuple([t.shape[1:] if len(t.shape) > 1 and t.shape[0] == 1 else t.shape for t in tensors]),
        pieces=tuple(pieces),
        inputs=main.inputs,
        outputs=main.outputs,
        tensor_count=len(tensors),
        input_scales=tuple([_kept_scales(tensors[i]) for i in main.inputs]),
        output_scales=tuple([_kept_scales(tensors[i]) for i in main.outputs]),
        spans=(list(found.first), list(found.last)),
        moments=found.moments,
        subgraphs=len(subgraphs),
        variables=tuple([t.size_bytes for t, k in zip(tensors, kept, strict=True) if k]),
        resources=_resources(ops, subgraphs, tensors),
        uncounted=tuple(sorted({name for op in ops if (name := _uncounted(op, tensors)) is not None})),
        notes=_notes(tensors, ops, subgraphs, found),
        reasons=refusals(tensors, ops, subgraphs, (*faults, *found.faults)),
    )


def _kept_scales(tensor: FileTensor) -> int:
    # TFLM copies scales of an input or output only where there are zero points beside them.
    return tensor.scales if tensor.zero_points else 0


def _called(piece: Piece, times: int) -> Piece:
    return piece if times == 1 else replace(piece, macs=piece.macs * times)


def _resources(ops: Sequence[FileOp], subgraphs: Sequence[Subgraph], tensors: Sequence[FileTensor]) -> tuple[int, ...]:
    """Bytes of each resource variable, 0 where none is assigned to it in the graph that names it: so does TFLM allocate them."""
    sizes: dict[tuple[str, str], int] = {}
    for graph in subgraphs:
        named: dict[int, tuple[str, str]] = {}
        for index in graph.ops:
            op = ops[index]
            if op.kind == "VAR_HANDLE" and op.outputs:
                named[op.outputs[0]] = key = op.options.text(0), op.options.text(1)
                sizes.setdefault(key, 0)
            elif op.kind == "ASSIGN_VARIABLE" and len(op.inputs) == 2 and op.inputs[1] >= 0 and op.inputs[0] in named:
                key = named[op.inputs[0]]
                sizes[key] = sizes[key] or tensors[op.inputs[1]].size_bytes
    return tuple(sizes.values())


def _notes(tensors: Sequence[FileTensor], ops: Sequence[FileOp], subgraphs: Sequence[Subgraph], found: Walk) -> tuple[str, ...]:
    """What must be said beside the figures."""
    notes = []
    ends = [tensors[i] for i in (*subgraphs[0].inputs, *subgraphs[0].outputs) if tensors[i].dynamic]
    sized = [t for t in ends if t.open != (0,)]
    if sized:
        named = ", ".join(f"{t.name!r} is taken as {list(t.shape)}" for t in sized[:4]) + (", ..." if len(sized) > 4 else "")
        notes.append(f"the file leaves sizes open, and the figures are of these alone: {named}; convert it with a fixed input shape")
    elif ends:
        notes.append(f"the file leaves the batch open: the figures are of {ends[0].shape[0] if ends[0].shape else 1}")
    kinds = {op.kind for op in ops}
    if "WHILE" in kinds:
        notes.append("MACs are those of one pass of each WHILE: how often it runs is decided at run time")
    if "IF" in kinds:
        notes.append("MACs are those of the larger branch of each IF")
    if "CALL_ONCE" in kinds:
        notes.append("what CALL_ONCE runs before the first inference is not in the MACs")
    called = {number for number, graph in enumerate(subgraphs) if any(found.times[i] or found.moments[i] != (-1, -1) for i in graph.ops)}
    idle = [number for number, graph in enumerate(subgraphs) if graph.ops and number and number not in called]
    if idle:
        listed = ", ".join(map(str, idle[:8])) + (", ..." if len(idle) > 8 else "")
        notes.append(f"nothing calls subgraph{'s' if len(idle) > 1 else ''} {listed}: their tensors take memory all the same")
    notes += dict.fromkeys(said for op in ops if (said := caution(op, tensors)) is not None)
    return tuple(notes)


class _Weights:
    """The constants of a file as parameters: found behind what unpacks them, and counted where they are used first."""

    def __init__(self, ops: Sequence[FileOp], tensors: Sequence[FileTensor]) -> None:
        self.tensors = tensors
        self.source = {op.outputs[0]: op.inputs[0] for op in ops if op.kind in _UNPACKS and op.outputs and op.inputs and op.inputs[0] >= 0}
        self.seen: set[object] = set()

    def constant(self, index: int) -> FileTensor | None:
        """The constant that tensor ``index`` is, or is made of; None where it is computed."""
        for _ in range(8):
            if index < 0 or self.tensors[index].constant:
                break
            index = self.source.get(index, -1)
        return self.tensors[index] if index >= 0 and self.tensors[index].constant else None

    def own(self, indices: Sequence[int]) -> list[FileTensor]:
        """The constants among ``indices`` that no operator before has used."""
        found = []
        for index in indices:
            tensor = self.constant(index)
            if tensor is not None and (key := tensor.buffer or id(tensor)) not in self.seen:
                self.seen.add(key)
                found.append(tensor)
        return found


def without_pads(work: Work) -> Work:
    """``work`` with every PAD gone: its readers read what it padded. When tensors are in memory follows from the operators then."""
    source: dict[int, int] = {}
    pieces = []
    for piece in work.pieces:
        inputs = tuple([source.get(t, t) for t in piece.inputs])
        if piece.kind == "pad" and piece.inputs and piece.outputs and piece.outputs[0] not in work.outputs:
            source[piece.outputs[0]] = inputs[0]
        else:
            pieces.append(replace(piece, inputs=inputs))
    return replace(work, pieces=tuple(pieces), spans=None, moments=None) if pieces else work


_Counter = Callable[[FileOp, Sequence[FileTensor], _Weights], tuple[int, tuple[int, int]]]


def _conv_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    shape = _kernel(op, tensors, 4)
    return tensors[op.outputs[0]].elements * prod(shape[1:]), (shape[1], shape[2])


def _depthwise_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    shape = _kernel(op, tensors, 4)
    return tensors[op.outputs[0]].elements * shape[1] * shape[2], (shape[1], shape[2])


def _dense_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    return tensors[op.outputs[0]].elements * _kernel(op, tensors, 2)[1], (1, 1)


def _transposed_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    shape = _kernel(op, tensors, 4)
    return _given(op, tensors, 2).elements * prod(shape[:3]), (shape[1], shape[2])


def _conv_3d_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    shape = _kernel(op, tensors, 5)  # depth, height, width, inputs, outputs
    return tensors[op.outputs[0]].elements * prod(shape[:4]), (shape[1], shape[2])


def _transposed_3d_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    shape = _kernel(op, tensors, 5)  # depth, height, width, outputs, inputs
    return _given(op, tensors, 2).elements * prod(shape[:4]), (shape[1], shape[2])


def _product_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    left = _given(op, tensors, 0).shape
    if len(left) < 2:
        raise broken(f"{op.kind} multiplies the shape {list(left)}")
    inner = left[-2] if op.options.bool(0) else left[-1]  # adj_x: the left one is turned
    return tensors[op.outputs[0]].elements * inner, (1, 1)


def _recurrent_macs(op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> tuple[int, tuple[int, int]]:
    # Each matrix of weights meets each step of each sequence once: all dimensions of the input but its last.
    steps = prod(_given(op, tensors, 0).shape[:-1])
    matrices = [constant for t in op.inputs[1:] if (constant := weights.constant(t)) is not None and len(constant.shape) == 2]
    return steps * sum(m.elements for m in matrices), (1, 1)


#: Operators with MACs: one formula each.
_COUNTED: Mapping[str, _Counter] = {
    "CONV_2D": _conv_macs,
    "DEPTHWISE_CONV_2D": _depthwise_macs,
    "FULLY_CONNECTED": _dense_macs,
    "TRANSPOSE_CONV": _transposed_macs,
    "CONV_3D": _conv_3d_macs,
    "CONV_3D_TRANSPOSE": _transposed_3d_macs,
    "BATCH_MATMUL": _product_macs,
    **dict.fromkeys(
        words(
            "RNN LSTM SVDF UNIDIRECTIONAL_SEQUENCE_RNN UNIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN BIDIRECTIONAL_SEQUENCE_LSTM"
        ),
        _recurrent_macs,
    ),
}


def _given(op: FileOp, tensors: Sequence[FileTensor], place: int) -> FileTensor:
    if len(op.inputs) <= place or op.inputs[place] < 0:
        raise broken(f"{op.kind} lacks its input {place}")
    return tensors[op.inputs[place]]


def _kernel(op: FileOp, tensors: Sequence[FileTensor], rank: int) -> tuple[int, ...]:
    shape = _given(op, tensors, 1).shape
    if len(shape) != rank:
        raise broken(f"{op.kind} has no weights of {rank} dimensions")
    return shape


def _uncounted(op: FileOp, tensors: Sequence[FileTensor]) -> str | None:
    """The operator by name where its MACs cannot be known; None where they are."""
    if op.kind in _NO_MACS:
        return None
    if op.kind not in _COUNTED:
        return op.title
    unknown = any(tensors[t].unknown_shape for t in (*op.inputs, *op.outputs) if t >= 0)
    return f"{op.kind} of unknown shape" if unknown else None


def _arithmetic(source: FileTensor, weights: FileTensor | None) -> str:
    if weights is None or weights.dtype == source.dtype:
        return source.dtype
    return f"{source.dtype} with {weights.dtype} weights"


def alone(op: FileOp, tensors: Sequence[FileTensor]) -> Alone:
    """What a kernel that computes ``op`` may be for alone; "" for operators that have no such kernel."""
    count = INT8_INPUTS.get(op.kind)
    if count is None or len(op.inputs) < count or not op.outputs:
        return ""
    types = [tensors[number].dtype if number >= 0 else "" for number in (*op.inputs[:count], *op.outputs)]
    if op.kind in INT4_OPERATORS and types == ["int8", "int4", "int8"]:
        return "int4"
    return "int8" if set(types) == {"int8"} else ""


def _piece(index: int, op: FileOp, tensors: Sequence[FileTensor], weights: _Weights) -> Piece:
    kind = SHORT.get(op.kind, op.title.lower())
    counted = op.kind in _COUNTED
    present = [t for t in op.inputs if t >= 0]
    if counted and not (present and op.outputs):
        raise broken(f"{op.kind} has no {'output' if present else 'input'}")
    known = counted and _uncounted(op, tensors) is None
    macs, kernel = _COUNTED[op.kind](op, tensors, weights) if known else (0, (1, 1))
    if kind in {"avg_pool", "max_pool"}:
        kernel = op.options.i32(4), op.options.i32(3)
    parameters = weights.own(op.inputs) if counted or op.kind in _WITH_PARAMETERS else []
    biases = sum(t.elements for t in parameters if t.dtype in {"int32", "int64"}) if counted else 0
    computed = [t for t in present if not tensors[t].constant]
    source = tensors[(computed or present)[0]] if present else None
    out = tensors[op.outputs[0]] if op.outputs else None
    if kind in {"conv", "dw"} and known and source is not None and out is not None and (len(source.shape) != 4 or len(out.shape) != 4):
        raise broken(f"{op.kind} does not work on images")
    channels_in = source.shape[-1] if source is not None and source.shape else 1
    channels_out = out.shape[-1] if out is not None and out.shape else 1
    matrix = tensors[op.inputs[1]] if counted and len(op.inputs) > 1 and op.inputs[1] >= 0 else None
    return Piece(
        kind,
        f"{index}:{kind}",
        tuple(computed or present[:1]),
        op.outputs,
        macs,
        sum(t.elements for t in parameters) - biases,
        biases,
        sum(t.stored_bytes for t in parameters),
        kernel,
        op.stride,
        op.dilation,
        channels_in,
        channels_out,
        weight_bits=FILE_BITS[matrix.dtype] if matrix is not None else 8,
        arithmetic=_arithmetic(source, matrix) if counted and source is not None else "int8",
        alone=alone(op, tensors),
        needs=file_needs(op, tensors),
    )
