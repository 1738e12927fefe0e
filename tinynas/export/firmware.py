"""The firmware folder ``c/``: a finished .tflite with the code around it, ready for a microcontroller.

Everything is made from the model file itself, its labels and two images: the operators, shapes and scales are
read from the flatbuffer, the expected output bytes of the self-test come from TFLM's own kernels. The same
input gives the same bytes, on every machine: no date, no path, no compression that depends on a library.

The templates lie in ``templates/firmware``; ``@word@`` in them is replaced, nothing else is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas import __version__
from tinynas.cost.runtimes import runtime_named
from tinynas.cost.tflite import parse_model
from tinynas.errors import InternalError, ModelFileError, UserError, counted
from tinynas.export.facts import ModelFacts, input_table, read_facts
from tinynas.export.formats import MODEL_FILE, Made, check_formats
from tinynas.export.manifests import UNNAMED, PackageOptions, arduino_zip, manifest_words, plain
from tinynas.export.rotate import rotate_images
from tinynas.export.sandbox import measure_arena, run_tflm
from tinynas.files import write_atomic
from tinynas.inputs import Input
from tinynas.target.cores import CORES
from tinynas.target.emulator import emulator_command
from tinynas.target.probe import linker_script, startup_code
from tinynas.target.registrations import added, int8_functions, int8_includes

#: Bytes added to the arena: TFLM's persistent structures grow by a few dozen to a few hundred bytes now and then
#: between versions, and an arena that a linker places unaligned loses up to 15.
ARENA_MARGIN = 512
SELF_TEST_IMAGES = 2
#: How the last line of the self-test ends, behind the namespace: on every board, in its log and for those who wait for it.
SELF_TEST_PASS = "self-test: PASS"
SELF_TEST_FAIL = "self-test: FAIL"

# What Zephyr, the interpreter and a C++ library want beside the arena and the model, roughly: twister passes smaller boards over.
_ZEPHYR_RAM_KIB, _ZEPHYR_FLASH_KIB = 32, 256

#: The core of the folder's ``qemu/``.
_EMULATED = CORES["cortex-m4"]

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


def _section(guard: str, section: str | None) -> str:
    """What the settings say of the arena's linker section; a host has no such memory."""
    if section is None:
        return "// None is set: it lies where other variables do."
    condition = f"#if UINTPTR_MAX <= 0xFFFFFFFFu && !defined({guard}_ARENA_SECTION)"
    return f'{condition}\n#define {guard}_ARENA_SECTION "{section}"\n#endif'


def _aligned(size: int) -> int:
    return (size + 15) // 16 * 16


def build_firmware(
    model: bytes,
    *,
    labels: Sequence[str] | None = None,
    images: npt.NDArray[np.uint8],
    arena: ArenaFigures,
    expected: npt.NDArray[Any] | None = None,
    name: str = UNNAMED,
    rotation: int | None = None,
    source: Input | None = None,
    package: PackageOptions | None = None,
) -> dict[str, bytes]:
    """Relative path -> content of every file of the folder.

    ``labels`` where None are those of the file's metadata.
    ``images`` are two upright uint8 (2, H, W, C) images of the input's size for the self-test; ``expected`` their
    outputs (2, classes) in the file's type, by TFLM's kernels (computed here where None). ``rotation`` (0 or 180) and ``source``
    override what the file says of its input. ``name`` becomes the C++ namespace and the library's name, unless ``package`` names it
    otherwise; ``package`` is what the manifests say.
    Raises ModelFileError for a file the firmware cannot hold and UserError for labels or images that do not fit it.
    """
    facts = read_facts(model)
    rotation = facts.input_rotation if rotation is None else rotation
    labels = facts.labels if labels is None else labels
    source = facts.input if source is None else source
    _check_inputs(facts, source, labels, images, rotation)
    if expected is None:
        shown = np.asarray(rotate_images(images) if rotation else images, dtype=np.uint8)
        expected = run_tflm(model, shown, table=input_table(facts, source)).outputs
    if expected.shape != (len(images), facts.classes) or expected.dtype != np.dtype(facts.output_dtype):
        raise InternalError(f"expected outputs are {expected.dtype} {expected.shape}, the model gives {facts.output_dtype}")
    words = _words(model, facts, source, labels, images, expected, arena, name, rotation, package or PackageOptions())
    files = {path: _fill(path, text, words) for path, text in (_templates() | _emulated_board()).items()}
    arduino = {path.removeprefix("arduino/"): files.pop(path) for path in list(files) if path.startswith("arduino/")}
    library = words["arduino_name"]
    files[f"{library}.h"] = arduino.pop("library.h")
    files[f"{library}.zip"] = arduino_zip(library, files, arduino)
    return dict(sorted(files.items()))


def write_firmware(
    folder: Path,
    model: bytes,
    *,
    labels: Sequence[str] | None = None,
    images: npt.NDArray[np.uint8],
    arena: ArenaFigures | None = None,
    expected: npt.NDArray[Any] | None = None,
    name: str = UNNAMED,
    rotation: int | None = None,
    source: Input | None = None,
    package: PackageOptions | None = None,
) -> list[Path]:
    """Write the folder (see :func:`build_firmware`) and return its files. ``arena`` is measured where None.

    Each file is replaced atomically; files of an earlier export that no longer belong are left alone.
    """
    if arena is None:
        arena = measured_arena(model)
    files = build_firmware(
        model, labels=labels, images=images, arena=arena, expected=expected, name=name, rotation=rotation, source=source, package=package
    )
    for path, content in files.items():
        write_atomic(folder / path, content)
    return [folder / path for path in files]


def write_format(made: Made, folder: Path) -> Path:
    """The format ``c``: the firmware folder, with two of the images for its self-test and the arena of the runtime."""
    arena = replace(measured_arena(made.model, made.runtime, made.core), section=made.arena_section)
    images = pick_images(made.images, made.truth)
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
    )
    return folder / "c"


def pick_images(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Two images (2, H, W, C) for the self-test out of (N, H, W, C): the first one, and the first of another class.

    Where there is one image, or one class, what is missing is made by mirroring the first image.
    """
    if len(images) == 0:
        raise UserError("there are no images for the self-test", "give data with at least one image")
    others = np.flatnonzero(labels != labels[0])
    second = images[others[0]] if len(others) else np.flip(images[0], 1)
    return np.ascontiguousarray(np.stack([images[0], second]))


def measured_arena(model: bytes, runtime: str | None = None, core: str | None = None) -> ArenaFigures:
    """Arena figures of ``model``, made for ``runtime`` on ``core``: measured by TFLM on this machine, and by the cost model for 32-bit
    targets."""
    head, tail = measure_arena(model)
    try:
        parsed = parse_model(model)
        chosen = [] if runtime is None or not runtime_named(runtime).tail else [(runtime, core)]
        costs = [parsed.estimate(name, core=on) for name, on in [("tflm", None), ("tflm-cmsis-nn", None), *chosen]]
    except ModelFileError:  # an operator that the cost model does not know
        return ArenaFigures(head, tail, runtime=runtime)
    # A figure that is only known to be at least so much is no size to reserve.
    mcu, cmsis, *own = (None if cost.unknown else cost.sram_bytes for cost in costs)
    return ArenaFigures(head, tail, mcu, cmsis, runtime, own[0] if own else None)


def _check_inputs(facts: ModelFacts, source: Input, labels: Sequence[str], images: npt.NDArray[np.uint8], rotation: int) -> None:
    check_formats(["c"], source)
    unknown = sorted(set(facts.operators) - set(RESOLVER_METHODS))
    if unknown:
        raise ModelFileError(f"the firmware folder has no resolver call for {', '.join(unknown)}", "export the model with tinynas")
    if facts.layout != "nhwc":
        raise ModelFileError(
            f"the model's input is {facts.layout}; the firmware folder writes pixels as nhwc", "export the model with tinynas"
        )
    if len(labels) != facts.classes:
        raise UserError(f"{len(labels)} labels for a model of {facts.classes} classes", "give one label for each output")
    if images.dtype != np.uint8 or images.shape != (SELF_TEST_IMAGES, *facts.input_shape):
        height, width, channels = facts.input_shape
        raise UserError(
            f"the self-test images are {images.dtype} {images.shape}",
            f"give {SELF_TEST_IMAGES} uint8 images of {height} x {width} x {channels}, upright",
        )
    if rotation not in (0, 180):
        raise UserError(f"an input rotation of {rotation} degrees is not possible", "it is 0, or 180 for imported weights")


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
) -> dict[str, str]:
    height, width, channels = facts.input_shape
    kinds = tuple(dict.fromkeys(facts.operators))
    endings = parse_model(model).endings
    methods = [RESOLVER_METHODS[kind] + endings[kind] for kind in kinds]
    sha256 = hashlib.sha256(model).hexdigest()
    what = f"image classifier, {height}x{width}x{channels}, {counted(facts.classes, 'class', 'classes')}"
    manifest = manifest_words(package.name or name, package, sha256, what)
    function, table = _pixel_code(facts, source)
    banner = f"Generated by tinynas {__version__}; licensed under Apache-2.0 apart from the model. Do not edit: export again."
    return {
        "banner": banner,
        "hash_banner": banner,
        "star_banner": banner,
        "version": __version__,
        **manifest,
        "self_test_pass": f"{manifest['ns']} {SELF_TEST_PASS}",
        "self_test_fail": f"{manifest['ns']} {SELF_TEST_FAIL}",
        "model_bytes": str(len(model)),
        "model_bytes_words": f"{len(model):,} B",
        "model_file": MODEL_FILE,
        "model_sha256": sha256,
        "model_array": _bytes_array(model),
        "input_height": str(height),
        "input_width": str(width),
        "input_channels": str(channels),
        "input_channels_note": "red, green, blue" if channels == 3 else "gray",
        "input_dtype": facts.input_dtype,
        "input_type": _C_TYPES[facts.input_dtype][0],
        "input_tflite_type": _C_TYPES[facts.input_dtype][1],
        "input_scale": _float(facts.input_scale),
        "input_zero_point": str(facts.input_zero_point),
        "input_formula": source.formula,
        "rotation": str(rotation),
        "rotation_words": ", turned by 180 degrees (`QuantizeFrame` does it)" if rotation else "",
        "pixel_function": function,
        "pixel_table": table,
        "classes": str(facts.classes),
        "output_dtype": facts.output_dtype,
        "output_type": _C_TYPES[facts.output_dtype][0],
        "output_tflite_type": _C_TYPES[facts.output_dtype][1],
        "output_scale": _float(facts.output_scale),
        "output_zero_point": str(facts.output_zero_point),
        "labels": "\n".join(f"    {_c_string(label)}," for label in labels),
        "labels_words": ", ".join(plain(label) for label in labels[:10]) + (", ..." if len(labels) > 10 else ""),
        "arena_host": str(arena.host_arena),
        "arena_mcu": str(arena.mcu_arena),
        "arena_note": "\n".join(f"// {line}" for line in arena.explained()),
        "arena_section": _section(manifest["GUARD"], arena.section),
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
        "int8_functions": int8_functions(methods, manifest["GUARD"]),
        "emulated_flags": " ".join(_EMULATED.flags),
        "emulator": ";".join(emulator_command(_EMULATED)),
        "self_test_images": str(len(images)),
        "self_test_bytes": str(images.size + expected.nbytes),
        "self_test_format": "PixelFormat::kRgb888" if channels == 3 else "PixelFormat::kGray8",
        "self_test_tolerance": "0.0001f" if facts.output_dtype == "float32" else "0",
        "self_test_kernels": "TFLM's reference kernels (tflite-micro, Python wheel)",
        "self_test_pixels": "\n".join(f"    {{\n{_bytes_array(image.tobytes())}\n    }}," for image in images),
        "self_test_outputs": "\n".join("    {" + ", ".join(_number(v) for v in row) + "}," for row in expected),
    }


def _pixel_code(facts: ModelFacts, source: Input) -> tuple[str, str]:
    # The grid of tinynas files needs no table: element = pixel - 128 (int8) or pixel (uint8).
    head = "inline InputElement QuantizePixel(uint32_t pixel) "
    if facts.input_dtype == "float32":
        zero_point, scale = _float(source.zero_point), _float(source.scale)
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


def _bytes_array(data: bytes) -> str:
    hexed = [f"0x{value:02x}," for value in range(256)]
    return "\n".join("    " + "".join(hexed[b] for b in data[i : i + 20]) for i in range(0, len(data), 20))


def _float(value: float) -> str:
    return np.format_float_scientific(np.float32(value), unique=True, trim="0") + "f"


def _number(value: Any) -> str:
    return _float(float(value)) if isinstance(value, np.floating) else str(int(value))


def _c_string(text: str) -> str:
    # Octal escapes end after three digits, hexadecimal ones do not end; "?" could start a trigraph.
    escaped = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{escaped}"'


# files ---------------------------------------------------------------------------------------------------


def _templates() -> dict[str, str]:
    root = resources.files("tinynas.export") / "templates" / "firmware"
    return dict(sorted(_walk(root, "")))


def _emulated_board() -> dict[str, str]:
    # Start-up code and memory map are those that tinynas itself runs programs with on the emulated core.
    startup, script = startup_code(), linker_script(_EMULATED)
    return {"qemu/startup.cc": f"// @banner@\n{startup}", "qemu/mps2_an386.ld": f"/* @star_banner@ */\n{script}"}


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{path}/")
        else:
            found.append((path, entry.read_text(encoding="utf-8")))
    return found


_WORD = re.compile(r"@([A-Za-z_0-9]+)@")


def _fill(path: str, text: str, words: Mapping[str, str]) -> bytes:
    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise InternalError(f"the template {path} asks for {match[1]!r}")
        return words[match[1]]

    return _WORD.sub(word, text).encode()
