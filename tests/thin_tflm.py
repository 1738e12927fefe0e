"""TFLM on an emulated core for tests: trees with the kernels that tinynas's networks need, of which few compilers make a library.

TFLM's headers take a compiler longer than its sources, so that all sources of a level of optimization are one for it, and the header of
the schema is left out but for what reads files: a library takes ten seconds of one core, where :func:`build_library` takes three
minutes. Programs come out up to 3 % larger, as compilers inline more of what they see; ``apart`` asks for the library as users build it.

Sources lie beside the test data (``../shared/tflm``, ``../shared/tflm_arduino``); ``TFLM_DIR`` names another newest one. What is built
is kept for the session, or in ``TINYNAS_TARGET_CACHE``.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tinynas.files import locked
from tinynas.target import library as target_library
from tinynas.target.cores import CORES, Core
from tinynas.target.emulator import EMULATOR
from tinynas.target.library import COMPILER, PACKAGES, Kernels, Library, Tree, build_library, call, compile_source
from tinynas.target.probe import build_probe

#: Name -> folder beside the test data.
TREES = {"newest": "tflm", "arduino": "tflm_arduino"}
#: What a linker keeps of a whole tree for the networks of the target tests: the interpreter by its files' stems.
_INTERPRETER = (
    "common debug_log error_reporter flatbuffer_conversions flatbuffer_conversions_bridge flatbuffer_utils "
    "greedy_memory_planner kernel_util linear_memory_planner memory_helpers micro_allocation_info micro_allocator "
    "micro_context micro_error_reporter micro_graph micro_interpreter micro_interpreter_context micro_interpreter_graph "
    "micro_log micro_op_resolver micro_resource_variable micro_string micro_time micro_utils "
    "non_persistent_arena_buffer_allocator op_resolver op_resolver_bridge persistent_arena_buffer_allocator "
    "portable_tensor_utils quantization_util schema_utils single_arena_buffer_allocator system_setup tensor_ctypes"
)
#: Kernels of TFLM by their files' stems, with what they share (``_common``); of CMSIS-NN by how their files' names begin.
_KERNELS = {"add", "conv", "depthwise_conv", "fully_connected", "reduce"}
_CMSIS = re.compile(
    r"arm_(convolve|depthwise_conv|fully_connected|elementwise_add|nn_mat_mult|nn_mat_mul_kernel|nn_vec_mat_mult_t|q7_to_q15|"
    r"s8_to_s16_unordered|vector_sum)_"
)
#: The header of .tflite files, generated: two thirds of it serve programs that write such files, and most of the compiler's time.
_SCHEMA = "schema_generated.h"
_WRITES = re.compile(
    r"struct (?!OperatorCodeT )\w+(?:T : public |Union \{|Builder \{)|bool operator[!=]=|inline std::unique_ptr<|"
    r"inline .*(?:::UnPack\(|::UnPackTo\(|::Pack\(|\bCreate\w+\(|\w+Union::|\w+T::\w+T\(|\w+T::operator=)"
)
#: What a kernel calls its own at the beginning of a line: a structure, a function.
_OWN_NAME = r"^(?:(?:struct|class) |(?:static |inline )*(?:void\*|void|TfLiteStatus) )(\w+)(?= \{|\()"


@dataclass(frozen=True)
class Thin:
    """A library for the emulated Cortex-M4, of a thin tree."""

    tree: Tree
    core: Core
    kernels: Kernels
    kept: Path
    """The cache that holds what was built."""
    library: Path
    probe: Path


Emulated = Callable[..., Thin]
"""``(tree, kernels)`` -> what was built of it: a name of :data:`TREES`, and ``cmsis-nn`` (default) or ``reference``; with ``apart=True``
source by source."""


def missing_tools() -> str:
    """Why nothing can be built or run; empty where it can."""
    lacking = [tool for tool in (COMPILER, EMULATOR) if shutil.which(tool) is None]
    return f"{' and '.join(lacking)} not installed: apt install {PACKAGES}" if lacking else ""


def tree_folder(name: str) -> Path:
    """Where the tree called ``name`` lies; skips the test where it does not."""
    data = os.environ.get("TINYNAS_TEST_DATA")
    shared = Path(data).parent if data else Path(__file__).parent.parent.parent / "shared"
    folder = shared / TREES[name]
    if name == "newest" and (given := os.environ.get("TFLM_DIR")):
        folder = Path(given)
    if not folder.is_dir():
        pytest.skip(f"no sources of TFLM at {folder}" + (": set TFLM_DIR" if name == "newest" else ""))
    return folder


def thin_tree(source: Path, target: Path) -> Tree:
    """Links at ``target`` to the files of ``source`` that :data:`_KERNELS` need; of the schema, only what reads files."""
    for file in source.rglob("*"):
        if file.is_file() and _wanted(file.relative_to(source)):
            link = target / file.relative_to(source)
            if link.exists():  # of the same tree, built in another way
                continue
            link.parent.mkdir(parents=True, exist_ok=True)
            if file.name == _SCHEMA:
                link.write_text(_reading_part(file.read_text(encoding="utf-8")), encoding="utf-8")
            else:
                link.symlink_to(file)
    return Tree.find(target)


def _reading_part(schema: str) -> str:
    """The generated header ``schema`` without the definitions of what writes files; they end in a line of a brace alone."""
    kept: list[str] = []
    inside = False
    for line in schema.splitlines():
        inside = inside or (_WRITES.match(line) is not None and not line.endswith(";"))
        if not inside:
            kept.append(line)
        inside = inside and line not in {"}", "};"}
    return "\n".join(kept) + "\n"


def _wanted(file: Path) -> bool:
    if file.suffix not in {".cc", ".cpp", ".c"}:
        return True
    if file.suffix == ".c":
        return _CMSIS.match(file.stem) is not None
    return file.stem in _INTERPRETER.split() or ("kernels" in file.parts and file.stem.removesuffix("_common") in _KERNELS)


def build_whole(library: Library) -> None:
    """Build ``library`` by one compiler for each level of optimization and language."""
    library.folder.mkdir(parents=True, exist_ok=True)
    with locked(library.folder / "build.lock", needed=True), tempfile.TemporaryDirectory() as scratch:
        if library.file.is_file():
            return
        groups: dict[tuple[str, str], list[Path]] = {}
        for source in library.sources:
            groups.setdefault((target_library._level(source), ".c" if source.suffix == ".c" else ".cc"), []).append(source)
        objects = []
        for (level, suffix), sources in groups.items():
            folder = Path(scratch) / ("kernels" if level == target_library._KERNEL_LEVEL else "core")
            folder.mkdir(exist_ok=True)
            (folder / f"all{suffix}").write_text(_one_source(sources), encoding="utf-8")
            objects.append(folder / f"all{suffix}.o")
            compile_source(folder / f"all{suffix}", objects[-1], (*library.flags, *library.tree.includes))
        made = Path(scratch) / "libtflm.a"
        call(["arm-none-eabi-ar", "rcs", str(made), *map(str, objects)], "pack the library")
        shutil.copy(made, library.file.with_suffix(".part"))
        library.file.with_suffix(".part").replace(library.file)


def _one_source(sources: Sequence[Path]) -> str:
    """A source that is all of ``sources``. Names that several kernels have, each for itself, become names of their own."""
    texts = {source: source.read_text(encoding="utf-8") for source in sources}
    kernels = [source for source in sources if source.stem in _KERNELS and source.suffix != ".c"]
    own = {kernel: set(re.findall(_OWN_NAME, texts[kernel], re.MULTILINE)) for kernel in kernels}
    shared = {name for name, count in Counter(name for names in own.values() for name in names).items() if count > 1}
    headers = dict.fromkeys(name for text in texts.values() for name in re.findall(r'^#include "(tensorflow/[^"]+)"', text, re.MULTILINE))
    lines = [f'#include "{header}"' for header in headers] if kernels else []  # before a name in them is another
    for source in sources:
        renamed = sorted(own.get(source, set()) & shared)
        lines += [f"#define {name} {name}_of_{source.stem}" for name in renamed]
        lines += [f'#include "{source}"', *(f"#undef {name}" for name in renamed)]
    return "\n".join(lines) + "\n"


def emulator_of(scratch: Path, kept: Path) -> Emulated:
    """Builds each library once into ``kept``; thin trees are made in ``scratch``."""

    @cache
    def build(name: str, kernels: Kernels, apart: bool) -> Thin:
        if why := missing_tools():
            pytest.skip(why)
        # Thin also where ``kept`` holds the whole tree's library: with all of the schema, each test's folder takes four times as long.
        tree, core, place = thin_tree(Tree.find(tree_folder(name)).path, scratch / f"{name}-{kernels}"), CORES["cortex-m4"], kept
        if apart:
            place = kept / "apart"
        else:
            build_whole(Library.of(tree, core, kernels, kept))
        library = build_library(tree, core, kernels, place)  # is there already, unless it is built apart
        return Thin(tree, core, kernels, place, library, build_probe(tree, core, kernels, place))

    return lambda name, kernels="cmsis-nn", *, apart=False: build(name, kernels, apart)  # the default and the word are one
