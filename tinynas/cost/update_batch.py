"""RAM that learning takes, of many networks at once: what a block adds to a step of any network that holds it, in a form that merges.

The steps are those of :mod:`tinynas.cost.backward`, made by the same class over arrays of sizes. What lives from forward to backward adds
up over blocks, and what is alive in an operator is that of the blocks before it, its own block's, and what lives through the whole step.
So a block is summed up once, for each number of its last layers that may be updated. The merged figure is the bytes alive at the peak,
which no plan can go below, and which plans nearly always reach; of blocks whose shortcuts do not nest it is less, since their order is
each network's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinynas.cost.backward import Step, arithmetic_named
from tinynas.cost.board_update import BoardUpdate
from tinynas.cost.memory import aligned, live_bytes, nested_frames, written_over
from tinynas.cost.runtimes import Runtime
from tinynas.cost.updates import Wholes, weighted_of
from tinynas.cost.work import Work, pieces_of, tensor_bytes
from tinynas.graph import Builder, Graph
from tinynas.inputs import Input

Ints = npt.NDArray[np.int64]

#: What a block adds: bytes that live from its forward to its backward, bytes that live through the step, and bytes alive in its operators
#: beside these and those of the blocks before it, in forward and in backward.
COLUMNS = ("kept", "persistent", "forward", "backward")


class Block(NamedTuple):
    """A block's sums, of N sizes."""

    layers: int
    """Operators with weights."""
    rows: Ints
    """(N, layers + 2, columns): with as many of its last layers updated, and at the end with all of them, and a gradient for its input."""


def block_of(build: Builder, output: int, count: int, update: BoardUpdate, runtime: Runtime, *, first: bool, last: bool) -> Block:
    """The sums of the operators of ``build``, of ``count`` sizes, which lead from tensor 0 to tensor ``output``.

    ``first``: tensor 0 is the network's input, whose gradient nobody wants. ``last``: they end in the classifier.
    """
    work = _work(build, output, last=last)
    graph = Graph(tuple(build.tensors), tuple(build.ops), _ANY, (0,), (output,))
    nested = nested_frames(work.pieces, (0,), (output,), over=written_over(work, runtime)) is not None
    ops = weighted_of(graph)
    found = np.zeros((len(ops) + 2, len(COLUMNS), count), dtype=np.int64)
    for taken in range(len(ops) + 1):
        chosen = ops[len(ops) - taken :]
        parts = {op.name: update.part(classifier=last and op is ops[-1]) for op in chosen}
        for passes in (False, True) if taken == len(ops) else (False,):
            asked = (0,) if passes and not first else ()
            step = Step(
                graph,
                work,
                Wholes(parts),
                arithmetic_named(update.arithmetic),
                update.batch,
                momentum=update.momentum > 0,
                asked=asked,
            )
            for column, value in enumerate(_sums(step, work, runtime, last=last, nested=nested)):
                found[taken + passes, column] = value
    return Block(len(ops), found.transpose(2, 0, 1))


#: What a part of a network reads is a tensor of its own.
_ANY = Input(1, 1, 3, "rgb")


def _work(build: Builder, output: int, *, last: bool) -> Work:
    pieces, constants = pieces_of(build.ops, build.tensors)
    sizes = tuple(map(tensor_bytes, build.tensors))
    # What lies behind a block in the middle reads its output, and lets it go.
    return Work(sizes, tuple(t.shape for t in build.tensors), pieces, (0,), (output,) if last else (), len(sizes) + constants)


def _sums(step: Step, forward: Work, runtime: Runtime, *, last: bool, nested: bool) -> tuple[Any, ...]:
    kept = sum(aligned(step.sizes[tensor]) for tensor in (*step.saved.values(), *step.masks.values()))
    persistent = sum(aligned(step.sizes[tensor]) for tensor in step.persistent)
    pieces = tuple(step.pieces)
    if not nested:
        # In whatever order: each operator has what it reads and writes.
        live: list[Any] = [sum(aligned(step.sizes[t]) for t in {*piece.inputs, *piece.outputs}) for piece in pieces]
    else:
        live = live_bytes(replace(forward, sizes=tuple(step.sizes), shapes=tuple(step.shapes), pieces=pieces), runtime)
    count = len(forward.pieces)
    # The loss of a whole network is an operator like others; of a block in the middle it stands for all that lies behind.
    behind = live[count:] if last else live[count + 1 :]
    return kept, persistent, _most(live[:count]), _most(behind)


def _most(values: Sequence[Any]) -> Any:
    found: Any = 0
    for value in values:
        found = np.maximum(found, value)
    return found


def live_of(blocks: Sequence[tuple[Ints, Ints]], update: BoardUpdate, outputs_bytes: int) -> Ints:
    """(N,): bytes alive at the peak of a step of N networks put together of ``blocks``, in order (layers, rows): (N,) and (N, numbers of
    layers, columns), zeros where a network lacks the block. ``outputs_bytes``: of the logits, which are kept to the end."""
    networks = len(blocks[0][0])
    reach = np.iinfo(np.int64).max if update.reach is None else update.reach
    chosen: list[Ints] = []
    behind = np.zeros(networks, np.int64)
    for layers, rows in reversed(blocks):
        left = np.maximum(reach - behind, 0)
        mode = np.minimum(left, layers) + (left > layers)
        chosen.append(rows[np.arange(networks), mode])
        behind = behind + layers
    chosen.reverse()
    before = sum((one[:, 1] for one in chosen), np.zeros(networks, np.int64))
    most = np.zeros(networks, np.int64)
    for number, one in enumerate(chosen):
        backward = one[:, 3] + (aligned(outputs_bytes) if number < len(chosen) - 1 else 0) * (one[:, 3] > 0)
        most = np.maximum(most, before + np.maximum(one[:, 2], backward))
        before = before + one[:, 0]
    return most
