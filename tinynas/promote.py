"""Promote: full training of networks a search found. Resumable after a kill; the test split is read once, at the end.

Every finished epoch is on disk before the next begins: the trainer's state, and the weights of the best epoch so far
in a file of their own. The state is the truth: which epoch is best follows from the history in it, so a kill between
two writes loses at most the unfinished epoch. On a CPU the continued training gives the same bits.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tinynas import __version__, metrics
from tinynas.arch import Arch
from tinynas.config import build
from tinynas.data import DataSet, Split
from tinynas.data.splits import splits_digest
from tinynas.errors import RunError, UserError, counted
from tinynas.files import write_atomic
from tinynas.graph import Graph, few_bits, lower
from tinynas.model import read_tensors
from tinynas.recipe import Augment, Recipe, Stop
from tinynas.records import Promoted
from tinynas.runs import Run
from tinynas.several import choose_cuts, class_figures
from tinynas.train import EpochMetrics, EvalResult, Trainer, evaluate
from tinynas.train.group import barrier, process_group, rank
from tinynas.train.keeping import ask, settled
from tinynas.train.loop import deciding, free_epochs
from tinynas.train.quantised import Trained, load_trained, save_trained
from tinynas.weights import Begun, Known, begin, open_source, open_teacher
from tinynas.weights.teacher import NetTeacher

#: Of the images of a full training, what may go into asking whether augmentation keeps labels.
ASKING = 0.1


@dataclass(frozen=True)
class PromoteEvent:
    """What happened to one network."""

    kind: Literal["started", "resumed", "epoch", "done", "known"]
    """``resumed``: continues a killed training; ``known``: was promoted with these very settings before, nothing is trained."""
    id: str
    epoch: int
    """Epochs finished."""
    epochs: int
    """Epochs in all."""
    noun: str
    """What the network reads, in the singular: "image"."""
    metrics: EpochMetrics | None = None
    """Of the epoch just finished."""
    promoted: Promoted | None = None
    """With ``done`` and ``known``."""
    note: str | None = None
    """With ``started`` and ``resumed``: what the network itself asks of its training; with ``done``: where it came to less than in the
    search."""
    begun: Begun | None = None
    """With ``started``: what of ``recipe.init`` the training begins with."""


OnEvent = Callable[[PromoteEvent], None]


def promote(
    run: Run,
    ids: Sequence[str],
    *,
    data: DataSet,
    recipe: Recipe,
    seed: int = 0,
    on_event: OnEvent | None = None,
    on_note: Callable[[str], None] | None = None,
    known: Known | None = None,
    stop: Stop | None = None,
    earlier: Sequence[tuple[str, Sequence[Mapping[str, str]]]] = (),
    stages: tuple[dict[str, Any], ...] = (),
) -> list[Promoted]:
    """Train the networks ``ids`` of ``run`` with ``recipe``; write weights, history and metrics into the run.

    What the recipe's augmentation leaves open is as in the search; where that left it open, too, the data are asked
    (:mod:`tinynas.train.keeping`), and ``on_note`` hears what was found. A network that was promoted with the same recipe, seed and
    data, and the same weights to begin with and teacher, is not trained again. ``known``: what ``recipe.init`` holds, where it was
    opened already. ``stop`` ends a training before its last epoch. ``earlier``: rows of the histories of stages before this one, by
    their numbers, and ``stages`` what they reached (:mod:`tinynas.stages`). Raises RunError for unknown ids and unwritable folders,
    Diverged where the loss is no longer a number, UserError for weights and teachers that do not fit. Under ``torchrun`` all
    processes share the work and the run folder; the first one writes.
    """
    net_ids = list(dict.fromkeys(run.resolve_id(text) for text in ids))
    if known is None and recipe.init is not None:
        known = open_source(recipe.init, pixels=recipe.init_pixels)
    with process_group() as device:
        recipe = settled_recipe(run, data, recipe, seed, on_note)
        more = _More(known, stop, tuple(earlier), stages)
        return [_promote(run, net_id, data, recipe, seed, device, on_event, more) for net_id in net_ids]


def settled_recipe(run: Run, data: DataSet, recipe: Recipe, seed: int, on_note: Callable[[str], None] | None) -> Recipe:
    """``recipe`` in numbers: what is ``auto`` as the search had it, by its settings or by what it found, or as the data say now."""
    augment = as_searched(run, recipe.augment)
    answers = run.label_answers()
    seen = int(ASKING * recipe.epochs * min(recipe.subset or len(data.members["train"]), len(data.members["train"])))
    found, lines = ask(data, augment, answers, seed=seed, seen=seen)
    if rank() == 0:
        if found != answers and found.answers:
            run.write_label_answers(found)
        if on_note is not None:
            for line in lines:
                on_note(line)
    return recipe.model_copy(update={"augment": settled(augment, found.known())})


def as_searched(run: Run, augment: Augment) -> Augment:
    """``augment`` with the numbers that the run's search was begun with, where its own are ``auto``."""
    # A stage is a run without a search: the data of each stage are asked.
    settings = run.config.get("settings") if run.config_file.exists() else None
    searched = (settings or {}).get("recipe", {}).get("augment")
    if searched is None or searched.get("kind") != augment.kind:
        return augment
    before = build(searched, Augment, source=run.config_file)
    mine, theirs = ((a.light, a.wake_vision)[augment.kind == "wake-vision"] for a in (augment, before))
    open_ones = {name: getattr(theirs, name) for name, value in mine.model_dump().items() if value == "auto"}
    return augment.changed(light=open_ones) if augment.kind == "light" else augment.changed(wake_vision=open_ones)


@dataclass(frozen=True)
class _More:
    """What trainings have that do not stand alone."""

    source: Known | None
    stop: Stop | None
    earlier: tuple[tuple[str, Sequence[Mapping[str, str]]], ...]
    stages: tuple[dict[str, Any], ...]


def _promote(
    run: Run, net_id: str, data: DataSet, recipe: Recipe, seed: int, device: torch.device, on_event: OnEvent | None, more: _More
) -> Promoted:
    def tell(kind: Literal["started", "resumed", "epoch", "done", "known"], epoch: int, **more: object) -> None:
        if on_event is not None and rank() == 0:
            on_event(PromoteEvent(kind, net_id, epoch, recipe.epochs, graph.input.noun, **more))  # type: ignore[arg-type]

    arch = run.arch(net_id)
    graph = lower(arch)
    labels, source, stop = tuple(data.labels), more.source, more.stop
    if stop is not None and recipe.qat_epochs:
        raise UserError("stop: quantisation comes with the last epochs, which a rule to stop may leave out", "leave stop or qat_epochs out")
    teacher = None if recipe.teacher is None else open_teacher(recipe.teacher, labels, graph.input, pixels=recipe.teacher_pixels)
    settings = recipe_record(recipe, graph, data) | _files(source, teacher)
    if stop is not None:
        settings["stop"] = stop.model_dump(mode="json")
    if more.stages:
        settings["stages"] = len(more.stages) + 1
    asked = few_bits_note(graph, recipe)
    known = _known(run, net_id, graph)
    if known is not None and _deciding(known.recipe) == _deciding(settings) and known.seed == seed:
        if rank() == 0:
            run.restore_history(net_id, _kept_name(known))
        tell("known", known.epochs, promoted=known)
        return known
    checkpoint = _Checkpoint(run.checkpoint_dir(net_id), settings, seed)
    if checkpoint.state.exists():
        checkpoint.check_files(recipe)
    train = data.read_by(graph.input, "train")
    begun = None if source is None else begin(graph, source, labels, train.inputs, recipe, seed=seed, device=device)
    start = None if begun is None else begun.start
    trainer = Trainer(graph, train, data.read_by(graph.input, "val"), recipe, seed=seed, device=device, start=start, teacher=teacher)
    kept, put_by = None, list[str]()
    if known is not None and not checkpoint.state.exists() and rank() == 0:
        with run.finishing(net_id):
            kept = _keep(run, known)

    def write_history() -> None:
        """In :meth:`Run.finishing`: another training of the network may have ended meanwhile, and its history lies in that file."""
        put_by.extend(_keep_other(run, net_id, graph, settings, seed))
        write_atomic(run.train_csv(net_id), history_csv(trainer.history, more.earlier))

    told = [asked, kept, *(() if teacher is None else teacher.notes)]
    asked = "; ".join(text for text in told if text) or None
    if checkpoint.state.exists():
        trainer.load(checkpoint.state)
        if rank() == 0:  # a kill between the state and its row leaves the row out, and behind the last epoch no other comes
            with run.finishing(net_id):
                write_history()
        tell("resumed", trainer.epoch, note=asked)
    else:
        tell("started", 0, note=asked, begun=begun)
    barrier()  # nobody writes a state before everybody has read the old one

    def after_epoch(metrics: EpochMetrics) -> None:
        if rank() == 0:
            checkpoint.write(trainer)
            with run.finishing(net_id):
                write_history()
        tell("epoch", metrics.epoch, metrics=metrics)

    if stop is None:
        trainer.run(on_epoch=after_epoch)
    while stop is not None and trainer.epoch < recipe.epochs and not stop.reached([m.val_accuracy for m in trainer.history]):
        trainer.run(until_epoch=trainer.epoch + 1, on_epoch=after_epoch)
    barrier()
    promoted = _finish(run, arch, graph, trainer, checkpoint, data, settings, begun, more.stages, write_history)
    notes = [*dict.fromkeys(put_by), _behind(run, promoted, data)]
    tell("done", recipe.epochs, promoted=promoted, note="; ".join(text for text in notes if text) or None)
    return promoted


def _behind(run: Run, promoted: Promoted, data: DataSet) -> str | None:
    """What is said where the search had shown clearly more of the network, on the same validation images, than it comes to in full."""
    try:
        same = run.env.get("data") == data.fingerprint
        shown = [trial for trial in run.trials() if same and trial.id == promoted.id and trial.accuracy is not None]
    except RunError:  # a stage's folder has no search; where a search's record is damaged, the promotion is not
        return None
    best, now = max((trial.accuracy or 0.0 for trial in shown), default=0.0), promoted.val_accuracy
    error = math.sqrt((best * (1 - best) + now * (1 - now)) / len(data.members["val"]))
    if best - now <= error:
        return None
    images = max(trial.images for trial in shown)
    return (
        f"the search had shown {best:.1%} of it on validation, after {images:,} {data.signal.kind}s; this training comes to {now:.1%}: "
        "try more --epochs, or another --seed"
    )


def _known(run: Run, net_id: str, graph: Graph) -> Promoted | None:
    """What was promoted before, where record and weights are whole; damaged ones are made anew."""
    try:
        known = run.promoted(net_id)
        if known is not None:
            load_trained(graph, run.weights_file(net_id))
    except RunError:
        return None
    return known


def _keep(run: Run, known: Promoted) -> str:
    """Put by what was promoted with other settings: the new training takes its place. What is said of it."""
    folder = run.set_aside(known.id, _kept_name(known))
    return (
        f"its training of before ({counted(known.epochs, 'epoch')}, {known.val_accuracy:.1%} on validation) had other settings, "
        f"and is kept in {folder.relative_to(run.path)}"
    )


def _keep_other(run: Run, net_id: str, graph: Graph, settings: Mapping[str, object], seed: int) -> list[str]:
    """Put by what a training with other settings has promoted, where that is not done yet; what is said of it."""
    now = _known(run, net_id, graph)
    if now is None or (_deciding(now.recipe) == _deciding(settings) and now.seed == seed):
        return []
    new = not (run.net_dir(net_id) / "earlier" / _kept_name(now)).exists()
    said = _keep(run, now)
    return [said] if new else []


def _kept_name(known: Promoted) -> str:
    content = json.dumps([_deciding(known.recipe), known.seed], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _deciding(settings: Mapping[str, object]) -> dict[str, object]:
    # What data, weights and teachers are called says nothing: they are known by their content, wherever they lie.
    return {key: value for key, value in settings.items() if key not in ("data", "init", "teacher")}


#: Of the settings: digests of files, by the setting that names the file.
_DIGESTS = {"init": "init_sha256", "teacher": "teacher_sha256"}


def _files(source: Known | None, teacher: NetTeacher | None) -> dict[str, object]:
    found = {"init": source, "teacher": teacher}
    return {_DIGESTS[name]: one.sha256 for name, one in found.items() if one is not None}


def _finish(
    run: Run,
    arch: Arch,
    graph: Graph,
    trainer: Trainer,
    checkpoint: _Checkpoint,
    data: DataSet,
    settings: dict[str, object],
    begun: Begun | None,
    stages: tuple[dict[str, Any], ...],
    write_history: Callable[[], None],
) -> Promoted:
    best = best_epoch(trainer.history, trainer.recipe, graph)
    network = load_trained(graph, checkpoint.weights(best.epoch)).to(trainer.device)
    test = data.read_by(graph.input, "test")  # the only place where training code sees the test images
    result = evaluate(network, test, threads=trainer.recipe.threads)
    several = _several(data, graph, network, trainer.recipe.threads, test, result) if data.several else {}
    promoted = Promoted(
        id=arch.id,
        epochs=trainer.epoch,
        best_epoch=best.epoch,
        val_accuracy=best.val_accuracy,
        test_accuracy=result.accuracy,
        test_images=len(test.labels),
        seconds=round(sum(m.seconds for m in trainer.history), 3),
        seed=trainer.seed,
        recipe=settings,
        confusion=() if several else tuple(map(tuple, metrics.confusion(test.labels, result.logits.argmax(1), result.logits.shape[1]))),
        several=several,
        qat=trainer.recipe.qat_epochs > 0,
        init={} if begun is None else begun.to_json(),
        stages=stages,
    )
    if rank() == 0:
        metadata = {"tinynas": __version__, "arch": arch.id, "labels": json.dumps(data.labels), "epoch": str(best.epoch)}
        with run.finishing(arch.id):
            write_history()
            save_trained(network, run.weights_file(arch.id), metadata)
            run.write_promoted(promoted)  # last: a network with metrics is finished
        checkpoint.remove()
    barrier()
    return promoted


def _several(data: DataSet, graph: Graph, network: Trained, threads: int, test: Split, result: EvalResult) -> dict[str, Any]:
    """What there is to say of each class: thresholds (of logits) chosen on the validation part, figures of the test."""
    val = data.read_by(graph.input, "val")
    cuts = choose_cuts(data.labels, val.labels, evaluate(network, val, threads=threads).logits.astype(np.float64), 0.0)
    found = class_figures(cuts, test.labels, result.logits.astype(np.float64))
    for row, cut in zip(found["classes"], cuts, strict=True):
        row |= {"threshold": cut.threshold, "chosen_on": "val" if cut.chosen else None}
    return found


def few_bits_note(graph: Graph, recipe: Recipe) -> str | None:
    """One sentence where ``graph`` has weights of few bits: they are never rounded after a training in float."""
    layers = few_bits(graph)
    if not layers:
        return None
    first = free_epochs(recipe, graph) + 1
    bits = " and ".join(str(bits) for bits in sorted(set(layers.values())))
    layers_text = counted(len(layers), "layer")
    return f"weights of {bits} bits in {layers_text}: trained on grids with learned steps from epoch {first} on (recipe.few_bits_from)"


def best_epoch(history: Sequence[EpochMetrics], recipe: Recipe, graph: Graph) -> EpochMetrics:
    """The epoch with the highest validation accuracy (then the lowest validation loss, then the earliest).

    Where the last epochs train with quantisation in the loop, only they are eligible: their weights are on the int8 grid. So are, of a
    ``graph`` with weights of few bits, only the epochs with these on their grids.
    """
    first = recipe.epochs - recipe.qat_epochs if recipe.qat_epochs else free_epochs(recipe, graph)
    eligible = [m for m in history if m.epoch > first] or list(history)
    return max(eligible, key=lambda m: (m.val_accuracy, -m.val_loss, -m.epoch))


def history_csv(history: Sequence[EpochMetrics], earlier: Sequence[tuple[str, Sequence[Mapping[str, str]]]] = ()) -> str:
    """``train.csv``: one row an epoch; behind the epochs of ``earlier`` stages, numbered on, where there are any."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(EpochMetrics)]
    writer = csv.DictWriter(text, [*names, *(["stage"] if earlier else [])], lineterminator="\n")
    writer.writeheader()
    done = 0
    for number, rows in earlier:
        writer.writerows({**row, "epoch": done + index, "stage": number} for index, row in enumerate(rows, 1))
        done += len(rows)
    last = {"stage": len(earlier) + 1} if earlier else {}
    writer.writerows({**dataclasses.asdict(m), "epoch": done + m.epoch, "seconds": round(m.seconds, 3), **last} for m in history)
    return text.getvalue()


def recipe_record(recipe: Recipe, graph: Graph, data: DataSet) -> dict[str, object]:
    """The settings that decide the result for ``graph``, as they are written into ``metrics.json``."""
    known = {"data": data.name, "data_fingerprint": data.fingerprint, "data_splits": splits_digest(data.members)}
    return {**deciding(recipe, graph), **known}


class _Checkpoint:
    """The files of one unfinished training. Another recipe or seed has other names, so nothing is continued wrongly."""

    def __init__(self, folder: Path, settings: dict[str, object], seed: int) -> None:
        self.folder = folder
        # Of other files under the same settings it is the same state, and refused by what it says of them.
        self.settings = {key: settings[key] for key in _DIGESTS.values() if key in settings}
        plain = {key: value for key, value in _deciding(settings).items() if key not in self.settings}
        content = json.dumps([plain, seed], sort_keys=True)
        self.key = hashlib.sha256(content.encode()).hexdigest()[:10]
        self.state = folder / f"{self.key}.safetensors"

    def weights(self, epoch: int) -> Path:
        return self.folder / f"{self.key}-epoch{epoch}.safetensors"

    def check_files(self, recipe: Recipe) -> None:
        """Raises RunError where the unfinished training began with other weights, or had another teacher."""
        try:
            begun = json.loads(read_tensors(self.state)[1]["of"])
        except (LookupError, TypeError, ValueError):
            return  # what is damaged is told by its reader
        for name, setting in _DIGESTS.items():
            before, now = begun.get(name), self.settings.get(setting)
            if before is not None and before != now:
                what = "a teacher" if name == "teacher" else "weights to begin with"
                raise RunError(
                    f"{self.state}: the unfinished training has {what} of another content (sha256 {str(before)[:12]}...) than "
                    f"{getattr(recipe, name)} has now ({str(now)[:12]}...)",
                    f"restore the file, or remove {self.state} to start over",
                )

    def write(self, trainer: Trainer) -> None:
        best = best_epoch(trainer.history, trainer.recipe, trainer.graph)
        if best.epoch == trainer.epoch:
            save_trained(trainer.trained, self.weights(best.epoch), {"epoch": str(best.epoch)})
        trainer.save(self.state)
        for old in self.folder.glob(f"{self.key}-epoch*.safetensors"):
            if old != self.weights(best.epoch):
                old.unlink(missing_ok=True)

    def remove(self) -> None:
        # Another training of the network may be unfinished, or under way.
        for file in self.folder.glob(f"{self.key}*"):
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
