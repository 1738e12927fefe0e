"""benchmarks/faults.py: what it calls lost."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "faults.py"


@pytest.fixture(scope="module")
def faults() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_faults", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmark_faults"] = module
    spec.loader.exec_module(module)
    return module


def _run(folder: Path, trials: list[dict[str, Any]], times: list[tuple[str, int]]) -> Path:
    folder.mkdir()
    (folder / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    (folder / "times.jsonl").write_text("".join(json.dumps({"id": id, "epochs": epochs}) + "\n" for id, epochs in times))
    return folder


def test_what_is_lost_is_seen(faults: Any, tmp_path: Path) -> None:
    trials = [{"number": n, "id": f"net{n}", "state": "trained", "scores": {"accuracy": n / 10}} for n in range(faults.NETWORKS)]
    times = [(trial["id"], 1) for trial in trials]
    whole = _run(tmp_path / "whole", [*trials, {"number": 9, "id": "no", "state": "infeasible"}], times)
    before = faults.networks(whole)
    assert len(before) == faults.NETWORKS
    assert faults.losses(whole, before) == []
    assert faults.losses(_run(tmp_path / "short", trials[1:], times), before) == [
        "network 0 is lost",
        f"{faults.NETWORKS - 1} of {faults.NETWORKS} networks are trained",
    ]
    other = _run(tmp_path / "other", [*trials, {**trials[2], "scores": {"accuracy": 0.9}}], times)
    assert faults.losses(other, before) == ["network 2 has another record"]
    assert faults.losses(_run(tmp_path / "twice", trials, [*times, times[0]]), before) == ["net0 was trained 2 times"]


def test_the_table_counts_and_names_what_was_wrong(faults: Any) -> None:
    rows = [
        faults.Row("kill", 0, "search 1, all", 0.5, True, 3, [-9, 0]),
        faults.Row("kill", 1, "search 1, all", 0.7, False, 1, [0], ["network 0 is lost", "internal error: oh"]),
        faults.Row("disk", 0, "tmpfs, 1 worker", 64.0, True, 2, [2, 0]),
    ]
    page = faults.page(rows, {"seed": 1, "tinynas": "0", "machine": "m"})
    assert "| kill: search 1, all | 2 | 1 | 4 | 1 | 1 | 1 |" in page
    assert "| **all** | 3 | 2 | 6 | 1 | 1 | 1 |" in page
    assert "- kill 1 (search 1, all, 0.7, codes [0]): network 0 is lost" in page
    assert "Disks of 64 to 64 KiB: 64." in page


def test_a_command_that_says_or_ends_wrongly_is_seen(faults: Any, tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text("internal error: KeyError")
    command = faults.Command(1, said, 0.0, code=1)
    found = faults.wrong(command, [0, 2])
    assert [fault.split(":")[0] for fault in found] == ["internal error", "exit code 1, not 0 or 2"]
    said.write_text("all is well")
    assert faults.wrong(faults.Command(1, said, 0.0, code=0), [0]) == []
