"""The probe: a program that runs models in TFLM on an emulated core, and says what they take there.

One executable for each tree, core and kernel kind holds every operator of the tree. Models, inputs and answers pass through the
emulator's memory and its console; each model has its own share of a time limit.
"""

from __future__ import annotations

import hashlib
import re
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tinynas.errors import InternalError, UserError
from tinynas.target.cores import Core
from tinynas.target.emulator import ICOUNT_SHIFT, Ended, emulate
from tinynas.target.library import Kernels, Tree, build_library, call, compile_source

_SOURCES = Path(__file__).with_name("sources")
_ENTRY = struct.Struct("<8I")


@dataclass(frozen=True)
class Job:
    """A model to run: inputs as bytes (all inputs of one run, one behind the other)."""

    model: bytes
    inputs: tuple[bytes, ...] = ()
    variables: int = 0
    """Resource variables to make room for (streaming models)."""
    arena_bytes: int | None = None
    """Bytes of arena that it gets; None: all that there is."""
    count: bool = False
    """Count the instructions of each operator."""
    infer: bool = True
    """Run it; else it is only set up."""


@dataclass(frozen=True)
class Answer:
    """What the core did with a model."""

    arena_bytes: int | None
    """Bytes of arena in use behind AllocateTensors; None where it refused."""
    outputs: tuple[tuple[bytes, ...], ...] = ()
    """For each run the bytes of each output."""
    instructions: tuple[tuple[str, int], ...] = ()
    """(operator, executed instructions) of the first run."""
    refused: str = ""
    """Where it refused (prepare, invoke), or how the program died."""
    log: tuple[str, ...] = field(default=(), compare=False)
    """What TFLM printed."""


def operators(tree: Tree, library: Path) -> tuple[str, ...]:
    """Names of the resolver's ``Add`` methods whose kernels are in ``library``."""
    text = (tree.path / "tensorflow/lite/micro/micro_mutable_op_resolver.h").read_text(encoding="utf-8", errors="replace")
    symbols = call(["arm-none-eabi-nm", "-C", "--defined-only", str(library)], "read the library")
    defined = set(re.findall(r"\bRegister_\w+", symbols))
    starts = list(re.finditer(r"TfLiteStatus (Add\w+)\(", text))
    found = []
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        name = start.group(1)
        body = text[start.start() : end.start() if end else len(text)]
        needed = set(re.findall(r"\bRegister_\w+", body))
        if name not in {"AddCustom", "AddBuiltin"} and needed and needed <= defined:
            found.append(name)
    return tuple(found)


def build_probe(
    tree: Tree,
    core: Core,
    kernels: Kernels,
    cache: Path,
    *,
    jobs: int | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> Path:
    """The probe's executable, from ``cache`` or built there. Raises UserError where the tool chain or the tree is wanting."""
    library = build_library(tree, core, kernels, cache, jobs=jobs, on_step=on_step)
    sources = [_SOURCES / "probe.cc", _SOURCES / "startup.cc"]
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in (*sources, Path(__file__), Path(__file__).with_name("cores.py")))).hexdigest()[
        :12
    ]
    elf = library.parent / f"probe-{digest}.elf"
    if not elf.is_file():
        names = operators(tree, library)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / "probe_operators.h").write_text(operators_header(names), encoding="utf-8")
            flags = (*core.flags, f"-DTINYNAS_BLOB={core.heap[0]:#x}u", *tree.defines, "-w")
            objects = []
            for source in sources:
                objects.append(folder / f"{source.stem}.o")
                compile_source(source, objects[-1], (*flags, f"-I{folder}", *tree.includes))
            link(core, [*objects, library], folder / "probe.elf")
            (folder / "probe.elf").replace(elf) if _same_disk(folder, elf.parent) else elf.write_bytes((folder / "probe.elf").read_bytes())
    return elf


def _same_disk(first: Path, second: Path) -> bool:
    return first.stat().st_dev == second.stat().st_dev


def operators_header(names: Sequence[str]) -> str:
    """A header with a resolver to which ``names``, its methods, add their operators."""
    adds = "".join(f"  ok = resolver.{name}() == kTfLiteOk && ok;\n" for name in names)
    return (
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n'
        f"using ProbeResolver = tflite::MicroMutableOpResolver<{len(names)}>;\n"
        f"inline bool AddProbeOperators(ProbeResolver& resolver) {{\n  bool ok = true;\n{adds}  return ok;\n}}\n"
    )


def startup_code() -> str:
    """What runs on the emulated board before ``main``, and hands its status to the emulator: C and C++, for every core."""
    return (_SOURCES / "startup.cc").read_text(encoding="utf-8")


def linker_script(core: Core) -> str:
    """Where code, variables and stack lie on the emulated board."""
    text = (_SOURCES / "memory.ld").read_text(encoding="utf-8")
    words = {"CODE_AT": core.code[0], "CODE_BYTES": core.code[1], "DATA_AT": core.data[0], "DATA_BYTES": core.data[1]}
    for word, value in words.items():
        text = text.replace(f"@{word}@", f"{value:#x}")
    return text


def link(core: Core, parts: Sequence[Path], target: Path, *extra: str) -> None:
    """Link ``parts`` for ``core``; unused sections are dropped. Raises UserError with the linker's words."""
    with tempfile.NamedTemporaryFile("w", suffix=".ld") as script:
        script.write(linker_script(core))
        script.flush()
        options = ("-nostartfiles", "--specs=rdimon.specs", "-T", script.name, "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments")
        call(["arm-none-eabi-g++", *core.flags, *options, *extra, *map(str, parts), "-o", str(target)], "link the program")


def run_probe(elf: Path, core: Core, jobs: Sequence[Job], *, seconds: float = 60.0) -> list[Answer]:
    """Run ``jobs`` on ``core``, each for at most ``seconds``; what dies is run alone once more and then refused.

    Raises UserError where qemu is missing, or where a model and its arena are larger than the emulated memory.
    """
    ended = _attempt(elf, core, jobs, seconds * len(jobs))
    answers = _answers(ended.said, len(jobs), core)
    if len(jobs) > 1:
        return [a if a is not None else run_probe(elf, core, [job], seconds=seconds)[0] for a, job in zip(answers, jobs, strict=True)]
    why = f"did not finish in {seconds:g} s" if ended.status is None else "the program died"
    return [a if a is not None else Answer(None, refused=why, log=_last_words(ended.said)) for a in answers]


def _last_words(said: str) -> tuple[str, ...]:
    lines = [line for line in said.splitlines() if line.strip() and not re.match(r"(model|arena|op|output) ", line)]
    return tuple(lines[-2:])


def smallest_arena(elf: Path, core: Core, model: bytes, used: int, *, variables: int = 0, seconds: float = 60.0) -> int:
    """Bytes of the smallest arena, in steps of 16, with which ``model`` starts, ``used`` of which it uses then.

    Some networks need more to be set up than to run. Raises InternalError where 64 KiB more do not help.
    """

    def starts(size: int) -> bool:
        (answer,) = run_probe(elf, core, [Job(model, variables=variables, arena_bytes=size)], seconds=seconds)
        return answer.arena_bytes is not None  # a program that dies for want of memory does not start either

    low, step = used - 16, 16
    while not starts(low + step):
        if step > 64 * 1024:
            raise InternalError(f"a model that uses {used} B does not start with {low + step} B")
        low, step = low + step, 2 * step
    high = low + step
    while high - low > 16:
        middle = low + (high - low) // 32 * 16
        low, high = (low, middle) if starts(middle) else (middle, high)
    return high


def _attempt(elf: Path, core: Core, jobs: Sequence[Job], seconds: float) -> Ended:
    blob = _blob(jobs, core)
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(blob)
        file.flush()
        blob_at = ("-device", f"loader,file={file.name},addr={core.heap[0]:#x},force-raw=on")
        return emulate(elf, core, seconds=seconds, counting=any(job.count for job in jobs), extra=blob_at)


def instructions(ticks: int, core: Core) -> int:
    """Executed instructions in so many ticks of the machine's clock, which icount ties to them."""
    return round(ticks * 1e9 / core.clock_hz / (1 << ICOUNT_SHIFT))


def _blob(jobs: Sequence[Job], core: Core) -> bytes:
    at = (16 + _ENTRY.size * len(jobs) + 15) & ~15
    entries, body = [], bytearray()
    for job in jobs:
        places = []
        for part in (job.model, b"".join(job.inputs)):
            places.append(at + len(body))
            body += part + bytes(-len(part) % 16)
        if len({len(one) for one in job.inputs}) > 1:
            raise InternalError("inputs of different sizes")
        entries.append(
            (
                places[0],
                len(job.model),
                places[1],
                len(job.inputs[0]) if job.inputs else 0,
                max(len(job.inputs), 1) if job.infer else 0,
                job,
            )
        )
    end = at + len(body)
    arena = (core.heap[1] - end - 64) & ~15
    if arena < 64 * 1024:
        raise UserError(f"{end:,} B of models do not fit the emulated board's {core.heap[1]:,} B", "give smaller models, or fewer at once")
    head = b"TNPB" + struct.pack("<3I", len(jobs), end, 0)
    for model, size, inputs, each, runs, job in entries:
        head += _ENTRY.pack(model, size, inputs, each, runs, job.arena_bytes or arena, job.variables, 2 * job.count)
    return head + bytes(at - len(head)) + bytes(body)


def _answers(said: str, count: int, core: Core) -> list[Answer | None]:
    answers: list[Answer | None] = [None] * count
    parts = re.split(r"^model (\d+)$", said, flags=re.MULTILINE)[1:]
    whole = said.rstrip().endswith("done")
    for index, text in zip(map(int, parts[::2]), parts[1::2], strict=True):
        if index < count and (whole or index < len(parts) // 2 - 1):
            answers[index] = _answer(text, core)
    return answers


def _answer(text: str, core: Core) -> Answer:
    arena = None
    refused = ""
    outputs: dict[tuple[int, int], bytes] = {}
    counts: list[tuple[str, int]] = []
    log: list[str] = []
    for line in text.splitlines():
        words = line.split(" ")
        match words:
            case ["arena", size]:
                arena = int(size)
            case ["refused", where]:
                refused = where
            case ["output", run, number, content]:
                outputs[int(run), int(number)] = bytes.fromhex(content)
            case ["op", _number, name, ticks]:
                counts.append((name, instructions(int(ticks), core)))
            case _:
                log.append(line)
    runs = max((run for run, _ in outputs), default=-1) + 1
    each = max((number for _, number in outputs), default=-1) + 1
    return Answer(
        None if refused == "prepare" else arena,
        tuple(tuple(outputs[run, number] for number in range(each)) for run in range(runs)),
        tuple(counts),
        refused,
        tuple(line for line in log if line.strip() and line != "done"),
    )
