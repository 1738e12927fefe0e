"""export_model: quantise, write, check, keep; and EXPORTERS, the ways to write the file."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from tinynas.config import Config
from tinynas.cost import estimate
from tinynas.cost.flash import Flavour, Io, file_bytes
from tinynas.cost.memory import MemoryPlan, plan_offline
from tinynas.cost.runtimes import runtime_named
from tinynas.data import Split
from tinynas.data.labels import passive_classes
from tinynas.errors import InternalError, UserError
from tinynas.export.check import CheckReport, Promise, check, host_arena_bytes, sram_bytes
from tinynas.export.compiled_firmware import converter_bytes
from tinynas.export.facts import input_table, real_outputs
from tinynas.export.folder import Decision, Thresholds
from tinynas.export.formats import FORMATS, Made, check_compiled, check_formats
from tinynas.export.manifests import UNNAMED, PackageOptions
from tinynas.export.operating import OperatingPoint
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import inspect, run_tflm
from tinynas.export.served import VALIDATION, Audience
from tinynas.export.several import ClassCuts
from tinynas.export.stream_ear import stream_ear
from tinynas.export.streams import Stream, probabilities, stream_report, timed, window_ear
from tinynas.export.tflite import ModelMeta, serialize, storable, storable_graph, with_zeros_behind
from tinynas.export.told_thresholds import with_thresholds
from tinynas.export.written import read_folder, write_parts
from tinynas.graph import WEIGHTED, Graph, few_bits
from tinynas.model import Network
from tinynas.quantize.calibrate import QuantOptions, quantize
from tinynas.quantize.fake import FakeQuantNetwork
from tinynas.quantize.floats import FloatGraph, fold, pixels, predict
from tinynas.quantize.grid import QuantizedGraph
from tinynas.records import Artifact
from tinynas.shrink import dead_channels

#: Images on which the file must equal the quantised network to the bit.
EQUAL_IMAGES = 16


class ExportOptions(Config):
    """What file to write."""

    exporter: str = "tinynas"
    """Who writes it; see :data:`EXPORTERS`."""
    runtime: str = "tflm"
    """Inference runtime that the file is for, see :data:`tinynas.cost.RUNTIMES`: whose memory is planned, promised and checked."""
    core: str | None = None
    """The core that it is for, of :data:`tinynas.budget.Core`; None: whichever the runtime runs on."""
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
    package: PackageOptions = PackageOptions()
    """Name, version, license and page in the manifests of the folder ``c/``."""


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
    plan: MemoryPlan | None = None
    """The memory plan that the file carries."""


@dataclass(frozen=True)
class Source:
    """What an exporter starts from."""

    floats: FloatGraph
    calibration: NDArray[np.uint8]
    labels: tuple[str, ...]
    options: ExportOptions
    qgraph: QuantizedGraph | None = None
    """Given where training already fixed the grids (QAT): written unchanged."""
    input_rotation: int = 0

    @property
    def meta(self) -> ModelMeta:
        """What the file says of itself; its form is the options'."""
        arch = self.floats.graph.arch
        io, flavour = self.options.io, self.options.flavour
        return ModelMeta(arch.id if arch is not None else "0" * 10, self.labels, io=io, flavour=flavour, input_rotation=self.input_rotation)


def _write_ours(source: Source) -> Exported:
    started = time.perf_counter()
    qgraph = source.qgraph or quantize(source.floats, source.calibration, source.options.quantization)
    quantized = time.perf_counter()
    planned = source.options.plan and source.options.io == "int8"
    # What a compiled network reads in 2 bits, the file beside it holds in 4: evaluating, verifying and the self-test run the file.
    # What pads in front alone, it holds with zeros behind, for each runtime that reads files.
    wide = storable(qgraph) if runtime_named(source.options.runtime).frame is not None else with_zeros_behind(qgraph)
    plan, notes = file_plan(wide.graph, source.options.runtime, source.options.core) if planned else (None, {})
    if any(bits < 4 for bits in few_bits(qgraph.graph).values()) and wide.graph is not qgraph.graph:
        notes = {**notes, "weights": "weights of 2 bits take 4 in the .tflite, for which TFLM has kernels, and 2 in the compiled network"}
    model = serialize(wide, source.meta, plan)
    seconds = {"quantize": quantized - started, "write": time.perf_counter() - quantized}
    meta = source.meta
    estimated = file_bytes(wide.graph, labels=meta.labels or None, io=meta.io, flavour=meta.flavour, plan=plan is not None)
    return Exported(model, qgraph, estimated, seconds, plan=plan, notes=notes)


def file_plan(graph: Graph, runtime: str, core: str | None = None) -> tuple[MemoryPlan | None, dict[str, str]]:
    """(the memory plan of an int8 file of ``graph`` for ``runtime``, what is to be said of it).

    A runtime that plans by itself reads no plan of a file. Its file carries TFLM's all the same, for the self-test and the C++
    sources run there; but not where that plan wants another order of operators than the graph's, which is the one costed.
    """
    if runtime_named(runtime).plans:
        return plan_offline(graph, runtime, core), {}
    plan = plan_offline(graph, "tflm")
    if plan.order != tuple(range(len(graph.ops))):
        return None, {"plan": f"none: {runtime} plans memory by itself, in the graph's order of operators"}
    return plan, {"plan": f"for tflm: {runtime} plans memory by itself and does not read the one in the file"}


def _write_tensorflow(source: Source) -> Exported:
    from tinynas.export.keras import KNOWN_EXTRAS, export_keras

    if source.options.io != "int8":
        raise UserError("the tensorflow exporter writes int8 input and output only", "leave --io at int8, or use the exporter tinynas")
    if any(isinstance(op, WEIGHTED) and op.weight_bits < 8 for op in source.floats.graph.ops):
        raise UserError("the tensorflow exporter writes weights of 8 bits only", "use the exporter tinynas")
    if source.qgraph is not None:
        raise UserError("the tensorflow exporter cannot keep the grids of quantisation-aware training", "use the exporter tinynas")
    if source.options.flavour != "full" or source.options.quantization != QuantOptions():
        said = "--flavour" if source.options.flavour != "full" else "quantization"
        raise UserError(f"{said}: the tensorflow exporter does it TensorFlow's way alone", "leave it out, or use the exporter tinynas")
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
    Raises UserError for an unknown exporter or runtime and DataError for images that do not fit.
    """
    options = options or ExportOptions()
    floats = network if isinstance(network, FloatGraph) else fold(network)
    if options.exporter not in EXPORTERS:
        raise UserError(f"unknown exporter {options.exporter!r}", f"known: {', '.join(EXPORTERS)}")
    runtime_named(options.runtime)
    if qgraph is not None and options.quantization != QuantOptions():
        raise UserError("quantization: quantisation-aware training has chosen the grids", "leave it out")
    return EXPORTERS[options.exporter](Source(floats, calibration, tuple(labels), options, qgraph, input_rotation))


def export_model(
    network: Network | FloatGraph,
    *,
    calibration: NDArray[np.uint8],
    labels: Sequence[str],
    out: Path,
    formats: Sequence[str] = ("tflite",),
    evaluation: Split | None = None,
    split_name: str | None = None,
    options: ExportOptions | None = None,
    qgraph: QuantizedGraph | None = None,
    input_rotation: int = 0,
    arena_limit: int | None = None,
    arena_section: str | None = None,
    net_id: str | None = None,
    audience: Audience | None = None,
    owned: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> Artifact:
    """Write ``formats`` (see :data:`tinynas.export.formats.FORMATS`) into ``out`` and say what they are; the report holds every
    promised figure beside the measured one.

    ``calibration``: uint8 training images (N, H, W, C). ``evaluation``: the split its int8 accuracy is measured on,
    ``split_name`` its name in the report. ``arena_limit``: SRAM that the network may take on the options' runtime,
    ``arena_section`` the linker section where it lies on the board.
    ``qgraph``: grids of quantisation-aware training. ``input_rotation``: 180 where the weights were turned on import;
    calibration images are upright and are turned here. ``audience``: who is served, and with which false-alarm rate; ``evaluation`` are the
    images of its split. A threshold that is chosen goes into the code of the firmware folder.
    ``report["problems"]`` lists what keeps the file from being good.
    What an earlier export wrote into ``out`` and this one does not is removed, and ``on_note`` hears of it; ``owned``: the folder is
    tinynas's own (:mod:`tinynas.export.written`).
    Raises UserError for formats that are unknown or cannot hold the network, and for files of the user's in the way, before anything is
    written.
    """
    options = options or ExportOptions()
    if evaluation is not None and evaluation.several and audience is None:
        raise InternalError("several labels at once, and nobody says on what data their thresholds are chosen")
    floats = network if isinstance(network, FloatGraph) else fold(network)
    graph = floats.graph
    check_formats(formats, graph.input)
    if options.package != PackageOptions() and "c" not in formats:
        raise UserError("package: is what the manifests in the folder c/ say, and --format does not name it", "add c to --format")
    check_compiled(formats, options.runtime, graph.input, exporter=options.exporter, io=options.io, rotation=input_rotation)
    turn: Callable[[NDArray[Any]], NDArray[Any]] = rotate_images if input_rotation else np.asarray
    exported = build_model(floats, turn(calibration), labels=labels, options=options, qgraph=qgraph, input_rotation=input_rotation)
    started = time.perf_counter()
    promise = promise_of(exported, floats, options, evaluation, arena_limit=arena_limit, input_rotation=input_rotation)
    report = check(
        exported.model,
        promise,
        split=evaluation,
        split_name=split_name,
        labels=labels,
        workers=options.workers,
        positive=None if audience is None else audience.data.positive,
    )
    streams = exported.qgraph if runtime_named(options.runtime).stream else None
    served, point = _served(exported.model, graph, report, audience, turn, options.workers, streams)
    seconds = {**exported.seconds, "check": time.perf_counter() - started}
    model = with_thresholds(exported.model, point.raw) if isinstance(point, ClassCuts) and point.raw is not None else exported.model
    images = calibration if evaluation is None else evaluation.inputs
    truth = np.arange(len(images)) if evaluation is None else evaluation.labels
    runtime = runtime_named(options.runtime)
    name = UNNAMED if graph.arch is None else graph.arch.name or graph.arch.id
    made = Made(
        model,
        graph.input,
        options.runtime,
        tuple(labels),
        images,
        truth,
        input_rotation,
        core=options.core,
        name=name,
        package=options.package,
        arena_section=arena_section,
        qgraph=exported.qgraph if options.io == "int8" else None,
        decision=_decision(point, formats, options.io),
    )
    with tempfile.TemporaryDirectory() as scratch:  # whole before anything in `out` is touched
        made_in = Path(scratch)
        files = {name: FORMATS[name].write(made, made_in).relative_to(made_in).as_posix() for name in formats}
        write_parts(out, read_folder(made_in), owned=owned, on_note=on_note)
    document = {
        **report.to_json(),
        **served,
        "exporter": options.exporter,
        "io": options.io,
        "flavour": options.flavour,
        "runtime": options.runtime,
        "evidence": {figure: list(known) for figure, known in runtime.evidence.items()},
        "input_rotation": input_rotation,
        "quantization": {**options.quantization.model_dump(mode="json"), "trained": qgraph is not None} if exported.qgraph else None,
        "dead_channels": dead_channels(exported.model) if options.io == "int8" else None,
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        "files": files,
        "cost": _cost_facts(graph, options),
        "firmware": _firmware_facts(graph, options, formats),
        **exported.notes,
    }
    first = next(iter(files))
    sha256 = hashlib.sha256(model).hexdigest()
    return Artifact(net_id or (graph.arch.id if graph.arch is not None else "0" * 10), files[first], first, sha256, document)


def _served(
    model: bytes,
    graph: Graph,
    report: CheckReport,
    audience: Audience | None,
    turn: Callable[[NDArray[Any]], NDArray[Any]],
    workers: int,
    streams: QuantizedGraph | None = None,
) -> tuple[dict[str, Any], OperatingPoint | ClassCuts | None]:
    """What ``audience`` tells of the checked file, and the threshold that was wished for, or those of several labels at once. ``streams``:
    the network, where the board takes it frame by frame."""
    if audience is None or report.answered is None:
        return {}, None
    inspected, (rule, outputs) = inspect(model), report.answered

    def answers(name: str) -> NDArray[np.float64]:
        images = np.asarray(turn(audience.data.read_by(graph.input, name).inputs), np.uint8)
        measured = run_tflm(inspected, images, workers=workers, table=input_table(inspected.facts, graph.input))
        return real_outputs(measured.outputs, inspected.facts)

    point: OperatingPoint | ClassCuts | None
    if audience.data.several:
        audience.check()
        point = audience.class_cuts(inspected, rule, answers)
        found: dict[str, Any] = {"several": point.figures(outputs, audience.data.targets[audience.data.rows(audience.split)])}
    else:
        point = audience.point(inspected, rule, answers)
        found = audience.figures(rule, outputs, point, answers)
    heard = graph.input.front_end
    if heard is not None and all(timed(audience.data, split, heard) for split in (VALIDATION, audience.split)):

        def scores(inputs: NDArray[np.uint8]) -> NDArray[np.float64]:
            measured = run_tflm(inspected, inputs, workers=workers, table=input_table(inspected.facts, graph.input))
            return probabilities(real_outputs(measured.outputs, inspected.facts), several=audience.data.several)

        usual = Stream()
        if streams is None:
            ear = window_ear(heard, scores, usual.hop_of(heard), usual.refractory)
        else:
            passive = passive_classes(audience.data.labels)
            ear = stream_ear(streams, usual.refractory, several=audience.data.several, passive=passive)
        found["stream"] = stream_report(audience.data, audience.split, heard, ear, usual.false_alarms)
    return found, point


def _decision(point: OperatingPoint | ClassCuts | None, formats: Sequence[str], io: Io) -> Decision | Thresholds | None:
    """How the code around the network decides, where there is any."""
    match point:
        case OperatingPoint():
            return point.decision()
        case ClassCuts():
            return point.decision("float32" if io == "float" else io) if "c" in formats else None
        case None:
            return None
        case _:
            assert_never(point)


def _cost_facts(graph: Graph, options: ExportOptions) -> dict[str, float]:
    """What was estimated of the network, with the names of the front and of ``tinynas estimate``; without times, which are of a board."""
    cost = estimate(graph, options.runtime, core=options.core)
    return {name: value for name, value in cost.values().items() if value is not None and name != "latency_ms"}


def _firmware_facts(graph: Graph, options: ExportOptions, formats: Sequence[str]) -> dict[str, Any] | None:
    """What the folder that holds the network as C takes on a microcontroller; None where there is none of the options' runtime. Of TFLM's
    folder the rest of the report tells."""
    runtime = runtime_named(options.runtime)
    folder = next((name for name in ("c", "stream" if runtime.stream else "compiled") if name in formats), None)
    if runtime.frame is None or folder is None:
        return None
    cost = estimate(graph, options.runtime, core=options.core)
    return {
        "runtime": options.runtime,
        "folder": folder,
        "frame": runtime.frame,
        "work_bytes": cost.sram_bytes,
        "stack_bytes": cost.stack_bytes,
        "converter_bytes": converter_bytes(graph.input, runtime.frame) if folder == "c" else 0,
        "flash_bytes": cost.flash_bytes,
        "code_bytes": cost.code_bytes,
    }


def promise_of(
    exported: Exported,
    floats: FloatGraph,
    options: ExportOptions,
    evaluation: Split | None = None,
    *,
    arena_limit: int | None = None,
    input_rotation: int = 0,
) -> Promise:
    """All that is promised of an export. Memory is promised for tinynas's own int8 files, from the graph alone, as before training;
    other forms are held against what their own operators need."""
    graph: Graph = floats.graph
    memory = exported.qgraph is not None and options.io == "int8"
    outputs = logits = None
    if evaluation is not None:
        turn: Callable[[NDArray[Any]], NDArray[Any]] = rotate_images if input_rotation else np.asarray
        logits = predict(floats, turn(evaluation.inputs))
        if exported.qgraph is not None:
            few = pixels(turn(evaluation.inputs[:EQUAL_IMAGES]), graph.input)
            outputs = FakeQuantNetwork(exported.qgraph)(few).numpy().astype(np.int8), exported.qgraph.tensors[graph.logits]
    return Promise(
        graph,
        options.io,
        options.runtime,
        options.core,
        exported.estimated_bytes,
        sram_bytes(graph, options.runtime, exported.plan, options.core) if memory else None,
        host_arena_bytes(storable_graph(graph), exported.plan) if memory else None,
        arena_limit,
        exported.extras,
        outputs,
        logits,
        input_rotation,
    )
