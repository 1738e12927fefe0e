"""Versions of TFLM in use: the arena of each to the byte where boards were measured, and a promise that is enough for all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cost import archs

from tinynas.arch import Arch
from tinynas.budget import Budget
from tinynas.cost import RUNTIMES, estimate, tail
from tinynas.cost.kernel import aligned
from tinynas.cost.latency import latency_model
from tinynas.cost.memory import file_head_bytes, offline_work
from tinynas.cost.runtimes import pinned_names, runtime_for, runtime_named, runtime_of_tree
from tinynas.cost.tflite import ModelFile, parse_model, read_model
from tinynas.cost.work import from_graph
from tinynas.errors import UserError
from tinynas.export.tflite import dummy_file
from tinynas.graph import lower

#: Arena in use on real boards, in bytes: mcufit-bench's results.jsonl of August 2026 (github.com/avionicharshit-byte/mcufit-bench).
#: ESP32: ESP-IDF 5.5; Nano 33 BLE: the Arduino library Chirale_TensorFLowLite 2.0.0.
BOARDS = {
    "tflite-micro__person_detect": {"tflm@esp32": 82_300, "tflm-esp-nn@esp32": 82_300, "tflm-cmsis-nn@arduino": 82_740},
    "mlcommons-tiny__kws_ref_model": {"tflm-esp-nn@esp32": 22_780, "tflm-cmsis-nn@arduino": 24_164},
    "mlcommons-tiny__pretrainedResnet_quant": {"tflm-esp-nn@esp32": 54_364, "tflm-cmsis-nn@arduino": 55_188},
    "mlcommons-tiny__ad01_int8": {"tflm-esp-nn@esp32": 2_380, "tflm-cmsis-nn@arduino": 2_596},
}
CORE = {"tflm@esp32": "xtensa-lx6", "tflm-esp-nn@esp32": "xtensa-lx6", "tflm-cmsis-nn@arduino": "cortex-m4"}
MODELS = [(name, runtime) for name, runtimes in BOARDS.items() for runtime in runtimes]


def used(file: ModelFile, runtime: str) -> int:
    cost = file.estimate(runtime, core=CORE[runtime])
    return cost.head_bytes + cost.tail_bytes


@pytest.mark.parametrize(("name", "runtime"), MODELS)
def test_the_arena_that_boards_use(name: str, runtime: str, test_data: Path) -> None:
    file = read_model(test_data / "models" / f"{name}.tflite")
    measured = BOARDS[name][runtime]
    assert used(file, runtime) == measured
    for known, core in ((runtime, CORE[runtime]), (runtime.partition("@")[0], CORE[runtime]), (runtime.partition("@")[0], None)):
        assert file.estimate(known, core=core).sram_bytes >= measured


def test_a_byte_in_the_tail_is_seen(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: read_model(test_data / "models" / f"{name}.tflite") for name in BOARDS}
    for field in ("fixed", "node", "eval_tensor", "tensor", "quantization"):
        layouts = {family: replace(layout, **{field: getattr(layout, field) + 1}) for family, layout in tail.LAYOUTS.items()}
        with monkeypatch.context() as changed:
            changed.setattr(tail, "LAYOUTS", layouts)
            assert any(used(files[name], runtime) != BOARDS[name][runtime] for name, runtime in MODELS), field


#: Every core with what runs there, and no core.
ON = [(name, core) for name in ("tflm", "tflm-cmsis-nn") for core in (None, "cortex-m0plus", "cortex-m4", "cortex-m33", "cortex-m55")]
ON += [("tflm", "xtensa-lx7"), ("tflm-esp-nn", "xtensa-lx6"), ("tflm-esp-nn", "xtensa-lx7"), ("tflm-esp-nn", None)]


@settings(max_examples=60, deadline=None)
@given(archs(), st.sampled_from(ON))
def test_the_promise_is_enough_for_every_version(arch: Arch, on: tuple[str, str | None]) -> None:
    name, core = on
    graph = lower(arch)
    promised = estimate(graph, name, core=core)
    runtime = runtime_named(name, core)
    plan = offline_work(from_graph(graph), runtime)
    file = parse_model(dummy_file(graph, plan=plan))
    assert promised.sram_bytes % 16 == 0
    for version in {version for version, _ in runtime.builds}:
        pinned = file.estimate(f"{name}@{version}", core=core)
        assert pinned.sram_bytes <= promised.sram_bytes
        assert pinned.by_version == ((version, pinned.sram_bytes),)
        assert estimate(graph, f"{name}@{version}", core=core).sram_bytes <= promised.sram_bytes
    # The file's plan serves all versions, and its head is the one that was promised.
    heads = [file_head_bytes(file.estimate(name, core=core).work, runtime, file.plan, build) for _, build in runtime.builds]
    assert max(heads) == promised.head_bytes
    whole = file.estimate(name, core=core)
    assert (whole.sram_bytes, whole.by_version, whole.version) == (promised.sram_bytes, promised.by_version, promised.version)
    assert promised.sram_bytes == aligned(max(promised.head_bytes + promised.tail_bytes, promised.setup_bytes))


def test_versions_are_pinned_by_name() -> None:
    assert set(RUNTIMES) < set(pinned_names())
    assert {"tflm@2026-10", "tflm-cmsis-nn@2026-10", "tflm-cmsis-nn@arduino", "tflm-esp-nn@esp32", "tflm-esp-nn@esp32s3"} < set(
        pinned_names()
    )
    assert runtime_named("tflm-cmsis-nn@arduino").plain == "tflm-cmsis-nn"
    with pytest.raises(UserError, match=r"unknown version '2019' of tflm-cmsis-nn\n.*tflm-cmsis-nn@arduino"):
        runtime_named("tflm-cmsis-nn@2019")
    with pytest.raises(UserError, match="stedgeai has no versions"):
        runtime_named("stedgeai@9")
    with pytest.raises(UserError, match="unknown runtime 'tvm@1'"):
        runtime_named("tvm@1")
    assert Budget.model_validate({"name": "x", "sram": "1 MiB", "flash": "1 MiB", "runtime": "tflm-cmsis-nn@arduino"}).runtime.endswith(
        "@arduino"
    )


def test_a_core_decides_which_builds_count() -> None:
    assert runtime_named("tflm-cmsis-nn", "cortex-m4").builds == (("2026-10", "cmsis"), ("arduino", "arduino"))
    assert runtime_named("tflm-cmsis-nn@2026-10", "cortex-m0plus").builds == (("2026-10", "cmsis-plain"),)
    assert runtime_named("tflm", "xtensa-lx6").builds == (("esp32", "esp"),)
    assert runtime_named("tflm").builds == (("2026-10", "mcu"), ("esp32", "esp"))
    assert runtime_named("tflm-cmsis-nn@2026-10", "cortex-m55").builds == (("2026-10", "cmsis-mve"), ("2026-10", "cmsis-mve-speed"))
    assert runtime_named("tflm-esp-nn", "xtensa-lx6").builds == (("esp32", "esp-nn"),)
    assert [name for name, _ in runtime_named("tflm-esp-nn", "xtensa-lx7").builds] == ["esp32", "esp32s3-1.1", "esp32s3-1.2", "esp32s3"]
    assert len(runtime_named("tflm-cmsis-nn").builds) == 7 == len(runtime_named("tflm-cmsis-nn", "xtensa-lx6").builds)
    assert runtime_named("tinyengine", "cortex-m7").builds == ()
    assert [runtime_for(core) for core in ("cortex-m0plus", "xtensa-lx7")] == ["tflm-cmsis-nn", "tflm-esp-nn"]


def test_a_tree_of_sources_has_its_version() -> None:
    assert runtime_of_tree("reference", arduino=False) == "tflm@2026-10"
    assert runtime_of_tree("cmsis-nn", arduino=False) == "tflm-cmsis-nn@2026-10"
    assert runtime_of_tree("cmsis-nn", arduino=True) == "tflm-cmsis-nn@arduino"


def test_a_pinned_version_keeps_its_latency() -> None:
    assert latency_model("cortex-m4", "tflm-cmsis-nn@arduino") is latency_model("cortex-m4", "tflm-cmsis-nn") is not None
    graph = lower(Arch.model_validate({"height": 16, "width": 16, "classes": 2, "stem": {"out": 8}}))
    plain, pinned = (estimate(graph, name, core="cortex-m4", clock_mhz=64.0) for name in ("tflm-cmsis-nn", "tflm-cmsis-nn@arduino"))
    assert plain.latency_ms == pinned.latency_ms is not None
