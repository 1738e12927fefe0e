"""check: a file against its Graph and its Cost, on the real runtimes. Nothing is called good that was not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.cost import estimate, plan_greedy
from tinynas.cost.flash import END_FORMS, ENDS, OP_FORMS, Io
from tinynas.data import Split
from tinynas.errors import ModelFileError
from tinynas.export.evaluate import real_outputs, score
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import RESOLVERS, inspect, kernels_name, load_litert
from tinynas.export.sandbox import run_tflm as run_measured
from tinynas.graph import Graph
from tinynas.quantize.grid import TensorQuant


@dataclass(frozen=True)
class CheckReport:
    """What was found; ``problems`` is empty for a good file. Sizes in bytes, shares 0..1."""

    problems: tuple[str, ...]
    operators: dict[str, int]
    loads: dict[str, str]
    """Runtime -> "" where it loads and runs the file, else why not."""
    flash_bytes: dict[str, int | None]
    """``estimated``, ``measured``: the file."""
    arena_bytes: dict[str, Any]
    """``estimated`` and ``measured``: head and tail on this machine; ``head``, ``tail``: measured parts."""
    accuracy: dict[str, Any] = field(default_factory=dict)
    """``float``, ``int8``, ``split``."""
    agreement: dict[str, Any] = field(default_factory=dict)
    """``overall`` and ``per_class``: share of images on which file and float network say the same."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The rest of ``tinynas evaluate``: balanced_accuracy, auc, n, confusion."""
    kernels: str = ""

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The report as ``export.json`` holds it."""
        return {
            "ok": self.ok,
            "problems": list(self.problems),
            "accuracy": self.accuracy,
            "agreement": self.agreement,
            **self.figures,
            "kernels": self.kernels,
            "flash_bytes": self.flash_bytes,
            "arena_bytes": self.arena_bytes,
            "operators": self.operators,
            "loads": self.loads,
        }


def run_tflm(model: bytes, images: NDArray[np.uint8], *, workers: int = 1) -> NDArray[Any]:
    """Outputs (N, classes), in the file's own type, of uint8 images (N, H, W, C) by tflite-micro's reference kernels.

    Runs in a child process. Raises ModelFileError where the file is broken.
    """
    return run_measured(model, images, workers=workers).outputs


def measure_arena(model: bytes) -> tuple[int, int]:
    """(head, tail) bytes of TFLM's arena on this machine: activations and scratch, persistent structures.

    Raises ModelFileError where the file is broken.
    """
    inspected = inspect(model)
    measured = run_measured(inspected, np.full((1, *inspected.facts.input_shape), 128, np.uint8))
    return measured.head_bytes, measured.tail_bytes


def expected_operators(graph: Graph, io: Io = "int8") -> list[str]:
    """The operators that a file of ``graph`` must hold, in any valid order."""
    names = [OP_FORMS[op.kind].builtin for op in graph.ops]
    return names + [END_FORMS[kind].builtin for kind in ENDS[io]]


def check(
    model: bytes,
    graph: Graph,
    *,
    io: Io = "int8",
    split: Split | None = None,
    split_name: str | None = None,
    labels: Sequence[str] = (),
    float_logits: NDArray[np.float32] | None = None,
    expected: tuple[NDArray[np.int8], TensorQuant] | None = None,
    estimated_bytes: int | None = None,
    planned: bool = True,
    promised_arena: bool = True,
    extras: Sequence[str] = (),
    arena_limit: int | None = None,
    workers: int = 1,
) -> CheckReport:
    """Check ``model`` against ``graph``: it loads everywhere, its operators, size and arena are those promised, it is accurate.

    ``split``: images for its accuracy, ``split_name`` says which. ``float_logits`` (N, classes): the float network's
    answers to them. ``expected``: int8 outputs (M, classes) for the first M images that it must give to the bit, and
    their grid. ``estimated_bytes``: promised file size. ``planned``: the file carries the offline plan.
    ``promised_arena``: the arena is held against the estimate made before training, else against one made from the
    file. ``extras``: operators that it may have beyond the graph's. ``arena_limit``: bytes the arena may take on the
    microcontroller.
    Raises ModelFileError where the file is broken; everything else that is wrong is in ``problems``.
    """
    inspected = inspect(model)
    facts = inspected.facts
    problems = []
    found, wanted = Counter(facts.operators), Counter(expected_operators(graph, io))
    surplus = {name: count for name, count in (found - wanted).items() if name not in extras}
    if surplus or wanted - found:
        problems.append(f"operators differ from the graph's: {surplus or 'none'} too many, {dict(wanted - found) or 'none'} missing")
    shape = graph.input.shape
    images = np.full((1, *shape), 128, np.uint8) if split is None else np.asarray(split.inputs)
    if facts.input_shape != shape:
        raise ModelFileError(f"the model reads images {facts.input_shape}, the network {shape}")
    if facts.input_rotation:
        images = rotate_images(images).astype(np.uint8)
    measured = run_measured(inspected, images, workers=workers)
    loads = {f"LiteRT {resolver}": reason for resolver, reason in load_litert(inspected).items()}
    loads |= {"tflite-micro": ""}
    problems += [f"{runtime} does not run the file: {reason}" for runtime, reason in loads.items() if reason]
    if expected is not None:
        problems += _compare(measured.outputs[: len(expected[0])], expected[0], io, expected[1])
    of_file = inspected.file.estimate("tflm")
    arena = _arena(graph, of_file.host_arena_bytes, io, planned=planned) if promised_arena else of_file.host_arena_bytes
    total = measured.head_bytes + measured.tail_bytes
    if promised_arena and total > arena:
        problems.append(f"the arena is {total:,} B where {arena:,} B were promised")
    mcu = of_file.sram_bytes
    if arena_limit is not None and mcu > arena_limit:
        problems.append(f"the arena of {mcu:,} B does not fit the {arena_limit:,} B allowed")
    if estimated_bytes is not None and len(model) != estimated_bytes:
        problems.append(f"the file is {len(model):,} B where {estimated_bytes:,} B were promised")
    accuracy: dict[str, Any] = {}
    agreement: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    if split is not None:
        outputs = real_outputs(measured.outputs, facts)
        figures = score(outputs, split.labels, labels, inspected)
        accuracy = {"float": None, "int8": figures.pop("accuracy"), "split": split_name}
        if float_logits is not None:
            predicted, reference = outputs.argmax(1), float_logits.argmax(1)
            agreement = metrics.agreement(predicted, reference, split.labels, labels)
            accuracy["float"] = float((reference == split.labels).mean())
    return CheckReport(
        tuple(problems),
        dict(sorted(found.items())),
        loads,
        {"estimated": estimated_bytes, "measured": len(model)},
        {"estimated": arena, "measured": total, "head": measured.head_bytes, "tail": measured.tail_bytes, "microcontroller_estimated": mcu},
        accuracy,
        agreement,
        figures,
        kernels_name(),
    )


def _arena(graph: Graph, of_file: int, io: Io, *, planned: bool) -> int:
    # Promised before training for the default file; other forms are estimated from the file itself.
    if io != "int8":
        return of_file
    cost = estimate(graph)
    return cost.host_arena_bytes if planned else cost.host_arena_bytes - cost.head_bytes + plan_greedy(graph).head_bytes


def _compare(outputs: NDArray[Any], expected: NDArray[np.int8], io: Io, grid: TensorQuant) -> list[str]:
    integers = outputs.astype(np.int64) - (128 if io == "uint8" else 0)
    if io == "float":
        integers = np.rint(outputs.astype(np.float64) / grid.scale).astype(np.int64) + grid.zero_point
    wrong = int((integers != expected).sum())
    return [f"{wrong} of {expected.size} outputs differ from the quantised network's"] if wrong else []


__all__ = ["RESOLVERS", "CheckReport", "check", "expected_operators", "measure_arena", "run_tflm"]
