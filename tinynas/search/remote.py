"""What a cluster's workers do: train one network to one rung, from plain data to plain data. They know no run and no study.

Text is JSON, the rest bytes: a packed data set (:mod:`tinynas.data.replica`), files of the cache, and states (safetensors). Nothing of
ours is pickled. What is shared by all trainings lies once on a machine, in ``cluster/`` of its cache, under names and digests that the
deciding process gives; processes of one machine map the same files.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from tinynas import __version__
from tinynas.adapt.candidates import Adaptation, Candidates
from tinynas.arch import Arch
from tinynas.budget import Budget
from tinynas.config import parse_yaml
from tinynas.data import DataSet
from tinynas.data.cache import check_space
from tinynas.data.replica import NotHereError, unpack
from tinynas.errors import DataError, TinynasError
from tinynas.files import cache_dir, disk_error, locked, write_atomic
from tinynas.graph import lower
from tinynas.model import Network, load_weights
from tinynas.recipe import Recipe
from tinynas.search.training import Outcome, Trainings, failed, seconds_per_image

#: A training that nobody waits for any more ends after its epoch.
Wanted = Callable[[], bool]


class _UnwantedError(Exception):
    pass


@functools.cache
def versions() -> dict[str, str]:
    """What decides which numbers a training gives, by name: all machines of a search must have the same."""
    import cv2
    import numpy
    import torch

    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return {
        "tinynas": f"{__version__} ({digest.hexdigest()[:8]})",
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__.partition("+")[0],
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
    }


def hello() -> str:
    """Who a worker is: ``versions``, and ``machine``, which is equal for processes that share a cache."""
    return _answered(lambda: {"versions": versions(), "machine": _machine()})


def lacking(files: str) -> str:
    """Which of ``files`` (name to [bytes, SHA-256]) are not here as they should be: ``names``."""

    def look() -> dict[str, Any]:
        return {"names": [name for name, (size, digest) in json.loads(files).items() if not _is_whole(_place(name), size, digest)]}

    return _answered(look)


def receive(name: str, token: str, offset: int, chunk: bytes, size: int, digest: str) -> str:
    """Keep a piece of a file; with the last one it is there, and ``whole``. Pieces come in order; ``token`` names the sending."""

    def keep() -> dict[str, Any]:
        path = _place(name)
        part = path.with_name(f".{path.name}.{token}")
        if offset == 0:
            check_space(path.parent, size)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as file:
                # A piece that was sent before, to a worker that died with the answer, is written again.
                file.truncate(offset)
                file.write(chunk)
            if offset + len(chunk) < size:
                return {"whole": False}
            if not _is_whole(part, size, digest):
                part.unlink()
                raise DataError(f"{name}: arrived damaged", "look after the network, then continue with --resume")
            part.replace(path)
        except OSError as error:
            raise disk_error(path, error) from None
        return {"whole": True}

    return _answered(keep)


def train(task: str, state: bytes | None, parent: bytes | None) -> tuple[str, bytes | None]:
    """Train one network: ``outcome``, or what kept it from being trained, and the state that it is continued from.

    ``task`` says ``versions``; ``data`` (its file) with its ``fingerprint``, ``recipe``, ``seed``, ``scored``, ``donor`` and ``learns``
    (what is learned on the board, how, and its data) of all trainings; and ``arch``, ``epochs``, ``seconds`` (None: no limit) and
    ``parent`` (an architecture, or None) of this one. ``state`` and ``parent`` are the states of the network and of its parent.
    """
    wanted, kept = _wanted(), [state]

    def work() -> dict[str, Any]:
        asked = json.loads(task)
        arch, origin = Arch.model_validate(asked["arch"]), asked["parent"] and Arch.model_validate(asked["parent"])
        deadline = None if asked["seconds"] is None else time.monotonic() + asked["seconds"]
        with tempfile.TemporaryDirectory(prefix="tinynas-") as folder:
            trainings = _trainings(asked, Path(folder))
            for net, content in ((arch, state), (origin, parent)):
                if net is not None and content is not None:
                    trainings.state_file(net.id).write_bytes(content)

            def go_on(*_: Any) -> None:
                if not wanted():
                    raise _UnwantedError

            try:
                outcome = trainings.train(arch, asked["epochs"], parent=origin, deadline=deadline, on_epoch=go_on)
            except TinynasError:
                raise
            except _UnwantedError:
                return {"unwanted": True}
            except (MemoryError, OSError, RuntimeError, ValueError, ArithmeticError) as error:
                outcome = failed(error)
            if trainings.state_file(arch.id).exists():
                kept[0] = trainings.state_file(arch.id).read_bytes()
        return {"outcome": asdict(outcome)}

    answer = _answered(work, task)
    return answer, kept[0]


def pace(task: str) -> str:
    """Measured training ``seconds`` of one image of a network; ``task`` as of :func:`train`."""

    def measure() -> dict[str, Any]:
        asked = json.loads(task)
        with tempfile.TemporaryDirectory(prefix="tinynas-") as folder:
            return {"seconds": seconds_per_image(_trainings(asked, Path(folder)), Arch.model_validate(asked["arch"]))}

    return _answered(measure, task)


def outcome_in(answer: Mapping[str, Any]) -> Outcome:
    """The outcome that :func:`train` answered."""
    return Outcome(**answer["outcome"])


def _answered(work: Callable[[], dict[str, Any]], task: str | None = None) -> str:
    if task is not None and json.loads(task)["versions"] != versions():
        return json.dumps({"versions": versions()})
    try:
        return json.dumps(work())
    except (NotHereError, FileNotFoundError):
        return json.dumps({"lacking": True})
    except TinynasError as error:
        return json.dumps({"error": [error.message, error.hint]})


def _trainings(asked: Mapping[str, Any], folder: Path) -> Trainings:
    donor, candidates = None, None
    if asked["donor"] is not None:
        donor = _donor(json.dumps(asked["donor"]["arch"]), _place(asked["donor"]["file"]))
    if asked["learns"] is not None:
        candidates = _candidates(json.dumps({name: asked[name] for name in ("learns", "data", "fingerprint", "seed")}), _root())
    recipe = Recipe.model_validate(asked["recipe"])
    return Trainings(_whole_data(asked), recipe, asked["seed"], folder, scored=asked["scored"], donor=donor, candidates=candidates)


def _whole_data(asked: Mapping[str, Any]) -> DataSet:
    data = _data(asked["data"], _root())
    if data.fingerprint != asked["fingerprint"]:
        raise DataError(
            f"{asked['data']}: is of other images (fingerprint {data.fingerprint[:12]}) than the search's ({asked['fingerprint'][:12]})"
        )
    return data


@functools.lru_cache(maxsize=4)
def _data(name: str, root: Path) -> DataSet:
    return unpack((root / name).read_bytes(), root)


@functools.lru_cache(maxsize=2)
def _candidates(asked: str, root: Path) -> Candidates:
    """What has candidates learn on the board; kept by the process, which gets to know how long learnings take."""
    told = json.loads(asked)
    learns = told["learns"]
    adaptation, board = Adaptation.model_validate(learns["adaptation"]), Budget.model_validate(parse_yaml(learns["board"], "board")[0])
    # Scores lie there until they are made anew: a training that is lost after its learning is not learned again.
    return Candidates(adaptation, board, _whole_data(learns), _whole_data(told), told["seed"], root / "learned")


@functools.lru_cache(maxsize=2)
def _donor(arch: str, path: Path) -> Network:
    if not path.exists():
        raise NotHereError(f"{path.name} is not on this machine")
    return load_weights(lower(Arch.model_validate_json(arch)), path)


def _root() -> Path:
    return cache_dir() / "cluster"


def _place(name: str) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise DataError(f"{name!r} is no name of a file that is sent")
    return _root() / pure


def _machine() -> str:
    path = _root() / "machine"
    with locked(path.with_suffix(".lock"), needed=False):
        if not path.exists():
            write_atomic(path, uuid.uuid4().hex)
    return path.read_text(encoding="ascii")


def _is_whole(path: Path, size: int, digest: str) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_size == size and digest_of(path, found.st_mtime_ns, size) == digest


@functools.lru_cache(maxsize=256)
def digest_of(path: Path, _changed: int, _size: int) -> str:
    """SHA-256 of a file as it was when it was changed last."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted() -> Wanted:
    """Asks whether the task that runs in this thread is waited for; where no cluster runs it, it is."""
    engine: Any = sys.modules.get("distributed.worker")
    try:
        worker = engine.get_worker()
        key = worker.get_current_task()
    except (AttributeError, ValueError):
        return lambda: True

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    return wanted
