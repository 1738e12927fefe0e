"""The firmware folder ``c/`` around a network as C: converter, classifier, self-test and manifests in C99; nothing else to install.

The same folder as TFLM's (:mod:`tinynas.export.firmware`), with the network itself in the place of a model file and its interpreter. The
templates lie in ``templates/firmware_c``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinynas.cost import RUNTIMES, Cost, estimate
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.streamed import Frame
from tinynas.errors import InternalError
from tinynas.export.adapt_code import BoardLearning, adapt_more
from tinynas.export.compiled import compile_network
from tinynas.export.folder import (
    Decision,
    Spelling,
    Thresholds,
    check_images,
    decide_words,
    fill_folder,
    image_words,
    pick_images,
    several_words,
    shared_words,
)
from tinynas.export.formats import Made, check_compiled, check_formats
from tinynas.export.manifests import UNNAMED, PackageOptions, identifier
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import run_tflm
from tinynas.export.sound_firmware import OF_IMAGES, check_sound, sound_templates, sound_words
from tinynas.files import write_atomic
from tinynas.inputs import Input
from tinynas.quantize.grid import QuantizedGraph

# What Zephyr and a C library want beside the network, roughly: twister passes smaller boards over.
_ZEPHYR_RAM_KIB, _ZEPHYR_FLASH_KIB = 16, 96

#: The package's page where it names none: there is no runtime but what tinynas writes.
PAGE = "https://github.com/tinynas/tinynas"
#: How frames come -> the runtime.
_RUNTIMES: dict[Frame, str] = {row.frame: name for name, row in RUNTIMES.items() if row.frame and not row.stream}
_WORDS: dict[Frame, dict[str, str]] = {
    "kept": {
        "image_sentence": "turned where the network wants it; in one pass and without a second buffer.",
        "frames_words": "A whole frame is converted into the work area, where the network reads it.",
        "sketch_buffer": "static uint8_t frame_buffer[160 * 120 * 2];  // RGB565, as most camera modules send it\n",
    },
    "rows": {
        "image_sentence": "row by row as the camera gives them, so that no frame lies in memory.",
        "frames_words": "Rows of the camera are converted as they come and pushed into the network: no frame lies in memory.",
        "sketch_buffer": "static uint8_t row_buffer[160 * 2];  // RGB565, as most camera modules send it\n",
    },
}
_CLASSIFY = """/* {answer_words} of `frame`, 0 to {GUARD}_CLASSES - 1 ({ns}_labels names it), or -1 where something failed. */
int {ns}_classify(const {ns}_frame_t *frame, {ns}_resize_t resize);

"""
_INPUT = """/* Input: one image, height x width x channels ({input_channels_note}), row by row, channels together, pixels 0 to 255. The
   network takes real = {input_formula}. */"""
#: Parts of ``templates/image`` -> word, by how frames come.
_PARTS: dict[Frame, dict[str, tuple[str, ...]]] = {
    "kept": {
        "image_api": ("whole.h",),
        "image_code": ("pixels.c", "whole.c", "convert.c"),
        "classifier_code": ("classify_whole.c",),
        "example_classify": ("example_whole.c",),
        "sketch_classify": ("sketch_whole.ino",),
        "use": ("use_whole.md",),
    },
    "rows": {
        "image_api": ("rows.h",),
        "image_code": ("pixels.c", "rows.c"),
        "classifier_api": ("push.h",),
        "classifier_code": ("classify_rows.c",),
        "example_classify": ("example_rows.c",),
        "sketch_classify": ("sketch_rows.ino",),
        "use": ("use_rows.md",),
    },
}


def converter_bytes(source: Input, frame: Frame) -> int:
    """SRAM of the image converter on a 32-bit target, beside the work area and the camera's own buffer: where rows come one by one, a row
    of sums, a row of pixels, and ten words of where it stands; none where a front end makes the rows."""
    if frame == "kept" or source.front_end is not None:
        return 0
    size = 40 + 12 * source.width + source.width * source.channels
    return -(-size // 4) * 4


def build_compiled_firmware(
    qgraph: QuantizedGraph,
    model: bytes,
    *,
    frame: Frame,
    labels: Sequence[str],
    images: npt.NDArray[np.uint8] | None,
    expected: npt.NDArray[np.int8] | None = None,
    name: str = UNNAMED,
    rotation: int = 0,
    package: PackageOptions | None = None,
    section: str | None = None,
    core: str | None = None,
    decision: Decision | Thresholds | None = None,
    learning: BoardLearning | None = None,
) -> dict[str, bytes]:
    """Relative path -> content of every file of the folder around ``qgraph``, which takes frames as ``frame`` says.

    ``model`` is the .tflite of the same numbers: its outputs by TFLM's kernels are what the self-test expects (``expected``, computed here
    where None). ``images`` are two upright uint8 (2, H, W, C), None where there is a front end, which is tested with a sound.
    ``name`` becomes the prefix of all names in C and the library's name, unless
    ``package`` names it otherwise. ``section`` is the linker section of the work area, ``core`` the one whose flash is told.
    ``decision``: the threshold by which the code says yes, None for the largest output. ``learning``: what it learns on the board.
    Raises UserError for labels or images that do not fit, and for a network that cannot be compiled so.
    """
    source = qgraph.graph.input
    check_formats(["c"], source)
    if source.front_end is not None:
        images = check_sound(source.front_end, qgraph.graph.classes, labels, rotation)
    elif images is None:
        raise InternalError("a firmware folder of images without images for its self-test")
    else:
        check_images(source.shape, qgraph.graph.classes, labels, images, rotation)
    check_compiled(["c"], _RUNTIMES[frame], source, exporter="tinynas", io="int8", rotation=rotation)
    if expected is None:
        shown = np.asarray(rotate_images(images) if rotation else images, dtype=np.uint8)
        expected = run_tflm(model, shown).outputs
    if source.front_end is None:
        source = source.as_map
        images = images.reshape(len(images), *source.shape)
    if expected.shape != (len(images), qgraph.graph.classes) or expected.dtype != np.dtype("int8"):
        raise InternalError(f"expected outputs are {expected.dtype} {expected.shape}")
    package = package or PackageOptions()
    network = compile_network(
        qgraph, name=identifier(package.name or name), frame=frame, file="network", shape=source.shape, learned=learning is not None
    )
    words = shared_words(
        source,
        labels,
        images,
        expected,
        name=name,
        package=package,
        page=PAGE,
        sha256=hashlib.sha256(model).hexdigest(),
        rotation=rotation,
        section=section,
        decision=decision,
    )
    words |= deciding_words(decision, words)
    cost = estimate(qgraph.graph, _RUNTIMES[frame], core=core)
    words |= code_words(words, cost, network.constant_bytes, network.stack_bytes(core), converter_bytes(source, frame))
    words = _words(words, frame, source)
    if learning is not None:
        (kept,) = learning.apart.kept  # the classifier's input
        more = adapt_more(learning, "c", words, network.plan.places[kept].offset)
        return fill_folder("firmware_c", {**words, **more.words}, "c", network.files, over=more.templates)
    if source.front_end is None:
        return fill_folder("firmware_c", words, "c", network.files)
    words |= sound_words(source.front_end, words, images, expected, "c", core, several=isinstance(decision, Thresholds), labels=labels)
    return fill_folder("firmware_c", words, "c", network.files, over=sound_templates("c"), without=OF_IMAGES)


def write_format(made: Made, folder: Path) -> Path:
    """The format ``c`` of a compiled runtime: the firmware folder, with two of the images for its self-test."""
    frame = runtime_named(made.runtime).frame
    if frame is None or made.qgraph is None:
        raise InternalError(f"{made.runtime}: nothing to compile")
    files = build_compiled_firmware(
        made.qgraph,
        made.model,
        frame=frame,
        labels=made.labels,
        images=None if made.input.front_end is not None else pick_images(made.images, made.truth),
        name=made.name,
        rotation=made.input_rotation,
        package=made.package,
        section=made.arena_section,
        core=made.core,
        decision=made.decision,
    )
    for path, content in files.items():
        write_atomic(folder / "c" / path, content)
    return folder / "c"


def deciding_words(decision: Decision | Thresholds | None, words: Mapping[str, str]) -> dict[str, str]:
    """Words of what decides, in C."""
    guard = words["GUARD"]
    found = decide_words(decision, Spelling(f"{guard}_CLASSES", f"{guard}_POSITIVE_CLASS", f"{guard}_THRESHOLD", "thresholds"))
    found |= {"lowest": "-128", "threshold_settings": _threshold_settings(guard, decision)}
    return found | several_words(decision, "c", {**words, **found})


def _threshold_settings(guard: str, decision: Decision | Thresholds | None) -> str:
    if not isinstance(decision, Decision):
        return ""
    return (
        decision.explained("/* ").replace("\n/* ", "\n   ")
        + f" */\n#define {guard}_POSITIVE_CLASS {decision.positive}\n#define {guard}_THRESHOLD ({decision.literal})\n"
    )


def code_words(words: Mapping[str, str], cost: Cost, constant_bytes: int, stack_bytes: int, converter: int = 0) -> dict[str, str]:
    """Words of every folder around a network as C, of sizes in bytes; ``converter``: SRAM of the image converter."""
    flash = cost.program_bytes or constant_bytes
    return {
        "suffix": "c",
        "language": "C",
        "language_flags": "",
        "model_source": "the numbers in network.c",
        "runs_on": "C99 without an interpreter, nothing else to install.",
        "arduino_architectures": "*",
        "arduino_depends": "",
        "platformio_keyword": '"c99"',
        "platformio_frameworks": '"*"',
        "platformio_dependencies": "",
        "platformio_sources": '"+<*.c>"',
        "idf_tag": "c99",
        "idf_dependency": "",
        "zephyr_depends": "",
        "zephyr_tags": "tinyml",
        "height_name": "HEIGHT",
        "main_call": "classify (classifier.h)",
        "stack_bytes": f"{stack_bytes:,}",
        "work_bytes_words": f"{cost.sram_bytes:,} B",
        "constant_bytes_words": f"{constant_bytes:,} B",
        "flash_words": f"{flash:,} B",
        "classifier_api": "",
        "classifier_note": f"The network in three calls: {words['ns']}_classify a frame, and read the scores.",
        "work_what": "work area",
        "outputs_what": "last frame",
        "network_note": f"The work area, for callers that have pixels of the input's size: {words['ns']}_run and the rest of network.h.",
        "fast_sources": "network.c",
        "min_ram_kib": str(-(-(cost.sram_bytes + converter) // 1024) + _ZEPHYR_RAM_KIB),
        "min_flash_kib": str(-(-flash // 1024) + _ZEPHYR_FLASH_KIB),
        "rotation_words": ", turned by 180 degrees (the converter does it)" if words["rotation"] != "0" else "",
    }


def _words(words: dict[str, str], frame: Frame, source: Input) -> dict[str, str]:
    guard, converter = words["GUARD"], converter_bytes(source, frame)
    constants = {"kRgb888": "RGB888", "kBgr888": "BGR888", "kRgb565LittleEndian": "RGB565_LITTLE_ENDIAN"}
    constants |= {"kRgb565BigEndian": "RGB565_BIG_ENDIAN", "kGray8": "GRAY8", "kLikeTraining": "LIKE_TRAINING"}
    constants |= {"kArea": "AREA", "kBilinear": "BILINEAR", "kNearest": "NEAREST"}
    constants = {name: f"{guard}_{word}" for name, word in constants.items()}
    words = {
        **words,
        **_WORDS[frame],
        "frame": frame,
        "converter_bytes": str(converter),
        "converter_words": f", and {converter:,} B for the rows that the converter is at" if converter else "",
        "input_sources": "image_input.c",
        "input_header": "image_input.h",
        "classify_api": _CLASSIFY.format(**words),
        "input_note": _INPUT.format(**words),
        "rotation_lines": "/* Degrees by which the image is turned on its way into the network; the caller hands over upright frames. */\n"
        f"#define {guard}_INPUT_ROTATION {words['rotation']}\n",
        "self_test_format": constants["kRgb888" if source.channels == 3 else "kGray8"],
    }
    parts = {
        word: image_words(*chosen, words=words, constants=constants, cast="(uint32_t)").rstrip("\n")
        for word, chosen in _PARTS[frame].items()
        if source.front_end is None
    }
    return {**words, **parts, "classifier_api": parts["classifier_api"] + "\n\n" if "classifier_api" in parts else ""}
