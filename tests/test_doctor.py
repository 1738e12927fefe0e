"""The doctor finds what is wrong, says the exact remedy, and trains, exports and runs a network for real."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections import namedtuple
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tinynas import doctor
from tinynas.config import shipped
from tinynas.doctor import Check, diagnose, print_checks


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_this_installation_is_well() -> None:
    checks = diagnose(self_test=False)
    assert all(check.ok for check in checks), checks
    json.dumps([check.to_json() for check in checks])
    assert f"{len(shipped('budgets'))} budgets" in named(checks, "shipped files").found


def test_the_self_test_trains_exports_and_runs() -> None:
    started = time.process_time()
    checks = list(doctor._self_test())
    assert time.process_time() - started < 15
    assert [check.name.removeprefix("self-test: ") for check in checks] == [
        "trains",
        "exports",
        "runs on TFLM",
        "arena",
        "loads in LiteRT",
    ]
    assert all(check.ok for check in checks), checks


def test_missing_and_old_packages_get_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "optuna":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name == "torch" else "99.0"

    monkeypatch.setattr(metadata, "requires", lambda _name: ["torch>=2.6,<3", "optuna>=5.0,<6", "numpy>=2", "ruff ; extra == 'dev'"])
    monkeypatch.setattr(metadata, "version", version)
    fault, rest = doctor._packages()
    assert fault.status == "fault"
    assert fault.found == "torch: 1.0 found, optuna: missing"
    assert fault.remedy is not None
    assert "'torch<3,>=2.6' 'optuna<6,>=5.0'" in fault.remedy
    assert rest.found == "numpy 99.0"


def test_missing_extras_are_notes_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _name: None)
    checks = list(doctor._extras())
    assert [check.status for check in checks] == ["note"] * len(doctor.EXTRAS)
    assert all(check.ok for check in checks)
    assert checks[0].remedy is not None
    assert checks[0].remedy.endswith("-m pip install 'tinynas[tensorflow]'")


def test_a_gpu_whose_trainings_take_turns_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 2**33))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    note = named(list(doctor._device()), "sharing")
    assert note.status == "note" and note.remedy == "nvidia-cuda-mps-control -d"
    (tmp_path / "control").touch()
    assert [check.name for check in doctor._device()] == ["device", "threads"]


def test_a_full_disk_and_a_closed_folder_are_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(2**40, 2**40, 1000))
    assert [check.status for check in doctor._disk()] == ["fault", "fault"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    checks = list(doctor._disk())
    assert all(check.status == "fault" and "Permission denied" in check.found for check in checks)
    assert "TINYNAS_CACHE" in (checks[1].remedy or "")


def test_a_check_that_dies_is_a_finding_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        yield Check("first", "ok", "")
        raise ImportError("libfoo.so: cannot open shared object file")

    monkeypatch.setattr(doctor, "_device", broken)
    checks = diagnose(self_test=False)
    fault = next(check for check in checks if not check.ok)
    assert "libfoo.so" in fault.found
    assert "--force-reinstall" in (fault.remedy or "")
    assert named(checks, "first").ok
    assert named(checks, "shipped files").ok


def test_the_printed_list_reads_without_colours() -> None:
    file = io.StringIO()
    checks = [
        Check("a", "ok", "fine"),
        Check("b", "note", "[bold]not there[/bold]", "pip install b"),
        Check("c", "fault", "broken", "mend it"),
    ]
    print_checks(checks, Console(file=file, width=80))
    text = file.getvalue()
    assert "[bold]not there[/bold]" in text
    assert "-> pip install b" in text
    assert text.splitlines()[-1].strip() == "1 fault"
