"""check: a file against what was promised of it, on the real runtimes. Nothing is called good that was not run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas import metrics
from tinynas.cost import RUNTIMES, estimate
from tinynas.cost.estimator import file_cost
from tinynas.cost.flash import END_FORMS, ENDS, OP_FORMS, Io
from tinynas.cost.memory import MemoryPlan, file_head_bytes
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tail import tail_bytes
from tinynas.cost.work import Work, from_graph
from tinynas.data import Split
from tinynas.errors import ModelFileError
from tinynas.export.facts import input_table, real_outputs
from tinynas.export.judge import Rule, rule_of
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import inspect, kernels_name, load_litert, run_tflm
from tinynas.graph import DepthwiseConv2D, Graph, padded_as_same
from tinynas.quantize.grid import TensorQuant

#: LiteRT's reference kernels have no depthwise convolution with weights of four bits, its others do.
_SPARED = "LiteRT BUILTIN_REF"


@dataclass(frozen=True)
class Promise:
    """What was said of a file before it was run. Figures that are None were not promised; the file's own take their place."""

    graph: Graph
    io: Io = "int8"
    runtime: str = "tflm"
    """Whose SRAM is promised and limited."""
    core: str | None = None
    """The core on which it is; None: whichever."""
    file_bytes: int | None = None
    sram_bytes: int | None = None
    """SRAM on :attr:`runtime`."""
    host_arena_bytes: int | None = None
    """TFLM's arena on this 64-bit machine, with the reference kernels of the Python wheel."""
    arena_limit: int | None = None
    """SRAM that the network may take on :attr:`runtime`."""
    extras: tuple[str, ...] = ()
    """Operators that it may have beyond the graph's."""
    outputs: tuple[NDArray[np.int8], TensorQuant] | None = None
    """Integers (M, classes) that it must give to the bit for the first M images, and their grid."""
    float_logits: NDArray[np.float32] | None = None
    """The float network's answers (N, classes) to the images."""
    input_rotation: int = 0
    """Degrees by which its input must be turned."""


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
    """``estimated`` and ``measured``: head and tail on this machine; ``head``, ``tail``: measured parts.
    ``microcontroller_estimated``: SRAM on the promise's ``runtime``."""
    accuracy: dict[str, Any] = field(default_factory=dict)
    """``float``, ``int8``, ``split``."""
    agreement: dict[str, Any] = field(default_factory=dict)
    """``overall`` and ``per_class``: share of images on which file and float network say the same."""
    figures: dict[str, Any] = field(default_factory=dict)
    """The rest of ``tinynas evaluate``: balanced_accuracy, auc, n, confusion, intervals."""
    kernels: str = ""
    answered: tuple[Rule, NDArray[np.float64]] | None = field(default=None, repr=False)
    """How outputs become classes, and the real outputs (N, K) of the split; no part of the report."""

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


def expected_operators(graph: Graph, io: Io = "int8") -> list[str]:
    """The operators that a file of ``graph`` must hold, in any valid order."""
    names = [OP_FORMS[op.kind].builtin for op in graph.ops]
    return names + [END_FORMS[kind].builtin for kind in ENDS[io]]


def host_arena_bytes(graph: Graph, plan: MemoryPlan | None) -> int:
    """TFLM's arena on this 64-bit machine, with reference kernels, of an int8 file of ``graph`` that carries ``plan`` (or none).

    Whichever runtime the plan was made for: these kernels have scratch of their own, which TFLM places around the plan.
    """
    work = _in_order(from_graph(graph), plan)
    return file_head_bytes(work, RUNTIMES["tflm"], None if plan is None else plan.offsets, "host") + tail_bytes(work, "host")


def sram_bytes(graph: Graph, runtime: str, plan: MemoryPlan | None, core: str | None = None) -> int:
    """SRAM of an int8 file of ``graph`` on ``runtime``: what ``estimate`` promises, unless it takes plans and the file has none."""
    chosen = runtime_named(runtime, core)
    if plan is not None or not chosen.plans:
        return estimate(graph, runtime, core=core).sram_bytes
    return file_cost(from_graph(padded_as_same(graph)), chosen, 0, None, core=None, clock_mhz=None).sram_bytes


def _in_order(work: Work, plan: MemoryPlan | None) -> Work:
    return work if plan is None else replace(work, pieces=tuple([work.pieces[i] for i in plan.order]))


def check(
    model: bytes,
    promise: Promise,
    *,
    split: Split | None = None,
    split_name: str | None = None,
    labels: Sequence[str] = (),
    workers: int = 1,
    positive: int | None = None,
) -> CheckReport:
    """Check ``model`` against ``promise``: it loads everywhere, its operators, size and memory are those promised, it is accurate.

    ``split``: upright images for its accuracy, ``split_name`` says which. ``workers``: processes that run them. ``positive``: of two
    classes the one that recall and false alarms are of.
    Raises ModelFileError where the file is broken; everything else that is wrong is in ``problems``.
    """
    inspected = inspect(model)
    facts = inspected.facts
    graph = promise.graph
    problems = []
    found, wanted = Counter(facts.operators), Counter(expected_operators(graph, promise.io))
    surplus = {name: count for name, count in (found - wanted).items() if name not in promise.extras}
    if surplus or wanted - found:
        problems.append(f"operators differ from the graph's: {surplus or 'none'} too many, {dict(wanted - found) or 'none'} missing")
    shape = graph.input.shape
    images = np.full((1, *shape), graph.input.zero_point, np.uint8) if split is None else np.asarray(split.inputs)
    if facts.input_shape != shape:
        raise ModelFileError(f"the model reads {facts.input_shape}, the network {shape}")
    if facts.metadata and facts.input_rotation != promise.input_rotation:
        problems.append(f"the file says that its input is turned by {facts.input_rotation} degrees, not {promise.input_rotation}")
    if promise.input_rotation:
        images = rotate_images(images).astype(np.uint8)
    measured = run_tflm(inspected, images, workers=workers, table=input_table(facts, graph.input))
    loads = {f"LiteRT {resolver}": reason for resolver, reason in load_litert(inspected).items()}
    loads |= {"tflite-micro": ""}
    spared = _SPARED if any(isinstance(op, DepthwiseConv2D) and op.weight_bits < 8 for op in graph.ops) else ""
    problems += [f"{runtime} does not run the file: {reason}" for runtime, reason in loads.items() if reason and runtime != spared]
    if promise.outputs is not None:
        problems += _compare(measured.outputs[: len(promise.outputs[0])], *promise.outputs, promise.io)
    total = measured.head_bytes + measured.tail_bytes
    on_host = promise.host_arena_bytes
    if on_host is not None and total > on_host:
        problems.append(f"the arena is {total:,} B where {on_host:,} B were promised")
    if runtime_named(promise.runtime).frame is not None:  # compiled code is made of the network, and of the same numbers as the file
        sram = estimate(graph, promise.runtime, core=promise.core).sram_bytes
    else:
        sram = inspected.file.estimate(promise.runtime, core=promise.core).sram_bytes
    if promise.sram_bytes is not None and sram > promise.sram_bytes:
        problems.append(f"{promise.runtime} needs {sram:,} B of SRAM for the file where {promise.sram_bytes:,} B were promised")
    if promise.arena_limit is not None and sram > promise.arena_limit:
        problems.append(f"the {sram:,} B of SRAM on {promise.runtime} do not fit the {promise.arena_limit:,} B allowed")
    if promise.file_bytes is not None and len(model) != promise.file_bytes:
        problems.append(f"the file is {len(model):,} B where {promise.file_bytes:,} B were promised")
    accuracy: dict[str, Any] = {}
    agreement: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    answered = None
    if split is not None:
        outputs = real_outputs(measured.outputs, facts)
        rule = rule_of(inspected, labels, outputs)
        figures = rule.score(outputs, split.labels, positive)
        answered = rule, outputs
        if split.several:
            accuracy, agreement = _several(rule, outputs, split, split_name, labels, promise.float_logits)
        else:
            accuracy = {"float": None, "int8": figures.pop("accuracy"), "split": split_name}
        if promise.float_logits is not None and not split.several:
            predicted, reference = rule.predict(outputs), promise.float_logits.argmax(1)
            agreement = metrics.agreement(predicted, reference, split.labels, labels)
            accuracy["float"] = float((reference == split.labels).mean())
    arena = {
        "estimated": inspected.file.estimate("tflm").host_arena_bytes if on_host is None else on_host,
        "measured": total,
        "head": measured.head_bytes,
        "tail": measured.tail_bytes,
        "runtime": promise.runtime,
        "microcontroller_estimated": sram,
    }
    return CheckReport(
        tuple(problems),
        dict(sorted(found.items())),
        loads,
        {"estimated": promise.file_bytes, "measured": len(model)},
        arena,
        accuracy,
        agreement,
        figures,
        kernels_name(),
        answered,
    )


def _several(
    rule: Rule,
    outputs: NDArray[np.float64],
    split: Split,
    split_name: str | None,
    labels: Sequence[str],
    floats: NDArray[np.float32] | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of several labels at once: mean average precision in the place of accuracy, and how many classes are told alike at a half."""
    scores = outputs[:, list(rule.columns)]
    accuracy = {"float": None, "int8": metrics.mean_average_precision(split.labels, scores), "split": split_name}
    if floats is None:
        return accuracy, {}
    accuracy["float"] = metrics.mean_average_precision(split.labels, floats.astype(np.float64))
    alike = (scores >= 0) == (floats >= 0)
    per_class = {label: float(alike[:, number].mean()) for number, label in enumerate(labels)}
    return accuracy, {"overall": float(alike.mean()), "per_class": per_class}


def _compare(outputs: NDArray[Any], expected: NDArray[np.int8], grid: TensorQuant, io: Io) -> list[str]:
    integers = outputs.astype(np.int64) - (128 if io == "uint8" else 0)
    if io == "float":
        integers = np.rint(outputs.astype(np.float64) / grid.scale).astype(np.int64) + grid.zero_point
    wrong = int((integers != expected).sum())
    return [f"{wrong} of {expected.size} outputs differ from the quantised network's"] if wrong else []
