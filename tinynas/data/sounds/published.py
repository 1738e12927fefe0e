"""Published sets of sounds: fetched or unpacked once into a folder with a manifest, each file decoded and its digest kept.

::

    manifest.csv     path, label, split, fold, speaker, seconds, rate, sha256: a line for each sound that can be used
    source.json      where it is from, the archive's digest, what was left out and why
    yes/...          the files, as the archive calls them

The manifest is written last: a folder without it is not finished, and the same command continues.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tinynas.config import Config
from tinynas.data.progress import OnProgress
from tinynas.data.records import BadInput
from tinynas.data.scan import Measured
from tinynas.data.sounds.decode import measure
from tinynas.data.sounds.folder import LISTS, NOISE, SPEAKER
from tinynas.errors import DataError
from tinynas.files import cache_dir, disk_error, replacing

COLUMNS = ("path", "label", "split", "fold", "speaker", "seconds", "rate", "sha256")
TEXT_BYTES = 64 * 1024 * 1024
BLOCK = 1 << 20


class SoundSetOptions(Config):
    """``tinynas data prepare speech-commands``, ``esc10``, ``esc50`` and ``fsdd``."""

    source: Path | None = None
    """The archive, or the folder that it was unpacked into; nothing is downloaded then."""
    out: Path | None = None
    """Folder of the prepared set; by default in the cache, where ``--data NAME`` finds it."""


@dataclass(frozen=True)
class Said:
    """What a set says of one of its sounds."""

    label: str
    split: str = ""
    fold: str = ""
    speaker: str = ""


Rule = Callable[[list[str], Mapping[str, str]], dict[str, Said]]
"""(all paths inside the set, its lists and tables by path) -> what is used of it, by path. Raises DataError where it is another set."""


@dataclass(frozen=True)
class Published:
    """A published set."""

    title: str
    url: str
    licence: str
    texts: frozenset[str]
    """Names of the lists and tables that its rule reads."""
    rule: Rule


@dataclass
class SoundReport:
    """What was prepared."""

    path: Path
    sounds: dict[str, dict[str, int]] = field(default_factory=dict)
    """Split (``""`` where none is given) to label to number."""
    bad: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        reasons = dict(Counter(reason for _, reason in self.bad))
        bad = {"count": len(self.bad), "reasons": reasons, "sounds": [list(one) for one in self.bad]}
        return {"path": str(self.path), "manifest": str(self.path / "manifest.csv"), "sounds": self.sounds, "bad": bad}


# rules ------------------------------------------------------------------------------------------------


def _speech_commands(paths: list[str], texts: Mapping[str, str]) -> dict[str, Said]:
    listed = {split: frozenset(texts.get(name, "").split()) for split, name in LISTS.items()}
    found = {}
    for path in paths:
        if not path.endswith(".wav"):
            continue
        folder = path.split("/")[0]
        speaker = SPEAKER.search(path)
        if folder == NOISE:
            found[path] = Said(NOISE)
        elif speaker is not None and path.count("/") == 1:
            split = next((split for split, names in listed.items() if path in names), "train")
            found[path] = Said(folder, split, "", speaker[1])
    if not all(listed.values()) or not found:
        raise DataError("is not Speech Commands", f"it has folders of words and {' and '.join(LISTS.values())}")
    return found


def _esc(ten: bool) -> Rule:
    def rule(paths: list[str], texts: Mapping[str, str]) -> dict[str, Said]:
        rows = list(csv.DictReader(io.StringIO(texts.get("meta/esc50.csv", ""))))
        if not rows or not {"filename", "fold", "category", "esc10", "src_file"} <= set(rows[0]):
            raise DataError("is not ESC-50", "it has a folder audio/ and meta/esc50.csv")
        there, split_of = set(paths), {"4": "val", "5": "test"}
        return {
            path: Said(row["category"], split_of.get(row["fold"], "train"), row["fold"], row["src_file"])
            for row in rows
            if (path := f"audio/{row['filename']}") in there and (not ten or row["esc10"] == "True")
        }

    return rule


_DIGIT = re.compile(r"^(?:recordings/)?(\d)_([a-z]+)_(\d+)\.wav$")


def _fsdd(paths: list[str], texts: Mapping[str, str]) -> dict[str, Said]:
    found = {path: Said(match[1], "", "", match[2]) for path in paths if (match := _DIGIT.match(path))}
    if not found:
        raise DataError("is not the spoken digits", "they are in recordings/, such as recordings/7_jackson_32.wav")
    return found


_ESC = ("https://github.com/karoldvl/ESC-50/archive/master.zip", "CC BY-NC 3.0", frozenset({"meta/esc50.csv"}))
SETS: dict[str, Published] = {
    "speech-commands": Published(
        "Speech Commands v0.02: 35 words of many speakers",
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "CC BY 4.0",
        frozenset(LISTS.values()),
        _speech_commands,
    ),
    "esc10": Published("ESC-10: ten sounds of the surroundings, of ESC-50", *_ESC, _esc(ten=True)),
    "esc50": Published("ESC-50: fifty sounds of the surroundings", *_ESC, _esc(ten=False)),
    "fsdd": Published(
        "the Free Spoken Digit Dataset",
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip",
        "CC BY-SA 4.0",
        frozenset(),
        _fsdd,
    ),
}
"""By the name that ``--data`` and ``data prepare`` know."""


# unpacking --------------------------------------------------------------------------------------------


def prepare_sounds(name: str, options: SoundSetOptions, on_progress: OnProgress | None = None) -> SoundReport:
    """Fetch (or take from ``options.source``) a set, unpack what is used of it, decode every file and write the manifest.

    Raises DataError: another set, a broken archive, a download that fails; DiskError on a full disk.
    """
    published, root = SETS[name], options.out or cache_dir() / "prepared" / name
    source = options.source or _downloaded(published.url, root, on_progress)
    try:
        with ExitStack() as stack:
            members = dict(_members(source, stack))
            top = _top(members)
            inside = {path.removeprefix(top): read for path, read in members.items()}
            texts = {path: inside[path]().decode("utf-8", "replace") for path in published.texts if path in inside}
            used = published.rule(sorted(inside), texts)
            report = _written(root, inside, used, on_progress)
    except DataError as error:
        raise DataError(f"{source}: {error.message}", error.hint) from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{source}: is no archive that can be read: {error}", "fetch it again, or give the unpacked folder") from None
    except OSError as error:
        raise disk_error(root, error) from None
    document = {"name": name, "title": published.title, "url": published.url, "licence": published.licence, **report.to_json()["bad"]}
    with replacing(root / "source.json") as file:
        file.write(json.dumps({**document, "archive_sha256": _digest(source)}, indent=1).encode() + b"\n")
    return report


def _downloaded(url: str, root: Path, on_progress: OnProgress | None) -> Path:
    """The archive beside the prepared folder; a finished one is not fetched again."""
    target = root.parent / f"{root.name}-{PurePosixPath(url).name}"
    if target.is_file():
        return target
    try:
        with urllib.request.urlopen(url, timeout=60) as response, replacing(target) as file:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while block := response.read(BLOCK):
                file.write(block)
                done += len(block)
                if on_progress is not None:
                    on_progress(f"fetching {url} (MiB)", done >> 20, total >> 20)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"{url}: cannot be fetched: {error}", "fetch it by hand and give it with --from FILE") from None
    return target


def _members(source: Path, stack: ExitStack) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Path and reader of every file; paths that lead out of the archive are left out."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                yield path.relative_to(source).as_posix(), path.read_bytes
    elif zipfile.is_zipfile(source):
        archive = stack.enter_context(zipfile.ZipFile(source))
        for info in archive.infolist():
            if not info.is_dir() and _harmless(info.filename):
                yield _plain(info.filename), lambda info=info: archive.read(info)  # type: ignore[misc]
    elif source.is_file():
        tar = stack.enter_context(tarfile.open(source))  # noqa: SIM115
        for member in tar:
            if member.isfile() and _harmless(member.name):
                yield _plain(member.name), lambda member=member: _extracted(tar, member)  # type: ignore[misc]
    else:
        raise DataError("does not exist", "give the archive, or the folder that it was unpacked into")


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None, "a regular file"
    return file.read()


def _harmless(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts and "\\" not in path


def _plain(path: str) -> str:
    return str(PurePosixPath(path))


def _top(paths: Mapping[str, object]) -> str:
    """The one folder that holds everything, as in archives of GitHub; empty where there is none."""
    tops = {path.split("/")[0] for path in paths}
    return f"{tops.pop()}/" if len(tops) == 1 and all("/" in path for path in paths) else ""


def _written(
    root: Path, inside: Mapping[str, Callable[[], bytes]], used: Mapping[str, Said], on_progress: OnProgress | None
) -> SoundReport:
    report, rows = SoundReport(root), []
    # A compressed tar is read from front to back: in its own order.
    for done, path in enumerate((path for path in inside if path in used), 1):
        said, data = used[path], inside[path]()
        try:
            found: Measured = measure(data)
        except BadInput as bad:
            report.bad.append((path, str(bad)))
            continue
        target = root / path
        if not target.is_file() or target.stat().st_size != len(data):
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as file:
                file.write(data)
        digest = hashlib.sha256(data).hexdigest()
        rows.append((path, said.label, said.split, said.fold, said.speaker, f"{found.height / 1000:.3f}", found.width, digest))
        labels = report.sounds.setdefault(said.split, {})
        labels[said.label] = labels.get(said.label, 0) + 1
        if on_progress is not None and (done % 100 == 0 or done == len(used)):
            on_progress("unpacking sounds", done, len(used))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(sorted(rows))
    with replacing(root / "manifest.csv") as file:
        file.write(text.getvalue().encode())
    return report


def _digest(source: Path) -> str | None:
    if not source.is_file():
        return None
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
