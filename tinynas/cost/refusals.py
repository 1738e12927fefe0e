"""Why TFLM does not run a .tflite: what its interpreter refuses, and what its kernels refuse, in the order of the file.

From TFLM's sources (micro_allocator.cc, micro_interpreter.cc, micro_interpreter_graph.cc, if.cc, while.cc); what a kernel refuses is in
:mod:`tinynas.cost.kernels`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinynas.cost.kernels import KERNELS, refusal
from tinynas.cost.schema import FileOp, FileTensor, Subgraph, words
from tinynas.cost.scopes import CALLS

#: Element types whose size TFLM does not know; it takes no tensor of them, used or not.
_SIZELESS = frozenset(("string", "variant", "int2", "uint4", "float8_e4m3fn", "float8_e5m2"))

#: Custom operators that TFLM brings along.
CUSTOM = frozenset(
    words(
        "CIRCULAR_BUFFER TFLM_DECODE TFLite_Detection_PostProcess SignalDelay SignalEnergy SignalFftAutoScale SignalFilterBank "
        "SignalFilterBankLog SignalFilterBankSquareRoot SignalFilterBankSpectralSubtraction SignalFramer SignalIrfft SignalOverlapAdd "
        "SignalPCAN SignalRfft SignalStacker SignalWindow"
    )
)


#: Custom operators that other hardware or TensorFlow itself runs, by how their names begin.
_ELSEWHERE = {
    "ethos-u": "it runs on an Arm Ethos-U",
    "edgetpu": "it runs on a Coral Edge TPU",
    "Flex": "it is one of TensorFlow's own (Select TF ops)",
}


def refusals(
    tensors: Sequence[FileTensor], ops: Sequence[FileOp], subgraphs: Sequence[Subgraph], faults: Sequence[str] = ()
) -> tuple[str, ...]:
    """Why TFLM does not run the file, each reason once; empty where it runs. ``faults``: calls that cannot be followed."""
    reasons = [*[_refused(tensor) for tensor in tensors], *faults]
    for index, op in enumerate(ops):
        reasons += _missing(op), refusal(op, tensors), _shapes(op, tensors), _called(index, op, tensors, subgraphs)
    reasons += [_shape(tensors[t], "input") for t in subgraphs[0].inputs]
    return tuple(dict.fromkeys(reason for reason in reasons if reason is not None))


def _refused(tensor: FileTensor) -> str | None:
    if tensor.dtype in _SIZELESS:
        return f"{tensor.dtype} tensors ({tensor.name!r})"
    if tensor.sparse and tensor.constant:
        return f"sparse weights ({tensor.name!r})"
    if tensor.outside:
        return f"weights that lie behind the flatbuffer ({tensor.name!r})"
    return None


def _missing(op: FileOp) -> str | None:
    if op.kind in KERNELS or (op.kind == "CUSTOM" and op.custom_name in CUSTOM):
        return f"{op.title} with custom options" if op.custom_options and op.kind != "CUSTOM" else None
    where = next((where for begin, where in _ELSEWHERE.items() if op.custom_name.startswith(begin)), "TFLM has no such operator")
    return f"{op.title}: {where}"


def _shapes(op: FileOp, tensors: Sequence[FileTensor]) -> str | None:
    for index in op.outputs:
        if (reason := _shape(tensors[index], f"output of {op.title}")) is not None:
            return reason
    for index in op.intermediates:
        if index >= 0 and tensors[index].elements:
            return f"{op.title} with an intermediate tensor of the shape {list(tensors[index].shape)}"
    return None


def _shape(tensor: FileTensor, role: str) -> str | None:
    return f"the shape {list(tensor.shape)} of {tensor.name!r} ({role}), known at run time only" if tensor.unknown_shape else None


def _called(index: int, op: FileOp, tensors: Sequence[FileTensor], subgraphs: Sequence[Subgraph]) -> str | None:
    """A subgraph that does not take what its caller gives, or does not give what it takes."""
    numbers = [op.options.i32(field) for field in CALLS.get(op.kind, ())]
    if op.kind not in {"IF", "WHILE"} or not all(0 <= n < len(subgraphs) for n in numbers):
        return None
    first, second = [subgraphs[n] for n in numbers]
    given = op.inputs[op.kind == "IF" :]
    # Both take the inputs; branches and bodies give the outputs, a condition gives one truth value.
    pairs = [(given, first.inputs), (given, second.inputs), (second.outputs, op.outputs)]
    if op.kind == "IF":
        pairs.append((first.outputs, op.outputs))
    for ours, theirs in pairs:
        sizes = [[tensors[t].size_bytes if t >= 0 else 0 for t in listed] for listed in (ours, theirs)]
        if sizes[0] != sizes[1]:
            return f"{op.kind} (operator {index}) and its subgraphs with inputs or outputs of other sizes"
    if op.kind == "WHILE" and (not first.outputs or tensors[first.outputs[0]].dtype != "bool"):
        return f"{op.kind} (operator {index}) with a condition that is no truth value"
    return None
