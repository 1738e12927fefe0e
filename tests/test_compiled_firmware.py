"""The firmware folder around a compiled network: built in C99, run here and on an emulated core, verified, and delivered by the line."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from test_firmware import FORMATS, METHODS, SIZES, as_frame, example_frame, needs_cmake, needs_gxx, reference, run
from test_manifests import ARDUINO_H, MOCK, ODD, check_all

from tinynas import api
from tinynas.arch import Arch, ConvLayer, MBConv
from tinynas.cli import run as tinynas
from tinynas.cost import estimate, plan_offline
from tinynas.cost.streamed import FRAMES, Frame
from tinynas.errors import InternalError, ModelFileError, UserError
from tinynas.export.compiled_firmware import build_compiled_firmware, converter_bytes, write_format
from tinynas.export.compiled_verify import VerifiedNetwork, verify_network
from tinynas.export.emulated import SelfTested, folder_digest, network_self_test
from tinynas.export.folder import SELF_TEST_FAIL, SELF_TEST_PASS, Decision
from tinynas.export.formats import Made
from tinynas.export.manifests import PackageOptions
from tinynas.export.sandbox import run_tflm
from tinynas.export.tflite import ModelMeta, serialize
from tinynas.graph import Graph, lower
from tinynas.quantize.grid import QuantizedGraph, random_quantized
from tinynas.records import _VerifiedNetwork as _VERIFIED
from tinynas.records import wrong
from tinynas.report.terminal import verified_table
from tinynas.report.words import verified_words
from tinynas.runs import Run
from tinynas.target.cores import CORES
from tinynas.target.library import COMPILER

SOURCES = ["network.c", "model_settings.c", "image_input.c", "classifier.c", "self_test.c", "self_test_data.c"]
RUNTIMES: dict[Frame, str] = {"kept": "compiled", "rows": "compiled-rows"}
#: What firmware projects switch on, as errors.
WARNINGS = ("all", "extra", "pedantic", "shadow", "conversion", "sign-conversion", "undef", "double-promotion", "strict-prototypes")
STRICT = ["-std=c99", "-Werror", *(f"-W{warning}" for warning in WARNINGS)]
SANITIZED = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed (apt-get install gcc)")
needs_tools = pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which("qemu-system-arm") is None, reason=f"{COMPILER} or qemu-system-arm is not installed"
)


def network(channels: int = 3, height: int = 12, width: int = 16) -> QuantizedGraph:
    stem = ConvLayer(out=8, stride=2)
    arch = Arch(height=height, width=width, channels=channels, classes=3, stem=stem, blocks=(MBConv(out=8, expand=2, residual=True),))
    return random_quantized(lower(arch), seed=1)


def model_of(qgraph: QuantizedGraph) -> bytes:
    return serialize(qgraph, ModelMeta("0123456789", ("a", "b", "c")), plan_offline(qgraph.graph))


def images_for(graph: Graph, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, *graph.input.shape), dtype=np.uint8)


def small(frame: Frame = "rows", qgraph: QuantizedGraph | None = None, **options: Any) -> dict[str, bytes]:
    qgraph = qgraph or network()
    given = {"labels": ["a", "b", "c"], "images": images_for(qgraph.graph), "name": "demo", **options}
    return build_compiled_firmware(qgraph, model_of(qgraph), frame=frame, **given)


def folder(path: Path, frame: Frame = "rows", qgraph: QuantizedGraph | None = None, **options: Any) -> Path:
    for name, content in small(frame, qgraph, **options).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def built(c: Path, main: str = "self_test_main.c", *, compiler: str = "gcc", flags: tuple[str, ...] = ()) -> tuple[int, str]:
    """(exit status, log) of a program of the folder, without a warning and with sanitizers."""
    command = [compiler, *STRICT, *SANITIZED, *flags, *SOURCES, main, "-o", "program", "-lm"]
    done = subprocess.run(command, cwd=c, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    return run(c / "program")


# frames --------------------------------------------------------------------------------------------------------

# Reads frames from stdin and writes 1 byte (accepted) and the pixels for each. Rows come in a buffer of one row, of its exact size.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image_input.h"
enum { kBytes = DEMO_MODEL_HEIGHT * DEMO_MODEL_WIDTH * DEMO_MODEL_CHANNELS };
#ifdef ROWS
static char convert(const demo_model_frame_t *frame, demo_model_resize_t resize, uint8_t *pixels) {
  static demo_model_camera_t camera;
  uint8_t *to = pixels;
  memset(&camera, 0xa5, sizeof camera);
  if (!demo_model_camera_begin(&camera, frame->width, frame->height, frame->format, resize)) return 0;
  uint8_t *one = malloc((size_t)frame->width * camera.step);
  for (int y = 0; y < frame->height; ++y) {
    memcpy(one, frame->pixels + (size_t)y * (size_t)frame->stride_bytes, (size_t)frame->width * camera.step);
    demo_model_camera_take(&camera, one);
    for (const uint8_t *row = demo_model_camera_next(&camera); row; row = demo_model_camera_next(&camera)) {
      if (to == pixels + kBytes) return 2;
      memcpy(to, row, DEMO_MODEL_WIDTH * DEMO_MODEL_CHANNELS);
      to += DEMO_MODEL_WIDTH * DEMO_MODEL_CHANNELS;
    }
    memset(one, 0x5a, (size_t)frame->width * camera.step);
  }
  free(one);
  return to == pixels + kBytes ? 1 : 3;
}
#else
static char convert(const demo_model_frame_t *frame, demo_model_resize_t resize, uint8_t *pixels) {
  return demo_model_convert(frame, resize, pixels) ? 1 : 0;
}
#endif
int main(void) {
  int header[6];
  while (fread(header, sizeof header, 1, stdin) == 1) {
    uint8_t *data = malloc(header[5] ? (size_t)header[5] : 1u), *pixels = calloc(kBytes, 1);
    if (header[5] && fread(data, (size_t)header[5], 1, stdin) != 1) return 2;
    const demo_model_frame_t frame = {header[5] ? data : NULL, header[0], header[1], (demo_model_format_t)header[2], header[3]};
    const char accepted = convert(&frame, (demo_model_resize_t)header[4], pixels);
    fwrite(&accepted, 1, 1, stdout);
    fwrite(pixels, 1, kBytes, stdout);
    free(data);
    free(pixels);
  }
  return 0;
}
"""


class Converter:
    """The image converter of a folder, compiled with the address and undefined-behaviour sanitizers."""

    def __init__(self, path: Path, frame: Frame, qgraph: QuantizedGraph, **options: Any) -> None:
        self.shape = qgraph.graph.input.shape
        folder(path, frame, qgraph, **options)
        (path / "driver.c").write_text(DRIVER)
        command = ["gcc", *STRICT, *SANITIZED, "driver.c", "image_input.c", "-o", "driver", *(["-DROWS"] if frame == "rows" else [])]
        subprocess.run(command, cwd=path, check=True, timeout=100)
        self.program = path / "driver"

    def __call__(self, frames: list[tuple[bytes, int, int, int, int, int]]) -> list[np.ndarray | None]:
        """(pixels, width, height, format, stride, method) each -> the input's pixels, or None where refused."""
        feed = b"".join(struct.pack("<6i", w, h, form, stride, method, len(data)) + data for data, w, h, form, stride, method in frames)
        done = subprocess.run([str(self.program)], input=feed, capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        size = int(np.prod(self.shape))
        records = [done.stdout[i : i + size + 1] for i in range(0, len(done.stdout), size + 1)]
        assert len(records) == len(frames) and all(record[0] in (0, 1) for record in records), [record[0] for record in records]
        return [np.frombuffer(record[1:], np.uint8).reshape(self.shape) if record[0] else None for record in records]


@needs_gcc
@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 12, 16), (1, 32, 20)], ids=str)
def test_rows_become_the_same_pixels_as_the_whole_frame(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """To the bit, for every format and way of resizing; and the whole frame what numpy makes of it."""
    qgraph = network(*shape)
    channels, target = shape[0], qgraph.graph.input.shape
    rng = np.random.default_rng(7)
    frames, expected = [], []
    for height, width in SIZES:
        rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for form, name in enumerate(FORMATS):
            for method, kind in enumerate(METHODS):
                rows, held = as_frame(rgb, name)
                wide = np.full((height, rows.shape[1] + 5), 99, dtype=np.uint8)
                wide[:, : rows.shape[1]] = rows
                frames.append((wide.tobytes(), width, height, form, wide.shape[1], method))
                image = reference(held, target, kind)
                if name == "kGray8" and channels == 1:
                    image = reference(np.repeat(held[..., :1], 3, axis=2), (*target[:2], 3), kind)[..., :1]
                expected.append((f"{width}x{height} {name} {kind}", image))
    whole = Converter(tmp_path / "kept", "kept", qgraph)(frames)
    by_rows = Converter(tmp_path / "rows", "rows", qgraph)(frames)
    assert len(frames) == len(SIZES) * len(FORMATS) * len(METHODS)
    for (what, want), got, streamed in zip(expected, whole, by_rows, strict=True):
        assert got is not None and streamed is not None, what
        np.testing.assert_array_equal(streamed, got, err_msg=what)
        difference = np.abs(got.astype(int) - want.astype(int)).max()
        # The bilinear weights are rounded to 1/2048 by two routes; everything else is exact.
        assert difference <= (1 if "bilinear" in what or "training" in what else 0), f"{what}: {difference}"


@needs_gcc
@pytest.mark.parametrize("frame", FRAMES)
def test_bad_frames_are_refused(tmp_path: Path, frame: Frame) -> None:
    convert = Converter(tmp_path, frame, network())
    pixel = bytes(300)
    frames = [(pixel, 0, 10, 0, 30, 0), (pixel, 10, -1, 0, 30, 0), (pixel, 10, 10, 9, 30, 0), (pixel, 70000, 1, 4, 70000, 0)]
    frames.append((pixel, 5000, 5000, 4, 5000, 0))
    if frame == "kept":
        frames += [(b"", 10, 10, 0, 0, 0), (pixel, 10, 10, 0, 29, 0), (pixel, 10, 10, 0, -30, 0)]
    assert convert(frames) == [None] * len(frames)
    assert convert([(pixel, 10, 10, 0, 30, 0)])[0] is not None


@needs_gcc
def test_rotated_networks_get_the_image_turned(tmp_path: Path) -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (60, 81, 3), dtype=np.uint8)
    frame = (rgb.tobytes(), 81, 60, 0, 243, 0)
    (upright,) = Converter(tmp_path / "upright", "kept", network())([frame])
    (turned,) = Converter(tmp_path / "turned", "kept", network(), rotation=180)([frame])
    assert upright is not None and turned is not None
    np.testing.assert_array_equal(upright[::-1, ::-1], turned)
    assert built(tmp_path / "turned")[0] == 0  # the self-test expects what TFLM says of the turned images
    with pytest.raises(
        UserError, match=r"rows of the camera as they come, and this network reads its images upside down\n.*keep the frame"
    ):
        small("rows", rotation=180)


# the folder on this computer -----------------------------------------------------------------------------------


@needs_gcc
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 32, 20)], ids=str)
def test_self_test_and_example_run_on_the_host(tmp_path: Path, frame: Frame, shape: tuple[int, int, int]) -> None:
    qgraph = network(*shape)
    c = folder(tmp_path, frame, qgraph, labels=["one", 'tw"o\\', "three ??/"])
    status, text = built(c)
    assert (status, text.count("largest difference 0 steps: ok")) == (0, 2), text
    assert text.splitlines()[-1] == f"demo_model {SELF_TEST_PASS}"
    size = estimate(qgraph.graph, RUNTIMES[frame]).sram_bytes
    used = re.search(r"work area (\d+) of (\d+) bytes in use", text)
    assert used is not None and int(used[2]) == size and size - 4 < int(used[1]) <= size
    status, text = built(c, "example_main.c", compiler="clang" if shutil.which("clang") else "gcc")
    shown = reference(example_frame(), qgraph.graph.input.shape)[None]
    outputs = run_tflm(model_of(qgraph), shown).outputs[0].astype(float) * qgraph.tensors[qgraph.graph.logits].scale
    share = np.exp(outputs - outputs.max()) / np.exp(outputs - outputs.max()).sum()
    label = ["one", 'tw"o\\', "three ??/"][int(outputs.argmax())]
    assert (status, text) == (0, f"{label} ({int(100 * share.max() + 0.5)} %), work area {size} bytes\n")


@needs_gcc
def test_self_test_notices_faults(tmp_path: Path) -> None:
    qgraph = network()
    wrong_outputs = run_tflm(model_of(qgraph), images_for(qgraph.graph)).outputs.copy()
    wrong_outputs[1, 2] += 1
    status, text = built(folder(tmp_path / "off", "rows", expected=wrong_outputs))
    assert status == 1 and text.count(": ok") == 1 and "largest difference 1 steps: FAIL" in text
    assert text.splitlines()[-1] == f"demo_model {SELF_TEST_FAIL}"
    c = folder(tmp_path / "weights", "kept")
    code = (c / "network.c").read_text()
    at = code.index("weights_0[] = {") + len("weights_0[] = {")
    (c / "network.c").write_text(code[:at] + re.sub(r"-?\d+,", "5,", code[at : at + 200], count=12) + code[at + 200 :])
    assert built(c)[0] == 1
    c = folder(tmp_path / "converter", "rows")
    code = (c / "image_input.c").read_text()
    assert code.count("camera->row + x * kInputChannels") == 1
    (c / "image_input.c").write_text(code.replace("camera->row + x * kInputChannels", "camera->row + (x ^ 1u) * kInputChannels"))
    assert built(c)[0] == 1


@needs_gcc
def test_a_threshold_decides_in_place_of_the_largest_output(tmp_path: Path) -> None:
    """At the very margin of the first image, and one step below it: no, and yes."""
    qgraph = random_quantized(lower(Arch(height=12, width=16, channels=3, classes=2, stem=ConvLayer(out=8, stride=2))), seed=1)
    model = serialize(qgraph, ModelMeta("0123456789", ("a", "b")), plan_offline(qgraph.graph))
    first = run_tflm(model, images_for(qgraph.graph)).outputs[0].astype(int)
    positive = 1 - int(first.argmax())
    margin = int(first[positive] - first[1 - positive])
    assert margin < 0
    for cut, said in ((margin, 1 - positive), (margin - 1, positive)):
        c, decision = tmp_path / f"c{-cut}", Decision(positive, cut, ("why */ \\", "two"))
        files = build_compiled_firmware(
            qgraph, model, frame="rows", labels=["a", "b"], images=images_for(qgraph.graph), name="demo", decision=decision
        )
        for name, content in files.items():
            (c / name).parent.mkdir(parents=True, exist_ok=True)
            (c / name).write_bytes(content)
        status, text = built(c)
        assert status == 0 and f'image 0 is "{"ab"[said]}"' in text, text
    settings = c / "model_settings.h"
    settings.write_text(settings.read_text().replace(f"_THRESHOLD ({cut})", "_THRESHOLD (300)"))
    assert built(c)[0] == 1, "the self-test notices another threshold"


CALLER = r"""
#include <stdio.h>
#include "classifier.h"
static uint8_t pixels[12 * 16 * 3];
int main(void) {
  if (demo_model_answer() != -1 || demo_model_output() || demo_model_probability(0) != 0.0f) return 1;
  if (demo_model_push(pixels) != -1 || demo_model_begin(0, 12, DEMO_MODEL_RGB888, DEMO_MODEL_AREA)) return 2;
  if (demo_model_push(pixels) != -1) return 2;
  if (!demo_model_begin(16, 12, DEMO_MODEL_RGB888, DEMO_MODEL_LIKE_TRAINING)) return 3;
  for (int y = 0; y < 11; ++y) if (demo_model_push(pixels + 48 * y) != 0 || demo_model_answer() != -1) return 4;
  if (demo_model_push(pixels + 48 * 11) != 1 || demo_model_push(pixels) != 1) return 5;
  const int found = demo_model_answer();
  demo_model_frame_t frame = {pixels, 16, 12, DEMO_MODEL_RGB888, 0};
  if (found < 0 || demo_model_classify(&frame, DEMO_MODEL_LIKE_TRAINING) != found) return 6;
  float sum = 0;
  for (int i = 0; i < DEMO_MODEL_CLASSES; ++i) sum += demo_model_probability(i);
  if (sum < 0.9999f || sum > 1.0001f || demo_model_probability(DEMO_MODEL_CLASSES) != 0.0f) return 7;
  frame.stride_bytes = 47;
  if (demo_model_classify(&frame, DEMO_MODEL_LIKE_TRAINING) != -1 || demo_model_answer() != -1) return 8;
  frame.stride_bytes = -48;
  if (demo_model_classify(&frame, DEMO_MODEL_LIKE_TRAINING) != -1) return 9;
  frame.stride_bytes = 0;
  frame.pixels = NULL;
  if (demo_model_classify(&frame, DEMO_MODEL_LIKE_TRAINING) != -1) return 10;
  return 0;
}
"""


@needs_gcc
def test_the_classifier_answers_when_a_frame_is_whole_and_not_before(tmp_path: Path) -> None:
    c = folder(tmp_path)
    (c / "caller.c").write_text(CALLER)
    assert built(c, "caller.c") == (0, "")


@needs_gxx
@needs_gcc
def test_two_networks_in_one_program_of_cpp(tmp_path: Path) -> None:
    """One takes whole frames, the other rows; their headers are C++ too."""
    objects = []
    for name, frame in (("first", "kept"), ("second", "rows")):
        c = folder(tmp_path / name, frame, network(1 if name == "first" else 3), name=name)  # type: ignore[arg-type]
        for source in SOURCES:
            objects.append(tmp_path / f"{name}_{source}.o")
            subprocess.run(["gcc", *STRICT, "-c", source, "-o", str(objects[-1])], cwd=c, check=True, timeout=100)
    includes = "".join(f'#include "{name}/{header}.h"\n' for name in ("first", "second") for header in ("classifier", "self_test"))
    main = "static void print(const char* line) { puts(line); }\n"
    main += "int main() { return first_model_self_test(print) && second_model_self_test(print) ? 0 : 1; }\n"
    (tmp_path / "main.cc").write_text(f"#include <stdio.h>\n{includes}{main}")
    command = ["g++", "-std=c++11", "-Wall", "-Wextra", "-Werror", "main.cc", *map(str, objects), "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    status, text = run(tmp_path / "program")
    assert status == 0 and f"first_model {SELF_TEST_PASS}" in text and f"second_model {SELF_TEST_PASS}" in text


def test_the_converters_memory_is_what_the_header_says(tmp_path: Path) -> None:
    """40 B of where it stands, 16 sums of three colors and 16 pixels of three."""
    source = network().graph.input
    assert (converter_bytes(source, "rows"), converter_bytes(source, "kept")) == (40 + 16 * 3 * 4 + 16 * 3, 0)
    if shutil.which(COMPILER) is not None:
        c = folder(tmp_path)
        (c / "size.c").write_text('#include "image_input.h"\nchar size[sizeof(demo_model_camera_t)] = {1};\n')
        flags = [*CORES["cortex-m4"].flags, "-std=c99", "-fshort-enums", "-c", "size.c", "-o", "size.o"]
        subprocess.run([COMPILER.replace("g++", "gcc"), *flags], cwd=c, check=True)
        listed = subprocess.run(["arm-none-eabi-nm", "-S", "size.o"], cwd=c, check=True, capture_output=True, text=True).stdout
        assert abs(int(listed.split()[1], 16) - converter_bytes(source, "rows")) <= 4


# text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", FRAMES)
def test_same_input_gives_the_same_bytes_and_nothing_is_left_to_fill(frame: Frame) -> None:
    first = small(frame)
    assert first == small(frame)
    for path, content in first.items():
        if not path.endswith(".zip"):
            text = content.decode("ascii")
            assert "\r" not in text and text.endswith("\n"), path
            assert not [word for word in text.split("@")[1::2] if word.isidentifier()], path
    everything = b"".join(content for path, content in first.items() if not path.startswith(("LICENSE", "README"))).lower()
    assert not any(word in everything for word in (b"chirale", b"esp-tflite", b"tensorflow_lite", b"cmsis"))
    assert not any(path.endswith((".cc", ".cpp")) for path in first)


@pytest.mark.parametrize("name", ODD[:4] + ODD[-1:], ids=range(5))
@pytest.mark.parametrize("frame", FRAMES)
def test_manifests_of_any_name(frame: Frame, name: str) -> None:
    check_all(small(frame, name=name), SOURCES, tflm=False)


def test_what_a_user_sets_is_said_and_the_page_is_not_tflms() -> None:
    files = small()
    assert yaml.safe_load(files["idf_component.yml"])["url"] == "https://github.com/tinynas/tinynas"
    assert b"depends" not in zipfile.ZipFile(io.BytesIO(files["DemoModel.zip"])).read("DemoModel/library.properties")
    files = small(package=PackageOptions(name="front door", version="1.2.0", url="https://example.org/door"))
    check_all(files, SOURCES, tflm=False)
    assert yaml.safe_load(files["idf_component.yml"])["url"] == "https://example.org/door"
    assert b"front_door_model_run(" in files["network.h"]


def test_the_check_of_manifests_can_fail() -> None:
    files = small()
    faults = {
        "library.json": (b'"+<*.c>"', b'"+<*.cc>"'),
        "idf_component.yml": (b"dependencies:\n", b"dependencies:\n  espressif/esp-tflite-micro: '^1.3.3'\n"),
        "zephyr/module.yml": (b"samples:", b"  depends:\n    - tflite-micro\nsamples:"),
        "self_test.c": (b": PASS", b": PASSED"),
    }
    for path, (old, new) in faults.items():
        assert old in files[path], path
        with pytest.raises(AssertionError):
            check_all({**files, path: files[path].replace(old, new)}, SOURCES, tflm=False)


def test_faults_are_named() -> None:
    qgraph = network()
    with pytest.raises(UserError, match="2 labels for a model of 3 classes"):
        small(labels=["a", "b"])
    with pytest.raises(UserError, match="self-test images are uint8"):
        small(images=images_for(qgraph.graph)[:1])
    two = network(2)
    with pytest.raises(UserError, match=r"reads features of 12 x 16 x 2: nothing in it makes features"):
        small(qgraph=two)
    with pytest.raises(InternalError, match="expected outputs"):
        small(expected=np.zeros((2, 4), np.int8))
    with pytest.raises(InternalError, match="nothing to compile"):
        write_format(Made(b"", qgraph.graph.input, "compiled", ("a", "b", "c"), images_for(qgraph.graph), np.arange(2)), Path())


def test_the_work_area_lies_in_the_section_of_its_region(tmp_path: Path) -> None:
    header = small(section=".bss.axi")["model_settings.h"].decode()
    assert '#define DEMO_MODEL_ARENA_SECTION ".bss.axi"' in header and "None is set" in small()["model_settings.h"].decode()
    if shutil.which(COMPILER) is not None:
        c = folder(tmp_path, section=".bss.axi")
        command = [COMPILER.replace("g++", "gcc"), *CORES["cortex-m7"].flags, *STRICT, "-c", "classifier.c", "-o", "o.o"]
        subprocess.run(command, cwd=c, check=True)
        listed = subprocess.run(["arm-none-eabi-objdump", "-t", "o.o"], cwd=c, check=True, capture_output=True, text=True).stdout
        line = next(line for line in listed.splitlines() if line.endswith(" network"))
        assert ".bss.axi" in line and int(line.split()[-2], 16) == estimate(network().graph, "compiled-rows").sram_bytes


# build systems -------------------------------------------------------------------------------------------------


@needs_cmake
@needs_gcc
def test_plain_cmake_builds_and_passes(tmp_path: Path) -> None:
    c = folder(tmp_path / "c")
    builds = [("host", [])]
    if shutil.which(COMPILER) is not None and shutil.which("qemu-system-arm") is not None:
        builds.append(("m4", [f"-DCMAKE_TOOLCHAIN_FILE={c}/qemu/cortex-m4.cmake"]))
    for name, options in builds:
        place = tmp_path / name
        status, text = run("cmake", "-S", c, "-B", place, *options)
        assert status == 0, text
        status, text = run("cmake", "--build", place)
        assert status == 0 and "warning" not in text, text
        status, text = run("ctest", "--test-dir", place, "-V")
        assert status == 0 and f"demo_model {SELF_TEST_PASS}" in text, text


@needs_cmake
def test_cmake_registers_the_sources_with_esp_idf_and_zephyr(tmp_path: Path) -> None:
    c = folder(tmp_path / "c")
    listed = ";".join(SOURCES)
    (tmp_path / "idf.cmake").write_text(f"{MOCK}set(ESP_PLATFORM 1)\ninclude({c}/CMakeLists.txt)\n")
    status, text = run("cmake", "-P", tmp_path / "idf.cmake")
    assert status == 0 and f"idf_component_register: SRCS;{listed};INCLUDE_DIRS;." in text, text
    for on in (True, False):
        zephyr = f"{MOCK}function(zephyr_library)\nendfunction()\nset(CONFIG_TINYNAS_DEMO_MODEL {on})\n"
        (tmp_path / "z.cmake").write_text(f"{zephyr}include({c}/CMakeLists.txt)\n")
        status, text = run("cmake", "-P", tmp_path / "z.cmake")
        assert status == 0 and (f"zephyr_library_sources: {listed}" in text) == on, text
        assert ("set_source_files_properties: network.c;PROPERTIES;COMPILE_OPTIONS;-O2" in text) == on


@needs_gxx
@needs_gcc
@pytest.mark.parametrize("frame", FRAMES)
def test_arduinos_sketches_run(tmp_path: Path, frame: Frame) -> None:
    """As its builder does: the library's C as C, sketches as C++ behind Arduino.h."""
    zipfile.ZipFile(io.BytesIO(small(frame)["DemoModel.zip"])).extractall(tmp_path)
    library = tmp_path / "DemoModel"
    (tmp_path / "Arduino.h").write_text(ARDUINO_H)
    assert sorted(path.name for path in (library / "src").glob("*.c")) == sorted(SOURCES)
    objects = []
    for source in sorted((library / "src").glob("*.c")):
        objects.append(str(tmp_path / f"{source.stem}.o"))
        subprocess.run(["gcc", "-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-c", str(source), "-o", objects[-1]], check=True)
    (tmp_path / "entry.cc").write_text('#include "Arduino.h"\nSerialShim Serial;\nint main() { setup(); loop(); }\n')
    flags = ["-std=gnu++11", f"-I{tmp_path}", f"-I{library}/src", "-include", "Arduino.h", "-x", "c++"]
    said = {}
    for sketch in ("self_test", "classify"):
        command = ["g++", *flags, str(library / f"examples/{sketch}/{sketch}.ino"), "entry.cc", "-x", "none", *objects, "-o", sketch]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
        status, said[sketch] = run(tmp_path / sketch)
        assert status == 0
    assert said["self_test"].splitlines()[-1] == f"demo_model {SELF_TEST_PASS}"
    assert re.fullmatch(r"[abc] \d+ %\nms \d+\.\d{3}\n", said["classify"]), said


# verify --------------------------------------------------------------------------------------------------------

GOOD = VerifiedNetwork(
    name="net",
    target="cortex-m4",
    runtime="compiled-rows",
    compiler="gcc",
    emulator="qemu",
    promised_work_bytes=1000,
    reserved_work_bytes=1000,
    used_work_bytes=998,
    promised_stack_bytes=320,
    stack_bytes=320,
    promised_network_bytes=5000,
    network_bytes=5050,
    equal_outputs=4,
    compared_outputs=4,
    not_compared="",
    instructions=(("conv stem", 3000), ("dense fc", 1000)),
    inference_instructions=4100,
    refused="",
    firmware=SelfTested("d1", arena_bytes=1000, used_arena_bytes=998, images=2, equal_images=2, program_bytes=22_000, failed=""),
    folder="net/c",
)


def test_what_is_promised_is_held_against_what_was_used() -> None:
    assert GOOD.good and GOOD.notes == []
    assert replace(GOOD, network_bytes=5051).notes == ["5,051 B of code and constants are linked, 1.0 % more than the 5,000 B promised"]
    bad = replace(
        GOOD,
        reserved_work_bytes=1004,
        used_work_bytes=1001,
        stack_bytes=321,
        equal_outputs=3,
        firmware=replace(GOOD.firmware, failed="m self-test: FAIL"),
    )
    assert bad.problems == [
        "1,000 B of work area were promised, and it sets aside 1,004 B",
        "1,000 B of work area were promised, and it uses 1,001 B",
        "320 B of stack were promised, and an inference takes 321 B",
        "1 of 4 outputs differ from tflite-micro's on this computer",
        "the firmware's self-test fails: m self-test: FAIL",
    ]
    dead = replace(GOOD, refused="the program died", used_work_bytes=None, stack_bytes=None, network_bytes=None, instructions=())
    dead = replace(dead, inference_instructions=None, compared_outputs=0, equal_outputs=0)
    assert dead.problems == ["does not run on the emulated cortex-m4: the program died"] and dead.notes == []
    for one in (GOOD, bad, dead):
        document = json.loads(json.dumps(one.to_json()))
        assert wrong(_VERIFIED, document) is None
        console = Console(width=100, record=True)
        console.print(verified_table(document))
        text = console.export_text()
        assert ("NOT as promised" in text) == (not one.good) and "compiled-rows on an emulated cortex-m4" in text
    assert verified_words(GOOD.to_json()) == (
        "emulated cortex-m4, compiled-rows: work area 998 B (1,000 promised), stack of an inference 320 B (320 promised), "
        "flash: the network 5,050 B (5,000 promised), flash: all that is linked 22,000 B, 4 of 4 outputs equal bit for bit, "
        "the firmware passes its self-test, 4,100 instructions"
    )
    assert verified_words(dead.to_json()) == "emulated cortex-m4, compiled-rows: does not run"


@needs_tools
@pytest.mark.parametrize("frame", FRAMES)
def test_a_folder_on_an_emulated_cortex_m4(tmp_path: Path, frame: Frame) -> None:
    qgraph = network()
    c = folder(tmp_path / "c", frame, qgraph, core="cortex-m4")
    found = verify_network(model_of(qgraph), "net", qgraph.graph, RUNTIMES[frame], CORES["cortex-m4"], c)
    cost = estimate(qgraph.graph, RUNTIMES[frame], core="cortex-m4")
    assert found.good and found.notes == [] and (found.equal_outputs, found.compared_outputs) == (4, 4)
    assert found.promised_work_bytes == found.reserved_work_bytes == found.firmware.arena_bytes == cost.sram_bytes
    assert found.used_work_bytes is not None and cost.sram_bytes - 4 < found.used_work_bytes <= cost.sram_bytes
    assert found.stack_bytes is not None and 100 < found.stack_bytes <= found.promised_stack_bytes == cost.stack_bytes
    assert found.network_bytes is not None and found.network_bytes < 1.01 * (found.promised_network_bytes or 0)
    assert f"about {cost.program_bytes:,} B" in (c / "README.md").read_text()
    assert [name for name, _ in found.instructions] == [f"{_kernel(op.kind, op.name)} {op.name}" for op in qgraph.graph.ops]
    assert found.inference_instructions is not None and sum(count for _, count in found.instructions) < 1.1 * found.inference_instructions
    assert found.firmware.digest == folder_digest(c) and found.firmware.equal_images == 2


def _kernel(kind: str, name: str) -> str:
    return {"dw": "dw", "add": "add", "mean": "mean"}.get(kind, "conv" if name == "stem" else "dense")


@needs_tools
def test_faults_of_a_folder_are_found_on_the_emulated_core(tmp_path: Path) -> None:
    qgraph = network()
    c = folder(tmp_path / "c", "kept", qgraph)
    core, model = CORES["cortex-m4"], model_of(qgraph)
    code = (c / "network.c").read_text()
    at = code.index("weights_0[] = {") + len("weights_0[] = {")
    (c / "network.c").write_text(code[:at] + re.sub(r"-?\d+,", "5,", code[at : at + 200], count=12) + code[at + 200 :])
    found = verify_network(model, "net", qgraph.graph, "compiled", core, c)
    assert found.equal_outputs < 4 and len(found.problems) == 2 and found.problems[1].endswith("self-test: FAIL")
    main = c / "self_test_main.c"
    main.write_text(main.read_text().replace("int main(void) {", "int main(void) { for (;;) {}"))
    assert network_self_test(c, core, seconds=1).failed == "it did not finish in 1 s"


def test_a_folder_that_is_not_whole_is_named(tmp_path: Path) -> None:
    qgraph = network()
    c, core, model = folder(tmp_path / "c", "kept", qgraph), CORES["cortex-m4"], model_of(qgraph)

    def verified() -> None:
        verify_network(model, "net", qgraph.graph, "compiled", core, c)

    with pytest.raises(ModelFileError, match="holds another model than net"):
        verify_network(model + b"1", "net", qgraph.graph, "compiled", core, c)
    (c / "network.h").write_text("int nothing;")
    with pytest.raises(ModelFileError, match=r"its network.h or network.c is not tinynas's"):
        verified()
    (c / "classifier.c").unlink()
    with pytest.raises(ModelFileError, match=r"classifier.c cannot be read"):
        verified()
    (c / "model_settings.h").write_text("int nothing;")
    with pytest.raises(ModelFileError, match=r"names no model\n.*export the network again"):
        verified()


# by the line ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def searched(stripes: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    from search_runs import budget, small_search

    limits = budget(runtime="compiled", frame="rows", core="cortex-m4")
    one = small_search(stripes, tmp_path_factory.mktemp("compiled") / "run", limits=limits, trials=4, timeout=None)
    one.go()
    return one.run


def test_refusals_before_anything_is_trained(searched: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tinynas.promote.promote", lambda *_, **__: pytest.fail("it trains"))

    def refused(*more: str) -> str:
        assert tinynas(["promote", str(searched.path), "best", *more]) == 2
        return capsys.readouterr().err

    assert "of compiled-rows it runs the folder c/, and --format does not name it" in refused("--verify", "m4", "--format", "tflite")
    assert "add tflite to --format" in refused("--verify", "m4", "--format", "c")
    assert "whose kernels are its own" in refused("--verify", "m4", "--kernels", "reference")
    assert "unknown target" in refused("--verify", "m9")


@needs_tools
def test_promote_delivers_the_folder_and_verifies_it(
    searched: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TFLM_DIR", raising=False)  # nobody asks for it
    assert tinynas(["promote", str(searched.path), "best", "--epochs", "1", "--verify", "m4", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["promoted"]
    net_id = searched.best
    c = searched.net_dir(net_id) / "c"
    cost = estimate(lower(searched.arch(net_id)), "compiled-rows", core="cortex-m4")
    assert row["verified"]["good"] and row["verified"]["runtime"] == "compiled-rows" and row["problems"] == []
    assert row["verified"]["promised_work_bytes"] == cost.sram_bytes and row["verified"]["folder"] == str(c)
    assert (c / "network.c").is_file() and not list(c.rglob("*.cc"))
    record = searched.artifact(net_id)
    assert record is not None
    firmware = record.report["firmware"]
    assert (firmware["work_bytes"], firmware["flash_bytes"]) == (cost.sram_bytes, cost.flash_bytes) and firmware["frame"] == "rows"
    card = (searched.net_dir(net_id) / "MODEL_CARD.md").read_text()
    page = searched.report_file.read_text()
    said = f"The folder c/ holds the network itself as C99, for compiled-rows: {cost.sram_bytes:,} B of work area"
    assert said in card and said in page and "## On an emulated cortex-m4" in card and "PASS, 2 of 2 inputs equal bit for bit" in card
    # TFLM's arena on a computer says nothing of it: neither card nor page has a row of it.
    assert "64-bit host" not in card and "(64 bit)" not in page and f"| Stack of an inference | {cost.stack_bytes:,} B" in card
    assert (row["firmware"], firmware["stack_bytes"]) == (firmware, cost.stack_bytes)
    assert "| Work area |" in card and "Executed instructions by operator" in page and "TFLM from" not in page
    # By itself, in words; then a fault put into the folder is found.
    assert tinynas(["verify", f"{searched.path}:{net_id}"]) == 0
    assert "compiled-rows on an emulated cortex-m4" in capsys.readouterr().out
    data = c / "self_test_data.c"
    text = data.read_text()
    at = text.index("_self_test_pixels")
    data.write_text(text[:at] + text[at:].replace("0x", "0x1 + 0x", 40))
    assert tinynas(["verify", str(searched.path)]) == 1
    data.write_text(text)
    # Elsewhere, with whole frames; and what cannot be compiled is refused by name.
    export = ["export", str(searched.path), net_id, "--out", str(tmp_path / "deploy")]
    assert tinynas([*export, "--runtime", "compiled"]) == 0
    whole = estimate(lower(searched.arch(net_id)), "compiled", core="cortex-m4").sram_bytes
    assert f"as C99, for compiled: {whole:,} B of work area, " in capsys.readouterr().out.replace("\n", " ")
    assert b"_frame(" in (tmp_path / "deploy/c/network.h").read_bytes() and (tmp_path / "deploy/model_int8.tflite").is_file()
    for option, why in ((("--exporter", "tensorflow"), "the exporter tensorflow"), (("--io", "uint8"), "input and output of type uint8")):
        assert tinynas([*export, *option]) == 2
        assert f"not a model of {why}" in capsys.readouterr().err
    shutil.rmtree(c)
    assert tinynas(["verify", str(searched.path)]) == 2
    assert "has no folder c/" in capsys.readouterr().err


def test_a_run_of_features_has_no_folder_to_verify(searched: Run) -> None:
    arch = searched.arch(searched.best).model_copy(update={"channels": 2})
    with pytest.raises(UserError, match="nothing in it makes features"):
        api._needs_folder(None, arch, "compiled")
