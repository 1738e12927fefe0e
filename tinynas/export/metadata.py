"""What TensorFlow Lite's own metadata says of a classifier: how its input is normalised, and what its outputs are called.

The metadata is a flatbuffer in the buffer ``TFLITE_METADATA`` (tflite-support's ``metadata_schema.fbs``, identifier M001); label
files lie in a zip that is appended to the model. Both come from strangers: offsets are checked, and no file is unpacked beyond
:data:`MAX_LABEL_BYTES`.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from tinynas.cost.flatbuffer import Reader
from tinynas.errors import ModelFileError

BUFFER_NAME = "TFLITE_METADATA"
#: A label file is not read beyond this.
MAX_LABEL_BYTES = 1 << 20
_NORMALIZATION = 1  # of the union ProcessUnitOptions
_AXIS_LABELS = 2  # of AssociatedFileType
_U8 = struct.Struct("<B")


@dataclass(frozen=True)
class Told:
    """What the metadata says; empty where it says nothing."""

    mean: tuple[float, ...] = ()
    """In pixels 0..255, one or one a channel: the input is (pixel - mean) / std."""
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    """Names of the outputs, in their order."""
    problem: str = ""
    """Why metadata that is there could not be read."""


NOTHING = Told()


def read_told(model: bytes, metadata: bytes | None) -> Told:
    """What is said by ``metadata`` (the buffer's content, None without one) and by the zip behind ``model``.

    Broken metadata are a ``problem``, not an error: the network itself may be sound.
    """
    if metadata is None:
        return Told(labels=_labels_in_zip(model, ()))
    try:
        if len(metadata) < 8 or metadata[4:8] != b"M001":
            raise ModelFileError("it has no M001 identifier")
        read = Reader(metadata)
        (root,) = struct.unpack_from("<I", metadata)
        graphs = read.tables(root, 3)
        inputs = read.tables(graphs[0], 2) if graphs else []
        outputs = read.tables(graphs[0], 3) if graphs else []
        mean, std = _normalization(read, inputs[0]) if inputs else ((), ())
        return Told(mean, std, _labels_in_zip(model, _label_files(read, outputs[0]) if outputs else ()))
    except (ModelFileError, struct.error) as error:
        return Told(problem=f"the file's TFLite metadata cannot be read: {error}")


def _normalization(read: Reader, tensor: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in read.tables(tensor, 4):
        options = read.child(unit, 1)
        if read.scalar(unit, 0, _U8) != _NORMALIZATION or not options:
            continue
        mean, std = (_floats(read, options, number) for number in (0, 1))
        sizes = {len(mean), len(std)}
        if not mean or not std or len(sizes - {1}) > 1 or not all(-1e6 < m < 1e6 for m in mean) or not all(1e-6 < s < 1e6 for s in std):
            raise ModelFileError(f"it normalises by mean {list(mean)} and std {list(std)}")
        return mean, std
    return (), ()


def _floats(read: Reader, table: int, number: int) -> tuple[float, ...]:
    at, count = read.vector(table, number, 4, limit=16)
    return struct.unpack_from(f"<{count}f", read.data, at) if count else ()


def _label_files(read: Reader, tensor: int) -> tuple[str, ...]:
    """Names of the label files of an output: without a locale first, then the English one, then any."""
    found: list[tuple[bool, bool, int, str]] = []
    for file in read.tables(tensor, 6):
        if read.scalar(file, 2, _U8) == _AXIS_LABELS:
            locale = read.text(file, 3).lower()
            found.append((bool(locale), not locale.startswith("en"), len(found), read.text(file, 0)))
    return tuple(name for *_, name in sorted(found))


def _labels_in_zip(model: bytes, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            inside = archive.namelist()
            if not names:
                guesses = [name for name in inside if re.fullmatch(r"labels?(_?map)?\.txt", PurePosixPath(name).name.lower())]
                names = tuple(guesses) if len(guesses) == 1 else ()
            for name in names:
                if name in inside and archive.getinfo(name).compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    with archive.open(name) as file:
                        return _label_lines(file.read(MAX_LABEL_BYTES))
    except (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, OverflowError):
        return ()  # no zip behind the model, or a broken one
    return ()


def _label_lines(content: bytes) -> tuple[str, ...]:
    lines = [line.strip() for line in content.decode("utf-8-sig", "replace").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.fullmatch(r"(\d+)[\s:,]+(.+)", line) for line in lines]
    if lines and all(found is not None and int(found[1]) == i for i, found in enumerate(numbered)):  # "0 cat", "1 dog"
        return tuple(found[2] for found in numbered if found is not None)
    return tuple(lines)
