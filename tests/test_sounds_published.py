"""Published sets of sounds, from small archives made as theirs are: what is taken, labelled, split, and left out."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tinynas.cli import run
from tinynas.data import DataOptions, open_data
from tinynas.data.prepare import SoundSetOptions, sounds
from tinynas.errors import DataError


def wave(number: int, seconds: float = 0.1, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.random.default_rng(number).normal(0, 1, round(seconds * rate)).clip(-3, 3), rate, format="WAV")
    return file.getvalue()


def speech_commands() -> dict[str, bytes]:
    files = {"README.md": b"words", "LICENSE": b"", "_background_noise_/pink_noise.wav": wave(0, 3.0), "_background_noise_/README.md": b""}
    for number, word in enumerate(("yes", "no", "marvin")):
        for speaker in range(6):
            files[f"{word}/{speaker:08x}_nohash_0.wav"] = wave(1 + 10 * number + speaker)
    files["validation_list.txt"] = b"".join(f"{word}/00000001_nohash_0.wav\n".encode() for word in ("yes", "no", "marvin"))
    files["testing_list.txt"] = b"".join(f"{word}/00000002_nohash_0.wav\n".encode() for word in ("yes", "no", "marvin"))
    return files


def esc50() -> dict[str, bytes]:
    rows, files = ["filename,fold,target,category,esc10,src_file,take"], {"ESC-50-master/README.md": b""}
    for number, (category, ten) in enumerate((("dog", True), ("rain", True), ("clapping", False))):
        for fold in range(1, 6):
            name = f"{fold}-{100 * fold + number}-A-{number}.wav"
            rows.append(f"{name},{fold},{number},{category},{ten},{100 * fold + number},A")
            files[f"ESC-50-master/audio/{name}"] = wave(50 + 10 * number + fold)
    files["ESC-50-master/meta/esc50.csv"] = "\n".join(rows).encode()
    return files


def fsdd() -> dict[str, bytes]:
    top = "free-spoken-digit-dataset-master"
    files = {f"{top}/metadata.py": b"", f"{top}/recordings/notes.txt": b""}
    for digit in range(2):
        for i, speaker in enumerate(("george", "jackson", "lucas", "nicolas")):
            for take in range(2):
                files[f"{top}/recordings/{digit}_{speaker}_{take}.wav"] = wave(200 + 20 * digit + 4 * i + take)
    return files


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_speech_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYNAS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="not prepared yet"):
        open_data("speech-commands")
    archive = tarred(tmp_path / "speech_commands_v0.02.tar.gz", {**speech_commands(), "yes/ffffffff_nohash_0.wav": b"RIFF"})
    assert run(["data", "prepare", "speech-commands", "--from", str(archive)]) == 0
    root = tmp_path / "cache" / "prepared" / "speech-commands"
    assert json.loads((root / "source.json").read_text())["reasons"] == {"cannot be decoded": 1}
    data = open_data("speech-commands")
    assert data.labels == ("marvin", "no", "yes")
    assert [len(data.members[split]) for split in ("train", "val", "test")] == [12, 3, 3]
    assert {record.group for record in data.records} == {f"{speaker:08x}" for speaker in range(6)} and data.straddles == ()
    keywords = open_data("speech-commands", options=DataOptions(labels=("yes", "no"), unknown=("rest",), silence=1.0, clip=100))
    assert keywords.labels == ("yes", "no", "silence", "unknown")
    assert keywords.counts("train") == {"yes": 4, "no": 4, "silence": 4, "unknown": 4}
    assert keywords.counts("test") == {"yes": 1, "no": 1, "silence": 1, "unknown": 1}


@pytest.mark.parametrize(("name", "classes"), [("esc10", 2), ("esc50", 3)])
def test_esc(name: str, classes: int, tmp_path: Path) -> None:
    report = sounds(name, SoundSetOptions(source=zipped(tmp_path / "master.zip", esc50()), out=tmp_path / "out"))
    assert report.bad == [] and sum(len(labels) for labels in report.sounds.values()) == 3 * classes
    data = open_data(tmp_path / "out" / "manifest.csv", cache_dir=tmp_path / "cache")
    assert len(data.labels) == classes and [len(data.members[s]) for s in ("train", "val", "test")] == [3 * classes, classes, classes]
    other = open_data(
        tmp_path / "out" / "manifest.csv", cache_dir=tmp_path / "cache", options=DataOptions(folds={"test": ("1",), "val": ("2",)})
    )
    assert {other.records[i].name.split("/")[-1][0] for i in other.members["test"]} == {"1"}


def test_spoken_digits_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in fsdd().items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    sounds("fsdd", SoundSetOptions(source=tmp_path / "unpacked", out=tmp_path / "out"))
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16 and rows[0]["path"] == "recordings/0_george_0.wav" and rows[0]["speaker"] == "george"
    assert rows[0]["seconds"] == "0.100" and rows[0]["rate"] == "8000"
    digits = open_data(tmp_path / "out" / "manifest.csv", cache_dir=tmp_path / "cache")
    # The folder has the set's name: what was prepared here is found by it, and what is nothing of the kind is not.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fsdd").mkdir()
    with pytest.raises(DataError, match="fsdd: is not prepared yet"):
        open_data("fsdd", cache_dir=tmp_path / "cache")
    (tmp_path / "fsdd").rmdir()
    (tmp_path / "out").rename(tmp_path / "fsdd")
    assert len(open_data("fsdd", cache_dir=tmp_path / "cache").records) == len(digits.records)
    heard = {split: {digits.records[i].group for i in rows} for split, rows in digits.members.items()}
    assert heard["train"] | heard["val"] | heard["test"] == {"george", "jackson", "lucas", "nicolas"}
    assert not heard["train"] & heard["test"] and not heard["val"] & heard["test"]
    top = tmp_path / "unpacked" / "free-spoken-digit-dataset-master"
    for inside in (top / "recordings", tmp_path / "alone"):  # what may be at hand, too: the recordings, or a folder with nothing else
        again = sounds("fsdd", SoundSetOptions(source=inside, out=tmp_path / inside.name))
        assert again.sounds == {"": {"0": 8, "1": 8}}
        if inside.name == "recordings":
            (tmp_path / "alone").mkdir()
            inside.rename(tmp_path / "alone" / "recordings")


def test_what_is_no_such_set_is_refused_and_nothing_leads_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"master\.zip: is not ESC-50"):
        sounds("esc50", SoundSetOptions(source=zipped(tmp_path / "master.zip", fsdd()), out=tmp_path / "out"))
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"\x1f\x8b\x08 and no more")
    with pytest.raises(DataError, match="no archive that can be read"):
        sounds("speech-commands", SoundSetOptions(source=broken, out=tmp_path / "out"))
    with pytest.raises(DataError, match="does not exist"):
        sounds("fsdd", SoundSetOptions(source=tmp_path / "nowhere", out=tmp_path / "out"))
    evil = {**speech_commands(), "../yes/00000009_nohash_0.wav": wave(9)}
    sounds("speech-commands", SoundSetOptions(source=zipped(tmp_path / "evil.zip", evil), out=tmp_path / "inner" / "out"))
    assert not (tmp_path / "inner" / "yes").exists()
