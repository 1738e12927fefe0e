"""The firmware folder on an emulated core: compiled as it lies there, linked with a library of TFLM, its self-test run."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinynas.errors import ModelFileError
from tinynas.export.folder import SELF_TEST_PASS
from tinynas.target.cores import Core
from tinynas.target.emulator import emulate
from tinynas.target.flash import flash_of
from tinynas.target.library import Tree, call, compile_source, kernel_defines
from tinynas.target.probe import link, startup_code
from tinynas.target.program import compile_program, link_program, listening_flash

#: Seconds that the self-test gets.
SECONDS = 300.0


@dataclass(frozen=True)
class SelfTested:
    """What the self-test of a firmware folder did on an emulated core."""

    digest: str
    """Of the folder's files: another folder is not what was tested."""
    arena_bytes: int | None
    """Bytes that the folder's settings set aside; None where the self-test did not come to say so."""
    used_arena_bytes: int | None
    images: int
    equal_images: int
    """Images whose every output byte is the stored one."""
    program_bytes: int
    """Flash of the folder's example: all that is linked, the model included."""
    failed: str
    """What it said last where it did not pass; empty where it passed."""
    static_bytes: int | None = None
    """SRAM of the variables of the folder's sources, as linked into its example; None where they were not looked at."""
    listening_bytes: int | None = None
    """Flash that a folder of sound as C adds to a program: network, front end, what stands around them; None of other folders."""


def self_test(folder: Path, core: Core, tree: Tree, library: Path, *, seconds: float = SECONDS) -> SelfTested:
    """Build the firmware ``folder`` for ``core`` with the static ``library`` of ``tree``, and run its self-test.

    Raises UserError where the folder is not whole, or does not compile or link.
    """
    sources = _sources(folder, "cc")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        flags = (*core.flags, *tree.defines, "-ffunction-sections", "-fdata-sections", "-fno-exceptions", "-w", f"-I{folder}")
        flags = (*flags, *kernel_defines(library), *tree.includes)
        (work / "startup.cc").write_text(startup_code(), encoding="utf-8")
        mains = ("self_test_main", "example_main")
        objects = {}
        for source in (*sources, *(folder / f"{name}.cc" for name in mains), work / "startup.cc"):
            objects[source.stem] = work / f"{source.stem}.o"
            compile_source(source, objects[source.stem], flags)
        tests = work / "self_test.elf"
        link(core, [*(o for name, o in objects.items() if name not in mains), objects["self_test_main"], library], tests)
        program = work / "program.elf"
        parts = [o for name, o in objects.items() if name not in (*mains, "self_test", "self_test_data")]
        link(core, [*parts, objects["example_main"], library], program, "--specs=nano.specs")
        size = flash_of(call(["arm-none-eabi-size", "-A", str(program)], "measure the program"))
        ended = emulate(tests, core, seconds=seconds)
    return SelfTested(folder_digest(folder), *_said(ended.said), size, _why(ended.status, ended.said, seconds))


def network_self_test(folder: Path, core: Core, *, seconds: float = SECONDS) -> SelfTested:
    """The same of a ``folder`` around a compiled network, which needs no library; its arena is the work area."""
    network = network_sources(folder)
    mains = {name: _read(folder, name) for name in ("self_test_main.c", "example_main.c")}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        objects = {o.name.removesuffix(".c.o"): o for o in compile_program(core, {**network, **mains}, work)}
        tests = link_program(core, [o for name, o in objects.items() if name != "example_main"], work)
        ended = emulate(tests.elf, core, seconds=seconds)
        program = link_program(core, [o for name, o in objects.items() if "self_test" not in name], work, "--specs=nano.specs")
        own = [o for name, o in objects.items() if "self_test" not in name and name != "example_main"]
        static = variables_bytes(program.elf, own)
        listening = None
        if found := re.search(r"(\w+)_hear_start\(", network.get("hear.h", "")):
            several = f"{found[1]}_there(" in network["hear.h"]
            listening = listening_flash(core, found[1], own, work, several=several)
    ended_so = _why(ended.status, ended.said, seconds)
    return SelfTested(folder_digest(folder), *_said(ended.said), program.flash_bytes, ended_so, static, listening)


def variables_bytes(elf: Path, objects: Sequence[Path]) -> int:
    """Bytes of the variables (initialised or not) of ``objects`` that are in the program ``elf``."""

    def listed(file: Path) -> list[list[str]]:
        return [line.split() for line in call(["arm-none-eabi-nm", "-S", str(file)], "list variables").splitlines()]

    names = {words[-1] for file in objects for words in listed(file) if words[-2] in "bBdD"}
    return sum(int(words[1], 16) for words in listed(elf) if len(words) == 4 and words[2] in "bBdD" and words[3] in names)


def network_sources(folder: Path) -> dict[str, str]:
    """File name -> text of the sources and headers of a ``folder`` around a compiled network, its programs left out."""
    names = [path.name for path in _sources(folder, "c")]
    return {name: _read(folder, name) for name in (*names, *sorted(path.name for path in folder.glob("*.h")))}


def folder_sha256(folder: Path) -> str:
    """SHA-256 of the .tflite with the same numbers as the network in a ``folder``. Raises UserError where it says none."""
    found = re.search(r"SHA-256 ([0-9a-f]{64})", _read(folder, "model_settings.h"))
    if found is None:
        raise _not_whole(folder, "its model_settings.h names no model")
    return found[1]


def folder_model(folder: Path) -> bytes:
    """The .tflite that a firmware folder holds. Raises UserError where there is none."""
    text = _read(folder, "model_data.cc")
    body = re.search(r"=\s*\{([^}]*)\}", text)
    words = [] if body is None else re.findall(r"0x([0-9a-fA-F]{1,2})\b", body[1])
    if not words:
        raise _not_whole(folder, "its model_data.cc holds no model")
    return bytes(int(word, 16) for word in words)


def folder_digest(folder: Path) -> str:
    """Digest of every file of a firmware folder, by name and content."""
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(f"{file.relative_to(folder).as_posix()}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _sources(folder: Path, suffix: Literal["cc", "c"]) -> list[Path]:
    """What the folder's own build compiles beside its programs."""
    listed = re.search(r"set\(MODEL_SOURCES ([^)]*)\)", _read(folder, "CMakeLists.txt"))
    called = {"cc": "::SelfTest(", "c": "_self_test("}[suffix]
    if listed is None or called not in _read(folder, f"self_test_main.{suffix}"):
        raise _not_whole(folder, f"its CMakeLists.txt or self_test_main.{suffix} is not tinynas's")
    sources = [folder / name for name in listed[1].split()]
    for source in (*sources, folder / f"example_main.{suffix}"):
        _read(folder, source.name)
    return sources


def _read(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise _not_whole(folder, f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _not_whole(folder: Path, why: str) -> ModelFileError:
    return ModelFileError(f"{folder}: is not a whole firmware folder: {why}", "export the network again")


def _said(text: str) -> tuple[int | None, int | None, int, int]:
    """(arena bytes set aside, used, images, equal ones) by what the self-test printed."""
    arena = re.search(r"self-test: (?:arena|work area) (\d+) of (\d+) bytes", text)
    images: list[Any] = re.findall(r"self-test: (?:image|sound) \d+ is .*, largest difference (\d+) steps: (\w+)", text)
    used, reserved = (None, None) if arena is None else (int(arena[1]), int(arena[2]))
    return reserved, used, len(images), sum(found == ("0", "ok") for found in images)


def _why(status: int | None, text: str, seconds: float) -> str:
    if status is None:
        return f"it did not finish in {seconds:g} s"
    if status == 0 and SELF_TEST_PASS in text:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-2:]) if lines else f"it ended with status {status} and said nothing"
