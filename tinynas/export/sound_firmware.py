"""The firmware folder of a network with a front end: what differs from one of images.

Front end, ring of frames, answers averaged and what is told of them are one piece of C for both runtimes (``templates/sound``); over the
templates of ``firmware`` and ``firmware_c`` lie those of ``firmware_sound`` and ``firmware_c_sound``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinynas.cost.front_end import SMOOTHED, front_end_cost
from tinynas.errors import UserError
from tinynas.export.folder import bytes_array, fill, read_templates
from tinynas.export.sound_code import front_end_words, numbers
from tinynas.front_end import FrontEnd
from tinynas.sound.features import features

Suffix = Literal["c", "cc"]
#: Templates of images, by path, that a folder of sound does not have.
OF_IMAGES = ("image_input.h", "image_input.c", "image_input.cc", "arduino/examples/classify/classify.ino")
#: Percent that a class must reach on average to be told.
THRESHOLD = 60


def stored_sound(front_end: FrontEnd) -> npt.NDArray[np.int16]:
    """(n,): the self-test's sound, at most a second: a gliding voice of five harmonics in bursts, and noise. The same everywhere."""
    count = min(front_end.clip_samples, front_end.sample_rate)
    time = np.arange(count, dtype=np.int64)
    # In whole numbers, so that no machine's sine can differ: phases in 1/65,536 of a turn, waves of parabolas.
    pitch = 120 + 80 * time // count
    phase = np.cumsum(pitch * 65536 // front_end.sample_rate)
    voice = sum(_wave(phase * harmonic) // harmonic for harmonic in (1, 2, 3, 5, 8))
    burst = np.maximum(_wave(time * 65536 * 4 // front_end.sample_rate), 0)
    noise, seed = np.empty(count, np.int64), 1
    for i in range(count):
        seed = (seed * 1664525 + 1013904223) % (1 << 32)
        noise[i] = seed // (1 << 16) - (1 << 15)
    sound = voice * burst // 16384 + noise * (burst < 2000) // 32
    return np.clip(sound, -32768, 32767).astype(np.int16)


def _wave(phase: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A parabola up and one down a turn: nearly a sine, of +-16,384."""
    half = phase % 65536 % 32768
    wave: npt.NDArray[np.int64] = np.where(phase % 65536 < 32768, 1, -1) * (half * (32768 - half) // 16384)
    return wave


def stored_clip(front_end: FrontEnd) -> npt.NDArray[np.int16]:
    """(1, clip_samples): the stored sound, repeated to the length of a clip."""
    return np.resize(stored_sound(front_end), (1, front_end.clip_samples))


def check_sound(front_end: FrontEnd, classes: int, labels: Sequence[str], rotation: int) -> npt.NDArray[np.uint8]:
    """The stored clip's features (1, H, W, C). Raises UserError where labels or a rotation do not fit."""
    if len(labels) != classes:
        raise UserError(f"{len(labels)} labels for a model of {classes} classes", "give one label for each output")
    if rotation:
        raise UserError(f"an input rotation of {rotation} degrees is not possible for sound", "it is 0")
    return features(stored_clip(front_end), front_end)


def sound_templates(suffix: Suffix) -> dict[str, str]:
    """Path -> text of the templates that lie over those of images."""
    both = {path: text for path, text in read_templates("sound").items() if not path.startswith("think")}
    named = {path.removesuffix(".c") + f".{suffix}" if path.endswith(".c") else path: text for path, text in both.items()}
    return named | read_templates("firmware_c_sound" if suffix == "c" else "firmware_sound")


def sound_words(
    front_end: FrontEnd,
    words: Mapping[str, str],
    frames: npt.NDArray[np.uint8],
    expected: npt.NDArray[Any],
    suffix: Suffix,
    core: str | None,
) -> dict[str, str]:
    """Words of the templates that follow from the front end, over those of images. ``frames`` are the stored clip's, ``expected`` (1,
    classes) the network's outputs of them."""
    ns, guard, sound = words["ns"], words["GUARD"], stored_sound(front_end)
    cost = front_end_cost(front_end, expected.shape[1], core=core)
    hop = cost.hop
    own = front_end_words(front_end, ns) | {
        "hop": str(hop),
        "smoothed": str(SMOOTHED),
        "threshold": str(THRESHOLD),
        "refractory": str(front_end.frames),
        "classes_words": f"{guard}_CLASSES - 1" if suffix == "c" else "kClasses - 1",
        "input_sources": f"front_end.{suffix} hear.{suffix}",
        "fast_sources": "network.c front_end.c",
        "input_header": "hear.h",
        "input_note": "/* Input: the frames of one clip, time along the height, bytes 0 to 255 that the front end makes. The network\n"
        f"   takes real = {words['input_formula']}. */",
        "input_what": "the frames of one clip, time along the height",
        "input_element": "byte",
        "rotation_lines": "",
        "front_end_words": front_end.summary,
        "sound_sram_words": f"{cost.sram_bytes:,} B",
        "sound_flash_words": f"{cost.flash_bytes:,} B",
        "hear_words": (
            f"Every {hop * front_end.stride_ms:,} ms the network hears the last {front_end.clip_ms:,} ms. {SMOOTHED} answers are averaged, "
            f"and a class that reaches {THRESHOLD} % is told, then nothing for {front_end.frames * front_end.stride_ms:,} ms. "
            f"`{guard}_HOP`, "
            f"`{guard}_SMOOTHED`, `{guard}_THRESHOLD` and `{guard}_REFRACTORY` (hear.h) change that: choose them on recordings of the "
            "place where it will listen. A class such as silence is told like any other: leave it out where you act on the answer."
        ),
        "self_test_samples": str(len(sound)),
        "self_test_sound": numbers(sound),
        "self_test_frames": bytes_array(frames.tobytes()),
        "self_test_output": words["self_test_outputs"].rstrip().rstrip(","),
        "self_test_bytes": str(sound.nbytes + frames.size + expected.nbytes),
        "sketch_labels": f"{ns}_labels" if suffix == "c" else f"{ns}::kLabels",
        "sketch_setup": ""
        if suffix == "c"
        else f"  if (!{ns}::Setup()) {{\n"
        '    Serial.println("the model could not be set up: see the log");\n    for (;;) {\n    }\n  }\n',
    }
    if "work_bytes_words" in words:  # a compiled network, whose stack the front end's is not on top of
        own["stack_bytes"] = f"{max(int(words['stack_bytes'].replace(',', '')), cost.stack_bytes):,}"
    ram, flash = -(-cost.sram_bytes // 1024), -(-cost.flash_bytes // 1024)
    own |= {"min_ram_kib": str(int(words["min_ram_kib"]) + ram), "min_flash_kib": str(int(words["min_flash_kib"]) + flash)}
    spelled = {**words, **own}
    think = {"kept": "think_kept.c", "rows": "think_rows.c"}[words["frame"]] if suffix == "c" else "think.cc"
    texts = read_templates("sound")

    def part(name: str) -> str:
        return fill(name, texts[name], spelled).decode().rstrip("\n")

    if suffix == "c":
        return own | {"classify_api": "", "classifier_code": part(think)}
    return own | {"classify_api": part("think_cc.h"), "classify_code": part(think)}
