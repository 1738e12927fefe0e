"""What every firmware folder is made of: templates that are filled, numbers and texts as C spells them, and the words of manifests.

A folder's own templates lie in ``templates/NAME``, those of all in ``templates/firmware_both``, the image converter, which is C and C++
at once, in ``templates/image``; ``@word@`` in them is replaced, nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from tinynas import __version__
from tinynas.errors import InternalError, UserError, counted
from tinynas.export.manifests import PackageOptions, arduino_zip, manifest_words, plain
from tinynas.inputs import Input
from tinynas.target.cores import CORES
from tinynas.target.emulator import emulator_command
from tinynas.target.probe import linker_script, startup_code

SELF_TEST_IMAGES = 2
#: How the last line of the self-test ends, behind the name: on every board, in its log and for those who wait for it.
SELF_TEST_PASS = "self-test: PASS"
SELF_TEST_FAIL = "self-test: FAIL"

#: The core of the folder's ``qemu/``.
_EMULATED = CORES["cortex-m4"]
_WORD = re.compile(r"@([A-Za-z_0-9]+)@")


@dataclass(frozen=True)
class Decision:
    """Of two outputs the threshold by which the code decides (:mod:`tinynas.export.operating`)."""

    positive: int
    """The class that is said where its output exceeds the other's by more than :attr:`threshold`."""
    threshold: int | float
    """In the outputs' own steps; real of float outputs."""
    why: tuple[str, ...]
    """Lines for people: what it was chosen for and on."""

    def says(self, outputs: npt.NDArray[Any]) -> int:
        """The class of one image by its outputs (2,), as the code decides."""
        margin = float(outputs[self.positive]) - float(outputs[1 - self.positive])
        return self.positive if margin > self.threshold else 1 - self.positive

    @property
    def literal(self) -> str:
        """The threshold in C."""
        return str(self.threshold) if isinstance(self.threshold, int) else c_float(self.threshold)

    def explained(self, start: str, end: str = "") -> str:
        """:attr:`why` as a comment, each line begun with ``start``."""
        return "\n".join(f"{start}{plain(line)}" for line in self.why) + end


@dataclass(frozen=True)
class Thresholds:
    """Of several labels at once the threshold of each output, by which the code decides (:mod:`tinynas.export.several`)."""

    raw: tuple[int, ...]
    """A class is there where its output is at least so much, in the outputs' own steps."""
    why: tuple[str, ...]
    """Lines for people: how they were chosen."""

    def says(self, outputs: npt.NDArray[Any]) -> int:
        """The surest class, the farthest above its threshold, by outputs (classes,), as the code decides."""
        return int(np.argmax(outputs.astype(np.int64) - np.array(self.raw)))

    def there(self, outputs: npt.NDArray[Any]) -> list[int]:
        """1 for each class that is there, else 0, by outputs (classes,), as the code decides."""
        return [int(value >= threshold) for value, threshold in zip(outputs.tolist(), self.raw, strict=True)]

    def explained(self, start: str, end: str = "") -> str:
        """:attr:`why` as a comment, each line begun with ``start``."""
        return "\n".join(f"{start}{plain(line)}" for line in self.why) + end


#: The largest output, in C and C++ alike: what decides where no threshold was chosen.
_LARGEST = """  int best = 0;
  for (int i = 1; i < {classes}; ++i) {{
    if (output[i] > output[best]) best = i;
  }}
  return best;"""


#: Of several labels at once the class that is farthest above its threshold.
_SUREST = """  int best = 0;
  for (int i = 1; i < {classes}; ++i) {{
    if (output[i] - {thresholds}[i] > output[best] - {thresholds}[best]) best = i;
  }}
  return best;"""


@dataclass(frozen=True)
class Spelling:
    """How the code of a language calls what decides."""

    classes: str
    positive: str
    threshold: str
    thresholds: str


def decide_words(decision: Decision | Thresholds | None, spelled: Spelling) -> dict[str, str]:
    """The words of the code that decides."""
    match decision:
        case None:
            return {"decide": _LARGEST.format(classes=spelled.classes), "answer_words": "The most likely class"}
        case Decision():
            positive = spelled.positive
            return {
                "decide": f"  return output[{positive}] - output[1 - {positive}] > {spelled.threshold} ? {positive} : 1 - {positive};",
                "answer_words": "The class, by the threshold of model_settings.h,",
            }
        case Thresholds():
            return {
                "decide": _SUREST.format(classes=spelled.classes, thresholds=spelled.thresholds),
                "answer_words": "The surest class, the farthest above its threshold of model_settings.h (it may be below),",
            }
        case _:
            assert_never(decision)


def several_words(decision: Decision | Thresholds | None, suffix: str, words: Mapping[str, str]) -> dict[str, str]:
    """Words of what there is beside the answer where several classes may be there at once: all empty where one is the answer.

    They are parts of ``templates/several_c`` and ``several_cc``.
    """
    name = f"several_{suffix}"
    texts = {path.partition(".")[0]: text for path, text in read_templates(name).items()}
    if not isinstance(decision, Thresholds):
        return {
            **dict.fromkeys(texts, ""),
            "probability_note": "its softmax over all classes",
            "probability_code": _SOFTMAX[suffix].format(**words),
        }
    spelled = {
        **words,
        "threshold_values": ", ".join(map(str, decision.raw)),
        "threshold_why": decision.explained("// " if suffix == "cc" else "   ").strip(),
    }
    filled = {part: fill(part, text, spelled).decode() for part, text in texts.items()}
    return {**filled, "probability_note": "that of the class by itself", "probability_code": _SIGMOID[suffix].format(**words)}


_SOFTMAX = {
    "cc": """  const float logit = Logit(class_index);
  float sum = 0.0f;
  for (int i = 0; i < kClasses; ++i) sum += expf(Logit(i) - logit);
  return 1.0f / sum;""",
    "c": """  const float logit = {ns}_logit(class_index);
  float sum = 0.0f;
  for (int i = 0; i < {GUARD}_CLASSES; ++i) sum += expf({ns}_logit(i) - logit);
  return 1.0f / sum;""",
}
_SIGMOID = {
    "cc": "  return 1.0f / (1.0f + expf(-Logit(class_index)));",
    "c": "  return 1.0f / (1.0f + expf(-{ns}_logit(class_index)));",
}


def shared_words(
    source: Input,
    labels: Sequence[str],
    images: npt.NDArray[np.uint8],
    expected: npt.NDArray[Any],
    *,
    name: str,
    package: PackageOptions,
    page: str,
    sha256: str,
    rotation: int,
    section: str | None,
    decision: Decision | Thresholds | None = None,
) -> dict[str, str]:
    """Words that the templates of every folder may hold. ``page`` is the package's where it names none, ``sha256`` the model's."""
    answers = [int(np.argmax(row)) if decision is None else decision.says(row) for row in expected]
    classes, heard = expected.shape[1], source.front_end
    shown = f"image classifier, {source.height}x{source.width}x{source.channels}" if heard is None else f"sound classifier, {heard.summary}"
    what = f"{shown}, {counted(classes, 'class', 'classes')}"
    manifest = manifest_words(package.name or name, package, sha256, what, page)
    banner = f"Generated by tinynas {__version__}; licensed under Apache-2.0 apart from the model. Do not edit: export again."
    return {
        "banner": banner,
        "hash_banner": banner,
        "star_banner": banner,
        "version": __version__,
        **manifest,
        "self_test_pass": f"{manifest['ns']} {SELF_TEST_PASS}",
        "self_test_fail": f"{manifest['ns']} {SELF_TEST_FAIL}",
        "model_sha256": sha256,
        "input_height": str(source.height),
        "input_width": str(source.width),
        "input_channels": str(source.channels),
        "input_channels_note": "features" if heard is not None else "red, green, blue" if source.channels == 3 else "gray",
        "keyword": "image classification" if heard is None else "sound classification",
        "input_formula": source.formula,
        "rotation": str(rotation),
        "classes": str(classes),
        "labels": "\n".join(f"    {c_string(label)}," for label in labels),
        "labels_words": ", ".join(plain(label) for label in labels[:10]) + (", ..." if len(labels) > 10 else ""),
        "arena_section": _section(manifest["GUARD"], section),
        "emulated_flags": " ".join(_EMULATED.flags),
        "emulator": ";".join(emulator_command(_EMULATED)),
        "self_test_images": str(len(images)),
        "self_test_bytes": str(images.size + expected.nbytes),
        "self_test_kernels": "TFLM's reference kernels (tflite-micro, Python wheel)",
        "self_test_pixels": "\n".join(f"    {{\n{bytes_array(image.tobytes())}\n    }}," for image in images),
        "self_test_answers": ", ".join(map(str, answers)),
        "self_test_there": "\n".join(f"    {{{', '.join(map(str, decision.there(row)))}}}," for row in expected)
        if isinstance(decision, Thresholds)
        else "",
        "self_test_outputs": "\n".join("    {" + ", ".join(_number(v) for v in row) + "}," for row in expected),
        # What a network that learns has beside (tinynas.export.adapt_code).
        **dict.fromkeys(("more_sources", "more_includes", "more_readme", "more_programs", "kept_api", "kept_code"), ""),
    }


def check_images(shape: tuple[int, int, int], classes: int, labels: Sequence[str], images: npt.NDArray[np.uint8], rotation: int) -> None:
    """Raise UserError where labels, self-test images or the rotation do not fit a network."""
    if len(labels) != classes:
        raise UserError(f"{len(labels)} labels for a model of {classes} classes", "give one label for each output")
    if images.dtype != np.uint8 or images.shape != (SELF_TEST_IMAGES, *shape):
        raise UserError(
            f"the self-test images are {images.dtype} {images.shape}",
            f"give {SELF_TEST_IMAGES} uint8 images of {' x '.join(map(str, shape))}, upright",
        )
    if rotation not in (0, 180):
        raise UserError(f"an input rotation of {rotation} degrees is not possible", "it is 0, or 180 for imported weights")


def pick_images(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Two images (2, H, W, C) for the self-test out of (N, H, W, C): the first one, and the first of another class (or of other ones).

    Where there is one image, or one class, what is missing is made by mirroring the first image.
    """
    if len(images) == 0:
        raise UserError("there are no images for the self-test", "give data with at least one image")
    unlike = labels != labels[0]
    others = np.flatnonzero(unlike.any(1) if unlike.ndim == 2 else unlike)
    second = images[others[0]] if len(others) else np.flip(images[0], 1)
    return np.ascontiguousarray(np.stack([images[0], second]))


def _section(guard: str, section: str | None) -> str:
    """What the settings say of the arena's linker section; a host has no such memory."""
    if section is None:
        return "/* None is set: it lies where other variables do. */"
    condition = f"#if UINTPTR_MAX <= 0xFFFFFFFFu && !defined({guard}_ARENA_SECTION)"
    return f'{condition}\n#define {guard}_ARENA_SECTION "{section}"\n#endif'


# literals ------------------------------------------------------------------------------------------------


def bytes_array(data: bytes) -> str:
    """Lines of hexadecimal numbers."""
    hexed = [f"0x{value:02x}," for value in range(256)]
    return "\n".join("    " + "".join(hexed[b] for b in data[i : i + 20]) for i in range(0, len(data), 20))


def c_float(value: float) -> str:
    """A float literal that reads back to the same number."""
    return np.format_float_scientific(np.float32(value), unique=True, trim="0") + "f"


def _number(value: Any) -> str:
    return c_float(float(value)) if isinstance(value, np.floating) else str(int(value))


def c_string(text: str) -> str:
    """A string literal of the text in UTF-8."""
    # Octal escapes end after three digits, hexadecimal ones do not end; "?" could start a trigraph.
    escaped = "".join(chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{escaped}"'


# files ---------------------------------------------------------------------------------------------------


def fill_folder(
    name: str,
    words: Mapping[str, str],
    suffix: str,
    made: Mapping[str, bytes] | None = None,
    *,
    over: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
) -> dict[str, bytes]:
    """Relative path -> content of every file of a folder: the templates in ``templates/NAME`` and those of all folders, ``over`` them
    other templates, what was ``made`` otherwise, the start-up code of the emulated board as a file of ``suffix``, and the Arduino library
    as a zip, with its header. Templates in the place of ``without`` are left out."""
    templates = read_templates("firmware_both") | read_templates(name) | _emulated_board(suffix)
    templates = {path: text for path, text in templates.items() if path not in without} | dict(over or {})
    files = {path: fill(path, text, words) for path, text in templates.items()} | dict(made or {})
    arduino = {path.removeprefix("arduino/"): files.pop(path) for path in list(files) if path.startswith("arduino/")}
    library = words["arduino_name"]
    files[f"{library}.h"] = arduino.pop("library.h")
    files[f"{library}.zip"] = arduino_zip(library, files, arduino)
    return dict(sorted(files.items()))


def read_templates(name: str) -> dict[str, str]:
    """Relative path -> text of every template in ``templates/NAME``."""
    return dict(_walk(resources.files("tinynas.export") / "templates" / name, ""))


def fill(path: str, text: str, words: Mapping[str, str]) -> bytes:
    """The template ``text`` of ``path`` with its words in place. Raises InternalError for an unknown word."""

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            raise InternalError(f"the template {path} asks for {match[1]!r}")
        return words[match[1]]

    return _WORD.sub(word, text).encode()


def image_words(*parts: str, words: Mapping[str, str], constants: Mapping[str, str], cast: str) -> str:
    """The image converter's ``parts`` (of ``templates/image``) one behind the other: ``constants`` by their name in C++, ``cast`` makes a
    number one of 32 bits."""
    texts = read_templates("image")
    spelled = {**words, **constants, "u32": cast}
    return "\n".join(fill(part, texts[part], spelled).decode() for part in parts).rstrip("\n") + "\n"


def _emulated_board(suffix: str) -> dict[str, str]:
    # Start-up code and memory map are those that tinynas itself runs programs with on the emulated core.
    startup, script = startup_code(), linker_script(_EMULATED)
    return {f"qemu/startup.{suffix}": f"/* @banner@ */\n{startup}", "qemu/mps2_an386.ld": f"/* @star_banner@ */\n{script}"}


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        path = f"{prefix}{entry.name}"
        if entry.is_dir():
            found += _walk(entry, f"{path}/")
        else:
            found.append((path, entry.read_text(encoding="utf-8")))
    return found
