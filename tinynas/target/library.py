"""Builds a tree of TensorFlow Lite for Microcontrollers into a static library, once for each core, kernel kind and content.

A tree is a checkout with its downloads, the output of TFLM's create_tflm_tree.py, or the sources of the Arduino library. Objects
are kept in the cache by the digest of their source, of all headers, flags and compiler, so that an interrupted build goes on.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from tinynas.errors import UserError
from tinynas.files import cores as processor_cores
from tinynas.files import disk_error, locked
from tinynas.target.cores import Core

Kernels = Literal["reference", "cmsis-nn"]
KERNELS: tuple[Kernels, ...] = get_args(Kernels)
#: Debian's packages of everything that is needed here.
PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib qemu-system-arm"
COMPILER = "arm-none-eabi-g++"
#: Optimization as in TFLM's own Makefile: the interpreter small, the kernels fast.
_CORE_LEVEL, _KERNEL_LEVEL = "-Os", "-O2"
_COMMON = ("-ffunction-sections", "-fdata-sections", "-fno-exceptions", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-w")
_CXX = ("-std=c++17", "-fno-rtti", "-fno-threadsafe-statics", "-fno-use-cxa-atexit", "-fpermissive")
_FOLDERS = (
    "compiler/mlir/lite/core/api",
    "compiler/mlir/lite/schema",
    "lite/core/api",
    "lite/core/c",
    "lite/c",
    "lite/kernels",
    "lite/kernels/internal",
    "lite/kernels/internal/reference",
    "lite/schema",
    "lite/micro",
    "lite/micro/arena_allocator",
    "lite/micro/compression",
    "lite/micro/memory_planner",
    "lite/micro/tflite_bridge",
    "lite/micro/kernels",
)
_NO_PART = re.compile(
    r"(_test|_test_common|_test_data|test_helpers|test_helper_custom_ops|mock_micro_graph|fake_micro_context|kernel_runner)[a-z0-9_]*\.(cc|cpp)$"
)


#: Core-seconds that a source takes to compile, on average over a tree: 272 sources took two cores of a Xeon 220 s.
_SOURCE_SECONDS = 1.6
#: What the tools say of a full disk.
_NO_SPACE = ("No space left on device", "Disk quota exceeded", "file truncated while writing")
_PORT = Path(__file__).with_name("sources") / "arduino_port.cc"
#: Headers that nearly every source includes: compiled once for each level, a build takes a third of the time.
_SHARED_HEADERS = (
    "tensorflow/lite/schema/schema_generated.h",
    "tensorflow/lite/kernels/internal/types.h",
    "tensorflow/lite/kernels/internal/common.h",
    "tensorflow/lite/kernels/internal/tensor_ctypes.h",
    "tensorflow/lite/kernels/kernel_util.h",
    "tensorflow/lite/micro/micro_context.h",
    "tensorflow/lite/micro/kernels/kernel_util.h",
)


@dataclass(frozen=True)
class Tree:
    """A tree of TFLM's sources."""

    path: Path

    @classmethod
    def find(cls, path: str | Path | None) -> Tree:
        """The tree at ``path``, or at ``$TFLM_DIR``. Raises UserError where there is none."""
        given = path or os.environ.get("TFLM_DIR")
        remedy = (
            "give --tflm a checkout of tensorflow/tflite-micro (after make -f tensorflow/lite/micro/tools/make/Makefile "
            "third_party_downloads), the output of its create_tflm_tree.py, or the src folder of the Arduino library; or set TFLM_DIR"
        )
        if not given:
            raise UserError("the sources of TensorFlow Lite for Microcontrollers are needed, and no tree is given", remedy)
        tree = Path(given).expanduser().resolve()
        if not (tree / "tensorflow/lite/micro/micro_interpreter.h").is_file():
            raise UserError(f"{given}: holds no tensorflow/lite/micro/micro_interpreter.h", remedy)
        return cls(tree)

    @cached_property
    def third_party(self) -> tuple[Path, ...]:
        """Folders in which the libraries that TFLM uses may lie."""
        places = (self.path / "third_party", self.path / "tensorflow/lite/micro/tools/make/downloads")
        return tuple(place for place in places if place.is_dir())

    def _one(self, name: str) -> Path | None:
        return next((place / name for place in self.third_party if (place / name).is_dir()), None)

    @cached_property
    def arduino(self) -> bool:
        """Whether it is an Arduino library's."""
        return any((place / "library.properties").is_file() for place in (self.path, self.path.parent))

    @cached_property
    def defines(self) -> tuple[str, ...]:
        """Flags that define what users' builds of this tree define.

        Arduino's builder passes its own version and no flags of a library: with TF_LITE_STATIC_MEMORY undefined its users have larger
        structures, and an arena that is larger for it.
        """
        always = ("-DTF_LITE_DISABLE_X86_NEON", "-DNDEBUG")
        return ("-DARDUINO=10819", *always) if self.arduino else ("-DTF_LITE_STATIC_MEMORY", *always)

    @cached_property
    def includes(self) -> tuple[str, ...]:
        """Flags that name the folders of headers."""
        folders = [self.path]
        for name in ("flatbuffers/include", "gemmlowp", "ruy", "kissfft", "cmsis_nn", "cmsis_nn/Include", "cmsis/CMSIS/Core/Include"):
            if (folder := self._one(name)) is not None:
                folders.append(folder)
        return tuple(f"-I{folder}" for folder in folders)

    def sources(self, kernels: Kernels) -> tuple[Path, ...]:
        """What is compiled, in order. Raises UserError where the tree lacks the kernels asked for."""
        names: dict[str, Path] = {}
        platform = {"micro_time", "debug_log", "system_setup"} if self.arduino else set()  # they need Arduino's own headers
        for folder in _FOLDERS:
            place = self.path / "tensorflow" / folder
            for file in sorted((*place.glob("*.cc"), *place.glob("*.cpp"))):
                if not _NO_PART.search(file.name) and file.stem not in platform:
                    names[str(file.relative_to(self.path))] = file
        place = self.path / "tensorflow/lite/micro/kernels"
        special = sorted((*(place / "cmsis_nn").glob("*.cc"), *(place / "cmsis_nn").glob("*.cpp")))
        ours = [str((place / file.name).relative_to(self.path)) for file in special]
        extra: list[Path] = []
        if kernels == "cmsis-nn":
            library = self._one("cmsis_nn")
            if not special or library is None:
                raise UserError(f"{self.path}: has no CMSIS-NN kernels", "take a tree with third_party/cmsis_nn, or --kernels reference")
            for name in ours:
                names.pop(name, None)
            # Floating-point functions need types of CMSIS-DSP, and no kernel of TFLM calls them.
            extra = [*special, *sorted(file for file in (library / "Source").rglob("*.c") if not file.stem.endswith(("_f16", "_f32")))]
        elif self.arduino:
            raise UserError(f"{self.path}: has CMSIS-NN's kernels alone", "take --kernels cmsis-nn")
        elif special and (missing := [name for name in ours if name not in names]):
            raise UserError(f"{self.path}: lacks the reference kernel {missing[0]}", "take another tree, or --kernels cmsis-nn")
        return (*names.values(), *extra, *([_PORT] if self.arduino else []))

    @cached_property
    def digest(self) -> str:
        """Digest of every source and header of the tree, by name and content."""
        total = hashlib.sha256()
        for file in sorted(p for p in self.path.rglob("*") if p.suffix in {".cc", ".cpp", ".c", ".h", ".hpp", ".inc"}):
            total.update(f"{file.relative_to(self.path)}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()


def kernel_defines(library: Path) -> tuple[str, ...]:
    """Flags with which what is linked with ``library`` is compiled: they say that kernels for int8 alone are there."""
    return ("-DCMSIS_NN",) if b"arm_convolve_wrapper_s8" in library.read_bytes() else ()


def kernels_named(name: str) -> Kernels:
    """The kind of kernels called ``name``. Raises UserError with the known ones."""
    for kind in KERNELS:
        if kind == name:
            return kind
    raise UserError(f"unknown kernels {name!r}", f"known: {', '.join(KERNELS)}")


def compiler_version() -> str:
    """First line of what the compiler says of itself. Raises UserError with the packages where it is missing."""
    if shutil.which(COMPILER) is None:
        raise UserError(f"{COMPILER} is not installed", f"install it; on Debian and Ubuntu: apt install {PACKAGES}")
    said = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


@dataclass(frozen=True)
class Library:
    """A static library that is built already or to be built: which sources, with which flags, kept where."""

    tree: Tree
    core: Core
    kernels: Kernels
    sources: tuple[Path, ...]
    flags: tuple[str, ...]
    folder: Path
    """Of the cache; named by the digest of all that decides the library's content."""

    @classmethod
    def of(cls, tree: Tree, core: Core, kernels: Kernels, cache: Path) -> Library:
        """What :func:`build_library` builds. Raises UserError where the compiler is missing or the tree lacks the kernels."""
        version = compiler_version()
        flags: tuple[str, ...] = (*core.flags, *_COMMON, *tree.defines, *(("-DCMSIS_NN",) if kernels == "cmsis-nn" else ()))
        sources = tree.sources(kernels)
        key = hashlib.sha256(repr((tree.digest, version, flags, _CXX, _CORE_LEVEL, _KERNEL_LEVEL, kernels)).encode()).hexdigest()[:20]
        return cls(tree, core, kernels, sources, flags, cache / "tflm" / key)

    @property
    def file(self) -> Path:
        """The library; there once it is built."""
        return self.folder / "libtflm.a"

    def object_of(self, source: Path) -> Path:
        """Where the object of ``source`` lies until the library is packed."""
        return self.folder / (hashlib.sha256(str(source).encode()).hexdigest()[:16] + ".o")

    @property
    def left(self) -> list[Path]:
        """Sources that are still to be compiled."""
        return [] if self.file.is_file() else [source for source in self.sources if not self.object_of(source).is_file()]

    def minutes(self, jobs: int) -> float:
        """About how long what is left takes with ``jobs`` compilers at once."""
        return len(self.left) * _SOURCE_SECONDS / jobs / 60


def build_library(
    tree: Tree,
    core: Core,
    kernels: Kernels,
    cache: Path,
    *,
    jobs: int | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Path:
    """The static library of ``tree`` for ``core``, from ``cache`` or built there by ``jobs`` processes (default: one a core).

    ``on_step`` is called with (what, done, of how many). A build that was stopped goes on with what is there; of two processes the
    second waits. Raises UserError where the tool chain is missing or a source does not compile, DiskError where the cache is full or
    cannot be written.
    """
    library = Library.of(tree, core, kernels, cache)
    if library.file.is_file():
        return library.file
    try:
        with locked(library.folder / "build.lock", needed=False):
            if not library.file.is_file():
                _build(library, jobs, on_step)
    except OSError as error:
        raise disk_error(library.folder, error) from None
    return library.file


def _build(library: Library, jobs: int | None, on_step: Callable[[str, int, int], None] | None) -> None:
    folder = library.folder
    done = 0
    flags = (*library.flags, *library.tree.includes)
    headers = _shared_headers(library.tree, folder, flags)

    def compile_one(source: Path) -> Path:
        nonlocal done
        target = library.object_of(source)
        if not target.is_file():
            shared = () if source.suffix == ".c" else ("-include", str(headers[_level(source)]))
            compile_source(source, target, (*flags, *shared))
        done += 1
        if on_step is not None:
            on_step(f"building TFLM for {library.core.name}, {library.kernels}", done, len(library.sources))
        return target

    with ThreadPoolExecutor(jobs or processor_cores()) as pool:
        objects = list(pool.map(compile_one, library.sources))
    temporary = folder / f".{os.getpid()}.a"
    call(["arm-none-eabi-ar", "rcs", str(temporary), *map(str, objects)], "pack the library")
    temporary.replace(library.file)
    for file in (*objects, *folder.glob("*.h"), *folder.glob("*.gch"), *folder.glob(".*.o")):
        file.unlink(missing_ok=True)


def _shared_headers(tree: Tree, folder: Path, flags: Sequence[str]) -> dict[str, Path]:
    """A header for each level of optimization that includes what nearly all sources do, with its precompiled form beside it."""
    there = [name for name in _SHARED_HEADERS if (tree.path / name).is_file()]
    headers = {}
    for level in (_CORE_LEVEL, _KERNEL_LEVEL):
        header = headers[level] = folder / f"shared{level}.h"
        header.write_text("".join(f'#include "{name}"\n' for name in there), encoding="utf-8")
        if not (compiled := header.with_name(f"{header.name}.gch")).is_file():
            _whole(compiled, [COMPILER, level, *_CXX, *flags, "-x", "c++-header", "-c", str(header)], "compile TFLM's headers")
    return headers


def _level(source: Path) -> str:
    return _KERNEL_LEVEL if any(part in {"kernels", "Source"} for part in source.parts) else _CORE_LEVEL


def compile_source(source: Path, target: Path, flags: Sequence[str]) -> None:
    """Compile ``source`` into the object ``target``, whole or not at all. Raises UserError with the compiler's words."""
    compiler, language = (COMPILER.replace("g++", "gcc"), ()) if source.suffix == ".c" else (COMPILER, _CXX)
    _whole(target, [compiler, _level(source), *language, *flags, "-c", str(source)], f"compile {source.name}")


def _whole(target: Path, command: Sequence[str], what: str) -> None:
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        call([*command, "-o", str(temporary)], what)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def call(command: Sequence[str], what: str) -> str:
    """Run a tool and return what it prints. Raises UserError with its last words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed", f"install it; on Debian and Ubuntu: apt install {PACKAGES}") from None
    if done.returncode != 0:
        if any(words in done.stderr for words in _NO_SPACE):
            made = command[command.index("-o") + 1] if "-o" in command else None
            raise disk_error(made, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        lines = done.stderr.splitlines()
        words = [line for line in lines if "error:" in line.lower() or "undefined reference" in line or "overflowed" in line] or lines
        raise UserError(f"cannot {what}: {' | '.join(words[:3])[:600]}", "is the tree complete, and of one version?")
    return done.stdout
