"""Promote: full training of networks a search found. Resumable after a kill; the test split is read once, at the end.

Every finished epoch is on disk before the next begins: the trainer's state, and the weights of the best epoch so far
in a file of their own. The state is the truth: which epoch is best follows from the history in it, so a kill between
two writes loses at most the unfinished epoch. On a CPU the continued training gives the same bits.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tinynas import __version__, metrics
from tinynas.arch import Arch
from tinynas.config import build
from tinynas.data import DataSet
from tinynas.errors import RunError, counted
from tinynas.files import write_atomic
from tinynas.graph import Graph, few_bits, lower
from tinynas.recipe import Augment, Recipe
from tinynas.records import Promoted
from tinynas.runs import Run
from tinynas.train import EpochMetrics, Trainer, evaluate
from tinynas.train.group import barrier, process_group, rank
from tinynas.train.keeping import ask, settled
from tinynas.train.loop import deciding, free_epochs
from tinynas.train.quantised import load_trained, save_trained

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
    metrics: EpochMetrics | None = None
    """Of the epoch just finished."""
    promoted: Promoted | None = None
    """With ``done`` and ``known``."""
    note: str | None = None
    """With ``started`` and ``resumed``: what the network itself asks of its training."""


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
) -> list[Promoted]:
    """Train the networks ``ids`` of ``run`` with ``recipe``; write weights, history and metrics into the run.

    What the recipe's augmentation leaves open is as in the search; where that left it open, too, the data are asked
    (:mod:`tinynas.train.keeping`), and ``on_note`` hears what was found. A network that was promoted with the same recipe, seed and
    data is not trained again. Raises RunError for unknown ids and unwritable folders, Diverged where the loss is no longer a number.
    Under ``torchrun`` all processes share the work and the run folder; the first one writes.
    """
    net_ids = list(dict.fromkeys(run.resolve_id(text) for text in ids))
    with process_group() as device:
        recipe = settled_recipe(run, data, recipe, seed, on_note)
        return [_promote(run, net_id, data, recipe, seed, device, on_event) for net_id in net_ids]


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
    searched = (run.config.get("settings") or {}).get("recipe", {}).get("augment")
    if searched is None or searched.get("kind") != augment.kind:
        return augment
    before = build(searched, Augment, source=run.config_file)
    mine, theirs = ((a.light, a.wake_vision)[augment.kind == "wake-vision"] for a in (augment, before))
    open_ones = {name: getattr(theirs, name) for name, value in mine.model_dump().items() if value == "auto"}
    return augment.changed(light=open_ones) if augment.kind == "light" else augment.changed(wake_vision=open_ones)


def _promote(run: Run, net_id: str, data: DataSet, recipe: Recipe, seed: int, device: torch.device, on_event: OnEvent | None) -> Promoted:
    def tell(kind: Literal["started", "resumed", "epoch", "done", "known"], epoch: int, **more: object) -> None:
        if on_event is not None and rank() == 0:
            on_event(PromoteEvent(kind, net_id, epoch, recipe.epochs, **more))  # type: ignore[arg-type]

    arch = run.arch(net_id)
    graph = lower(arch)
    settings = recipe_record(recipe, graph, data)
    asked = few_bits_note(graph, recipe)
    known = _known(run, net_id, graph)
    if known is not None and _deciding(known.recipe) == _deciding(settings) and known.seed == seed:
        tell("known", known.epochs, promoted=known)
        return known
    shape = graph.input.shape
    trainer = Trainer(graph, data.split("train", *shape), data.split("val", *shape), recipe, seed=seed, device=device)
    checkpoint = _Checkpoint(run.checkpoint_dir(net_id), settings, seed)
    if checkpoint.state.exists():
        trainer.load(checkpoint.state)
        if rank() == 0:  # a kill between the state and its row leaves the row out, and behind the last epoch no other comes
            write_atomic(run.train_csv(net_id), history_csv(trainer.history))
        tell("resumed", trainer.epoch, note=asked)
    else:
        tell("started", 0, note=asked)
    barrier()  # nobody writes a state before everybody has read the old one

    def after_epoch(metrics: EpochMetrics) -> None:
        if rank() == 0:
            checkpoint.write(trainer)
            write_atomic(run.train_csv(net_id), history_csv(trainer.history))
        tell("epoch", metrics.epoch, metrics=metrics)

    trainer.run(on_epoch=after_epoch)
    barrier()
    promoted = _finish(run, arch, graph, trainer, checkpoint, data, settings)
    tell("done", recipe.epochs, promoted=promoted)
    return promoted


def _known(run: Run, net_id: str, graph: Graph) -> Promoted | None:
    """What was promoted before, where record and weights are whole; damaged ones are made anew."""
    try:
        known = run.promoted(net_id)
        if known is not None:
            load_trained(graph, run.weights_file(net_id))
    except RunError:
        return None
    return known


def _deciding(settings: Mapping[str, object]) -> dict[str, object]:
    # What data are called says nothing: they are known by their fingerprint, wherever they lie.
    return {key: value for key, value in settings.items() if key != "data"}


def _finish(
    run: Run, arch: Arch, graph: Graph, trainer: Trainer, checkpoint: _Checkpoint, data: DataSet, settings: dict[str, object]
) -> Promoted:
    best = best_epoch(trainer.history, trainer.recipe, graph)
    network = load_trained(graph, checkpoint.weights(best.epoch)).to(trainer.device)
    test = data.split("test", *graph.input.shape)  # the only place where training code sees the test images
    result = evaluate(network, test, threads=trainer.recipe.threads)
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
        confusion=tuple(map(tuple, metrics.confusion(test.labels, result.logits.argmax(1), result.logits.shape[1]))),
        qat=trainer.recipe.qat_epochs > 0,
    )
    if rank() == 0:
        metadata = {"tinynas": __version__, "arch": arch.id, "labels": json.dumps(data.labels), "epoch": str(best.epoch)}
        save_trained(network, run.weights_file(arch.id), metadata)
        run.write_promoted(promoted)  # last: a network with metrics is finished
        checkpoint.remove()
    barrier()
    return promoted


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


def history_csv(history: Sequence[EpochMetrics]) -> str:
    """``train.csv``: one row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(EpochMetrics)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**dataclasses.asdict(m), "seconds": round(m.seconds, 3)} for m in history)
    return text.getvalue()


def recipe_record(recipe: Recipe, graph: Graph, data: DataSet) -> dict[str, object]:
    """The settings that decide the result for ``graph``, as they are written into ``metrics.json``."""
    return {**deciding(recipe, graph), "data": data.name, "data_fingerprint": data.fingerprint}


class _Checkpoint:
    """The files of one unfinished training. Another recipe or seed has other names, so nothing is continued wrongly."""

    def __init__(self, folder: Path, settings: dict[str, object], seed: int) -> None:
        self.folder = folder
        content = json.dumps([_deciding(settings), seed], sort_keys=True)
        self.key = hashlib.sha256(content.encode()).hexdigest()[:10]
        self.state = folder / f"{self.key}.safetensors"

    def weights(self, epoch: int) -> Path:
        return self.folder / f"{self.key}-epoch{epoch}.safetensors"

    def write(self, trainer: Trainer) -> None:
        best = best_epoch(trainer.history, trainer.recipe, trainer.graph)
        if best.epoch == trainer.epoch:
            save_trained(trainer.trained, self.weights(best.epoch), {"epoch": str(best.epoch)})
        trainer.save(self.state)
        for old in self.folder.glob(f"{self.key}-epoch*.safetensors"):
            if old != self.weights(best.epoch):
                old.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
