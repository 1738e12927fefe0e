"""What exports wrote into a folder: a record in it, by which the next one takes its place and nothing of the user's is lost.

The record holds a digest of each file. What an earlier export wrote and the new one does not is removed; what was changed since, or was
never tinynas's, is not replaced: the export is refused before anything is written. Other files are not looked at. Each folder of an
export (``c/``) has a record of its own, as it may be moved into another project, and what is above it is recorded beside ``export.json``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tinynas.errors import UserError, counted
from tinynas.files import disk_error, write_atomic

#: The record of a folder. It begins with a dot: it is no source.
RECORD = ".tinynas-export.json"
#: The report of an export, beside its files.
REPORT = "export.json"
#: So many files are named in a message.
_NAMED = 3
_ABOUT = "What tinynas wrote here, by SHA-256: its next export replaces these files, and no others."
_REMEDY = "move what is yours elsewhere and delete it here, or write to another folder with --out; nothing was written"
_REMEDY_OWNED = "move what is yours elsewhere and delete it here; nothing was written"


@dataclass(frozen=True)
class _Earlier:
    """What earlier exports wrote into a folder."""

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Relative path -> SHA-256; two where an export was cut off before or after it wrote the file."""
    folders: tuple[str, ...] = ()
    """Folders in it with records of their own."""

    def to_json(self) -> dict[str, Any]:
        files = {path: list(dict.fromkeys(known)) for path, known in sorted(self.files.items())}
        return {"about": _ABOUT, "files": files, "folders": sorted(set(self.folders))}


@dataclass(frozen=True)
class _Change:
    """The files of one folder, before and after an export."""

    folder: Path
    files: Mapping[str, bytes]
    earlier: _Earlier
    folders: tuple[str, ...] = ()

    @property
    def stale(self) -> list[Path]:
        """What is there of an earlier export, and is not written now."""
        return [self.folder / path for path in self.earlier.files if path not in self.files and (self.folder / path).is_file()]

    def in_the_way(self, *, owned: bool) -> tuple[list[Path], list[Path]]:
        """(files that were changed since they were written, files that nothing says to be tinynas's) among those that would be replaced or
        removed. ``owned``: the second are tinynas's own, from before there were records."""
        changed, others = [], []
        for path in sorted({*self.files, *self.earlier.files}):
            place, content = self.folder / path, self.files.get(path)
            if not place.is_file():
                continue
            there, known = _digest_of(place), self.earlier.files.get(path)
            if content is not None and there == _digest(content):
                continue
            if known is None and not owned:
                others.append(place)
            elif known is not None and there not in known:
                changed.append(place)
        return changed, others

    def make(self) -> None:
        """Remove and write. Where it is cut off, the record knows each file as it was and as it is to be."""
        now = {path: (_digest(content),) for path, content in self.files.items()}
        before, record = self.earlier, self.folder / RECORD
        if now or before.files:
            both = {path: (*now.get(path, ()), *before.files.get(path, ())) for path in {**now, **before.files}}
            _write_record(record, _Earlier(both, (*self.folders, *before.folders)))
        for place in self.stale:  # first: on some disks Model.h and MODEL.h are one file
            _remove(place)
            self._remove_empty(place.parent)
        for path, content in self.files.items():
            write_atomic(self.folder / path, content)
        if now or self.folders:
            _write_record(record, _Earlier(now, self.folders))
        elif record.is_file():
            _remove(record)
            self._remove_empty(self.folder)

    def _remove_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # not empty: there are files of the user's
            while folder.is_relative_to(self.folder):
                folder.rmdir()
                folder = folder.parent


def write_folder(
    folder: Path, files: Mapping[str, bytes], *, owned: bool = False, on_note: Callable[[str], None] | None = None
) -> list[Path]:
    """Write ``files`` (relative path -> content) into ``folder``, where those of an earlier export go; their paths.

    ``owned``: the folder is tinynas's own, and so is what lies there without a record. ``on_note`` hears of what was removed. Raises
    UserError where files of the user's are in the way, before anything is written.
    """
    earlier = _earlier(folder)
    if _of_report(folder) is not None:
        earlier = replace(earlier, files={**earlier.files, REPORT: (_digest_of(folder / REPORT),)})
    _make(folder, [_Change(folder, files, earlier), *_parts_of(folder, {}, earlier, owned)], owned, on_note)
    return [folder / path for path in files]


def write_parts(folder: Path, files: Mapping[str, bytes], *, owned: bool = False, on_note: Callable[[str], None] | None = None) -> None:
    """The same of an export of several parts: files, and folders with a record each. Its report is for the caller to write."""
    parts: dict[str, dict[str, bytes]] = {"": {}}
    for path, content in files.items():
        top, slash, rest = path.partition("/")
        parts.setdefault(top if slash else "", {})[rest if slash else path] = content
    own, earlier = parts.pop(""), _earlier(folder)
    if not owned and (folder / REPORT).is_file() and _of_report(folder) is None:
        raise UserError(f"{folder / REPORT}: in the way, and is no report of an export", _REMEDY)
    _make(folder, [_Change(folder, own, earlier, tuple(parts)), *_parts_of(folder, parts, earlier, owned)], owned, on_note)


def _parts_of(folder: Path, parts: Mapping[str, Mapping[str, bytes]], earlier: _Earlier, owned: bool) -> list[_Change]:
    """Of the folders in ``folder`` with ``parts`` of an export, and of those that an earlier one wrote."""
    changes = []
    for part in dict.fromkeys((*parts, *earlier.folders)):
        known = _read_record(folder / part)
        if known is None and part not in parts and not owned and _holds_files(folder / part):
            raise UserError(
                f"{folder / part}: of an export by an older tinynas, which kept no record: what is stale in it is not known",
                "delete the folder if nothing in it is yours, or write to another one with --out; nothing was written",
            )
        changes.append(_Change(folder / part, parts.get(part, {}), known or _Earlier()))
    return changes


def check_unchanged(folder: Path) -> None:
    """Raise UserError where files of an export in ``folder`` were changed since it wrote them: the next one would be refused."""
    earlier = _earlier(folder)
    _refuse([_Change(folder, {}, earlier), *_parts_of(folder, {}, earlier, True)], owned=True)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file in ``folder``, less the records."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def _make(folder: Path, changes: list[_Change], owned: bool, on_note: Callable[[str], None] | None) -> None:
    _refuse(changes, owned=owned)
    stale = [place.relative_to(folder) for change in changes for place in change.stale]
    for change in changes:
        change.make()
    if stale and on_note is not None:
        on_note(f"{folder}: removed {counted(len(stale), 'file')} of an earlier export that this one does not write: {_listed(stale)}")


def _refuse(changes: list[_Change], *, owned: bool) -> None:
    found = [change.in_the_way(owned=owned) for change in changes]
    changed, others = [place for each, _ in found for place in each], [place for _, each in found for place in each]
    if changed:
        remedy = _REMEDY_OWNED if owned else _REMEDY
        raise UserError(f"{_listed(changed)}: changed since tinynas wrote {_it(changed)}, and an export would undo that", remedy)
    if others:
        raise UserError(
            f"{_listed(others)}: in the way, and no record says that tinynas wrote {_it(others)} (an older tinynas kept none)", _REMEDY
        )


def _it(places: list[Path]) -> str:
    return "it" if len(places) == 1 else "them"


def _listed(places: Sequence[Path]) -> str:
    more = "" if len(places) <= _NAMED else f" and {len(places) - _NAMED} more"
    return ", ".join(map(str, places[:_NAMED])) + more


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_file() for path in folder.rglob("*"))


# records ---------------------------------------------------------------------------------------------------


def _read_record(folder: Path) -> _Earlier | None:
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        document = json.loads(_read(path))
        files = {str(name): tuple(known) for name, known in document["files"].items()}
        folders = tuple(document["folders"])
        inside = all(_inside(name) for name in (*files, *folders))
        if not inside or not all(isinstance(digest, str) for known in files.values() for digest in known):
            raise ValueError("no files of an export")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{path}: is no record of an export", "restore it; or delete it, and what is there without one will not be replaced"
        ) from None
    return _Earlier(files, folders)


def _earlier(folder: Path) -> _Earlier:
    return _read_record(folder) or _of_report(folder) or _Earlier()


def _of_report(folder: Path) -> _Earlier | None:
    """What the report of an export says of an export that kept no record; None where there is no such report."""
    try:
        document = json.loads((folder / REPORT).read_bytes())
        files = document["report"]["files"]
        if not all(_inside(name) for name in files.values()):
            return None
        known = {files["tflite"]: (str(document["sha256"]),)} if "tflite" in files else {}
        return _Earlier(known, tuple(name for name in files.values() if name not in known))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _inside(name: object) -> bool:
    """Whether it is a path below a folder, and no way out of it."""
    if not isinstance(name, str) or not name or "\\" in name or ":" in name:
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and bool(path.parts)


def _write_record(path: Path, earlier: _Earlier) -> None:
    write_atomic(path, json.dumps(earlier.to_json(), indent=1) + "\n")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str:
    return _digest(_read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise disk_error(path, error, "read") from None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(path, error, "removed") from None
