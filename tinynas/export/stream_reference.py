"""What a stream must answer: the integer network on a whole recording at once, the mean over the last clip's rows of its map each time.

It shares with the generated code neither its plan nor its order of sums: what both say is held against each other.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinynas.cost.stepwise import StepPlan, plan_steps
from tinynas.graph import WINDOWED, Graph, Mean, Windowed
from tinynas.quantize.fake import FakeQuantNetwork
from tinynas.quantize.grid import QuantizedGraph

#: Frames that go through the network together, and answers: a recording may be long.
FRAMES, ANSWERS = 4096, 512


def stream_outputs(qgraph: QuantizedGraph, frames: NDArray[np.uint8]) -> dict[int, NDArray[np.int8]]:
    """Frame (from 0) -> outputs (classes,) that a stream of ``qgraph`` has after it, from a reset on; ``frames`` are (frames, width,
    channels). Raises UserError for a network that cannot be streamed."""
    return dict(zip(*stream_answers(qgraph, frames), strict=True))


def stream_answers(qgraph: QuantizedGraph, frames: NDArray[np.uint8]) -> tuple[list[int], NDArray[np.int8]]:
    """(frames (from 0) after which there is an answer, its outputs (answers, classes)), as :func:`stream_outputs`."""
    graph = qgraph.graph
    plan = plan_steps(graph)
    mean = next(index for index, op in enumerate(graph.ops) if isinstance(op, Mean))
    found = [np.zeros((0, graph.classes), np.int8)]
    if len(frames) < plan.first:
        return [], found[0]
    steps = list(FakeQuantNetwork(qgraph).steps)
    height = graph.shape(graph.ops[mean].inputs[0])[0]
    with torch.inference_mode():
        rows = _map_rows(qgraph, frames, mean, plan, steps)
        for part in torch.split(rows.unfold(1, height, 1).permute(1, 0, 3, 2), ANSWERS):
            out = part
            for step in steps[mean:]:
                out = step(out)
            numbers = out + qgraph.tensors[graph.logits].zero_point
            found.append(numbers.numpy().reshape(len(part), -1).astype(np.int8))
    answers = np.concatenate(found)
    return [plan.first - 1 + plan.every * number for number in range(len(answers))], answers


def _map_rows(qgraph: QuantizedGraph, frames: NDArray[np.uint8], mean: int, plan: StepPlan, steps: list[torch.nn.Module]) -> Tensor:
    """(channels, rows, width): the map before the mean while ``frames`` go by, padded in front of the first one alone."""
    graph, every, size = qgraph.graph, plan.every, max(FRAMES, plan.first)
    # So many frames reach into a row from before it.
    before = -(-sum((op.reach[0] - 1) * gap for op, gap in _windows(graph, mean)) // every) * every
    parts, there = [], 0
    for end in range(size, len(frames) + size, size):
        first = max(0, there * every - before)
        piece = frames[first:end].astype(np.float32)
        values = {graph.inputs[0]: torch.from_numpy(piece).permute(2, 0, 1)[None] - graph.input.zero_point}
        for op, step in zip(graph.ops[:mean], steps, strict=False):
            values[op.output] = step(*[values[tensor] for tensor in op.inputs])
        parts.append(values[graph.ops[mean].inputs[0]][0, :, there - first // every :])
        there += parts[-1].shape[1]
    return torch.cat(parts, 1)


def _windows(graph: Graph, mean: int) -> list[tuple[Windowed, int]]:
    """Operators before the mean that slide a window along the frames, and how many frames lie from one row that they read to the next."""
    gaps, found = {graph.inputs[0]: 1}, []
    for op in graph.ops[:mean]:
        gap = gaps[op.inputs[0]]
        if isinstance(op, WINDOWED):
            found.append((op, gap))
            gap *= op.stride[0]
        gaps[op.output] = gap
    return found
