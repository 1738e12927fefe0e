"""The firmware folder of a network with a front end: what differs from one of images.

Front end, ring of frames, answers averaged and what is told of them are one piece of C for both runtimes (``templates/sound``); over the
templates of ``firmware`` and ``firmware_c`` lie those of ``firmware_sound`` and ``firmware_c_sound``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tinynas.cost.front_end import SMOOTHED, front_end_cost
from tinynas.cost.sound_folder import longer_bytes
from tinynas.data.labels import passive_classes
from tinynas.errors import UserError
from tinynas.export.folder import bytes_array, fill, read_templates
from tinynas.export.heard_words import PARTS, heard_words
from tinynas.export.sound_code import front_end_words, numbers
from tinynas.front_end import FrontEnd
from tinynas.sound.features import features

Suffix = Literal["c", "cc"]
#: How a network comes to its frames (``frame`` of the words) -> what asks it.
_THINKS = {"kept": "think_kept.c", "rows": "think_rows.c", "stream": "think_step.c"}
#: Templates of images, by path, that a folder of sound does not have.
OF_IMAGES = ("image_input.h", "image_input.c", "image_input.cc", "arduino/examples/classify/classify.ino")
#: Percent that a class must reach on average to be told.
THRESHOLD = 60
_EXTERN = 'extern "C" '
_SCORES = "for (int i = 0; i < CLASSES; ++i) scores[i] = (uint8_t)(255.0f * {ns}_chance(i) + 0.5f);"


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
    both = {path: text for path, text in read_templates("sound").items() if not path.startswith(("think", "judge", "told", *PARTS))}
    named = {path.removesuffix(".c") + f".{suffix}" if path.endswith(".c") else path: text for path, text in both.items()}
    return named | read_templates("firmware_c_sound" if suffix == "c" else "firmware_sound")


def falling(scale: float) -> list[int]:
    """65,535 e^(-i scale) for i = 0, 1, ..., rounded, down to the last that is not 0; at most 256 of them, as outputs have steps."""
    values = [round(65535 * math.exp(-step * scale)) for step in range(256)]
    return [value for value in values if value]


def _passive_line(classes: Sequence[int], labels: Sequence[str]) -> str:
    """C that tells none of ``classes``; empty for none."""
    if not classes:
        return ""
    same = " || ".join(f"best == {number}" for number in classes)
    return f"\n  if ({same}) return -1; /* {', '.join(labels[number] for number in classes)}: no events */"


def sound_words(
    front_end: FrontEnd,
    words: Mapping[str, str],
    frames: npt.NDArray[np.uint8],
    expected: npt.NDArray[Any],
    suffix: Suffix,
    core: str | None,
    *,
    several: bool = False,
    every: int | None = None,
    scale: float = 0.0,
    labels: Sequence[str],
) -> dict[str, str]:
    """Words of the templates that follow from the front end, over those of images. ``frames`` are the stored clip's, ``expected`` (1,
    classes) the network's outputs of them, ``several``: whether several classes may be there at once. ``every``: of a network that takes
    one frame at a time, after how many of them it answers, and ``scale`` a step of its outputs. ``labels``: of the classes."""
    ns, guard, sound = words["ns"], words["GUARD"], stored_sound(front_end)
    cost = front_end_cost(front_end, expected.shape[1], core=core, compiled=suffix == "c", every=every)
    hop = cost.hop
    asked = (
        f"Every {hop * front_end.stride_ms:,} ms the network hears the last {front_end.clip_ms:,} ms."
        if every is None
        else f"The network takes each frame as it comes, every {front_end.stride_ms:,} ms, and answers every "
        f"{hop * front_end.stride_ms:,} ms, of the last {front_end.clip_ms:,} ms."
    )
    settings = "" if every is not None else f"`{guard}_HOP`, "
    more = f" Each answer that is averaged beyond {SMOOTHED} takes {len(labels)} B of SRAM more than promised."
    own = front_end_words(front_end, ns) | {
        "hop": str(hop),
        "smoothed": str(SMOOTHED),
        "threshold": str(THRESHOLD),
        "refractory": str(front_end.frames),
        "classes_words": f"{guard}_CLASSES - 1" if suffix == "c" else "kClasses - 1",
        "input_sources": f"front_end.{suffix} hear.{suffix}",
        "fast_sources": "network.c front_end.c",
        "input_header": "hear.h",
        "main_call": "hear (hear.h)",
        "input_note": "/* Input: the frames of one clip, time along the height, bytes 0 to 255 that the front end makes. The network\n"
        f"   takes real = {words['input_formula']}. */",
        "input_what": "the frames of one clip, time along the height",
        "input_element": "byte",
        "rotation_lines": "",
        "front_end_words": front_end.summary,
        "sound_sram_words": f"{cost.sram_bytes:,} B",
        "sound_flash_words": f"{cost.flash_bytes:,} B",
        "around_flash_words": f"{cost.around_bytes + longer_bytes(labels):,} B",
        "hear_words": (
            f"{asked} {SMOOTHED} answers are averaged, "
            f"and a class is there where its average is at least its threshold (`{guard}_THRESHOLDS`, model_settings.h): several may be "
            f"there at once, ask `{ns}_there(i)` for each; `{ns}_hear` answers the surest one. "
            + (
                f"`{guard}_HOP` and `{guard}_SMOOTHED` (hear.h) change when and over how much."
                if every is None
                else f"`{guard}_SMOOTHED` (hear.h) changes over how much."
            )
            + more
        )
        if several
        else (
            f"{asked} {SMOOTHED} answers are averaged, "
            f"and a class that reaches {THRESHOLD} % is told, then nothing for {front_end.frames * front_end.stride_ms:,} ms. "
            f"{settings}`{guard}_SMOOTHED`, `{guard}_THRESHOLD` and `{guard}_REFRACTORY` (hear.h) change that: choose them on recordings "
            "of the place where it will listen. Classes called silence, unknown, noise or background are no events: they are never told, "
            f"and `{ns}_score(i)` says how sure they are.{more}"
        ),
        "score_unit": "%%" if not several else "steps above its threshold",
        "scores_note": "of 255" if not several else "steps above the lowest",
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
    ram, flash = -(-cost.sram_bytes // 1024), -(-(cost.program_bytes + longer_bytes(labels)) // 1024)
    own |= {"min_ram_kib": str(int(words["min_ram_kib"]) + ram), "min_flash_kib": str(int(words["min_flash_kib"]) + flash)}
    many = "several" if several else "one"
    own["passive_line"] = _passive_line(passive_classes(labels), labels)
    own["level_code"] = own["told_level"] = own["several_told"] = ""
    if several:
        labels, classes = (f"{ns}_labels", f"{guard}_CLASSES") if suffix == "c" else (f"{ns}::kLabels", f"{ns}::kClasses")
        own["told_level"] = f"/* Output of a class, in its own steps. */\nint {ns}_level(int class_index);\n"
        read = f"{ns}_output()[class_index]" if suffix == "c" else f"static_cast<int>({ns}::Output()[class_index])"
        own["level_code"] = f"\n{'' if suffix == 'c' else _EXTERN}int {ns}_level(int class_index) {{ return {read}; }}\n"
        own["several_told"] = (
            f"    for (int i = 0; i < {classes}; ++i) {{\n      if (i != found && {ns}_there(i)) Serial.println({labels}[i]);\n    }}\n"
        )
    table = falling(scale)
    own |= {"falling_count": str(len(table)), "falling_values": numbers(table)}
    spelled = {**words, **own}
    think = _THINKS[words["frame"]] if suffix == "c" else "think.cc"
    texts = read_templates("sound")

    def part(name: str) -> str:
        return fill(name, texts[name], spelled).decode().rstrip("\n")

    parts = {"judged": f"judged_{many}.c", "told_settings": f"told_{many}_settings.h", "told_api": f"told_{many}_api.h"}
    # A stream answers often: it has its chances by a table, each answer's at once; others by exponentials, one for each pair of classes.
    by_table = every is not None and not several
    spelled["score_line"] = "chances(scores);" if by_table else _SCORES.format(ns=ns)
    own |= {word: part(name) for word, name in parts.items()}
    own |= heard_words("clip" if every is None else "frame", spelled)
    if by_table:
        own["judged"] = part("judged_chances.c") + "\n\n" + own["judged"]
    if suffix == "c":
        return own | {"classify_api": "", "classifier_code": part(think)}
    return own | {"classify_api": part("think_cc.h"), "classify_code": part(think)}
