"""Run: the only one that knows file names under ``results/<run>/``; resume.

Everything is either replaced in one step or appended line by line (:mod:`tinynas.files`). What is read is checked: a file that is
cut off, empty or of another kind is named with what makes it anew.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import hmac
import io
import itertools
import json
import math
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never, TypeVar

import yaml
from pydantic import AfterValidator, Field

from tinynas import __version__, pareto
from tinynas.arch import Arch, load_arch
from tinynas.budget import Budget
from tinynas.config import build, load, parse_yaml, read_text
from tinynas.cost.quantities import QUANTITIES
from tinynas.errors import ConfigError, DataError, DiskError, RunError, counted, shell_line
from tinynas.files import LockHeldError, append_line, cores, disk_error, locked, no_number, read_lines, write_atomic
from tinynas.objectives import counted_score, objectives
from tinynas.records import (
    ADAPTED_PARTS,
    ASKED_SCORES,
    Artifact,
    JsonRecord,
    LabelAnswers,
    NetId,
    Promoted,
    Trial,
    as_promised,
    document,
    expected_accuracy,
    rows,
    wrong,
)
from tinynas.space import Space

if TYPE_CHECKING:
    from tinynas.data import DataSet

R = TypeVar("R", bound=JsonRecord)

#: How the choice of a space begins in a run without a search.
NOT_SEARCHED = "nothing is searched"
STORAGE_VARIABLE = "TINYNAS_STORAGE"
"""The environment variable with a storage's URL, which may hold a password: command lines are seen by everybody."""
RUN_FORMAT = 1
"""Version of the folder layout; a run of another version is refused, not misread."""


def _whole_clock(clock: Any) -> Any:
    lacks = clock.boot is not None and (clock.left is None or clock.monotonic is None)
    if clock.deadline is not None and (clock.timeout is None or lacks):
        raise ValueError("has a deadline and not what belongs to it")
    return clock


_PAIR = Annotated[list[float], Field(min_length=2, max_length=2)]
_KINDS: dict[str, Any] = {
    "config": document(
        "config",
        format=int,
        data=str,
        data_path=str,
        data_from_run=str,
        data_options=dict[str, Any],
        settings=document(
            "settings",
            objectives=list[str],
            seed=int,
            strategy=str,
            workers=int,
            trials=int | None,
            timeout=float | None,
            storage=str | None,
        ),
        space_choice=str,
        begun=Annotated[str, Field(pattern="^[0-9a-f]*$")],
    ),
    "env": document(
        "env",
        seed=int,
        data=str,
        labels=list[str],
        notes=list[str],
        images=dict[str, int] | None,
        counts=dict[str, dict[str, int]],
        groups=str,
        tinynas=str,
        python=str,
        platform=str,
        cpu_count=int,
        versions=dict[str, str],
        created=str,
    ),
    "plan": document(
        "plan", classes=Annotated[int, Field(ge=2)], reference=list[_PAIR], rungs=list[int], notes=list[str], max_macs=float | None
    ),
    "donor": document("donor", "genotype", genotype=list[int]),
    "clock": Annotated[
        document(
            "clock",
            *("deadline", "timeout"),
            deadline=float | None,
            timeout=float | None,
            left=float | None,
            monotonic=float | None,
            boot=str | None,
            trials=int | None,
        ),
        AfterValidator(_whole_clock),
    ],
    "summary": document(
        "summary",
        "interrupted",
        trials=dict[str, int],
        hypervolume=float,
        baseline_hypervolume=float,
        reason=str,
        seconds=float,
        interrupted=bool,
    ),
    "front": rows(
        document(
            "row",
            "id",
            id=NetId,
            **dict.fromkeys(["accuracy", "expected_accuracy", *ASKED_SCORES, *ADAPTED_PARTS, "epochs", *QUANTITIES], float | None),
            images=int,
            number=int,
            source=str,
        )
    ),
    "times": document(
        "times",
        *("number", "images", "seconds"),
        **dict.fromkeys(["number", "images", "epochs", "rung"], Annotated[int, Field(ge=0)]),
        seconds=Annotated[float, Field(ge=0)],
        finished=float,
        id=str,
        worker=str,
    ),
    "spaces": rows(
        document(
            "row",
            *("resolution", "width_mult", "share", "mean_macs", "macs_quantiles", "chosen"),
            resolution=int | list[int],
            width_mult=float,
            share=float,
            mean_macs=float,
            macs_quantiles=list[float],
            chosen=bool,
        )
    ),
}
"""What the documents of a run hold, by name: other keys may stand beside these."""

MISSING = "missing"
"""The problem of :meth:`Run.damaged` where a file is not there."""
_RESTORE = "restore it from a copy"
_REMEDIES = {
    "config.yaml": f"{_RESTORE}, or start a new run",
    "space.yaml": f"{_RESTORE}: it is written once, when a search begins",
    "budget.yaml": f"{_RESTORE}: it is written once, when a search begins",
    "env.json": f"{_RESTORE}: it is written once, when a search begins",
    "plan.json": f"{_RESTORE}; or remove it, and this plans anew: {{resume}}",
    "donor.json": f"{_RESTORE}; or remove it, and this chooses anew: {{resume}}",
    "donor.weights.safetensors": f"{_RESTORE}; or start a new run: its networks began with slices of it",
    "pool.npz": f"{_RESTORE}; or remove plan.json, and this draws and plans anew: {{resume}}",
    "study.journal": f"{_RESTORE}, or start a new run: what was trained is known to it alone",
    "front.json": "this writes it anew: {resume}",
    "summary.json": "this writes it anew: {resume}",
    "clock.json": "this writes it anew: {resume}",
    "augment.json": f"{_RESTORE}, or remove it, and it is asked anew whether augmentation keeps labels",
    "spaces.json": f"{_RESTORE}, or remove it: only a picture of the report is lost",
    "trials.jsonl": f"{_RESTORE}; or remove it, and this writes it anew from the study: {{resume}}",
    "times.jsonl": f"{_RESTORE}, or remove it: only the times of the trainings are lost",
    "arch.yaml": _RESTORE,
    "metrics.json": f"{_RESTORE}; or this trains it again (with the options of before): {{promote}}",
    "weights.safetensors": f"{_RESTORE}; or this trains it again (with the options of before): {{promote}}",
    "train.csv": f"{_RESTORE}, or remove it: only the curves of the training are lost",
    "export.json": f"{_RESTORE}; or this writes it anew: {{export}}",
}
"""What to do about a damaged file, by its name."""


class Run:
    """One run folder. Make it with :meth:`create`, find it again with :meth:`open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What lay in the folder when this process made the run in it; None: it did not.
        self._before: set[Path] | None = None
        # Places outside of the run that its user has named, by option.
        self._approved: set[tuple[str, str]] = set()

    # making and finding -----------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, *, config: Mapping[str, Any], space: Space, budget: Budget, env: Mapping[str, Any]) -> Run:
        """A new run folder with its resolved inputs. Raises RunError where ``path`` holds a run already."""
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: is a file, not a folder", "choose another --out")
        run._before = set(path.iterdir()) if path.exists() else set()
        texts = {
            "space.yaml": yaml.safe_dump(space.to_json(), sort_keys=False, default_flow_style=None),
            "budget.yaml": budget.to_yaml(),
            "env.json": json.dumps({**environment(), **env}, indent=2),
        }
        run._approved = set(_uses(config).items())
        # One process makes it; another that was told the same folder finds it made.
        with locked(run.state_dir() / "search.lock", needed=False):
            if run.config_file.exists():
                raise RunError(f"{path}: holds a run already", "continue it with --resume, or choose another --out")
            try:
                for name, text in texts.items():
                    write_atomic(path / name, text)
                # Last: a folder with it is a whole run.
                run._write_config(config)
            except DiskError:
                for name in (*texts, run.config_file.name):
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
        """An existing run, by path or by its name under ``results/``. Raises RunError with the known names.

        A run may come from anyone: one with links out of its folder, or with pipes where files belong, is refused.
        """
        for candidate in (Path(name_or_path), Path("results") / str(name_or_path)):
            if (candidate / "config.yaml").is_file():
                run = cls(candidate)
                if run.setting("format") != RUN_FORMAT:
                    raise RunError(f"{candidate}: is a run of format {run.config.get('format')!r}; this tinynas reads {RUN_FORMAT}")
                run._check_files(candidate, candidate.resolve())
                return run
            if (candidate / "trials.jsonl").is_file() or (candidate / "study.journal").is_file():
                raise RunError(f"{candidate}: its config.yaml is missing", _REMEDIES["config.yaml"])
        if Path(name_or_path).is_file():
            raise RunError(f"{name_or_path}: is a file, and neither a run nor a .tflite", "name the folder of a run, or a .tflite")
        if (inside := sorted(Path(name_or_path).glob("*.tflite"))) and Path(name_or_path).is_dir():
            raise RunError(f"{name_or_path}: is no run, and a folder with a .tflite", f"where that is meant, name it: {inside[0]}")
        known = sorted(p.parent.name for p in Path("results").glob("*/config.yaml"))
        hint = f"runs here: {', '.join(known)}" if known else "start one with: tinynas search --budget stm32f746"
        raise RunError(f"{name_or_path}: no run there", hint)

    def _check_files(self, folder: Path, root: Path) -> None:
        # What is gone when it is looked at was a temporary file of a search that goes on.
        with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    target = Path(os.path.realpath(entry.path))
                    if target != root and root not in target.parents:
                        raise RunError(
                            f"{entry.path}: is a link to {target}, out of the run: what is written to the run would be written there",
                            "put what it names in its place, if that is wanted",
                        )
                elif entry.is_dir():
                    self._check_files(Path(entry.path), root)
                elif not entry.is_file() and os.path.lexists(entry.path):
                    raise RunError(f"{entry.path}: is no regular file", "remove it: a run has none such")

    @property
    def is_new(self) -> bool:
        """True where this process made it."""
        return self._before is not None

    def discard(self) -> None:
        """Remove a run that :meth:`create` made here; what lay in its folder before stays."""
        assert self._before is not None, "only a run that was made here"
        for path in set(self.path.iterdir()) - self._before:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if not self._before:
            with contextlib.suppress(OSError):
                self.path.rmdir()

    @staticmethod
    def fresh_path(name: str, root: Path = Path("results")) -> Path:
        """A new, empty folder ``root/name``, or ``root/name-2``, ... where that is taken: made by this process and no other.

        Raises DiskError where it cannot be made.
        """
        for path in Run.places(name, root):
            try:
                root.mkdir(parents=True, exist_ok=True)
                path.mkdir()
                return path
            except FileExistsError:
                if not root.is_dir():
                    raise DiskError(f"{root}: is a file, not a folder", "move it away, or name a folder with --out") from None
            except OSError as error:
                raise disk_error(path, error) from None
        raise AssertionError("places do not end")

    @staticmethod
    def places(name: str, root: Path = Path("results")) -> Iterator[Path]:
        """``root/name``, ``root/name-2``, ``root/name-3`` and so on: where runs go that nobody gave a folder."""
        return (root / (name if number == 1 else f"{name}-{number}") for number in itertools.count(1))

    @property
    def searched(self) -> bool:
        """False of a run that ``tinynas promote`` made for a network: nothing was, or will be, searched in it."""
        return not str(self.config.get("space_choice", "")).startswith(NOT_SEARCHED)

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
            found, _ = parse_yaml(read_text(self.config_file), self.config_file, controls=True)
        except ConfigError as error:
            self._damaged(self.config_file, error.faults)
        config: dict[str, Any] = self._checked("config", found, self.config_file)
        return config

    def setting(self, key: str) -> Any:
        """``config[key]``. Raises RunError where the run lacks it."""
        if key not in (config := self.config):
            self._damaged(self.config_file, f"lacks {key!r}")
        return config[key]

    def _write_config(self, config: Mapping[str, Any]) -> None:
        document = {key: value for key, value in config.items() if key not in {"format", "begun"}}
        uses = set(_uses(document).items())
        if uses and uses <= self._approved:
            document["begun"] = _signature(document)
        document["format"] = RUN_FORMAT  # last, so that it is missing where the end is
        write_atomic(self.config_file, yaml.safe_dump(document, sort_keys=False))

    def moved(self, *, data: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None, storage: str | None = None) -> None:
        """Note where the user has said that ``data`` (see :func:`data_place`), ``files`` of its options (by their names) and study are."""
        config = self.config
        changed = dict(config)
        if data is not None:
            changed = {**data, **{key: value for key, value in config.items() if key not in _DATA_KEYS}}
        if files:
            changed["data_options"] = {**config.get("data_options", {}), **files}
        if storage is not None:
            changed["settings"] = {**config["settings"], "storage": without_password(storage)}
        if changed != config or not _is_signed(config):
            self._write_config(changed)

    @property
    def space(self) -> Space:
        """The space searched."""
        path = self.path / "space.yaml"
        try:
            return load(path, Space)
        except ConfigError as error:
            self._damaged(path, error.faults)

    @property
    def budget(self) -> Budget:
        """The budget searched under."""
        path = self.path / "budget.yaml"
        try:
            return load(path, Budget)
        except ConfigError as error:
            self._damaged(path, error.faults)

    @property
    def env(self) -> dict[str, Any]:
        """Versions, machine, seed and data fingerprint at creation."""
        env: dict[str, Any] = self._checked("env", self._read_json(self.path / "env.json"), self.path / "env.json")
        return env

    # data and storage -------------------------------------------------------------------------------

    def images(self, place: str | None = None, *, overrides: Sequence[str] = ()) -> tuple[DataSet, str]:
        """The data of the run and where they were found: at ``place``, or where they lay or lie now beside the run.

        They are known by their fingerprint. Other data are given back all the same, to be told by :meth:`other_data`. Raises
        DataError where there are none, RunError where the run does not say which.
        """
        from tinynas.data import DataOptions, open_data

        seed, known = self.setting("settings").get("seed", 0), self.config.get("data_options", {})
        options = build(known, DataOptions, source=self.config_file, overrides=overrides)
        wanted = self.env.get("data")
        other: tuple[DataSet, str] | None = None
        fault: DataError | None = None
        for candidate in [place] if place is not None else self._data_places():
            try:
                images = open_data(candidate, seed=seed, options=options)
            except DataError as error:
                fault = fault or error
                continue
            if images.fingerprint == wanted:
                return images, candidate
            other = other or (images, candidate)
        if other is not None:
            return other
        assert fault is not None
        was = self.config.get("data_path")
        if place is not None or was is None or Path(was).exists():
            raise fault
        raise DataError(f"{was}: the images of {self.path} are not there any more", "say where they are now, unchanged: --data PLACE")

    def _data_places(self) -> list[str]:
        typed, config = self.setting("data"), self.config
        if "data_path" not in config:
            return [typed]
        # Moved together, run and data still lie alike beside each other.
        beside = os.path.normpath(self.path.resolve() / config.get("data_from_run", config["data_path"]))
        places = [place for place in dict.fromkeys([config["data_path"], beside, typed]) if Path(place).expanduser().exists()]
        return places or [typed]

    def other_data(self, images: DataSet) -> str | None:
        """What tells ``images`` from the data that the run was begun with; None where nothing does, or the run does not know."""
        env = self.env
        if env.get("data") in (None, images.fingerprint):
            return None
        kind = images.signal.kind
        now = _counted({split: images.counts(split) for split in ("train", "val", "test")}, kind)
        then = _counted(env["counts"], kind) if "counts" in env else "other content"
        return f"{now}; begun with {then}" + (", other ones" if now == then else "")

    def ask(self, option: Literal["data", "storage"], given: str | None) -> None:
        """Refuse to use what a run from elsewhere names and this user did not: a place on the network, a study outside of the run.

        ``given`` is what the user says; a run that was begun or continued here with the same place needs no saying.
        """
        config = self.config
        named = _uses(config).get(option)
        if given is not None:
            self._approved.add((option, without_password(given) if option == "storage" else given))
            return
        if _is_signed(config):
            self._approved |= set(_uses(config).items())
            return
        if named is None:
            return
        raise RunError(
            f"{self.path}: comes from elsewhere and names --{option} {named}, which lies outside of it and of this computer",
            f"if you trust it, say so: --{option} {shell_line(named)}",
        )

    def storage(self, given: str | None) -> str | None:
        """The storage that the search goes on with: its URL, with the password where one is ``given`` or in the environment.

        Another place than the run says must hold the run's study, which is seen when it is opened. Raises RunError where the study
        is a file of the run, or the run comes from elsewhere and nobody here has named its storage.
        """
        begun = self.setting("settings").get("storage")
        url = given or (os.environ.get(STORAGE_VARIABLE) or None if begun is not None else None)
        self.ask("storage", url)
        if url is not None and begun is None and self.begun:
            raise RunError(
                f"{self.path}: was begun with its study in {self.journal_file}, not in {without_password(url)}",
                "leave --storage out; a new run may begin with it",
            )
        return url or begun

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
        latest = {trial.number: trial for trial in self.history()}
        return [latest[number] for number in sorted(latest)]

    def history(self) -> Iterator[Trial]:
        """Every record of a trial, in the order of writing."""
        for number, line in enumerate(self._lines(self.trials_file), start=1):
            yield self._record(Trial, line, self.trials_file, f", line {number}")

    @property
    def begun(self) -> bool:
        """True where a trial was recorded."""
        return next(iter(self._lines(self.trials_file)), None) is not None

    def append_log(self, name: str, document: Mapping[str, Any]) -> None:
        """Append to ``<name>.jsonl`` (``times``, ``rungs``, ...): facts that differ between equal runs, such as wall-clock time."""
        append_line(self.path / f"{name}.jsonl", document)

    def log(self, name: str) -> list[dict[str, Any]]:
        """The lines of ``<name>.jsonl``; empty where there are none."""
        path = self.path / f"{name}.jsonl"
        return [self._checked(name, line, path) for line in self._lines(path)]

    def seconds_in_training(self) -> float:
        """Seconds in which at least one network of the search was in training, in whichever process."""
        total, until = 0.0, -math.inf
        for begun, ended in sorted((one["finished"] - one["seconds"], one["finished"]) for one in self.log("times") if "finished" in one):
            total += max(0.0, ended - max(begun, until))
            until = max(until, ended)
        return total

    def check(self) -> None:
        """Raise RunError where a file that a search goes on from, and does not write anew, is damaged."""
        for name in ("plan", "spaces"):
            self.read_json(name)
        for _ in self.history():
            pass
        self.log("times")

    def write_json(self, name: str, document: Any) -> Path:
        """Replace ``<name>.json`` in the run folder."""
        path = self.path / f"{name}.json"
        write_atomic(path, json.dumps(document, indent=2, allow_nan=False) + "\n")
        return path

    def read_json(self, name: str) -> Any:
        """The content of ``<name>.json``, or None where it does not exist. Raises RunError where it holds something else."""
        path = self.path / f"{name}.json"
        return self._checked(name, self._read_json(path), path) if path.exists() else None

    def label_answers(self) -> LabelAnswers | None:
        """``augment.json``: whether augmentation keeps labels here; None where nobody has asked."""
        path = self.path / "augment.json"
        if not path.exists():
            return None
        found = self._record(LabelAnswers, self._read_json(path), path)
        try:
            found.known()
        except RunError as error:
            self._damaged(path, error.message)
        return found

    def write_label_answers(self, answers: LabelAnswers) -> None:
        """Replace ``augment.json``."""
        self.write_json("augment", answers.to_json())

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

    @property
    def has_front(self) -> bool:
        """True where a search has written its front."""
        return (self.path / "front.json").exists()

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
        resolved = self.resolve_id(net_id)
        path = self.net_dir(resolved) / "arch.yaml"
        if not path.is_file():
            self._damaged(path, MISSING)
        try:
            arch = load_arch(str(path)).model_copy(update={"name": None})
        except ConfigError as error:
            self._damaged(path, error.faults)
        if arch.id != resolved:
            self._damaged(path, f"holds the network {arch.id}")
        return arch

    def ids(self) -> list[str]:
        """Ids of all networks with a folder."""
        return sorted(p.parent.name for p in (self.path / "nets").glob("*/arch.yaml"))

    def resolve_id(self, text: str) -> str:
        """The id that ``text`` begins; ``best`` and ``knee`` are the networks of the front that are called so."""
        if text == "best":
            return self.best
        if text == "knee":
            return self.knee
        matches = [net_id for net_id in self.ids() if net_id.startswith(text)] if text else []
        if len(matches) == 1 or text in matches:
            return text if text in matches else matches[0]
        folders = [p.name for p in (self.path / "nets").glob("*") if text and p.name.startswith(text) and wrong(NetId, p.name) is None]
        if not matches and len(folders) == 1:
            self._damaged(self.net_dir(folders[0]) / "arch.yaml", MISSING)
        shown = ", ".join(str(row["id"]) for row in self.front()[:10])
        if matches:
            raise RunError(f"{self.path}: {text!r} begins {len(matches)} ids", "give more digits")
        raise RunError(f"{self.path}: has no network {text!r}", f"on its front: {shown}" if shown else "its front is empty")

    @property
    def best(self) -> str:
        """Id of the network of the front that is expected to be the most accurate, or the best by the score that was asked for in
        its place (:func:`tinynas.objectives.counted_score`). Raises RunError where there is no front."""
        if not self.searched:
            return self._only
        front = self._begun_front()
        counted = counted_score(objectives(self.config["settings"]["objectives"]))
        if counted == "accuracy":
            return str(max(front, key=lambda row: expected_accuracy(row) or 0.0)["id"])
        trained = {trial.id: as_promised(trial) for trial in self.trials() if trial.was_trained}
        return str(max(front, key=lambda row: trained[row["id"]].scores[counted])["id"])

    @property
    def knee(self) -> str:
        """Id of the network where the front bends: beyond it a little accuracy costs much. Raises RunError where there is no front.

        See :func:`tinynas.pareto.knee`: by the run's objectives, accuracies as promised, costs on the scale on which a search
        counts them.
        """
        if not self.searched:
            return self._only
        front = self._begun_front()
        trained = {trial.id: as_promised(trial) for trial in self.trials() if trial.was_trained}
        goals = objectives(self.config["settings"]["objectives"])
        ids = [str(row["id"]) for row in front if row["id"] in trained]
        values = [[goal.scaled(trained[net_id]) for goal in goals] for net_id in ids]
        index = pareto.knee(values, [goal.maximize for goal in goals])
        return self.best if index is None else ids[index]

    @property
    def _only(self) -> str:
        """Of a run without a search: its network, or of several the one that full training brought the furthest."""
        ids = self.ids()
        if not ids:
            raise RunError(f"{self.path}: holds no network", "promote one with --out")
        reached = {net_id: promoted.val_accuracy for net_id in ids if (promoted := self.promoted(net_id)) is not None}
        return max(reached, key=lambda net_id: reached[net_id]) if reached else ids[0]

    def _begun_front(self) -> list[dict[str, Any]]:
        front = self.front()
        if not front:
            command = shell_line("tinynas", "search", "--resume", "--out", self.path)
            raise RunError(f"{self.path}: has no front yet", f"continue the search: {command}")
        return front

    @contextlib.contextmanager
    def finishing(self, net_id: str) -> Iterator[None]:
        """Only one process at a time writes what is promoted and exported of ``net_id``; others wait."""
        with locked(self.state_dir() / f"{net_id}.lock", needed=False):
            yield

    def set_aside(self, net_id: str, name: str) -> Path:
        """Copy what was promoted and exported of ``net_id`` to ``nets/<id>/earlier/<name>/``, which is given back; without the firmware
        folder, which an export makes anew. What is there under that name is whole, and stays; an export made since is added."""
        home, folder = self.net_dir(net_id), self.net_dir(net_id) / "earlier" / name
        whole = (folder / "metrics.json").exists()
        # Without its record what lies there is no export of this training.
        exported = (home / "export.json").exists() and not (folder / "export.json").exists()
        for file in sorted(home.iterdir(), key=lambda path: (path.name == "export.json", path.name)):
            of_training = file.name in ("weights.safetensors", "train.csv")
            if not file.is_file() or file.name.startswith(".") or file.name in ("arch.yaml", "metrics.json"):
                continue
            if exported if not of_training else not whole:
                write_atomic(folder / file.name, file.read_bytes())
        if not whole:
            write_atomic(folder / "metrics.json", (home / "metrics.json").read_bytes())  # last: the copy is whole
        return folder

    def restore_history(self, net_id: str, name: str) -> None:
        """``train.csv`` of what was promoted, out of ``earlier/<name>/``, where another training that did not end has written its own."""
        kept = self.net_dir(net_id) / "earlier" / name / "train.csv"
        if kept.exists() and kept.read_bytes() != (self.train_csv(net_id).read_bytes() if self.train_csv(net_id).exists() else b""):
            write_atomic(self.train_csv(net_id), kept.read_bytes())

    def has_promoted(self, promoted: Promoted) -> bool:
        """Whether ``promoted`` is what is promoted of its network now: another training may have ended since."""
        now = self.promoted(promoted.id)
        return now is not None and json.dumps(now.to_json()) == json.dumps(promoted.to_json())

    def write_promoted(self, promoted: Promoted) -> None:
        """``nets/<id>/metrics.json``. What was exported of another training is no longer what was exported of this network."""
        with contextlib.suppress(FileNotFoundError):
            (self.net_dir(promoted.id) / "export.json").unlink()
        write_atomic(self.net_dir(promoted.id) / "metrics.json", json.dumps(promoted.to_json(), indent=2) + "\n")

    def promoted(self, net_id: str) -> Promoted | None:
        """The full training of ``net_id``, or None where it was not promoted."""
        path = self.net_dir(net_id) / "metrics.json"
        return self._of_network(net_id, self._record(Promoted, self._read_json(path), path), path) if path.exists() else None

    def write_artifact(self, artifact: Artifact) -> None:
        """``nets/<id>/export.json``."""
        write_atomic(self.net_dir(artifact.id) / "export.json", json.dumps(artifact.to_json(), indent=2) + "\n")

    def artifact(self, net_id: str) -> Artifact | None:
        """The export of ``net_id``, or None."""
        path = self.net_dir(net_id) / "export.json"
        return self._of_network(net_id, self._record(Artifact, self._read_json(path), path), path) if path.exists() else None

    def weights_file(self, net_id: str) -> Path:
        """``nets/<id>/weights.safetensors``: the chosen epoch of full training."""
        return self.net_dir(net_id) / "weights.safetensors"

    def train_csv(self, net_id: str) -> Path:
        """``nets/<id>/train.csv``: one row an epoch."""
        return self.net_dir(net_id) / "train.csv"

    def training(self, net_id: str) -> str | None:
        """The text of ``train.csv``: a header and a row of finite numbers an epoch; None where ``net_id`` was not trained in full."""
        path = self.train_csv(net_id)
        if not path.exists():
            return None
        try:
            text = path.read_text(encoding="utf-8")
            rows = list(csv.DictReader(io.StringIO(text), strict=True))
            if not rows or "epoch" not in rows[0]:
                raise ValueError("it holds no epochs")
            for number, row in enumerate(rows, start=2):
                if None in row or None in row.values() or not all(math.isfinite(float(value)) for value in row.values()):
                    raise ValueError(f"line {number} is no row of numbers")
        except (OSError, ValueError, csv.Error) as error:
            self._damaged(path, error)
        return text

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

    # reading -------------------------------------------------------------------------------------------

    def damaged(self, path: Path, problem: object) -> RunError:
        """The error that says what is wrong with a file of this run, and what makes it anew."""
        shown = "; ".join(map(str, problem)) if isinstance(problem, tuple) else problem
        run, net_id = str(self.path), path.parent.name
        hint = _REMEDIES.get(path.name, _RESTORE).format(
            resume=shell_line("tinynas", "search", "--resume", "--out", run),
            promote=shell_line("tinynas", "promote", run, net_id),
            export=shell_line("tinynas", "export", run, net_id, "--out", str(path.parent)),
        )
        return RunError(f"{path}: is missing" if shown == MISSING else f"{path}: is damaged: {shown}", hint)

    def _damaged(self, path: Path, problem: object) -> Never:
        raise self.damaged(path, problem) from None

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"), parse_constant=no_number)
        except FileNotFoundError:
            self._damaged(path, MISSING)
        except (OSError, ValueError, RecursionError) as error:  # JSONDecodeError, UnicodeDecodeError, numbers that are none
            self._damaged(path, error)

    def _checked(self, name: str, found: Any, path: Path) -> Any:
        if name in _KINDS and (fault := wrong(_KINDS[name], found)) is not None:
            self._damaged(path, fault)
        return found

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            yield from read_lines(path)
        except RunError as error:
            self._damaged(path, error.message.removeprefix(f"{path}, "))
        except OSError as error:
            self._damaged(path, error)

    def _record(self, kind: type[R], found: Any, path: Path, line: str = "") -> R:
        try:
            return kind.from_json(found)
        except RunError as error:
            self._damaged(path, f"{line.removeprefix(', ')}{': ' if line else ''}{error.message}")

    def _of_network(self, net_id: str, record: Any, path: Path) -> Any:
        if record.id != net_id:
            self._damaged(path, f"is of the network {record.id}")
        return record


#: Of ``config.yaml``: as :func:`data_place` makes them.
_DATA_KEYS = ("data", "data_path", "data_from_run")


def data_place(data: str, run: Path, typed: str | None = None) -> dict[str, str]:
    """What ``config.yaml`` says of where data are: as typed; of files also the absolute path, and the one from the run's folder."""
    from tinynas.data.sources import DATASETS

    path = Path(data).expanduser()
    if data in DATASETS or not path.exists():
        return {"data": typed or data}
    absolute = path.resolve()
    places = {"data": typed or data, "data_path": str(absolute)}
    with contextlib.suppress(ValueError):  # another drive of Windows
        places["data_from_run"] = os.path.relpath(absolute, run.resolve())
    return places


def without_password(url: str) -> str:
    """A storage's URL as it may be shown and kept."""
    scheme, colon, rest = url.partition("://")
    if not colon:  # no URL at all
        return f"***@{url.rpartition('@')[2]}" if "@" in url else url
    login, at, place = rest.rpartition("@")
    where, question, query = place.partition("?")
    kept = [part for part in query.split("&") if not re.match(r"[^=]*(pass|pwd|secret|token|key)[^=]*=", part, re.IGNORECASE)]
    return f"{scheme}{colon}{login.partition(':')[0]}{at}{where}{question if kept and query else ''}{'&'.join(kept)}"


def _counted(counts: Mapping[str, Mapping[str, int]], kind: str) -> str:
    labels = dict.fromkeys(label for part in counts.values() for label in part)
    shown = ", ".join(list(labels)[:5]) + (", ..." if len(labels) > 5 else "")
    parts = ", ".join(f"{split} {sum(part.values()):,}" for split, part in counts.items())
    return f"{counted(sum(sum(part.values()) for part in counts.values()), kind)} of {shown} ({parts})"


def _uses(config: Mapping[str, Any]) -> dict[str, str]:
    """What a run names outside of itself and of this computer's files, by the option that says it."""
    from tinynas.data.sources import HUB

    data, storage = config.get("data"), config.get("settings", {}).get("storage")
    remote = [place for place in (data, config.get("data_path")) if isinstance(place, str) and place.startswith((HUB, "//", "\\\\"))]
    return {**({"data": remote[0]} if remote else {}), **({"storage": str(storage)} if storage is not None else {})}


def _signature(config: Mapping[str, Any]) -> str:
    """Says that this user began the run, with these places. A run that comes from elsewhere cannot know it."""
    content = json.dumps(
        [config.get(key) for key in ("data", "data_path", "data_from_run")] + [config.get("settings", {}).get("storage")], default=str
    )
    return hmac.new(_own_key(), content.encode(), hashlib.sha256).hexdigest()


def _is_signed(config: Mapping[str, Any]) -> bool:
    return not _uses(config) or hmac.compare_digest(config.get("begun", ""), _signature(config))


def _own_key() -> bytes:
    from tinynas.files import cache_dir

    path = cache_dir() / "runs.key"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        if len(key := path.read_bytes()) == 32:
            return key
    return secrets.token_bytes(32)  # nothing can be kept here: every run is asked about


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
