"""Sounds in folders and tables: which pieces, whose, in which split, and as what a network reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tinynas.config import build
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.data.info import describe
from tinynas.data.sounds.decode import part
from tinynas.data.sounds.folder import gaps, spans
from tinynas.data.sounds.signal import cut
from tinynas.errors import ConfigError, DataError
from tinynas.front_end import FrontEnd
from tinynas.inputs import Input
from tinynas.sound.features import features

RATE = 8000
HEARS = FrontEnd(sample_rate=RATE, clip_ms=200, bins=16)


def tone(seconds: float, hertz: float = 440.0, *, rate: int = RATE, loud: float = 0.3) -> np.ndarray:
    return np.asarray(loud * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate))


def write(path: Path, samples: np.ndarray, rate: int = RATE, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **how)
    return path


def words(root: Path, *, speakers: int = 8, takes: int = 2, seconds: float = 0.15) -> Path:
    """Two words of some speakers, as Speech Commands calls its files; no two alike."""
    for number, word in enumerate(("no", "yes")):
        for speaker in range(speakers):
            for take in range(takes):
                name = f"{speaker:08x}_nohash_{take}.wav"
                write(root / word / name, tone(seconds, 300 + 600 * number + 10 * speaker + take))
    return root


def opened(place: Path, tmp_path: Path, *options: str) -> DataSet:
    return open_data(place, cache_dir=tmp_path / "cache", options=build({}, DataOptions, source="options", overrides=options))


def read_by(data: DataSet, split: str, front_end: FrontEnd = HEARS) -> Any:
    return data.read_by(Input(*front_end.shape, "features", front_end=front_end), split)


# folders ------------------------------------------------------------------------------------------------


def test_words_are_split_by_speaker_and_read_through_the_front_end(tmp_path: Path) -> None:
    data = opened(words(tmp_path / "words"), tmp_path)
    assert data.labels == ("no", "yes") and data.signal.kind == "sound" and data.native_size == (0, 0)
    assert data.groups is not None and len(data.groups) == 8 and data.straddles == ()
    heard = {split: {data.records[i].name.split("/")[1][:8] for i in rows} for split, rows in data.members.items()}
    assert not heard["train"] & heard["test"] and not heard["train"] & heard["val"] and not heard["val"] & heard["test"]
    train = read_by(data, "train")
    assert train.inputs.shape == (len(data.members["train"]), *HEARS.shape) and train.kind == "sound"
    for row, name in enumerate(train.names[:3]):  # by a second way: the file's own integers in the middle of a silent clip
        samples, _ = soundfile.read(tmp_path / "words" / name, dtype="int16")
        clip = np.zeros((1, 1600), np.int16)
        clip[0, 200:1400] = samples
        assert np.array_equal(train.inputs[row], features(clip, HEARS)[0])
    facts = describe(data)
    assert facts["sizes"]["seconds"]["median"] == 0.15 and facts["sizes"]["rates"] == {"8000": 32}
    assert not any("image" in line for line in (*facts["notes"], *facts["warnings"]))


def test_the_published_lists_say_the_splits(tmp_path: Path) -> None:
    root = words(tmp_path / "words", speakers=4)  # an editor's mark before the first line is none of its name
    (root / "validation_list.txt").write_text("\ufeffyes/00000001_nohash_0.wav\nno/00000001_nohash_1.wav\n")
    (root / "testing_list.txt").write_text("yes/00000002_nohash_0.wav\nno/00000002_nohash_1.wav\n")
    data = opened(root, tmp_path)
    assert {data.records[i].name for i in data.members["val"]} == {"yes/00000001_nohash_0.wav", "no/00000001_nohash_1.wav"}
    assert {data.records[i].name for i in data.members["test"]} == {"yes/00000002_nohash_0.wav", "no/00000002_nohash_1.wav"}
    assert len(data.members["train"]) == 12


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    root = words(tmp_path / "words")
    (root / "no" / "cut.wav").write_bytes((root / "no" / "00000000_nohash_0.wav").read_bytes()[:30])
    (root / "no" / "none.wav").write_bytes(b"")
    (root / "yes" / "text.flac").write_text("no sound")
    write(root / "yes" / "zeros.wav", np.zeros(RATE))
    write(root / "yes" / "short.wav", tone(0.005))
    write(root / "yes" / "strange.wav", np.full(RATE, np.nan), subtype="FLOAT")
    write(root / "yes" / "whole.wav", 9830 * tone(1.0), subtype="FLOAT")
    write(root / "yes" / "over.wav", 7.9 * tone(1.0) / np.abs(tone(1.0)).max(), subtype="FLOAT")
    (root / "yes" / "half.wav").write_bytes(write(tmp_path / "one.wav", tone(0.5, 77.0)).read_bytes()[:-4000])
    for length, name in ((8_044, "counted.wav"), (0xFFFFFFFF, "piped.wav")):
        sound = bytearray(write(tmp_path / name, tone(0.5, 50.0 + length % 7), format="WAV").read_bytes())
        sound[40:44] = length.to_bytes(4, "little")
        (root / "yes" / name).write_bytes(bytes(sound))
    data = opened(root, tmp_path)
    assert [bad.reason for bad in data.bad if bad.name.endswith("half.wav")] == ["cut off: 4,000 bytes of sound are missing"]
    (whole,) = (bad.reason for bad in data.bad if bad.name.endswith("whole.wav"))
    assert "times full scale" in whole and "32768" in whole
    assert {bad.name.split("/")[1]: bad.reason for bad in data.bad if bad.reason != whole and "half" not in bad.name} == {
        "cut.wav": "cannot be decoded",
        "none.wav": "empty file",
        "short.wav": "shorter than 10 ms",
        "strange.wav": "samples that are no numbers",
        "text.flac": "cannot be decoded",
        "zeros.wav": "silent: all zeros",
    }
    assert len(data.records) == 35


def test_codecs_that_cannot_be_wound_are_read_from_the_beginning(tmp_path: Path) -> None:
    whole = tone(2.0, 300.0)
    path = write(tmp_path / "gsm.wav", whole, rate=8000, subtype="GSM610")
    with soundfile.SoundFile(path) as file:
        assert not file.seekable()
    heard, at_once = part(path, 500.0, 700.0, 100.0), soundfile.read(path, dtype="float32")[0]
    assert np.array_equal(heard.samples, at_once[3200:6400])


def test_long_recordings_are_cut_and_stay_together(tmp_path: Path) -> None:
    for number, label in enumerate(("rain", "wind")):
        for i in range(4):
            silent = np.zeros(RATE // 2)  # a second of silence before the sound is no piece
            write(tmp_path / "set" / label / f"{i}.flac", np.concatenate([silent, silent, tone(2.0, 200 + 300 * number + i)]))
    data = opened(tmp_path / "set", tmp_path, "clip=500", "overlap=0.5")
    assert len(data.records) == 8 * 7  # from 1 s on, every 250 ms until 2.5 s
    first = sorted(record.name for record in data.records)[0]
    assert first == "rain/0.flac@1.000-1.500" and data.straddles == () and data.groups is not None and len(data.groups) == 8
    by_rule = opened(tmp_path / "set", tmp_path, "clip=500", "groups=/([12])[.]flac")
    assert by_rule.groups is not None and len(by_rule.groups) == 6, "1 and 2 of both classes by the rule, the others by recording"


@pytest.mark.parametrize(
    ("length", "overlap", "expected"),
    [
        (1400, 0.0, [(0, 1400)]),
        (1600, 0.0, [(0, 1000), (600, 1600)]),
        (2400, 0.0, [(0, 1000), (1000, 2000)]),
        (2400, 0.5, [(0, 1000), (500, 1500), (1000, 2000), (1400, 2400)]),
    ],
)
def test_spans(length: int, overlap: float, expected: list[tuple[int, int]]) -> None:
    assert spans(0, length, 1000, overlap) == expected


def test_gaps() -> None:
    assert gaps([(4, 6), (1, 2), (5, 8)], 10) == [(0, 1), (2, 4), (8, 10)]


def test_channels_are_mixed_rates_changed_and_surroundings_heard(tmp_path: Path) -> None:
    left, right = tone(3.0, 500, rate=16000), tone(3.0, 500, rate=16000, loud=0.1)
    for label in ("a", "b"):
        for i in range(3):
            write(tmp_path / "set" / label / f"{i}.wav", np.stack([left, right], 1) * (1 - 0.01 * i), 16000, subtype="FLOAT")
    data = opened(tmp_path / "set", tmp_path, "clip=600", "leaks=keep")
    second = next(i for i, record in enumerate(data.records) if record.name == "a/0.wav@0.600-1.200")
    for front_end in (HEARS, FrontEnd(sample_rate=RATE, clip_ms=1000)):
        clip = cut(data.decoded(second), front_end)
        at = round((0.9 - front_end.clip_ms / 2000) * RATE)  # the middle of the piece is at 0.9 s
        expected = 32768 * tone(3.0, 500, loud=0.2)[at : at + front_end.clip_samples]
        assert clip.dtype == np.int16 and np.abs(clip - expected).max() < 40


def test_networks_without_a_front_end_are_refused(tmp_path: Path) -> None:
    data = opened(words(tmp_path / "words"), tmp_path)
    with pytest.raises(DataError, match="without a front end") as refusal:
        data.split("train", 32, 32, 1)
    assert "front_end" in refusal.value.hint


# tables -------------------------------------------------------------------------------------------------


def test_events_of_a_table(tmp_path: Path) -> None:
    lines = ["path,label,start,end,fold,speaker"]
    for i in range(6):
        write(tmp_path / "set" / f"night{i}.wav", tone(3.0, 400 + i))
        lines += [f"night{i}.wav,owl,0.2,0.5,{i % 3},s{i // 2}", f"night{i}.wav,fox,1.0,2.2,{i % 3},s{i // 2}"]
    table = tmp_path / "set" / "events.csv"
    table.write_text("\n".join(lines) + "\n")
    data = opened(table, tmp_path, "clip=500", "folds={val: 1, test: [2]}")
    assert data.labels == ("fox", "owl")
    assert data.counts("train") == {"fox": 4, "owl": 2}, "two recordings each; 1.2 s of fox are two pieces"
    assert {record.group for record in data.records} == {"s0", "s1", "s2"}
    quiet = opened(table, tmp_path, "clip=500", "folds={val: 1, test: [2]}", "silence=1")
    assert quiet.counts("train") == {"fox": 4, "owl": 2, "silence": 3}, "as many as the others have on average, from between events"
    for i in np.flatnonzero(quiet.targets == 2):
        start, end = map(float, quiet.records[i].name.split("@")[1].split("-"))
        assert end <= 0.2 or (start >= 0.5 and end <= 1.0) or start >= 2.2, quiet.records[i].name
    table.write_text("\n".join([lines[0], "night0.wav,owl,two,3,0,s"]) + "\n")
    with pytest.raises(DataError, match=r"line 2.*no part of a recording"):
        opened(table, tmp_path)


def test_events_that_are_not_used_or_not_to_their_ends_are_said(tmp_path: Path) -> None:
    def table(*more: str) -> Path:
        lines = ["path,label,start,end,fold,speaker"]
        for i in range(6):
            write(tmp_path / "set" / f"night{i}.wav", tone(3.0, 400 + i))
            lines += [f"night{i}.wav,owl,0.2,0.5,{i % 3},s{i // 2}", f"night{i}.wav,fox,1.0,2.2,{i % 3},s{i // 2}"]
        path = tmp_path / "set" / "events.csv"
        path.write_text("\n".join([*lines, *more]) + "\n")
        return path

    def said(*more: str, several: bool = False, chosen: str = "") -> list[str]:
        options = ["clip=500", "folds={val: 1, test: [2]}", *(["multilabel=true"] if several else []), *([chosen] if chosen else [])]
        return [note for note in opened(table(*more), tmp_path, *options).notes if "event" in note and "events.csv" not in note]

    assert said() == said("night0.wav,owl,0.61,0.62,0,s0", "night0.wav,owl,2.3,2.31,0,s0") == [], "10 ms are enough"
    brief = ("night0.wav,owl,0.700,0.705,0,s0", "night1.wav,fox,2.995,3.2,1,s0")
    assert said(*brief) == [
        "2 events shorter than 10 ms not used, such as line 14 (night0.wav, 0.700 to 0.705 s): start and end are seconds"
    ]
    beyond = ("night0.wav,fox,2.5,3.6,0,s0", "night1.wav,fox,2.4,3.009,1,s0")
    cut = ["1 event used up to the end of the recording, and not beyond it, such as line 14 (night0.wav, 2.5 to 3.6 s, of 3 s)"]
    assert said(*beyond) == said(*beyond, several=True) == cut
    assert said(brief[0], several=True) == [], "of several at once it is a label all the same"
    with pytest.raises(
        DataError, match=r"bat: all its events are shorter than 10 ms, such as line 14 \(night0\.wav, 0\.7 to 0\.705 s\)"
    ) as lost:
        said("night0.wav,bat,0.7,0.705,0,s0")
    assert "seconds" in str(lost.value.hint)
    assert len(said("night0.wav,bat,0.7,0.705,0,s0", chosen="labels=[owl,fox]")) == 1, "a class that is not wanted may be lost"


def test_folds_in_names(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for fold in range(1, 5):
            for i in range(2):
                write(tmp_path / "set" / label / f"{fold}-{i}00-A.ogg", tone(0.2, 300 + 40 * fold + 10 * i + len(label)))
    data = opened(tmp_path / "set", tmp_path, "folds={test: [4], val: [3]}")
    assert {record.name.split("/")[1][0] for record in data.records if record.split == "test"} == {"4"}
    assert [len(data.members[split]) for split in ("train", "val", "test")] == [8, 4, 4]
    with pytest.raises(DataError, match="folds"):
        opened(tmp_path / "set", tmp_path, "folds={test: [9]}")


def test_unknown_and_silence(tmp_path: Path) -> None:
    root = words(tmp_path / "words")
    for number, word in enumerate(("bed", "cat", "dog")):
        for i in range(16):
            write(root / word / f"{i:08x}_nohash_0.wav", tone(0.15, 1500 + 100 * number + i))
    noise = np.random.default_rng(0).normal(0, 0.05, 20 * RATE)
    write(root / "_background_noise_" / "hiss.wav", noise)
    plain = opened(root, tmp_path)
    assert plain.labels == ("bed", "cat", "dog", "no", "yes"), "noise is no class"
    data = opened(root, tmp_path, "labels=['yes','no']", "unknown=rest", "silence=0.5", "clip=200")
    counts = {label: sum(data.counts(split)[label] for split in data.members) for label in data.labels}
    assert data.labels == ("yes", "no", "silence", "unknown")
    assert counts == {"yes": 16, "no": 16, "silence": 8, "unknown": 16}
    unknown = {record.name.split("/")[0] for record in data.records if record.label == "unknown"}
    assert unknown == {"bed", "cat", "dog"}
    with pytest.raises(ConfigError, match="into quotes"):
        opened(root, tmp_path, "labels=[yes,no]")
    with pytest.raises(DataError, match="no label 'bad'"):
        opened(root, tmp_path, "unknown=[bad]")


# kinds --------------------------------------------------------------------------------------------------


def test_the_majority_decides_and_the_rest_is_said(tmp_path: Path) -> None:
    import cv2

    root = words(tmp_path / "words")
    for i in range(3):
        cv2.imwrite(str(root / "no" / f"cover{i}.png"), np.full((8, 8, 3), 40 * i, np.uint8))
    data = opened(root, tmp_path)
    assert data.signal.kind == "sound" and any("3 files" in note and "are no sounds" in note for note in data.notes)


def test_given_features(tmp_path: Path) -> None:
    rows = []
    for i in range(24):
        values = np.random.default_rng(i).integers(-128, 128, 12).astype(np.int8)
        path = tmp_path / "set" / f"clip_{i}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(values.tobytes())
        rows.append(f"clip_{i}.bin,2,{i % 2}")
    (tmp_path / "set" / "y_labels.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match="how many"):
        opened(tmp_path / "set", tmp_path)
    data = opened(tmp_path / "set", tmp_path, "features=4x3")
    split = data.split("train", 4, 3, 1)
    stored = np.frombuffer((tmp_path / "set" / split.names[0]).read_bytes(), np.int8)
    assert np.array_equal(split.inputs[0].ravel().astype(int) - 128, stored) and split.kind == "sequence"
    assert np.array_equal(data.split("train", 4, 1, 3).inputs.reshape(split.inputs.shape), split.inputs)
    with pytest.raises(DataError, match="cannot read 4x3"):
        data.split("train", 3, 4, 1)


def test_a_sheet_of_spectra(tmp_path: Path) -> None:
    import cv2

    from tinynas.cli import run
    from tinynas.data.sounds.sheet import picture

    root = words(tmp_path / "words")
    assert run(["data", "info", str(root), "--sheet", str(tmp_path / "sheet.png"), "--set", "data.clip=200"]) == 0
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape[0] == 2 * 98 + 2
    high = np.zeros((4, 16, 1), np.uint8)
    high[:, 15] = 255
    drawn = picture(high, 32).astype(int)
    assert drawn[:2].min() > 150 and drawn[2:].max() < 10, "high frequencies are at the top"
