"""An export takes the place of the one before it, whatever that was, and nothing of the user's is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tinynas import api
from tinynas.arch import Arch, ConvLayer
from tinynas.cli import run as cli
from tinynas.errors import UserError
from tinynas.export import written
from tinynas.export.written import RECORD, check_unchanged, read_folder, write_folder, write_parts


def net(folder: Path, name: str, out: int = 8) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(Arch(name=name, height=12, width=12, classes=2, stem=ConvLayer(out=out, stride=2)).to_yaml())
    return str(path)


def files_of(folder: Path) -> dict[str, bytes]:
    """All but the report, whose seconds differ."""
    return {path: content for path, content in read_folder(folder).items() if path != "export.json"}


OTHERS: list[dict[str, Any]] = [
    {"formats": ("tflite",)},
    {"runtime": "compiled", "formats": ("c",)},
    {"runtime": "compiled", "formats": ("compiled", "tflite")},
    {"formats": ("tflite", "c"), "overrides": ["package.name=other"]},
]


@pytest.mark.parametrize("other", OTHERS)
def test_what_lies_in_a_folder_is_of_the_last_export(other: dict[str, Any], tmp_path: Path) -> None:
    """Of another network, format, runtime or name: there is no file more, and none less, than in a new folder."""
    first, second = net(tmp_path, "first"), net(tmp_path, "second", 16)
    api.export(first, out=tmp_path / "a")
    api.export(second, out=tmp_path / "b", **other)
    before, new = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    notes: list[str] = []
    api.export(second, out=tmp_path / "a", on_note=notes.append, **other)
    assert files_of(tmp_path / "a") == new
    gone = len(before.keys() - new.keys())
    assert gone > 0 and len(notes) == 1 and f"removed {gone} files of an earlier export" in notes[0]
    api.export(first, out=tmp_path / "a")
    assert files_of(tmp_path / "a") == before and not [
        path for path in (tmp_path / "a").rglob("*") if path.is_dir() and not any(path.iterdir())
    ]
    records = [path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob(RECORD)]
    assert sorted(records) == [RECORD, f"c/{RECORD}"]


def test_what_the_user_changed_or_made_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, out = net(tmp_path, "first"), net(tmp_path, "second"), tmp_path / "out"
    assert cli(["export", first, "--out", str(out)]) == 0
    mine, edited = out / "c" / "main.cpp", out / "c" / "CMakeLists.txt"
    mine.write_text("int main() {}")
    text = edited.read_text()
    edited.write_text(text + "# mine\n")
    before = read_folder(out)
    capsys.readouterr()
    for more in ([], ["--format", "tflite"], ["--runtime", "compiled"]):
        assert cli(["export", second, "--out", str(out), *more]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"error: {edited}: changed since tinynas wrote it" in said and "-> move what is yours elsewhere" in said
        assert read_folder(out) == before, "nothing was written"
    edited.unlink()
    assert cli(["export", second, "--out", str(out), "--format", "tflite"]) == 0
    assert "removed 34 files" in capsys.readouterr().out
    assert sorted(files_of(out)) == ["c/main.cpp", "model_int8.tflite"]
    # A file of the user's where one is to be written.
    (out / "c" / "README.md").write_text("mine")
    assert cli(["export", second, "--out", str(out)]) == 2
    assert f"{out / 'c' / 'README.md'}: in the way" in capsys.readouterr().err
    assert sorted(files_of(out)) == ["c/README.md", "c/main.cpp", "model_int8.tflite"]
    assert cli(["export", second, "--out", first]) == 2 and "is a file" in capsys.readouterr().err


def test_an_export_without_a_record_is_not_taken_for_the_users_nor_left_beside(tmp_path: Path) -> None:
    """Of a tinynas that kept none: the report knows the model; of a folder nobody knows what is stale in it."""
    first, second, out = net(tmp_path, "first"), net(tmp_path, "second", 16), tmp_path / "out"
    api.export(first, out=out)
    for record in list(out.rglob(RECORD)):
        record.unlink()
    before = read_folder(out)
    with pytest.raises(UserError, match=r"c: of an export by an older tinynas.*"):
        api.export(second, out=out, formats=("tflite",))
    with pytest.raises(UserError, match=r"in the way, and no record says that tinynas wrote them \(an older tinynas kept none\)"):
        api.export(second, out=out)
    assert read_folder(out) == before
    api.export(first, out=out)  # the same again is no harm
    api.export(second, out=out, formats=("tflite",))
    assert list(files_of(out)) == ["model_int8.tflite"]
    (out / RECORD).unlink()
    api.export(first, out=out, formats=("tflite",))
    (out / RECORD).unlink()
    (out / "model_int8.tflite").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"model_int8.tflite: changed"):
        api.export(second, out=out, formats=("c",))
    (out / "export.json").write_text('{"exports": []}')
    with pytest.raises(UserError, match=r"export.json: in the way, and is no report"):
        api.export(second, out=out, formats=("c",))


def test_folders_with_records_of_their_own(tmp_path: Path) -> None:
    """One that another command wrote, inside of an export or over it, is replaced as what it is."""
    write_parts(tmp_path, {"m.tflite": b"1", "c/a.cc": b"1", "c/deep/b.cc": b"1"})
    (tmp_path / "export.json").write_text(json.dumps({"sha256": "", "report": {"files": {"tflite": "m.tflite", "c": "c"}}}))
    write_folder(tmp_path / "c", {"a.cc": b"1", "adapt.h": b"2"})
    assert sorted(read_folder(tmp_path / "c")) == ["a.cc", "adapt.h"] and not (tmp_path / "c" / "deep").exists()
    write_parts(tmp_path, {"c/a.c": b"3"})
    assert read_folder(tmp_path).keys() == {"c/a.c", "export.json"}
    write_folder(tmp_path / "elsewhere", {"x": b"4"})  # not of this export
    write_folder(tmp_path, {"a.cc": b"5"})
    assert read_folder(tmp_path) == {"a.cc": b"5", "elsewhere/x": b"4"}
    write_parts(tmp_path, {"m.tflite": b"1"})
    assert read_folder(tmp_path) == {"m.tflite": b"1", "elsewhere/x": b"4"}


@pytest.mark.parametrize("after", range(1, 8))
def test_an_export_that_was_cut_off_is_made_again(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path, {"m": b"1", "c/a": b"1", "c/b": b"1"})
    new = {"m": b"2", "c/a": b"2", "d/e": b"2"}
    count, whole = 0, written.write_atomic

    def cut(path: Path, content: str | bytes) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        whole(path, content)

    monkeypatch.setattr(written, "write_atomic", cut)
    with pytest.raises(KeyboardInterrupt):
        write_parts(tmp_path, new)
    monkeypatch.setattr(written, "write_atomic", whole)
    for files in (new, {"m": b"3"}):
        write_parts(tmp_path, files)
        assert read_folder(tmp_path) == files
    check_unchanged(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"files": {"../x": ["a"]}, "folders": []}',
        '{"files": {}, "folders": ["/etc"]}',
        '{"files": {"a": [1]}, "folders": []}',
    ],
)
def test_a_record_that_is_none_is_said(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(UserError, match=r"is no record of an export"):
        write_folder(tmp_path, {"a": b"1"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "x"]


def test_a_folder_of_tinynas_itself_is_written_over_but_for_what_was_changed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"of an older tinynas")
    write_folder(tmp_path, {"a": b"1"}, owned=True)
    check_unchanged(tmp_path)
    (tmp_path / "a").write_bytes(b"mine")
    for again in (lambda: write_folder(tmp_path, {"a": b"2"}, owned=True), lambda: check_unchanged(tmp_path)):
        with pytest.raises(UserError, match=r"a: changed since tinynas wrote it") as caught:
            again()
        assert "--out" not in str(caught.value.hint)
    assert (tmp_path / "a").read_bytes() == b"mine"
