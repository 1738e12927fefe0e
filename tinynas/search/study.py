"""The study: Optuna's record of every training, and what follows from it.

Every Optuna trial is one training of one network to one rung, or one proposal that was refused. Optuna's storage
is the truth; ``trials.jsonl`` is written from it, one line each time a network's record changes, and is mended
from it after a kill. Trainings of one network share the user attribute ``net``.

Several processes, on one machine or many, work on one study. Decisions are taken under a lock (with 100 networks it is held for
0.015 s; what takes time, proposing, is done before); training is not. A process holds a lock on a file of its own for as long
as it lives, so its death is known at once, on any machine that shares the folder: its training is handed to the next one that asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tinynas.errors import MissingExtraError, RunError, UserError, counted
from tinynas.files import LockHeldError, disk_error, lock, locked, write_atomic
from tinynas.objectives import Objective
from tinynas.records import Trial
from tinynas.runs import MISSING, Run, without_password
from tinynas.search.genes import choices_of, distributions, genotype_of, params_of
from tinynas.search.journal import Journal, mend
from tinynas.search.schedule import Net, Result
from tinynas.space import Space

#: A training that took its worker with it this often is given up (out of memory, say).
MAX_RETRIES = 3
HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
#: Seconds that a database is waited for that does not answer any more: a server's restart, and with a heartbeat's interval less than the
#: grace, so that nothing under way is taken for dead when it is back. And seconds between two looks.
AWAY_SECONDS, AWAY_LOOK = 30.0, 0.5
#: Seconds without a sign of life after which a process counts as gone although it holds its lock: longer than network disks keep
#: what they know of a file.
SILENT_SECONDS = 180.0
#: Seconds that the study's lock is waited for. Decisions hold it for hundredths of one.
LOCK_SECONDS = 120.0


@dataclass(frozen=True)
class Job:
    """A training to do: ``number`` is Optuna's, ``proposal`` ours."""

    number: int
    net: str
    proposal: int
    genotype: tuple[int, ...]
    source: str
    parent: str | None
    rung: int
    retries: int = 0


@dataclass
class Ledger:
    """Everything that is known, read from the study."""

    nets: dict[str, Net] = field(default_factory=dict)
    genotypes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of each network."""
    records: dict[int, Trial] = field(default_factory=dict)
    """The latest record of each proposal."""
    waiting: int = 0
    refused: int = 0
    """Infeasible and duplicate proposals in a row, at the end."""
    key: tuple[int, ...] = ()
    """Changes with everything that is decided by."""

    @property
    def proposals(self) -> int:
        """The next proposal's number."""
        return 1 + max([*self.records, *(net.number for net in self.nets.values())], default=-1)

    @property
    def refused_genotypes(self) -> set[tuple[int, ...]]:
        """What was proposed and not trained."""
        return {record.genotype for record in self.records.values() if record.state in ("infeasible", "duplicate")}


def clipped(excess: float) -> float:
    """A share over a limit as Optuna is told it: what is not known is infinitely over, and databases hold no infinity."""
    return min(excess, 1e6)


class Study:
    """The study of ``run``. Make it with :meth:`open`; several processes may have it open."""

    def __init__(self, run: Run, study: optuna.Study, space: Space, goals: Sequence[Objective], url: str | None = None) -> None:
        self.run, self.optuna, self.space, self.goals, self.url = run, study, space, tuple(goals), url
        self.distributions = distributions(space)
        self._lock_file = run.state_dir() / "study.lock"
        self._member: IO[bytes] | None = None
        self._finished: dict[int, Trial] = {}
        self._results: dict[int, tuple[int, Result]] = {}
        self._unwritten: list[Trial] = []
        self._seen: dict[str, tuple[int, float]] = {}
        self._left = threading.Event()
        self._away = False
        self.member = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    @classmethod
    def open(cls, run: Run, space: Space, goals: Sequence[Objective], storage: str | None, sampler: optuna.samplers.BaseSampler) -> Study:
        """Open or begin the study. Raises UserError where the storage cannot be reached, RunError where it is of another kind."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        directions = [StudyDirection.MAXIMIZE if goal.maximize else StudyDirection.MINIMIZE for goal in goals]
        with file_lock(run.state_dir() / "study.lock"), _journal_errors(run, storage), database_errors(storage):
            if storage is None:
                mend(run.journal_file)
            backend = _storage(run, storage)
            if storage is None:
                # The journal is the run's own: its study keeps its name where the folder is moved or renamed.
                known = [study.study_name for study in backend.get_all_studies()]
                if not known and (lost := run.trials()):
                    raise RunError(
                        f"{run.journal_file}: holds nothing of the {counted(len(lost), 'network')} in trials.jsonl",
                        "restore it from a copy, or start a new run; the networks of this one can still be promoted",
                    )
                name = run.name if run.name in known or not known else known[0]
            else:
                name = f"tinynas-{_study_key(run)}"
                if run.begun and name not in [study.study_name for study in backend.get_all_studies()]:
                    raise RunError(
                        f"--storage {without_password(storage)}: does not hold the study of {run.path} ({name})",
                        "give the storage that it was begun with; nothing finished is lost",
                    )
            study = optuna.create_study(study_name=name, storage=backend, sampler=sampler, directions=directions, load_if_exists=True)
            names = [goal.name for goal in goals]
            if study.directions != directions or study.metric_names not in (None, names):
                raise RunError(
                    f"{run.path}: was searched for other objectives", "continue it with the same --objective, or start a new run"
                )
            if study.metric_names is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names(names)
                study.set_user_attr("made_by", "tinynas")
            if "choices" not in study.user_attrs:
                study.set_user_attr("choices", {gene.name: list(gene.choices) for gene in space.genes if len(gene.choices) > 1})
        return cls(run, study, space, goals, storage)

    # locks ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def deciding(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the study's lock: one process decides at a time. Without ``wait`` a database that is away is not waited for.

        A journal is told at the end of the block, in one step, then trials.jsonl: a kill or a full disk leaves all or nothing. Raises
        UserError where a database cannot be reached, also not after a while.
        """
        if wait:
            self._await_database()
        with file_lock(self._lock_file), database_errors(self.url):
            with self._together():
                yield
            unwritten, self._unwritten = self._unwritten, []
            for record in unwritten:
                self.run.append_trial(record)

    def _await_database(self) -> None:
        """Wait while a database is started anew, before anything is half said; where that takes too long, what asks it next says so."""
        backend = getattr(self._storage, "_backend", None)
        if not isinstance(backend, RDBStorage):
            return
        import sqlalchemy

        # Once it was waited for in vain, the search is about to end.
        end = time.monotonic() + (0.0 if self._away else AWAY_SECONDS)
        while True:
            try:
                with backend.engine.connect() as connection:
                    connection.execute(sqlalchemy.text("SELECT 1"))
            except sqlalchemy.exc.SQLAlchemyError:
                self._away = time.monotonic() >= end
                if self._away:
                    return
                time.sleep(AWAY_LOOK)
            else:
                self._away = False
                return

    def _together(self) -> contextlib.AbstractContextManager[None]:
        journal = getattr(self._storage, "_backend", None)
        return journal.together() if isinstance(journal, Journal) else contextlib.nullcontext()

    def join(self) -> None:
        """Be known as alive until the process ends, however it ends, or is stopped for long."""
        path = self.run.state_dir() / "members" / self.member
        self._left = left = threading.Event()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._member = path.open("wb")
            lock(self._member)
        except OSError as error:
            raise disk_error(path, error) from None

        def beat() -> None:
            while not left.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):
                    os.utime(path)

        threading.Thread(target=beat, daemon=True).start()

    def leave(self) -> None:
        """Be known as gone."""
        self._left.set()
        if self._member is not None:
            self._member.close()
            self._member = None
        with contextlib.suppress(OSError):
            (self.run.state_dir() / "members" / self.member).unlink()

    def alive(self, member: str) -> bool:
        """True while the process that joined as ``member`` lives: it holds its lock, and has touched its file not long ago."""
        if member == self.member:
            return True
        path = self.run.state_dir() / "members" / member
        try:
            with path.open("rb+") as file:
                free = lock(file, wait=False)
                stamp = os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return False
        if free:
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        # One that was stopped (SIGSTOP, a machine asleep) keeps its lock. Times by this process's clock alone: others may be wrong.
        before, since = self._seen.get(member, (None, 0.0))
        if stamp != before:
            self._seen[member] = stamp, time.monotonic()
            return True
        return time.monotonic() - since < SILENT_SECONDS

    # reading ----------------------------------------------------------------------------------------

    def trials(self) -> list[FrozenTrial]:
        """Optuna's trials by number (not to be changed)."""
        return list(self.optuna.get_trials(deepcopy=False))

    def ledger(self) -> Ledger:
        """What the study knows now."""
        trials = self.trials()
        ledger = Ledger(key=tuple(int(trial.state) for trial in trials))
        for trial in trials:
            attrs = trial.user_attrs
            if trial.state == TrialState.WAITING:
                ledger.waiting += 1
            if "net" not in attrs or "proposal" not in attrs:
                continue
            if "record" in attrs:
                record = self._record(trial)
                ledger.records[record.number] = record
                if record.state in ("infeasible", "duplicate"):
                    ledger.refused += 1
                    continue
            ledger.refused = 0
            net = ledger.nets.get(attrs["net"])
            if net is None:
                net = ledger.nets[attrs["net"]] = Net(attrs["net"], attrs["proposal"], float(attrs["cost"]))
                ledger.genotypes[net.id] = tuple(attrs["genotype"])
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                net.busy = True
            elif "result" in attrs:
                rung, result = self._result(trial)
                if rung > net.rung:
                    net.results.append(result)
                elif result.epochs > net.results[-1].epochs:
                    net.beyond = max(net.beyond, result.epochs)
                elif result.epochs == net.results[-1].epochs:
                    net.results[-1] = result
            elif trial.state == TrialState.FAIL and attrs.get("given_up"):
                # What was shown before a longer training failed holds.
                net.failed, net.left = not net.results, bool(net.results)
        return ledger

    def _record(self, trial: FrozenTrial) -> Trial:
        # What is said of a finished trial stays as it is: read once, not in every decision anew.
        if trial.number in self._finished:
            return self._finished[trial.number]
        record = Trial.from_json(json.loads(trial.user_attrs["record"]))
        if trial.state.is_finished():
            self._finished[trial.number] = record
        return record

    def _result(self, trial: FrozenTrial) -> tuple[int, Result]:
        if trial.number not in self._results:
            outcome = json.loads(trial.user_attrs["result"])
            self._results[trial.number] = outcome["rung"], Result(outcome["epochs"], outcome["images"], outcome["scores"])
        return self._results[trial.number]

    def owns(self, number: int) -> bool:
        """True while the training is this process's: not where it was taken for dead, and its training was given to another."""
        trial = self._storage.get_trial(self._id(number))
        return bool(trial.state == TrialState.RUNNING and trial.user_attrs.get("owner") == self.member)

    # writing ----------------------------------------------------------------------------------------

    def ask(self) -> optuna.Trial:
        """Optuna's next trial: the oldest waiting one, or a proposal of the study's sampler."""
        with warnings.catch_warnings():
            # Optuna expects heartbeats of Study.optimize alone; ours come from `heartbeats`.
            warnings.filterwarnings("ignore", message="Heartbeat of storage")
            return self.optuna.ask(self.distributions)

    def claim_waiting(self) -> tuple[optuna.Trial, dict[str, Any], int]:
        """Take the oldest waiting training: it, its attributes, and how often it was cut off by a death.

        Only under the lock and where one waits.
        """
        trial = self.ask()
        frozen = next(t for t in self.trials() if t.number == trial.number)
        trial.set_user_attr("owner", self.member)
        retries = int(frozen.user_attrs.get("retries", 0)) + len(frozen.system_attrs.get("retry_history", []))
        return trial, dict(frozen.user_attrs), retries

    def begin(self, genotype: Sequence[int], attrs: Mapping[str, Any], constraints: Mapping[str, float]) -> int:
        """A new Optuna trial of this genotype, running and owned by this process: its number. Only under the lock."""
        # One write to the storage. Enqueued and asked for, a trial takes one a gene, and each waits for the disk.
        trial = create_trial(
            state=TrialState.RUNNING,
            params=self.params(genotype),
            distributions=dict(self.distributions),
            user_attrs={**attrs, "genotype": list(genotype), "owner": self.member, "choices": choices_of(self.space, genotype)},
            system_attrs={f"constraints:{name}": clipped(value) for name, value in constraints.items()},
        )
        return int(self._storage.get_trial_number_from_id(self._storage.create_new_trial(self.optuna._study_id, trial)))

    def describe(self, trial: optuna.Trial, genotype: Sequence[int], attrs: Mapping[str, Any], constraints: Mapping[str, float]) -> int:
        """Note on a trial that Optuna made what :meth:`begin` notes on ours; its number."""
        notes = {**attrs, "genotype": list(genotype), "owner": self.member, "choices": choices_of(self.space, genotype)}
        for key, value in notes.items():
            trial.set_user_attr(key, value)
        for name, over in constraints.items():
            trial.set_constraint(name, clipped(over))
        return int(trial.number)

    def params(self, genotype: Sequence[int]) -> dict[str, int]:
        """Optuna parameters of a genotype."""
        return params_of(self.space, genotype)

    def genotype(self, params: Mapping[str, int]) -> tuple[int, ...]:
        """The canonical genotype of Optuna parameters."""
        return genotype_of(self.space, params)

    def refuse(self, number: int, record: Trial, values: Sequence[float] | None = None) -> None:
        """Record a proposal that is not trained: infeasible (pruned, or told ``values``), or a duplicate (told the known values)."""
        self._storage.set_trial_user_attr(self._id(number), "record", json.dumps(record.to_json()))
        known = self.values(record) if record.state == "duplicate" else values
        if known is not None:
            self.optuna.tell(number, known)
        else:
            self.optuna.tell(number, state=TrialState.PRUNED)
        self._unwritten.append(record)

    def finish(self, number: int, record: Trial, outcome: Mapping[str, Any]) -> None:
        """Record a training that reached a rung."""
        trial_id = self._id(number)
        storage = self._storage
        for name, value in record.scores.items():
            storage.set_trial_user_attr(trial_id, f"score:{name}", value)
        storage.set_trial_user_attr(trial_id, "result", json.dumps(outcome))
        storage.set_trial_user_attr(trial_id, "record", json.dumps(record.to_json()))
        values = self.values(record)
        if values is None:
            self.optuna.tell(number, state=TrialState.PRUNED)
        else:
            self.optuna.tell(number, values)
        self._unwritten.append(record)

    def give_up(self, number: int, record: Trial) -> None:
        """Record a training that failed for good."""
        trial_id = self._id(number)
        self._storage.set_trial_user_attr(trial_id, "given_up", True)
        self._storage.set_trial_user_attr(trial_id, "record", json.dumps(record.to_json()))
        self.optuna.tell(number, state=TrialState.FAIL)
        self._unwritten.append(record)

    def hand_back(self, number: int, *, count_retry: bool = False, why: str | None = None) -> None:
        """Put a training that was cut off back into the queue; ``why`` is told where it is given up in the end."""
        trial = next(t for t in self.trials() if t.number == number)
        if trial.state.is_finished():
            return
        attrs = {key: value for key, value in trial.user_attrs.items() if key not in ("owner", "result", "record")}
        attrs["retries"] = int(attrs.get("retries", 0)) + count_retry
        attrs["retry_of"] = number
        if why is not None:
            attrs["cut_off"] = why
        self.optuna.tell(number, state=TrialState.FAIL)
        self.optuna.enqueue_trial(trial.params, user_attrs=attrs)

    def reclaim(self) -> list[str]:
        """Hand back the trainings of processes that died; the ids of their networks. Only under the lock."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            fail_stale_trials(self.optuna)
        reclaimed = []
        alive: dict[str, bool] = {self.member: True}
        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            owner = trial.user_attrs.get("owner")
            if owner is not None:
                alive.setdefault(owner, self.alive(owner))
            if owner is None or not alive[owner]:
                if "net" not in trial.user_attrs:
                    # Killed between Optuna's ask and our first note: the proposal was never made.
                    self.optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
                    continue
                self.hand_back(trial.number, count_retry=True)
                reclaimed.append(str(trial.user_attrs["net"]))
        return reclaimed

    def mend(self) -> None:
        """Write the records that a kill kept out of trials.jsonl. Only under the lock; raises what :meth:`check` does."""
        written = {trial.number: trial for trial in self.run.trials()}
        records = self.ledger().records
        self._check(written, records)
        for number, record in sorted(records.items()):
            known = written.get(number)
            # What a finished search added (who was left behind, what is expected) holds no longer when it goes on.
            if known is None or (known != record and known.images <= record.images):
                self.run.append_trial(record)

    def check(self) -> None:
        """Raise RunError where trials.jsonl holds what the study does not: it is written second, so the study was cut or exchanged.

        Only under the lock.
        """
        self._check({trial.number: trial for trial in self.run.trials()}, self.ledger().records)

    def _check(self, written: Mapping[int, Trial], records: Mapping[int, Trial]) -> None:
        lost = [trial for number, trial in written.items() if number not in records or records[number].id != trial.id]
        if lost:
            raise RunError(
                f"the study of {self.run.path} lacks {counted(len(lost), 'network')} that trials.jsonl holds, such as {lost[0].id}",
                f"restore {self.run.journal_file.name} (or the database) from a copy; what was found can still be promoted",
            )

    def heartbeat(self, number: int) -> None:
        """Tell a database storage that the training goes on."""
        if self.needs_heartbeat:
            cast(RDBStorage, self._storage).record_heartbeat(self._id(number))

    @property
    def needs_heartbeat(self) -> bool:
        """True where the storage is a database."""
        # Optuna wraps a database in a cache.
        return isinstance(getattr(self._storage, "_backend", None), RDBStorage)

    def values(self, record: Trial) -> list[float] | None:
        """The objectives' values of a record, or None where one is not known."""
        values = [goal.of(record) for goal in self.goals]
        return None if any(value is None for value in values) else [float(cast(float, value)) for value in values]

    @property
    def _storage(self) -> BaseStorage:
        return cast(BaseStorage, self.optuna._storage)

    def _id(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self.optuna._study_id, number))


def _storage(run: Run, url: str | None) -> BaseStorage:
    if url is None:
        return JournalStorage(Journal(run.journal_file))
    if "://" not in url:
        raise UserError(
            f"--storage {without_password(url)}: is not a database URL", "write postgresql://user:password@host/database, or leave it out"
        )
    with database_errors(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return RDBStorage(
                _with_driver(url),
                engine_kwargs={"pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=GRACE_SECONDS,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES),
            )
        except (ModuleNotFoundError, ImportError) as error:
            raise MissingExtraError(f"--storage {without_password(url)}: {error}", "pip install 'tinynas[postgresql]'") from None


@contextlib.contextmanager
def _journal_errors(run: Run, url: str | None) -> Iterator[None]:
    """What Optuna says of a journal that holds something else is the user's to mend."""
    try:
        yield
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        if url is not None:
            raise
        raise run.damaged(run.journal_file, f"{type(error).__name__}: {error}") from None


@contextlib.contextmanager
def database_errors(url: str | None) -> Iterator[None]:
    """A database that cannot be reached is the user's to mend."""
    if url is None:
        yield
        return
    import sqlalchemy.exc

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0].replace(url, without_password(url))
        hint = "check that the server runs and the URL is right, then continue with --resume; nothing finished is lost"
        if "password" in cause:
            hint = "a run keeps no password: give the URL with it to --storage or in TINYNAS_STORAGE, or the password in PGPASSWORD"
        raise UserError(f"--storage {without_password(url)}: {cause}", hint) from None


def check_storage(url: str) -> None:
    """Refuse a ``url`` that no database can answer: not a URL, of no known kind, or whose client is not installed. Asks no server.

    Raises:
        UserError: with what to say in its place, or to install.
    """
    import sqlalchemy

    plain = without_password(url)
    try:
        sqlalchemy.make_url(_with_driver(url)).get_dialect().import_dbapi()
    except ImportError as error:
        ours = url.startswith(("postgresql", "postgres"))
        remedy = (
            "pip install 'tinynas[postgresql]'"
            if ours
            else "install what Python needs to speak to it, or give postgresql://user@host/database"
        )
        raise MissingExtraError(f"--storage {plain}: {error}", remedy) from None
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        cause = str(error).splitlines()[0].replace(url, plain)
        raise UserError(f"--storage {plain}: {cause}", "give postgresql://user@host/database, or sqlite:///file.db") from None


def _with_driver(url: str) -> str:
    # The client that tinynas[postgresql] installs; SQLAlchemy's own default has changed between versions.
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            return "postgresql+psycopg2://" + url.removeprefix(plain)
    return url


def _study_key(run: Run) -> str:
    # A run keeps its study's name wherever its folder is moved or mounted.
    path = run.state_dir() / "study_name"
    if not path.exists():
        if run.begun:
            raise run.damaged(path, MISSING)
        write_atomic(path, f"{run.name}-{uuid.uuid4().hex[:8]}")
    try:
        name = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise run.damaged(path, error) from None
    if not name:
        raise run.damaged(path, "it is empty")
    return name


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """An exclusive lock on ``path`` that the kernel drops with the process. Ctrl-C waits until it is released.

    Raises RunError where somebody does not let it go: a decision takes a moment, so its process was stopped, or hangs.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(path, wait=LOCK_SECONDS))
        except LockHeldError as error:
            if error.holder is None:
                remedy = "find the process that was stopped (on another machine, perhaps) and let it go on or end it"
            else:
                remedy = f"let it go on (kill -CONT {error.holder}) or end it (kill -KILL {error.holder})"
            raise RunError(
                f"{error.message} and has not let go of {path.name} for {LOCK_SECONDS:.0f} s",
                f"{remedy}; then continue with --resume: nothing finished is lost",
            ) from None
        stack.enter_context(interrupts_held())
        yield


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """SIGINT and SIGTERM are answered at the end of the block: Optuna's journal lock does not survive one in its middle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Only Python's handlers raise something; a default SIGTERM ends the process, which the locks are made for.
    held = {number: handler for number, handler in before.items() if callable(handler)}
    for number in held:
        signal.signal(number, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
