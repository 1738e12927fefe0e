"""A run's CSV and JSONL logs as TensorBoard event files. Nothing is needed to write them; nothing leaves the machine.

An event file is a row of records: length, masked CRC-32C of the length, an ``Event`` message, masked CRC-32C of it
(tensorflow/core/lib/io/record_writer.h, tensorflow/core/util/event.proto). Scalars are all that is written here.
"""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from tinynas.files import write_atomic
from tinynas.runs import Run

#: (step, wall-clock seconds, {tag: value}).
Scalars = tuple[int, float, Mapping[str, float]]


def write_tensorboard(run: Run, folder: Path | None = None) -> Path:
    """Write the search and every full training of ``run`` under ``folder`` (default: ``tensorboard/`` in the run); the folder.

    Show it with ``tensorboard --logdir FOLDER``. Raises DiskError where the disk is full.
    """
    root = folder or run.path / "tensorboard"
    _write(root / "search", _search(run))
    for net_id in run.ids():
        if (text := run.training(net_id)) is not None:
            _write(root / f"promote-{net_id}", _training(text, run.train_csv(net_id).stat().st_mtime))
    return root


def _search(run: Run) -> Iterable[Scalars]:
    finished: dict[int, float] = {}
    for line in run.log("times"):
        if isinstance(line.get("number"), int) and isinstance(line.get("finished"), (int, float)):
            finished[line["number"]] = float(line["finished"])
    best = 0.0
    for trial in run.trials():
        if trial.accuracy is None or trial.state == "duplicate":
            continue
        best = max(best, trial.accuracy)
        costs = {f"costs/{name}": float(value) for name, value in trial.costs.items() if value is not None}
        scores = {f"scores/{name}": float(value) for name, value in trial.scores.items()}
        yield trial.number, finished.get(trial.number, 0.0), {**scores, "scores/best_accuracy": best, **costs}


def _training(text: str, ended: float) -> Iterable[Scalars]:
    rows = list(csv.DictReader(io.StringIO(text)))
    seconds = [float(row.get("seconds") or 0.0) for row in rows]
    for index, row in enumerate(rows):
        # The history holds durations; counted back from the file's time they give the hours of the clock.
        wall = ended - sum(seconds[index + 1 :])
        values = {
            f"training/{name}": float(value) for name, value in row.items() if name not in ("epoch", None) and value not in ("", None)
        }
        yield int(float(row["epoch"])), wall, values


def _write(folder: Path, scalars: Iterable[Scalars]) -> None:
    events = [_record(_double(1, 0.0) + _bytes(3, b"brain.Event:2"))]
    for step, wall, values in scalars:
        summary = b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items())
        events.append(_record(_double(1, wall) + _varint(2 << 3) + _varint(step) + _bytes(5, summary)))
    # One file of one name: TensorBoard reads it anew, and writing twice makes no second curve.
    write_atomic(folder / "events.out.tfevents.0.tinynas", b"".join(events))


# Protocol buffers by hand: a field is (number << 3 | wire type) and its value.


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


@cache
def _table() -> tuple[int, ...]:
    # CRC-32C (Castagnoli), reflected polynomial 0x82F63B78.
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


def crc32c(data: bytes) -> int:
    """CRC-32C of ``data``; of ``b"123456789"`` it is 0xE3069283 (RFC 3720's check value)."""
    table, value = _table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """The CRC as TFRecord files hold it: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
