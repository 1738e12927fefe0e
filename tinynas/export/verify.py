"""Verify: a model and its firmware folder on an emulated core beside what was promised: arena, flash, outputs bit for bit, instructions."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tinynas.cost.runtimes import runtime_of_tree
from tinynas.cost.tflite import ModelFile, parse_model
from tinynas.errors import DiskError, ModelFileError, UserError, counted
from tinynas.export.emulated import SelfTested, folder_digest, folder_model, self_test
from tinynas.export.facts import input_table, read_facts
from tinynas.export.firmware import measured_arena, write_firmware
from tinynas.export.sandbox import inspect, run_tflm
from tinynas.files import cores
from tinynas.target.cores import Core
from tinynas.target.emulator import emulator_version
from tinynas.target.flash import link_operators
from tinynas.target.library import Kernels, Library, Tree, build_library, compiler_version
from tinynas.target.probe import Job, build_probe, operators, run_probe, smallest_arena

#: Inputs on which outputs are compared, drawn by seed 0.
COMPARED = 4
#: Share that the linked program may be larger than was promised before it is said: compilers differ by so much.
FLASH_SLACK = 0.01


class Finding(ABC):
    """What an emulated core did with something, beside what was promised of it."""

    target: str
    equal_outputs: int
    compared_outputs: int
    """Outputs of inputs that were compared with tflite-micro on this computer; 0 where it cannot be."""
    instructions: tuple[tuple[str, int], ...]
    """(operator, executed instructions) of one inference."""
    refused: str
    """Why it does not run there; empty where it does."""
    firmware: SelfTested | None
    """What the firmware folder did there; None where there is none."""

    @abstractmethod
    def memory_problems(self) -> list[str]:
        """Bytes of memory that were promised and do not suffice."""

    @abstractmethod
    def linked(self) -> list[tuple[str, int | None, int | None, str]]:
        """(what, promised, linked, what may explain more) bytes of flash; None where not known."""

    @property
    def notes(self) -> list[str]:
        """What is off and breaks nothing: flash that was linked and is over :data:`FLASH_SLACK` more than was promised."""
        return [
            f"{size:,} B of {what} are linked, {100 * (size / promised - 1):.1f} % more than the {promised:,} B promised{why}"
            for what, promised, size, why in self.linked()
            if promised is not None and size is not None and size > promised * (1 + FLASH_SLACK)
        ]

    @property
    def problems(self) -> list[str]:
        """What was promised and does not hold; empty where all does."""
        if self.refused:
            return [f"does not run on the emulated {self.target}: {self.refused}"]
        found = self.memory_problems()
        if self.equal_outputs != self.compared_outputs:
            differ = self.compared_outputs - self.equal_outputs
            found.append(f"{differ} of {counted(self.compared_outputs, 'output')} differ from tflite-micro's on this computer")
        if self.firmware is not None and self.firmware.failed:
            found.append(f"the firmware's self-test fails: {self.firmware.failed}")
        return found

    @property
    def good(self) -> bool:
        """Whether it runs, in the memory that was promised, with equal outputs, and its firmware passes its self-test."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The document of ``tinynas verify --json``, and ``verified`` of an export's report."""
        document = asdict(cast("Any", self))  # each finding is a dataclass
        document["instructions"] = [{"op": name, "instructions": count} for name, count in self.instructions]
        return {**document, "notes": self.notes, "problems": self.problems, "good": self.good}


@dataclass(frozen=True)
class Verified(Finding):
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
    promised_flash_bytes: int
    """Of the model file."""
    model_bytes: int
    code_bytes: int
    """Linked code and constants of the interpreter, the kernels of the model's operators and the C library, without the model."""
    instructions: tuple[tuple[str, int], ...]
    """(operator, executed instructions) of one inference."""
    refused: str
    """Why it does not run there; empty where it does."""
    firmware: SelfTested | None = None
    """What the firmware folder did there; None where there is none."""
    folder: str = ""
    """The firmware folder that was built; empty where one was made for this and thrown away."""
    no_firmware: str = ""
    """Why no firmware folder was built; empty where one was."""
    promised_code_bytes: int | None = None
    """What the cost model says of :attr:`code_bytes`; None where it knows nothing of the operators' code."""
    promised_program_bytes: int | None = None
    """The same of the firmware's program: model, TFLM's code, and what the folder adds."""

    def memory_problems(self) -> list[str]:
        """An arena that does not suffice."""
        needed, promised = self.needed_arena_bytes, self.promised_arena_bytes
        if needed is not None and needed <= _rounded(promised):
            return []
        return [f"{promised:,} B of arena were promised, and it needs {'more' if needed is None else f'{needed:,} B'} to start"]

    def linked(self) -> list[tuple[str, int | None, int | None, str]]:
        """TFLM's code, and the whole program."""
        why = " (messages hold the paths of TFLM's sources: a tree in a long path takes more)"
        return [
            ("code of TFLM and its kernels", self.promised_code_bytes, self.code_bytes, why),
            ("flash in all", self.promised_program_bytes, None if self.firmware is None else self.firmware.program_bytes, why),
        ]


def _rounded(size: int) -> int:
    return -(-size // 16) * 16  # an arena begins and ends on 16 bytes, as the firmware folder sets it aside


def check_tools(core: Core, tree: Tree, kernels: Kernels, cache: Path) -> Library:
    """The library that a check on ``core`` needs, built or not. Raises UserError where the tool chain, the emulator, or the kernels
    of the tree are wanting: before anything that takes long."""
    emulator_version()
    return Library.of(tree, core, kernels, cache)


def verify_model(
    model: bytes,
    name: str,
    core: Core,
    tree: Tree,
    kernels: Kernels,
    cache: Path,
    *,
    folder: Path | None = None,
    jobs: int | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Verified:
    """Run ``model`` and its firmware on ``core`` with the kernels of ``tree``, built into ``cache`` the first time.

    ``folder`` is the firmware folder that was delivered with the model; where None one is made for this. ``on_note`` hears how long
    a first build will take. Raises UserError where the tool chain, the emulator or the tree is wanting, ModelFileError for a broken
    file or a folder that holds another model, DiskError where the cache is full or cannot be written.
    """
    file = parse_model(model, name)
    if folder is not None and folder_model(folder) != model:
        raise ModelFileError(f"{folder}: holds another model than {name}", "export the network again")
    wanted = check_tools(core, tree, kernels, cache)
    if not wanted.file.is_file() and on_note is not None:
        on_note(_first_time(wanted, jobs or cores()))
    runtime = runtime_of_tree(kernels, arduino=tree.arduino)
    promised = file.estimate(runtime, core=core.name)
    whole_program = promised.values()["program_bytes"]
    library = build_library(tree, core, kernels, cache, jobs=jobs, on_step=on_step)
    elf = build_probe(tree, core, kernels, cache)
    compared = reference(model)
    variables = len(promised.work.resources)
    methods = resolver_methods(file, tree, library)
    (ran,) = run_probe(elf, core, [Job(model, compared.inputs, variables, count=True)], seconds=300)
    refused = ": ".join([ran.refused, " | ".join(ran.log[:2])] if ran.log else [ran.refused]) if ran.refused else ""
    whole = None if ran.arena_bytes is None or refused else ran.arena_bytes // 16 * 16  # sizes are looked through as they are set aside
    needed = None if whole is None else smallest_arena(elf, core, model, whole, variables=variables)
    firmware, no_firmware = (None, "the model does not run there") if refused else _firmware(model, folder, runtime, core, tree, library)
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
        equal_outputs=sum(got == (want,) for got, want in zip(ran.outputs, compared.outputs, strict=False)),
        compared_outputs=0 if refused else len(compared.outputs),
        not_compared=compared.why,
        promised_flash_bytes=promised.flash_bytes,
        model_bytes=len(model),
        code_bytes=link_operators(tree, core, library, methods).flash_bytes,
        instructions=ran.instructions,
        refused=refused,
        firmware=firmware,
        folder="" if folder is None else str(folder),
        no_firmware=no_firmware,
        promised_code_bytes=None if promised.code is None else promised.code.runtime_bytes,
        promised_program_bytes=None if whole_program is None else int(whole_program),
    )


def _first_time(library: Library, jobs: int) -> str:
    about = counted(max(1, round(library.minutes(jobs))), "minute")
    return (
        f"TFLM is built for {library.core.name} with its {library.kernels} kernels: {counted(len(library.left), 'source')}, about {about} "
        f"with {counted(jobs, 'compiler')} at once. It is kept: the next check takes seconds. Ctrl-C loses nothing that is built."
    )


def _firmware(model: bytes, folder: Path | None, runtime: str, core: Core, tree: Tree, library: Path) -> tuple[SelfTested | None, str]:
    """What the folder's self-test did, or why there is no folder."""
    if folder is not None:
        return self_test(folder, core, tree, library), ""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            facts = read_facts(model)
            labels = facts.labels if len(facts.labels) == facts.classes else [f"class {index}" for index in range(facts.classes)]
            images = np.random.default_rng(0).integers(0, 256, (2, *facts.input_shape), dtype=np.uint8)
            arena = measured_arena(model, runtime.partition("@")[0], core.name)  # for every version in use, as an export
            write_firmware(Path(scratch), model, labels=labels, images=images, arena=arena)
        except DiskError:
            raise
        except UserError as error:
            return None, error.message
        return self_test(Path(scratch), core, tree, library), ""


def still_verified(report: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """``verified`` of an earlier export's ``report`` where it is of the firmware that lies in ``folder`` now (or of none, where none
    lies there); else None. That the model is the same is for the caller to know."""
    found = report.get("verified")
    if not found:
        return None
    then = found["firmware"]["digest"] if found.get("folder") else None
    return dict(found) if then == (folder_digest(folder) if folder.is_dir() else None) else None


def resolver_methods(file: ModelFile, tree: Tree, library: Path) -> list[str]:
    """The resolver's methods for the operators of ``file``, as the firmware adds them, with :attr:`ModelFile.endings` behind them.
    Raises ModelFileError where the tree has none for one."""
    known = {method.removeprefix("Add").lower(): method for method in operators(tree, library)}
    kinds = sorted({op.kind for op in file.ops})
    missing = [kind for kind in kinds if kind.replace("_", "").lower() not in known]
    if missing:
        raise ModelFileError(f"{file.name}: TFLM in {tree.path} has no {', '.join(missing)}", "take a newer tree, or another model")
    return [known[kind.replace("_", "").lower()] + file.endings[kind] for kind in kinds]


@dataclass(frozen=True)
class Reference:
    """What tflite-micro on this computer makes of a model."""

    images: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0, 0, 0), np.uint8))
    """(N, height, width, channels)."""
    inputs: tuple[bytes, ...] = ()
    """The same as the model's input elements."""
    outputs: tuple[bytes, ...] = ()
    why: str = ""
    """Why there is none; empty where there is."""


def reference(model: bytes) -> Reference:
    """:data:`COMPARED` images by seed 0, and the outputs of tflite-micro on this computer, or why there are none."""
    try:
        inspected = inspect(model)
        images = np.random.default_rng(0).integers(0, 256, (COMPARED, *inspected.facts.input_shape), dtype=np.uint8)
        table = input_table(inspected.facts)
        measured = run_tflm(inspected, images, table=table)
    except ModelFileError as error:
        return Reference(why=error.message)
    return Reference(images, tuple(table[image].tobytes() for image in images), tuple(row.tobytes() for row in measured.outputs))
