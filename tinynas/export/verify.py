"""Verify: a model file on an emulated core beside what was promised of it: arena, flash, outputs bit for bit, instructions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.cost.runtimes import runtime_of_tree
from tinynas.cost.tflite import ModelFile, parse_model
from tinynas.errors import ModelFileError
from tinynas.export.facts import input_table
from tinynas.export.sandbox import inspect, run_tflm
from tinynas.target.cores import Core
from tinynas.target.flash import link_operators
from tinynas.target.library import Kernels, Tree, build_library, compiler_version
from tinynas.target.probe import Job, build_probe, emulator_version, operators, run_probe, smallest_arena

#: Inputs on which outputs are compared, drawn by seed 0.
COMPARED = 4


@dataclass(frozen=True)
class Verified:
    """What the emulated core did with a model, beside what was promised."""

    name: str
    target: str
    kernels: str
    tree: str
    compiler: str
    emulator: str
    promised_arena_bytes: int
    used_arena_bytes: int | None
    """Bytes in use once it is set up; None where TFLM refused it."""
    needed_arena_bytes: int | None
    """The smallest arena, in steps of 16, with which it starts."""
    equal_outputs: int
    compared_outputs: int
    """Outputs of inputs that were compared with tflite-micro on this computer; 0 where it cannot be."""
    not_compared: str
    """Why no outputs were compared; empty where they were."""
    model_bytes: int
    code_bytes: int
    """Linked code and constants of the interpreter, the kernels of the model's operators and the C library, without the model."""
    instructions: tuple[tuple[str, int], ...]
    """(operator, executed instructions) of one inference."""
    refused: str
    """Why it does not run there; empty where it does."""

    @property
    def good(self) -> bool:
        """Whether it runs, in the arena that was promised, with equal outputs."""
        needed = self.needed_arena_bytes
        return (
            not self.refused
            and needed is not None
            and needed <= _rounded(self.promised_arena_bytes)
            and self.equal_outputs == self.compared_outputs
        )

    def to_json(self) -> dict[str, Any]:
        """The document of ``tinynas verify --json``."""
        document = asdict(self)
        document["instructions"] = [{"op": name, "instructions": count} for name, count in self.instructions]
        return {**document, "good": self.good}


def _rounded(size: int) -> int:
    return -(-size // 16) * 16  # an arena begins and ends on 16 bytes, as the firmware folder sets it aside


def verify_model(
    model: bytes,
    name: str,
    core: Core,
    tree: Tree,
    kernels: Kernels,
    cache: Path,
    *,
    jobs: int | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Verified:
    """Run ``model`` on ``core`` with the kernels of ``tree``, built into ``cache`` the first time.

    Raises UserError where the tool chain, the emulator or the tree is wanting, ModelFileError for a broken file.
    """
    file = parse_model(model, name)
    promised = file.estimate(runtime_of_tree(kernels, arduino=tree.arduino), core=core.name)
    elf = build_probe(tree, core, kernels, cache, jobs=jobs, on_step=on_step)
    library = build_library(tree, core, kernels, cache)
    inputs, wanted, why = _reference(model)
    variables = len(promised.work.resources)
    (ran,) = run_probe(elf, core, [Job(model, inputs, variables, count=True)], seconds=300)
    refused = " ".join([f"{ran.refused}:", *ran.log[:2]]) if ran.refused else ""
    needed = None if ran.arena_bytes is None or refused else smallest_arena(elf, core, model, ran.arena_bytes, variables=variables)
    equal = sum(got == (want,) for got, want in zip(ran.outputs, wanted, strict=False))
    return Verified(
        name=name,
        target=core.name,
        kernels=kernels,
        tree=str(tree.path),
        compiler=compiler_version(),
        emulator=emulator_version(),
        promised_arena_bytes=promised.sram_bytes,
        used_arena_bytes=ran.arena_bytes,
        needed_arena_bytes=needed,
        equal_outputs=equal,
        compared_outputs=0 if refused else len(wanted),
        not_compared=why,
        model_bytes=len(model),
        code_bytes=link_operators(tree, core, library, resolver_methods(file, tree, library)).flash_bytes,
        instructions=ran.instructions,
        refused=refused,
    )


def resolver_methods(file: ModelFile, tree: Tree, library: Path) -> list[str]:
    """The resolver's methods for the operators of ``file``. Raises ModelFileError where the tree has none for one."""
    known = {method.removeprefix("Add").lower(): method for method in operators(tree, library)}
    kinds = sorted({op.kind for op in file.ops})
    missing = [kind for kind in kinds if kind.replace("_", "").lower() not in known]
    if missing:
        raise ModelFileError(f"{file.name}: TFLM in {tree.path} has no {', '.join(missing)}", "take a newer tree, or another model")
    return [known[kind.replace("_", "").lower()] for kind in kinds]


def _reference(model: bytes) -> tuple[tuple[bytes, ...], list[bytes], str]:
    """Inputs, the outputs of tflite-micro on this computer, and why there are none."""
    try:
        inspected = inspect(model)
        images = np.random.default_rng(0).integers(0, 256, (COMPARED, *inspected.facts.input_shape), dtype=np.uint8)
        table = input_table(inspected.facts)
        measured = run_tflm(inspected, images, table=table)
    except ModelFileError as error:
        return (), [], error.message
    return tuple(table[image].tobytes() for image in images), [row.tobytes() for row in measured.outputs], ""
