"""Verify a compiled network: its firmware folder on an emulated core beside what was promised: memory, flash, outputs, instructions.

No runtime is needed for it. The folder is built as it lies there and runs its self-test; then its network alone runs in painted memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from tinynas.cost import estimate
from tinynas.cost.compiled import network_stack
from tinynas.cost.sound_folder import longer_bytes
from tinynas.errors import ModelFileError, UserError
from tinynas.export.emulated import SelfTested, folder_sha256, network_self_test, network_sources
from tinynas.export.facts import read_facts
from tinynas.export.verify import Finding, reference
from tinynas.graph import Graph
from tinynas.target.cores import Core
from tinynas.target.emulator import emulator_version
from tinynas.target.library import compiler_version
from tinynas.target.program import NetworkRun, run_network


@dataclass(frozen=True)
class VerifiedNetwork(Finding):
    """What the emulated core did with a compiled network and its firmware folder, beside what was promised."""

    name: str
    target: str
    runtime: str
    compiler: str
    emulator: str
    promised_work_bytes: int
    reserved_work_bytes: int
    """What the network's header sets aside."""
    used_work_bytes: int | None
    """Of that, bytes in use: painted memory up to the last byte written, and the counters; None where it does not run."""
    promised_stack_bytes: int
    stack_bytes: int | None
    """Most bytes of stack under an inference."""
    promised_network_bytes: int | None
    """Flash: constants and kernels; None where the cost model does not know it."""
    network_bytes: int | None
    """The same as linked."""
    equal_outputs: int
    compared_outputs: int
    """Outputs that were compared with tflite-micro's on this computer; 0 where it cannot be."""
    not_compared: str
    instructions: tuple[tuple[str, int], ...]
    """(operator, executed instructions) of one inference."""
    inference_instructions: int | None
    """Of all of it, without those of measuring each operator; of a stream, as above, those of the step that takes most."""
    refused: str
    """Why it does not run there; empty where it does."""
    firmware: SelfTested
    folder: str
    step_instructions: float | None = None
    """Of a step of a stream, on average; None of others."""
    promised_static_bytes: int | None = None
    """SRAM of the network and of all that stands between it and a microphone, the stack aside; None where none is promised."""
    static_bytes: int | None = None
    """The same as linked: the variables of the folder's sources."""
    promised_folder_bytes: int | None = None
    """Flash of network, front end and what stands around them; None where none is promised."""
    folder_bytes: int | None = None
    """The same as linked into a program that hears."""

    def memory_problems(self) -> list[str]:
        """A work area or a stack that does not suffice."""
        found = []
        for what, size in (("sets aside", self.reserved_work_bytes), ("uses", self.used_work_bytes)):
            if size is not None and size > self.promised_work_bytes:
                found.append(f"{self.promised_work_bytes:,} B of work area were promised, and it {what} {size:,} B")
        if self.stack_bytes is not None and self.stack_bytes > self.promised_stack_bytes:
            found.append(f"{self.promised_stack_bytes:,} B of stack were promised, and an inference takes {self.stack_bytes:,} B")
        static, promised = self.static_bytes, self.promised_static_bytes
        if static is not None and promised is not None and static > promised:
            found.append(f"{promised:,} B of SRAM were promised for front end and network, and {static:,} B are linked")
        return found

    def linked(self) -> list[tuple[str, int | None, int | None, str]]:
        """The network's part of the program, and that of a folder of sound."""
        whole = [("front end, network and what stands around them", self.promised_folder_bytes, self.folder_bytes, "")]
        return [("code and constants", self.promised_network_bytes, self.network_bytes, ""), *whole]


def check_network_tools() -> None:
    """Raise UserError where the tool chain or the emulator is wanting."""
    compiler_version()
    emulator_version()


def verify_network(
    model: bytes,
    name: str,
    graph: Graph,
    runtime: str,
    core: Core,
    folder: Path,
    *,
    on_step: Callable[[str, int, int], None] | None = None,
) -> VerifiedNetwork:
    """Build the firmware ``folder`` of ``graph`` on compiled ``runtime`` for ``core`` as it lies there, and run it.

    ``model`` is the .tflite of the same numbers. Raises UserError where the tool chain or the emulator is wanting, ModelFileError for a
    folder that is not whole or of another model.
    """
    if folder_sha256(folder) != hashlib.sha256(model).hexdigest():
        raise ModelFileError(f"{folder}: holds another model than {name}", "export the network again")
    sources = network_sources(folder)
    prefix, reserved, outputs, operators = _network_facts(folder, sources)
    promised = estimate(graph, runtime, core=core.name)
    compared = reference(model)
    if on_step is not None:
        on_step(f"building the firmware for {core.name}", 0, 2)
    tested = network_self_test(folder, core)
    if on_step is not None:
        on_step(f"running the network on {core.name}", 1, 2)
    network = {path: text.encode() for path, text in sources.items() if path in {"network.c", "network.h"}}
    header = {f"{prefix}.h": b'#include "network.h"\n'}
    shape, stream = graph.input.shape, promised.stream
    row_bytes, period = (None, 1) if stream is None else (shape[1] * shape[2], stream.period)
    ran: NetworkRun | None = None
    refused = ""
    frames = [image.tobytes() for image in compared.images] or [bytes(prod(shape))]
    try:
        files = {**network, **header}
        ran = run_network(core, prefix, files, frames, outputs=outputs, operators=len(operators), row_bytes=row_bytes, period=period)
    except UserError as error:  # it was compiled and linked for the self-test: what is left is that it dies
        refused = error.message
    counters = reserved - _area_bytes(sources["network.h"])
    whole = program = None
    if promised.front_end is not None:
        values = promised.values()
        whole, program = values["sram_bytes"], values["program_bytes"]
    if program is not None:
        program += longer_bytes(read_facts(model).labels)
    return VerifiedNetwork(
        name=name,
        target=core.name,
        runtime=runtime,
        compiler=compiler_version(),
        emulator=emulator_version(),
        promised_work_bytes=promised.sram_bytes,
        reserved_work_bytes=reserved,
        used_work_bytes=None if ran is None else ran.touched_bytes + counters,
        promised_stack_bytes=network_stack(graph, core.name),
        stack_bytes=None if ran is None else ran.stack_bytes,
        promised_network_bytes=promised.program_bytes,
        network_bytes=None if ran is None else ran.flash_bytes,
        equal_outputs=0 if ran is None else sum(got == want for got, want in zip(ran.outputs, compared.outputs, strict=False)),
        compared_outputs=0 if ran is None else len(compared.outputs),
        not_compared=compared.why,
        instructions=() if ran is None else tuple(zip(operators, ran.by_operator, strict=True)),
        inference_instructions=None if ran is None else ran.instructions,
        refused=refused,
        firmware=tested,
        folder=str(folder),
        step_instructions=None if ran is None else ran.step_instructions,
        promised_static_bytes=None if whole is None else int(whole),
        static_bytes=None if whole is None else tested.static_bytes,
        promised_folder_bytes=None if program is None else int(program),
        folder_bytes=tested.listening_bytes,
    )


def _network_facts(folder: Path, sources: dict[str, str]) -> tuple[str, int, int, list[str]]:
    """(prefix of its names, bytes that its header sets aside, outputs, operators) of the network in a folder."""
    header, code = sources.get("network.h", ""), sources.get("network.c", "")
    work = re.search(r"#define \w+_WORK_BYTES (\d+)", header)
    outputs = re.search(r"#define \w+_OUTPUTS (\d+)", header)
    prefix = re.search(r"^\} ([a-z]\w*)_t;", header, re.MULTILINE)
    table = re.search(r"operators\[\] = \{\n(.*?)\n\};", code, re.DOTALL)
    rows = [] if table is None else re.findall(r"^  \{(\w+), .*\}, /\* (.*) \*/$", table[1], re.MULTILINE)
    if work is None or outputs is None or prefix is None or not rows:
        raise ModelFileError(
            f"{folder}: is not a whole firmware folder: its network.h or network.c is not tinynas's", "export the network again"
        )
    return prefix[1], int(work[1]), int(outputs[1]), [f"{kind.lower()} {name}" for kind, name in rows]


def _area_bytes(header: str) -> int:
    found = re.search(r"int32_t area\[(\d+)\]", header)
    return 0 if found is None else 4 * int(found[1])
