"""TFLM on an emulated core for tests: trees with the kernels that tinynas's networks need, so that a build takes a minute.

Sources lie beside the test data (``../shared/tflm``, ``../shared/tflm_arduino``); ``TFLM_DIR`` names another newest one. What is built
is kept for the session, or in ``TINYNAS_TARGET_CACHE``; where that holds a whole tree's library already, it is taken.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tinynas.target.cores import CORES, Core
from tinynas.target.emulator import EMULATOR
from tinynas.target.library import COMPILER, PACKAGES, Kernels, Library, Tree, build_library
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
"""``(tree, kernels)`` -> what was built of it: a name of :data:`TREES`, and ``cmsis-nn`` (default) or ``reference``."""


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
    """Links at ``target`` to the files of ``source`` that :data:`_KERNELS` need."""
    for file in source.rglob("*"):
        if file.is_file() and _wanted(file.relative_to(source)):
            link = target / file.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return Tree.find(target)


def _wanted(file: Path) -> bool:
    if file.suffix not in {".cc", ".cpp", ".c"}:
        return True
    if file.suffix == ".c":
        return _CMSIS.match(file.stem) is not None
    return file.stem in _INTERPRETER.split() or ("kernels" in file.parts and file.stem.removesuffix("_common") in _KERNELS)


def emulator_of(scratch: Path, kept: Path) -> Emulated:
    """Builds each library once into ``kept``; thin trees are made in ``scratch``."""

    @cache
    def build(name: str, kernels: Kernels) -> Thin:
        if why := missing_tools():
            pytest.skip(why)
        tree, core = Tree.find(tree_folder(name)), CORES["cortex-m4"]
        if not Library.of(tree, core, kernels, kept).file.is_file():
            tree = thin_tree(tree.path, scratch / f"{name}-{kernels}")
        library = build_library(tree, core, kernels, kept)
        return Thin(tree, core, kernels, kept, library, build_probe(tree, core, kernels, kept))

    return lambda name, kernels="cmsis-nn": build(name, kernels)  # the default and the word are one
