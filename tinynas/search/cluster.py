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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynas.arch import Arch
from tinynas.data.replica import files_of, pack
from tinynas.errors import InternalError, MissingExtraError, RunError, TinynasError, UserError, counted
from tinynas.files import write_atomic
from tinynas.recipe import Augment, Recipe
from tinynas.search import remote
from tinynas.search.crew import parent_of
from tinynas.search.prepare import Session, donor_file
from tinynas.search.processes import GRACE, GRACE_SHARE
from tinynas.search.study import Job
from tinynas.search.training import Outcome
from tinynas.search.view import View

if TYPE_CHECKING:
    from tinynas.adapt.candidates import Candidates
    from tinynas.data import DataSet

#: Seconds in which a scheduler must answer, in which its first worker must come, and in which a worker answers a question.
ANSWER_SECONDS = 10.0
FIRST_SECONDS = 60.0
#: Seconds in which one of the first workers must say who it is. It imports PyTorch before: 2 s, and minutes where a machine is busy.
HELLO_SECONDS = 240.0
#: Seconds in which a worker must have measured its training speed: a few where it is not busy with others' work.
PACE_SECONDS = 300.0
#: Seconds between two looks at who is there.
LOOK = 1.0
#: Bytes that are sent at once.
PIECE = 8 << 20
#: How often files are sent to a machine that keeps losing them.
SENDINGS = 3
#: How often a worker that cannot be asked, and was not seen to go, is asked again.
TRIES = 15
#: How often the workers may die that a training is for, where others were refused: as Dask counts where none were.
LOSSES = 3
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
    silent: Any = None
    """A question that it did not answer in time."""
    sending: threading.Lock = field(default_factory=threading.Lock)

    def answers(self) -> bool:
        """True where it may be asked: it has workers, and owes no answer."""
        if self.silent is not None and self.silent.done():
            self.silent = None
        return bool(self.workers) and self.silent is None

    def needs(self, files: Iterable[str]) -> bool:
        """True where some of ``files`` were not seen to be there, and it may be asked."""
        return not self.files.issuperset(files) and self.answers()


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
        #: workers that were asked who they are, and have not answered
        self._greeted: dict[str, Any] = {}
        #: greetings that failed, by worker
        self._failed: dict[str, int] = {}
        #: workers that cannot train for this search, and why
        self._refused: dict[str, UserError] = {}
        self._to_tell: list[UserError] = []
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
        """Workers that came, and that went, since the last look. Raises RunError where the scheduler is gone.

        Who comes is asked who it is, and nobody waits for the answer: decisions go on while a worker imports what it needs, or hangs.
        """
        if time.monotonic() - self._looked < LOOK:
            return set(), set()
        self._looked = time.monotonic()
        if self.client.status != "running":
            raise self.gone()
        try:
            # Not scheduler_info: the client writes what that returns anew every two seconds, without workers, and it may be read just then.
            found = self.client.nthreads()
        except OSError:
            return set(), set()  # it is slow, or gone: its stream says so
        except Exception as error:
            raise self.gone() from error
        went, came = set(self._workers) - set(found), set()
        for address in went:
            machine = self._machines[self._workers.pop(address)[1]]
            with self._lock:
                machine.workers.discard(address)
        for known in (self._greeted, self._failed, self._refused):
            for address in set(known) - set(found):
                del known[address]
        for address in sorted(set(found) - set(self._workers) - set(self._refused)):
            try:
                name = self._greet(address)
            except UserError as error:
                self._greeted.pop(address, None)
                self._refused[address] = error
                self._to_tell.append(error)
                continue
            if name is None:
                continue
            del self._greeted[address]
            with self._lock:
                self._machines.setdefault(name, _Machine()).workers.add(address)
            self._workers[address] = int(found[address]), name
            came.add(address)
        return came, went

    def refused(self) -> list[UserError]:
        """Why workers that came cannot train for this search, each told once. Nothing is given to them."""
        told, self._to_tell = self._to_tell, []
        return told

    def only(self, ready: list[str]) -> list[str] | None:
        """The workers that a training is for that needs what ``ready`` have; None: whoever is there, because these are all."""
        return ready if self._refused or ready != self.there() else None

    def there(self) -> list[str]:
        """The workers that can train."""
        return sorted(self._workers)

    def answers(self) -> bool:
        """Whether any machine may be asked for something."""
        with self._lock:
            return any(machine.answers() for machine in self._machines.values())

    def gone(self) -> RunError:
        """The scheduler does not answer any more."""
        return RunError(f"--cluster {self.place.address}: its scheduler does not answer any more", f"start it again, then {ENDED}")

    def _greet(self, address: str) -> str | None:
        """The machine of a worker; None where it has not answered yet. Raises UserError where it cannot train."""
        future = self._greeted.get(address)
        if future is None:
            future = self._greeted[address] = self.client.submit(_on_worker, "hello", workers=[address], pure=False)
        if not future.done():
            return None
        try:
            answer = json.loads(future.result(timeout=LOOK))
        except TimeoutError:
            return None  # what it said is still with it
        except (ImportError, AttributeError) as error:
            raise self._cannot(address, lacks(error)) from None
        except Exception as error:
            # It went, and is missed at the next look; or it cannot, and then says so each time.
            del self._greeted[address]
            self._failed[address] = tries = self._failed.get(address, 0) + 1
            if tries > TRIES:
                raise self._cannot(address, f"it fails when it is asked who it is ({type(error).__name__}: {error})") from error
            return None
        if "error" in answer:
            raise self._cannot(address, answer["error"][0])
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
        began = time.monotonic()
        while True:
            self._looked = 0.0
            self.look()
            if self._workers:
                return
            waited = time.monotonic() - began
            if self._refused and (not self._greeted or waited > HELLO_SECONDS):
                raise next(iter(self._refused.values()))
            if not self._greeted and not self._failed and waited > FIRST_SECONDS:
                raise UserError(
                    f"--cluster {self.place.address}: no worker came in {FIRST_SECONDS:.0f} s",
                    "start some: dask worker ADDRESS --nthreads 1 --nworkers CORES",
                )
            if waited > HELLO_SECONDS:
                silent = sorted({*self._greeted, *self._failed})
                raise UserError(
                    f"--cluster {self.place.address}: {counted(len(silent), 'worker')} did not answer in {HELLO_SECONDS:.0f} s: "
                    f"{', '.join(silent[:5])}",
                    "they hang, or are busy with other work: look at what they print, or start them anew",
                )
            time.sleep(LOOK / 4)

    # what they need ---------------------------------------------------------------------------------

    def bring(self, files: dict[str, Path]) -> list[str]:
        """Have ``files``, by the names that tasks call them, on all machines; only what is not there is sent. The workers that have them.

        Raises TinynasError where a machine has no room for them. A machine that hangs, or goes meanwhile, is left out.
        """
        with self._lock:
            lacking = {name: machine for name, machine in self._machines.items() if machine.needs(files)}
        for name, machine in lacking.items():
            with machine.sending:
                if machine.needs(files):
                    self._send(name, machine, files)
        with self._lock:
            return sorted(worker for machine in self._machines.values() if machine.files.issuperset(files) for worker in machine.workers)

    def forget(self) -> None:
        """Look again what lies where: something was not."""
        with self._lock:
            for machine in self._machines.values():
                machine.files.clear()

    def _send(self, name: str, machine: _Machine, files: dict[str, Path]) -> None:
        asked = {file: (path.stat().st_size, _digest(path)) for file, path in files.items()}
        tries = 0
        while machine.workers and not self._closing.is_set():
            try:
                for file in _said(self._ask(machine, "lacking", json.dumps(asked)))["names"]:
                    self._send_file(machine, file, files[file], *asked[file])
                    self.sent.append((name, file, asked[file][0]))
                machine.files |= set(files)
                return
            except TinynasError:
                raise
            except TimeoutError:
                # It hangs: others need not wait for it.
                return
            except Exception:
                # It died, or is about to be found dead; another of its machine may go on.
                tries += 1
                if tries > TRIES:
                    raise
                time.sleep(LOOK)

    def _send_file(self, machine: _Machine, name: str, path: Path, size: int, digest: str) -> None:
        token, offset = uuid.uuid4().hex[:8], 0
        with path.open("rb") as file:
            while chunk := file.read(PIECE):
                # Through the scheduler to a worker, and not into a task that it would keep.
                [piece] = self.client.scatter([chunk], workers=sorted(machine.workers)[:1], hash=False)
                _said(self._ask(machine, "receive", name, token, offset, piece, size, digest))
                offset += len(chunk)

    def _ask(self, machine: _Machine, what: str, *given: Any) -> str:
        """What a machine answers: the first of its workers that has time, before any training that waits.

        Raises _GoneError where they went or the search ends, TimeoutError where they hang: it is :attr:`_Machine.silent` then.
        """
        among = sorted(machine.workers)
        if not among:
            raise _GoneError
        future = self.client.submit(_on_worker, what, *given, workers=among, pure=False, priority=1)
        end = time.monotonic() + FIRST_SECONDS
        while True:
            try:
                return str(future.result(timeout=LOOK))
            except TimeoutError:
                if self._closing.is_set() or machine.workers.isdisjoint(among):
                    raise _GoneError from None
                if time.monotonic() > end:
                    machine.silent = future
                    raise

    # trainings --------------------------------------------------------------------------------------

    def seconds_per_image(self, data: DataSet, recipe: Recipe, seed: int, arch: Arch) -> float:
        """Measured training seconds of one image of ``arch`` on a worker. Raises as :meth:`bring`."""
        shared = Shared(data, recipe, seed)
        for _ in range(SENDINGS):
            ready = self.bring(shared.files(arch, recipe))
            task = json.dumps({**shared.task, "arch": _plain(arch)})
            answer = json.loads(self._measured(task, ready or None))
            if "lacking" not in answer:
                return float(_said(answer)["seconds"])
            self.forget()
        raise _loses()

    def _measured(self, task: str, workers: list[str] | None) -> str:
        """What one of ``workers`` answered of its pace. Raises UserError where none does, RunError where the scheduler ended."""
        future = self.client.submit(_on_worker, "pace", task, workers=workers, pure=False)
        end = time.monotonic() + PACE_SECONDS
        while True:
            try:
                return str(future.result(timeout=LOOK))
            except TimeoutError:
                self.look()
                if time.monotonic() > end:
                    future.cancel()
                    raise UserError(
                        f"--cluster {self.place.address}: no worker measured its training speed in {PACE_SECONDS:.0f} s",
                        "its workers hang, or are busy with other work: look at what they print, or start them anew",
                    ) from None
            except (ImportError, AttributeError) as error:
                raise self._cannot("that was to measure its speed", lacks(error)) from None
            except Exception as error:
                if is_cancelled(error):
                    raise self.gone() from None
                raise


class Shared:
    """What all trainings of a search have in common, and the files of it that machines must have."""

    def __init__(
        self,
        data: DataSet,
        recipe: Recipe,
        seed: int,
        scored: Sequence[str] = (),
        donor: tuple[Arch, Path] | None = None,
        candidates: Candidates | None = None,
    ) -> None:
        self.data, self._new = data, None if candidates is None else candidates.new
        self._files: dict[str, Path] = {}
        self.task: dict[str, Any] = {
            "versions": remote.versions(),
            "data": self._packed(data),
            "fingerprint": data.fingerprint,
            "recipe": recipe.model_dump(mode="json"),
            "seed": seed,
            "scored": sorted(scored),
            "donor": None,
            "learns": None,
        }
        if donor is not None:
            file = f"packed/{_digest(donor[1])[:24]}.safetensors"
            self._files[file] = donor[1]
            self.task["donor"] = {"arch": _plain(donor[0]), "file": file}
        if candidates is not None:
            self.task["learns"] = {
                "adaptation": candidates.adaptation.model_dump(mode="json"),
                "board": candidates.board.to_yaml(),
                "data": self._packed(candidates.new),
                "fingerprint": candidates.new.fingerprint,
            }

    def _packed(self, data: DataSet) -> str:
        """The file of what must be known of ``data``, named by what it holds: the same data is written, and sent, once."""
        content = pack(data)
        name = f"packed/{hashlib.sha256(content).hexdigest()[:24]}.safetensors"
        if not (data.cache / name).exists():
            write_atomic(data.cache / name, content)
        self._files[name] = data.cache / name
        return name

    def files(self, arch: Arch, recipe: Recipe) -> dict[str, Path]:
        """All that the training of ``arch`` reads, by name; inputs that are not in the cache yet are made."""
        found = self._inputs(self.data, arch, recipe.augment)
        if self._new is not None:
            found |= self._inputs(self._new, arch, Augment(kind="none"))  # learned as they are
        return self._files | found

    def _inputs(self, data: DataSet, arch: Arch, augment: Augment) -> dict[str, Path]:
        return {path.relative_to(data.cache).as_posix(): path for path in files_of(data, arch.input, augment)}


@dataclass
class _Flight:
    job: Job
    task: dict[str, Any]
    arch: Arch
    future: Any = None
    sendings: int = 0
    """How often a worker lacked files that were seen to be with it."""
    lacked: bool = False
    """A worker took it that had come just then: it is for those that have what it needs."""
    dropped: bool = False
    strays: int = 0
    """How often a worker took it that cannot train, before that was known."""
    lost: int = 0
    """How often all workers that it was for went."""
    allowed: list[str] | None = None
    """The workers that it is for; None: any."""


class Workers:
    """A cluster's workers as a crew. What takes time, preparing and sending images, is done beside the decisions."""

    def __init__(self, session: Session, view: View, cluster: Cluster) -> None:
        self.session, self.view, self.cluster = session, view, cluster
        trainings = session.trainings
        donor = (
            None if trainings.donor is None or trainings.donor.graph.arch is None else (trainings.donor.graph.arch, donor_file(session.run))
        )
        self._shared = Shared(trainings.data, trainings.recipe, trainings.seed, sorted(trainings.scored), donor, trainings.candidates)
        self._flights: dict[int, _Flight] = {}
        #: (training, task, answer)
        self._told: queue.SimpleQueue[tuple[_Flight, Any, Any]] = queue.SimpleQueue()
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="tinynas-send")
        self._grace = GRACE + GRACE_SHARE * (session.settings.timeout or 0.0)
        self._alone = self._mute = False

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
        self._flights[job.number] = _Flight(job, task, arch)
        self._send_off(self._flights[job.number])

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """What came back; who came and went is told on the way."""
        self._look()
        answers: list[tuple[_Flight, Any, Any]] = []
        with contextlib.suppress(queue.Empty):
            answers.append(self._told.get(timeout=seconds))
            while True:
                answers.append(self._told.get_nowait())
        done = []
        for flight, future, answer in answers:
            # What was sent off anew since, or is not waited for any more, has nothing to tell.
            outcome = None if flight.dropped or flight.future is not future else self._outcome(flight, answer)
            if outcome is not None:
                del self._flights[flight.job.number]
                flight.dropped = True
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

    def _send_off(self, flight: _Flight) -> None:
        flight.future = flight.allowed = None
        self._senders.submit(self._launch, flight)

    def _launch(self, flight: _Flight) -> None:
        # In a thread of its own.
        session, trainings = self.session, self.session.trainings
        try:
            ready = self.cluster.bring(self._shared.files(flight.arch, trainings.recipe))
            left = session.clock.seconds_left()
            task = json.dumps({**flight.task, "seconds": None if session.clock.deadline is None else left})
            origin = flight.task["parent"] and Arch.model_validate(flight.task["parent"])
            states = [None if arch is None else _content(trainings.state_file(arch.id)) for arch in (flight.arch, origin)]
            allowed = ready if flight.strays or flight.lacked else self.cluster.only(ready)
            if flight.dropped:
                return
            if allowed == []:
                # For nobody who is there: it is sent off when somebody comes.
                flight.allowed = allowed
                return
            future = flight.future = self.cluster.client.submit(_on_worker, "train", task, *states, workers=allowed, pure=False)
            flight.allowed = allowed
            if flight.dropped:  # meanwhile: nobody waits for it
                future.cancel()
            future.add_done_callback(lambda done: self._told.put((flight, future, _result(done))))
        except Exception as error:
            self._told.put((flight, None, error))

    def _outcome(self, flight: _Flight, answer: Any) -> Outcome | None:
        """What a training came to; None where it begins again."""
        if isinstance(answer, ImportError | AttributeError):
            self._strayed(flight, self._wrong(flight, answer))
            return None
        if isinstance(answer, Exception):
            raise self._wrong(flight, answer)
        text, state = answer
        said = json.loads(text)
        if "versions" in said:
            try:
                self.cluster.check(said["versions"], "that took a training")
            except UserError as error:
                self._strayed(flight, error)
                return None
        if "lacking" in said:
            if flight.allowed is not None:
                flight.sendings += 1  # whoever took it lost what it had
            if flight.sendings > SENDINGS:
                raise _loses()
            flight.lacked = True
            self.cluster.forget()
            self._send_off(flight)
            return None
        if "unwanted" in said:
            return Outcome(0, 0, {}, 0.0, 0)
        outcome = remote.outcome_in(_said(said))
        if outcome.new_images and state is not None:
            # Before its result is recorded: a kill between the two loses nothing.
            write_atomic(self.session.trainings.state_file(flight.arch.id), state)
        return outcome

    def _strayed(self, flight: _Flight, error: TinynasError) -> None:
        """Send a training off anew that a worker took which cannot train: to those that are known to. Raises ``error`` where it goes on."""
        flight.strays += 1
        if flight.strays > TRIES:
            raise error
        self._send_off(flight)

    def _wrong(self, flight: _Flight, error: Exception) -> TinynasError:
        if isinstance(error, TinynasError):
            return error
        if isinstance(error, ImportError | AttributeError):
            return self.cluster._cannot("that took a training", lacks(error))
        if is_cancelled(error):
            return self.cluster.gone()
        return InternalError(f"the training of {flight.job.net} on the cluster: {type(error).__name__}: {error}", ENDED)

    def _look(self) -> None:
        came, went = self.cluster.look()
        for address in sorted(went):
            self.view.emit("worker", f"worker {address} is gone; another takes its training over")
        if came and self._flights:
            self.view.emit("worker", f"{counted(len(came), 'worker')} came")
        for error in self.cluster.refused():
            self.view.emit("worker", f"{error.message}: nothing is given to it")
        if there := set(self.cluster.there()):
            answers = self.cluster.answers()
            for flight in self._flights.values():
                if flight.allowed is not None and there.isdisjoint(flight.allowed) and answers:
                    self._send_again(flight)
            if not answers and not self._mute:
                self.view.emit("worker", "no machine takes images: waiting for one to answer")
            self._mute = not answers
        self.view.workers = min(self.cluster.slots(), len(self._flights))
        if self.cluster.slots() == 0 and not self._alone:
            self.view.emit("worker", "no worker is left: waiting for one to come")
        self._alone = self.cluster.slots() == 0

    def _send_again(self, flight: _Flight) -> None:
        """Send a training off anew whose workers all went: the engine would keep it for them."""
        stranded, flight.future = flight.future, None
        flight.lost += stranded is not None
        if stranded is not None:
            with contextlib.suppress(Exception):
                stranded.cancel()
        if flight.lost > LOSSES:
            flight.allowed = None
            self._told.put((flight, None, _dead()))
        else:
            self._send_off(flight)

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


def lacks(error: Exception) -> str:
    """Why a worker fails that cannot import what it is asked for."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None and not error.name.startswith("tinynas"):
        return f"it has no {error.name}"
    return f"it has no tinynas of this version ({error})"


def is_cancelled(error: BaseException) -> bool:
    """True for what a task raises that ended with its scheduler."""
    return type(error).__name__.endswith("CancelledError")


def _result(future: Any) -> Any:
    try:
        return future.result()
    except BaseException as error:
        if type(error).__name__ == "KilledWorker":
            return _dead()  # Dask has tried others; whoever takes it dies
        return error if isinstance(error, Exception) else RuntimeError(repr(error))


def _dead() -> tuple[str, None]:
    dead = Outcome(0, 0, {}, 0.0, 0, "its workers died one after the other while training it (out of memory?)")
    return json.dumps({"outcome": asdict(dead)}), None


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
