"""Shrink: a .tflite of anyone without what provably changes no bit of its outputs.

What each channel can hold is followed through the network in the integers of TFLM's kernels (``arithmetic``, ``weighted``, ``rules``);
channels that are constant, equal to others or unread go, with all that is tied to them (``slots``, ``channels``), and so do operators
that do nothing (``identities``), until nothing changes. The rest of the file is kept (``model``, ``writer``).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tinynas.cost.kernel import Seen
from tinynas.cost.kernel_checks import ONE_GRID
from tinynas.cost.memory import apart, file_head_bytes, offline_work
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tflite import parse_model, to_work
from tinynas.errors import ModelFileError
from tinynas.shrink.channels import REASONS, look, removed_in
from tinynas.shrink.identities import without_identities
from tinynas.shrink.model import PLAN_NAME, Model, Subgraph, join, read, separate
from tinynas.shrink.weighted import WEIGHTED
from tinynas.shrink.writer import used, write

#: Metadata that no runtime reads: how a converter was called, and where operators came from.
_NOTES_OF_CONVERTERS = frozenset({b"CONVERSION_METADATA", b"DEBUG_METADATA"})
#: Files behind a model (labels) are kept up to this size.
_MOST_ATTACHED = 16 << 20


@dataclass(frozen=True)
class LayerChange:
    """What became of the channels that one operator computes."""

    number: int
    """Of the operator in the original file."""
    kind: str
    before: int
    after: int
    removed: dict[str, int]
    """By reason, of :data:`REASONS`."""


@dataclass(frozen=True)
class Shrunk:
    """A shrunk file and what was taken out of it."""

    model: bytes
    """The new file; the original where nothing was found."""
    changed: bool
    """Whether the new file is smaller, or holds fewer channels or operators."""
    layers: tuple[LayerChange, ...]
    """Weighted operators that lost channels, in order."""
    operators: tuple[tuple[int, str], ...]
    """(number, kind) of operators that did nothing."""
    written_bytes: int
    """Size of the file if nothing but its form changes: equal pieces once, no names of inner tensors."""
    left: tuple[str, ...] = ()
    """Kinds of operators of which nothing is known: what they touch was left as it is."""
    notes: tuple[str, ...] = field(default=())

    @property
    def removed(self) -> dict[str, int]:
        """Channels removed, by reason."""
        return {reason: sum(layer.removed.get(reason, 0) for layer in self.layers) for reason in REASONS}

    @property
    def channels(self) -> int:
        """Channels removed in all."""
        return sum(self.removed.values())


def shrink_model(data: bytes, *, strip_metadata: bool = False, keep_names: bool = False, litert: bool = False) -> Shrunk:
    """``data`` without what changes no output. ``strip_metadata``: also without labels and other metadata; ``keep_names``: with the
    names of all tensors; ``litert``: LiteRT is to load it too, not TFLM alone.

    Raises ModelFileError for broken files, for those without int8 operators, and where tensors that must have one scale have several.
    """
    model = read(data)
    graph = model.main
    _need_int8(graph)
    _need_one_grid(data)
    notes = _strip(model, data, strip_metadata)
    planned = any(name == PLAN_NAME for name, _ in model.metadata)
    for tensor, place in zip(graph.tensors, parse_model(data).plan or (), strict=False):
        tensor.planned = place
    model.metadata = [entry for entry in model.metadata if entry[0] != PLAN_NAME]
    one_zero = not litert and _runs_in_tflm(data)
    form = partial(write, names=keep_names, one_zero=one_zero)
    written = len(form(model))
    separate(graph)
    before = {op.number: _rows(graph, op.outputs[0]) for op in graph.ops if op.kind in WEIGHTED and len(op.outputs) == 1}
    kinds = {op.number: op.kind for op in graph.ops}
    counted: Counter[tuple[int, str]] = Counter()
    gone = without_identities(graph)
    while (removed := removed_in(graph)) is not None:
        counted += removed
        gone += without_identities(graph)
    left = tuple(sorted({op.title for op in look(graph).unknown}))
    join(graph)
    shrunk = form(model)
    if planned:
        shrunk, note = _planned(model, shrunk, form)
        notes.append(note)
    more = len(write(model, names=keep_names, one_zero=False)) - len(form(model)) if one_zero else 0
    shrunk = _attach(shrunk, data, strip_metadata, notes)
    layers = []
    for number, rows in before.items():
        why = {reason: counted[number, reason] for reason in REASONS if counted[number, reason]}
        if why:
            layers.append(LayerChange(number, kinds[number], rows, rows - sum(why.values()), why))
    changed = bool(layers or gone) or len(shrunk) < len(data)
    if changed and more:
        notes.append(
            f"LiteRT does not load it: one zero point stands for all channels, which TFLM takes; --litert writes all, {more:,} B more"
        )
    operators = tuple(sorted((op.number, op.title) for op in gone))
    return Shrunk(shrunk if changed else data, changed, tuple(layers), operators, written, left, tuple(notes))


def dead_channels(data: bytes) -> int:
    """How many channels of the int8 file ``data`` provably change no output. Raises as :func:`shrink_model`."""
    graph = read(data).main
    separate(graph)
    total = 0
    while (removed := removed_in(graph)) is not None:
        total += sum(removed.values())
    return total


def _rows(graph: Subgraph, tensor: int) -> int:
    return graph.tensors[tensor].channels


def _need_int8(graph: Subgraph) -> None:
    # Activations, not weights: files with float activations and int8 weights are computed in float.
    if any(tensor.int8 and not tensor.constant for tensor in graph.tensors):
        return
    weighted = [op for op in graph.ops if op.kind in WEIGHTED] or graph.ops
    kinds = sorted({graph.tensors[t].dtype for op in weighted for t in op.outputs})
    raise ModelFileError(
        f"computes with {', '.join(kinds)}; what shrink removes is proven in int8 arithmetic",
        "convert the model with full int8 quantization, then shrink it",
    )


def _need_one_grid(data: bytes) -> None:
    """Where an operator cannot rescale, what it gives for several scales is each kernel's own affair, and nothing can be proven of it."""
    file = parse_model(data)
    for number, op in enumerate(file.ops):
        if op.kind in ONE_GRID and (reason := ONE_GRID[op.kind](Seen(op, file.tensors))) is not None:
            raise ModelFileError(
                f"its operator {number} ({op.title}) has {reason}; there the format demands one scale and one zero point",
                "convert the model again, with a converter that keeps to it: TFLM does not run this one",
            )


def _runs_in_tflm(data: bytes) -> bool:
    """Whether TFLM runs the file; False where nobody knows."""
    try:
        return to_work(parse_model(data)).reasons == ()
    except ModelFileError:
        return False


def _strip(model: Model, data: bytes, everything: bool) -> list[str]:
    dropped = [name for name, _ in model.metadata if name != PLAN_NAME and (everything or name in _NOTES_OF_CONVERTERS)]
    model.metadata = [entry for entry in model.metadata if entry[0] not in dropped]
    if everything:
        model.description = None
    names = ", ".join("".join(c for c in name.decode("utf-8", "replace")[:60] if c.isprintable()) for name in dropped)
    return [f"metadata dropped: {names}"] if dropped else []


def _planned(model: Model, shrunk: bytes, form: Callable[[Model], bytes]) -> tuple[bytes, str]:
    """``shrunk`` with a memory plan: of the one that it had and one made anew the one that takes less, where that is less than the
    runtime's own."""
    if len(model.subgraphs) > 1:
        return shrunk, "its memory plan was dropped: sizes changed, and it has several subgraphs"
    runtime = runtime_named("tflm")
    work = to_work(parse_model(shrunk))
    plan = offline_work(work, runtime)
    heads: dict[str, int] = {"dropped: the runtime's own takes no more": file_head_bytes(work, runtime, None)}
    places: dict[str, Sequence[int]] = {}
    kept = [model.main.tensors[tensor].planned for tensor in used(model.main)]
    if apart(work, runtime, kept):
        places["kept: what is left stays where it was"] = kept
    if plan.order == tuple(range(len(work.pieces))):
        places["made again: sizes changed"] = plan.offsets
    heads |= {name: file_head_bytes(work, runtime, offsets) for name, offsets in places.items()}
    least = min(heads, key=lambda name: heads[name])
    if (offsets := places.get(least)) is None:
        return shrunk, f"its memory plan was {least}"
    values = (1, 0, len(offsets), *offsets)
    model.metadata.append((PLAN_NAME, b"".join(value.to_bytes(4, "little", signed=True) for value in values)))
    return form(model), f"its memory plan was {least}"


def _attach(shrunk: bytes, data: bytes, strip: bool, notes: list[str]) -> bytes:
    """``shrunk`` with the zip of associated files (labels) that lies behind ``data``."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            entries = old.infolist()
            if strip or not entries:
                return shrunk
            if sum(entry.file_size for entry in entries) > _MOST_ATTACHED:
                raise ModelFileError("the files attached to the model are larger than 16 MiB", "add --strip-metadata to drop them")
            files = [(entry, old.read(entry)) for entry in entries]
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return shrunk
    made = io.BytesIO(shrunk)
    made.seek(0, io.SEEK_END)
    with zipfile.ZipFile(made, "a") as new:
        for entry, content in files:
            kept = zipfile.ZipInfo(entry.filename, entry.date_time)
            kept.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(kept, content)
    notes.append(f"files attached to the model were kept: {len(files)}")
    return made.getvalue()
