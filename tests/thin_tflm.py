"""TFLM on an emulated core for tests: trees with the kernels that tinynas's networks need, so that a build takes a minute.

Sources lie beside the test data (``../shared/tflm``, ``../shared/tflm_arduino``); ``TFLM_DIR`` names another newest one. What is built
is kept for the session, or in ``TINYNAS_TARGET_CACHE``; where that holds a whole tree's library already, it is taken.
"""

from __future__ import annotations

import os
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
#: Kernels by their files' stems, with what they share (``_common``).
_KERNELS = {"activations", "add", "conv", "depthwise_conv", "dequantize", "fully_connected", "pad", "pooling", "quantize", "reduce"}
_KERNELS |= {"reshape", "softmax", "kernel_util", "micro_tensor_utils", "decompress"}
#: Folders of CMSIS-NN that none of these calls.
_NO_PART = {"LSTMFunctions", "SVDFunctions", "ConcatenationFunctions", "ReshapeFunctions", "Bindings"}


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
    if "cmsis_nn" in file.parts and "Source" in file.parts:
        return not _NO_PART.intersection(file.parts)
    if "kernels" in file.parts and "micro" in file.parts:
        return file.stem.removesuffix("_common") in _KERNELS
    return True


def emulator_of(scratch: Path, kept: Path, jobs: int | None) -> Emulated:
    """Builds each library once into ``kept`` with ``jobs`` compilers; thin trees are made in ``scratch``."""

    @cache
    def build(name: str, kernels: Kernels = "cmsis-nn") -> Thin:
        if why := missing_tools():
            pytest.skip(why)
        tree, core = Tree.find(tree_folder(name)), CORES["cortex-m4"]
        if not Library.of(tree, core, kernels, kept).file.is_file():
            tree = thin_tree(tree.path, scratch / f"{name}-{kernels}")
        library = build_library(tree, core, kernels, kept, jobs=jobs)
        return Thin(tree, core, kernels, kept, library, build_probe(tree, core, kernels, kept))

    return build
