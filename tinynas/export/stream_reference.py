"""What a stream must answer: the integer network on a whole recording at once, the mean over the last clip's rows of its map each time.

It shares with the generated code neither its plan nor its order of sums: what both say is held against each other.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tinynas.arch import Arch
from tinynas.cost.stepwise import plan_steps
from tinynas.errors import InternalError
from tinynas.graph import Mean, lower
from tinynas.quantize.fake import FakeQuantNetwork
from tinynas.quantize.grid import QuantizedGraph


def stream_outputs(qgraph: QuantizedGraph, frames: NDArray[np.uint8]) -> dict[int, NDArray[np.int8]]:
    """Frame (from 0) -> outputs (classes,) that a stream of ``qgraph`` has after it, from a reset on; ``frames`` are (frames, width,
    channels), as many as a clip at least. Raises InternalError for a network that was not lowered from an Arch."""
    graph = qgraph.graph
    if graph.arch is None:
        raise InternalError("a stream of a network that no architecture describes")
    plan = plan_steps(graph)
    mean = next(index for index, op in enumerate(graph.ops) if isinstance(op, Mean))
    described = graph.arch.model_dump(exclude={"front_end"})
    long = lower(Arch.model_validate({**described, "height": len(frames), "input_kind": "features"}))
    x = torch.from_numpy(frames.astype(np.float32)).permute(2, 0, 1)[None] - graph.input.zero_point
    body = FakeQuantNetwork(QuantizedGraph(long, qgraph.tensors, qgraph.weights, qgraph.weight_scales, qgraph.biases))
    tail = list(FakeQuantNetwork(qgraph).steps)[mean:]
    values, found = {long.inputs[0]: x}, {}
    with torch.inference_mode():
        for op, step in zip(long.ops[:mean], body.steps, strict=False):
            values[op.output] = step(*[values[tensor] for tensor in op.inputs])
        rows = values[graph.ops[mean].inputs[0]]
        height = graph.shape(graph.ops[mean].inputs[0])[0]
        for last in range(height, rows.shape[2] + 1):
            out = rows[:, :, last - height : last]
            for step in tail:
                out = step(out)
            numbers = (out + qgraph.tensors[graph.logits].zero_point).numpy().reshape(-1).astype(np.int8)
            found[plan.first - 1 + plan.every * (last - height)] = numbers
    return found
