"""Flash of TFLM's code by operator: makes the package's table, and holds what it promises against linked programs.

Every resolver method of a tree is linked alone, then sets of them are linked that the table has not seen: those of public networks, sets
drawn from what networks use, and sets drawn from everything. Needs the GNU tool chain for Arm and libraries that
tinynas.target.library has built into --cache; what is not built there is left out by name, unless --build is given. A column whose
sources are those of the table's is kept.

    python benchmarks/flash_table.py 2026-10=PATH arduino=PATH --cache FOLDER
                    writes tinynas/cost/code_flash.json and results/benchmarks/flash_table.{json,md}

Does not show other compilers, other levels of optimization, other C libraries than newlib-nano, or link-time optimization. What a board's
own start-up, drivers and log take is the application's.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tinynas.cost.code_flash import Column, general, linked_code, parse_columns, spelled  # noqa: E402
from tinynas.target.cores import CORES, Core  # noqa: E402
from tinynas.target.flash import Linked, classes_of, compile_all, compile_programs, link_program, program_name  # noqa: E402
from tinynas.target.library import KERNELS, Kernels, Library, Tree, build_library, compiler_version  # noqa: E402
from tinynas.target.probe import _SOURCES, operators  # noqa: E402
from tinynas.target.registrations import BOTH, INT4, INT4_KERNELS, INT8, INT8_KERNELS, split  # noqa: E402

TABLE = ROOT / "tinynas/cost/code_flash.json"
RESULTS = ROOT / "results/benchmarks"
RUNTIMES: dict[Kernels, str] = {"reference": "tflm", "cmsis-nn": "tflm-cmsis-nn"}
#: (runtime, version) of which there should be a column for each core that budgets know.
COLUMNS = (("tflm", "2026-10"), ("tflm-cmsis-nn", "2026-10"), ("tflm-cmsis-nn", "arduino"))
#: What was measured on boards by others.
OTHERS = (
    ("Nano 33 BLE, Arduino library", "84.5 kB", "tflm-cmsis-nn@arduino", "cortex-m4"),
    ("ESP32, esp-nn", "114.6 kB", "tflm-esp-nn", "xtensa-lx6"),
)
PUBLIC = ("add", "avg_pool", "conv", "dw", "fc", "reshape", "softmax")
#: Operators of networks that people flash; the last is what networks of tinynas may hold.
NETWORKS = {
    "person_detect": "AveragePool2D Conv2D DepthwiseConv2D Reshape Softmax",
    "keyword spotting": "AveragePool2D Conv2D DepthwiseConv2D FullyConnected Reshape Softmax",
    "resnet": "Add AveragePool2D Conv2D FullyConnected Reshape Softmax",
    "ad01": "FullyConnected",
    "tinynas, inverted residuals": "Add Conv2D DepthwiseConv2D FullyConnected Mean",
    "tinynas, everything": "Add AveragePool2D Conv2D DepthwiseConv2D FullyConnected MaxPool2D Mean Mul",
}
USUAL = (
    "Add AveragePool2D Concatenation Conv2D DepthwiseConv2D Dequantize FullyConnected HardSwish LeakyRelu Logistic MaxPool2D Mean Mul Pad "
    "Quantize Relu Relu6 Reshape Softmax StridedSlice Sub Transpose"
)


def drawn(names: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """The sets that are held against the table, by name; ``names`` are the methods of the resolver."""
    draw = random.Random(seed)
    general = {name: [f"Add{one}" for one in text.split()] for name, text in NETWORKS.items()}
    sets = {name: [_int8(one) for one in chosen] for name, chosen in general.items()}
    sets |= {f"{name}, general kernels": chosen for name, chosen in general.items()}
    usual = [f"Add{one}" for one in USUAL.split()]
    sets |= {f"usual {number}": sorted(map(_int8, draw.sample(usual, draw.randint(2, 12)))) for number in range(1, 11)}
    sets |= {f"any {number}": sorted(draw.sample(sorted(names), draw.randint(1, 14))) for number in range(1, 11)}
    found = {name: [one for one in chosen if one in names] for name, chosen in sets.items()}
    for end, words in ((INT4, "weights of 4 bits"), (BOTH, "weights of 8 and 4 bits")):
        for name in ("tinynas, inverted residuals", "tinynas, everything"):
            methods = [one + end if one in INT4_KERNELS else _int8(one) for one in general[name]]
            if all(set(_parts(one)) <= set(names) for one in methods):
                found[f"{name}, {words}"] = methods
    return found


def _parts(method: str) -> list[str]:
    """The methods whose kernels ``method`` registers, in the table's terms."""
    plain, end = split(method)
    return [plain + INT8, plain + INT4] if end == BOTH else [method]


def _int8(method: str) -> str:
    """``method``, with the kernel for int8 alone where there is one."""
    return method + INT8 * (method in INT8_KERNELS)


def firmware_bytes(tree: Tree, core: Core, library: Path, folder: Path, probe: Linked) -> dict[str, int]:
    """What the programs of the firmware folder take beside the least program with the same operators, model and test images left out."""
    from test_firmware import folder as write_folder  # what every export writes around a model of four operators
    from test_firmware import tiny_model

    model = tiny_model()
    c = write_folder(folder / "c", model)
    sources = [path for path in sorted(c.glob("*.cc")) if not path.stem.endswith("_main")]
    shared = compile_all(tree, core, library, [*sources, _SOURCES / "startup.cc"], c)
    images = 2 * (3 * 12 * 16 + 3)
    found = {}
    for main, stored in (("example_main", 0), ("self_test_main", images)):
        (program,) = compile_all(tree, core, library, [c / f"{main}.cc"], c)
        linked = link_program(core, [*shared, program, library], c / f"{main}.elf")
        found[main.removesuffix("_main")] = linked.flash_bytes - probe.flash_bytes - len(model) - stored
    return found


def measure(label: str, tree: Tree, core: Core, libraries: Mapping[Kernels, Path]) -> list[dict[str, Any]]:
    """The rows of ``core`` for each kind of kernels: what is linked without operators, for each alone, and for the drawn sets."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        by_kernels = {kernels: _methods(tree, library) for kernels, library in libraries.items()}
        names = sorted(set().union(*by_kernels.values()))
        sets = drawn(names)
        of_folder = ["AddConv2DInt8", "AddDepthwiseConv2DInt8", "AddMean", "AddFullyConnectedInt8"]
        programs = [[], *[[name] for name in names], *sets.values(), of_folder]
        for kernels, library in libraries.items():
            objects = compile_programs(tree, core, library, programs, folder)

            def linked(number: int, library: Path = library, objects: Sequence[Path] = objects) -> Linked:
                return link_program(core, [*objects, library], folder / "program.elf", program_name(number))

            base = linked(0)
            alone = {name: linked(1 + number) for number, name in enumerate(names) if name in by_kernels[kernels]}
            firmware = firmware_bytes(tree, core, library, folder, linked(len(programs) - 1))
            print(f"{core.name} {RUNTIMES[kernels]} ({label}): {len(alone)} operators, firmware {firmware}", flush=True)
            classes = classes_of(base, alone)
            truth = {
                name: linked(1 + len(names) + number).flash_bytes
                for number, (name, chosen) in enumerate(sets.items())
                if {part for one in chosen for part in _parts(one)} <= set(alone)
            }
            rows.append(
                {
                    "core": core.name,
                    "runtime": RUNTIMES[kernels],
                    "version": label,
                    "digest": tree.digest[:16],
                    "compiler": compiler_version(),
                    "base_bytes": base.flash_bytes,
                    "firmware_bytes": max(firmware.values()),
                    "operators": sorted(_plain(name) for name in alone),
                    "classes": {" ".join(sorted(map(_plain, names))): size for names, size in classes.items()},
                    "sets": {
                        name: [sorted(_plain(part) for one in sets[name] for part in _parts(one)), size] for name, size in truth.items()
                    },
                }
            )
    return rows


def _methods(tree: Tree, library: Path) -> tuple[str, ...]:
    """The resolver's methods, and those for int8 alone, and for weights of 4 bits alone where the tree has any."""
    found = operators(tree, library)
    headers = "".join(path.read_text(encoding="utf-8") for path in sorted((tree.path / "tensorflow/lite/micro/kernels").glob("*.h")))
    narrow = [name for name in found if name in INT4_KERNELS and f"Register_{INT8_KERNELS[name].operator}_INT4(" in headers]
    return (*found, *(f"{name}{INT8}" for name in found if name in INT8_KERNELS), *(f"{name}{INT4}" for name in narrow))


def _plain(method: str) -> str:
    return spelled(method.removeprefix("Add"))


def table_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The package's file: operators, columns, and classes as bits with the bytes of each column."""
    names = sorted({name for row in rows for name in row["operators"]})
    number = {name: at for at, name in enumerate(names)}

    def bits(members: Sequence[str]) -> str:
        return f"{sum(1 << number[name] for name in members):x}"

    sets: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        for members, size in row["classes"].items():
            sets.setdefault(bits(members.split()), [0] * len(rows))[at] = size
    keep = ("core", "runtime", "version", "digest", "compiler", "base_bytes", "firmware_bytes")
    columns = [{**{key: row[key] for key in keep}, "operators": bits(row["operators"])} for row in rows]
    return {"operators": names, "columns": columns, "classes": sorted([one, sizes] for one, sizes in sets.items())}


def text_of(document: Mapping[str, Any]) -> str:
    """JSON with a line for each column and class."""
    lines = [f'"operators": {json.dumps(document["operators"])}']
    for key in ("columns", "classes"):
        lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(one, separators=(",", ":")) for one in document[key]) + "\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _ours(table: Sequence[Column], runtime: str, core: str) -> str:
    kinds = frozenset(map(spelled, PUBLIC))
    code = linked_code(table, kinds, runtime, core, general(kinds))
    assert code is not None
    return f"{code.runtime_bytes / 1000:.1f} + {code.firmware_bytes / 1000:.1f} kB ({code.evidence})"


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of promised and linked bytes."""
    there = {(row["core"], row["runtime"], row["version"]) for row in rows}
    wanted = [(core, *one) for core in CORES if core != "cortex-m3" for one in COLUMNS]
    missing = [f"{core} {runtime} ({version})" for core, runtime, version in wanted if (core, runtime, version) not in there]
    table = parse_columns(table_of(rows))
    worst, cells, count = 0.0, [], 0
    head = ["operators"]
    head += [f"{row['core'].removeprefix('cortex-')} {row['runtime']} ({row['version']})" for row in rows]
    names = list(dict.fromkeys(name for row in rows for name in row["sets"]))
    least = 0.0
    for name in names:
        line = [name if name.startswith("any") else f"{name} ({max(len(row['sets'][name][0]) for row in rows if name in row['sets'])})"]
        for row, column in zip(rows, table, strict=True):
            if name not in row["sets"]:
                line.append("–")
                continue
            chosen, linked = row["sets"][name]
            promised = column.bytes_of(frozenset(chosen))
            assert promised is not None
            error = promised / linked - 1
            worst, least, count = max(worst, abs(error)), min(least, error), count + 1
            line.append(f"{promised:,} / {linked:,} ({error:+.2%})")
        cells.append(line)
    lines = [
        "# Flash of TFLM's code",
        "",
        "Made by `benchmarks/flash_table.py`: bytes promised by `tinynas/cost/code_flash.json` / bytes that the linker made (code,",
        "constants, first content of variables) of the least program with a set of operators, without its model. The table was made of",
        "programs with one operator each and has seen none of these sets. Sets called any are drawn from all that a tree's resolver has,",
        "so they differ between the trees; behind the others stands their number of operators. They are added as the firmware folder does:",
        "with kernels for int8 alone where a version has them. Those called general add what `resolver.AddConv2D()` does by itself.",
        "",
        f"**{count} programs: worst error {worst:.2%}, furthest below {least:+.2%}.**",
        f"Left out because no library was built: {', '.join(missing) if missing else 'nothing'}.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" + "|--:" * len(rows) + "|",
        *["| " + " | ".join(line) + " |" for line in cells],
        "",
        "| | " + " | ".join(head[1:]) + " |",
        "|---" + "|--:" * len(rows) + "|",
        "| without operators | " + " | ".join(f"{row['base_bytes']:,}" for row in rows) + " |",
        "| firmware folder beside it | " + " | ".join(f"{row['firmware_bytes']:,}" for row in rows) + " |",
        "| operators | " + " | ".join(str(len(row["operators"])) for row in rows) + " |",
        "| digest of the sources | " + " | ".join(row["digest"][:8] for row in rows) + " |",
        "",
        f"Compiler: {', '.join(sorted({row['compiler'] for row in rows}))}; interpreter -Os, kernels -O2, newlib-nano, a section for each",
        "function, --gc-sections. What is promised is a sum over parts. Functions that several objects define and strings that several",
        "hold are counted once; strings that end alike, which a linker merges too, are counted twice, and sections are rounded up to",
        "their alignment: hence the small excess.",
        "",
        "Beside it what others measured (mcufit_bench, decimal kB; for its four networks the operators ADD, AVERAGE_POOL_2D, CONV_2D,",
        "DEPTHWISE_CONV_2D, FULLY_CONNECTED, RESHAPE and SOFTMAX are taken here, with general kernels as their programs add them):",
        "",
        "| | measured by others | promised here: runtime + firmware folder |",
        "|---|--:|--:|",
        *[f"| {name} | {theirs} | {_ours(table, runtime, core)} |" for name, theirs, runtime, core in OTHERS],
        "",
        "No Xtensa compiler was at hand: Espressif's chips get the largest of the figures of the same runtime, or of all, on Arm: a",
        "bound, not a measurement. So does a core of which no library was built.",
        "",
        "Does not show other compilers, other levels of optimization, other C libraries, or link-time optimization; nor what a",
        "board's own start-up, drivers and log take.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure what is built and write the table; 1 where a promise is off by more than 1 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", metavar="NAME=PATH")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/tinynas")
    parser.add_argument("--again", action="store_true", help="measure also where the sources are those of the table")
    parser.add_argument("--build", action="store_true", help="build the libraries that are missing: minutes each")
    options = parser.parse_args()
    stored = RESULTS / "flash_table.json"
    rows: list[dict[str, Any]] = json.loads(stored.read_text(encoding="utf-8"))["rows"] if stored.is_file() else []
    for given in options.trees:
        label, _, path = given.partition("=")
        tree = Tree.find(path)
        for core in CORES.values():
            libraries: dict[Kernels, Path] = {}
            for kernels in KERNELS:
                if tree.arduino and kernels == "reference":
                    continue
                key = (core.name, RUNTIMES[kernels], label)
                if not options.again and any(
                    (row["core"], row["runtime"], row["version"]) == key and row["digest"] == tree.digest[:16] for row in rows
                ):
                    continue
                library = Library.of(tree, core, kernels, options.cache).file
                if options.build:
                    library = build_library(tree, core, kernels, options.cache)
                if library.is_file():
                    libraries[kernels] = library
            if libraries:
                fresh = measure(label, tree, core, libraries)
                made = {(row["core"], row["runtime"], row["version"]) for row in fresh}
                rows = [row for row in rows if (row["core"], row["runtime"], row["version"]) not in made] + fresh
    order = {name: at for at, name in enumerate(CORES)}
    rows.sort(key=lambda row: (order[row["core"]], row["version"] != "2026-10", row["runtime"]))
    TABLE.write_text(text_of(table_of(rows)), encoding="utf-8")
    stored.write_text(json.dumps({"rows": rows}, separators=(",", ":")) + "\n", encoding="utf-8")
    text = report(rows)
    (RESULTS / "flash_table.md").write_text(text, encoding="utf-8")
    print(text)
    table = parse_columns(table_of(rows))
    return int(
        any(
            abs((column.bytes_of(frozenset(chosen)) or 0) / linked - 1) > 0.01
            for row, column in zip(rows, table, strict=True)
            for chosen, linked in row["sets"].values()
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
