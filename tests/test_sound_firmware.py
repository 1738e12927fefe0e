"""The firmware folder of a network of sound: built here and for an emulated core, its self-test bit for bit; and what the file says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which

import numpy as np
import pytest
from thin_tflm import Emulated

from tinynas.arch import Arch
from tinynas.cli import run as tinynas
from tinynas.cost import Cost, estimate, plan_offline
from tinynas.cost.flash import file_bytes
from tinynas.cost.front_end import ANSWERED_BYTES, front_end_cost
from tinynas.cost.streamed import FRAMES, Frame
from tinynas.errors import UserError
from tinynas.export.compiled_firmware import build_compiled_firmware
from tinynas.export.emulated import network_self_test
from tinynas.export.facts import read_facts
from tinynas.export.firmware import ArenaFigures, build_firmware
from tinynas.export.formats import fitting
from tinynas.export.sandbox import run_tflm
from tinynas.export.sound_firmware import stored_clip, stored_sound
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.front_end import FrontEnd
from tinynas.graph import lower
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.sound.features import features
from tinynas.target.cores import CORES

HEARD = FrontEnd(clip_ms=400, window_ms=32, stride_ms=16, bins=20, sample_rate=8000)
C_SOURCES = ["network.c", "model_settings.c", "front_end.c", "hear.c", "classifier.c", "self_test.c", "self_test_data.c"]
WARNINGS = ("all", "extra", "pedantic", "shadow", "conversion", "sign-conversion", "undef", "double-promotion", "strict-prototypes")
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
needs_gcc = pytest.mark.skipif(which("gcc") is None, reason="no C compiler")
needs_board = pytest.mark.skipif(
    which("arm-none-eabi-gcc") is None or which("qemu-system-arm") is None, reason="no compiler or emulator for Cortex-M"
)
Make = Callable[..., Path]


def network(front_end: FrontEnd = HEARD) -> QuantizedGraph:
    height, width, channels = front_end.shape
    shape = {"height": height, "width": width, "channels": channels, "classes": 3, "stem": {"out": 8, "stride": 2}}
    return random_quantized(lower(Arch.model_validate({**shape, "front_end": front_end})), seed=1)


def model_of(qgraph: QuantizedGraph) -> bytes:
    return serialize(qgraph, ModelMeta("0123456789", ("a", "b", "c")), plan_offline(qgraph.graph))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder around a compiled network that takes frames as told."""

    def make(frame: Frame) -> Path:
        qgraph = network()
        files = build_compiled_firmware(qgraph, model_of(qgraph), frame=frame, labels=["a", "b", "c"], images=None, name="demo")
        path = tmp_path_factory.mktemp(frame)
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path

    return make


def ran(c: Path, main: str, *flags: str) -> tuple[int, str]:
    command = ["gcc", "-std=c99", "-Werror", *(f"-W{warning}" for warning in WARNINGS), *SANITIZED, *flags, *C_SOURCES, main]
    done = subprocess.run([*command, "-o", "program", "-lm"], cwd=c, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    ended = subprocess.run([str(c / "program")], capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@needs_gcc
@pytest.mark.parametrize("frame", FRAMES)
def test_the_folder_hears_what_the_network_was_made_to_hear(folder: Make, frame: Frame) -> None:
    c = folder(frame)
    status, said = ran(c, "self_test_main.c")
    assert status == 0 and said.rstrip().endswith("demo_model self-test: PASS")
    assert f"{HEARD.frames} of {HEARD.frames} frames of the front end are equal" in said and "largest difference 0 steps: ok" in said
    assert ran(c, "example_main.c")[0] == 0


@needs_gcc
def test_a_front_end_that_is_another_fails(folder: Make) -> None:
    c = folder("kept")
    text = (c / "front_end.c").read_text()
    (c / "front_end.c").write_text(text.replace("#define FIRST_BIN ", "#define FIRST_BIN 1 + "))
    status, said = ran(c, "self_test_main.c")
    assert status == 1 and "demo_model self-test: FAIL" in said and f"{HEARD.frames} of {HEARD.frames}" not in said


@needs_board
def test_an_emulated_core_passes_it_too(folder: Make) -> None:
    tested = network_self_test(folder("kept"), CORES["cortex-m4"])
    assert (tested.failed, tested.images, tested.equal_images) == ("", 1, 1) and tested.used_arena_bytes is not None
    promised = estimate(network().graph, "compiled", core="cortex-m4").values()
    assert tested.static_bytes is not None and tested.static_bytes + 3 == promised["sram_bytes"]
    program = promised["program_bytes"]
    assert tested.listening_bytes is not None and program is not None and 0.9 * program < tested.listening_bytes <= program


def variables(c: Path) -> dict[str, int]:
    """Name -> bytes of every variable of the folder's sources, as the host's compiler lays them out: none of them holds a pointer."""
    sources = [name for name in C_SOURCES if "self_test" not in name]
    # Where code may lie anywhere, constants that hold pointers are written when a program starts: on a board they lie in flash.
    subprocess.run(["gcc", "-std=c99", "-O0", "-fno-pic", "-c", *sources], cwd=c, check=True)
    objects = [name.replace(".c", ".o") for name in sources]
    lines = subprocess.run(["nm", "-S", *objects], cwd=c, check=True, capture_output=True, text=True).stdout.splitlines()
    return {words[3]: int(words[1], 16) for words in map(str.split, lines) if len(words) == 4 and words[2] in "bBdDC"}


def check_variables(c: Path, cost: Cost) -> None:
    """The folder's variables are what is promised, each on full words: a promise is never below what a board uses, nor above."""
    found = variables(c)
    assert cost.front_end is not None
    assert {name.partition(".")[0]: size for name, size in found.items()} == {
        "network": cost.sram_bytes,
        "ear": cost.front_end.sram_bytes - ANSWERED_BYTES,
        "answered": 1,
    }
    assert sum(-(-size // 4) * 4 for size in found.values()) == cost.values()["sram_bytes"]


@needs_gcc
@pytest.mark.parametrize("frame", FRAMES)
def test_its_variables_are_those_promised(folder: Make, frame: Frame) -> None:
    check_variables(folder(frame), estimate(network().graph, {"kept": "compiled", "rows": "compiled-rows"}[frame]))


HEARER = r"""
#include <stdio.h>
#include "classifier.h"
#include "hear.h"
static float certain = 0.9f;
static int calls;
int demo_model_think(const uint8_t *ring, int oldest) {
  (void)ring;
  (void)oldest;
  ++calls;
  return 1;
}
float demo_model_chance(int class_index) { return class_index == 1 ? certain : (1.0f - certain) / 2.0f; }
int main(void) {
  static int16_t silence[DEMO_MODEL_STRIDE];
  demo_model_hear_start();
  for (int frame = 0; frame < 200; ++frame) {
    if (frame == 100) certain = 0.2f;
    const int found = demo_model_hear(silence, DEMO_MODEL_STRIDE);
    if (found >= 0) printf("%d:%d:%d:%d ", frame, found, demo_model_score(1), calls);
  }
  printf("%d %d\n", calls, demo_model_score(1));
  return 0;
}
"""


@needs_gcc
def test_answers_are_averaged_and_told_once_in_a_while(folder: Make) -> None:
    c = folder("kept")
    (c / "hearer.c").write_text(HEARER)
    settings = ["-DDEMO_MODEL_HOP=5", "-DDEMO_MODEL_SMOOTHED=4", "-DDEMO_MODEL_THRESHOLD=60", "-DDEMO_MODEL_REFRACTORY=40"]
    command = ["gcc", "-std=c99", *SANITIZED, *settings, "front_end.c", "hear.c", "hearer.c", "-o", "hearer", "-lm"]
    subprocess.run(command, cwd=c, check=True)
    said = subprocess.run([str(c / "hearer")], capture_output=True, text=True, check=True).stdout.split()
    # 8 kHz: a window of 256 samples is complete with the 2nd stride of 128; 24 frames are a clip. Then every 5 frames; told again after 40.
    assert HEARD.frames == 24 and said[:-2] == ["24:1:90:1", "64:1:90:9", "104:1:73:17"]
    # At the 104th three answers of 230 and one of 51 are averaged: 73 %. By the 144th the class has faded.
    assert said[-2:] == [str(1 + (199 - 24) // 5), "20"]


def test_the_tflm_folder_holds_the_same_front_end() -> None:
    qgraph = network()
    model = model_of(qgraph)
    files = build_firmware(model, images=None, arena=ArenaFigures(1000, 1000), name="demo")
    compiled = build_compiled_firmware(qgraph, model, frame="kept", labels=["a", "b", "c"], images=None, name="demo")
    assert files["front_end.cc"] == compiled["front_end.c"] and files["hear.cc"] == compiled["hear.c"]
    assert {"arduino/x", "image_input.h", "image_input.cc"}.isdisjoint(files)
    expected = run_tflm(model, features(stored_clip(HEARD), HEARD)).outputs
    said = files["self_test_data.cc"].decode()
    assert ", ".join(str(value) for value in expected[0]) in said and b"front_end.cc hear.cc" in files["CMakeLists.txt"]
    assert f"{front_end_cost(HEARD, 3).sram_bytes:,} B" in files["README.md"].decode()
    with pytest.raises(UserError, match="2 labels for a model of 3 classes"):
        build_firmware(model, labels=["a", "b"], images=None, arena=ArenaFigures(1000, 1000))


@pytest.mark.xdist_group("target")
def test_a_network_of_sound_is_as_promised_on_an_emulated_cortex_m4(
    emulated: Emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By TFLM, with its kernels: a stored sound through front end and network, and flash in all with the front end in it."""
    thin = emulated("newest")
    monkeypatch.setenv("TINYNAS_CACHE", str(thin.kept))
    model = tmp_path / "demo.tflite"
    model.write_bytes(model_of(network()))
    assert tinynas(["verify", str(model), "--tflm", str(thin.tree.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    firmware = found["firmware"]
    assert found["good"] and found["compared_outputs"] == found["equal_outputs"]
    assert firmware["failed"] == "" and firmware["images"] == firmware["equal_images"] == 1
    own = front_end_cost(HEARD, 3, core="cortex-m4").flash_bytes
    assert found["promised_program_bytes"] == pytest.approx(firmware["program_bytes"], rel=0.04)
    assert found["promised_program_bytes"] - found["promised_code_bytes"] - found["model_bytes"] > own > 3000


@pytest.mark.parametrize("runtime", ["tflm", "tflm-cmsis-nn"])
def test_a_file_is_estimated_with_the_front_end_that_it_names(runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qgraph = network()
    model = tmp_path / "demo.tflite"
    model.write_bytes(serialize(qgraph, ModelMeta("0123456789", ("a", "b", "c")), plan_offline(qgraph.graph, runtime)))
    assert tinynas(["estimate", str(model), "--runtime", runtime, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    whole = estimate(qgraph.graph, runtime)
    assert whole.front_end is not None
    assert {name: said[name] for name in whole.values()} == whole.values(), "as the architecture is"
    assert said["front_end"] == {**whole.front_end.to_json(), "network_time_share": None}
    assert said["sram_bytes"] == whole.sram_bytes + front_end_cost(HEARD, 3).sram_bytes
    other = tmp_path / "other.tflite"
    other.write_bytes(model.read_bytes().replace(b'"bins":20', b'"bins":21'))  # makes another input than the file has
    assert tinynas(["estimate", str(other), "--runtime", runtime, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["front_end"] is None


def test_time_is_shared_between_front_end_and_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "demo.tflite"
    model.write_bytes(model_of(network()))
    assert tinynas(["compare", str(model), "--boards", "stm32l4r5", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert tinynas(["estimate", str(model), "--budget", "stm32l4r5", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {name: row[name] for name in ("sram_bytes", "program_bytes", "latency_ms")} == {
        name: said[name] for name in ("sram_bytes", "program_bytes", "latency_ms")
    }
    found = said["front_end"]
    assert found["what"] == HEARD.summary and found["frames"] == HEARD.frames == 24
    assert found["time_share"] == pytest.approx(found["frame_ms"] / 16)
    assert found["hop_ms"] == 6 * 16, "a quarter of the frames"
    assert found["network_time_share"] == pytest.approx((said["latency_ms"] - found["frame_ms"]) / 96)
    assert tinynas(["estimate", str(model), "--budget", "stm32l4r5"]) == 0
    shown = " ".join(capsys.readouterr().out.split())  # however wide the terminal
    assert HEARD.summary in shown and f"{100 * found['time_share']:.1f} % for the front end" in shown


def test_the_file_says_what_makes_its_input_and_how_long_it_is_was_known() -> None:
    for front_end in (HEARD, FrontEnd(clip_ms=60_000, stride_ms=200, window_ms=200, high_hz=3456.789, kind="mfcc", layout="series")):
        qgraph = network(front_end)
        model = model_of(qgraph)
        facts = read_facts(model)
        assert facts.front_end == front_end and facts.input == qgraph.graph.input and facts.metadata["input"] == "(value-128)/128"
        assert len(model) == file_bytes(qgraph.graph)
        assert estimate(qgraph.graph).flash_bytes == len(model)
    assert "c" in fitting(qgraph.graph.input)
    # a stranger's metadata that make no such input are none
    other = json.dumps(HEARD.model_dump(mode="json")).replace("20", "21")
    assert FrontEnd.model_validate_json(other).shape != HEARD.shape


def test_the_stored_sound_is_loud_and_never_longer_than_a_second() -> None:
    sound = stored_sound(FrontEnd(clip_ms=3000))
    assert (
        len(sound) == 16000 and 8000 < np.abs(sound.astype(int)).max() <= 32767 and stored_clip(FrontEnd(clip_ms=3000)).shape == (1, 48000)
    )
    assert np.ptp(features(stored_clip(FrontEnd()), FrontEnd())) > 200
    assert (stored_sound(HEARD) == stored_sound(HEARD)).all() and len(stored_sound(HEARD)) == HEARD.clip_samples
