"""What a path is that is given as a network: a .tflite under any name, a model of another kind, or something else that lies there."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from tinynas import api
from tinynas.errors import ModelFileError, UserError
from tinynas.foreign import require_tflite, what_is

MODEL = b"\x1c\0\0\0TFL3" + bytes(32)


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")


#: Name -> content (or the names in an archive), what it is said to be.
KINDS: dict[str, tuple[bytes | tuple[str, ...], str]] = {
    "m.onnx": (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
    "noname": (b"\x08\x08\x12\x07pytorch\x1a", "an ONNX model"),
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file"),
    "h5.tflite": (b"\x89HDF\r\n\x1a\n" + bytes(8), "an HDF5 file"),
    "m.keras": (("config.json", "metadata.json", "model.weights.h5"), "a Keras model"),
    "m.pt": (("archive/data.pkl", "archive/version"), "a PyTorch model"),
    "old.pth": (b"\x80\x02\x8a\nl\xfc\x9cF", "a Python pickle, as PyTorch"),
    "saved.zip": (("m/saved_model.pb", "m/variables/variables.index"), "a zipped TensorFlow SavedModel"),
    "one.zip": (("in/a.tflite", "readme.txt"), "a zip archive that holds in/a.tflite"),
    "broken.zip": (b"PK\x03\x04" + bytes(30), "a broken zip archive"),
    "m.tar.gz": (b"\x1f\x8b\x08" + bytes(8), "a gzip archive"),
    "m.pb": (b"\x08\x01\x12\x04", "a TensorFlow graph"),
    "m.safetensors": (b"\x08\0\0\0\0\0\0\0" + b'{"a":{}}', "safetensors weights"),
    "m.ort": (b"\x10\0\0\0ORTM" + bytes(8), "an ONNX Runtime model"),
    "lfs.tflite": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a Git LFS pointer"),
    "page.tflite": (b"\n<!DOCTYPE html><html>", "a web page"),
    "empty.tflite": (b"", "an empty file"),
    "junk.LITE": (bytes(100), "not a .tflite file, for all its name"),
    "model.cc": (b"const unsigned char model[] = {0x1c};", "C++ source"),
}


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_are_named_with_a_way_out(name: str, tmp_path: Path) -> None:
    path, (content, title) = tmp_path / name, KINDS[name]
    if isinstance(content, tuple):
        zipped(path, *content)
    else:
        path.write_bytes(content)
    assert what_is(path).title.startswith(title)
    for call in (api.estimate, api.load_net, require_tflite, lambda p: api.evaluate(p, "synthetic")):
        with pytest.raises(ModelFileError, match=re.escape(title)) as caught:
            call(str(path))
        assert str(path) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize("inside", ["saved_model.pb", "a.tflite", "nothing.txt"])
def test_folders(inside: str, tmp_path: Path) -> None:
    (tmp_path / inside).write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"SavedModel|is a folder") as caught:
        api.estimate(str(tmp_path))
    assert ("a.tflite" in str(caught.value.hint)) == (inside == "a.tflite")
    assert ("from_saved_model" in str(caught.value.hint)) == (inside == "saved_model.pb")


@pytest.mark.parametrize("name", ["m.tflite", "MODEL.TFLITE", "m.lite", "noname", "m.onnx", "m.bin"])
def test_a_tflite_is_one_under_any_name(name: str, tmp_path: Path) -> None:
    tflite = pytest.importorskip("tinynas.export.tflite")
    from tinynas.arch import load_arch
    from tinynas.graph import lower

    path = tmp_path / name
    path.write_bytes(tflite.dummy_file(lower(load_arch("mcunet-tiny2"))))
    assert api.names_tflite(str(path))
    assert api.estimate(str(path)).macs == 1_674_512
    with pytest.raises(ModelFileError, match="is a finished"):
        api.export(str(path), out=tmp_path / "out")


def test_what_is_no_model_is_left_to_others(tmp_path: Path) -> None:
    text = tmp_path / "arch.yaml"
    text.write_text("name: x\n")
    assert what_is(text).title == what_is(tmp_path / "missing").title == what_is("a\0b").title == ""
    assert not api.names_tflite(str(text))
    assert api.names_tflite(str(tmp_path / "missing.TFLITE"))
    with pytest.raises(ModelFileError, match="No such file"):
        api.estimate(str(tmp_path / "missing.lite"))
    with pytest.raises(UserError, match="arch"):
        api.estimate(str(text))
    with pytest.raises(ModelFileError, match="TFL3"):
        require_tflite(text)


def test_a_folder_does_not_hide_a_zoo_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mcunet-tiny2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert api.estimate("mcunet-tiny2").macs == 1_674_512


def test_a_run_says_how_its_networks_are_named(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ModelFileError, match="is a run") as caught:
        api.estimate(str(tmp_path))
    assert f"{tmp_path}:ID" in str(caught.value.hint)
