"""What a step of learning on the board costs: forward, backward and update of a Graph, by operator, and one memory plan over it all.

The schedule. Forward is the inference of int8 kernels. Then the loss writes the gradient of the logits, and backward runs the operators
in reverse, as far back as the first one of which anything is updated: no further. Each backward operator reads the gradient of its
output, which is then let go, and writes those of its inputs; where a tensor has several readers, the later ones add to it. The weights of
an operator change as soon as their gradient is there (as in MCUNetV3, arXiv 2206.15472, section 3.3), so with one input a step their
gradient lives during that operator alone; with more, which a board runs one after the other, it is added up through the step.

What must be kept from forward to backward:

- the int8 input of an operator whose weights are updated: all of it, or, where only some input channels are read by what is updated, those,
  packed together as soon as nothing else reads the tensor;
- a bit an element for each ReLU or ReLU6 that the gradient passes, or of which the bias is updated;
- the other factor of a product, the input of HARD_SWISH, a byte an output element for the place of a maximum;
- nothing for operators on neither way: an addition, an average and a resizing need nothing, and a convolution that only passes the gradient
  on needs its weights, which are there.

MACs are counted as in :mod:`tinynas.cost.work`: convolutions and matrix products alone. The gradient of an operator's input takes as
many as the operator itself, that of its weights output pixels * weights updated; one a parameter and step for SGD, two with momentum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, assert_never

from tinynas.cost.apart import REAL, Apart, plan_apart
from tinynas.cost.estimator import Cost, estimate
from tinynas.cost.memory import aligned, in_given_order, live_bytes, offline_work
from tinynas.cost.runtimes import runtime_named, why_no_update
from tinynas.cost.schema import packed_bytes
from tinynas.cost.updates import Chosen, Update
from tinynas.cost.work import Piece, Work, from_graph
from tinynas.errors import UserError
from tinynas.graph import (
    WEIGHTED,
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Graph,
    HardSwish,
    Mean,
    Mul,
    Op,
    Pool2D,
    Resize,
)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The element types of an update, in bytes. Activations are the int8 of inference throughout."""

    name: str
    title: str
    gradient: int
    """An element of a gradient of an activation."""
    weight: int
    """An updated weight in RAM, beside its int8: what is learned is finer than the grid. 0 where the int8 is all there is."""
    bias: int
    """The same of an updated bias, beside its int32."""
    weight_gradient: int
    """An element of a gradient of weights or biases, and of its sum."""
    momentum: int
    """An element of SGD's momentum."""
    every_convolution: bool = False
    """Whether a bit an element is kept of each convolution's output on the way, whatever its activation: int8 outputs saturate."""
    apart: bool = False
    """Whether it is that of the firmware folder's ``adapt.h``: what is behind the first update is computed in real numbers in a memory of
    its own (:mod:`tinynas.cost.apart`), without integers beside what is updated."""


#: Float32 gradients are what the simulation computes (``adapt run``); the others say what narrower ones would take.
ARITHMETICS: dict[str, Arithmetic] = {
    one.name: one
    for one in (
        Arithmetic("float32", "float32 gradients; a float32 master of each updated parameter beside its integer", 4, 4, 4, 4, 4),
        Arithmetic("int32", "int32 gradients of activations and weights; an int32 master of each updated parameter", 4, 4, 4, 4, 4),
        Arithmetic("int8", "int8 gradients of activations, 32 bits for those of weights, masters and momentum", 1, 4, 4, 4, 4),
        Arithmetic(
            "mcunetv3",
            "as MCUNetV3's published code counts (tiny-training, partial_backward.py): 8 bits for activations and updated weights, 32 for "
            "biases, a bit an element of each convolution's output, no momentum (0 bits there), and here 8 bits for gradients",
            1,
            0,
            0,
            1,
            0,
            every_convolution=True,
        ),
        Arithmetic(
            "board",
            "as the firmware folder's adapt.h learns: float32 from the first operator on that is updated, in a memory of its own",
            4,
            4,
            4,
            4,
            4,
            apart=True,
        ),
    )
}


def arithmetic_named(name: str) -> Arithmetic:
    """The arithmetic ``name``. Raises UserError with what is known."""
    if name not in ARITHMETICS:
        raise UserError(f"arithmetic {name!r} is not known", f"use one of {', '.join(ARITHMETICS)}")
    return ARITHMETICS[name]


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """What one operator adds to a step."""

    index: int
    kind: str
    name: str
    updated: str
    """What of it is updated, for people; "" for operators without weights."""
    on_path: bool
    """Whether the gradient of its output is needed."""
    passes: bool
    """Whether it passes a gradient on to any of its inputs."""
    parameters: int
    """Weights and biases that are updated."""
    kept_bytes: int
    """Activations kept for its backward that no operator before it keeps already."""
    mask_bytes: int
    """A bit an element of its activation, or a byte an element for the places of maxima."""
    gradient_bytes: int
    """The gradient of its output."""
    weight_gradient_bytes: int
    copies_bytes: int
    """Updated weights and biases in RAM."""
    optimizer_bytes: int
    macs_forward: int
    macs_inputs: int
    """MACs of the gradient of its input."""
    macs_weights: int
    """MACs of the gradient of its weights."""
    macs_update: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True)
class UpdateCost:
    """What a step of learning costs. Bytes everywhere; MACs are those of one input, and of the update at the end of a step."""

    rows: tuple[UpdateRow, ...]
    inference: Cost = field(repr=False)
    arithmetic: Arithmetic
    batch: int
    momentum: bool
    work: Work = field(repr=False)
    """Forward, loss and backward as one list of operators, as planned."""
    live: tuple[int, ...] = field(repr=False)
    """Bytes alive during each of them: what no plan can go below; then those of each operator of the memory apart, where there is one."""
    head_bytes: int
    """What the plan takes."""
    offsets: tuple[int, ...] = field(repr=False)
    """Of the plan, for each tensor of :attr:`work`."""
    apart: Apart | None = field(default=None, repr=False)
    """The memory of learning where it lies beside the runtime's; :attr:`work` and the plan are of the runtime's alone then."""

    @cached_property
    def ram_bytes(self) -> int:
        """RAM of learning and inference: the plan, and what the runtime holds beside it; at least that of inference alone."""
        if self.apart is not None:
            return self.apart.ram_bytes
        return max(self.inference.sram_bytes, aligned(self.head_bytes + self.inference.tail_bytes))

    @property
    def extra_bytes(self) -> int:
        """RAM beside that of inference."""
        return self.ram_bytes - self.inference.sram_bytes

    @cached_property
    def peak_index(self) -> int:
        """The step during which most is alive; the first of several."""
        return self.live.index(max(self.live))

    @property
    def peak(self) -> str:
        """Where most is alive, for people: ``forward of s0.b0.expand``."""
        return self.step(self.peak_index)

    def step(self, index: int) -> str:
        """Step ``index`` of :attr:`live`, for people."""
        if self.apart is not None and index >= len(self.rows):
            return self.apart.work.pieces[index - len(self.rows)].name
        name = self.work.pieces[index].name
        return f"forward of {name}" if index < len(self.rows) else name

    def total(self, name: str) -> int:
        """The sum of a column of :attr:`rows`."""
        return sum(getattr(row, name) for row in self.rows)

    @property
    def parameters(self) -> int:
        """Weights and biases that are updated."""
        return self.total("parameters")

    @property
    def macs_backward(self) -> int:
        """MACs of backward, of one input."""
        return self.total("macs_inputs") + self.total("macs_weights")

    @property
    def macs(self) -> int:
        """MACs of a step: forward and backward of each input of the batch, and the update."""
        return self.batch * (self.total("macs_forward") + self.macs_backward) + self.total("macs_update")

    @property
    def share(self) -> float:
        """Updated parameters of all, 0 to 1."""
        return self.parameters / max(1, self.inference.params)

    def summary(self) -> dict[str, Any]:
        """Plain data in short, as ``estimate --json`` shows it."""
        return {
            "ram_bytes": self.ram_bytes,
            "extra_bytes": self.extra_bytes,
            "peak": self.peak,
            "parameters": self.parameters,
            "share": self.share,
            "macs": self.macs,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data, as ``adapt plan --json`` shows it."""
        sums = ("kept_bytes", "mask_bytes", "copies_bytes", "optimizer_bytes")
        return {
            "arithmetic": self.arithmetic.name,
            "batch": self.batch,
            "momentum": self.momentum,
            "ram_bytes": self.ram_bytes,
            "inference_bytes": self.inference.sram_bytes,
            "extra_bytes": self.extra_bytes,
            "head_bytes": self.head_bytes,
            "live_bytes": max(self.live),
            "peak": {"step": self.peak_index, "at": self.peak},
            "parameters": self.parameters,
            "share": self.share,
            **{name: self.total(name) for name in sums},
            "gradient_bytes": max((row.gradient_bytes for row in self.rows), default=0),
            "weight_gradient_bytes": (max if self.batch == 1 else sum)([0, *(row.weight_gradient_bytes for row in self.rows)]),
            "macs": {
                "forward": self.total("macs_forward"),
                "backward_inputs": self.total("macs_inputs"),
                "backward_weights": self.total("macs_weights"),
                "update": self.total("macs_update"),
                "step": self.macs,
            },
            "layers": [row.to_json() for row in self.rows],
        }


def gradients_needed(graph: Graph, update: Chosen, *, asked: Iterable[int] = ()) -> frozenset[int]:
    """Tensors whose gradient has to be worked out: those ``asked`` for, outputs of what is updated, and of all that is computed of them."""
    needed: set[int] = set(asked)
    for op in graph.ops:
        if (isinstance(op, WEIGHTED) and not update.of(op).nothing) or needed.intersection(op.inputs):
            needed.add(op.output)
    return frozenset(needed)


#: Channels of an activation; None: all.
Channels: TypeAlias = frozenset[int] | None


def kept_channels(graph: Graph, update: Chosen, needed: frozenset[int]) -> dict[int, Channels]:
    """Channels of each activation that backward reads again; activations of which it reads none are left out. ``needed``: as
    :func:`gradients_needed` says."""
    kept: dict[int, Channels] = {}
    for op in graph.ops:
        for tensor, channels in _read_again(update, needed, op).items():
            before = kept.get(tensor, frozenset())
            both = None if channels is None or before is None else before | channels
            kept[tensor] = None if both is not None and len(both) == graph.shape(tensor)[-1] else both
    return kept


def _read_again(update: Chosen, needed: frozenset[int], op: Op) -> dict[int, Channels]:
    """Activations, and of each the channels, that the backward of ``op`` reads."""
    match op:
        case Conv2D() | DepthwiseConv2D() | FullyConnected():
            part = update.of(op)
            return {op.inputs[0]: part.read_of(op)} if part.weighted else {}
        case Mul():
            x, gate = op.inputs
            found: dict[int, Channels] = {gate: None} if x in needed else {}
            return found | ({x: None} if gate in needed else {})
        case HardSwish():
            return {op.inputs[0]: None} if op.inputs[0] in needed else {}
        case Add() | Mean() | Pool2D() | Resize():
            return {}
        case _:
            assert_never(op)


def _mask_bytes(graph: Graph, op: Op, needed: frozenset[int], arithmetic: Arithmetic) -> int:
    """Bytes that the forward of ``op`` leaves for its backward about its own output."""
    if op.output not in needed:
        return 0
    elements = graph.tensors[op.output].elements
    match op:
        case Conv2D() | DepthwiseConv2D():
            return -(-elements // 8) if op.act != "none" or arithmetic.every_convolution else 0
        case FullyConnected() | Add() | Mul():
            return -(-elements // 8) if op.act != "none" else 0
        case Pool2D():
            places = op.kernel[0] * op.kernel[1]
            return elements * (1 if places <= 256 else 2) if op.op == "max" and op.inputs[0] in needed else 0
        case Mean() | HardSwish() | Resize():
            return 0
        case _:
            assert_never(op)


def estimate_update(
    graph: Graph,
    update: Update,
    *,
    runtime: str = "tflm",
    core: str | None = None,
    arithmetic: str = "float32",
    batch: int = 1,
    momentum: bool = False,
    planned: bool = True,
    inference: Cost | None = None,
) -> UpdateCost:
    """What a step costs that updates ``update`` of ``graph``, its forward run by ``runtime`` (one of TFLM's) on ``core``.

    ``planned``: else the plan is left out and ``head_bytes`` is the bytes alive at the peak, a bound that a plan nearly always reaches:
    for choosing among many. ``inference``: what ``graph`` costs there, where it is known already. Raises UserError for channels that are
    not there, and for runtimes whose plans are not of whole tensors.
    """
    update.check(graph)
    kind, counted = runtime_named(runtime, core), arithmetic_named(arithmetic)
    on_compiled = counted.apart and not update.nothing and kind.frame is not None and not kind.stream
    if (why := why_no_update(runtime)) is not None and not on_compiled:
        raise UserError(f"learning with {runtime}: {why}", "use a runtime of TFLM")
    if batch < 1:
        raise UserError(f"batch {batch}: must be at least 1", "a step learns from one input or more")
    inference = estimate(graph, runtime, core=core) if inference is None else inference
    graph = _in_order(graph, inference.work)
    made = Step(graph, from_graph(graph), update, counted, batch, momentum=momentum)
    if counted.apart and not update.nothing:
        own = plan_apart(made.graph, update, made.rows, made.needed, batch, kind, core)
        arena = own.arena
        # Both memories are there all the time; what is alive in one stands beside all of the other.
        steps = (*(alive + own.own_bytes for alive in arena.live), *(arena.head_bytes + alive for alive in own.live))
        head = arena.head_bytes + own.own_bytes
        return UpdateCost(tuple(made.rows), inference, counted, batch, momentum, arena.work, steps, head, (), own)
    live = live_bytes(made.work, kind)
    offsets: tuple[int, ...] = ()
    head = max(live)
    if not planned:
        pass  # the bound stands for it
    elif update.nothing:
        offsets, head = offline_work(made.work, kind).offsets, inference.head_bytes
    else:
        plan = in_given_order(made.work, kind)
        offsets, head = plan.offsets, plan.head_bytes
    return UpdateCost(tuple(made.rows), inference, made.arithmetic, batch, momentum, made.work, tuple(live), head, offsets)


def _in_order(graph: Graph, work: Work) -> Graph:
    """``graph`` with its operators in the order in which ``work`` runs them: that of the plan of inference."""
    by_name = {op.name: op for op in graph.ops}
    return replace(graph, ops=tuple(by_name[piece.name] for piece in work.pieces))


def _some(size: Any) -> bool:
    """Whether there is anything at all: an array of sizes has something in each."""
    return not (isinstance(size, int) and size == 0)


def _as_large(graph: Graph, tensor: int, other: int) -> bool:
    """Whether two tensors have as many elements; of arrays, whether any have: what that takes is never too much."""
    same: Any = graph.tensors[tensor].elements == graph.tensors[other].elements
    return bool(same.any()) if hasattr(same, "any") else bool(same)


class Step:
    """Forward, loss and backward of a graph as one :class:`Work`. Sizes may be integer arrays, where ``update`` is of whole operators.

    ``forward``: the graph's own work. ``asked``: tensors whose gradient something in front of the graph wants. Where the graph is a part
    in the middle of a network, what is called the loss is all that lies behind it.
    """

    def __init__(
        self,
        graph: Graph,
        forward: Work,
        update: Chosen,
        arithmetic: Arithmetic,
        batch: int,
        *,
        momentum: bool,
        asked: Iterable[int] = (),
    ) -> None:
        self.graph, self.update, self.arithmetic, self.batch = graph, update, arithmetic, batch
        self.needed = gradients_needed(graph, update, asked=asked)
        self.kept = kept_channels(graph, update, self.needed)
        self.sizes = list(forward.sizes)
        self.shapes = list(forward.shapes)
        self.pieces = list(forward.pieces)
        #: tensors that live through the step: copies of what is updated, momenta, sums of gradients
        self.persistent: list[int] = []
        #: tensor -> what backward reads of it: the tensor itself, or a copy of some channels
        self.saved: dict[int, int] = {}
        #: tensor -> its gradient
        self.gradients: dict[int, int] = {}
        #: operator -> what it leaves for its own backward
        self.masks: dict[int, int] = {}
        self.rows: list[UpdateRow] = []
        self._fill_rows(forward, momentum)
        if self.needed:
            self._forward()
            self._backward()
        inputs = (*forward.inputs, *self.persistent)
        outputs = (*forward.outputs, *self.persistent)
        self.work = replace(
            forward, sizes=tuple(self.sizes), shapes=tuple(self.shapes), pieces=tuple(self.pieces), inputs=inputs, outputs=outputs
        )

    def _tensor(self, size: int) -> int:
        self.sizes.append(size)
        self.shapes.append((size,))
        return len(self.sizes) - 1

    def _fill_rows(self, forward: Work, momentum: bool) -> None:
        arithmetic, told = self.arithmetic, set()
        for index, (op, piece) in enumerate(zip(self.graph.ops, forward.pieces, strict=True)):
            weights = biases = pixels = copies = 0
            words = ""
            if isinstance(op, WEIGHTED):
                part = self.update.of(op)
                weights, biases, words = part.weights_of(op), part.biases_in(op), part.words(op)
                pixels = self.graph.tensors[op.output].elements // self.graph.shape(op.output)[-1]
                copies = packed_bytes(weights, op.weight_bits) + weights * arithmetic.weight + biases * (4 + arithmetic.bias)
                if arithmetic.apart:
                    copies = REAL * (weights + biases)
            reads = _read_again(self.update, self.needed, op)
            fresh = [tensor for tensor in reads if tensor not in told]
            told |= set(fresh)
            parameters = weights + biases
            passes, on_path = bool(self.needed.intersection(op.inputs)), op.output in self.needed
            # Apart, a gradient of weights is used as soon as it is there, one by one; and the tail is computed twice.
            summed = not arithmetic.apart or self.batch > 1
            self.rows.append(
                UpdateRow(
                    index=index,
                    kind=op.kind,
                    name=op.name,
                    updated=words,
                    on_path=on_path,
                    passes=passes,
                    parameters=parameters,
                    kept_bytes=sum(self._kept_bytes(tensor) for tensor in fresh),
                    mask_bytes=_mask_bytes(self.graph, op, self.needed, arithmetic),
                    gradient_bytes=self.graph.tensors[op.output].elements * arithmetic.gradient if on_path else 0,
                    weight_gradient_bytes=parameters * arithmetic.weight_gradient if summed else 0,
                    copies_bytes=copies,
                    optimizer_bytes=parameters * arithmetic.momentum if momentum else 0,
                    macs_forward=piece.macs * (2 if arithmetic.apart and on_path else 1),
                    macs_inputs=piece.macs if passes else 0,
                    macs_weights=pixels * weights,
                    macs_update=parameters * (2 if momentum else 1),
                )
            )

    def _kept_bytes(self, tensor: int) -> int:
        channels = self.kept[tensor]
        element = REAL if self.arithmetic.apart and tensor in self.needed else 1
        some = self.sizes[tensor] if channels is None else self.sizes[tensor] // self.graph.shape(tensor)[-1] * len(channels)
        return some * element

    def _forward(self) -> None:
        """What forward leaves for backward: masks beside outputs, and packed channels behind a tensor's last reader."""
        count = len(self.graph.ops)
        more: dict[int, list[int]] = {}
        for index, row in enumerate(self.rows):
            if _some(row.mask_bytes):
                self.masks[index] = self._tensor(row.mask_bytes)
                more.setdefault(index, []).append(self.masks[index])
        for tensor, channels in self.kept.items():
            self.saved[tensor] = tensor
            if channels is not None and tensor not in self.graph.outputs:
                self.saved[tensor] = self._tensor(self._kept_bytes(tensor))
                # The operator behind the last reader, or the loss, finds them packed.
                more.setdefault(min(self.graph.lifetimes[tensor][1] + 1, count), []).append(self.saved[tensor])
        for index in range(count):
            piece = self.pieces[index]
            self.pieces[index] = replace(piece, outputs=(*piece.outputs, *more.get(index, ())))
        for row in self.rows:
            for size in (row.copies_bytes, row.optimizer_bytes):
                if _some(size):
                    self.persistent.append(self._tensor(size))
        logits = self.graph.logits
        self.gradients[logits] = self._tensor(self.graph.tensors[logits].elements * self.arithmetic.gradient)
        self.pieces.append(Piece("loss", "loss", (logits,), (self.gradients[logits], *more.get(count, ()))))

    def _backward(self) -> None:
        for index in reversed(range(len(self.graph.ops))):
            op, row = self.graph.ops[index], self.rows[index]
            if not row.on_path:
                continue
            arrived = self.gradients[op.output]
            read = [arrived, *(self.saved[t] for t in _read_again(self.update, self.needed, op))]
            written: list[int] = []
            if index in self.masks:
                read.append(self.masks[index])
            if _some(row.weight_gradient_bytes):
                sums = self._tensor(row.weight_gradient_bytes)
                if self.batch > 1:
                    self.persistent.append(sums)
                else:
                    written.append(sums)
            # What an operator passes on element by element lies over what arrived.
            free = isinstance(op, Add | Mul | HardSwish)
            for tensor in dict.fromkeys(op.inputs):
                if tensor not in self.needed:
                    continue
                if tensor in self.gradients:
                    read.append(self.gradients[tensor])  # is added to
                elif free and _as_large(self.graph, tensor, op.output):
                    self.gradients[tensor], free = arrived, False
                else:
                    self.gradients[tensor] = self._tensor(self.graph.tensors[tensor].elements * self.arithmetic.gradient)
                    written.append(self.gradients[tensor])
            self.pieces.append(Piece(f"{op.kind} backward", f"backward of {op.name}", tuple(read), tuple(written)))
