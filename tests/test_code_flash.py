"""Flash of the runtime's code: the table's reader by hand arithmetic, and the table against programs that are linked here."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tinynas.cost.code_flash import INT8, Column, code_of, columns, general, linked_code, parse_columns, spelled
from tinynas.cost.flash import OP_FORMS
from tinynas.errors import UserError
from tinynas.target.cores import core_named
from tinynas.target.flash import classes_of, kept_parts, link_programs, union_bytes
from tinynas.target.library import Kernels, Library, Tree, compiler_version
from tinynas.target.registrations import INT8_KERNELS, Alone

SHARED = Path(os.environ.get("TINYNAS_TEST_DATA", Path(__file__).parent.parent.parent / "shared/data")).parent


def columned(core: str, runtime: str, version: str, base_bytes: int, firmware_bytes: int, operators: str) -> dict[str, Any]:
    sizes = {"base_bytes": base_bytes, "firmware_bytes": firmware_bytes, "operators": operators}
    return {"core": core, "runtime": runtime, "version": version, "digest": "d", "compiler": "g", **sizes}


# Bits: add is 1, conv2d 2, mean 4.
TABLE = {
    "operators": ["add", "conv2d", "mean"],
    "columns": [
        columned("c1", "r", "new", 1000, 9, "7"),
        columned("c1", "r", "old", 1100, 8, "3"),
        columned("c2", "s", "new", 5000, 7, "1"),
    ],
    "classes": [["1", [10, 20, 1]], ["2", [100, 50, 0]], ["3", [7, 8, 0]], ["4", [40, 0, 0]], ["6", [300, 0, 0]]],
}


def some(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_a_class_counts_once_however_many_of_its_operators_there_are() -> None:
    new, old, other = parse_columns(TABLE)
    assert (new.core, new.runtime, new.version, new.source, new.firmware_bytes) == ("c1", "r", "new", "d, g", 9)
    assert new.bytes_of(some()) == 1000
    assert new.bytes_of(some("add")) == 1000 + 10 + 7
    assert new.bytes_of(some("conv2d")) == 1000 + 100 + 7 + 300
    assert new.bytes_of(some("add", "conv2d")) == 1000 + 10 + 100 + 7 + 300
    assert new.bytes_of(some("add", "conv2d", "mean")) == 1000 + 10 + 100 + 7 + 40 + 300
    assert old.bytes_of(some("add", "conv2d")) == 1100 + 20 + 50 + 8
    assert old.bytes_of(some("mean")) is None and new.bytes_of(some("cos")) is None
    assert other.bytes_of(some("add")) == 5001 and (some("conv2d"), 0) not in other.classes


def test_the_largest_version_is_promised_and_what_was_not_measured_is_a_bound() -> None:
    table = parse_columns(TABLE)

    def found(operators: frozenset[str], name: str, core: str | None) -> tuple[int, int, str]:
        code = linked_code(table, operators, name, core)
        assert code is not None and code.total_bytes == code.runtime_bytes + code.firmware_bytes
        return code.runtime_bytes, code.firmware_bytes, code.evidence

    assert found(some("add"), "r", "c1") == (1128, 8, "fitted")  # old: 1100 + 20 + 8, new: 1017
    assert found(some("add", "conv2d"), "r", "c1") == (1417, 9, "fitted")
    assert found(some("add"), "r@new", "c1") == (1017, 9, "fitted")
    assert found(some("mean"), "r", "c1") == (1340, 9, "fitted")  # the old one has none
    assert found(some("add"), "r", "c2") == (5001, 7, "bound")  # of another runtime: the only one of that core
    assert found(some("add"), "r", "c3") == found(some("add"), "r", None) == (1128, 8, "bound")
    assert found(some("add"), "t", None) == (5001, 7, "bound")
    assert linked_code(table, some("mean"), "r", "c2") is None and linked_code(table, some("cos"), "r", "c1") is None


# Bits: conv2d is 1, conv2dint8 2, add 4. The general kernel takes 300 B and shares 40 B with the one for int8 alone, which takes 90 B.
INT8_TABLE = {
    "operators": ["conv2d", "conv2dint8", "add"],
    "columns": [columned("c1", "r", "new", 1000, 9, "7"), columned("c1", "r", "old", 1200, 9, "5")],
    "classes": [["1", [300, 200]], ["2", [90, 0]], ["3", [40, 0]], ["4", [10, 10]]],
}


def test_kernels_for_int8_alone_are_taken_where_a_version_has_them_and_every_use_is_int8() -> None:
    table = parse_columns(INT8_TABLE)
    new, old = table
    assert new.registered(some("conv2d", "add"), {}) == some("conv2dint8", "add")
    assert new.registered(some("conv2d", "add"), general(["conv2d"])) == some("conv2d", "add")
    assert old.registered(some("conv2d", "add"), {}) == some("conv2d", "add")

    def found(name: str, core: str, mixed: frozenset[str]) -> int:
        code = linked_code(table, some("conv2d", "add"), name, core, general(mixed))
        assert code is not None
        return code.runtime_bytes

    assert found("r@new", "c1", some()) == 1000 + 90 + 40 + 10
    assert found("r@new", "c1", some("add")) == 1140  # the other operator
    assert found("r@new", "c1", some("conv2d")) == 1000 + 300 + 40 + 10
    assert found("r@old", "c1", some()) == found("r", "c1", some()) == 1200 + 200 + 10
    assert (found("s", "c1", some()), found("s@new", "c1", some())) == (1410, 1350)  # of another runtime: as the general kernels


# The same with a kernel for weights of 4 bits alone, of 70 B and 5 B that it shares with the one for int8: conv2dint4 is 8.
INT4_TABLE = {
    "operators": ["conv2d", "conv2dint8", "add", "conv2dint4"],
    "columns": [columned("c1", "r", "new", 1000, 9, "f"), columned("c1", "r", "old", 1200, 9, "7")],
    "classes": [["1", [300, 200]], ["2", [90, 110]], ["3", [40, 0]], ["4", [10, 10]], ["8", [70, 0]], ["a", [5, 0]]],
}


def test_kernels_for_weights_of_4_bits_are_taken_where_a_version_has_them() -> None:
    def found(name: str, *uses: Alone) -> int:
        code = linked_code(parse_columns(INT4_TABLE), some("conv2d", "add"), name, "c1", {"conv2d": frozenset(uses)})
        assert code is not None
        return code.runtime_bytes

    assert found("r@new", "int8") == 1000 + 90 + 40 + 5 + 10
    assert found("r@new", "int4") == 1000 + 70 + 5 + 10
    assert found("r@new", "int4", "int8") == 1000 + 70 + 90 + 40 + 5 + 10
    for other in (("",), ("int4", ""), ("int8", "int4", "")):
        assert found("r@new", *other) == 1000 + 300 + 40 + 10
    # Without such a kernel the general one computes both.
    assert found("r@old", "int8") == 1320 and found("r@old", "int4") == found("r@old", "int8", "int4") == 1410


def test_files_take_the_kernels_that_their_tensors_allow() -> None:
    def size(runtime: str, *mixed: str) -> int:
        code = code_of({"conv", "dw"}, runtime, "cortex-m4", [(kind, "") for kind in mixed])
        assert code is not None
        return code.runtime_bytes

    cmsis = "tflm-cmsis-nn@2026-10"
    assert size(cmsis) + 3_000 < size(cmsis, "conv") and size(cmsis, "conv") + 3_000 < size(cmsis, "conv", "dw")
    assert abs(size("tflm@2026-10") - size("tflm@2026-10", "conv", "dw")) < 100  # the reference kernels are the same


def test_the_shipped_table_holds_every_operator_that_networks_have() -> None:
    kinds = {spelled(kind) for kind in OP_FORMS}
    assert kinds == {spelled(form.builtin) for form in OP_FORMS.values()} and "depthwiseconv2d" in kinds
    table = columns()
    assert {column.core for column in table} >= {"cortex-m4"}
    assert len({(column.core, column.runtime, column.version) for column in table}) == len(table)
    for column in table:
        assert kinds <= column.operators
        assert {spelled(kernel.operator) + INT8 for kernel in INT8_KERNELS.values()} <= column.operators
        assert column.bytes_of(frozenset()) == column.base_bytes
        every = column.bytes_of(column.operators)
        assert every is not None and column.base_bytes < every < 500_000
        assert all(size >= 0 and brought_by <= column.operators for brought_by, size in column.classes)


def test_more_operators_never_take_less() -> None:
    draw = random.Random(0)
    for column in columns():
        names = draw.sample(sorted(column.operators), 12)
        sizes = [column.bytes_of(frozenset(names[:number])) or 0 for number in range(13)]
        assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_generated_code_has_a_figure_of_its_own() -> None:
    engine, edge = code_of({"conv"}, "tinyengine", "cortex-m7"), code_of({"conv", "dw"}, "stedgeai", None)
    assert engine is not None and (engine.runtime_bytes, engine.firmware_bytes, engine.evidence) == (64_000, 0, "bound")
    assert edge is not None and (edge.runtime_bytes, edge.evidence) == (38 * 1024, "bound")
    assert code_of({"conv", "no such operator"}, "tflm", "cortex-m4") is None
    with pytest.raises(UserError, match="unknown runtime"):
        code_of({"conv"}, "tensorrt", None)


# against the linker ------------------------------------------------------------------------------------


def linked_column() -> tuple[Column, Tree, Path]:
    """A column of the table whose tree, compiler and built library are here."""
    cache = os.environ.get("TINYNAS_TARGET_CACHE")
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    if cache is None:
        pytest.skip("TINYNAS_TARGET_CACHE names no cache of built libraries")
    for column in columns():
        place = SHARED / ("tflm" if column.version == "2026-10" else "tflm_arduino")
        if not place.is_dir():
            continue
        tree = Tree.find(place)
        kernels: Kernels = "cmsis-nn" if column.runtime == "tflm-cmsis-nn" else "reference"
        library = Library.of(tree, core_named(column.core), kernels, Path(cache)).file
        if library.is_file() and column.source == f"{tree.digest[:16]}, {compiler_version()}":
            return column, tree, library
    pytest.skip("no library is built of the sources and by the compiler of the table")


def test_promised_flash_is_the_linkers_within_a_percent() -> None:
    """Sets drawn anew: the table was made of single operators."""
    column, tree, library = linked_column()
    core = core_named(column.core)
    methods = {
        spelled(name.removeprefix("Add")): name
        for name in (
            *("AddConv2DInt8", "AddDepthwiseConv2DInt8", "AddFullyConnectedInt8", "AddAddInt8", "AddSoftmaxInt8"),
            *("AddDepthwiseConv2D", "AddMean", "AddPad", "AddLogistic"),
        )
    }
    draw = random.Random(2026)
    sets = [sorted(draw.sample(sorted(methods), size)) for size in (1, 2, 3, 4, 6, 8)]
    programs = link_programs(tree, core, library, [[methods[name] for name in chosen] for chosen in sets])
    for chosen, linked in zip(sets, programs, strict=True):
        promised = column.bytes_of(frozenset(chosen))
        assert promised is not None and abs(promised - linked.flash_bytes) <= 0.01 * linked.flash_bytes, chosen
        assert linked.flash_bytes <= sum(linked.parts.values()) + linked.program_bytes <= 1.01 * linked.flash_bytes


def test_promised_flash_of_the_firmware_folder_is_the_linkers_within_a_percent(tmp_path: Path) -> None:
    from test_firmware import folder, tiny_model

    from tinynas.export.emulated import self_test

    column, tree, library = linked_column()
    model = tiny_model()
    tested = self_test(folder(tmp_path / "c", model), core_named(column.core), tree, library)
    runtime = column.bytes_of(column.registered(some("conv2d", "depthwiseconv2d", "mean", "fullyconnected"), {}))
    assert tested.failed == "" and runtime is not None
    assert abs((runtime + column.firmware_bytes + len(model)) / tested.program_bytes - 1) <= 0.01


def test_parts_of_two_operators_are_the_union_of_their_parts() -> None:
    column, tree, library = linked_column()
    core = core_named(column.core)
    none, conv, mean, both = link_programs(tree, core, library, [[], ["AddConv2D"], ["AddMean"], ["AddConv2D", "AddMean"]])
    # The resolver is a template of the number of operators, and each program destroys its own: their names differ.
    assert {part for part in both.parts if "ILj2E" not in part and "__tcf" not in part} <= set(conv.parts) | set(mean.parts)
    assert {part for part in (*conv.parts, *mean.parts) if "ILj1E" not in part and "__tcf" not in part} <= set(both.parts)
    assert conv.program_bytes - none.program_bytes == mean.program_bytes - none.program_bytes > 0
    classes = classes_of(none, {"conv": conv, "mean": mean})
    assert set(classes) == {frozenset({"conv"}), frozenset({"mean"}), frozenset({"conv", "mean"})}
    assert abs(union_bytes(none.flash_bytes, classes, ["conv", "mean"]) / both.flash_bytes - 1) < 0.005


def test_strings_and_shared_functions_are_counted_once(tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-g++") is None:
        pytest.skip("arm-none-eabi-g++ is not installed")
    from tinynas.target.library import compile_source
    from tinynas.target.probe import link

    core = core_named("m4")
    head = "#include <stdio.h>\ntemplate <int N> __attribute__((noinline)) int twice(int x) { return N * x; }\n"
    texts = {
        "one.cc": head + 'extern "C" int one(int x) { puts("the same words"); puts("of one"); return twice<2>(x); }\n',
        "two.cc": head + 'extern "C" int one(int);\nint main(int n, char**) { puts("the same words"); return one(n) + twice<2>(n + 1); }\n',
        "startup.cc": 'extern "C" { int main(int, char**); void Reset_Handler() { main(1, nullptr); } void _init() {} void _fini() {} }\n',
    }
    objects = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        objects.append(tmp_path / f"{name}.o")
        compile_source(tmp_path / name, objects[-1], (*core.flags, "-ffunction-sections", "-fdata-sections", "-fno-exceptions"))
    link(core, objects, tmp_path / "a.elf", "--specs=nano.specs", f"-Wl,-Map={tmp_path / 'a.map'}")
    parts = kept_parts((tmp_path / "a.map").read_text())
    strings = {part.split(": ", 1)[1]: size for part, size in parts.items() if part.startswith("string")}
    assert strings["the same words"] >= 15 and "of one" in strings and list(strings).count("the same words") == 1
    assert [part for part in parts if "twice" in part] == [".text._Z5twiceILi2EEii"]
    assert {"one.cc.o(): .text.one"} <= set(parts) and any(part.startswith("two.cc.o(): .text.") for part in parts)
