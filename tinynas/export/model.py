"""export_model: quantise, write, check, keep; and EXPORTERS, the ways to write the file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynas.config import Config
from tinynas.cost.flash import Flavour, Io, file_bytes
from tinynas.cost.memory import plan_offline
from tinynas.data import Split
from tinynas.errors import UserError
from tinynas.export.check import CheckReport, check
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.files import write_atomic
from tinynas.graph import Graph
from tinynas.model import Network
from tinynas.quantize.calibrate import QuantOptions, quantize
from tinynas.quantize.fake import FakeQuantNetwork
from tinynas.quantize.floats import FloatGraph, fold, pixels, predict
from tinynas.quantize.grid import QuantizedGraph
from tinynas.records import Artifact

MODEL_FILE = "model_int8.tflite"
#: Images on which the file must equal the quantised network to the bit.
EQUAL_IMAGES = 16


class ExportOptions(Config):
    """What file to write."""

    exporter: str = "tinynas"
    """Who writes it; see :data:`EXPORTERS`."""
    io: Io = "int8"
    """Type of input and output."""
    flavour: Flavour = "full"
    """``full``, or ``lean``: without names, bias scales and metadata."""
    plan: bool = True
    """Carry an offline memory plan (int8 input and output only), so that the arena is the smallest possible."""
    quantization: QuantOptions = QuantOptions()
    """How the weights and activations are put on integer grids."""
    workers: int = 1
    """Processes that run the evaluation images."""


@dataclass(frozen=True)
class Exported:
    """A model file and how it was made."""

    model: bytes
    qgraph: QuantizedGraph | None
    """What tinynas quantised; None where another exporter did."""
    estimated_bytes: int | None
    seconds: dict[str, float]
    """Per step."""
    extras: tuple[str, ...] = ()
    """Operators that it is known to add to the graph's."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the exporter has to say, such as versions."""


@dataclass(frozen=True)
class Source:
    """What an exporter starts from."""

    floats: FloatGraph
    calibration: NDArray[np.uint8]
    meta: ModelMeta
    options: ExportOptions
    qgraph: QuantizedGraph | None = None
    """Given where training already fixed the grids (QAT): written unchanged."""


def _write_ours(source: Source) -> Exported:
    started = time.perf_counter()
    qgraph = source.qgraph or quantize(source.floats, source.calibration, source.options.quantization)
    quantized = time.perf_counter()
    planned = source.options.plan and source.meta.io == "int8"
    plan = plan_offline(qgraph.graph) if planned else None
    model = serialize(qgraph, source.meta, plan)
    seconds = {"quantize": quantized - started, "write": time.perf_counter() - quantized}
    labels = source.meta.labels or None
    estimated = file_bytes(qgraph.graph, labels=labels, io=source.meta.io, flavour=source.meta.flavour, plan=planned)
    return Exported(model, qgraph, estimated, seconds)


def _write_tensorflow(source: Source) -> Exported:
    from tinynas.export.keras import KNOWN_EXTRAS, export_keras

    if source.meta.io != "int8":
        raise UserError("the tensorflow exporter writes int8 input and output only", "leave --io at int8, or use the exporter tinynas")
    if source.qgraph is not None:
        raise UserError("the tensorflow exporter cannot keep the grids of quantisation-aware training", "use the exporter tinynas")
    theirs = export_keras(source.floats, source.calibration)
    notes = {"tensorflow": theirs.tensorflow, "keras": theirs.keras, "peak_rss_bytes": theirs.peak_rss_bytes}
    return Exported(theirs.model, None, None, {"convert": theirs.seconds, "process": theirs.wall_seconds}, tuple(KNOWN_EXTRAS), notes)


#: Exporter name -> what makes the file.
EXPORTERS: dict[str, Callable[[Source], Exported]] = {"tinynas": _write_ours, "tensorflow": _write_tensorflow}


def build_model(
    network: Network | FloatGraph,
    calibration: NDArray[np.uint8],
    *,
    labels: Sequence[str] = (),
    options: ExportOptions | None = None,
    qgraph: QuantizedGraph | None = None,
    input_rotation: int = 0,
) -> Exported:
    """The model file of ``network``, unchecked.

    ``calibration``: uint8 training images (N, H, W, C), as the network sees them. ``qgraph``: the grids of
    quantisation-aware training, written unchanged. ``input_rotation``: 180 for weights turned on import.
    Raises UserError for an unknown exporter and DataError for images that do not fit.
    """
    options = options or ExportOptions()
    floats = network if isinstance(network, FloatGraph) else fold(network)
    if options.exporter not in EXPORTERS:
        raise UserError(f"unknown exporter {options.exporter!r}", f"known: {', '.join(EXPORTERS)}")
    arch_id = floats.graph.arch.id if floats.graph.arch is not None else "0" * 10
    meta = ModelMeta(arch_id, tuple(labels), io=options.io, flavour=options.flavour, input_rotation=input_rotation)
    return EXPORTERS[options.exporter](Source(floats, calibration, meta, options, qgraph))


def export_model(
    network: Network | FloatGraph,
    *,
    calibration: NDArray[np.uint8],
    labels: Sequence[str],
    out: Path,
    evaluation: Split | None = None,
    split_name: str | None = None,
    options: ExportOptions | None = None,
    qgraph: QuantizedGraph | None = None,
    input_rotation: int = 0,
    arena_limit: int | None = None,
    net_id: str | None = None,
) -> Artifact:
    """Write ``out``/model_int8.tflite and say what it is; the report holds every promised figure beside the measured one.

    ``calibration``: uint8 training images (N, H, W, C). ``evaluation``: the split its int8 accuracy is measured on,
    ``split_name`` its name in the report. ``arena_limit``: bytes the arena may take on the microcontroller.
    ``qgraph``: grids of quantisation-aware training. ``input_rotation``: 180 where the weights were turned on import;
    calibration images are upright and are turned here. ``report["problems"]`` lists what keeps the file from being good.
    """
    from tinynas.export.rotate import rotate_images

    options = options or ExportOptions()
    floats = network if isinstance(network, FloatGraph) else fold(network)
    turn: Callable[[NDArray[Any]], NDArray[Any]] = rotate_images if input_rotation else np.asarray
    exported = build_model(floats, turn(calibration), labels=labels, options=options, qgraph=qgraph, input_rotation=input_rotation)
    started = time.perf_counter()
    report = check_exported(
        exported, floats, options, labels=labels, evaluation=evaluation, split_name=split_name, arena_limit=arena_limit, turn=turn
    )
    seconds = {**exported.seconds, "check": time.perf_counter() - started}
    write_atomic(out / MODEL_FILE, exported.model)
    arch = floats.graph.arch
    document = {
        **report.to_json(),
        "exporter": options.exporter,
        "io": options.io,
        "flavour": options.flavour,
        "input_rotation": input_rotation,
        "quantization": {**options.quantization.model_dump(mode="json"), "trained": qgraph is not None} if exported.qgraph else None,
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        **exported.notes,
    }
    return Artifact(
        net_id or (arch.id if arch is not None else "0" * 10), MODEL_FILE, "tflite", hashlib.sha256(exported.model).hexdigest(), document
    )


def check_exported(
    exported: Exported,
    floats: FloatGraph,
    options: ExportOptions,
    *,
    labels: Sequence[str],
    evaluation: Split | None,
    split_name: str | None,
    arena_limit: int | None = None,
    turn: Callable[[NDArray[Any]], NDArray[Any]] = np.asarray,
) -> CheckReport:
    """:func:`tinynas.export.check.check` with all that is known of the export."""
    graph: Graph = floats.graph
    ours = exported.qgraph is not None
    logits = None if evaluation is None else predict(floats, turn(evaluation.inputs))
    expected = None
    if exported.qgraph is not None and evaluation is not None:
        few = pixels(turn(evaluation.inputs[:EQUAL_IMAGES]))
        integers = FakeQuantNetwork(exported.qgraph)(few).numpy().astype(np.int8)
        expected = integers, exported.qgraph.tensors[graph.logits]
    return check(
        exported.model,
        graph,
        io=options.io,
        split=evaluation,
        split_name=split_name,
        labels=labels,
        float_logits=logits,
        expected=expected,
        estimated_bytes=exported.estimated_bytes,
        planned=ours and options.plan,
        promised_arena=ours,
        extras=exported.extras,
        arena_limit=arena_limit,
        workers=options.workers,
    )
