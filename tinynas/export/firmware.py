"""The firmware folder ``c/``: a finished .tflite with the code around it, ready for a microcontroller.

Everything is made from the model file itself, its labels and two images: the operators, shapes and scales are
read from the flatbuffer, the expected output bytes of the self-test come from TFLM's own kernels. The same
input gives the same bytes, on every machine: no date, no path, no compression that depends on a library.

The templates lie in ``templates/firmware``; ``@word@`` in them is replaced, nothing else is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tflite import parse_model
from tinynas.errors import InternalError, ModelFileError
from tinynas.export import compiled_firmware, stream_firmware
from tinynas.export.adapt_code import BoardLearning, adapt_more
from tinynas.export.facts import ModelFacts, input_table
from tinynas.export.folder import (
    Decision,
    Spelling,
    Thresholds,
    bytes_array,
    c_float,
    check_images,
    decide_words,
    fill_folder,
    image_words,
    pick_images,
    read_templates,
    several_words,
    shared_words,
)
from tinynas.export.formats import MODEL_FILE, Made, check_formats
from tinynas.export.manifests import ARDUINO_TFLM, ARDUINO_TFLM_OWNER, ARDUINO_TFLM_SINCE, UNNAMED, PackageOptions
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import inspect, measure_arena, run_tflm
from tinynas.export.sound_firmware import OF_IMAGES, check_sound, sound_templates, sound_words
from tinynas.export.written import write_folder
from tinynas.inputs import Input
from tinynas.target.registrations import added, int8_functions, int8_includes

#: Bytes added to the arena: TFLM's persistent structures grow by a few dozen to a few hundred bytes now and then
#: between versions, and an arena that a linker places unaligned loses up to 15.
ARENA_MARGIN = 512
# What Zephyr, the interpreter and a C++ library want beside the arena and the model, roughly: twister passes smaller boards over.
_ZEPHYR_RAM_KIB, _ZEPHYR_FLASH_KIB = 32, 256

#: The runtime's page, for packages that name none.
_PAGE = "https://github.com/tensorflow/tflite-micro"
#: Names of the image converter's constants.
_CONSTANTS = {name: f"PixelFormat::{name}" for name in ("kRgb888", "kBgr888", "kRgb565LittleEndian", "kRgb565BigEndian", "kGray8")}
_CONSTANTS |= {name: f"Resize::{name}" for name in ("kLikeTraining", "kArea", "kBilinear", "kNearest")}

#: .tflite operator -> method of TFLM's MicroMutableOpResolver.
RESOLVER_METHODS: dict[str, str] = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MUL": "AddMul",
    "PACK": "AddPack",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "RESIZE_NEAREST_NEIGHBOR": "AddResizeNearestNeighbor",
    "SHAPE": "AddShape",
    "SOFTMAX": "AddSoftmax",
    "STRIDED_SLICE": "AddStridedSlice",
    "SUB": "AddSub",
    "TRANSPOSE": "AddTranspose",
}

_C_TYPES: dict[str, tuple[str, str]] = {
    "int8": ("int8_t", "kTfLiteInt8"),
    "uint8": ("uint8_t", "kTfLiteUInt8"),
    "float32": ("float", "kTfLiteFloat32"),
}


@dataclass(frozen=True)
class ArenaFigures:
    """Arena bytes of the model, each with its origin; the firmware reserves :attr:`host_arena` or :attr:`mcu_arena`."""

    head_bytes: int
    """Activations and scratch: measured by TFLM on the host, equal on every target with reference kernels."""
    host_tail_bytes: int
    """Persistent part, measured on the 64-bit host."""
    mcu_bytes: int | None = None
    """The whole arena on a 32-bit target with reference kernels, by the cost model; None where unknown."""
    mcu_cmsis_bytes: int | None = None
    """The same with CMSIS-NN kernels."""
    runtime: str | None = None
    """The runtime the model was made for, whose figure is reserved; None: enough for either of the two."""
    own_bytes: int | None = None
    """The whole arena with the kernels of :attr:`runtime` on the core the model was made for, where that is one of TFLM's."""
    core: str | None = None
    """The core that :attr:`own_bytes` is of; None: of any."""
    section: str | None = None
    """Linker section of the arena on the target, as the budget's region has it; None: the linker's own."""

    @property
    def host_bytes(self) -> int:
        """The whole arena as measured on the host."""
        return self.head_bytes + self.host_tail_bytes

    @property
    def host_arena(self) -> int:
        """Bytes to reserve on 64-bit machines."""
        return _aligned(self.host_bytes + ARENA_MARGIN)

    @property
    def mcu_arena(self) -> int:
        """Bytes to reserve on 32-bit targets: they work first time with the kernels of :attr:`runtime`.

        Where that is none of TFLM's, they work with reference and CMSIS-NN kernels. Where the cost model does not know the model,
        the host's figure, which is always enough for reference kernels.
        """
        figures = {"tflm": self.mcu_bytes, "tflm-cmsis-nn": self.mcu_cmsis_bytes}
        wanted = (figures[self.runtime],) if self.runtime in figures else tuple(figures.values())
        known = [bytes_ for bytes_ in (wanted if self.own_bytes is None else (self.own_bytes,)) if bytes_ is not None]
        return _aligned(max(known) + ARENA_MARGIN) if known else self.host_arena

    def explained(self) -> list[str]:
        """Lines for people: where the figures come from."""
        reference, cmsis = ("unknown" if b is None else f"{b}" for b in (self.mcu_bytes, self.mcu_cmsis_bytes))
        if self.own_bytes is not None and self.core is not None:
            # Of the core that it is made for: another one may need twice as much.
            known = f"{reference} with reference kernels, {self.own_bytes} with those of {self.runtime} on a {self.core}."
            return [
                f"64-bit host, measured, reference kernels: {self.host_bytes} ({self.head_bytes} activations and scratch,",
                f"{self.host_tail_bytes} persistent). 32-bit targets, by the cost model: {known}",
                "Pointers half as long make the difference to the host.",
                f"Reserved on 32-bit targets is what {self._reserved()} need on that core.",
                f"{ARENA_MARGIN} bytes of margin for other versions of the interpreter are added, rounded up to 16.",
                "Setup says so where it is too little; ArenaUsedBytes tells what is really used.",
            ]
        return [
            f"64-bit host, measured, reference kernels: {self.host_bytes} ({self.head_bytes} activations and scratch,",
            f"{self.host_tail_bytes} persistent). 32-bit targets, by the cost model: {reference} with reference kernels,",
            f"{cmsis} with CMSIS-NN, in whichever version in use needs most. Pointers half as long make the difference.",
            f"Reserved on 32-bit targets is what {self._reserved()} need.",
            f"{ARENA_MARGIN} bytes of margin for other versions of the interpreter are added, rounded up to 16.",
            "Setup says so where it is too little; ArenaUsedBytes tells what is really used.",
        ]

    def _reserved(self) -> str:
        named = {"tflm": "the reference kernels", "tflm-cmsis-nn": "the CMSIS-NN kernels", "tflm-esp-nn": "the esp-nn kernels"}
        return "either of them may" if self.runtime is None else named.get(runtime_named(self.runtime).plain, "either of them may")


def _aligned(size: int) -> int:
    return (size + 15) // 16 * 16


def build_firmware(
    model: bytes,
    *,
    labels: Sequence[str] | None = None,
    images: npt.NDArray[np.uint8] | None,
    arena: ArenaFigures,
    expected: npt.NDArray[Any] | None = None,
    name: str = UNNAMED,
    rotation: int | None = None,
    source: Input | None = None,
    package: PackageOptions | None = None,
    decision: Decision | Thresholds | None = None,
    learning: BoardLearning | None = None,
) -> dict[str, bytes]:
    """Relative path -> content of every file of the folder.

    ``labels`` where None are those of the file's metadata.
    ``images`` are two upright uint8 (2, H, W, C) images of the input's size for the self-test, None where there is a front end, which is
    tested with a sound; ``expected`` their
    outputs (2, classes) in the file's type, by TFLM's kernels (computed here where None). ``rotation`` (0 or 180) and ``source``
    override what the file says of its input. ``name`` becomes the C++ namespace and the library's name, unless ``package`` names it
    otherwise; ``package`` is what the manifests say. ``decision``: the threshold by which the code says yes, None for the largest output.
    ``learning``: what it learns on the board; the model's further outputs are what that reads.
    Raises ModelFileError for a file the firmware cannot hold and UserError for labels or images that do not fit it.
    """
    inspected = inspect(model, kept=learning is not None)
    facts = inspected.facts
    rotation = facts.input_rotation if rotation is None else rotation
    labels = facts.labels if labels is None else labels
    source = facts.input if source is None else source
    heard = source.front_end
    if heard is not None:
        images = check_sound(heard, facts.classes, labels, rotation)
    elif images is None:
        raise InternalError("a firmware folder of images without images for its self-test")
    _check_inputs(facts, source, labels, images, rotation)
    if expected is None:
        shown = np.asarray(rotate_images(images) if rotation else images, dtype=np.uint8)
        expected = run_tflm(inspected, shown, table=input_table(facts, source)).outputs
    if heard is None:
        source = source.as_map
        images = images.reshape(len(images), *source.shape)
    if expected.shape != (len(images), facts.classes) or expected.dtype != np.dtype(facts.output_dtype):
        raise InternalError(f"expected outputs are {expected.dtype} {expected.shape}, the model gives {facts.output_dtype}")
    words = _words(model, facts, source, labels, images, expected, arena, name, rotation, package or PackageOptions(), decision)
    if learning is not None:
        more = adapt_more(learning, "cc", words)
        return fill_folder("firmware", {**words, **more.words}, "cc", over=more.templates)
    if heard is None:
        return fill_folder("firmware", words, "cc")
    words |= sound_words(heard, words, images, expected, "cc", None, several=isinstance(decision, Thresholds), labels=labels)
    return fill_folder("firmware", words, "cc", over=sound_templates("cc"), without=OF_IMAGES)


def write_firmware(
    folder: Path,
    model: bytes,
    *,
    labels: Sequence[str] | None = None,
    images: npt.NDArray[np.uint8] | None,
    arena: ArenaFigures | None = None,
    expected: npt.NDArray[Any] | None = None,
    name: str = UNNAMED,
    rotation: int | None = None,
    source: Input | None = None,
    package: PackageOptions | None = None,
    decision: Decision | Thresholds | None = None,
) -> list[Path]:
    """Write the folder (see :func:`build_firmware`) and return its files. ``arena`` is measured where None.

    Each file is replaced atomically, and what an earlier call wrote that no longer belongs is removed: :mod:`tinynas.export.written`.
    """
    if arena is None:
        arena = measured_arena(model)
    files = build_firmware(
        model,
        labels=labels,
        images=images,
        arena=arena,
        expected=expected,
        name=name,
        rotation=rotation,
        source=source,
        package=package,
        decision=decision,
    )
    return write_folder(folder, files)


def write_format(made: Made, folder: Path) -> Path:
    """The format ``c``: the firmware folder, with two of the images for its self-test and the arena of the runtime; around the network as C
    where that is the runtime."""
    runtime = runtime_named(made.runtime)
    if runtime.stream:
        return stream_firmware.write_format(made, folder)
    if runtime.frame is not None:
        return compiled_firmware.write_format(made, folder)
    arena = replace(measured_arena(made.model, made.runtime, made.core), section=made.arena_section)
    images = None if made.input.front_end is not None else pick_images(made.images, made.truth)
    write_firmware(
        folder / "c",
        made.model,
        labels=made.labels,
        images=images,
        arena=arena,
        name=made.name,
        rotation=made.input_rotation,
        source=made.input,
        package=made.package,
        decision=made.decision,
    )
    return folder / "c"


def measured_arena(model: bytes, runtime: str | None = None, core: str | None = None, *, kept: bool = False) -> ArenaFigures:
    """Arena figures of ``model``, made for ``runtime`` on ``core``: measured by TFLM on this machine, and by the cost model for 32-bit
    targets. ``kept``: see :func:`tinynas.export.facts.read_facts`."""
    head, tail = measure_arena(inspect(model, kept=kept))
    try:
        parsed = parse_model(model)
        chosen = [] if runtime is None or not runtime_named(runtime).tail else [(runtime, core)]
        costs = [parsed.estimate(name, core=on) for name, on in [("tflm", None), ("tflm-cmsis-nn", None), *chosen]]
    except ModelFileError:  # an operator that the cost model does not know
        return ArenaFigures(head, tail, runtime=runtime, core=core)
    # A figure that is only known to be at least so much is no size to reserve.
    mcu, cmsis, *own = (None if cost.unknown else cost.sram_bytes for cost in costs)
    return ArenaFigures(head, tail, mcu, cmsis, runtime, own[0] if own else None, core)


def _check_inputs(facts: ModelFacts, source: Input, labels: Sequence[str], images: npt.NDArray[np.uint8], rotation: int) -> None:
    check_formats(["c"], source)
    unknown = sorted(set(facts.operators) - set(RESOLVER_METHODS))
    if unknown:
        raise ModelFileError(f"the firmware folder has no resolver call for {', '.join(unknown)}", "export the model with tinynas")
    if facts.layout != "nhwc":
        raise ModelFileError(
            f"the model's input is {facts.layout}; the firmware folder writes pixels as nhwc", "export the model with tinynas"
        )
    if source.front_end is None:
        check_images(facts.input_shape, facts.classes, labels, images, rotation)


# words for the templates ---------------------------------------------------------------------------------


def _words(
    model: bytes,
    facts: ModelFacts,
    source: Input,
    labels: Sequence[str],
    images: npt.NDArray[np.uint8],
    expected: npt.NDArray[Any],
    arena: ArenaFigures,
    name: str,
    rotation: int,
    package: PackageOptions,
    decision: Decision | Thresholds | None,
) -> dict[str, str]:
    kinds = tuple(dict.fromkeys(facts.operators))
    endings = parse_model(model).endings
    methods = [RESOLVER_METHODS[kind] + endings[kind] for kind in kinds]
    sha256 = hashlib.sha256(model).hexdigest()
    words = shared_words(
        source,
        labels,
        images,
        expected,
        name=name,
        package=package,
        page=_PAGE,
        sha256=sha256,
        rotation=rotation,
        section=arena.section,
        decision=decision,
    )
    function, table = _pixel_code(facts, source)
    decided = decide_words(decision, Spelling("kClasses", "kPositiveClass", "kThreshold", "kThresholds"))
    words["lowest"] = str({"int8": -128, "uint8": 0, "float32": 0}[facts.output_dtype])  # float outputs have no thresholds in steps
    decided |= several_words(decision, "cc", words)
    return {
        **words,
        **decided,
        "threshold_settings": _threshold_settings(decision),
        "suffix": "cc",
        "language": "CXX",
        "language_flags": " -fno-threadsafe-statics -fno-use-cxa-atexit",
        "model_source": "model_data.cc",
        "runs_on": "Runs on TensorFlow Lite Micro.",
        "arduino_tflm": ARDUINO_TFLM,
        "arduino_tflm_since": ARDUINO_TFLM_SINCE,
        "arduino_architectures": "mbed_nano,mbed_nicla,mbed_portenta,mbed_giga,esp32",
        "arduino_depends": f"\ndepends={ARDUINO_TFLM} (>={ARDUINO_TFLM_SINCE})",
        "platformio_keyword": '"tensorflow lite micro"',
        "platformio_frameworks": '["arduino"]',
        "platformio_dependencies": f'\n  "dependencies": [{{"owner": "{ARDUINO_TFLM_OWNER}", "name": "{ARDUINO_TFLM}", '
        f'"version": "^{ARDUINO_TFLM_SINCE}"}}],',
        "platformio_sources": '"+<*.cc>", "+<*.cpp>"',
        "idf_tag": "tflite-micro",
        "idf_dependency": '\n  espressif/esp-tflite-micro: "^1.3.3"',
        "zephyr_depends": "\n  depends:\n    - tflite-micro",
        "zephyr_tags": "tensorflow\n  modules:\n    - tflite-micro",
        "input_sources": "image_input.cc",
        "input_header": "image_input.h",
        "classify_api": f"// {decided['answer_words']} of `frame`, 0 to kClasses - 1 (kLabels names it), or -1 where something failed.\n"
        "int Classify(const Frame& frame, Resize resize = Resize::kLikeTraining);",
        "classify_code": read_templates("image")["classify.cc"].rstrip("\n").replace("@decide@", decided["decide"]),
        "input_what": "one image",
        "input_element": "pixel",
        "rotation_lines": "// Degrees by which the image is turned on its way into the network. 180 for weights that were trained with\n"
        "// symmetric padding; QuantizeFrame does it, the caller hands over upright frames.\n"
        f"constexpr int kInputRotation = {rotation};\n",
        "image_pixels": image_words("pixels.c", words=words, constants=_CONSTANTS, cast="static_cast<uint32_t>"),
        "image_whole": image_words("whole.c", words=words, constants=_CONSTANTS, cast="static_cast<uint32_t>"),
        "model_bytes": str(len(model)),
        "model_bytes_words": f"{len(model):,} B",
        "model_file": MODEL_FILE,
        "model_array": bytes_array(model),
        "input_dtype": facts.input_dtype,
        "input_type": _C_TYPES[facts.input_dtype][0],
        "input_tflite_type": _C_TYPES[facts.input_dtype][1],
        "input_scale": c_float(facts.input_scale),
        "input_zero_point": str(facts.input_zero_point),
        "rotation_words": ", turned by 180 degrees (`QuantizeFrame` does it)" if rotation else "",
        "pixel_function": function,
        "pixel_table": table,
        "output_dtype": facts.output_dtype,
        "output_type": _C_TYPES[facts.output_dtype][0],
        "output_tflite_type": _C_TYPES[facts.output_dtype][1],
        "output_scale": c_float(facts.output_scale),
        "output_zero_point": str(facts.output_zero_point),
        "arena_host": str(arena.host_arena),
        "arena_mcu": str(arena.mcu_arena),
        "arena_note": "\n".join(f"// {line}" for line in arena.explained()),
        "arena_words": " ".join(arena.explained()),
        "operator_kinds": str(len(kinds)),
        "operators_words": ", ".join(f"{kind} x {facts.operators.count(kind)}" for kind in kinds),
        "min_ram_kib": str(-(-arena.mcu_arena // 1024) + _ZEPHYR_RAM_KIB),
        "min_flash_kib": str(-(-len(model) // 1024) + _ZEPHYR_FLASH_KIB),
        "add_operators": " &&\n".join(
            f"  {'return' if i == 0 else '      '} {added(method)} == kTfLiteOk" for i, method in enumerate(methods)
        )
        + ";",
        "int8_includes": int8_includes(methods),
        "int8_functions": int8_functions(methods, words["GUARD"]),
        "self_test_format": _CONSTANTS["kRgb888" if source.channels == 3 else "kGray8"],
        "self_test_tolerance": "0.0001f" if facts.output_dtype == "float32" else "0",
    }


def _threshold_settings(decision: Decision | Thresholds | None) -> str:
    if not isinstance(decision, Decision):
        return ""
    kind = "int" if isinstance(decision.threshold, int) else "float"
    return (
        decision.explained("// ")
        + f"\nconstexpr int kPositiveClass = {decision.positive};\nconstexpr {kind} kThreshold = {decision.literal};\n"
    )


def _pixel_code(facts: ModelFacts, source: Input) -> tuple[str, str]:
    # The grid of tinynas files needs no table: element = pixel - 128 (int8) or pixel (uint8).
    head = "inline InputElement QuantizePixel(uint32_t pixel) "
    if facts.input_dtype == "float32":
        zero_point, scale = c_float(source.zero_point), c_float(source.scale)
        return f"{head}{{ return (static_cast<float>(pixel) - {zero_point}) * {scale}; }}", ""
    rows = input_table(facts, source)
    stored, plain = {
        "int8": (np.arange(-128, 128), "static_cast<int>(pixel) - 128"),
        "uint8": (np.arange(256), "pixel"),
    }[facts.input_dtype]
    if np.array_equal(rows, stored):
        return f"// Exact: the input grid is the pixels'.\n{head}{{ return static_cast<InputElement>({plain}); }}", ""
    lines = [", ".join(str(v) for v in rows[i : i + 16]) for i in range(0, 256, 16)]
    table = "\n// The input element of every pixel value.\nconst InputElement kPixelTable[256] = {\n"
    table += "\n".join(f"    {line}," for line in lines) + "\n};\n"
    return f"extern const InputElement kPixelTable[256];\n{head}{{ return kPixelTable[pixel]; }}", table
