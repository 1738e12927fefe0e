"""The 32-bit arena, promised and as TFLM's own allocator uses it on emulated cores, by library version.

Zoo, random networks of the shipped spaces and public models, and every one-operator file of tests/op_files.py, are set up with each
library that is named: what is promised with the version pinned must be what is used, to the byte before it is rounded up to 16, and the
smallest arena of whole 16 bytes that starts; what is promised without a version must be enough. Does not show inference, cores that qemu
cannot emulate, nor Espressif's chips: their figures are published measurements (tests/test_cost_versions.py).

    python benchmarks/tflm_arena32.py CORE:KERNELS:TREE...       writes results/benchmarks/tflm_arena32.md

for example ``cortex-m4:reference:../tflm cortex-m4:cmsis-nn:../tflm_arduino/src``. Libraries are built into TINYNAS_CACHE the first time,
a few minutes each; TINYNAS_TEST_DATA names the folder whose models/ holds the public ones.
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from op_files import KINDS, TYPES, VARIANTS, op_file  # noqa: E402

from tinynas import api  # noqa: E402
from tinynas.config import shipped  # noqa: E402
from tinynas.cost.runtimes import runtime_named, runtime_of_tree  # noqa: E402
from tinynas.cost.tflite import parse_model  # noqa: E402
from tinynas.errors import ModelFileError  # noqa: E402
from tinynas.export.tflite import dummy_file  # noqa: E402
from tinynas.graph import lower  # noqa: E402
from tinynas.target.cores import core_named  # noqa: E402
from tinynas.target.library import Tree, kernels_named  # noqa: E402
from tinynas.target.probe import Job, build_probe, run_probe  # noqa: E402

#: Random networks of each space.
DRAWN = 14
#: Bytes of models that are put into the emulator at once, and how many.
AT_ONCE, MANY = 6 << 20, 150
#: Networks of more bytes than this are left out: they and their arenas do not fit the emulated memory together.
LARGEST = 4 << 20


def networks() -> dict[str, bytes]:
    """Zoo, random networks of the shipped spaces, public models: name -> file."""
    found = {}
    for name in sorted(shipped("zoo")):
        found[name] = dummy_file(lower(api.load_net(name)))
    for name in sorted(shipped("search_spaces")):
        space, generator = api.load_space(name), random.Random(name)
        for number in range(DRAWN):
            arch = space.sample(lambda _, count, generator=generator: generator.randrange(count), 2 + 8 * (number % 2))
            found[f"{name} {number}"] = dummy_file(lower(arch))
    folder = os.environ.get("TINYNAS_TEST_DATA")
    for path in sorted(Path(folder, "models").glob("*.tflite")) if folder else ():
        found[path.stem] = path.read_bytes()
    return {name: file for name, file in found.items() if len(file) <= LARGEST}


def operators() -> dict[str, bytes]:
    """A file of each operator in each element type, and of other forms."""
    return {f"{kind} {dtype}": op_file(kind, dtype) for kind in KINDS for dtype in TYPES} | {
        name: make() for name, make in VARIANTS.items()
    }


@dataclass
class Count:
    """What was found of one library."""

    title: str
    equal: int = 0
    refused: int = 0
    enough: int = 0
    least: int = 0
    tried: int = 0


def set_up(elf: Path, core: str, jobs: list[Job]) -> list[int | None]:
    """Bytes of arena in use of each job; None where it does not start."""
    used: list[int | None] = []
    for part in parts(jobs):
        used += [answer.arena_bytes for answer in run_probe(elf, core_named(core), part, seconds=20)]
    return used


def parts(jobs: list[Job]) -> list[list[Job]]:
    """``jobs`` in runs of the emulator."""
    found: list[list[Job]] = [[]]
    for job in jobs:
        if len(found[-1]) == MANY or sum(len(other.model) for other in found[-1]) + len(job.model) > AT_ONCE:
            found.append([])
        found[-1].append(job)
    return [part for part in found if part]


def main() -> int:
    """Measure and write the table; 1 where a promise is not kept."""
    cache = Path(os.environ["TINYNAS_CACHE"])
    nets, ops = networks(), operators()
    rows = {name: [f"| {name} |"] for name in nets}
    heads, counts, wrong = [], [], []
    for word in sys.argv[1:]:
        core, kernels, place = word.split(":", 2)
        tree, kind = Tree.find(place), kernels_named(kernels)
        pinned = runtime_of_tree(kind, arduino=tree.arduino)
        plain = runtime_named(pinned).plain
        elf = build_probe(tree, core_named(core), kind, cache)
        counted = Count(f"{core_named(core).title}, {pinned}")
        for files, named in ((nets, True), (ops, False)):
            costs = {name: parse_model(file, name).estimate(pinned, core=core) for name, file in files.items()}
            promises = {name: parse_model(file, name).estimate(plain, core=core).sram_bytes for name, file in files.items()}
            jobs = [Job(file, variables=len(costs[name].work.resources), infer=False) for name, file in files.items()]
            used = dict(zip(files, set_up(elf, core, jobs), strict=True))
            for name, cost in costs.items():
                measured = used[name]
                counted.refused += measured is None
                if measured is not None:
                    equal = cost.head_bytes + cost.tail_bytes == measured
                    counted.equal += equal
                    counted.tried += 1
                    wrong += [] if equal else [(word, name, cost.head_bytes + cost.tail_bytes, measured)]
                if named:
                    rows[name].append(f" {measured or 'refused':,} | {cost.sram_bytes:,} | {promises[name]:,} |")
            if named:
                there = [name for name in files if used[name] is not None]
                for less, expected in ((0, True), (16, False)):
                    tight = [Job(files[n], (), len(costs[n].work.resources), costs[n].sram_bytes - less, infer=False) for n in there]
                    for name, arena in zip(there, set_up(elf, core, tight), strict=True):
                        kept = (arena is not None) == expected
                        counted.enough += kept and expected
                        counted.least += kept and not expected
                        wrong += [] if kept else [(word, name, f"starts with {less} B less: {arena is not None}", used[name])]
                wrong += [(word, name, "the promise is below the pinned", 0) for name in there if promises[name] < costs[name].sram_bytes]
        heads.append(counted.title)
        counts.append(counted)
        print(counted, flush=True)
    columns = "".join(f" {title}: used | pinned | promised |" for title in heads)
    table = [f"| network |{columns}", "|---|" + "--:|--:|--:|" * len(heads), *("".join(row) for row in rows.values())]
    summary = [
        f"| {c.title} | {c.equal} of {c.tried} | {c.refused} | {c.enough} of {len(nets)} | {c.least} of {len(nets)} |" for c in counts
    ]
    text = f"""# The 32-bit arena

Made by `benchmarks/tflm_arena32.py`: {len(nets)} networks (zoo, random of the shipped spaces, public models) and {len(ops)} files of one
operator or a few, set up by TensorFlow Lite for Microcontrollers on emulated cores. "Used" is what its own allocator says, "pinned" the
arena that is promised for that version (what is used, or what setting up needs, on full 16 bytes), "promised" that for all versions
in use on the core. Files of operators that a library does not have, or refuses, are counted as refused.

| library | pinned version equal to the byte | refused | networks that start in the arena pinned | that do not with 16 B less |
|---|--:|--:|--:|--:|
{chr(10).join(summary)}

{chr(10).join(table)}
"""
    (ROOT / "results" / "benchmarks" / "tflm_arena32.md").write_text(text, encoding="utf-8")
    for line in wrong:
        print("WRONG", *line)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ModelFileError as error:
        sys.exit(str(error))
