"""RUNTIMES: what each inference runtime adds to the network's own bytes, and how well that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Literal, assert_never

from tinynas.cost.kernel import Build, aligned
from tinynas.cost.work import Piece, Work
from tinynas.errors import UnrunError, UserError
from tinynas.graph import Kind, Shape

Evidence = Literal["exact", "fitted", "bound"]


CoreKind = Literal["plain", "dsp", "mve", "lx6", "lx7"]
#: What of a core decides how much scratch kernels ask for.
_CORE_KINDS: dict[str, CoreKind] = {
    "cortex-m0plus": "plain",
    "cortex-m3": "plain",
    "cortex-m4": "dsp",
    "cortex-m7": "dsp",
    "cortex-m33": "dsp",
    "cortex-m55": "mve",
    "xtensa-lx6": "lx6",
    "xtensa-lx7": "lx7",
}


def core_kind(core: str | None) -> CoreKind | None:
    """The kind of ``core``; None where it is not known, or no core is named."""
    return _CORE_KINDS.get(core or "")


_ARM: tuple[CoreKind, ...] = ("plain", "dsp", "mve")
_XTENSA: tuple[CoreKind, ...] = ("lx6", "lx7")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of TFLM that is in use, as far as the arena depends on it."""

    name: str
    """As it is pinned: ``tflm-cmsis-nn@arduino``."""
    title: str
    builds: Mapping[CoreKind, tuple[Build, ...]]
    """Its kernels by what a core can do; several where they may be built one way or the other."""
    arduino: bool = False
    """Whether it is the Arduino library's tree."""
    evidence: tuple[Evidence, str] | None = None
    """How well its arena is known, and from what, where that is not what the runtime's evidence says."""


#: What TFLM runs beside 8 bits since spring 2023, reference kernels, CMSIS-NN's and esp-nn's: a dense layer with one scale alone.
_INT4: Mapping[Kind, tuple[int, ...]] = {"conv": (4,), "dw": (4,), "fc": (4,)}

#: What compiled networks read beside 8 bits: the kernels unpack it.
_UNPACKED: Mapping[Kind, tuple[int, ...]] = {"conv": (4, 2), "dw": (4, 2), "fc": (4, 2)}

_NEWEST = "TFLM of October 2026"
_ARDUINO = "TFLM of December 2023, as in the Arduino library Chirale_TensorFLowLite 2.0.0, built without TF_LITE_STATIC_MEMORY"
_ESPRESSIF = "esp-tflite-micro with ESP-IDF 5.5, as measured on an ESP32 in August 2026"
_STACK = (
    "the deepest way through generated code as arm-none-eabi-gcc 12.2 -O2 lays it out, below the call; interrupts excluded; "
    "never exceeded on emulated cores"
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A way to run a network on a microcontroller and how its memory is modelled."""

    name: str
    title: str
    alignment: int
    """Bytes to which planned buffers are rounded up."""
    in_place_depthwise: bool
    """Whether a depthwise convolution writes over its input."""
    work_buffers: bool
    """Whether its generated code holds the buffers of :func:`work_buffers` for the whole inference."""
    pads_inside: bool
    """Whether its convolutions pad by themselves: a PAD of a file before one is no operator of its own."""
    tail: bool
    """Whether there is a persistent tail (TFLM's arena)."""
    on_host: bool
    """Whether tflite-micro's Python wheel runs these kernels, so that a host's arena can be held against the estimate."""
    plans: bool
    """Whether it takes a memory plan from the file, and its own planner is known."""
    flash: Literal["file", "weights", "weights and scales", "constants"]
    """What lies in flash: the .tflite file, or weights and biases (and a scale a channel) in generated code, or all its constants."""
    extra_bytes: int
    """SRAM beside activations that does not depend on the network."""
    patches: bool
    """Whether patch-based inference is supported."""
    code: int | Literal["linked", "compiled"] | None
    """Flash of its own code: bytes that do not depend on the network, those of the table of linked code
    (:mod:`tinynas.cost.code_flash`) or of compiled networks, or None where that is not known."""
    evidence: dict[str, tuple[Evidence, str]]
    """Per figure (sram, flash; code where it is a number; stack where it is promised): how well it is known, and from what."""
    shares: bool = False
    """Whether outputs lie over inputs, and kernels ask for scratch, as :mod:`tinynas.cost.stedgeai` says."""
    versions: tuple[Version, ...] = ()
    """Versions of TFLM in use whose arenas differ; what is promised is enough for each of them. None for other runtimes."""
    builds: tuple[tuple[str, Build], ...] = ()
    """(version, build of TFLM's kernels) that count, see :meth:`on`."""
    over: tuple[str, ...] = ()
    """Kinds of operators that a plan may let write over their first input, where nothing reads it later: their kernels read what they
    need of it, an element or a few neighbours, before they write there."""
    frame: Literal["kept", "rows"] | None = None
    """How compiled code takes its frames: whole, in the work area, or row by row (see tinynas.cost.streamed); None for others."""
    stream: bool = False
    """Whether compiled code takes frames of sound without end and keeps its state (:mod:`tinynas.cost.stepwise`): causal networks alone."""
    core: str | None = None
    """The core that compiled code is for."""
    narrow: Mapping[Kind, tuple[int, ...]] = field(default_factory=dict)
    """Bits of weights that the kernels of all its versions run beside 8, by kind of operator; see :func:`weight_bits_of`."""
    dilated: Literal["any", "height", "unknown"] = "unknown"
    """Which dilated convolutions it runs: all, those along the height (time) alone, or nothing is known of them."""

    @property
    def plain(self) -> str:
        """Its name without a version."""
        return self.name.partition("@")[0]

    def on(self, core: str | None) -> Runtime:
        """It on ``core``; on all cores that it may run on where that is None, or none that any version is built for."""
        known = core_kind(core)
        builds = [(v.name, build) for v in self.versions for kind, each in v.builds.items() if kind == known for build in each]
        everywhere = [(v.name, build) for v in self.versions for build in dict.fromkeys(chain.from_iterable(v.builds.values()))]
        found = tuple(builds or everywhere)
        counted = [v for v in self.versions if v.name in dict(found)]
        sram = counted[0].evidence if len(counted) == 1 else None
        evidence = self.evidence if sram is None else {**self.evidence, "sram": sram}
        return replace(self, builds=found, evidence=evidence, core=core if self.frame else None)


#: What all compiled networks have in common, in the form in which whole frames come.
_COMPILED = Runtime(
    name="compiled",
    title="tinynas's own C, without an interpreter; frames lie in its memory",
    alignment=4,
    in_place_depthwise=False,
    work_buffers=False,
    pads_inside=True,
    tail=False,
    on_host=False,
    plans=False,
    flash="constants",
    code="compiled",
    extra_bytes=0,
    patches=False,
    frame="kept",
    dilated="height",
    narrow=_UNPACKED,
    evidence={
        "sram": ("exact", "the work area that generated code declares, with the frame in it; beside the stack"),
        "flash": ("exact", "weights, biases, multipliers, shifts and tables of generated code; its kernels are code"),
        "stack": ("bound", _STACK),
    },
)

RUNTIMES: dict[str, Runtime] = {
    runtime.name: runtime.on(None)
    for runtime in (
        Runtime(
            name="tflm",
            title="TensorFlow Lite for Microcontrollers, reference kernels",
            alignment=16,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            tail=True,
            on_host=True,
            plans=True,
            dilated="any",
            over=("hard_swish", "mul"),
            flash="file",
            extra_bytes=0,
            patches=False,
            code="linked",
            narrow=_INT4,
            versions=(
                Version("2026-10", _NEWEST, dict.fromkeys(_ARM, ("mcu",))),
                Version("esp32", _ESPRESSIF, dict.fromkeys(_XTENSA, ("esp",))),
            ),
            evidence={
                "sram": (
                    "exact",
                    "equals what TFLM's allocator uses on an emulated Cortex-M4 and, in 64 bit, in tflite-micro, byte for byte, and one "
                    "published measurement on an ESP32",
                ),
                "flash": ("exact", "size of the file that tinynas writes"),
            },
        ),
        Runtime(
            name="tflm-cmsis-nn",
            title="TensorFlow Lite for Microcontrollers, CMSIS-NN kernels",
            alignment=16,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            tail=True,
            on_host=False,
            plans=True,
            dilated="any",
            over=("hard_swish", "mul"),
            flash="file",
            extra_bytes=0,
            patches=False,
            code="linked",
            narrow=_INT4,
            versions=(
                Version("2026-10", _NEWEST, {"plain": ("cmsis-plain",), "dsp": ("cmsis",), "mve": ("cmsis-mve", "cmsis-mve-speed")}),
                Version("arduino", _ARDUINO, {"plain": ("arduino-plain",), "dsp": ("arduino",), "mve": ("arduino-mve",)}, arduino=True),
            ),
            evidence={
                "sram": (
                    "exact",
                    "the most of the versions in use; each equals what TFLM's allocator uses on an emulated Cortex-M4 byte for byte, "
                    "today's also on M7, M33 and M0+; for the M55 it is what the sources ask for",
                ),
                "flash": ("exact", "size of the file that tinynas writes"),
            },
        ),
        Runtime(
            name="tflm-esp-nn",
            title="TensorFlow Lite for Microcontrollers, esp-nn kernels",
            alignment=16,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            tail=True,
            on_host=False,
            plans=True,
            dilated="any",
            over=("hard_swish",),  # a reference kernel; how esp-nn multiplies was not looked at
            flash="file",
            extra_bytes=0,
            patches=False,
            code="linked",
            narrow=_INT4,
            versions=(
                Version(
                    "esp32",
                    f"esp-nn's portable kernels: {_ESPRESSIF}; also what an ESP32-S2 runs",
                    dict.fromkeys(_XTENSA, ("esp-nn",)),
                    evidence=("exact", "equals 4 published measurements on an ESP32 byte for byte"),
                ),
                Version("esp32s3-1.1", "esp-nn's kernels for the ESP32-S3 from 2023 on (1.0 and 1.1)", {"lx7": ("esp-nn-s3-1.1",)}),
                Version("esp32s3-1.2", "the same from early 2026 on (1.2 and 1.3)", {"lx7": ("esp-nn-s3-1.2",)}),
                Version("esp32s3", "the same in autumn 2026 (1.4 and 1.5)", {"lx7": ("esp-nn-s3",)}),
            ),
            evidence={
                "sram": (
                    "bound",
                    "on the ESP32 (esp32) exact: equals 4 published measurements byte for byte; on the ESP32-S3 (esp32s3...) the most that "
                    "esp-nn's sources of 2023 to 2026 ask for, no board was measured; not for the ESP32-P4",
                ),
                "flash": ("exact", "size of the file that tinynas writes"),
            },
        ),
        Runtime(
            name="tinyengine",
            title="TinyEngine (MCUNet)",
            alignment=1,
            in_place_depthwise=True,
            work_buffers=True,
            pads_inside=True,
            tail=False,
            on_host=False,
            plans=False,
            flash="weights and scales",
            extra_bytes=0,
            patches=True,
            code=64_000,
            evidence={
                "sram": ("fitted", "equals 2 published PEAK_MEM figures to the byte and 5 of 5 rows of its README to the kB"),
                "flash": ("fitted", "equals 2 published MODEL_SIZE figures to the byte"),
                "code": ("bound", "about 64 kB by its authors' word, whatever the network; not measured"),
            },
        ),
        Runtime(
            name="stedgeai",
            title="ST Edge AI Core (X-CUBE-AI)",
            alignment=1,
            in_place_depthwise=False,
            work_buffers=False,
            pads_inside=False,
            tail=False,
            on_host=False,
            plans=False,
            flash="weights",
            extra_bytes=0,
            patches=False,
            code=38 * 1024,
            evidence={
                "sram": (
                    "fitted",
                    "activations of 12 published networks (STM32Cube.AI 8.1, ST Edge AI Core 4.0) lie within -16 and +7 %, mean 3.7 %, "
                    "left out too; 9.1 takes up to 38 % more; the runtime's own 0.3 to 30 KiB are a reserve of the budget",
                ),
                "flash": ("exact", "weights and biases; within 0.07 KiB of ST's published figure on 77 of 78 zoo models"),
                "code": ("bound", "the largest library of 4 networks that ST's tool reports; they take 7, 28, 36 and 38 KiB"),
            },
            shares=True,
        ),
        _COMPILED,
        replace(
            _COMPILED,
            name="compiled-rows",
            title="tinynas's own C, without an interpreter; frames come row by row",
            frame="rows",
            evidence={
                **_COMPILED.evidence,
                "sram": ("exact", "the work area that generated code declares, with no frame in it; beside the stack"),
            },
        ),
        replace(
            _COMPILED,
            name="compiled-stream",
            title="tinynas's own C, without an interpreter; frames of sound come without end, one in each step",
            frame="rows",
            stream=True,
            evidence={
                "sram": ("exact", "what generated code declares: the rows and sums that it keeps, and what passes; beside the stack"),
                "flash": _COMPILED.evidence["flash"],
                "stack": ("bound", f"that of compiled-rows: the kernels are the same, the frames of the driver are smaller; {_STACK}"),
            },
        ),
    )
}


def most_scratch(runtime: Runtime, piece: Piece) -> Any:
    """Aligned bytes of all scratch of ``piece`` in the build of ``runtime`` that asks for most; arrays give arrays."""
    most: Any = 0
    given = piece.scratch if piece.needs is None else None
    for _, build in runtime.builds:
        sizes = piece.scratch_of(build) if given is None else given.get(build)
        if sizes:
            total = sum([aligned(size) for size in sizes])
            most = most + (total - most) * (total > most)
    return most


def weight_bits_of(runtime: Runtime, kind: str) -> tuple[int, ...]:
    """Bits that a weight of an operator of ``kind`` may have on ``runtime``, most first: 8 everywhere, fewer where kernels read them."""
    return (8, *runtime.narrow.get(kind, ()))  # type: ignore[call-overload]


def unrun(runtime: Runtime, pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Why ``runtime`` does not run ``pieces``, or nothing is known of them there: the bits of their weights, a reason for each number of
    bits, and kernels whose taps are apart; empty where it runs them."""
    return (*_unrun_bits(runtime, pieces), *_unrun_dilated(runtime, pieces))


def _unrun_dilated(runtime: Runtime, pieces: Iterable[Piece]) -> tuple[str, ...]:
    match runtime.dilated:
        case "any":
            return ()
        case "height":
            found = [piece.name for piece in pieces if piece.dilation[1] != 1]
            return (f"convolutions dilated along the width ({_some(found)})",) if found else ()
        case "unknown":
            found = [piece.name for piece in pieces if piece.dilation != (1, 1)]
            return (f"dilated convolutions ({_some(found)}), of which nothing is known there",) if found else ()
    assert_never(runtime.dilated)


def _some(names: Sequence[str]) -> str:
    """The first of ``names``, and how many more there are."""
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"


def _unrun_bits(runtime: Runtime, pieces: Iterable[Piece]) -> tuple[str, ...]:
    found: dict[int, list[str]] = {}
    for piece in pieces:
        if piece.kind in _WITH_BITS and piece.weight_bits < 8 and piece.weight_bits not in weight_bits_of(runtime, piece.kind):
            found.setdefault(piece.weight_bits, []).append(piece.name)
    return tuple(f"weights of {bits} bits ({_some(names)})" for bits, names in found.items())


#: Kinds of operators whose weights are judged by their bits.
_WITH_BITS = ("conv", "dw", "fc")


def refuse(runtime: Runtime, pieces: Sequence[Piece]) -> None:
    """Raise UnrunError where ``runtime`` does not run ``pieces``: see :func:`unrun`."""
    if reasons := _unrun_bits(runtime, pieces):
        bits = sorted({piece.weight_bits for piece in pieces if piece.weight_bits < 8})
        able = [r.name for r in RUNTIMES.values() if all(set(bits) <= set(weight_bits_of(r, kind)) for kind in _WITH_BITS)]
        remedy = f"use 8 bits, or a runtime that runs {' and '.join(map(str, bits))}: {', '.join(able)}" if able else "use 8 or 4 bits"
        raise UnrunError(f"{runtime.name} does not run {'; '.join(reasons)}", remedy, reasons=unrun(runtime, pieces))
    if reasons := _unrun_dilated(runtime, pieces):
        able = [r.name for r in RUNTIMES.values() if not _unrun_dilated(r, pieces)]
        remedy = f"leave out dilation, or use a runtime that runs it: {', '.join(able)}"
        raise UnrunError(f"{runtime.name} does not run {reasons[0]}", remedy, reasons=unrun(runtime, pieces))


def widest_scratch(runtime: Runtime, piece: Piece) -> tuple[int, ...]:
    """Bytes of each scratch buffer of ``piece`` in the build of ``runtime`` that asks for most."""
    asked = [piece.scratch_of(build) for _, build in runtime.builds]
    return max(asked, key=lambda sizes: sum([aligned(size) for size in sizes]), default=())


def static_bytes(runtime: Runtime, work: Work) -> int:
    """SRAM beside activations that lives for the whole inference.

    TinyEngine's generated code holds one work buffer (the padded int16 plane of a depthwise convolution, or two int16
    columns of a convolution's patches, whichever is largest) and the first convolution's int16 kernel.
    """
    if not runtime.work_buffers:
        return runtime.extra_bytes
    parts = [work_buffers(piece, work.shapes) for piece in work.pieces]
    return runtime.extra_bytes + max(buffer for buffer, _ in parts) + max(kernel for _, kernel in parts)


def work_buffers(piece: Piece, shapes: Sequence[Shape]) -> tuple[int, int]:
    """(work buffer, int16 kernel) bytes that TinyEngine keeps for ``piece``; arrays give arrays."""
    area = piece.kernel[0] * piece.kernel[1]
    if piece.kind == "dw":
        shape = shapes[piece.inputs[0]]
        # Of several images in a batch there is one at a time; a file's operator whose shape is not known is named among the uncounted.
        height, width = shape[-3:-1] if len(shape) >= 3 else (1, 1)
        return 2 * (height + piece.kernel[0] - 1) * (width + piece.kernel[1] - 1), 0
    if piece.kind == "conv":
        return 4 * area * piece.in_channels, 2 * area * piece.in_channels * piece.out_channels * (area == 9) * (piece.in_channels == 3)
    return 0, 0


def flash_bytes(runtime: Runtime, size_bytes: int, weights_bytes: int, channels: int) -> int:
    """Flash of a model: the ``size_bytes`` of its file or of its constants, or what generated code holds of it; arrays give arrays."""
    match runtime.flash:
        case "file":
            return size_bytes
        case "weights":
            return weights_bytes
        case "weights and scales":
            return weights_bytes + 4 * channels
        case "constants":
            return size_bytes
    assert_never(runtime.flash)


def why_no_code(runtime: str) -> str | None:
    """Why the flash of the code of ``runtime`` is not known for any network; None where it is known."""
    if runtime_named(runtime).code is not None:
        return None
    return f"the flash of the code of {runtime} is not known: give reserves.flash.runtime"


def why_no_update(runtime: str) -> str | None:
    """Why nothing can be learned on the board with ``runtime``; None where it can."""
    if runtime_named(runtime).builds:
        return None
    known = ", ".join(name for name, one in RUNTIMES.items() if one.builds)
    return f"the memory plan of {runtime} has no room for what a way back keeps; a runtime of TFLM has: {known}"


def why_no_stack(runtime: str) -> str | None:
    """Why the stack of ``runtime`` is promised for no network; None where it is."""
    if "stack" in runtime_named(runtime).evidence:
        return None
    return f"what {runtime} takes of the stack is not known"


def runtime_names() -> str:
    """The names of RUNTIMES for people: ``a, b or c``."""
    *names, last = RUNTIMES
    return f"{', '.join(names)} or {last}" if names else last


#: What :func:`runtime_named` gave, and the row of RUNTIMES that it came from: it is asked for at every estimate.
_GIVEN: dict[tuple[str, str | None], tuple[Runtime, Runtime]] = {}


def runtime_named(name: str, core: str | None = None) -> Runtime:
    """The runtime called ``name``, which may pin a version (``tflm-cmsis-nn@arduino``), on ``core``.

    Raises UserError with the known names.
    """
    plain, pinned, version = name.partition("@")
    runtime = RUNTIMES.get(plain)
    if runtime is None:
        raise UserError(f"unknown runtime {name!r}", f"known: {', '.join(RUNTIMES)}")
    row, given = _GIVEN.get((name, core), (None, runtime))
    if row is runtime:
        return given
    row = runtime
    if pinned:
        chosen = tuple([v for v in runtime.versions if v.name == version])
        if not chosen:
            known = ", ".join(f"{plain}@{v.name}" for v in runtime.versions)
            raise UserError(f"unknown version {version!r} of {plain}", f"known: {known}" if known else f"{plain} has no versions")
        runtime = replace(runtime, name=name, versions=chosen)
    given = runtime.on(core)
    _GIVEN[name, core] = row, given
    return given


def pinned_names() -> list[str]:
    """Names of all runtimes, and of those that pin a version."""
    return [name for r in RUNTIMES.values() for name in (r.name, *(f"{r.name}@{v.name}" for v in r.versions))]


def runtime_for(core: str) -> str:
    """The runtime that people flash on ``core``: TFLM with the kernels of the maker of the core."""
    return "tflm-esp-nn" if _CORE_KINDS[core] in _XTENSA else "tflm-cmsis-nn"


def runtime_of_tree(kernels: Literal["reference", "cmsis-nn"], *, arduino: bool) -> str:
    """The runtime, with its version, that promises for a tree of TFLM's sources: today's, or the Arduino library's."""
    plain = "tflm" if kernels == "reference" else "tflm-cmsis-nn"
    return f"{plain}@{next(v.name for v in RUNTIMES[plain].versions if v.arduino == arduino)}"
