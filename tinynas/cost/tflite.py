"""Reads any .tflite without TensorFlow: the same cost table for models made by others.

A .tflite is a flatbuffer and comes from strangers: :mod:`tinynas.cost.flatbuffer` checks every offset, this module every index. A
broken file gives a ModelFileError and nothing else. Field numbers and operator codes are those of TensorFlow Lite's public
schema (version 3).
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinynas.cost.estimator import Cost, file_cost, with_front_end
from tinynas.cost.file_work import alone, file_work, without_pads
from tinynas.cost.flash import METADATA_NAME, told_front_end
from tinynas.cost.flatbuffer import I8, I32, I64, NO_OPTIONS, U8, U32, U64, Options, Reader, broken
from tinynas.cost.latency import LatencyModel
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.schema import OPERATORS, TYPES, FileOp, FileTensor, Subgraph
from tinynas.cost.work import Work
from tinynas.errors import ModelFileError
from tinynas.foreign import require_tflite
from tinynas.front_end import FrontEnd
from tinynas.target.registrations import Alone, ending

#: Larger files are refused: no microcontroller model comes near, and reading must stay bounded.
MAX_FILE_BYTES = 256 * 1024 * 1024
#: Tensors, and operators, of all subgraphs together: so that planning their memory stays a matter of a second.
_MAX_TABLES = 10_000
_MAX_RANK = 8
_MAX_TENSOR_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the cost models need of a .tflite. Tensors are numbered through all subgraphs."""

    name: str
    size_bytes: int
    tensors: tuple[FileTensor, ...]
    ops: tuple[FileOp, ...]
    inputs: tuple[int, ...]
    """Of the first subgraph."""
    outputs: tuple[int, ...]
    plan: tuple[int, ...] | None = None
    """Offsets of TFLM's OfflineMemoryAllocation metadata, one a tensor; None where the file has none."""
    subgraphs: tuple[Subgraph, ...] = ()
    faults: tuple[str, ...] = ()
    """What of the file TFLM refuses beside its operators."""
    front_end: FrontEnd | None = None
    """What makes its input out of sound, by tinynas's metadata; None where they name none."""

    def estimate(
        self,
        runtime: str = "tflm",
        *,
        core: str | None = None,
        clock_mhz: float | None = None,
        timing: LatencyModel | None = None,
    ) -> Cost:
        """The cost of the model as it is in the file: its own operators, its own memory plan if it has one; and beside it that of the
        front end which its metadata name.

        Raises ModelFileError where the file is not sound, UserError for an unknown runtime.
        """
        chosen, work = runtime_named(runtime, core), to_work(self)
        if chosen.pads_inside:
            work = without_pads(work)
        if not chosen.plans:
            work = replace(work, reasons=None)  # nobody knows which operators it has
        cost = file_cost(work, chosen, self.size_bytes, self.plan, core=core, clock_mhz=clock_mhz, timing=timing)
        classes = sum(math.prod(self.tensors[index].shape) for index in self.outputs)
        return with_front_end(cost, self.front_end, classes, clock_mhz)

    @property
    def endings(self) -> dict[str, str]:
        """Operators by TFLite's names -> what the resolver's method that adds them ends in: which kernels suffice for all uses."""
        uses: dict[str, set[Alone]] = {}
        for op in self.ops:
            uses.setdefault(op.kind, set()).add(alone(op, self.tensors))
        return {kind: ending(found) for kind, found in uses.items()}

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constant tensors (a tensor counts once, shared content for each of its tensors)."""
        return sum(t.stored_bytes for t in self.tensors)


def to_work(model: ModelFile) -> Work:
    """The work of a model file. Raises ModelFileError where its operators are not sound."""
    alone = Subgraph("", range(len(model.tensors)), range(len(model.ops)), model.inputs, model.outputs)
    return file_work(model.tensors, model.ops, model.subgraphs or (alone,), model.plan, model.faults)


def read_model(path: str | Path) -> ModelFile:
    """The model in the .tflite at ``path``. Raises ModelFileError for unreadable, broken and unsupported files."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelFileError(f"{path}: {size:,} B is larger than {MAX_FILE_BYTES:,} B", "is this a .tflite file?")
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}", "give the path of a .tflite file") from None
    if data[4:8] != b"TFL3":
        require_tflite(path)
    try:
        return parse_model(data, path.stem)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.message}", error.hint) from None


def parse_model(data: bytes, name: str = "model") -> ModelFile:
    """The model in ``data``. Raises ModelFileError for broken and unsupported content."""
    if len(data) < 16 or data[4:8] != b"TFL3":
        raise ModelFileError("is not a .tflite file (no TFL3 mark at byte 4)", "give a TensorFlow Lite model")
    read = Reader(data)
    model = read.unpack(U32, 0)
    version = read.scalar(model, 0, U32)
    if version != 3:
        raise ModelFileError(f"is of schema version {version}; version 3 is supported", "convert the model again")
    codes = [_operator_name(read, code) for code in read.tables(model, 1)]
    contents = [_content(read, buffer) for buffer in read.tables(model, 4)]
    tensors: list[FileTensor] = []
    ops: list[FileOp] = []
    subgraphs: list[Subgraph] = []
    for graph in read.tables(model, 2):
        _subgraph(read, graph, codes, contents, tensors, ops, subgraphs)
    if not subgraphs or not ops or not subgraphs[0].tensors:
        raise broken("it has no operators")
    main = subgraphs[0]
    plan, faults = _plan(read, model, contents, len(tensors))
    reads = tensors[main.inputs[0]].shape[1:] if len(main.inputs) == 1 else ()
    front_end = told_front_end(_metadata(read, model, contents), reads)
    return ModelFile(name, len(data), tuple(tensors), tuple(ops), main.inputs, main.outputs, plan, tuple(subgraphs), faults, front_end)


def _operator_name(read: Reader, code: int) -> tuple[str, str]:
    number = max(read.scalar(code, 0, I8), read.scalar(code, 3, I32))
    if number == 32:
        return "CUSTOM", "".join(c if c.isalnum() or c in " _-.:/+" else "?" for c in read.text(code, 1)[:60])  # it is printed
    return (OPERATORS[number] if 0 <= number < len(OPERATORS) else f"operator {number}"), ""


@dataclass(frozen=True, slots=True)
class _Content:
    """What a buffer of the file holds."""

    data: memoryview
    outside: bool
    """Whether it lies behind the flatbuffer."""


def _content(read: Reader, buffer: int) -> _Content:
    at, count = read.vector(buffer, 0, 1, limit=MAX_FILE_BYTES)
    offset, size = read.scalar(buffer, 1, U64), read.scalar(buffer, 2, U64)
    outside = offset > 1 and not count
    if outside:
        if offset + size > len(read.data):
            raise broken(f"a content of {size:,} B lies at byte {offset:,}, outside its {len(read.data):,} B")
        at, count = offset, size
    return _Content(memoryview(read.data)[at : at + count], outside)


def _subgraph(
    read: Reader,
    graph: int,
    codes: Sequence[tuple[str, str]],
    contents: Sequence[_Content],
    tensors: list[FileTensor],
    ops: list[FileOp],
    subgraphs: list[Subgraph],
) -> None:
    first_tensor, first_op = len(tensors), len(ops)
    own, operators = read.tables(graph, 0), read.tables(graph, 3)
    for number, noun in ((first_tensor + len(own), "tensors"), (first_op + len(operators), "operators")):
        if number > _MAX_TABLES:
            raise ModelFileError(f"has {number:,} {noun} or more", f"no more than {_MAX_TABLES:,} are read")
    tensors += [_tensor(read, at, contents) for at in own]
    ops += [_operator(read, at, codes, first_tensor, len(own)) for at in operators]
    ends = []
    for listed in (read.ints(graph, 1), read.ints(graph, 2)):
        for index in listed:
            if not 0 <= index < len(own):
                raise broken(f"an input or output is tensor {index} of {len(own)}")
        ends.append(tuple([first_tensor + index for index in listed]))
    name = read.text(graph, 4)
    subgraphs.append(Subgraph(name, range(first_tensor, len(tensors)), range(first_op, len(ops)), ends[0], ends[1]))


def _tensor(read: Reader, at: int, contents: Sequence[_Content]) -> FileTensor:
    name = read.text(at, 3)
    number = read.scalar(at, 1, I8)
    if not 0 <= number < len(TYPES):
        raise ModelFileError(f"tensor {name!r} has the unknown element type {number}", "known: " + ", ".join(TYPES))
    buffer = read.scalar(at, 2, U32)
    if buffer >= len(contents):
        raise broken(f"tensor {name!r} has buffer {buffer} of {len(contents)}")
    content = contents[buffer]
    open_ = tuple([i for i, size in enumerate(read.ints(at, 7, limit=_MAX_RANK)) if size == -1])
    scales = zero_points = axis = zero_point = 0
    scale = 0.0
    if quantization := read.child(at, 4):
        first, scales = read.vector(quantization, 2, 4)
        scale = read.f32(first) if scales else 0.0
        first, zero_points = read.vector(quantization, 3, 8)
        zero_point = read.unpack(I64, first) if zero_points else 0
        axis = read.scalar(quantization, 6, I32)
    tensor = FileTensor(
        name,
        read.ints(at, 0, limit=_MAX_RANK),
        TYPES[number],
        len(content.data) > 0,
        scales,
        zero_points,
        scale,
        zero_point,
        axis,
        content.data,
        buffer,
        read.scalar(at, 5, U8) != 0,
        read.child(at, 6) != 0,
        content.outside,
        bool(open_),
        open_,
    )
    if tensor.size_bytes > _MAX_TENSOR_BYTES:
        raise broken(f"tensor {name!r} has the shape {list(tensor.shape)}, more than 2 GiB")
    if tensor.constant and not tensor.sparse and len(content.data) < tensor.needed_bytes:
        raise broken(f"tensor {name!r} needs {tensor.needed_bytes:,} B and has {len(content.data):,} B")
    return tensor


def _operator(read: Reader, at: int, codes: Sequence[tuple[str, str]], first: int, count: int) -> FileOp:
    index = read.scalar(at, 0, U32)
    if index >= len(codes):
        raise broken(f"an operator has code {index} of {len(codes)}")
    kind, custom_name = codes[index]
    lists = [read.ints(at, number) for number in (1, 2, 8)]
    for listed in lists:
        for tensor in listed:
            if not -1 <= tensor < count:
                raise broken(f"{kind} uses tensor {tensor} of {count}")
    if -1 in lists[1]:
        raise broken(f"{kind} leaves out an output")
    inputs, outputs, intermediates = [tuple([first + t if t >= 0 else -1 for t in listed]) for listed in lists]
    custom_at, custom_bytes = read.vector(at, 5, 1)
    read.pay(custom_bytes)
    table = read.child(at, 4)
    options = Options(read.scalar(at, 3, U8), read, table) if table else NO_OPTIONS
    return FileOp(kind, inputs, outputs, intermediates, options, custom_name, read.data[custom_at : custom_at + custom_bytes])


def _plan(read: Reader, model: int, contents: Sequence[_Content], tensors: int) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    """(the file's memory plan, None where it has none that fits; what is wrong with it)."""
    for entry in read.tables(model, 6):
        if read.text(entry, 0) != "OfflineMemoryAllocation":
            continue
        buffer = read.scalar(entry, 1, U32)
        if buffer >= len(contents):
            raise broken(f"the memory plan is buffer {buffer} of {len(contents)}")
        content = contents[buffer].data
        read.pay(len(content) // 4)
        values = struct.unpack_from(f"<{len(content) // 4}i", content)
        planned = values[2] if len(values) > 2 else 0
        if planned != tensors or len(values) < 3 + tensors:
            return None, (f"a memory plan (OfflineMemoryAllocation) of {planned} tensors where there are {tensors}",)
        return values[3 : 3 + tensors], ()
    return None, ()


def _metadata(read: Reader, model: int, contents: Sequence[_Content]) -> object:
    """What tinynas says in the file about it; None where it says nothing, or nothing that is JSON."""
    for entry in read.tables(model, 6):
        if read.text(entry, 0) == METADATA_NAME and (buffer := read.scalar(entry, 1, U32)) < len(contents):
            content = contents[buffer].data
            read.pay(len(content))
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(bytes(content))
    return None
