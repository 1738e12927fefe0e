"""estimate(Graph, runtime) -> Cost: one row per operator and the totals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tinynas.cost.code_flash import Code, code_of
from tinynas.cost.compiled import code_kind, compiled_cost, network_stack
from tinynas.cost.flash import file_bytes
from tinynas.cost.front_end import FrontEndCost, front_end_cost
from tinynas.cost.instructions import counts_of, operator_instructions
from tinynas.cost.kernel import Build, aligned
from tinynas.cost.latency import FEW_BITS, LatencyModel, instructions, latency_model, latency_ms
from tinynas.cost.memory import Spans, file_head_bytes, file_heads, lifetimes, live_bytes, nested_frames, offline_work, written_over
from tinynas.cost.quantities import values_of
from tinynas.cost.runtimes import Runtime, flash_bytes, refuse, runtime_named, static_bytes, unrun
from tinynas.cost.setup import setup_bytes
from tinynas.cost.stepwise import StreamCost, plan_steps, step_constants, stream_cost
from tinynas.cost.tail import closed_tail, open_tail_bytes, tail_bytes, unknown_tails
from tinynas.cost.work import Work, from_graph
from tinynas.errors import UnrunError
from tinynas.front_end import FrontEnd
from tinynas.graph import Graph, Shape, padded_as_same, zeros_behind

if TYPE_CHECKING:
    from tinynas.cost.backward import UpdateCost
    from tinynas.cost.board_update import BoardUpdate


@dataclass(frozen=True, slots=True)
class OpCost:
    """The cost of one operator."""

    index: int
    kind: str
    name: str
    input_shape: Shape
    output_shape: Shape
    macs: int
    params: int
    """Weights and biases, batch norm folded."""
    weights_bytes: int
    """Weights, packed where they have fewer than 8 bits, and 4 bytes a bias."""
    live_bytes: int
    """Bytes of activations and scratch in memory while it runs."""
    kernel: tuple[int, int] = (1, 1)
    """Kernel height and width."""
    instructions: int | None = None
    """Executed instructions, where those of the core and runtime were counted."""
    latency_ms: float | None = None
    """Its part of the network's latency."""
    weight_bits: int | None = None
    """Bits of each weight; None where it has none."""


@dataclass(frozen=True)
class Cost:
    """What a network costs on a runtime. Bytes everywhere; ``latency_ms`` is None where there is no evidence."""

    runtime: str
    macs: int
    params: int
    weights_bytes: int
    flash_bytes: int
    """Flash of the model: the .tflite file, or weights and biases for code generators."""
    sram_bytes: int
    """The arena to set aside on a 32-bit microcontroller: head_bytes + tail_bytes, or what TFLM needs to start where that is more, on
    full 16 bytes, since an arena begins and ends on them. Enough for each version in :attr:`by_version`."""
    head_bytes: int
    """Activations and operator scratch, planned; in the version that needs most."""
    tail_bytes: int
    """The runtime's persistent structures (0 for code generators); in the version that needs most."""
    latency_ms: float | None
    peak_op: str
    peak_index: int
    work: Work = field(repr=False)
    """The operators that were costed."""
    live: tuple[int, ...] = field(repr=False)
    """Bytes of activations and scratch alive during each operator; of compiled code, in its segment."""
    exact_plan: bool = True
    """Whether ``head_bytes`` is what a memory plan takes that is known to the byte: ours, the file's or TFLM's own. Else it is what
    the runtime's model says, see :data:`tinynas.cost.runtimes.RUNTIMES`."""
    setup_bytes: int = 0
    """The arena that TFLM needs to start (0 for other runtimes): more than inference uses where tensors are many and small. At least so
    much, where it is less than that."""
    core: str | None = None
    """The core it was costed for; None: whichever."""
    version: str | None = None
    """The version of TFLM in use that needs most, which :attr:`sram_bytes` and its parts are of; None for other runtimes."""
    by_version: tuple[tuple[str, int], ...] = ()
    """(version, arena to set aside) of each version of TFLM that was counted; of cores that ask for different scratch the most."""
    wider_head_bytes: int = 0
    """What ``head_bytes`` is more on a 64-bit host, where scratch that holds pointers is wider."""
    instructions: int | None = None
    """Executed instructions of an inference; None where those of the core and runtime, or of an operator, were not counted."""
    stack_bytes: int | None = None
    """Stack below the call that it promises not to exceed, interrupts excluded; None where that is not known."""
    timing: LatencyModel | None = field(default=None, repr=False)
    """What ``latency_ms`` is computed by."""
    code: Code | None = None
    """Flash of the code that runs it; None where that is not known."""
    front_end: FrontEndCost | None = None
    """What turns sound into its input takes; None where there is none. Every other figure is of the network alone; :meth:`values` and all
    that is limited has both."""
    stream: StreamCost | None = None
    """What it keeps and computes in each step, on a runtime that streams; ``macs`` are those of a whole clip."""
    learning: UpdateCost | None = field(default=None, repr=False)
    """What a step of the update takes that was asked for; None where none was."""

    @property
    def update_sram_bytes(self) -> int | None:
        """RAM of inference and of the update that was asked for together; None where none was."""
        return None if self.learning is None else self.learning.ram_bytes

    @property
    def code_bytes(self) -> int | None:
        """Flash of the runtime with the kernels of its operators, of the C library and of the firmware folder; None where not known."""
        return None if self.code is None else self.code.total_bytes

    @property
    def program_bytes(self) -> int | None:
        """Flash of the model and of the code that runs it; None where that is not known."""
        return None if self.code is None else self.flash_bytes + self.code.total_bytes

    @cached_property
    def host_arena_bytes(self) -> int:
        """The same arena on a 64-bit host, as tflite-micro's Python wheel measures it (0 where it does not apply)."""
        return self.head_bytes + self.wider_head_bytes + tail_bytes(self.work, "host") if runtime_named(self.runtime).on_host else 0

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Kinds of operators whose part of ``tail_bytes`` is not known: where there are some, SRAM is *at least* what is said."""
        return unknown_tails(self.work) if runtime_named(self.runtime).tail else ()

    @property
    def latency_interval(self) -> tuple[float, float] | None:
        """Milliseconds between which nine of ten measurements lie, a frame of the front end included; None where there is no latency."""
        total = self.values()["latency_ms"]
        return None if total is None or self.timing is None else self.timing.interval(total)

    @cached_property
    def weights_by_bits(self) -> dict[int, int]:
        """Bits of a weight -> how many weights have as many, most bits first."""
        found: dict[int, int] = {}
        for piece in self.work.pieces:
            if piece.weights:
                found[piece.weight_bits] = found.get(piece.weight_bits, 0) + piece.weights
        return dict(sorted(found.items(), reverse=True))

    @property
    def runs(self) -> bool | None:
        """Whether the runtime runs it: not where :attr:`reasons` are given; None where that is not known."""
        return None if self.work.reasons is None else not self.work.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the runtime does not run it."""
        return self.work.reasons or ()

    @cached_property
    def layers(self) -> tuple[OpCost, ...]:
        """One row per operator, in execution order."""
        shapes, pieces = self.work.shapes, self.work.pieces
        counts = None if self.instructions is None else counts_of(self.core, self.runtime)
        executed = [None if counts is None else operator_instructions(counts, piece, self.work) for piece in pieces]
        times: list[float | None] = [None] * len(pieces)
        if self.timing is not None and self.latency_ms is not None:
            cycles = [self.timing.op_cycles(piece, self.work) for piece in pieces]
            times = [self.latency_ms * part / sum(cycles) for part in cycles]
        return tuple(
            [
                OpCost(
                    i,
                    p.kind,
                    p.name,
                    shapes[p.inputs[0]] if p.inputs else (),
                    shapes[p.outputs[0]] if p.outputs else (),
                    p.macs,
                    p.weights + p.biases,
                    p.weights_bytes,
                    live,
                    p.kernel,
                    executed[i],
                    times[i],
                    p.weight_bits if p.weights else None,
                )
                for i, (p, live) in enumerate(zip(pieces, self.live, strict=True))
            ]
        )

    def values(self) -> dict[str, float | None]:
        """The figures that limits and objectives are about: :data:`tinynas.cost.quantities.QUANTITIES`."""
        return values_of(self)

    def evidence(self) -> dict[str, list[str]]:
        """By figure (sram, flash, stack, program): how well it is known, and from what."""
        known = {figure: list(found) for figure, found in runtime_named(self.runtime, self.core).evidence.items() if figure != "code"}
        return known if self.code is None else {**known, "program": [self.code.evidence, f"model and code, {self.code.note}"]}

    def to_json(self) -> dict[str, Any]:
        """The document of ``tinynas estimate --json`` but for name, fits and excess."""
        return {
            "runtime": self.runtime,
            **self.values(),
            "weights_by_bits": {str(bits): count for bits, count in self.weights_by_bits.items()},
            "latency": self._latency(),
            "instructions": self.instructions,
            "runs": self.runs,
            "reasons": list(self.reasons),
            "notes": list(self.work.notes),
            "sram": {
                "head_bytes": self.head_bytes,
                "tail_bytes": self.tail_bytes,
                "setup_bytes": self.setup_bytes or None,
                "host_bytes": self.host_arena_bytes or None,
                "version": self.version,
                "by_version": dict(self.by_version) or None,
            },
            "program": {
                "model_bytes": self.flash_bytes,
                "runtime_bytes": None if self.code is None else self.code.runtime_bytes,
                "firmware_bytes": None if self.code is None else self.code.firmware_bytes,
            },
            "front_end": self._front_end(),
            "stream": None if self.stream is None else self.stream.to_json(),
            "learning": None if self.learning is None else self.learning.summary(),
            "exact_plan": self.exact_plan,
            "at_least": list(self.unknown),
            "uncounted": list(self.work.uncounted),
            "evidence": self.evidence(),
            "peak": {"op": self.peak_op, "index": self.peak_index},
            "layers": [
                {
                    "index": op.index,
                    "kind": op.kind,
                    "name": op.name,
                    "input_shape": list(op.input_shape),
                    "output_shape": list(op.output_shape),
                    "macs": op.macs,
                    "params": op.params,
                    "weights_bytes": op.weights_bytes,
                    "weight_bits": op.weight_bits,
                    "live_bytes": op.live_bytes,
                    "instructions": op.instructions,
                    "latency_ms": op.latency_ms,
                }
                for op in self.layers
            ],
        }

    def _front_end(self) -> dict[str, Any] | None:
        found = self.front_end
        return None if found is None else {**found.to_json(), "network_time_share": found.network_share(self.latency_ms)}

    def _latency(self) -> dict[str, Any] | None:
        ends = self.latency_interval
        if ends is None or self.timing is None:
            return None
        low, high = ends
        return {"low_ms": low, "high_ms": high, "error": self.timing.error, "source": self.timing.source, "own": self.timing.own}


def estimate(
    graph: Graph,
    runtime: str = "tflm",
    *,
    core: str | None = None,
    clock_mhz: float | None = None,
    timing: LatencyModel | None = None,
    update: BoardUpdate | None = None,
) -> Cost:
    """The cost of ``graph`` on ``runtime``, that of its front end beside it; latency where ``core`` and ``clock_mhz`` are given and
    evidence exists, by ``timing`` where there is one of the user's own (:mod:`tinynas.cost.measured`); what ``update`` takes, where the
    board is to learn.

    Raises UserError for an unknown runtime, and for an update on one that is none of TFLM's; UnrunError where nothing is known of the
    network there.
    """
    cost = _network_cost(graph, runtime, core, clock_mhz, timing)
    if update is not None:
        cost = replace(cost, learning=update.cost(graph, cost))
    return with_front_end(cost, graph.input.front_end, _outputs(graph), clock_mhz)


def with_front_end(cost: Cost, front_end: FrontEnd | None, classes: int, clock_mhz: float | None) -> Cost:
    """``cost`` of a network of ``classes``, that of its front end beside it; where there is none, ``cost``."""
    if front_end is None:
        return cost
    every = None if cost.stream is None else cost.stream.every
    compiled = runtime_named(cost.runtime).frame is not None
    found = front_end_cost(front_end, classes, core=cost.core, clock_mhz=clock_mhz, timing=cost.timing, compiled=compiled, every=every)
    return replace(cost, front_end=found)


def _outputs(graph: Graph) -> int:
    return sum(math.prod(graph.shape(output)) for output in graph.outputs)


def _network_cost(graph: Graph, runtime: str, core: str | None, clock_mhz: float | None, timing: LatencyModel | None) -> Cost:
    chosen = runtime_named(runtime, core)
    if chosen.frame is None:
        graph = padded_as_same(graph)  # what a file holds
    work = from_graph(graph)
    if reasons := unrun(chosen, work.pieces):
        work = replace(work, reasons=reasons)
    if chosen.frame is not None:
        refuse(chosen, work.pieces)  # what it would take is not known
        if chosen.stream:
            steps = plan_steps(graph)
            taken, live = step_constants(graph), (steps.work_bytes,) * len(graph.ops)
            cost = work_cost(work, chosen, taken, steps.work_bytes, core=core, clock_mhz=clock_mhz, timing=timing, live=live)
            # Its driver takes less of the stack than that of rows, and the kernels are the same.
            return replace(cost, stream=stream_cost(steps), instructions=None, latency_ms=None, stack_bytes=network_stack(graph, core))
        compiled = compiled_cost(graph, chosen.frame)
        taken, area = compiled.flash_bytes, compiled.work_bytes
        cost = work_cost(work, chosen, taken, area, core=core, clock_mhz=clock_mhz, timing=timing, live=compiled.live)
        if zeros_behind(graph):  # loops are counted for SAME
            cost = replace(cost, instructions=None, latency_ms=None)
        return replace(cost, stack_bytes=network_stack(graph, core))
    head, spans = None, lifetimes(work)
    if chosen.plans and nested_frames(work.pieces, work.inputs, work.outputs, spans[1], over=written_over(work, chosen)) is None:
        plan = offline_work(work, chosen)
        work, head = replace(work, pieces=tuple([work.pieces[i] for i in plan.order])), plan.head_bytes
        spans = lifetimes(work)
    # Where shortcuts nest, the plan reaches the live bytes: see tinynas.cost.memory.
    size_bytes = file_bytes(graph) if chosen.flash == "file" else 0
    return work_cost(work, chosen, size_bytes, head, core=core, clock_mhz=clock_mhz, timing=timing, spans=spans)


def file_cost(
    work: Work,
    runtime: Runtime,
    size_bytes: int,
    plan: tuple[int, ...] | None,
    *,
    core: str | None,
    clock_mhz: float | None,
    timing: LatencyModel | None = None,
) -> Cost:
    """The cost of a .tflite of ``size_bytes`` as it is: with the memory ``plan`` that it carries, or None where the runtime plans.

    Raises UnrunError for compiled code, which is not made of files.
    """
    if runtime.frame is not None:
        raise UnrunError(
            f"{runtime.name} is for networks: a .tflite is not compiled",
            "give the network that the file was made from",
            reasons=("a .tflite is not compiled: give the network that it was made from",),
        )
    heads = file_heads(work, runtime, plan) if runtime.plans else None
    if not runtime.plans and (reasons := unrun(runtime, work.pieces)):
        work = replace(work, reasons=(*(work.reasons or ()), *reasons))
    cost = work_cost(work, runtime, size_bytes, heads, core=core, clock_mhz=clock_mhz, timing=timing)
    if heads is None or not runtime.on_host or all(p.scratch_of("host") == p.scratch_of("mcu") for p in work.pieces):
        return cost
    return replace(cost, wider_head_bytes=file_head_bytes(work, runtime, plan, "host") - cost.head_bytes)


def work_cost(
    work: Work,
    runtime: Runtime,
    size_bytes: int,
    head_bytes: int | Mapping[Build, int] | None,
    *,
    core: str | None,
    clock_mhz: float | None,
    timing: LatencyModel | None = None,
    spans: Spans | None = None,
    live: Sequence[int] | None = None,
) -> Cost:
    """The cost of any work; ``size_bytes`` is the size of its .tflite file, ``head_bytes`` that of its memory plan, by build where
    builds differ.

    Without ``head_bytes`` the head is the live bytes: what our plan reaches, or the model of a runtime that has no plans.
    """
    pieces = work.pieces
    timing = timing or latency_model(core, runtime.name)
    live = live_bytes(work, runtime, spans) if live is None else live
    bound = max(live)
    peak = live.index(bound)
    most = bound if head_bytes is None else head_bytes
    arena = _arena(work, runtime, most) if runtime.tail else None
    macs = sum([piece.macs for piece in pieces])
    biases = sum([piece.biases for piece in pieces])
    weights_bytes = sum([piece.weights_bytes for piece in pieces])
    latency = None if work.reasons else latency_ms(work, timing, clock_mhz)
    if latency is not None and any(piece.arithmetic in FEW_BITS for piece in pieces):
        work = replace(work, notes=(*work.notes, _UNTIMED_BITS))
    if arena is None:
        arena = _Arena(None, (most if isinstance(most, int) else max(most.values())) + static_bytes(runtime, work), 0, 0, ())
    return Cost(
        runtime=runtime.name,
        macs=macs,
        params=sum([piece.weights for piece in pieces]) + biases,
        weights_bytes=weights_bytes,
        flash_bytes=flash_bytes(runtime, size_bytes, weights_bytes, biases),
        sram_bytes=arena.bytes if runtime.tail else arena.head_bytes,
        head_bytes=arena.head_bytes,
        tail_bytes=arena.tail_bytes,
        latency_ms=latency,
        peak_op=pieces[peak].name,
        peak_index=peak,
        work=work,
        live=tuple(live),
        exact_plan=runtime.plans or runtime.frame is not None,
        setup_bytes=arena.setup_bytes,
        core=core,
        version=arena.version,
        by_version=arena.by_version,
        instructions=None if work.reasons else instructions(work, core, runtime.name),
        timing=timing,
        code=code_of(
            (code_kind(piece) if runtime.frame is not None else piece.kind for piece in pieces),
            runtime.name,
            core,
            ((piece.kind, piece.alone) for piece in pieces),
        ),
    )


_UNTIMED_BITS = (
    "kernels for weights of 4 bits were counted and never timed: the latency takes as many cycles an instruction as those for int8 need"
)


@dataclass(frozen=True, slots=True)
class _Arena:
    """The arena of the version that needs most."""

    version: str | None
    head_bytes: int
    tail_bytes: int
    setup_bytes: int
    by_version: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """What to set aside: an arena begins and ends on 16 bytes."""
        return aligned(max(self.head_bytes + self.tail_bytes, self.setup_bytes))


def _arena(work: Work, runtime: Runtime, heads: int | Mapping[Build, int]) -> _Arena:
    """The arena of TFLM's version that needs most, the first of those that need as much."""
    found: list[_Arena] = []
    by_version: dict[str, int] = {}
    for version, build in runtime.builds:
        opened = open_tail_bytes(work, build)
        head = heads if isinstance(heads, int) else heads[build]
        found.append(_Arena(version, head, closed_tail(work, opened, build), setup_bytes(work, build, opened=opened, head=head), ()))
        by_version[version] = max(by_version.get(version, 0), found[-1].bytes)
    return replace(max(found, key=lambda arena: arena.bytes), by_version=tuple(by_version.items()))
