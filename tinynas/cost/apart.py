"""Memory of learning where the runtime plans inference by itself: what the firmware folder's ``adapt.h`` takes, to the byte.

The runtime computes the whole network in int8, and keeps, as further outputs of the file, what the *tail* reads: the operators from the
first one on of which anything is updated. The tail is computed once more, in float32, from those int8 values; then comes the loss, and
backward through the tail. So the runtime's arena is that of a network of more outputs, and beside it lies one memory of learning, which
is planned here by the planner of inference: real outputs of the tail, bits of activations, gradients, and through all of it what is
updated, its momentum, and, of more than one input a step, the sums of its gradients. Weights change one by one as soon as their gradient
is worked out, so with one input a step no gradient of weights is kept. The code takes its places from this very plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tinynas.cost.estimator import Cost, estimate
from tinynas.cost.memory import aligned, in_given_order, live_bytes
from tinynas.cost.runtimes import Runtime, runtime_named
from tinynas.cost.updates import Update, columns_of
from tinynas.cost.work import Piece, Work
from tinynas.errors import UserError
from tinynas.graph import WEIGHTED, Add, Conv2D, DepthwiseConv2D, FullyConnected, Graph, Mean, Weighted, outputs_of

if TYPE_CHECKING:
    from tinynas.cost.backward import UpdateRow

#: Bytes of a real number.
REAL = 4
#: Operators that a tail may hold.
_KNOWN = (Conv2D, DepthwiseConv2D, FullyConnected, Mean, Add)
#: Where :func:`unlearnable` sends people.
SUPPORTED = (
    "the classifier, whole layers, and biases of whole layers, where from the first of them on there are convolutions, additions, a mean "
    "and dense layers alone"
)


@dataclass(frozen=True)
class Apart:
    """The memory of learning: byte offsets in it, and what the runtime keeps for it. Everything lies on full 16 bytes."""

    graph: Graph = field(repr=False)
    """What the runtime computes: its outputs are the logits and :attr:`kept`."""
    kept: tuple[int, ...]
    """Int8 activations that the tail reads, in the runtime's memory."""
    ops: tuple[int, ...]
    """The operators of the tail, as they are numbered in :attr:`graph`."""
    values: Mapping[int, int]
    """Tensor -> place of its real values."""
    gradients: Mapping[int, int]
    """Tensor -> place of its gradient; two tensors that an addition passes one gradient to share one."""
    masks: Mapping[int, int]
    """Operator -> place of the bits of its activation."""
    parameters: Mapping[int, int]
    """Operator -> place of its updated weights, then biases."""
    momenta: Mapping[int, int]
    sums: Mapping[int, int]
    """The same of their gradients, where a step has more than one input."""
    own_bytes: int
    """All of it."""
    arena: Cost = field(repr=False)
    """Of :attr:`graph` on the runtime."""
    work: Work = field(repr=False)
    live: tuple[int, ...] = field(repr=False)
    """Bytes of it alive in each operator of :attr:`work`."""

    @property
    def ram_bytes(self) -> int:
        """The runtime's arena and the memory beside it."""
        return self.arena.sram_bytes + self.own_bytes

    @property
    def kept_bytes(self) -> int:
        """Of what the runtime keeps of one input: so much has an input that is learned again without running the network."""
        return sum(self.graph.tensors[tensor].elements for tensor in self.kept)


def unlearnable(graph: Graph, update: Update, needed: frozenset[int], runtime: Runtime) -> str:
    """Why no code of a firmware folder learns ``update``, whose gradients run through the tensors ``needed``; empty where it does."""
    for op in graph.ops:
        if op.output not in needed:
            continue
        if not isinstance(op, _KNOWN):
            return f"{op.name} is of kind {op.kind}, which no gradient passes there"
        if isinstance(op, (Conv2D, DepthwiseConv2D)) and op.dilation != (1, 1):
            return f"{op.name} is dilated, and no gradient passes a dilated convolution there"
        if set(op.inputs) & set(graph.inputs):
            return f"{op.name} reads the image itself, which is not kept"
        if isinstance(op, Add) and op.inputs[0] == op.inputs[1]:
            return f"{op.name} adds a tensor to itself"
        if isinstance(op, WEIGHTED) and not _whole(op, update):
            return f"of {op.name} some channels are updated and others are not ({update.of(op).words(op)})"
    last = graph.ops[-1]
    if runtime.frame is not None and needed != {last.output}:
        return f"{runtime.name} keeps no activation but the classifier's input"
    return ""


def _whole(op: Weighted, update: Update) -> bool:
    part, every = update.of(op), outputs_of(op)
    weights = not part.weighted or (len(part.rows) == every and len(part.columns) == columns_of(op))
    return weights and len(part.biases) in ((every,) if part.weighted else (0, every))


def plan_apart(
    graph: Graph, update: Update, rows: Sequence[UpdateRow], needed: frozenset[int], batch: int, runtime: Runtime, core: str | None
) -> Apart:
    """The memory of a step that updates ``update``, of which ``rows`` tell the parts, beside ``runtime`` on ``core``.

    Raises UserError for what no code learns.
    """
    if why := unlearnable(graph, update, needed, runtime):
        raise UserError(f"learning on the board: {why}", f"there are {SUPPORTED}")
    tail = [index for index, op in enumerate(graph.ops) if op.output in needed]
    kept = tuple(sorted({tensor for index in tail for tensor in graph.ops[index].inputs} - needed))
    made = _Memory(graph, update, rows, tail, needed, batch)
    planner = runtime_named("tflm")  # whatever runs the network: its planner places on full 16 bytes
    plan = in_given_order(made.work, planner)
    places = plan.offsets
    # A compiled network's classifier is its last operator, behind which nothing writes over what it read.
    run = graph if runtime.frame is not None else replace(graph, outputs=(graph.logits, *kept))
    return Apart(
        graph=run,
        kept=kept,
        ops=tuple(tail),
        values={tensor: places[own] for tensor, own in made.values.items()},
        gradients={tensor: places[own] for tensor, own in made.gradients.items()},
        masks={index: places[own] for index, own in made.masks.items()},
        parameters={index: places[own] for index, own in made.parameters.items()},
        momenta={index: places[own] for index, own in made.momenta.items()},
        sums={index: places[own] for index, own in made.sums.items()},
        own_bytes=aligned(plan.head_bytes),
        arena=estimate(run, runtime.name, core=core),
        work=made.work,
        live=tuple(live_bytes(made.work, planner)),
    )


class _Memory:
    """Forward of the tail, loss and backward as one :class:`Work` over the memory of learning alone."""

    def __init__(
        self, graph: Graph, update: Update, rows: Sequence[UpdateRow], tail: Sequence[int], needed: frozenset[int], batch: int
    ) -> None:
        self.graph, self.update, self.rows, self.needed = graph, update, rows, needed
        self.sizes: list[int] = []
        self.pieces: list[Piece] = []
        self.values: dict[int, int] = {}
        self.gradients: dict[int, int] = {}
        self.masks: dict[int, int] = {}
        self.parameters: dict[int, int] = {}
        self.momenta: dict[int, int] = {}
        self.sums: dict[int, int] = {}
        self._persistent(tail, batch)
        persistent = tuple(range(len(self.sizes)))
        for index in tail:
            self._forward(index)
        logits = graph.logits
        self.gradients[logits] = self._tensor(REAL * graph.tensors[logits].elements)
        self.pieces.append(Piece("loss", "loss", (self.values[logits],), (self.gradients[logits],)))
        for index in reversed(tail):
            self._backward(index)
        sizes = tuple(self.sizes)
        self.work = Work(sizes, tuple((size,) for size in sizes), tuple(self.pieces), persistent, persistent, len(sizes))

    def _tensor(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def _persistent(self, tail: Sequence[int], batch: int) -> None:
        for index in tail:
            row = self.rows[index]
            for size, places in (
                (row.copies_bytes, self.parameters),
                (row.optimizer_bytes, self.momenta),
                (REAL * row.parameters if batch > 1 else 0, self.sums),
            ):
                if size:
                    places[index] = self._tensor(size)

    def _forward(self, index: int) -> None:
        op = self.graph.ops[index]
        self.values[op.output] = self._tensor(REAL * self.graph.tensors[op.output].elements)
        written = [self.values[op.output]]
        if self.rows[index].mask_bytes:
            self.masks[index] = self._tensor(self.rows[index].mask_bytes)
            written.append(self.masks[index])
        read = tuple(self.values[tensor] for tensor in dict.fromkeys(op.inputs) if tensor in self.needed)
        self.pieces.append(Piece("real", f"real {op.name}", read, tuple(written)))

    def _backward(self, index: int) -> None:
        op = self.graph.ops[index]
        arrived = self.gradients[op.output]
        read, written = [arrived], []
        if index in self.masks:
            read.append(self.masks[index])
        if isinstance(op, WEIGHTED) and self.update.of(op).weighted and op.inputs[0] in self.needed:
            read.append(self.values[op.inputs[0]])
        free = isinstance(op, Add)
        for tensor in dict.fromkeys(op.inputs):
            if tensor not in self.needed:
                continue
            if tensor in self.gradients:
                read.append(self.gradients[tensor])  # is added to
            elif free:
                self.gradients[tensor], free = arrived, False  # lies over what arrived
            else:
                self.gradients[tensor] = self._tensor(REAL * self.graph.tensors[tensor].elements)
                written.append(self.gradients[tensor])
        self.pieces.append(Piece(f"{op.kind} backward", f"backward of {op.name}", tuple(read), tuple(written)))
