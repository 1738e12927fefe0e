"""When each tensor of a .tflite is in memory: TFLM's walk over its subgraphs, step for step (micro_allocation_info.cc).

Time is counted in scopes. The inputs of a graph have one, then each operator has its own; an operator that calls subgraphs is
followed by theirs before its inputs are let go. A tensor that no operator touches, or whose subgraph nobody calls, keeps scope -1,
and takes memory all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinynas.cost.flatbuffer import broken
from tinynas.cost.schema import FileOp, Subgraph

#: Operators that are visited at most, each time that its subgraph is called, and how deep calls nest at most.
_MAX_VISITS, _MAX_DEPTH = 100_000, 50

#: Operator -> fields of its options that hold the number of a subgraph.
CALLS = {"IF": (0, 1), "WHILE": (0, 1), "CALL_ONCE": (0,), "CALL": (0,)}


@dataclass(frozen=True, slots=True)
class Walk:
    """What the walk found; tensors and operators by their numbers in the file."""

    first: tuple[int, ...]
    """Scope in which each tensor is written; -1 where that is never."""
    last: tuple[int, ...]
    """Scope in which it is needed last."""
    moments: tuple[tuple[int, int], ...]
    """First and last scope of each operator; (-1, -1) where it is never called."""
    times: tuple[int, ...]
    """How often each operator runs in one inference: one pass of a loop, the larger branch of an IF, nothing of CALL_ONCE."""
    faults: tuple[str, ...]
    """Calls that cannot be followed."""


def walk(ops: Sequence[FileOp], subgraphs: Sequence[Subgraph], tensors: int, macs: Sequence[int]) -> Walk:
    """Follow subgraph 0. ``macs`` of each operator decide which branch of an IF is the larger one.

    Raises ModelFileError where subgraphs call each other without end.
    """
    walker = _Walker(ops, subgraphs, tensors, macs)
    walker.visit(0, 1, (0,), planned=True)
    moments = tuple(zip(walker.start, walker.end, strict=True))
    faults = tuple(dict.fromkeys(walker.faults))
    return Walk(tuple(walker.first), tuple(walker.last), moments, tuple(walker.times), faults)


class _Walker:
    def __init__(self, ops: Sequence[FileOp], subgraphs: Sequence[Subgraph], tensors: int, macs: Sequence[int]) -> None:
        self.ops, self.subgraphs, self.macs = ops, subgraphs, macs
        self.first, self.last = [-1] * tensors, [-1] * tensors
        self.start, self.end, self.times = [-1] * len(ops), [-1] * len(ops), [0] * len(ops)
        self.faults: list[str] = []
        self.scope = self.visits = 0
        self.weights: dict[int, int] = {}

    def visit(self, number: int, factor: int, path: tuple[int, ...], *, planned: bool) -> None:
        """Walk a subgraph that runs ``factor`` times; ``path`` leads to it. What TFLM does not follow is not ``planned``."""
        graph = self.subgraphs[number]
        if planned:
            for tensor in graph.inputs:
                self._create(tensor)
                self.last[tensor] = self.scope
        for index in graph.ops:
            op = self.ops[index]
            self.visits += 1 + len(op.inputs) + len(op.outputs)
            if self.visits > _MAX_VISITS:
                raise broken("its subgraphs call each other without end")
            self.times[index] += factor
            if planned:
                self.scope += 1
                for tensor in op.outputs:
                    self._create(tensor)
                if self.start[index] < 0:
                    self.start[index] = self.scope
            for called, runs in self._calls(index, op, path):
                follow = planned and op.kind != "CALL"
                self.scope += follow
                self.visit(called, factor * runs, (*path, called), planned=follow)
            if planned:
                self.end[index] = self.scope
                for tensor in (*op.inputs, *op.outputs):
                    if tensor >= 0:
                        self.last[tensor] = self.scope
        if planned:
            for tensor in graph.outputs:
                self._create(tensor)
                self.last[tensor] = self.scope

    def _create(self, tensor: int) -> None:
        if self.first[tensor] < 0:
            self.first[tensor] = self.scope

    def _calls(self, index: int, op: FileOp, path: tuple[int, ...]) -> list[tuple[int, int]]:
        """(subgraph, how often it runs) that an operator calls, in order."""
        found = []
        for field in CALLS.get(op.kind, ()):
            called = op.options.i32(field)
            if not 0 <= called < len(self.subgraphs):
                self.faults.append(f"{op.kind} (operator {index}) calls subgraph {called} of {len(self.subgraphs)}")
            elif called in path:
                self.faults.append(f"{op.kind} (operator {index}) calls the subgraph {called} that it is part of")
            elif len(path) >= _MAX_DEPTH:
                raise broken(f"its subgraphs call each other more than {_MAX_DEPTH} deep")
            else:
                found.append((called, 0 if op.kind == "CALL_ONCE" else 1))
        if op.kind == "IF" and len(found) == 2:
            (then, _), (other, _) = found
            larger = self._weight(then, path) >= self._weight(other, path)
            return [(then, int(larger)), (other, int(not larger))]
        return found

    def _weight(self, number: int, path: tuple[int, ...]) -> int:
        """MACs of a subgraph, of those that it calls all branches."""
        if number not in self.weights:
            self.weights[number] = 0  # what calls itself is counted once
            total = 0
            for index in self.subgraphs[number].ops:
                total += self.macs[index]
                if self.ops[index].kind in CALLS and len(path) < _MAX_DEPTH:
                    inner = [self.ops[index].options.i32(field) for field in CALLS[self.ops[index].kind]]
                    total += sum(self._weight(n, (*path, n)) for n in inner if 0 <= n < len(self.subgraphs))
            self.weights[number] = total
        return self.weights[number]
