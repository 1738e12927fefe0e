"""What the candidates of a search reach after learning on the board: the score ``adapted_accuracy``.

A candidate that was trained to a rung is folded as it stands and learns, as a board would, images of classes that it was not trained on:
those that ``data.held_out`` keeps aside, or another data set. The score is the mean of two accuracies behind that: of the new validation
images, and of the validation images of what it knew, told apart among all classes; so neither forgetting everything nor learning nothing
pays. With a head of new classes alone (``learning.head: replace``) there is only the first. Test images are not looked at.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, Self

from pydantic import Field, field_serializer, model_validator

from tinynas import __version__
from tinynas.adapt.budget import Learning, UpdateBudget
from tinynas.adapt.learner import LostLearning
from tinynas.adapt.learning import learn
from tinynas.adapt.schemes import Scheme, scheme_named
from tinynas.adapt.tasks import Learnable, make_task
from tinynas.arch import Arch
from tinynas.budget import LEARNING, Budget
from tinynas.config import Bytes, Config, format_size, n_bytes, yaml_size
from tinynas.cost.board_update import BoardUpdate
from tinynas.cost.front_end import front_end_cost
from tinynas.cost.runtimes import why_no_update
from tinynas.data import DataOptions, DataSet, open_data
from tinynas.data.sources import HUB
from tinynas.errors import BudgetError, DataError, TinynasError, UserError, counted
from tinynas.files import write_atomic
from tinynas.model import Network
from tinynas.quantize import fold
from tinynas.records import ADAPTED, ADAPTED_PARTS


class Adaptation(Config):
    """What candidates learn, and how; asked for by the objective ``adapted_accuracy``."""

    data: str | None = None
    """A data set on this computer whose training images are learned; none: the classes of ``data.held_out``."""
    data_options: DataOptions = DataOptions()
    """How it is read."""
    scheme: str | None = None
    """One of ``tinynas adapt``'s schemes; none: the update of the board's budget, or ``last`` where that names none."""
    ram: Bytes | None = None
    """RAM of inference and learning together; none: what the board's budget has for it."""
    extra: Bytes | None = None
    """RAM that learning may take beside inference."""
    macs: Annotated[int, Field(ge=1)] | None = None
    """MACs of a step."""
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Updated parameters of all."""
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """Learnings whose mean is the score, each with images and an order of its own."""
    learning: Learning = Learning(epochs=5, images=20, replay=2)
    """How the board learns: as in an update budget, but short."""

    @field_serializer("ram", "extra", when_used="json")
    def _with_unit(self, size: int | None) -> str | None:
        return None if size is None else yaml_size(size)  # as it is read back

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.scheme is not None:
            try:
                scheme_named(self.scheme)
            except UserError as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
        if self.data is not None and self.data.startswith((HUB, "//", "\\\\")):
            raise ValueError(f"data: {self.data} is not on this computer: fetch it first, and give its folder")
        return self


class OutOfTime(TinynasError):
    """The time of the search ended in the middle of a learning; it is done again by whoever goes on."""


def with_room(board: Budget, adaptation: Adaptation) -> Budget:
    """``board`` with an update: its own, or the least that ``adaptation`` takes, so that nothing without room for it is trained.

    Raises UserError where the board's update is learned otherwise than ``adaptation`` says.
    """
    learning = adaptation.learning
    told = {"arithmetic": learning.arithmetic, "batch": learning.batch, "momentum": learning.momentum}
    if board.update is not None:
        for name, value in told.items():
            if (known := getattr(board.update, name)) != value:
                raise UserError(
                    f"adapt.learning.{name} {value}: the update of {board.name} has {known}", "say the same in both: memory goes by it"
                )
        return board
    if (why := why_no_update(board.runtime)) is not None:
        raise UserError(f"{board.name}: nothing can be learned there: {why}", "give another budget, or another objective")
    room = int(board.limits["sram_bytes"])
    if adaptation.ram is not None and adaptation.ram > room:
        raise UserError(
            f"adapt.ram: {format_size(adaptation.ram)} is more than the {format_size(room)} that {board.name} has",
            "give less, or leave it out",
        )
    update = BoardUpdate.model_validate({"scheme": "classifier", **told})
    return board.model_copy(update={"update": update, "update_sram": adaptation.ram})


def open_new(adaptation: Adaptation, data: DataSet, *, seed: int) -> DataSet:
    """What is learned: the classes that ``data`` holds out, or another data set. Raises DataError, and UserError where both or none is
    named."""
    if (adaptation.data is None) == (data.held_out is None):
        problem = (
            "both held-out classes and other data are named" if adaptation.data is not None else "nothing is named that is to be learned"
        )
        raise UserError(
            f"the objective {ADAPTED}: {problem}", "give one of --adapt-data D and --set data.held_out=[LABEL,...] (classes of --data)"
        )
    new = data.held_out
    if adaptation.data is not None:
        new = open_data(adaptation.data, seed=seed, options=adaptation.data_options)
        if new.signal.kind != data.signal.kind:
            raise DataError(f"{new.name}: holds {new.signal.kind}s, and {data.name} {data.signal.kind}s", "give data of one kind")
    assert new is not None
    for split in ("train", "val"):
        if none := [label for label, count in new.counts(split).items() if not count]:
            raise DataError(f"{new.name}: has no {split} images of {none[0]}", "give more of them: candidates learn and are judged by them")
    return new


@dataclass
class Candidates:
    """Scores candidates of one search."""

    adaptation: Adaptation
    board: Budget
    new: DataSet
    old: DataSet
    seed: int
    folder: Path
    """Where scores are kept until they are recorded."""
    pace: float = 0.0
    """Seconds a MAC of the network that the slowest learning so far took: what is kept back of the time for the next."""
    _update: BoardUpdate | None = field(init=False)

    def __post_init__(self) -> None:
        self._update = self.board.update

    @property
    def scheme(self) -> Scheme:
        """Who chooses what is updated."""
        update = self._update
        if self.adaptation.scheme is not None:
            return scheme_named(self.adaptation.scheme)
        assert update is not None  # with_room
        if update.scheme == "classifier":
            return scheme_named("last")
        return Scheme("update", update.words(), lambda scene: scene.with_base(update.of(scene.graph)), reference=True)

    def budget(self, arch: Arch, classes: int) -> UpdateBudget:
        """What learning may take beside or with the network ``arch``."""
        one, ram = self.adaptation, int(self.board.limits[LEARNING])
        if arch.front_end is not None:
            ram -= front_end_cost(arch.front_end, classes, core=self.board.core).sram_bytes
        return UpdateBudget(
            name=self.board.name[:60] or "board",
            runtime=self.board.runtime,
            core=self.board.core,
            ram=n_bytes(min(ram, ram if one.ram is None else one.ram)),
            extra=one.extra,
            macs=one.macs,
            share=one.share,
            learning=one.learning,
        )

    def words(self) -> str:
        """What the score is, for people."""
        learning, scheme = self.adaptation.learning, self.scheme
        images = f"{learning.images} images each" if learning.images else "all their images"
        again = f", {learning.replay} old images a class again" if learning.replay else ", no old images again"
        times = "" if self.adaptation.repeats == 1 else f", mean of {self.adaptation.repeats} learnings"
        of = "new classes alone" if learning.head == "replace" else "the mean of the new and the old classes' accuracy"
        return (
            f"Each candidate learns {', '.join(self.new.labels)} on the board ({images}{again}, {counted(learning.epochs, 'epoch')}, "
            f"{learning.mode}; {scheme.title}) within {self.board.limits[LEARNING] / 1024:.1f} KiB: {ADAPTED} is {of} on validation "
            f"images after that{times}."
        )

    def reserve(self, macs: float) -> float:
        """Seconds to keep back for the learning of a network of so many MACs."""
        return self.pace * macs

    def scores(
        self, network: Network, arch: Arch, epochs: int, *, macs: float, deadline: float | None
    ) -> tuple[dict[str, float], str | None]:
        """(the score and its parts, a remark) of a candidate trained for ``epochs``. A learning that is lost, or has no room, reaches
        nothing. Raises OutOfTime."""
        path = self.folder / f"{arch.id}.adapted.json"
        key = self._key(arch, epochs)
        if (known := _kept(path, key)) is not None:
            return known
        started = time.monotonic()
        try:
            found, remark = self._learned(network, arch, deadline), None
        except (LostLearning, BudgetError) as error:
            found, remark = {ADAPTED: 0.0}, error.message
        self.pace = max(self.pace, (time.monotonic() - started) / macs)
        write_atomic(path, json.dumps({"key": key, "scores": found, "remark": remark}) + "\n")
        return found, remark

    def _learned(self, network: Network, arch: Arch, deadline: float | None) -> dict[str, float]:
        floats = fold(network)
        budget, scheme = self.budget(arch, floats.graph.classes), self.scheme
        net = Learnable(arch.id, floats, self.old.labels, arch.id)

        def look(what: str, done: int, total: int) -> None:
            if deadline is not None and time.monotonic() > deadline and done < total:
                raise OutOfTime("the time of the search ended while a candidate learned")

        news, olds = [], []
        for repeat in range(self.adaptation.repeats):
            seed = self.seed + repeat
            task = make_task(net, self.new, self.old, budget.learning, seed=seed, judged="val")
            learned = learn(task, scheme, budget, seed=seed, on_epoch=look, followed=False)
            if not learned.fits and self.adaptation.scheme is None:
                raise BudgetError(f"no room to learn with the new classes: {budget.words(learned.cost)}")
            assert learned.after["new"] is not None
            news.append(learned.after["new"])
            olds += [] if learned.after["old"] is None else [learned.after["old"]]
        parts = dict(zip(ADAPTED_PARTS, [mean(news), *([mean(olds)] if olds else [])], strict=False))
        return {ADAPTED: mean(parts.values()), **parts}

    def _key(self, arch: Arch, epochs: int) -> str:
        board = {"update": self._update and self._update.model_dump(mode="json"), "ram": self.board.limits[LEARNING]}
        content: list[Any] = [__version__, arch.id, epochs, self.seed, self.adaptation.model_dump(mode="json"), board]
        content += [self.board.runtime, self.board.core, self.new.fingerprint, self.old.fingerprint]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _kept(path: Path, key: str) -> tuple[dict[str, float], str | None] | None:
    """What was measured before a kill; None where it is of something else, or damaged: it is simply measured again."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        scores = {str(name): float(value) for name, value in known["scores"].items()}
        remark = known["remark"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    whole = ADAPTED in scores and all(math.isfinite(value) and 0 <= value <= 1 for value in scores.values())
    return (scores, remark) if known.get("key") == key and whole and (remark is None or isinstance(remark, str)) else None
