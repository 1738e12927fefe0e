"""The firmware folder ``c/`` of a network that streams: a microphone's samples, frame by frame through front end and network.

The same folder as around other networks of sound as C (:mod:`tinynas.export.compiled_firmware`), with a network that takes one frame and
keeps what it needs of earlier ones: no frame is computed twice. The templates are the same (:mod:`tinynas.export.heard_words` has the words
that differ).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinynas.cost import estimate
from tinynas.cost.compiled import network_stack
from tinynas.errors import InternalError
from tinynas.export.compiled_firmware import PAGE, code_words, deciding_words
from tinynas.export.folder import Decision, Thresholds, fill_folder, shared_words
from tinynas.export.formats import Made, check_compiled, check_formats
from tinynas.export.manifests import UNNAMED, PackageOptions, identifier
from tinynas.export.sandbox import run_tflm
from tinynas.export.sound_firmware import OF_IMAGES, check_sound, sound_templates, sound_words
from tinynas.export.stepwise import compile_stream
from tinynas.export.stream_reference import stream_outputs
from tinynas.files import write_atomic
from tinynas.quantize.grid import QuantizedGraph

RUNTIME = "compiled-stream"


def build_stream_firmware(
    qgraph: QuantizedGraph,
    model: bytes,
    *,
    labels: Sequence[str],
    name: str = UNNAMED,
    package: PackageOptions | None = None,
    section: str | None = None,
    core: str | None = None,
    decision: Decision | Thresholds | None = None,
) -> dict[str, bytes]:
    """Relative path -> content of every file of the folder around the stream of ``qgraph``.

    ``model`` is the .tflite of the same numbers: its outputs by TFLM's kernels are what the self-test expects of the stored sound. The rest
    as for :func:`tinynas.export.compiled_firmware.build_compiled_firmware`. Raises UserError for labels that do not fit, for a network
    without a front end, and for one that cannot be streamed or compiled.
    """
    source = qgraph.graph.input
    check_formats(["c"], source)
    check_compiled(["c"], RUNTIME, source, exporter="tinynas", io="int8", rotation=0)
    if source.front_end is None:
        raise InternalError("a folder of a stream without a front end")
    frames = check_sound(source.front_end, qgraph.graph.classes, labels, 0)
    package = package or PackageOptions()
    network = compile_stream(qgraph, name=identifier(package.name or name), file="network")
    expected = run_tflm(model, frames).outputs
    clip = frames[0]
    # On without a reset, to an answer a clip later.
    further = network.plan.first + -(-len(clip) // network.plan.every) * network.plan.every - len(clip)
    heard = stream_outputs(qgraph, np.concatenate([clip, np.resize(clip, (further, *clip.shape[1:]))]))
    if not np.array_equal(heard[network.plan.first - 1], expected[0]):
        raise InternalError("the stream's first outputs are not those of TFLM's kernels for the clip")
    words = shared_words(
        source,
        labels,
        frames,
        expected,
        name=name,
        package=package,
        page=PAGE,
        sha256=hashlib.sha256(model).hexdigest(),
        rotation=0,
        section=section,
        decision=decision,
    )
    words |= deciding_words(decision, words)
    cost = estimate(qgraph.graph, RUNTIME, core=core)
    words |= code_words(words, cost, network.constant_bytes, network_stack(qgraph.graph, core))
    words |= {
        "frame": "stream",
        "height_name": "FRAMES",
        "self_test_further": str(further),
        "self_test_later": _numbers(heard[len(clip) + further - 1]),
    }
    words |= sound_words(
        source.front_end,
        words,
        frames,
        expected,
        "c",
        core,
        several=isinstance(decision, Thresholds),
        every=network.plan.every,
        scale=float(qgraph.tensors[qgraph.graph.logits].scale),
        labels=labels,
    )
    return fill_folder("firmware_c", words, "c", network.files, over=sound_templates("c"), without=OF_IMAGES)


def write_format(made: Made, folder: Path) -> Path:
    """The format ``c`` of a runtime that streams. Raises UserError as :func:`build_stream_firmware`."""
    if made.qgraph is None:
        raise InternalError(f"{made.runtime}: nothing to compile")
    files = build_stream_firmware(
        made.qgraph,
        made.model,
        labels=made.labels,
        name=made.name,
        package=made.package,
        section=made.arena_section,
        core=made.core,
        decision=made.decision,
    )
    for path, content in files.items():
        write_atomic(folder / "c" / path, content)
    return folder / "c"


def _numbers(values: npt.NDArray[np.int8]) -> str:
    return ", ".join(str(int(value)) for value in values)
