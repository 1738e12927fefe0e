"""The firmware folder of a network that streams: a microphone's samples frame by frame through front end, network, smoothing, decision."""

from __future__ import annotations

import io
import math
import re
import subprocess
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_firmware import needs_gxx
from test_manifests import ARDUINO_H, ODD, check_all
from test_sound_firmware import C_SOURCES, SANITIZED, check_variables, needs_board, needs_gcc, ran
from test_sound_streams import HEARS, OPTIONS, beeps

from tinynas.arch import Arch
from tinynas.cost import estimate, plan_offline
from tinynas.cost.front_end import SMOOTHED, front_end_cost
from tinynas.data import open_data
from tinynas.errors import ModelFileError, UserError
from tinynas.export.compiled_firmware import build_compiled_firmware
from tinynas.export.compiled_verify import verify_network
from tinynas.export.emulated import network_self_test
from tinynas.export.folder import Thresholds, read_templates
from tinynas.export.formats import fitting
from tinynas.export.heard_words import heard_words
from tinynas.export.sandbox import run_tflm
from tinynas.export.sound_firmware import falling
from tinynas.export.stream_firmware import RUNTIME, build_stream_firmware
from tinynas.export.stream_reference import stream_outputs
from tinynas.export.streams import heard
from tinynas.export.tflite import ModelMeta, serialize, storable
from tinynas.front_end import FrontEnd
from tinynas.graph import lower
from tinynas.model import Network, normalise
from tinynas.quantize import QuantizedGraph, fold, quantize
from tinynas.sound.features import features
from tinynas.target.cores import CORES

NOISY = FrontEnd(clip_ms=304, window_ms=32, stride_ms=16, bins=20, sample_rate=8000)
SEPARABLE = ({"kind": "separable", "out": 8, "kernel": 3}, {"kind": "separable", "out": 6, "kernel": 3, "stride": 2})


def network(
    front_end: FrontEnd = NOISY, *, kernel: int = 5, blocks: tuple[dict[str, Any], ...] = SEPARABLE, seed: int = 1
) -> QuantizedGraph:
    """A causal network of three classes with random weights, whose stem takes every second frame, and which tells sounds apart."""
    height, width, channels = front_end.shape
    across = 1 if front_end.layout == "series" else 3
    stem = {"out": 8, "kernel": [kernel, across], "stride": [2, min(2, width)]}
    described = {"height": height, "width": width, "channels": channels, "classes": 3, "causal": True, "stem": stem, "blocks": blocks}
    arch = Arch.model_validate({**described, "front_end": front_end})
    clips = features(
        np.stack([a_sound(front_end, front_end.frames + 3, number)[: front_end.clip_samples] for number in range(8)]), front_end
    )
    net = Network(lower(arch), seed=seed).train()
    with torch.no_grad():
        for _ in range(10):
            net(normalise(torch.from_numpy(clips), arch.input))
        weights, bias = [*net.parameters()][-2:]
        weights *= 20000  # surer of itself, and of no class from the beginning
        bias -= net.eval()(normalise(torch.from_numpy(clips), arch.input)).mean(0)
    return quantize(fold(net.eval()), clips)


def a_sound(front_end: FrontEnd, strides: int, seed: int = 0) -> NDArray[np.int16]:
    """Bursts of tones in noise that grows."""
    draw = np.random.default_rng(seed)
    count = strides * front_end.stride
    time = np.arange(count) / front_end.sample_rate
    tone = np.sin(2 * np.pi * 300 * (1 + (np.floor(time * 5) + seed) % 5) * time) * (np.sin(2 * np.pi * 3 * time + seed) > 0)
    return np.asarray(8000 * tone + draw.normal(0, 20 + 800 * time / time[-1], count)).astype(np.int16)


def model_of(qgraph: QuantizedGraph) -> bytes:
    held = storable(qgraph)
    return serialize(held, ModelMeta("0123456789", ("a", "b", "c")), plan_offline(held.graph))


def written(path: Path, qgraph: QuantizedGraph, **options: Any) -> Path:
    files = build_stream_firmware(qgraph, model_of(qgraph), **{"labels": ["a", "b", "c"], "name": "demo", **options})
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


@pytest.fixture(scope="module")
def demo() -> QuantizedGraph:
    return network()


@pytest.fixture(scope="module")
def folder(demo: QuantizedGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("stream"), demo)


# the self-test ----------------------------------------------------------------------------------------------


@needs_gcc
@pytest.mark.parametrize("layout", ["map", "series"])
def test_the_self_test_passes_here_without_a_warning(tmp_path: Path, layout: str) -> None:
    front = NOISY.model_copy(update={"layout": layout})
    blocks = SEPARABLE if layout == "map" else ({"kind": "mbconv", "out": 8, "kernel": [3, 1], "expand": 2, "residual": True},)
    c = written(tmp_path, network(front, blocks=blocks))
    status, said = ran(c, "self_test_main.c")
    assert status == 0 and said.rstrip().endswith("demo_model self-test: PASS"), said
    assert f"{front.frames} of {front.frames} frames of the front end are equal" in said
    assert said.count("largest difference 0 steps: ok") == 2, "after the clip, and after another one without a reset"
    assert ran(c, "example_main.c")[0] == 0


@needs_gcc
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("front_end.c", "#define FIRST_BIN ", "#define FIRST_BIN 1 + "),
        ("self_test_data.c", "_later[DEMO_MODEL_CLASSES] = {", "_later[DEMO_MODEL_CLASSES] = {1 ^ "),
        ("network.c", "sums[c] = o->numbers[1];", "sums[c] = o->numbers[1] + 900;"),
    ],
    ids=["front end", "later", "state"],
)
def test_the_self_test_notices_faults(folder: Path, tmp_path: Path, file: str, old: str, new: str) -> None:
    for path in folder.glob("*.[ch]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / file).read_text()
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new))
    status, said = ran(tmp_path, "self_test_main.c")
    assert status == 1 and said.rstrip().endswith("demo_model self-test: FAIL"), said
    assert "later" not in old or ("sound 0" in said and said.count(": ok") == 1), "the clip is equal, what comes later is not"


# a microphone -----------------------------------------------------------------------------------------------

# Reads samples from stdin, a stride at a time, and says of each frame its bytes; where there are new outputs these, what was told, scores.
LISTENER = r"""
#include <stdio.h>
#include "classifier.h"
#include "hear.h"
int main(void) {
  int16_t samples[DEMO_MODEL_STRIDE];
  demo_model_hear_start();
  unsigned long heard = 0, answers = 0;
  while (fread(samples, sizeof samples, 1, stdin) == 1) {
    const int found = demo_model_hear(samples, DEMO_MODEL_STRIDE);
    heard += DEMO_MODEL_STRIDE;
    if (heard < DEMO_MODEL_WINDOW) continue;
    const unsigned long frame = (heard - DEMO_MODEL_WINDOW) / DEMO_MODEL_STRIDE;
    printf("frame");
    for (int i = 0; i < DEMO_MODEL_FEATURES; ++i) printf(" %d", demo_model_heard_frame()[i]);
    printf("\n");
    if (frame + 1 < DEMO_MODEL_FIRST || (frame + 1 - DEMO_MODEL_FIRST) % DEMO_MODEL_EVERY != 0) continue;
    printf("answer %lu", frame);
    for (int i = 0; i < DEMO_MODEL_CLASSES; ++i) printf(" %d", demo_model_output()[i]);
    printf(" %d", found);
    for (int i = 0; i < DEMO_MODEL_CLASSES; ++i) printf(" %d", demo_model_score(i));
    printf("\n");
    ++answers;
  }
  return answers == 0;
}
"""


def listened(c: Path, samples: NDArray[np.int16], *flags: str) -> tuple[NDArray[np.uint8], dict[int, list[int]]]:
    """(frames (n, features), what was answered after a frame: outputs, the class told, scores) of ``samples``, as many as whole strides."""
    (c / "listener.c").write_text(LISTENER)
    sources = [name for name in C_SOURCES if "self_test" not in name]
    command = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", *SANITIZED, *flags, *sources, "listener.c", "-o", "listener", "-lm"]
    subprocess.run(command, cwd=c, check=True)
    said = subprocess.run([str(c / "listener")], input=samples.tobytes(), capture_output=True, check=True).stdout.decode()
    lines = [line.split() for line in said.splitlines()]
    answers = {int(words[1]): [int(word) for word in words[2:]] for words in lines if words[0] == "answer"}
    return np.array([[int(word) for word in words[1:]] for words in lines if words[0] == "frame"], np.uint8), answers


@needs_gcc
def test_a_microphone_is_heard_without_end_as_python_says(folder: Path, demo: QuantizedGraph) -> None:
    """Front end (its noise's estimate runs on), network (it sees the frames before), averages and what is told: over three clips."""
    plan_every, first = 4, NOISY.frames  # strides 2 and 2
    strides = 3 * NOISY.frames + NOISY.window // NOISY.stride - 1
    samples = a_sound(NOISY, strides)
    flags = ("-DDEMO_MODEL_THRESHOLD=40", "-DDEMO_MODEL_REFRACTORY=9")
    frames, answers = listened(folder, samples, *flags)
    long = NOISY.model_copy(update={"clip_ms": NOISY.window_ms + (len(frames) - 1) * NOISY.stride_ms})
    expected = features(samples[None, : long.clip_samples], long)[0]
    assert np.array_equal(frames, expected.reshape(len(frames), -1)) and len(frames) == 3 * NOISY.frames
    outputs = stream_outputs(demo, expected)
    assert {at: words[:3] for at, words in answers.items()} == {at: numbers.tolist() for at, numbers in outputs.items()}
    assert len({tuple(numbers) for numbers in outputs.values()}) > 5, "it hears something"
    scale = demo.tensors[demo.graph.logits].scale
    table, kept, quiet, told = falling(scale), [], 0, []
    for at in range(len(frames)):
        quiet = max(0, quiet - 1)
        if at not in outputs:
            continue
        shares = [table[drop] if drop < len(table) else 0 for drop in (outputs[at].max() - outputs[at].astype(int)).tolist()]
        kept = [*kept, [(255 * share + sum(shares) // 2) // sum(shares) for share in shares]][-SMOOTHED:]
        sums = [sum(column) for column in zip(*kept, strict=True)]
        best = sums.index(max(sums))
        tells = quiet == 0 and 100 * sums[best] >= 40 * 255 * len(kept)
        quiet = 9 if tells else quiet
        told.append(best if tells else -1)
        scores = [(100 * total + 255 * len(kept) // 2) // (255 * len(kept)) for total in sums]
        assert answers[at][3:] == [told[-1], *scores], at
    assert set(told) > {-1}, "a class was told, and not always"
    assert min(outputs) + 1 <= first and sorted(outputs)[1] - sorted(outputs)[0] == plan_every


def test_chances_by_the_table_are_the_softmax() -> None:
    for scale in (0.004, 0.05, 0.3, 2.0):
        table = falling(scale)
        assert table[0] == 65535 and 1 <= len(table) <= 256 and all(a >= b > 0 for a, b in pairwise(table))
        for step, value in enumerate(table):
            assert abs(value - 65535 * math.exp(-scale * step)) <= 0.5
        assert len(table) == 256 or 65535 * math.exp(-scale * len(table)) <= 0.5


# what evaluate --stream says of it --------------------------------------------------------------------------


@needs_gcc
def test_windows_and_the_stream_differ_by_what_lies_before_a_window_alone(tmp_path: Path) -> None:
    """``evaluate --stream`` hears windows. Where nothing reaches back over a window's begin (no noise's estimate, no kernel along time)
    each is what the stream answers at its end, bit for bit; else the first alone is, and the network's own frames are the same."""
    data = open_data(beeps(tmp_path / "set"), options=OPTIONS, cache_dir=tmp_path / "cache")
    flat = ({"kind": "separable", "out": 8, "kernel": [1, 3]},)
    for name, front, kernel, blocks in (
        ("same", HEARS, 1, flat),
        ("reaching", HEARS, 5, SEPARABLE),
        ("noise", HEARS.model_copy(update={"noise_reduction": True}), 1, flat),
    ):
        qgraph = network(front, kernel=kernel, blocks=blocks)
        model, every = model_of(qgraph), 2 if name != "reaching" else 4

        def scores(inputs: NDArray[np.uint8], model: bytes = model) -> NDArray[np.float64]:
            return run_tflm(model, inputs).outputs.astype(np.float64)

        heard_by_windows = heard(data, "test", front, every * front.stride_ms, scores)[0].scores
        recording = next(data.recordings[data.records[i].file] for i in data.rows("test"))  # type: ignore[index]
        wave = recording.read(0, recording.length).samples
        samples = np.clip(np.rint(wave * np.float32(32768)), -32768, 32767).astype(np.int16)
        _, answers = listened(written(tmp_path / name, qgraph), samples[: len(samples) // front.stride * front.stride])
        streamed = np.array([numbers[:3] for _, numbers in sorted(answers.items())])
        count = min(len(streamed), len(heard_by_windows))
        assert count > 140 and abs(len(streamed) - len(heard_by_windows)) <= 1
        equal = (streamed[:count] == heard_by_windows[:count]).all(1)
        assert equal[0] and equal.all() == (name == "same"), (name, equal.mean())


# promises ---------------------------------------------------------------------------------------------------


@needs_board
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
def test_what_is_promised_is_what_an_emulated_core_uses(folder: Path, demo: QuantizedGraph, core: str) -> None:
    model = model_of(demo)
    found = verify_network(model, "demo", demo.graph, RUNTIME, CORES[core], folder)
    assert found.good and found.firmware.images == found.firmware.equal_images == 2, found.problems
    assert found.compared_outputs == found.equal_outputs > 0
    cost = estimate(demo.graph, RUNTIME, core=core)
    front = front_end_cost(NOISY, 3, core=core, compiled=True, every=4)
    assert found.promised_work_bytes == found.reserved_work_bytes == found.used_work_bytes == cost.sram_bytes
    assert found.promised_static_bytes == cost.sram_bytes + front.sram_bytes
    # Of the last word, which says whether there was an answer, a byte is taken.
    assert found.static_bytes == found.promised_static_bytes - 3
    assert found.stack_bytes is not None and found.stack_bytes <= found.promised_stack_bytes == cost.stack_bytes
    assert found.network_bytes is not None and cost.program_bytes is not None and found.network_bytes <= cost.program_bytes
    # Beside the network alone: front end, what hears, the classifier and labels; of the table of chances at most is promised.
    assert found.promised_folder_bytes == cost.program_bytes + front.flash_bytes + front.around_bytes == cost.values()["program_bytes"]
    assert found.folder_bytes is not None and found.promised_folder_bytes - 2000 < found.folder_bytes <= found.promised_folder_bytes
    assert found.step_instructions is not None and found.inference_instructions is not None
    assert found.step_instructions < found.inference_instructions <= 4 * found.step_instructions, "of four steps one takes most"
    assert sum(count for _, count in found.instructions) < found.inference_instructions
    short = replace(found, promised_static_bytes=found.static_bytes - 1)
    assert any("B of SRAM were promised for front end and network" in problem for problem in short.problems)
    (said,) = replace(found, promised_folder_bytes=found.folder_bytes * 9 // 10).notes
    assert "B of front end, network and what stands around them are linked" in said


@needs_gcc
def test_its_variables_are_those_promised(folder: Path, demo: QuantizedGraph) -> None:
    check_variables(folder, estimate(demo.graph, RUNTIME))


@needs_board
def test_a_folder_of_another_model_is_not_verified(folder: Path, demo: QuantizedGraph) -> None:
    with pytest.raises(ModelFileError, match="holds another model"):
        verify_network(model_of(network(seed=2)), "other", demo.graph, RUNTIME, CORES["cortex-m4"], folder)


# several classes at once ------------------------------------------------------------------------------------


@needs_gcc
def test_each_class_has_its_threshold(tmp_path: Path, demo: QuantizedGraph) -> None:
    raw = (10, -128, 60)
    c = written(tmp_path, demo, decision=Thresholds(raw, ("test",)))
    status, said = ran(c, "self_test_main.c")
    assert status == 0 and said.rstrip().endswith("demo_model self-test: PASS"), said
    samples = a_sound(NOISY, 3 * NOISY.frames)
    _, answers = listened(c, samples)
    outputs = np.array([words[:3] for words in answers.values()])
    for at, words in enumerate(answers.values()):
        last = outputs[max(0, at - SMOOTHED + 1) : at + 1]
        margins = last.sum(0) - len(last) * np.array(raw)
        found = int(margins.argmax()) if margins.max() >= 0 else -1
        assert words[3:] == [found, *(int(margin / len(last)) for margin in margins)], at
    if which_board():
        tested = network_self_test(c, CORES["cortex-m0plus"])
        promised = estimate(demo.graph, RUNTIME, core="cortex-m0plus").values()["program_bytes"]
        assert tested.failed == "" and tested.listening_bytes is not None and promised is not None
        assert promised - 2500 < tested.listening_bytes <= promised


def which_board() -> bool:
    return not needs_board.args[0]


# text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ODD[0], ODD[-1]], ids=range(2))
def test_packages_of_any_name_and_nothing_left_to_fill(demo: QuantizedGraph, name: str) -> None:
    files = build_stream_firmware(demo, model_of(demo), labels=["a", "b", "c"], name=name)
    check_all(files, C_SOURCES, tflm=False)
    for path, content in files.items():
        if not path.endswith(".zip"):
            text = content.decode("ascii")
            assert text.endswith("\n") and not [word for word in text.split("@")[1::2] if word.isidentifier()], path
    assert "_hear (hear.h)" in files["zephyr/Kconfig"].decode()
    assert "expf" not in files["hear.c"].decode(), "what is answered often takes no exponentials"


MICROPHONES = r"""
#pragma once
#include <cstring>
inline void noInterrupts() {}
inline void interrupts() {}
struct PdmShim {
  void onReceive(void (*)()) {}
  bool begin(int, int) { return true; }
  int available() { return 0; }
  int read(void *, int) { return 0; }
};
static PdmShim PDM;
enum { I2S_MODE_STD, I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO, I2S_STD_SLOT_LEFT };
struct I2SClass {
  void setPins(int, int, int, int) {}
  bool begin(int, int, int, int, int) { return true; }
  size_t readBytes(char *, size_t) { return 0; }
};
"""


@needs_gxx
@pytest.mark.parametrize("several", [False, True])
def test_sketches_for_microphones_are_compiled_by_cpp(tmp_path: Path, demo: QuantizedGraph, several: bool) -> None:
    decision = Thresholds((0, 0, 0), ("test",)) if several else None
    files = build_stream_firmware(demo, model_of(demo), labels=["a", "b", "c"], name="demo", decision=decision)
    zipfile.ZipFile(io.BytesIO(files["DemoModel.zip"])).extractall(tmp_path)
    library = tmp_path / "DemoModel"
    for header in ("PDM.h", "ESP_I2S.h"):
        (tmp_path / header).write_text(MICROPHONES)
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    flags = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-Wno-cpp", "-Wno-unused-variable", "-fsyntax-only", "-include", "Arduino.h"]
    sketches = sorted((library / "examples").glob("*/*.ino"))
    assert [sketch.stem for sketch in sketches] == ["listen_i2s", "listen_pdm", "self_test"]
    for sketch in sketches:
        subprocess.run(["g++", *flags, f"-I{tmp_path}", f"-I{library}/src", "-x", "c++", str(sketch)], cwd=tmp_path, check=True)


def test_both_kinds_of_folder_have_one_source(demo: QuantizedGraph) -> None:
    """What hears samples, averages and tells is the same text where whole clips are heard; the parts that differ have the same words."""
    stream = build_stream_firmware(demo, model_of(demo), labels=["a", "b", "c"], name="demo")
    held = storable(demo)
    clips = build_compiled_firmware(held, model_of(demo), frame="kept", labels=["a", "b", "c"], images=None, name="demo")

    def functions(text: str) -> dict[str, str]:
        blocks = [block for block in text.strip().split("\n\n") if block.endswith("}")]
        return {block.split("(")[0].split()[-1].lstrip("*"): block for block in blocks if "(" in block}

    one, other = (functions(files["hear.c"].decode()) for files in (stream, clips))
    same = {"demo_model_hear", "demo_model_score", "total"}
    assert same <= one.keys() & other.keys() and all(one[name] == other[name] for name in same)
    assert one["judged"].replace("chances(scores);", "") != one["judged"] and one["thought"] != other["thought"]
    assert stream["self_test.h"] != clips["self_test.h"]
    given = {name: "" for text in read_templates("sound").values() for name in re.findall(r"@(\w+)@", text)}
    words = {**given, "ns": "n", "GUARD": "N", "input_height": "1", "input_width": "1", "input_channels": "1", "self_test_further": "1"}
    assert heard_words("clip", words).keys() == heard_words("frame", words).keys()


def test_faults_are_named(demo: QuantizedGraph) -> None:
    with pytest.raises(UserError, match="2 labels for a model of 3 classes"):
        build_stream_firmware(demo, model_of(demo), labels=["a", "b"])
    assert fitting(demo.graph.input, RUNTIME) == ("tflite", "c", "stream")
    bare = lower(Arch.model_validate({**demo.graph.arch.model_dump(exclude={"front_end"}), "input_kind": "features"}))  # type: ignore[union-attr]
    assert fitting(bare.input, RUNTIME) == ("tflite", "stream")
