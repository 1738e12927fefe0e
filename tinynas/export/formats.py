"""FORMATS: what an export can write. A new one is a module here with a ``write_format``, and a line in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tinynas.cost.runtimes import runtime_named
from tinynas.errors import UserError
from tinynas.export.manifests import UNNAMED, PackageOptions
from tinynas.inputs import Input, InputKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tinynas.export.folder import Decision, Thresholds
    from tinynas.quantize.grid import QuantizedGraph

MODEL_FILE = "model_int8.tflite"


@dataclass(frozen=True)
class Made:
    """A finished model, for the formats to write."""

    model: bytes
    """The .tflite."""
    input: Input
    runtime: str
    labels: tuple[str, ...]
    images: NDArray[np.uint8]
    """Upright (N, H, W, C), for self-tests."""
    truth: NDArray[np.int64]
    """Their classes (N,)."""
    input_rotation: int = 0
    core: str | None = None
    """The core that it is made for; None: whichever the runtime runs on."""
    name: str = UNNAMED
    """The network's."""
    package: PackageOptions = field(default_factory=PackageOptions)
    """What manifests say."""
    arena_section: str | None = None
    """Linker section in which a board's arena lies; None: the linker's own."""
    qgraph: QuantizedGraph | None = None
    """What the model was written from, where tinynas quantised it to int8 input and output."""
    decision: Decision | Thresholds | None = None
    """The threshold by which the code around it says yes, or of several labels at once all of them; None: the largest output."""


Write: TypeAlias = Callable[[Made, Path], Path]


@dataclass(frozen=True)
class Format:
    """A way to write a model."""

    title: str
    write: Write
    """Writes into an empty folder and gives the file or folder that it wrote. Everything is inside it: no format needs another's files."""
    kinds: frozenset[InputKind] = frozenset({"rgb", "gray", "features"})
    """Inputs that it can hold."""
    sounds: bool = False
    """Whether it can hold features that a front end makes too."""
    lacks: str = ""
    """What is missing for the others."""
    asked: bool = False
    """Whether it is written only where it is asked for by name."""

    def holds(self, source: Input) -> bool:
        """Whether it can hold a network that reads ``source``."""
        return source.as_map.kind in self.kinds or (self.sounds and source.front_end is not None)


def _of(module: str) -> Write:
    """``write_format`` of a module of this room, loaded when it is called."""

    def write(made: Made, folder: Path) -> Path:
        path: Path = import_module(f"tinynas.export.{module}").write_format(made, folder)
        return path

    return write


#: Name (of ``--format``) -> what writes it.
FORMATS: dict[str, Format] = {
    "tflite": Format("the int8 .tflite", _of("tflite")),
    "c": Format(
        "sources around it: C++ for TFLM, C99 for a compiled runtime",
        _of("firmware"),
        frozenset({"rgb", "gray"}),
        sounds=True,
        lacks="nothing in it makes features",
    ),
    "compiled": Format("the network itself as C, without an interpreter", _of("compiled"), asked=True),
    "stream": Format("a causal network as C that takes a frame of sound at a time", _of("stepwise"), asked=True),
}


def fitting(source: Input, runtime: str | None = None) -> tuple[str, ...]:
    """The formats that can hold a network that reads ``source``, less those that have to be asked for; on a ``runtime`` that streams the
    stream alone too, and no folder where nothing makes its frames."""
    found = tuple(name for name, form in FORMATS.items() if form.holds(source) and not form.asked)
    if runtime is not None and runtime_named(runtime).stream:
        return (*(name for name in found if name != "c" or source.front_end is not None), "stream")
    return found


def check_formats(names: Sequence[str], source: Input | None = None) -> None:
    """Raise UserError for unknown formats, for none, and for those that cannot hold a network that reads ``source``."""
    known = ", ".join(FORMATS)
    if not names:
        raise UserError("--format: names nothing to write", f"known: {known}")
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--format: unknown format {name!r}", f"known: {known}")
        form = FORMATS[name]
        if source is not None and not form.holds(source):
            possible = ",".join(fitting(source))
            raise UserError(
                f"--format {name}: cannot hold a network that reads {source.kind} of {source.height} x {source.width} x {source.channels}: "
                f"{form.lacks}",
                f"use --format {possible}" if possible else None,
            )


def check_compiled(names: Sequence[str], runtime: str, source: Input, *, exporter: str, io: str, rotation: int) -> None:
    """Raise UserError where ``c`` is among the formats, ``runtime`` is compiled code, and what is exported, which reads ``source``, cannot
    be compiled so."""
    frame = runtime_named(runtime).frame
    if "c" in names and runtime_named(runtime).stream and source.front_end is None:
        raise UserError(
            f"--format c: around {runtime} it holds what makes frames of a microphone's sound, and this network has no front end",
            "use --format stream for the network alone, or tflite for the file",
        )
    if "c" not in names or frame is None:
        return
    if exporter != "tinynas" or io != "int8":
        what = f"the exporter {exporter}" if exporter != "tinynas" else f"input and output of type {io}"
        raise UserError(
            f"--format c: {runtime} compiles what tinynas quantised to int8, not a model of {what}",
            "leave --exporter and --io as they are, or write the file alone: --format tflite",
        )
    if rotation and frame == "rows":
        raise UserError(
            f"--format c: {runtime} takes rows of the camera as they come, and this network reads its images upside down",
            "keep the frame (runtime: compiled), or write the file alone: --format tflite",
        )
