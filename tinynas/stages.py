"""Stages: one network trained on one data set after the other, each time from the weights of before; resumable at any point.

All but the last stage lie in ``nets/<id>/stages/<number>-<name>/``, each with its weights, history and metrics; the last one is the
network's own training. Its history has the epochs of all stages, its metrics what each of them reached.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from tinynas.arch import Arch
from tinynas.config import Config, load, resolve
from tinynas.data import DataOptions, DataSet
from tinynas.data.sources import exists
from tinynas.errors import DataError, UserError, counted
from tinynas.promote import OnEvent, PromoteEvent, promote
from tinynas.recipe import Recipe, Stop
from tinynas.records import Promoted
from tinynas.runs import Run
from tinynas.weights import open_source

PREVIOUS = "previous"


class Stage(Config):
    """One training."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    """A word for people; it also names a folder."""
    data: Annotated[str, Field(min_length=1)]
    """The images, as ``--data`` takes them."""
    data_options: DataOptions = DataOptions()
    """How they are read, as ``--set data.KEY=VALUE`` takes it."""
    recipe: Recipe = Recipe()
    """How they are trained on. ``init: previous``, which goes without saying behind the first stage, are the weights of before."""
    stop: Stop | None = None
    """When the training ends before its last epoch."""


class Stages(Config):
    """Trainings one after the other."""

    name: str | None = None
    """A name for people."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=20)]
    """In their order."""

    @model_validator(mode="before")
    @classmethod
    def _from_before(cls, document: Any) -> Any:
        stages = document.get("stages") if isinstance(document, Mapping) else None
        if not isinstance(stages, (list, tuple)):
            return document
        filled = list(stages)
        for number, stage in enumerate(stages):
            recipe = stage.get("recipe", {}) if isinstance(stage, Mapping) else None
            if number and isinstance(recipe, Mapping) and recipe.get("init") is None:
                filled[number] = {**stage, "recipe": {**recipe, "init": PREVIOUS}}
        return {**document, "stages": filled}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages {', '.join(names)}: each needs a name of its own")
        if self.stages[0].recipe.init == PREVIOUS:
            raise ValueError(f"stage {names[0]}: is the first one: there are no weights of before")
        return self


def load_stages(name_or_path: str, overrides: Sequence[str] = ()) -> Stages:
    """The stages in a YAML file, or of a shipped name. Raises ConfigError with all faults at once."""
    return load(resolve(name_or_path, "stages"), Stages, overrides)


def promote_stages(
    run: Run,
    arch: Arch,
    stages: Stages,
    images: Sequence[DataSet],
    *,
    seed: int = 0,
    threads: int | None = None,
    on_event: OnEvent | None = None,
) -> Promoted:
    """Train ``arch`` through ``stages`` on ``images`` (one data set each), the last one in ``run`` itself; finished ones are known again.

    Raises what :func:`tinynas.promote.promote` raises.
    """
    final = arch.with_classes(max(2, len(images[-1].labels)))
    run.write_arch(final)
    earlier: list[tuple[str, list[dict[str, str]]]] = []
    reached: list[dict[str, Any]] = []
    before: str | None = None
    promoted: Promoted | None = None
    for number, (stage, data) in enumerate(zip(stages.stages, images, strict=True), 1):
        last = number == len(stages.stages)
        home = run if last else Run(run.net_dir(final.id) / "stages" / f"{number}-{stage.name}")
        own = arch.with_classes(max(2, len(data.labels)))
        home.write_arch(own)
        recipe = stage.recipe if threads is None else stage.recipe.model_copy(update={"threads": threads})
        known = None
        if recipe.init is not None:
            source = before if recipe.init == PREVIOUS else recipe.init
            assert source is not None
            known = open_source(source, pixels="auto" if recipe.init == PREVIOUS else recipe.init_pixels)
            if recipe.init == PREVIOUS:
                title = f"stage {number - 1} ({stages.stages[number - 2].name})"
                known = replace(known, title=title, labels=tuple(images[number - 2].labels))
        (promoted,) = promote(
            home,
            [own.id],
            data=data,
            recipe=recipe,
            seed=seed,
            known=known,
            stop=stage.stop,
            earlier=tuple(earlier) if last else (),
            stages=tuple(reached) if last else (),
            on_event=None if on_event is None else _named(on_event, f"stage {number} of {len(stages.stages)} ({stage.name})"),
        )
        text = home.train_csv(own.id).read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        earlier.append((str(number), rows))
        reached.append({"name": stage.name, **_facts(promoted)})
        before = str(home.weights_file(own.id))
    if promoted is None:
        raise UserError("there is no stage", "give at least one")
    return promoted


def _facts(promoted: Promoted) -> dict[str, Any]:
    names = ("id", "epochs", "best_epoch", "val_accuracy", "test_accuracy", "test_images", "seconds", "recipe", "init")
    return {name: promoted.to_json()[name] for name in names}


def _named(on_event: OnEvent, words: str) -> Callable[[PromoteEvent], None]:
    def tell(event: PromoteEvent) -> None:
        note = words if event.note is None else f"{words}; {event.note}"
        on_event(replace(event, note=note) if event.kind in ("started", "resumed") else event)

    return tell


def check_places(stages: Stages) -> None:
    """Raise DataError that names the data of every stage that are not there."""
    lacking = [f"stage {i} ({one.name}): {one.data}" for i, one in enumerate(stages.stages, 1) if not exists(Path(one.data).expanduser())]
    if lacking:
        raise DataError(
            f"{counted(len(lacking), 'stage')} of {len(stages.stages)} without data:" + "".join(f"\n  - {line}" for line in lacking),
            "prepare them (tinynas data prepare; a shipped file of stages says how at its beginning), or write where yours are into a copy",
        )


def open_stages(stages: Stages, opener: Callable[..., DataSet], *, seed: int = 0) -> list[DataSet]:
    """The images of each stage. Raises DataError that names all places where there is nothing, before any is opened."""
    check_places(stages)
    return [opener(str(Path(stage.data).expanduser()), seed=seed, options=stage.data_options) for stage in stages.stages]
