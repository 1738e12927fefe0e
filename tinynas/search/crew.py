"""Who trains what is decided: this process, one network after the other; or others, many at a time (:mod:`tinynas.search.cluster`)."""

from __future__ import annotations

import time
from typing import Protocol

from tinynas.arch import Arch
from tinynas.errors import TinynasError
from tinynas.search.prepare import Session
from tinynas.search.study import Job
from tinynas.search.training import Outcome, failed


class Crew(Protocol):
    """Trains networks for a worker, which decides and records."""

    def free(self) -> int:
        """How many more trainings can begin now."""

    def begin(self, job: Job) -> None:
        """Begin a training; it may be over when this returns. Raises TinynasError for what is not its network's fault."""

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """Trainings that came to an end, each told once; waits up to ``seconds`` for the first. Raises as :meth:`begin`."""


class Alone:
    """Trains in this process: one network at a time, reproducibly."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._ended: list[tuple[Job, Outcome]] = []

    def free(self) -> int:
        """One, unless a training's end was not told yet."""
        return 1 - len(self._ended)

    def begin(self, job: Job) -> None:
        """Train it."""
        session = self.session
        arch = session.space.decode(job.genotype, session.classes)
        try:
            outcome = session.trainings.train(
                arch,
                session.plan.rungs[job.rung],
                parent=parent_of(session, job),
                deadline=session.clock.deadline,
            )
        except TinynasError:
            raise
        except (MemoryError, OSError, RuntimeError, ValueError, ArithmeticError) as error:
            outcome = failed(error)
        self._ended.append((job, outcome))

    def ended(self, seconds: float) -> list[tuple[Job, Outcome]]:
        """What was trained; where nothing was, nobody else will end: it sleeps."""
        if not self._ended:
            time.sleep(seconds)
        told, self._ended = self._ended, []
        return told


def parent_of(session: Session, job: Job) -> Arch | None:
    """The network whose weights the training of ``job`` begins with; None where it begins otherwise, or goes on."""
    return session.run.arch(job.parent) if job.parent and job.rung == 0 and session.settings.inherit else None
