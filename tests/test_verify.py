"""Verify: a model on an emulated core beside its promise; and what it says where something is wanting."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rich.console import Console

from tinynas import api
from tinynas.cli import run
from tinynas.cost.tflite import parse_model
from tinynas.errors import DiskError, ModelFileError, RunError, UserError
from tinynas.export import verify
from tinynas.export.emulated import SelfTested, folder_digest, folder_model
from tinynas.export.firmware import write_firmware
from tinynas.export.tflite import dummy_file
from tinynas.export.verify import Verified, resolver_methods, still_verified, verify_model
from tinynas.graph import lower
from tinynas.records import _Verified as _VERIFIED
from tinynas.records import wrong
from tinynas.report.terminal import verified_table
from tinynas.runs import Run
from tinynas.target import emulator, library
from tinynas.target.cores import CORES
from tinynas.target.library import Library, Tree

if TYPE_CHECKING:
    from thin_tflm import Emulated

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
    promised_flash_bytes=5000,
    model_bytes=5000,
    code_bytes=60000,
    instructions=(("CONV_2D", 3000), ("SOFTMAX", 1000)),
    refused="",
    firmware=SelfTested("d1", arena_bytes=1520, used_arena_bytes=990, images=2, equal_images=2, program_bytes=66_000, failed=""),
    folder="net/c",
    promised_code_bytes=60_000,
    promised_program_bytes=65_400,
)
FAILED = replace(GOOD.firmware, equal_images=1, failed="m self-test: FAIL") if GOOD.firmware else None


def test_good_is_what_starts_in_the_promise_with_equal_outputs() -> None:
    assert GOOD.good, "an arena begins and ends on 16 bytes: 1,000 are 1,008"
    assert not replace(GOOD, needed_arena_bytes=1009).good
    assert not replace(GOOD, needed_arena_bytes=None).good
    assert not replace(GOOD, equal_outputs=3).good
    assert not replace(GOOD, refused="prepare: no").good
    assert replace(GOOD, equal_outputs=0, compared_outputs=0, not_compared="two inputs").good
    assert not replace(GOOD, firmware=FAILED).good
    assert replace(GOOD, firmware=None, no_firmware="reads features").good
    worst = replace(GOOD, needed_arena_bytes=1100, equal_outputs=1, firmware=FAILED)
    assert worst.problems == [
        "1,000 B of arena were promised, and it needs 1,100 B to start",
        "3 of 4 outputs differ from tflite-micro's on this computer",
        "the firmware's self-test fails: m self-test: FAIL",
    ]


def test_flash_over_one_percent_above_the_promise_is_said_and_breaks_nothing() -> None:
    """66,000 B of program: 65,347 and 1 % are 66,000.47, 65,346 and 1 % are 65,999.46."""
    assert replace(GOOD, promised_program_bytes=65_347).notes == []
    assert replace(GOOD, promised_program_bytes=None, promised_code_bytes=None).notes == []
    off = replace(GOOD, promised_program_bytes=65_346, promised_code_bytes=50_000)
    why = " (messages hold the paths of TFLM's sources: a tree in a long path takes more)"
    assert off.good and off.notes == [
        f"60,000 B of code of TFLM and its kernels are linked, 20.0 % more than the 50,000 B promised{why}",
        f"66,000 B of flash in all are linked, 1.0 % more than the 65,346 B promised{why}",
    ]
    assert replace(off, firmware=None).notes == off.notes[:1]
    assert off.to_json()["notes"] == off.notes and wrong(_VERIFIED, json.loads(json.dumps(off.to_json()))) is None


def test_the_table_says_it_all() -> None:
    console = Console(width=100, record=True)
    with console.capture() as capture:
        console.print(verified_table(GOOD.to_json()))
        console.print(verified_table(replace(GOOD, equal_outputs=3).to_json()))
        console.print(verified_table(replace(GOOD, refused="prepare: CONV_2D", instructions=(), compared_outputs=0).to_json()))
        console.print(verified_table(replace(GOOD, firmware=FAILED).to_json()))
        console.print(verified_table(replace(GOOD, firmware=None, no_firmware="reads features").to_json()))
        console.print(verified_table(replace(GOOD, promised_program_bytes=60_000).to_json()))
    good, bad, refused, failed, alone, larger = capture.get().split("\nnet\n" if capture.get().startswith("\n") else "net\n")[1:]
    assert "1,000 B" in good and "1,008 B" in good and "990 B" in good and "60,000 B" in good
    assert "4 of 4 outputs equal" in good and "75 %" in good and "4,000" in good and "as promised" in good
    assert "3 of 4 outputs equal" in bad and "NOT as promised" in bad
    assert "does not run on the emulated cortex-m4: prepare: CONV_2D" in refused and "as promised" not in refused.replace("NOT as", "")
    assert "(net/c) passes its self-test: 2 of 2 inputs equal" in good and "1,520 B" in good and "66,000 B" in good
    assert "(net/c) FAILS its self-test" in failed and "NOT as promised: the firmware's self-test fails: m self-test: FAIL" in failed
    assert "no firmware was built, the file alone was run: reads features" in alone and "self-test" not in alone
    assert re.search(r"all that is linked\W+65,400 B\W+66,000 B", good) and "note:" not in good
    assert "note: 66,000 B of flash in all are linked, 10.0 % more than the 60,000 B promised" in larger and "as promised" in larger


def test_operators_are_found_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = parse_model(dummy_file(lower(api.load_net("mcunet-tiny2"))), "net")
    methods = ["AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected", "AddMean", "AddAdd", "AddAveragePool2D", "AddAddN", "AddReshape"]
    monkeypatch.setattr(verify, "operators", lambda *_: tuple(methods))
    found = resolver_methods(file, Tree(tmp_path), tmp_path)
    assert set(found) == {"AddConv2DInt8", "AddDepthwiseConv2DInt8", "AddFullyConnectedInt8", "AddMean", "AddAddInt8"}
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


def test_a_first_build_is_announced_and_tools_are_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """272 sources of 1.6 core-seconds on two cores are 3.6 minutes; objects that are there are not counted."""
    sources = tuple(tmp_path / f"{number}.cc" for number in range(272))
    wanted = Library(Tree(tmp_path), CORES["cortex-m4"], "cmsis-nn", sources, (), tmp_path)
    assert "272 sources, about 4 minutes with 2 compilers" in verify._first_time(wanted, 2)
    for source in sources[:200]:
        wanted.object_of(source).touch()
    assert "72 sources, about 1 minute with 2 compilers" in verify._first_time(wanted, 2)
    # The emulator is missing while the compiler is there: said before anything is built.
    model = tmp_path / "net.tflite"
    model.write_bytes(dummy_file(lower(api.load_net("mcunet-tiny2"))))
    tree = tmp_path / "tree/tensorflow/lite/micro"
    tree.mkdir(parents=True)
    (tree / "micro_interpreter.h").touch()
    monkeypatch.setattr(emulator, "EMULATOR", "no-such-emulator")
    monkeypatch.setattr(library, "compiler_version", lambda: "g++")
    with pytest.raises(UserError, match=r"no-such-emulator is not installed\n.*qemu-system-arm"):
        api.verify(str(model), tflm=str(tmp_path / "tree"))
    monkeypatch.setattr(verify, "emulator_version", lambda: "qemu")
    with pytest.raises(UserError, match=r"has no CMSIS-NN kernels\n.*--kernels reference"):
        api.verify(str(model), tflm=str(tmp_path / "tree"))


def test_a_broken_file_is_said_before_anything_is_built(tmp_path: Path) -> None:
    model = dummy_file(lower(api.load_net("mcunet-tiny2")))
    with pytest.raises(ModelFileError):
        verify.verify_model(model[: len(model) // 2], "net", CORES["cortex-m4"], Tree(tmp_path), "cmsis-nn", tmp_path)
    assert not any(tmp_path.iterdir())


def small_network() -> bytes:
    return dummy_file(lower(api.load_space("tiny").decode((0,) * len(api.load_space("tiny").genes), 2)))


@pytest.mark.xdist_group("target")
@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["at once", "as users build it"])
def test_a_network_and_its_firmware_on_an_emulated_cortex_m4(
    emulated: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], apart: bool
) -> None:
    thin = emulated("newest", apart=apart)
    monkeypatch.setenv("TINYNAS_CACHE", str(thin.kept))
    model = tmp_path / "net.tflite"
    model.write_bytes(small_network())
    assert run(["verify", str(model), "--tflm", str(thin.tree.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["good"] and found["problems"] == [] and found["compared_outputs"] == found["equal_outputs"] == 4
    firmware = found["firmware"]
    assert firmware["failed"] == "" and firmware["images"] == firmware["equal_images"] == 2
    assert firmware["used_arena_bytes"] == found["used_arena_bytes"] <= found["promised_arena_bytes"] < firmware["arena_bytes"]
    assert found["model_bytes"] == found["promised_flash_bytes"] == model.stat().st_size
    # Flash as it was promised, within 1 % either way; compiled at once, within 4 %.
    # The firmware's own code is little: quantizer, classifier, resolver.
    assert 0 < firmware["program_bytes"] - found["model_bytes"] - found["code_bytes"] < 6_000
    close = 0.01 if apart else 0.04
    assert (found["notes"] == []) == (found["code_bytes"] <= 1.01 * found["promised_code_bytes"])
    assert found["promised_code_bytes"] == pytest.approx(found["code_bytes"], rel=close)
    assert found["promised_program_bytes"] == pytest.approx(firmware["program_bytes"], rel=close)
    ops = [row["op"] for row in found["instructions"]]
    assert ops == [op.kind for op in parse_model(model.read_bytes()).ops]
    assert sum(row["instructions"] for row in found["instructions"]) > 100_000
    assert wrong(_VERIFIED, found) is None


@pytest.mark.xdist_group("target")
def test_a_model_that_no_firmware_holds_is_run_alone(emulated: Emulated, test_data: Path) -> None:
    """MLPerf Tiny's autoencoder reads no image."""
    thin = emulated("newest")
    path = test_data / "models" / "mlcommons-tiny__ad01_int8.tflite"
    found = verify_model(path.read_bytes(), "ad01", thin.core, thin.tree, thin.kernels, thin.kept)
    assert found.firmware is None and "input" in found.no_firmware
    assert found.good and {op for op, _ in found.instructions} == {"FULLY_CONNECTED"}


@pytest.mark.xdist_group("target")
def test_a_folder_of_another_model_is_refused(emulated: Emulated, tmp_path: Path) -> None:
    thin = emulated("newest")
    model, other = small_network(), dummy_file(lower(api.load_net("mcunet-tiny2")))
    write_firmware(tmp_path / "c", other, labels=["a", "b"], images=np.zeros((2, 48, 48, 3), np.uint8))
    with pytest.raises(ModelFileError, match=r"holds another model than net"):
        verify_model(model, "net", thin.core, thin.tree, thin.kernels, thin.kept, folder=tmp_path / "c")


def test_what_was_verified_stays_with_the_same_firmware(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "classifier.h").write_text("a")
    assert GOOD.firmware is not None
    now = replace(GOOD, firmware=replace(GOOD.firmware, digest=folder_digest(tmp_path / "c"))).to_json()
    assert still_verified({"verified": now}, tmp_path / "c") == now
    assert still_verified({}, tmp_path / "c") is None
    assert still_verified({"verified": now}, tmp_path / "none") is None
    (tmp_path / "c" / "classifier.h").write_text("b")
    assert still_verified({"verified": now}, tmp_path / "c") is None
    alone = replace(GOOD, firmware=None, folder="", no_firmware="reads features").to_json()
    assert still_verified({"verified": alone}, tmp_path / "none") == alone
    assert still_verified({"verified": alone}, tmp_path / "c") is None


# promote --verify -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(stripes: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from search_runs import budget, small_search

    limits = budget().model_copy(update={"runtime": "tflm-cmsis-nn"})
    one = small_search(stripes, tmp_path_factory.mktemp("verify") / "run", limits=limits, trials=4, timeout=None)
    one.go()
    return one.run


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Verified]:
    """What the emulated core is said to find, the next first; the folder's digest is the real one."""
    answers: list[Verified] = []

    def prepare(target: str, tflm: str | None, kernels: str) -> Any:
        def check(path: Path, folder: Path | None, **_: Any) -> Verified:
            answer = answers.pop(0)
            assert folder is not None and answer.firmware is not None and folder_model(folder) == path.read_bytes()
            firmware = replace(answer.firmware, digest=folder_digest(folder))
            return replace(answer, firmware=firmware, folder=str(folder), target=target, kernels=kernels)

        return check

    monkeypatch.setattr(api, "_prepare_checks", prepare)
    return answers


def promote(run_: Run, *more: str) -> int:
    return run(["promote", str(run_.path), "best", "--epochs", "1", *more])


def test_promote_verifies_and_says_so_everywhere(searched: Run, found: list[Verified], capsys: pytest.CaptureFixture[str]) -> None:
    found += [replace(GOOD, promised_program_bytes=60_000), replace(GOOD, needed_arena_bytes=2000)]
    assert promote(searched, "--verify", "cortex-m7", "--kernels", "reference") == 0
    said = capsys.readouterr().out
    assert "the run's budget is for tflm-cmsis-nn: the firmware's arena may be too small for reference kernels" in said
    assert "verified: emulated cortex-m7, reference kernels: 1,008 B of arena to start, 1,000 promised, 4 of 4 outputs equal" in said
    net_id = searched.best
    record = searched.artifact(net_id)
    assert record is not None and record.report["verified"]["good"] and record.report["verified"]["target"] == "cortex-m7"
    card = (searched.net_dir(net_id) / "MODEL_CARD.md").read_text()
    assert "## On an emulated cortex-m7" in card and "PASS, 2 of 2 inputs equal bit for bit" in card and "| 4,000 |" in card
    assert "1,008 B" in card and "| not measured |" not in card
    note = "66,000 B of flash in all are linked, 10.0 % more than the 60,000 B promised"
    assert "66,000 B (64.5 KiB), 60,000 B (58.6 KiB) promised" in card and note in card and note in said
    page = searched.report_file.read_text()
    assert "Executed instructions by operator" in page and "emulated cortex-m7" in page and note in page
    # Again without: nothing is trained, the file and its firmware are the same, and what was found stays.
    assert promote(searched, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["promoted"]
    assert row["verified"]["target"] == "cortex-m7" and row["problems"] == []
    # A promise that does not hold is said, and exits 1; nothing is lost, nothing was trained again.
    weights = searched.weights_file(net_id).stat().st_mtime_ns
    assert promote(searched, "--verify", "m4") == 1
    said = capsys.readouterr().out
    assert "NOT GOOD: 1,000 B of arena were promised, and it needs 2,000 B to start" in said and "was trained with these settings" in said
    assert searched.weights_file(net_id).stat().st_mtime_ns == weights
    assert "**Not as promised:** 1,000 B of arena" in (searched.net_dir(net_id) / "MODEL_CARD.md").read_text()
    assert "Not as promised:" in searched.report_file.read_text()


def test_promote_names_what_verifying_lacks_before_it_trains(
    searched: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TFLM_DIR", raising=False)
    monkeypatch.setattr("tinynas.promote.promote", lambda *_, **__: pytest.fail("it trains"))
    assert promote(searched, "--verify", "cortex-m4") == 2
    assert "no tree is given" in capsys.readouterr().err
    assert promote(searched, "--verify", "cortex-m5") == 2
    assert "unknown target" in capsys.readouterr().err
    assert promote(searched, "--verify", "cortex-m4", "--format", "c") == 2
    assert "add tflite to --format" in capsys.readouterr().err


def test_a_disk_that_fills_while_verifying_loses_nothing(
    searched: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepare(*_: Any) -> Any:
        def check(*_: Any, **__: Any) -> Verified:
            raise DiskError("/cache: cannot be written: No space left on device", "free some space")

        return check

    monkeypatch.setattr(api, "_prepare_checks", prepare)
    assert promote(searched, "--verify", "cortex-m4") == 2
    said = capsys.readouterr().err
    assert "No space left" in said and f"tinynas verify {searched.path}:{searched.best} --target cortex-m4" in said
    assert searched.artifact(searched.best) is not None


@pytest.mark.xdist_group("target")
def test_the_folder_of_a_run_is_what_is_verified(searched: Run, emulated: Emulated, monkeypatch: pytest.MonkeyPatch) -> None:
    thin = emulated("newest")
    monkeypatch.setenv("TINYNAS_CACHE", str(thin.kept))
    (row,) = api.promote(searched, epochs=1, verify="m4", tflm=str(thin.tree.path))
    verified = row.report["verified"]
    folder = searched.net_dir(row.id) / "c"
    assert verified["problems"] == []
    assert verified["good"] and verified["folder"] == str(folder) and verified["firmware"]["digest"] == folder_digest(folder)
    # Delivered folders are built as they lie there: a fault put into this one is found.
    data = folder / "self_test_data.cc"
    text = data.read_text()
    at = text.index("kSelfTestPixels")
    data.write_text(text[:at] + text[at:].replace("0x", "0x1 + 0x", 40))
    found = api.verify(f"{searched.path}:{row.id}", tflm=str(thin.tree.path))
    assert not found.good and found.firmware is not None
    data.write_text(text)
