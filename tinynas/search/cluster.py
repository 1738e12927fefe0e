"""A cluster: trainings on the workers of a Dask scheduler, which share nothing with the deciding process but its network.

Dask was taken and not Ray: 46 MB installed against 265, two nodes up in 5 s with 170 MB against 15 s with 810 MB, a node killed amid a
training of three seconds was made good within 5 s against 34 s, and the deciding process need not run on a node of the cluster. What Ray
has more, arrays shared by the processes of a machine, mapped files are (:mod:`tinynas.search.remote`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynas.arch import Arch
from tinynas.data.replica import files_of, pack
from tinynas.errors import InternalError, MissingExtraError, RunError, TinynasError, UserError, counted
from tinynas.files import write_atomic
from tinynas.recipe import Recipe
from tinynas.search import remote
from tinynas.search.crew import parent_of
from tinynas.search.prepare import Session, donor_file
from tinynas.search.processes import GRACE, GRACE_SHARE
from tinynas.search.study import Job
from tinynas.search.training import Outcome
from tinynas.search.view import View

if TYPE_CHECKING:
    from tinynas.data import DataSet

#: Seconds in which a scheduler must answer, and in which its first worker must come.
ANSWER_SECONDS = 10.0
FIRST_SECONDS = 60.0
#: Seconds between two looks at who is there.
LOOK = 1.0
#: Bytes that are sent at once.
PIECE = 8 << 20
#: How often files are sent to a machine that keeps losing them.
SENDINGS = 3
#: How often a worker that cannot be asked, and was not seen to go, is asked again.
TRIES = 15
#: Machines that are sent to side by side.
SENDERS = 4
ENDED = "continue with --resume; nothing finished is lost"


@dataclass(frozen=True)
class Place:
    """Where a cluster is."""

    address: str
    """Of its scheduler, such as ``tcp://host:8786``, or the file that ``dask scheduler --scheduler-file`` wrote."""
    at_once: int | None = None
    """Trainings at once; None: as many as its workers have threads."""


class _GoneError(Exception):
    pass


@dataclass
class _Machine:
    """Processes that share a cache."""

    workers: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    """What was seen to be there."""
    sending: threading.Lock = field(default_factory=threading.Lock)


def _on_worker(name: str, *given: Any) -> Any:
    from importlib import import_module

    return getattr(import_module("tinynas.search.remote"), name)(*given)


# It travels as itself, not by its name: the scheduler, which looks into tasks, need not have tinynas.
_on_worker.__module__ = "__main__"


class Cluster:
    """A connection to a cluster. Make it with :meth:`opened`."""

    def __init__(self, place: Place, client: Any) -> None:
        self.place, self.client = place, client
        self.sent: list[tuple[str, str, int]] = []
        """(machine, file, bytes) of everything that was sent."""
        self._machines: dict[str, _Machine] = {}
        self._workers: dict[str, tuple[int, str]] = {}
        self._looked = 0.0
        #: greetings that failed, by worker
        self._failed: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, place: Place) -> Iterator[Cluster]:
        """The cluster at ``place``, with at least one worker. Raises UserError where nothing answers there, nobody works or its workers
        cannot, MissingExtraError without Dask."""
        try:
            import dask
            import distributed
        except ImportError:
            raise MissingExtraError("--cluster needs Dask", "pip install 'tinynas[cluster]'") from None
        # It says on its own what we say better.
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        where = {"scheduler_file": place.address} if Path(place.address).is_file() else {"address": place.address}
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"}):
            try:
                client = distributed.Client(**where, timeout=ANSWER_SECONDS, set_as_default=False, name="tinynas")
            except (OSError, ValueError, TypeError) as error:
                why = next(iter(str(error).splitlines()), "") or type(error).__name__
                raise UserError(
                    f"--cluster {place.address}: no scheduler answers there: {why}",
                    "start one with: dask scheduler; then on every machine: dask worker ADDRESS --nthreads 1 --nworkers CORES",
                ) from None
            cluster = cls(place, client)
            try:
                cluster._wait_for_workers()
                yield cluster
            finally:
                cluster._closing.set()
                with contextlib.suppress(Exception):
                    client.close(timeout=ANSWER_SECONDS)

    # who is there -----------------------------------------------------------------------------------

    def slots(self) -> int:
        """Trainings that can run at once, by who is there now."""
        threads = sum(threads for threads, _ in self._workers.values())
        return threads if self.place.at_once is None else min(threads, self.place.at_once)

    def look(self) -> tuple[set[str], set[str]]:
        """Workers that came, and that went, since the last look. Raises RunError where the scheduler is gone, UserError where a worker
        that came has other versions."""
        if time.monotonic() - self._looked < LOOK:
            return set(), set()
        self._looked = time.monotonic()
        if self.client.status != "running":
            raise self.gone()
        try:
            found = self.client.scheduler_info(n_workers=-1)["workers"]
        except Exception as error:
            raise self.gone() from error
        came, went = set(found) - set(self._workers), set(self._workers) - set(found)
        for address in went:
            machine = self._machines[self._workers.pop(address)[1]]
            with self._lock:
                machine.workers.discard(address)
        for address in sorted(came):
            name = self._greet(address)
            if name is None:
                came.discard(address)
                continue
            with self._lock:
                self._machines.setdefault(name, _Machine()).workers.add(address)
            self._workers[address] = int(found[address]["nthreads"]), name
        return came, went

    def gone(self) -> RunError:
        """The scheduler does not answer any more."""
        return RunError(f"--cluster {self.place.address}: its scheduler does not answer any more", f"start it again, then {ENDED}")

    def _greet(self, address: str) -> str | None:
        """The machine of a worker; None where it went, or hangs, before it answered. Raises UserError where it cannot answer."""
        future = self.client.submit(_on_worker, "hello", workers=[address], pure=False)
        try:
            answer = json.loads(future.result(timeout=FIRST_SECONDS))
        except (ImportError, AttributeError) as error:
            raise self._cannot(address, f"it has no tinynas of this version ({error})") from None
        except TimeoutError:
            return None  # it hangs, and is asked again
        except Exception as error:
            # It went, and is missed at the next look; or it cannot, and then says so each time.
            self._failed[address] = tries = self._failed.get(address, 0) + 1
            if tries > TRIES:
                raise self._cannot(address, f"it fails when it is asked who it is ({type(error).__name__}: {error})") from error
            return None
        self.check(answer["versions"], address)
        return str(answer["machine"])

    def check(self, theirs: dict[str, str], who: str) -> None:
        """Raise UserError where a worker's versions differ from ours."""
        ours = remote.versions()
        if other := [f"{name} {theirs.get(name)}, here {version}" for name, version in ours.items() if theirs.get(name) != version]:
            raise self._cannot(who, "it has " + "; ".join(other))

    def _cannot(self, who: str, why: str) -> UserError:
        return UserError(
            f"--cluster {self.place.address}: the worker {who} cannot train for this search: {why}",
            "install the same versions on all machines (pip install 'tinynas[cluster]' with one constraints.txt) and start it anew",
        )

    def _wait_for_workers(self) -> None:
        end = time.monotonic() + FIRST_SECONDS
        while True:
            self._looked = 0.0
            self.look()
            if self._workers:
                return
            if time.monotonic() > end:
                raise UserError(
                    f"--cluster {self.place.address}: no worker came in {FIRST_SECONDS:.0f} s",
                    "start some: dask worker ADDRESS --nthreads 1 --nworkers CORES",
                )
            time.sleep(LOOK / 4)

    # what they need ---------------------------------------------------------------------------------

    def bring(self, files: dict[str, Path]) -> None:
        """Have ``files``, by the names that tasks call them, on all machines; only what is not there is sent.

        Raises TinynasError where a machine has no room for them. A machine that goes meanwhile is left out.
        """
        with self._lock:
            lacking = {name: machine for name, machine in self._machines.items() if machine.workers and not set(files) <= machine.files}
        for name, machine in lacking.items():
            with machine.sending:
                if not set(files) <= machine.files:
                    self._send(name, machine, files)

    def forget(self) -> None:
        """Look again what lies where: something was not."""
        with self._lock:
            for machine in self._machines.values():
                machine.files.clear()

    def _send(self, name: str, machine: _Machine, files: dict[str, Path]) -> None:
        asked = {file: (path.stat().st_size, _digest(path)) for file, path in files.items()}
        tries = 0
        while machine.workers and not self._closing.is_set():
            address = min(machine.workers)
            try:
                for file in _said(self._ask(machine, address, "lacking", json.dumps(asked)))["names"]:
                    self._send_file(machine, address, file, files[file], *asked[file])
                    self.sent.append((name, file, asked[file][0]))
                machine.files |= set(files)
                return
            except TinynasError:
                raise
            except TimeoutError:
                # It hangs: others need not wait for it. A training that it takes all the same says what it lacks.
                return
            except Exception:
                # It died, or is about to be found dead; another of its machine may go on.
                tries += 1
                if tries > TRIES:
                    raise
                time.sleep(LOOK)

    def _send_file(self, machine: _Machine, address: str, name: str, path: Path, size: int, digest: str) -> None:
        token, offset = uuid.uuid4().hex[:8], 0
        with path.open("rb") as file:
            while chunk := file.read(PIECE):
                # Through the scheduler to the one worker, and not into a task that it would keep.
                [piece] = self.client.scatter([chunk], workers=[address], hash=False)
                _said(self._ask(machine, address, "receive", name, token, offset, piece, size, digest))
                offset += len(chunk)

    def _ask(self, machine: _Machine, address: str, what: str, *given: Any) -> str:
        """What a worker answers. Raises _GoneError where it went or the search ends, TimeoutError where it hangs."""
        future = self.client.submit(_on_worker, what, *given, workers=[address], pure=False)
        end = time.monotonic() + FIRST_SECONDS
        while True:
            try:
                return str(future.result(timeout=LOOK))
            except TimeoutError:
                if self._closing.is_set() or address not in machine.workers:
                    raise _GoneError from None
                if time.monotonic() > end:
                    raise

    # trainings --------------------------------------------------------------------------------------

    def seconds_per_image(self, data: DataSet, recipe: Recipe, seed: int, arch: Arch) -> float:
        """Measured training seconds of one image of ``arch`` on a worker. Raises as :meth:`bring`."""
        shared = Shared(data, recipe, seed)
        for _ in range(SENDINGS):
            self.bring(shared.files(arch, recipe))
            task = json.dumps({**shared.task, "arch": _plain(arch)})
            answer = json.loads(self.client.submit(_on_worker, "pace", task, pure=False).result())
            if "lacking" not in answer:
                return float(_said(answer)["seconds"])
            self.forget()
        raise _loses()


class Shared:
    """What all trainings of a search have in common, and the files of it that machines must have."""

    def __init__(
        self, data: DataSet, recipe: Recipe, seed: int, scored: Sequence[str] = (), donor: tuple[Arch, Path] | None = None
    ) -> None:
        self.data, content = data, pack(data)
        # Named by what it holds: the same data is written, and sent, once.
        name = f"packed/{hashlib.sha256(content).hexdigest()[:24]}.safetensors"
        if not (data.cache / name).exists():
            write_atomic(data.cache / name, content)
        self._files = {name: data.cache / name}
        self.task: dict[str, Any] = {
            "versions": remote.versions(),
            "data": name,
            "fingerprint": data.fingerprint,
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "scored": sorted(scored),
            "donor": None,
        }
        if donor is not None:
            file = f"packed/{_digest(donor[1])[:24]}.safetensors"
            self._files[file] = donor[1]
            self.task["donor"] = {"arch": _plain(donor[0]), "file": file}

    def files(self, arch: Arch, recipe: Recipe) -> dict[str, Path]:
        """All that the training of ``arch`` reads, by name; inputs that are not in the cache yet are made."""
        cache = self.data.cache
        return self._files | {path.relative_to(cache).as_posix(): path for path in files_of(self.data, arch.input, recipe.augment)}


@dataclass
class _Flight:
    job: Job
    task: dict[str, Any]
    arch: Arch
    future: Any = None
    sendings: int = 0
    dropped: bool = False


class Workers:
    """A cluster's workers as a crew. What takes time, preparing and sending images, is done beside the decisions."""

    def __init__(self, session: Session, view: View, cluster: Cluster) -> None:
        self.session, self.view, self.cluster = session, view, cluster
        trainings = session.trainings
        donor = (
            None if trainings.donor is None or trainings.donor.graph.arch is None else (trainings.donor.graph.arch, donor_file(session.run))
        )
        self._shared = Shared(trainings.data, trainings.recipe, trainings.seed, sorted(trainings.scored), donor)
        self._flights: dict[int, _Flight] = {}
        self._told: queue.SimpleQueue[tuple[_Flight, Any]] = queue.SimpleQueue()
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="tinynas-send")
        self._grace = GRACE + GRACE_SHARE * (session.settings.timeout or 0.0)
        self._alone = False

    def free(self) -> int:
        """What the workers that are there have room for."""
        room = self.cluster.slots() - len(self._flights)
        # Without a worker it is asked all the same whether the time is used.
        return room if self.session.clock.seconds_left() > 0 else max(1, room)

    def begin(self, job: Job) -> None:
        """Hand it to the engine, which chooses a worker, and another where that one is lost."""
        session = self.session
        arch = session.space.decode(job.genotype, session.classes)
        origin = parent_of(session, job)
        task = {**self._shared.task, "arch": _plain(arch), "epochs": session.plan.rungs[job.rung], "parent": origin and _plain(origin)}
        flight = self._flights[job.number] = _Flight(job, task, arch)
        self._senders.submit(self._launch, flight, origin)

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """What came back; who came and went is told on the way."""
        self._look()
        answers: list[tuple[_Flight, Any]] = []
        with contextlib.suppress(queue.Empty):
            answers.append(self._told.get(timeout=seconds))
            while True:
                answers.append(self._told.get_nowait())
        done = []
        for flight, answer in answers:
            outcome = None if flight.dropped else self._outcome(flight, answer)
            if outcome is not None:
                del self._flights[flight.job.number]
                done.append((flight.job, outcome))
        if self.session.clock.seconds_left() < -self._grace:
            done += self._late()
        self.view.refresh()
        self.view.emit("tick")
        return done

    def close(self) -> None:
        """Nobody waits any more for what is under way: workers leave it after the epoch."""
        for flight in self._flights.values():
            flight.dropped = True
            if flight.future is not None:
                with contextlib.suppress(Exception):
                    flight.future.cancel()
        self._senders.shutdown(wait=False, cancel_futures=True)

    def _launch(self, flight: _Flight, origin: Arch | None) -> None:
        # In a thread of its own.
        session, trainings = self.session, self.session.trainings
        try:
            self.cluster.bring(self._shared.files(flight.arch, trainings.recipe))
            left = session.clock.seconds_left()
            task = json.dumps({**flight.task, "seconds": None if session.clock.deadline is None else left})
            states = [None if arch is None else _content(trainings.state_file(arch.id)) for arch in (flight.arch, origin)]
            if flight.dropped:
                return
            flight.future = self.cluster.client.submit(_on_worker, "train", task, *states, pure=False)
            flight.future.add_done_callback(lambda future: self._told.put((flight, _result(future))))
        except Exception as error:
            self._told.put((flight, error))

    def _outcome(self, flight: _Flight, answer: Any) -> Outcome | None:
        """What a training came to; None where it begins again."""
        flight.future = None
        if isinstance(answer, Exception):
            raise self._wrong(flight, answer)
        text, state = answer
        said = json.loads(text)
        if "versions" in said:
            self.cluster.check(said["versions"], "that took a training")
        if "lacking" in said:
            # A machine that came meanwhile, or lost what it had.
            flight.sendings += 1
            if flight.sendings > SENDINGS:
                raise _loses()
            self.cluster.forget()
            origin = flight.task["parent"] and Arch.model_validate(flight.task["parent"])
            self._senders.submit(self._launch, flight, origin)
            return None
        if "unwanted" in said:
            return Outcome(0, 0, {}, 0.0, 0)
        outcome = remote.outcome_in(_said(said))
        if outcome.new_images and state is not None:
            # Before its result is recorded: a kill between the two loses nothing.
            write_atomic(self.session.trainings.state_file(flight.arch.id), state)
        return outcome

    def _wrong(self, flight: _Flight, error: Exception) -> TinynasError:
        if isinstance(error, TinynasError):
            return error
        if isinstance(error, ImportError | AttributeError):
            return self.cluster._cannot("that took a training", f"it has no tinynas of this version ({error})")
        if type(error).__name__.endswith("CancelledError"):
            return self.cluster.gone()
        return InternalError(f"the training of {flight.job.net} on the cluster: {type(error).__name__}: {error}", ENDED)

    def _look(self) -> None:
        came, went = self.cluster.look()
        for address in sorted(went):
            self.view.emit("worker", f"worker {address} is gone; another takes its training over")
        if came and self._flights:
            self.view.emit("worker", f"{counted(len(came), 'worker')} came")
        self.view.workers = min(self.cluster.slots(), len(self._flights))
        if self.cluster.slots() == 0 and not self._alone:
            self.view.emit("worker", "no worker is left: waiting for one to come")
        self._alone = self.cluster.slots() == 0

    def _late(self) -> list[tuple[Job, Outcome]]:
        late = list(self._flights.values())
        self._flights.clear()
        for flight in late:
            flight.dropped = True
            if flight.future is not None:
                flight.future.cancel()
        if late:
            text = f"{counted(len(late), 'training')} did not end in time: ended; --resume continues them"
            self.view.emit("worker", text)
        return [(flight.job, Outcome(0, 0, {}, 0.0, 0)) for flight in late]


def _result(future: Any) -> Any:
    try:
        return future.result()
    except BaseException as error:
        if type(error).__name__ == "KilledWorker":
            # Dask has tried others; whoever takes it dies.
            dead = Outcome(0, 0, {}, 0.0, 0, "its workers died one after the other while training it (out of memory?)")
            return json.dumps({"outcome": asdict(dead)}), None
        return error if isinstance(error, Exception) else RuntimeError(repr(error))


def _said(answer: str | dict[str, Any]) -> dict[str, Any]:
    """What a worker answered. Raises RunError for a fault that it found."""
    said: dict[str, Any] = json.loads(answer) if isinstance(answer, str) else answer
    if "error" in said:
        message, hint = said["error"]
        raise RunError(f"a worker of the cluster stopped: {message}", hint or ENDED)
    return said


def _loses() -> RunError:
    return RunError("a machine of the cluster keeps losing the images that are sent to it", "see that nobody empties its TINYNAS_CACHE")


def _plain(arch: Arch) -> dict[str, Any]:
    return arch.model_dump(mode="json")


def _digest(path: Path) -> str:
    found = path.stat()
    return remote.digest_of(path, found.st_mtime_ns, found.st_size)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
