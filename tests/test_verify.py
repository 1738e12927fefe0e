"""Verify: a model on an emulated core beside its promise; and what it says where something is wanting."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tinynas import api
from tinynas.cli import run
from tinynas.cost.tflite import parse_model
from tinynas.errors import ModelFileError, RunError, UserError
from tinynas.export import verify
from tinynas.export.tflite import dummy_file
from tinynas.export.verify import Verified, resolver_methods
from tinynas.graph import lower
from tinynas.report.terminal import verified_table
from tinynas.target import library
from tinynas.target.library import Tree

GOOD = Verified(
    name="net",
    target="cortex-m4",
    kernels="cmsis-nn",
    tree="/tree",
    compiler="g++",
    emulator="qemu",
    promised_arena_bytes=1000,
    used_arena_bytes=990,
    needed_arena_bytes=1008,
    equal_outputs=4,
    compared_outputs=4,
    not_compared="",
    model_bytes=5000,
    code_bytes=60000,
    instructions=(("CONV_2D", 3000), ("SOFTMAX", 1000)),
    refused="",
)


def test_good_is_what_starts_in_the_promise_with_equal_outputs() -> None:
    assert GOOD.good, "an arena begins and ends on 16 bytes: 1,000 are 1,008"
    assert not replace(GOOD, needed_arena_bytes=1009).good
    assert not replace(GOOD, needed_arena_bytes=None).good
    assert not replace(GOOD, equal_outputs=3).good
    assert not replace(GOOD, refused="prepare: no").good
    assert replace(GOOD, equal_outputs=0, compared_outputs=0, not_compared="two inputs").good


def test_the_table_says_it_all() -> None:
    console = Console(width=100, record=True)
    with console.capture() as capture:
        console.print(verified_table(GOOD.to_json()))
        console.print(verified_table(replace(GOOD, equal_outputs=3).to_json()))
        console.print(verified_table(replace(GOOD, refused="prepare: CONV_2D", instructions=(), compared_outputs=0).to_json()))
    good, bad, refused = capture.get().split("\nnet\n" if capture.get().startswith("\n") else "net\n")[1:]
    assert "1,000 B" in good and "1,008 B" in good and "990 B" in good and "60,000 B" in good
    assert "4 of 4 outputs equal" in good and "75 %" in good and "4,000" in good and "as promised" in good
    assert "3 of 4 outputs equal" in bad and "NOT as promised" in bad
    assert "does not run there: prepare: CONV_2D" in refused and "as promised" not in refused


def test_operators_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = parse_model(dummy_file(lower(api.load_net("mcunet-tiny2"))), "net")
    methods = ["AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddMean", "AddAdd", "AddAveragePool2D", "AddAddN", "AddReshape"]
    monkeypatch.setattr(verify, "operators", lambda *_: tuple(methods))
    found = resolver_methods(file, Tree(tmp_path), tmp_path)
    assert set(found) <= set(methods) and len(found) == len({op.kind for op in file.ops})
    monkeypatch.setattr(verify, "operators", lambda *_: ("AddDepthwiseConv2D",))
    with pytest.raises(ModelFileError, match=r"has no .*CONV_2D"):
        resolver_methods(file, Tree(tmp_path), tmp_path)


def test_what_is_wanting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("TFLM_DIR", raising=False)
    model = tmp_path / "net.tflite"
    model.write_bytes(dummy_file(lower(api.load_net("mcunet-tiny2"))))
    assert run(["verify", str(model)]) == 2
    assert "--tflm" in capsys.readouterr().err
    with pytest.raises(UserError, match="unknown kernels"):
        api.verify(str(model), kernels="fast")
    tree = tmp_path / "tree/tensorflow/lite/micro"
    tree.mkdir(parents=True)
    (tree / "micro_interpreter.h").touch()
    monkeypatch.setattr(library, "COMPILER", "no-such-compiler")
    with pytest.raises(UserError, match=r"no-such-compiler is not installed\n.*apt install gcc-arm-none-eabi"):
        api.verify(str(model), tflm=str(tmp_path / "tree"))
    with pytest.raises(RunError):
        api.verify(str(tmp_path / "no-run"), tflm=str(tmp_path / "tree"))


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["cmsis-nn", "reference"])
def test_a_network_on_an_emulated_cortex_m4(kernels: str, tmp_path: Path) -> None:
    """Builds TFLM for some minutes the first time; TINYNAS_TARGET_CACHE keeps what was built."""
    if shutil.which(library.COMPILER) is None or shutil.which("qemu-system-arm") is None:
        pytest.skip(f"{library.COMPILER} or qemu-system-arm is not installed")
    folder = os.environ.get("TFLM_DIR", str(Path(__file__).parent.parent.parent / "shared" / "tflm"))
    if not Path(folder).is_dir():
        pytest.skip(f"no tree of TFLM at {folder}: set TFLM_DIR")
    model = tmp_path / "net.tflite"
    model.write_bytes(dummy_file(lower(api.load_net("mcunet-tiny2"))))
    with pytest.MonkeyPatch.context() as patch:
        if kept := os.environ.get("TINYNAS_TARGET_CACHE"):
            patch.setenv("TINYNAS_CACHE", kept)
        verified = api.verify(str(model), tflm=folder, kernels=kernels)
    assert verified.good and verified.compared_outputs == 4
    assert verified.used_arena_bytes is not None and 0 <= verified.promised_arena_bytes - verified.used_arena_bytes <= 64
    assert sum(count for _, count in verified.instructions) > 1_000_000
