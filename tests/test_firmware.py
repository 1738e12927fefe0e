"""The firmware folder: compiled, run on the host and on an emulated Cortex-M4, and compared with numpy.

On the host the interpreter is the one inside the tflite-micro wheel, whose symbols tests/tflm_wheel declares; on the emulated core
it is built from TFLM's sources, where the tool chain and the sources are there (tests/thin_tflm.py).
"""

from __future__ import annotations

import io
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import yaml

from tinynas.budget import load_budget
from tinynas.cost.kernel import Kernel
from tinynas.cost.kernels import KERNELS
from tinynas.errors import ModelFileError, UserError
from tinynas.export.emulated import folder_model, self_test
from tinynas.export.facts import ModelFacts, input_table, read_facts
from tinynas.export.firmware import (
    ArenaFigures,
    build_firmware,
    measured_arena,
    write_firmware,
    write_format,
)
from tinynas.export.folder import Decision, pick_images
from tinynas.export.forked import run_forked
from tinynas.export.formats import Made
from tinynas.export.manifests import identifier
from tinynas.export.sandbox import run_tflm
from tinynas.inputs import Input
from tinynas.target.cores import CORES
from tinynas.target.library import Tree

if TYPE_CHECKING:
    from thin_tflm import Emulated

WHEEL = Path(__file__).parent / "tflm_wheel"
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti"]

#: What firmware projects switch on, as errors; C++11, the oldest standard that TFLM was built with.
WARNINGS = ("all", "extra", "pedantic", "shadow", "conversion", "sign-conversion", "undef", "double-promotion", "old-style-cast")
STRICT = ["-std=c++11", "-Werror", *(f"-W{warning}" for warning in WARNINGS)]

needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed (apt-get install g++)")
needs_arm = pytest.mark.skipif(
    shutil.which("arm-none-eabi-g++") is None,
    reason="arm-none-eabi-g++ is not installed (apt-get install gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib)",
)
on_target = pytest.mark.xdist_group("target")
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


# models ----------------------------------------------------------------------------------------------------


def tiny_model(channels: int = 3, height: int = 12, width: int = 16, classes: int = 3, **quantisation: Any) -> bytes:
    """A real int8 .tflite written here operator by operator: conv 3x3/2, depthwise 3x3, mean, fully connected."""
    from ai_edge_litert import schema_py_generated as s

    rng = np.random.default_rng(channels * 1000 + height)
    model, graph = s.ModelT(), s.SubGraphT()
    model.version, model.buffers, graph.tensors, graph.operators, model.operatorCodes = 3, [s.BufferT()], [], [], []
    model.subgraphs = [graph]

    def tensor(shape: list[int], kind: int, scales: list[float], zero: int = 0, data: Any = None) -> int:
        t, q = s.TensorT(), s.QuantizationParametersT()
        t.shape, t.type, t.name, t.buffer = shape, kind, f"t{len(graph.tensors)}".encode(), 0
        q.scale, q.zeroPoint, q.quantizedDimension = scales, [zero] * len(scales), 0
        t.quantization = q if scales else None
        if data is not None:
            buffer = s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), dtype=np.uint8)
            model.buffers.append(buffer)
            t.buffer = len(model.buffers) - 1
        graph.tensors.append(t)
        return len(graph.tensors) - 1

    def operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any, version: int) -> None:
        entry = s.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), version
        model.operatorCodes.append(entry)
        op = s.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, inputs, outputs
        op.builtinOptionsType, op.builtinOptions = kind, options
        graph.operators.append(op)

    int8, int32, mid = s.TensorType.INT8, s.TensorType.INT32, 8
    scale, zero = quantisation.get("scale", 1 / 128), quantisation.get("zero", 0)
    out_h, out_w = -(-height // 2), -(-width // 2)
    x = tensor([1, height, width, channels], int8, [scale], zero)
    w = tensor([mid, 3, 3, channels], int8, [0.01] * mid, data=rng.integers(-127, 128, (mid, 3, 3, channels), dtype=np.int8))
    b = tensor([mid], int32, [0.01 * scale] * mid, data=rng.integers(-900, 900, mid, dtype=np.int32))
    y = tensor([1, out_h, out_w, mid], int8, [0.03], -128)
    conv = s.Conv2DOptionsT()
    conv.padding, conv.strideH, conv.strideW = s.Padding.SAME, 2, 2
    conv.fusedActivationFunction = s.ActivationFunctionType.RELU6
    operator(s.BuiltinOperator.CONV_2D, [x, w, b], [y], s.BuiltinOptions.Conv2DOptions, conv, 3)
    dw = tensor([1, 3, 3, mid], int8, [0.01] * mid, data=rng.integers(-127, 128, (1, 3, 3, mid), dtype=np.int8))
    graph.tensors[dw].quantization.quantizedDimension = 3
    db = tensor([mid], int32, [0.0003] * mid, data=np.zeros(mid, dtype=np.int32))
    z = tensor([1, out_h, out_w, mid], int8, [0.05], 3)
    depthwise = s.DepthwiseConv2DOptionsT()
    depthwise.padding, depthwise.strideH, depthwise.strideW, depthwise.depthMultiplier = s.Padding.SAME, 1, 1, 1
    operator(s.BuiltinOperator.DEPTHWISE_CONV_2D, [y, dw, db], [z], s.BuiltinOptions.DepthwiseConv2DOptions, depthwise, 3)
    axes = tensor([2], int32, [], data=np.array([1, 2], dtype=np.int32))
    pooled = tensor([1, mid], int8, [0.02], 0)
    operator(s.BuiltinOperator.MEAN, [z, axes], [pooled], s.BuiltinOptions.ReducerOptions, s.ReducerOptionsT(), 2)
    fw = tensor([classes, mid], int8, [0.02], data=rng.integers(-127, 128, (classes, mid), dtype=np.int8))
    fb = tensor([classes], int32, [0.0004], data=rng.integers(-100, 100, classes, dtype=np.int32))
    logits = tensor([1, classes], int8, [0.0371], -5)
    operator(
        s.BuiltinOperator.FULLY_CONNECTED, [pooled, fw, fb], [logits], s.BuiltinOptions.FullyConnectedOptions, s.FullyConnectedOptionsT(), 4
    )
    graph.inputs, graph.outputs = [x], [logits]
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def tflm_outputs(model: bytes, images: np.ndarray) -> np.ndarray:
    return run_tflm(model, images).outputs


def images_for(facts: ModelFacts, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (2, *facts.input_shape), dtype=np.uint8)


ARENA = ArenaFigures(head_bytes=3072, host_tail_bytes=2600, mcu_bytes=4100, mcu_cmsis_bytes=4200)


def folder(path: Path, model: bytes, **options: Any) -> Path:
    facts = read_facts(model)
    labels = [f"class {i}" for i in range(facts.classes)]
    options = {"labels": labels, "images": images_for(facts), "arena": ARENA, "name": "demo", **options}
    write_firmware(path, model, **options)
    return path


# the quantiser, by an independent route ------------------------------------------------------------------------


def window(height: int, width: int, target: tuple[int, int]) -> tuple[int, int]:
    """Size of the largest window with the target's aspect ratio."""
    aspect = Fraction(target[0], target[1])
    return min(height, max(1, round(width * aspect))), min(width, max(1, round(height / aspect)))


def area_matrix(full: int, scaled: int) -> np.ndarray:
    """(scaled, full) integer weights of the mean over covered pixels; every row sums to ``full``."""
    weights = np.zeros((scaled, full), dtype=np.int64)
    for i in range(scaled):
        for j in range(full):
            weights[i, j] = max(0, min((i + 1) * full, (j + 1) * scaled) - max(i * full, j * scaled))
    return weights


def bilinear_matrix(full: int, scaled: int) -> np.ndarray:
    """(scaled, full) weights with pixel centres aligned, in 1/2048."""
    weights = np.zeros((scaled, full), dtype=np.int64)
    for i in range(scaled):
        at = (i + 0.5) * full / scaled - 0.5
        at = min(max(at, 0.0), full - 1)
        first = int(at)
        fraction = round((at - first) * 2048)
        weights[i, first] += 2048 - fraction
        weights[i, min(first + 1, full - 1)] += fraction
    return weights


def reference(rgb: np.ndarray, target: tuple[int, int, int], method: str = "training") -> np.ndarray:
    """The uint8 image (H, W, C) that the network should see of an RGB frame."""
    height, width = rgb.shape[:2]
    high, wide = window(height, width, target[:2])
    top, left = (height - high) // 2, (width - wide) // 2
    frame = rgb[top : top + high, left : left + wide].astype(np.int64)
    if method == "training":
        method = "area" if target[0] <= high and target[1] <= wide else "bilinear"
    if method == "nearest":
        image = frame[np.arange(target[0]) * high // target[0]][:, np.arange(target[1]) * wide // target[1]]
    else:
        matrix = area_matrix if method == "area" else bilinear_matrix
        down, across = matrix(high, target[0]), matrix(wide, target[1])
        total = int(down[0].sum() * across[0].sum())
        image = np.einsum("ij,jkc->ikc", down, np.einsum("lk,jkc->jlc", across, frame))
        # Halves to even for means, as rint; up for the fixed-point interpolation. Exact in double.
        image = (np.rint(image / total) if method == "area" else (2 * image + total) // (2 * total)).astype(np.int64)
    if target[2] == 1:
        image = (9798 * image[..., :1] + 19235 * image[..., 1:2] + 3735 * image[..., 2:] + 16384) >> 15
    return image.astype(np.uint8)


def as_frame(rgb: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """(bytes (H, row bytes), the RGB values they hold) of a frame in one of the pixel formats."""
    height = rgb.shape[0]
    if form == "kRgb888":
        return rgb.reshape(height, -1), rgb
    if form == "kBgr888":
        return rgb[..., ::-1].reshape(height, -1), rgb
    if form == "kGray8":
        return rgb[..., 0], np.repeat(rgb[..., :1], 3, axis=2)
    r, g, b = (rgb[..., i].astype(np.uint16) >> n for i, n in ((0, 3), (1, 2), (2, 3)))
    packed = (r << 11) | (g << 5) | b
    held = np.stack([(r << 3) | (r >> 2), (g << 2) | (g >> 4), (b << 3) | (b >> 2)], axis=2).astype(np.uint8)
    order = "<u2" if form == "kRgb565LittleEndian" else ">u2"
    return packed.astype(order).view(np.uint8).reshape(height, -1), held


FORMATS = ("kRgb888", "kBgr888", "kRgb565LittleEndian", "kRgb565BigEndian", "kGray8")
METHODS = ("training", "area", "bilinear", "nearest")

# Reads frames from stdin and writes 1 byte (accepted) and the input tensor for each; every buffer has its exact size,
# so that the sanitisers see a read or write one byte too far.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "image_input.h"
int main() {
  int header[6];
  while (fread(header, sizeof header, 1, stdin) == 1) {
    uint8_t* pixels = static_cast<uint8_t*>(malloc(static_cast<size_t>(header[5]) ? header[5] : 1));
    if (header[5] && fread(pixels, static_cast<size_t>(header[5]), 1, stdin) != 1) return 2;
    using namespace demo_model;
    InputElement* input = static_cast<InputElement*>(calloc(kInputElements, sizeof(InputElement)));
    const Frame frame = {header[5] ? pixels : nullptr, header[0], header[1], static_cast<PixelFormat>(header[2]), header[3]};
    const char accepted = QuantizeFrame(frame, input, static_cast<Resize>(header[4])) ? 1 : 0;
    fwrite(&accepted, 1, 1, stdout);
    fwrite(input, sizeof(InputElement), kInputElements, stdout);
    free(pixels);
    free(input);
  }
  return 0;
}
"""


class Quantiser:
    """QuantizeFrame compiled with the address and undefined-behaviour sanitisers."""

    def __init__(self, path: Path, model: bytes, **options: Any) -> None:
        self.facts = read_facts(model)
        folder(path, model, **options)
        (path / "driver.cc").write_text(DRIVER)
        sources = ["driver.cc", "image_input.cc", "model_settings.cc"]
        command = ["g++", *FLAGS, "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *sources, "-o", "driver"]
        subprocess.run(command, cwd=path, check=True, timeout=100)
        self.program = path / "driver"

    def __call__(self, frames: list[tuple[bytes, int, int, int, int, int]]) -> list[np.ndarray | None]:
        """(pixels, width, height, format, stride, method) each -> the input tensor, or None where refused."""
        feed = b"".join(struct.pack("<6i", w, h, form, stride, method, len(data)) + data for data, w, h, form, stride, method in frames)
        done = subprocess.run([str(self.program)], input=feed, capture_output=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        dtype = np.dtype(self.facts.input_dtype)
        size = int(np.prod(self.facts.input_shape)) * dtype.itemsize
        assert len(done.stdout) == len(frames) * (size + 1)
        results: list[np.ndarray | None] = []
        for i in range(len(frames)):
            record = done.stdout[i * (size + 1) : (i + 1) * (size + 1)]
            results.append(np.frombuffer(record[1:], dtype).reshape(self.facts.input_shape) if record[0] else None)
        return results


SIZES = [(12, 16), (24, 32), (120, 160), (96, 96), (31, 77), (77, 31), (5, 4), (7, 40), (13, 17), (1, 1), (240, 7)]


@needs_gxx
@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 12, 16), (1, 32, 20)], ids=str)
def test_frames_become_the_input_that_training_saw(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    channels = shape[0]
    quantise = Quantiser(tmp_path, tiny_model(*shape))
    target, table = quantise.facts.input_shape, input_table(quantise.facts)
    rng = np.random.default_rng(7)
    frames, expected = [], []
    for case, (height, width) in enumerate(SIZES):
        rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for form, name in enumerate(FORMATS):
            for method, kind in enumerate(METHODS):
                if (case + form + method) % 3 and case > 3:
                    continue  # all formats and methods on the first sizes, a third of the rest
                rows, held = as_frame(rgb, name)
                pad = 5 * (case % 2)  # every other frame has a stride with bytes to skip
                wide = np.full((height, rows.shape[1] + pad), 99, dtype=np.uint8)
                wide[:, : rows.shape[1]] = rows
                data = wide.tobytes()[: wide.size - pad]  # the last row may end early
                frames.append((data, width, height, form, wide.shape[1] if pad else 0, method))
                image = reference(held, target, kind)
                if name == "kGray8" and channels == 1:
                    image = reference(np.repeat(held[..., :1], 3, axis=2), (*target[:2], 3), kind)[..., :1]
                expected.append((f"{width}x{height} {name} {kind}", table[image]))
    results = quantise(frames)
    assert len(results) > 100
    for (what, want), got in zip(expected, results, strict=True):
        assert got is not None, what
        difference = np.abs(got.astype(int) - want.astype(int)).max()
        # The bilinear weights are rounded to 1/2048 by two routes; everything else is exact.
        assert difference <= (1 if "bilinear" in what or "training" in what else 0), f"{what}: {difference}"


@needs_gxx
@pytest.mark.parametrize("shape", [(3, 24, 32), (1, 24, 32), (3, 32, 20)], ids=str)
def test_the_quantiser_agrees_with_the_data_pipeline(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Against the code that feeds training (OpenCV): equal but for roundings of its float sums."""
    from tinynas.data.images import resize

    channels, *target = shape
    quantise = Quantiser(tmp_path, tiny_model(channels, *target))
    rng = np.random.default_rng(3)
    frames, images = [], []
    for height, width in ((240, 320), (480, 640), (96, 96), (50, 75), (61, 200), (24, 32), (32, 20), (24, 40), (10, 12)):
        rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        rgb[: height // 2] //= 3
        rgb[:2] = 255
        frames.append((rgb.tobytes(), width, height, 0, 0, 0))
        images.append(resize(rgb, *target, channels))
    for (_, width, height, *_), got, image in zip(frames, quantise(frames), images, strict=True):
        assert got is not None
        difference = np.abs(got.astype(int) + 128 - image)
        assert difference.max() <= 1, (width, height)
        # OpenCV's enlarging drops bits between its two passes; its means are float sums.
        assert (difference > 0).mean() < (0.01 if width >= target[1] and height >= target[0] else 0.2), (width, height)
        if [height, width] == target:
            assert difference.max() == 0  # a frame of the input's size is passed through


@needs_gxx
def test_bad_frames_are_refused_and_leave_the_input_alone(tmp_path: Path) -> None:
    quantise = Quantiser(tmp_path, tiny_model())
    pixel = bytes(300)
    frames = [
        (b"", 10, 10, 0, 0, 0),
        (pixel, 0, 10, 0, 0, 0),
        (pixel, 10, -1, 0, 0, 0),
        (pixel, 10, 10, 0, 29, 0),
        (pixel, 10, 10, 0, -30, 0),
        (pixel, 10, 10, 9, 0, 0),
        (pixel, 70000, 1, 4, 0, 0),
        (pixel, 5000, 5000, 4, 0, 0),
    ]
    assert quantise(frames) == [None] * len(frames)
    assert quantise([(pixel, 10, 10, 0, 30, 0)])[0] is not None


@needs_gxx
def test_rotated_models_get_the_image_turned(tmp_path: Path) -> None:
    model = tiny_model()
    rgb = np.random.default_rng(5).integers(0, 256, (60, 81, 3), dtype=np.uint8)
    frame = (rgb.tobytes(), 81, 60, 0, 0, 0)
    upright = Quantiser(tmp_path / "upright", model)([frame])[0]
    turned = Quantiser(tmp_path / "turned", model, rotation=180)([frame])[0]
    assert upright is not None
    assert turned is not None
    assert (upright[::-1, ::-1] == turned).all()
    assert (upright != turned).any()


@needs_gxx
def test_an_input_grid_that_is_not_the_pixels_goes_through_a_table(tmp_path: Path) -> None:
    model = tiny_model(3, 12, 16, scale=0.0071, zero=4)
    quantise = Quantiser(tmp_path / "said", model, source=Input(12, 16, 3))
    assert "kPixelTable[256]" in (tmp_path / "said" / "model_settings.cc").read_text()
    image = np.arange(12 * 16 * 3, dtype=np.int64).reshape(12, 16, 3).astype(np.uint8)
    got = quantise([(image.tobytes(), 16, 12, 0, 0, 0)])[0]
    want = np.clip(np.rint((image.astype(float) - 128) / 128 / np.float32(0.0071)) + 4, -128, 127)
    assert got is not None
    assert (got == want).all()
    # Where nobody says what the numbers mean, the 256 steps of the input are the 256 values of a pixel.
    direct = Quantiser(tmp_path / "unsaid", model)([(image.tobytes(), 16, 12, 0, 0, 0)])[0]
    assert direct is not None
    assert (direct == image.astype(int) - 128).all()


# the whole folder with the interpreter of the Python wheel -------------------------------------------------------


def wheel_exports_the_interpreter() -> bool:
    import tflite_micro

    libraries = list(Path(tflite_micro.__file__).parent.rglob("_runtime*.so"))
    return bool(libraries) and b"_ZN6tflite5micro16MicroInterpreter15AllocateTensorsEv" in libraries[0].read_bytes()


needs_wheel = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux" or not wheel_exports_the_interpreter(),
    reason="needs g++, Linux, and a tflite-micro wheel that exports tflite::micro::MicroInterpreter",
)


def example_frame() -> np.ndarray:
    """The RGB values of the ramp that example_main.cc shows."""
    y, x = np.mgrid[:120, :160]
    grey = ((x + y) * 255 // 280).astype(np.uint8)
    return as_frame(np.repeat(grey[..., None], 3, axis=2), "kRgb565BigEndian")[1]


def example_outputs(model: bytes, rotation: int = 0) -> np.ndarray:
    """What the model answers to the example's frame."""
    shown = reference(example_frame(), read_facts(model).input_shape)[None]
    return tflm_outputs(model, np.ascontiguousarray(shown[:, ::-1, ::-1]) if rotation else shown)[0]


SOURCES = ["model_data.cc", "model_settings.cc", "image_input.cc", "classifier.cc", "self_test.cc", "self_test_data.cc"]


def on_host(
    c: Path, main: str = "self_test_main.cc", *, defines: tuple[str, ...] = (), sources: Sequence[str] = SOURCES
) -> tuple[int, str]:
    """(0 where ``main`` gives 0, log) of a program of the folder with TFLM's interpreter and kernels on the host."""
    (c / "entry.cc").write_text('int program();\nextern "C" int entry() { return program() == 0; }\n')
    include = ["-I.", "-isystem", str(WHEEL)]
    # Unoptimized: warnings of an optimizing compiler are what test_compiles_without_a_warning is for.
    command = ["g++", *FLAGS, "-shared", "-fPIC", "-Dmain=program", *defines, *include, *sources, main, "entry.cc", "-o", "l.so"]
    subprocess.run(command, cwd=c, check=True, timeout=200)
    return entered(c / "l.so")


def entered(library: Path) -> tuple[int, str]:
    """(0 where the ``entry`` of ``library`` says so, log): in a child that has TFLM's interpreter."""
    found = run_forked(WHEEL / "run_self_test.py", str(library).encode(), 60, "tflite_micro")
    assert found is not None, "nothing can be forked"
    return found[0], (found[1] + found[2]).decode()


def run(*command: object) -> tuple[int, str]:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@needs_wheel
@pytest.mark.parametrize("shape", [(3, 12, 16), (1, 32, 20)])
def test_self_test_and_example_run_on_the_host(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    model = tiny_model(*shape)
    outputs = example_outputs(model)
    c = folder(tmp_path / "c", model)
    status, text = on_host(c)
    assert (status, text.count(": ok"), "self-test: PASS" in text) == (0, 2, True), text
    status, text = on_host(c, "example_main.cc")
    assert status == 0, text
    logits = 0.0371 * (outputs.astype(float) + 5)
    share = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert text.startswith(f"class {outputs.argmax()} ({int(100 * share.max() + 0.5)} %), arena "), text


@needs_wheel
def test_a_threshold_decides_in_place_of_the_largest_output(tmp_path: Path) -> None:
    """At the very margin of the first image, and one step below it: no, and yes."""
    model = tiny_model(classes=2)
    first, second = tflm_outputs(model, images_for(read_facts(model))).astype(int)
    positive = 1 - int(first.argmax())  # the class that the largest output does not name
    margin = int(first[positive] - first[1 - positive])
    assert margin < 0
    for cut, said in ((margin, 1 - positive), (margin - 1, positive)):
        decision = Decision(positive, cut, ("why */ \\",))
        c = folder(tmp_path / f"c{-cut}", model, decision=decision)
        status, text = on_host(c)
        assert status == 0 and f'image 0 is "class {said}"' in text and decision.says(second) in (0, 1), text
        assert f"constexpr int kThreshold = {cut};" in (c / "model_settings.h").read_text()
    settings = c / "model_settings.h"
    settings.write_text(settings.read_text().replace(f"kThreshold = {cut};", "kThreshold = 300;"))
    assert on_host(c)[0] == 1, "the self-test notices another threshold"


@needs_wheel
def test_the_time_that_the_example_prints_is_read_by_a_budget(tmp_path: Path) -> None:
    model = tiny_model()
    c = folder(tmp_path / "c", model)
    status, text = on_host(c, "example_main.cc")
    assert status == 0 and re.fullmatch(r"class .*\nnet,ms\nmodel_int8\.tflite,\d+\.\d{3}\n", text), text
    (tmp_path / "model_int8.tflite").write_bytes(model)  # the CSV lies beside it
    (tmp_path / "mine.csv").write_text(text[text.index("net,ms") :])
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nruntime: tflm-cmsis-nn\nsram: 64 KiB\nflash: 256 KiB\ncore: cortex-m4\nclock_mhz: 64\nlatency: mine.csv\n"
    )
    budget = load_budget(tmp_path / "mine.yaml")
    (row,) = budget.latency
    assert not isinstance(row, str) and row.net == "model_int8.tflite" and row.ms == float(text.strip().rpartition(",")[2]) > 0
    assert budget.timing is not None and budget.timing.own == 1
    # A platform without a clock prints no time.
    status, text = on_host(c, "example_main.cc", defines=("-DWHEEL_NO_CLOCK",))
    assert status == 0 and "ms" not in text and text.startswith("class "), text


@needs_wheel
def test_self_test_notices_every_fault_it_is_for(tmp_path: Path) -> None:
    model = tiny_model()
    images = images_for(read_facts(model))
    expected = tflm_outputs(model, images)

    wrong = expected.copy()
    wrong[1, 2] += 1  # one output byte, one step off
    c = folder(tmp_path / "off_by_one", model, expected=wrong)
    status, text = on_host(c)
    assert (status, text.count(": ok")) == (1, 1), text
    assert "largest difference 1 steps: FAIL" in text
    status, text = on_host(c, defines=("-DDEMO_MODEL_SELF_TEST_TOLERANCE=1",))
    assert status == 0, text

    c = folder(tmp_path / "other_pixels", model, images=images[::-1].copy(), expected=expected)
    status, text = on_host(c)
    assert status == 1, text

    c = folder(tmp_path / "small_arena", model)
    status, text = on_host(c, defines=("-DDEMO_MODEL_ARENA_BYTES=1008",))
    assert status == 1, text
    assert "1008 bytes of arena are too few" in text

    c = folder(tmp_path / "damaged", model)
    data = (c / "model_data.cc").read_text()
    at = model.index(np.random.default_rng(3012).integers(-127, 128, (8, 3, 3, 3), dtype=np.int8).tobytes())  # the first weights
    words = [m.start() for m in re.finditer("0x", data)]
    for index in range(at, at + 40):
        data = data[: words[index]] + "0x7f" + data[words[index] + 4 :]
    (c / "model_data.cc").write_text(data)
    status, text = on_host(c)
    assert status == 1, text


@needs_wheel
def test_rotation_is_honoured_from_frame_to_output(tmp_path: Path) -> None:
    model = tiny_model()
    facts = read_facts(model)
    c = folder(tmp_path / "c", model, rotation=180)
    assert "constexpr int kInputRotation = 180;" in (c / "model_settings.h").read_text()
    status, text = on_host(c)
    assert status == 0, text
    turned = tflm_outputs(model, np.ascontiguousarray(images_for(facts)[:, ::-1, ::-1]))
    status, text = on_host(folder(tmp_path / "upright", model, expected=turned))
    assert status == 1, text  # upright images give other outputs


@needs_wheel
def test_real_models_of_others(tmp_path: Path, test_data: Path) -> None:
    """MLPerf Tiny's ResNet (CIFAR-10, other scales) and ST's (uint8 input through QUANTIZE, float output)."""
    names = ["mlcommons-tiny__pretrainedResnet_quant", "st-modelzoo-v2__resnet_v1_8_32_tfs_int8"]
    for name in names:
        model = (test_data / "models" / f"{name}.tflite").read_bytes()
        status, text = on_host(folder(tmp_path / name, model, arena=measured_arena(model)))
        assert status == 0, f"{name}: {text}"


def test_an_arena_that_is_only_known_from_below_is_not_reserved(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TRANSPOSE, were its part of the tail not known: the host's measured figure stands in."""
    monkeypatch.delitem(cast(dict[str, Kernel], KERNELS), "TRANSPOSE")
    arena = measured_arena((test_data / "models" / "tinyengine__vww.tflite").read_bytes(), "tflm")
    assert (arena.mcu_bytes, arena.mcu_cmsis_bytes) == (None, None)
    assert arena.mcu_arena == arena.host_arena > arena.head_bytes


def own_model(io: str = "int8", flavour: str = "full", rotation: int = 0) -> bytes:
    """mcunet-tiny2 with random weights, by tinynas's own writer."""
    from tinynas.arch import load_arch
    from tinynas.cost import plan_offline
    from tinynas.export.tflite import ModelMeta, serialize
    from tinynas.graph import lower
    from tinynas.quantize.grid import random_quantized

    arch = load_arch("mcunet-tiny2")
    meta = ModelMeta(arch_id=arch.id, labels=("no person", "person"), io=io, flavour=flavour, input_rotation=rotation)  # type: ignore[arg-type]
    return serialize(random_quantized(lower(arch)), meta, plan_offline(lower(arch)))


@needs_wheel
@pytest.mark.parametrize(
    ("io", "flavour", "rotation"), [("int8", "full", 180), ("uint8", "full", 0), ("float", "full", 180), ("int8", "lean", 0)]
)
def test_own_files_of_every_form(tmp_path: Path, io: str, flavour: str, rotation: int) -> None:
    """Input and output types, rotation and labels are taken from the file; a lean one says nothing, so labels are given."""
    model = own_model(io, flavour, rotation)
    facts = read_facts(model)
    assert facts.input_dtype == {"int8": "int8", "uint8": "uint8", "float": "float32"}[io]
    outputs = example_outputs(model, rotation)
    labels = None if flavour == "full" else ["no person", "person"]
    c = folder(tmp_path / "c", model, labels=labels, arena=measured_arena(model))
    assert "kPixelTable" not in (c / "model_settings.h").read_text()
    status, text = on_host(c)
    assert status == 0, text
    status, text = on_host(c, "example_main.cc")
    assert status == 0, text
    assert text.startswith(("no person", "person")[outputs.argmax()]), text


@needs_wheel
def test_the_arena_works_first_time_and_less_does_not(tmp_path: Path) -> None:
    def with_arena(size: int) -> tuple[int, str]:
        return on_host(c, defines=(f"-DDEMO_MODEL_ARENA_BYTES={size}",))

    model = own_model()
    arena = measured_arena(model)
    c = folder(tmp_path / "c", model, arena=arena)
    status, text = on_host(c)
    assert (status, text.count("largest difference 0 steps: ok")) == (0, 2), text
    status, text = with_arena(arena.host_bytes)
    assert status == 0, text
    # The measured figure is no guess: a little less fails. (Measuring itself takes about 230 bytes: it records.)
    status, text = with_arena(arena.host_bytes - 512)
    assert status == 1, text


# cross compilers, build systems ---------------------------------------------------------------------------------


@needs_gxx
def test_compiles_without_a_warning(tmp_path: Path) -> None:
    for form in ("int8", "float"):
        c = folder(tmp_path / form / "c", own_model(form))
        for source in [*SOURCES, "example_main.cc", "self_test_main.cc"]:
            command = ["g++", "-O1", *STRICT, "-I.", "-isystem", str(WHEEL), "-c", source, "-o", "o.o"]
            done = subprocess.run(command, cwd=c, capture_output=True, text=True, check=False, timeout=60)
            assert (done.returncode, done.stderr) == (0, ""), source


@needs_arm
def test_compiles_for_cortex_m(tmp_path: Path) -> None:
    c = folder(tmp_path / "c", tiny_model(1))
    for core in ("cortex-m0plus", "cortex-m7"):
        for source in [*SOURCES, "example_main.cc"]:
            command = ["arm-none-eabi-g++", "-Os", *CORES[core].flags, *STRICT, "-I.", "-isystem", str(WHEEL), "-c", source, "-o", "o.o"]
            done = subprocess.run(command, cwd=c, capture_output=True, text=True, check=False, timeout=60)
            assert (done.returncode, done.stderr) == (0, ""), (source, core)


@needs_arm
@pytest.mark.parametrize("section", [None, ".bss.axi_sram"])
def test_the_arena_lies_in_the_section_of_its_region(section: str | None, tmp_path: Path) -> None:
    model = tiny_model(1)
    c = folder(tmp_path / "c", model, arena=replace(ARENA, section=section))
    core = CORES["cortex-m7"].flags
    for told, wanted in (((), section), (('-DDEMO_MODEL_ARENA_SECTION=".bss.fast"',), ".bss.fast")):
        command = ["arm-none-eabi-g++", "-Os", *core, *STRICT, *told, "-I.", "-isystem", str(WHEEL), "-c", "classifier.cc", "-o", "o.o"]
        done = subprocess.run(command, cwd=c, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        listed = subprocess.run(
            ["arm-none-eabi-objdump", "-t", "o.o"], cwd=c, capture_output=True, text=True, check=True, timeout=60
        ).stdout
        arena = next(line for line in listed.splitlines() if "tensor_arena" in line)
        assert (f"\t{wanted or '.bss'}" in arena.replace(" ", "\t")) and int(arena.split()[-2], 16) == ARENA.mcu_arena


@on_target
@pytest.mark.parametrize("tree", ["newest", "arduino"])
def test_self_test_passes_on_an_emulated_cortex_m4(tmp_path: Path, emulated: Emulated, tree: str) -> None:
    """Interpreters of 2026 keep their names in tflite::micro, those of the Arduino library in tflite."""
    model = tiny_model()
    c = folder(tmp_path / "c", model)
    thin = emulated(tree)
    tested = self_test(c, thin.core, thin.tree, thin.library)
    assert (tested.failed, tested.images, tested.equal_images) == ("", 2, 2)
    assert tested.used_arena_bytes is not None and tested.arena_bytes is not None
    assert 1500 < tested.used_arena_bytes < tested.arena_bytes == ARENA.mcu_arena
    assert 40_000 + len(model) < tested.program_bytes < 200_000
    assert folder_model(c) == model


@on_target
@pytest.mark.parametrize(("tree", "least"), [("newest", 30_000), ("arduino", 5_000)])
def test_kernels_for_int8_alone_take_less_flash_and_no_more_else(tmp_path: Path, emulated: Emulated, tree: str, least: int) -> None:
    c = folder(tmp_path / "c", tiny_model())
    thin = emulated(tree)
    alone = self_test(c, thin.core, thin.tree, thin.library)
    header = c / "model_ops.h"
    header.write_text("#define DEMO_MODEL_GENERAL_KERNELS\n" + header.read_text())
    general = self_test(c, thin.core, thin.tree, thin.library)
    assert (alone.failed, alone.equal_images, general.failed, general.equal_images) == ("", 2, "", 2)
    assert alone.used_arena_bytes == general.used_arena_bytes
    assert alone.program_bytes + least < general.program_bytes


@on_target
def test_self_test_notices_faults_on_an_emulated_cortex_m4(tmp_path: Path, emulated: Emulated) -> None:
    model = tiny_model()
    thin = emulated("newest")

    def failed(c: Path) -> str:
        return self_test(c, thin.core, thin.tree, thin.library).failed

    c = folder(tmp_path / "operator", model)
    header = c / "model_ops.h"
    header.write_text(header.read_text().replace("resolver.AddMean() == kTfLiteOk", "true"))
    assert "could not be set up" in failed(c)
    c = folder(tmp_path / "arena", model, arena=replace(ARENA, mcu_bytes=700, mcu_cmsis_bytes=700))
    assert "could not be set up" in failed(c)
    wrong = tflm_outputs(model, images_for(read_facts(model))).copy()
    wrong[0, 0] += 1
    c = folder(tmp_path / "output", model, expected=wrong)
    tested = self_test(c, thin.core, thin.tree, thin.library)
    assert tested.failed.endswith("self-test: FAIL") and (tested.images, tested.equal_images) == (2, 1)
    main = c / "self_test_main.cc"
    main.write_text(main.read_text().replace("int main() {", "int main() { for (;;) {}"))
    assert self_test(c, thin.core, thin.tree, thin.library, seconds=1).failed == "it did not finish in 1 s"


def test_a_folder_that_is_not_whole_is_named(tmp_path: Path) -> None:
    c = folder(tmp_path / "c", tiny_model())
    (c / "model_data.cc").write_text("const int nothing = {};")
    with pytest.raises(ModelFileError, match=r"not a whole firmware folder: its model_data.cc holds no model\n.*export"):
        folder_model(c)
    core, tree = CORES["cortex-m4"], Tree(tmp_path)
    (c / "classifier.cc").unlink()
    with pytest.raises(ModelFileError, match=r"classifier.cc cannot be read"):
        self_test(c, core, tree, tmp_path / "libtflm.a")
    (c / "CMakeLists.txt").write_text("project(other)")
    with pytest.raises(ModelFileError, match=r"not tinynas's"):
        self_test(c, core, tree, tmp_path / "libtflm.a")


def cmake_self_test(c: Path, build: Path, *options: str) -> str:
    configure = ["cmake", "-S", c, "-B", build, *options]
    status, text = run(*configure)
    assert status == 0, text
    done = subprocess.run(["cmake", "--build", str(build)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    status, text = run("ctest", "--test-dir", build, "-V")
    assert status == 0, text
    assert "self-test: PASS" in text
    return text


@needs_cmake
def test_plain_cmake_says_what_is_missing(tmp_path: Path) -> None:
    status, text = run("cmake", "-S", folder(tmp_path / "c", tiny_model()), "-B", tmp_path / "no_tree", "-DTFLM_DIR=/nowhere")
    assert status != 0
    assert "pass -DTFLM_DIR=" in text


@on_target
@needs_cmake
def test_plain_cmake_builds_and_passes_in_qemu_with_a_library(tmp_path: Path, emulated: Emulated) -> None:
    thin = emulated("newest")
    c = folder(tmp_path / "c", tiny_model())
    options = [f"-DTFLM_DIR={thin.tree.path}", f"-DTFLM_LIBRARY={thin.library}", f"-DCMAKE_TOOLCHAIN_FILE={c}/qemu/cortex-m4.cmake"]
    assert cmake_self_test(c, tmp_path / "build", *options).count(": ok") == 2


@pytest.mark.slow
@on_target
@needs_cmake
@pytest.mark.parametrize("target", ["host", "qemu"])
def test_plain_cmake_builds_the_interpreter_too(tmp_path: Path, emulated: Emulated, target: str) -> None:
    """From a tree with the kernels that tests need: some minutes."""
    thin = emulated("newest", "reference")
    c = folder(tmp_path / "c", tiny_model())
    options = [f"-DCMAKE_TOOLCHAIN_FILE={c}/qemu/cortex-m4.cmake"] if target == "qemu" else []
    assert cmake_self_test(c, tmp_path / "build", f"-DTFLM_DIR={thin.tree.path}", *options).count(": ok") == 2


# text ----------------------------------------------------------------------------------------------------------


def small(**options: Any) -> dict[str, bytes]:
    model = tiny_model()
    facts = read_facts(model)
    options = {"labels": ["a", "b", "c"], "images": images_for(facts), "arena": ARENA, "name": "demo", **options}
    return build_firmware(model, **options)


def test_same_input_gives_the_same_bytes_and_nothing_is_left_to_fill() -> None:
    first, second = small(), small()
    assert first == second
    for path, content in first.items():
        if not path.endswith(".zip"):
            text = content.decode("ascii")
            assert "\r" not in text
            assert text.endswith("\n")
            words = [word for word in text.split("@")[1::2] if word.isidentifier()]
            assert not words, f"{path}: {words}"


def test_facts_are_read_from_the_file() -> None:
    facts = read_facts(tiny_model(1, 10, 14, 5))
    assert facts.input_shape == (10, 14, 1)
    assert (facts.input_dtype, facts.input_scale, facts.input_zero_point) == ("int8", 1 / 128, 0)
    assert (facts.classes, facts.output_dtype, facts.output_zero_point) == (5, "int8", -5)
    assert facts.output_scale == float(np.float32(0.0371))
    assert facts.operators == ("CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED")
    assert (facts.metadata, facts.input_rotation) == ({}, 0)


def test_resolver_has_exactly_the_operators() -> None:
    text = small()["model_ops.h"].decode()
    assert text.count("== kTfLiteOk") == 4
    assert "kOperators = 4;" in small()["model_settings.h"].decode()
    assert "resolver.AddMean() == kTfLiteOk" in text and "Register_MEAN" not in text
    for method in ("AddConv2D", "AddDepthwiseConv2D", "AddFullyConnected"):
        assert f"int8_kernels::{method}(resolver, 0) == kTfLiteOk" in text
    assert text.count("resolver.Add") == 1 + 3 * 4  # each of the three in a declaration and a definition, with and without a kernel


def test_model_array_is_the_file() -> None:
    text = small()["model_data.cc"].decode()
    body = text[text.index("= {") + 3 : text.index("};")]
    assert bytes(int(word, 16) for word in body.replace("\n", "").replace(" ", "").rstrip(",").split(",")) == tiny_model()
    assert "alignas(16)" in text


def test_arena_is_stated_for_host_and_target_with_its_margin() -> None:
    arena = ArenaFigures(30_000, 5_000, mcu_bytes=33_100, mcu_cmsis_bytes=34_801)
    assert arena.host_arena == 35_000 + 512 + 8
    assert arena.mcu_arena == 34_801 + 512 + 15  # 35,313 rounded up to 16
    header = small(arena=arena)["model_settings.h"].decode()
    for line in (
        "#define DEMO_MODEL_ARENA_BYTES 35520",
        "#define DEMO_MODEL_ARENA_BYTES 35328",
        "512 bytes of margin",
        "35000 (30000 activations",
    ):
        assert line in header, line
    assert "is what either of them may need" in header
    for runtime, own, size, said in (
        ("tflm", 33_100, 33_100 + 512 + 4, "the reference kernels need"),
        ("tflm-cmsis-nn", 34_801, 34_801 + 512 + 15, "the CMSIS-NN kernels need"),
        ("stedgeai", None, 34_801 + 512 + 15, "either of them may need"),
    ):
        made = replace(arena, runtime=runtime, own_bytes=own)
        assert made.mcu_arena == size and said in " ".join(made.explained())
    made = replace(arena, runtime="tflm-cmsis-nn", own_bytes=33_900, core="cortex-m4")
    told = " ".join(made.explained())
    assert "33100 with reference kernels, 33900 with those of tflm-cmsis-nn on a cortex-m4." in told
    assert "34801" not in told, "what another core needs is not what is reserved"
    unknown = ArenaFigures(30_000, 5_000)
    assert unknown.mcu_arena == unknown.host_arena == 35_520
    assert "unknown with CMSIS-NN" in small(arena=unknown)["model_settings.h"].decode()


def test_the_format_takes_the_section_of_the_arena_along(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    model = tiny_model()
    images = images_for(read_facts(model))
    for section, said in ((None, "/* None is set"), (".bss.axi", '#define TINYNAS_MODEL_ARENA_SECTION ".bss.axi"')):
        made = Made(model, Input(12, 16, 3), "tflm", ("a", "b", "c"), images, np.arange(len(images)), arena_section=section)
        header = (write_format(made, tmp_path / str(section)) / "model_settings.h").read_text()
        assert said in header and header.count('_ARENA_SECTION "') == bool(section)


def test_awkward_labels_and_names(tmp_path: Path) -> None:
    labels = ['qu"ote\\', "Straße ??/", "new\nline"]
    files = small(labels=labels, name='9 "x"; int')
    text = files["model_settings.cc"].decode("ascii")
    assert '"qu\\042ote\\134"' in text
    assert '"Stra\\303\\237e \\077\\077/"' in text
    assert "namespace model_9_x_int {" in text
    yaml.safe_load(files["idf_component.yml"])
    if shutil.which("g++"):
        for path in ("model_settings.cc", "model_settings.h"):
            (tmp_path / path).write_bytes(files[path])
        main = '#include "model_settings.h"\n#include <stdio.h>\n'
        main += "int main() { for (auto l : model_9_x_int::kLabels) fwrite(l, 1, __builtin_strlen(l) + 1, stdout); }"
        (tmp_path / "main.cc").write_text(main)
        subprocess.run(["g++", *FLAGS, "main.cc", "model_settings.cc", "-o", "m"], cwd=tmp_path, check=True, timeout=60)
        shown = subprocess.run([str(tmp_path / "m")], capture_output=True, check=True, timeout=10).stdout
        assert shown.decode().split("\0")[:3] == labels


@pytest.mark.parametrize(
    ("name", "want"),
    [("mcunet-tiny2", "mcunet_tiny2_model"), ("3fa9", "model_3fa9"), ("class", "class_model"), ("", "model"), ("a__b", "a_b_model")],
)
def test_identifiers(name: str, want: str) -> None:
    assert identifier(name) == want


@needs_wheel
def test_arduino_library_compiles_flat(tmp_path: Path) -> None:
    zipfile.ZipFile(io.BytesIO(small(arena=measured_arena(tiny_model()))["DemoModel.zip"])).extractall(tmp_path)
    (tmp_path / "main.cpp").write_text("#include <DemoModel.h>\nint main() { return demo_model::SelfTest() ? 0 : 1; }\n")
    sources = sorted(str(p) for p in (tmp_path / "DemoModel/src").glob("*.cpp"))
    status, text = on_host(tmp_path, "main.cpp", defines=(f"-I{tmp_path}/DemoModel/src",), sources=sources)
    assert status == 0, text


@needs_wheel
def test_two_models_in_one_program_do_not_clash(tmp_path: Path) -> None:
    for name, head in (("first", 3000), ("second", 9000)):
        folder(tmp_path / name, tiny_model(), name=name, arena=ArenaFigures(head, 2000))
    main = """
#include "first/self_test.h"
#include "first/classifier.h"
#include "second/self_test.h"
#include "second/classifier.h"
int main() {
  static_assert(first_model::kTensorArenaBytes == 5520 && second_model::kTensorArenaBytes == 11520, "each its own arena");
  return first_model::SelfTest() && second_model::SelfTest() ? 0 : 1;
}
"""
    (tmp_path / "main.cc").write_text(main)
    sources = [f"{name}/{source}" for name in ("first", "second") for source in SOURCES]
    status, text = on_host(tmp_path, "main.cc", sources=sources)
    assert status == 0, text
    assert "first_model self-test: PASS" in text
    assert "second_model self-test: PASS" in text


def test_self_test_images_are_of_two_classes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    picked = pick_images(images, np.array([1, 1, 1, 0, 0]))
    assert (picked == images[[0, 3]]).all()
    one = pick_images(images[:1], np.array([0]))
    assert (one[1] == images[0, :, ::-1]).all()
    assert pick_images(images, np.zeros(5, np.int64)).shape == (2, 4, 6, 3)
    with pytest.raises(UserError, match="no images"):
        pick_images(images[:0], np.zeros(0, np.int64))


# faults --------------------------------------------------------------------------------------------------------


def test_faults_are_named() -> None:
    model = tiny_model()
    facts = read_facts(model)
    with pytest.raises(UserError, match="2 labels for a model of 3 classes"):
        small(labels=["a", "b"])
    with pytest.raises(UserError, match="self-test images are uint8"):
        small(images=images_for(facts)[:1])
    with pytest.raises(UserError, match="rotation of 90"):
        small(rotation=90)
    features = Input(12, 16, 3, "features")
    with pytest.raises(UserError, match="reads features of 12 x 16 x 3: nothing in it makes features"):
        small(source=features)
    two = tiny_model(2)
    with pytest.raises(UserError, match="reads features of 12 x 16 x 2"):
        build_firmware(two, labels=list("abc"), images=images_for(read_facts(two)), arena=ARENA)
    with pytest.raises(ModelFileError, match="TFL3"):
        read_facts(b"not a model at all")
    with pytest.raises(ModelFileError):
        read_facts(model[:8])


def test_broken_files_never_escape_as_other_errors() -> None:
    model = tiny_model()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        broken = bytearray(model)
        for _ in range(int(rng.integers(1, 30))):
            broken[int(rng.integers(0, len(broken)))] = int(rng.integers(0, 256))
        if rng.random() < 0.3:
            broken = broken[: int(rng.integers(0, len(broken)))]
        try:
            read_facts(bytes(broken))
        except ModelFileError:
            refused += 1
    assert refused > 20


def test_operators_without_a_resolver_call_are_named(test_data: Path) -> None:
    from ai_edge_litert import schema_py_generated as s

    model = s.ModelT.InitFromObj(s.Model.GetRootAs(tiny_model(), 0))
    model.operatorCodes[2].builtinCode = model.operatorCodes[2].deprecatedBuiltinCode = s.BuiltinOperator.SVDF
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    facts = read_facts(tiny_model())
    with pytest.raises(ModelFileError, match="SVDF"):
        build_firmware(bytes(builder.Output()), labels=list("abc"), images=images_for(facts), arena=ARENA)
