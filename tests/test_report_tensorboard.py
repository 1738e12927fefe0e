"""Event files hold the run's numbers, in the form TensorBoard reads."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from report_runs import make_run

from tinynas.report.tensorboard import crc32c, masked_crc, write_tensorboard


def test_crc_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"\0" * 32) == 0x8A9136AA  # RFC 3720, B.4


def records(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        length, check = struct.unpack_from("<QI", data, at)
        assert masked_crc(data[at : at + 8]) == check
        body = data[at + 12 : at + 12 + length]
        (check,) = struct.unpack_from("<I", data, at + 12 + length)
        assert masked_crc(body) == check
        yield body
        at += 16 + length


def fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            value |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                return value, at

    at = 0
    while at < len(data):
        key, at = varint(at)
        match key & 7:
            case 0:
                value, at = varint(at)
                yield key >> 3, value
            case 1:
                yield key >> 3, struct.unpack_from("<d", data, at)[0]
                at += 8
            case 2:
                size, at = varint(at)
                yield key >> 3, data[at : at + size]
                at += size
            case 5:
                yield key >> 3, struct.unpack_from("<f", data, at)[0]
                at += 4


def scalars(path: Path) -> dict[tuple[str, int], float]:
    found = {}
    for body in list(records(path.read_bytes()))[1:]:
        event = dict(fields(body))
        for _, value in fields(event[5]):  # type: ignore[arg-type]
            pair = dict(fields(value))  # type: ignore[arg-type]
            found[pair[1].decode(), event[2]] = pair[2]  # type: ignore[union-attr,index]
    return found  # type: ignore[return-value]


def test_every_trial_and_epoch_is_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", networks=5, promoted=1)
    root = write_tensorboard(run)
    search = scalars(root / "search" / "events.out.tfevents.0.tinynas")
    for trial in run.trials():
        if trial.accuracy is not None:
            assert search["scores/accuracy", trial.number] == pytest.approx(trial.accuracy, abs=1e-6)
            assert search["costs/macs", trial.number] == trial.costs["macs"]
    (training,) = root.glob("promote-*/events*")
    curve = scalars(training)
    assert len([tag for tag, _ in curve if tag == "training/val_accuracy"]) == 30
    assert write_tensorboard(run) == root
    assert len(list(root.rglob("events*"))) == 2


def test_tensorboard_itself_reads_them(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed")
    run = make_run(tmp_path / "run", networks=3, promoted=0)
    events = loader.EventAccumulator(str(write_tensorboard(run) / "search"))
    events.Reload()
    assert len(events.Scalars("scores/accuracy")) == 3
