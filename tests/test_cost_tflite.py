"""Reading .tflite files of others: figures of real models, unknown operators named, broken files refused."""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import re
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tinynas.arch import load_arch
from tinynas.cost import RUNTIMES, estimate, plan_offline
from tinynas.cost.schema import OPERATORS
from tinynas.cost.tflite import parse_model, read_model
from tinynas.errors import ModelFileError, TinynasError
from tinynas.graph import lower

#: Runtimes of .tflite files; compiled code is made of networks.
OF_FILES = sorted(name for name, runtime in RUNTIMES.items() if runtime.frame is None)

ROOT = Path(__file__).parent.parent


def benchmark(name: str) -> ModuleType:
    """A script of benchmarks/, imported."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def models(test_data: Path) -> dict[str, dict[str, str]]:
    with (test_data / "models" / "models.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_macs_sizes_and_constants_of_all_models(test_data: Path) -> None:
    listed = models(test_data)
    assert len(listed) == 22
    for name, row in listed.items():
        model = read_model(test_data / "models" / name)
        cost = model.estimate()
        assert cost.macs == int(row["computed_macs"]), name
        assert cost.flash_bytes == int(row["size_bytes"]), name
        assert model.constant_bytes == int(row["computed_const_bytes"]), name


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("mlcommons-tiny__vww_96_int8", 7_489_664),  # MLPerf Tiny
        ("colabnas__resulting_architecture_k_4_c_5", 656_697),  # ColabNAS README: 657 k
        ("greenwaves-mcunet__mcunet-512kb-2mb_imagenet", 125_874_400),  # MCUNet README: 125.9 M
    ],
)
def test_published_macs(test_data: Path, name: str, macs: int) -> None:
    assert read_model(test_data / "models" / f"{name}.tflite").estimate().macs == macs


def test_head_and_arena_equal_tflite_micro_on_all_models(test_data: Path) -> None:
    pytest.importorskip("tflite_micro")
    measure = benchmark("cost_accuracy").measure
    for name in models(test_data):
        path = test_data / "models" / name
        cost = read_model(path).estimate()
        head, tail = measure(path.read_bytes())
        assert cost.head_bytes == head, name
        assert cost.host_arena_bytes == head + tail, name


@pytest.mark.parametrize(
    ("name", "head", "tail"), [("hey_jarvis", 21_216, 31_920), ("v2_okay_nabu", 4_096, 19_328), ("v2_vad", 1_536, 10_672)]
)
def test_streaming_networks_keep_their_state(name: str, head: int, tail: int, test_data: Path) -> None:
    # ESPHome's wake words: VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE, CALL_ONCE of a second subgraph; figures are tflite-micro's.
    path = test_data / "models" / f"esphome__{name}.tflite"
    cost = read_model(path).estimate()
    assert (cost.head_bytes, cost.host_arena_bytes, cost.runs) == (head, head + tail, True)
    document = json.loads(path.with_suffix(".json").read_text())
    if (set_aside := document["micro"].get("tensor_arena_size")) is not None:  # by their firmware, on another 32-bit core
        assert 0.55 * set_aside < cost.sram_bytes < set_aside


def test_st_published_flash(test_data: Path) -> None:
    for name, flash in benchmark("cost_accuracy").ST_KIB.items():
        assert read_model(test_data / "models" / f"{name}.tflite").constant_bytes == pytest.approx(flash * 1024, abs=80), name


def test_st_published_ram(test_data: Path) -> None:
    errors = []
    for name, (_, published) in benchmark("stedgeai").PUBLISHED.items():
        errors.append(read_model(test_data / "models" / f"{name}.tflite").estimate("stedgeai").sram_bytes / published - 1)
    # As the evidence says.
    assert min(errors) > -0.155 and max(errors) < 0.065
    assert sum(map(abs, errors)) / len(errors) == pytest.approx(0.037, abs=0.0005)


def test_the_rules_for_st_are_those_that_fit_best(test_data: Path) -> None:
    document = benchmark("stedgeai").fit()
    assert document["chosen"] == {"conv": 1, "dw": 0, "dw strided": 1}
    assert all(
        abs(row["held_out_error"]) < 0.16 < row["nothing_shared_error"] or row["nothing_shared_error"] < 0.02
        for row in document["networks"]
    )


def test_tinyengine_pads_inside_its_convolutions(test_data: Path) -> None:
    # TinyEngine's README: 416 kB and 92 kB for these networks, whose files are full of PAD operators.
    for name, kb in (("greenwaves-mcunet__mcunet-512kb-2mb_imagenet", 416), ("wake-vision-zoo__wv_quality_mcunet-5fps_vww", 92)):
        cost = read_model(test_data / "models" / f"{name}.tflite").estimate("tinyengine")
        assert round(cost.sram_bytes / 1024) == kb, name
        assert "pad" not in {row.kind for row in cost.layers}


def own_file(plan: bool = True) -> bytes:
    tflite = pytest.importorskip("tinynas.export.tflite")
    graph = lower(load_arch("mcunet-tiny2"))
    data: bytes = tflite.dummy_file(graph, plan=plan_offline(graph) if plan else None)
    return data


def test_our_own_file_costs_what_its_architecture_was_estimated_at() -> None:
    graph = lower(load_arch("mobilenetv1-0.25"))
    tflite = pytest.importorskip("tinynas.export.tflite")
    for runtime in ("tflm", "tflm-cmsis-nn"):
        planned = parse_model(tflite.dummy_file(graph, plan=plan_offline(graph, runtime)))
        assert planned.plan is not None
        assert planned.estimate(runtime).values() == estimate(graph, runtime).values()
    plain = parse_model(tflite.dummy_file(graph))
    assert plain.plan is None
    assert plain.estimate().head_bytes == 73_728  # as TFLM plans it: more than with our plan


def test_operators_without_a_formula_are_named_and_their_macs_are_at_least(test_data: Path) -> None:
    data = (test_data / "models" / "mlcommons-tiny__ad01_int8.tflite").read_bytes()
    for code, name in ((32, "CUSTOM (without a name)"), (51, "DELEGATE")):
        cost = parse_model(patch_code(data, code)).estimate()
        assert cost.work.uncounted == (name,)
        assert cost.macs == 0
    assert parse_model(data).estimate().work.uncounted == ()


def test_operator_names_are_those_of_the_schema() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for name, number in vars(schema.BuiltinOperator).items():
        if isinstance(number, int) and number < len(OPERATORS):
            assert OPERATORS[number] == name


def patch_code(data: bytes, code: int) -> bytes:
    """The file with its only operator code changed: to what fits into the old field, or else to the new one alone."""
    model = struct.unpack_from("<I", data, 0)[0]
    vtable = model - struct.unpack_from("<i", data, model)[0]
    codes = model + struct.unpack_from("<H", data, vtable + 6)[0]
    vector = codes + struct.unpack_from("<I", data, codes)[0]
    entry = vector + 4 + struct.unpack_from("<I", data, vector + 4)[0]
    table = entry - struct.unpack_from("<i", data, entry)[0]
    changed = bytearray(data)
    size = struct.unpack_from("<H", data, table)[0]
    for field, form in ((0, "<b"), (3, "<i")):
        if 4 + 2 * field < size and (offset := struct.unpack_from("<H", data, table + 4 + 2 * field)[0]):
            struct.pack_into(form, changed, entry + offset, min(code, 127 if form == "<b" else code))
    return bytes(changed)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\0" * 100, b"\xff" * 100, b"\x08\0\0\0TFL3" + b"\0" * 8, b"no model, but long enough"])
def test_what_is_no_tflite_is_refused(data: bytes) -> None:
    with pytest.raises(ModelFileError):
        parse_model(data)


def test_missing_folder_and_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.tflite"):
        with pytest.raises(ModelFileError, match=re.escape(str(path))):
            read_model(path)


def test_the_path_is_in_the_message(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(own_file()[:500])
    with pytest.raises(ModelFileError, match=r"broken\.tflite"):
        read_model(path)


def test_truncated_at_any_length_is_refused_or_read() -> None:
    data = own_file()
    for length in range(0, len(data), 997):
        try:
            parse_model(data[:length]).estimate()
        except TinynasError as error:
            assert isinstance(error, ModelFileError)


@pytest.mark.parametrize("seed", range(10))
def test_corrupted_bytes_never_crash(seed: int) -> None:
    # Anything may come out but a crash: flipped bytes, random 32-bit words, swapped pieces.
    generator = random.Random(seed)
    data = own_file()
    front = 12_000  # the structure lies before the constants
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(generator.choice([1, 1, 3, 20])):
            at = generator.randrange(0, front)
            if generator.random() < 0.5:
                changed[at] = generator.randrange(256)
            else:
                at &= ~3
                changed[at : at + 4] = struct.pack("<I", generator.choice([0, 1, 2**31, 2**32 - 1, generator.randrange(2**32), len(data)]))
        try:
            parse_model(bytes(changed)).estimate(generator.choice(OF_FILES))
        except ModelFileError as error:
            assert error.message
