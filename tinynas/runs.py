"""Run: the only one that knows file names under ``results/<run>/``; resume.

Everything is either replaced in one step or appended line by line (:mod:`tinynas.files`).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tinynas import __version__
from tinynas.arch import Arch, load_arch
from tinynas.budget import Budget, load_budget
from tinynas.config import load
from tinynas.errors import DiskError, RunError
from tinynas.files import LockHeldError, append_line, cores, disk_error, locked, read_lines, write_atomic
from tinynas.records import Artifact, Promoted, Trial, expected_accuracy
from tinynas.space import Space

RUN_FORMAT = 1
"""Version of the folder layout; a run of another version is refused, not misread."""


class Run:
    """One run folder. Make it with :meth:`create`, find it again with :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # making and finding -----------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, *, config: Mapping[str, Any], space: Space, budget: Budget, env: Mapping[str, Any]) -> Run:
        """A new run folder with its resolved inputs. Raises RunError where ``path`` holds a run already."""
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: is a file, not a folder", "choose another --out")
        texts = {
            "space.yaml": yaml.safe_dump(space.model_dump(mode="json"), sort_keys=False, default_flow_style=None),
            "budget.yaml": budget.to_yaml(),
            "env.json": json.dumps({**environment(), **env}, indent=2),
            # Last: a folder with it is a whole run.
            run.config_file.name: yaml.safe_dump({"format": RUN_FORMAT, **config}, sort_keys=False),
        }
        # One process makes it; another that was told the same folder finds it made.
        with locked(run.state_dir() / "search.lock", needed=False):
            if run.config_file.exists():
                raise RunError(f"{path}: holds a run already", "continue it with --resume, or choose another --out")
            try:
                for name, text in texts.items():
                    write_atomic(path / name, text)
            except DiskError:
                for name in texts:
                    with contextlib.suppress(OSError):
                        (path / name).unlink()
                raise
        return run

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        """Only one process at a time leads the search of this run. Raises RunError where another does."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(self.state_dir() / "search.lock", wait=False, needed=False))
            except LockHeldError:
                raise RunError(
                    f"{self.path}: another process is searching it", f"wait for it, stop it, or help it with: tinynas worker {self.path}"
                ) from None
            yield

    @classmethod
    def open(cls, name_or_path: str | Path) -> Run:
        """An existing run, by path or by its name under ``results/``. Raises RunError with the known names."""
        for candidate in (Path(name_or_path), Path("results") / str(name_or_path)):
            if (candidate / "config.yaml").is_file():
                run = cls(candidate)
                if run.config.get("format") != RUN_FORMAT:
                    raise RunError(f"{candidate}: is a run of format {run.config.get('format')!r}; this tinynas reads {RUN_FORMAT}")
                return run
        known = sorted(p.parent.name for p in Path("results").glob("*/config.yaml"))
        hint = f"runs here: {', '.join(known)}" if known else "start one with: tinynas search --budget stm32f746"
        raise RunError(f"{name_or_path}: no run there", hint)

    @staticmethod
    def fresh_path(name: str, root: Path = Path("results")) -> Path:
        """A new, empty folder ``root/name``, or ``root/name-2``, ... where that is taken: made by this process and no other.

        Raises DiskError where it cannot be made.
        """
        number = 1
        while True:
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                root.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                return path
            except FileExistsError:
                if not root.is_dir():
                    raise DiskError(f"{root}: is a file, not a folder", "move it away, or name a folder with --out") from None
                number += 1
            except OSError as error:
                raise disk_error(path, error) from None

    # resolved inputs --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def config_file(self) -> Path:
        """``config.yaml``."""
        return self.path / "config.yaml"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved settings of the search."""
        try:
            document = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunError(f"{self.config_file}: cannot be read: {error}", "the run is damaged; start a new one") from None
        if not isinstance(document, dict):
            raise RunError(f"{self.config_file}: is not a mapping", "the run is damaged; start a new one")
        return document

    @property
    def space(self) -> Space:
        """The space searched."""
        return load(self.path / "space.yaml", Space)

    @property
    def budget(self) -> Budget:
        """The budget searched under."""
        return load_budget(str(self.path / "budget.yaml"))

    @property
    def env(self) -> dict[str, Any]:
        """Versions, machine, seed and data fingerprint at creation."""
        document: dict[str, Any] = self._read_json(self.path / "env.json")
        return document

    # the search -------------------------------------------------------------------------------------

    @property
    def journal_file(self) -> Path:
        """Optuna's JournalStorage."""
        return self.path / "study.journal"

    @property
    def trials_file(self) -> Path:
        """``trials.jsonl``: append-only; the last line of a number counts."""
        return self.path / "trials.jsonl"

    def append_trial(self, trial: Trial) -> None:
        """Append a trial (a later line with the same number replaces it)."""
        append_line(self.trials_file, trial.to_json())

    def trials(self) -> list[Trial]:
        """All trials by number."""
        latest = {document["number"]: document for document in read_lines(self.trials_file)}
        return [Trial.from_json(latest[number]) for number in sorted(latest)]

    def append_log(self, name: str, document: Mapping[str, Any]) -> None:
        """Append to ``<name>.jsonl`` (``times``, ``rungs``, ...): facts that differ between equal runs, such as wall-clock time."""
        append_line(self.path / f"{name}.jsonl", document)

    def log(self, name: str) -> list[dict[str, Any]]:
        """The lines of ``<name>.jsonl``; empty where there are none."""
        return list(read_lines(self.path / f"{name}.jsonl"))

    def write_json(self, name: str, document: Any) -> Path:
        """Replace ``<name>.json`` in the run folder."""
        path = self.path / f"{name}.json"
        write_atomic(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
        return path

    def read_json(self, name: str) -> Any:
        """The content of ``<name>.json``, or None where it does not exist."""
        path = self.path / f"{name}.json"
        return self._read_json(path) if path.exists() else None

    def write_trials_csv(self) -> None:
        """``trials.csv``: one row a trial, for spreadsheets."""
        rows = [flatten(trial.to_json()) for trial in self.trials()]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(self.path / "trials.csv", text.getvalue())

    def write_front(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """``front.json``: the rows of ``tinynas pareto --json``."""
        self.write_json("front", list(rows))

    @property
    def search_ended(self) -> bool:
        """True where the summary, written when a search ends, is newer than the clock, written when one begins or goes on."""
        clock, summary = self.path / "clock.json", self.path / "summary.json"
        return summary.exists() and not (clock.exists() and clock.stat().st_mtime > summary.stat().st_mtime)

    def front(self) -> list[dict[str, Any]]:
        """The rows of ``front.json``; empty before the first network was trained."""
        return self.read_json("front") or []

    # networks ---------------------------------------------------------------------------------------

    def net_dir(self, net_id: str) -> Path:
        """``nets/<id>/`` (made when first written to)."""
        return self.path / "nets" / net_id

    def write_arch(self, arch: Arch) -> None:
        """``nets/<id>/arch.yaml``; written once."""
        path = self.net_dir(arch.id) / "arch.yaml"
        if not path.exists():
            write_atomic(path, arch.to_yaml())

    def arch(self, net_id: str) -> Arch:
        """The architecture of ``net_id``; an unambiguous beginning of an id will do. Raises RunError otherwise."""
        return load_arch(str(self.net_dir(self.resolve_id(net_id)) / "arch.yaml")).model_copy(update={"name": None})

    def ids(self) -> list[str]:
        """Ids of all networks with a folder."""
        return sorted(p.parent.name for p in (self.path / "nets").glob("*/arch.yaml"))

    def resolve_id(self, text: str) -> str:
        """The id that ``text`` begins; ``best`` is the network of the front that is expected to be the most accurate."""
        if text == "best":
            front = self.front()
            if not front:
                raise RunError(f"{self.path}: has no front yet", f"continue the search: tinynas search --resume --out {self.path}")
            return str(max(front, key=lambda row: expected_accuracy(row) or 0.0)["id"])
        matches = [net_id for net_id in self.ids() if net_id.startswith(text)] if text else []
        if len(matches) == 1 or text in matches:
            return text if text in matches else matches[0]
        shown = ", ".join(str(row["id"]) for row in self.front()[:10])
        if matches:
            raise RunError(f"{self.path}: {text!r} begins {len(matches)} ids", "give more digits")
        raise RunError(f"{self.path}: has no network {text!r}", f"on its front: {shown}" if shown else "its front is empty")

    def write_promoted(self, promoted: Promoted) -> None:
        """``nets/<id>/metrics.json``."""
        write_atomic(self.net_dir(promoted.id) / "metrics.json", json.dumps(promoted.to_json(), indent=2) + "\n")

    def promoted(self, net_id: str) -> Promoted | None:
        """The full training of ``net_id``, or None where it was not promoted."""
        path = self.net_dir(net_id) / "metrics.json"
        return Promoted.from_json(self._read_json(path)) if path.exists() else None

    def write_artifact(self, artifact: Artifact) -> None:
        """``nets/<id>/export.json``."""
        write_atomic(self.net_dir(artifact.id) / "export.json", json.dumps(artifact.to_json(), indent=2) + "\n")

    def artifact(self, net_id: str) -> Artifact | None:
        """The export of ``net_id``, or None."""
        path = self.net_dir(net_id) / "export.json"
        return Artifact.from_json(self._read_json(path)) if path.exists() else None

    def weights_file(self, net_id: str) -> Path:
        """``nets/<id>/weights.safetensors``: the chosen epoch of full training."""
        return self.net_dir(net_id) / "weights.safetensors"

    def train_csv(self, net_id: str) -> Path:
        """``nets/<id>/train.csv``: one row an epoch."""
        return self.net_dir(net_id) / "train.csv"

    def checkpoint_dir(self, net_id: str) -> Path:
        """``nets/<id>/checkpoint/``: resumable state of the full training; removed when it is finished."""
        return self.net_dir(net_id) / "checkpoint"

    def state_dir(self) -> Path:
        """``state/``: resumable proxy trainings of the search."""
        return self.path / "state"

    @property
    def report_file(self) -> Path:
        """``report.html``."""
        return self.path / "report.html"

    @staticmethod
    def _read_json(path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RunError(f"{path}: cannot be read: {error}", "the file is missing or damaged; make it anew") from None


def environment() -> dict[str, Any]:
    """Versions and machine, for ``env.json``; imports nothing heavy."""
    from importlib import metadata

    versions = {}
    for package in ("torch", "optuna", "numpy", "pydantic", "albumentations", "ai-edge-litert", "tflite-micro"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "tinynas": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu_count": cores(),
        "versions": versions,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def flatten(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted keys; lists as space-separated text."""
    row: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            row.update(flatten(value, f"{prefix}{key}."))
        else:
            row[f"{prefix}{key}"] = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return row
