"""The one training loop. Deterministic on CPU for (graph, data, recipe, seed); resumable at every epoch.

Nothing random has hidden state: the order of images, their augmentation and dropout follow from (seed, epoch),
so a training that is saved, killed and loaded gives the same bits as one that ran through.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tinynas.data import Split
from tinynas.data.split import epoch_order
from tinynas.errors import DataError, RunError, TinynasError
from tinynas.graph import Graph, few_bits
from tinynas.metrics import score_of
from tinynas.model import Network, module_of, normalise, read_tensors, trainable_groups, write_tensors
from tinynas.quantize.qat import prepare_qat
from tinynas.recipe import Recipe
from tinynas.train.branches import add_branches, fold_branches
from tinynas.train.feed import make_feed
from tinynas.train.graphs import RecordedGradients
from tinynas.train.losses import binary_cross_entropy, make_loss, taught
from tinynas.train.norms import reestimate_norms
from tinynas.train.quantised import Trained, calibration_rows, grids_in, on_grids, state_of, weights_in
from tinynas.train.start import Start, Teacher

#: Images a step of evaluation: larger does not run faster on a CPU.
EVAL_BATCH = 256
#: The average never looks back further than this many steps, whatever the size of an epoch.
EMA_MAX_DECAY = 0.9999
#: Training images that set the activation grids of quantisation-aware training.
QAT_CALIBRATION = 512
CHECKPOINT_FORMAT = "1"
#: Settings that say something only where there is an init, or a teacher.
_OF_INIT = {"init", "init_pixels", "freeze", "old_lr"}
_OF_TEACHER = {"teacher", "teacher_pixels", "teacher_temperature", "teacher_weight"}


class Diverged(TinynasError):
    """The loss is no longer a number; a lower learning rate is the remedy."""


@dataclass(frozen=True)
class EpochMetrics:
    """One epoch. Accuracies are shares; ``seconds`` include validation; ``images`` counts training images seen in it.

    Of several labels at once ``val_accuracy`` is mean average precision, ``train_accuracy`` the share of (input, class) that are told
    rightly at a half, and the cross entropy that of each class by itself.
    """

    epoch: int
    """From 1."""
    loss: float
    """Mean training loss."""
    train_accuracy: float
    """On the augmented images, while training."""
    val_accuracy: float
    """Of the averaged weights."""
    val_loss: float
    """Cross entropy, of the averaged weights."""
    seconds: float
    images: int


@dataclass(frozen=True)
class EvalResult:
    """Accuracy (of several labels at once mean average precision, :func:`tinynas.metrics.score_of`), cross entropy and float32 logits
    (N, classes)."""

    accuracy: float
    loss: float
    logits: NDArray[np.float32]


def pick_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Trainer:
    """A training of one network that can be stopped at any epoch and continued.

    ``weights`` (names to tensors, such as a parent's) replace the initial weights; so does ``start``, which also says what of them is
    frozen or trained at a lower rate. ``teacher`` is asked about every batch. ``resident`` keeps the images in the device's memory and
    augments them there; by default on a GPU, where they fit. In a process group (``torch.distributed`` initialised) every process
    takes its share of each batch.
    """

    def __init__(
        self,
        graph: Graph,
        train: Split,
        val: Split,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device | None = None,
        weights: Mapping[str, Tensor] | None = None,
        start: Start | None = None,
        teacher: Teacher | None = None,
        resident: bool | None = None,
    ) -> None:
        for name, split in (("train", train), ("validation", val)):
            if tuple(split.inputs.shape[1:]) != graph.input.shape:
                raise DataError(f"{name} {split.kind}s are {split.inputs.shape[1:]}, the network reads {graph.input.shape}")
            if split.several and split.labels.shape[1] != graph.classes:
                raise DataError(f"the {name} split has {split.labels.shape[1]} classes, the network {graph.classes}")
            if len(split.labels) == 0:
                raise DataError(f"the {name} split is empty", f"give more {split.kind}s")
        self.graph, self.recipe, self.seed = graph, recipe, seed
        self.device = device or pick_device()
        self.train = train.subset(recipe.subset, seed) if 0 < recipe.subset < len(train.labels) else train
        self.val = val
        self.history: list[EpochMetrics] = []
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self._start, self._teacher = start, teacher
        if train.several != val.several:
            raise DataError("one of training and validation has several labels at once, the other has one each", "read them alike")
        if teacher is not None and train.several:
            raise DataError(
                "recipe.teacher: a teacher's answers exclude each other, and here there may be several labels at once", "leave it out"
            )
        if teacher is not None:
            teacher.to(self.device)
        network = Network(graph, seed=seed)
        weights = weights if start is None else start.weights
        if weights is not None:
            network.load_state_dict(dict(weights))
        if recipe.branches == "fold":
            add_branches(network, seed=seed, trained=weights is not None)
        network.dropout = recipe.dropout
        self._generator = network.generator = torch.Generator(self.device)
        average = Network(graph, seed=seed) if recipe.ema else None
        if average is not None:
            if recipe.branches == "fold":
                add_branches(average, seed=seed)
            average.load_state_dict(network.state_dict())
        self._raw: Trained
        self._average: Trained | None
        self._optimizer: torch.optim.Optimizer
        self._start_phase(network, average)
        self._loss = make_loss(recipe, several=train.several)
        self._feed = make_feed(self.train, recipe.augment, seed, self.device, resident, classes=graph.classes)
        self.batch_size = min(recipe.batch_size, len(self.train.labels))
        self.steps_per_epoch = max(1, (recipe.epoch_images or len(self.train.labels)) // self.batch_size)
        self._float_epochs = recipe.epochs - recipe.qat_epochs
        #: epochs before weights of fewer than 8 bits are on their grids
        self._free_epochs = free_epochs(recipe, graph)
        self._grids_on: bool | None = None
        self._set_grids(0)
        self._warmup_steps = recipe.warmup_epochs * self.steps_per_epoch

    def _start_phase(self, network: Trained, average: Trained | None) -> None:
        self._raw = network.to(self.device)
        self._average = None if average is None else average.to(self.device)
        old = frozenset[str]() if self._start is None else self._start.old
        if self._start is not None:
            for trained in filter(None, (self._raw, self._average)):
                _freeze(trained, self._start.frozen)
        self._optimizer = _optimizer(self._raw, self.recipe, old)
        self._recorded: RecordedGradients | None = None

    @property
    def trained(self) -> Trained:
        """The network as it is evaluated and exported: averaged weights where the recipe averages, without branches, on int8 grids in the
        last phase."""
        network = self._raw if self._average is None else self._average
        return fold_branches(network) if isinstance(network, Network) else network

    @property
    def network(self) -> Network:
        """:attr:`trained`, where no quantisation is in the loop (yet)."""
        network = self.trained
        assert isinstance(network, Network), "quantised: use .trained"
        return network

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    # training ---------------------------------------------------------------------------------------

    def run(
        self,
        until_epoch: int | None = None,
        on_epoch: Callable[[EpochMetrics], None] | None = None,
        deadline: float | None = None,
    ) -> int:
        """Train until ``until_epoch`` (default: the recipe's last) is finished; the number of epochs finished.

        At ``deadline`` (``time.monotonic()``) it stops; an epoch cut short is undone, so it can be continued later.
        Raises Diverged where the loss is not a number.
        """
        until = min(until_epoch or self.recipe.epochs, self.recipe.epochs)
        with _threads(self.recipe.threads):
            while self.epoch < until:
                if self.epoch >= self._float_epochs and isinstance(self._raw, Network):
                    self._quantise()
                self._set_grids(self.epoch + 1, fit=self.epoch == self._free_epochs)
                undo = None if deadline is None else {key: tensor.clone() for key, tensor in self._tensors().items()}
                try:
                    metrics = self._epoch(self.epoch + 1, deadline)
                except _DeadlineReached:
                    assert undo is not None
                    self._restore(undo)
                    self._set_grids(self.epoch)
                    break
                self.history.append(metrics)
                if on_epoch is not None:
                    on_epoch(metrics)
        return self.epoch

    def learning_rate(self, step: int) -> float:
        """The rate of training step ``step``, counted from 0 over all epochs."""
        recipe = self.recipe
        start, end, peak, lowest = self._warmup_steps, float(self._float_epochs * self.steps_per_epoch), recipe.lr, recipe.lr_end
        if recipe.qat_epochs and step >= end:
            start, end, peak, lowest = end, float(recipe.epochs * self.steps_per_epoch), recipe.qat_lr, 0.0
        elif step < start:
            return peak * (step + 1) / (start + 1)
        elif recipe.schedule == "constant":
            return peak
        progress = (step - start) / max(1.0, end - start)
        return peak * (lowest + (1.0 - lowest) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress))))

    def _epoch(self, epoch: int, deadline: float | None) -> EpochMetrics:
        started = time.monotonic()
        self._raw.train()
        self._generator.manual_seed(int(np.random.default_rng((self.seed, epoch, self.rank)).integers(1 << 62)))
        step = (epoch - 1) * self.steps_per_epoch
        loss_sum = torch.zeros((), device=self.device, dtype=torch.float64)
        correct = torch.zeros((), device=self.device, dtype=torch.int64)
        seen = 0
        for images, labels in self._batches(epoch, self.steps_per_epoch):
            if deadline is not None and time.monotonic() >= deadline:
                raise _DeadlineReached
            loss, hits = self._step(images, labels, step)
            # No synchronisation with a GPU inside the epoch: sums stay on the device.
            loss_sum += loss
            correct += hits
            seen += len(labels)
            step += 1
        if self._average is not None and self.recipe.bn_images:
            self._estimate_norms(epoch)
        if self.world > 1:
            seen = self._reduce_epoch(loss_sum, correct, seen)
        mean_loss = float(loss_sum) / self.steps_per_epoch / self.world
        if not math.isfinite(mean_loss):
            raise Diverged(f"the loss became {mean_loss} in epoch {epoch}", f"lower lr (now {self.recipe.lr:g})")
        result = self.evaluate(self.val)
        # The last steps may have broken what the mean of the epoch does not show yet.
        if not math.isfinite(result.loss):
            raise Diverged(f"the validation loss became {result.loss} in epoch {epoch}", f"lower lr (now {self.recipe.lr:g})")
        told = seen * self.graph.classes if self.train.several else seen
        return EpochMetrics(epoch, mean_loss, int(correct) / told, result.accuracy, result.loss, time.monotonic() - started, seen)

    def _step(self, images: Tensor, labels: Tensor, step: int) -> tuple[Tensor, Tensor]:
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(step) * group["rate"]
        if self._may_record():
            if self._recorded is None:
                self._recorded = RecordedGradients(self._raw, self._gradients, images, labels)
            loss, hits = self._recorded(images, labels)
        else:
            self._optimizer.zero_grad(set_to_none=True)
            loss, hits = self._gradients(images, labels)
        if self.world > 1:
            _average_gradients(self._raw, self.world)
        self._optimizer.step()
        if self._average is not None:
            self._update_average(step)
        return loss, hits

    def _gradients(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        autocast = self.recipe.precision == "bfloat16" and self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16) if autocast else contextlib.nullcontext():
            logits = self._raw(images)
        logits = logits.float()
        loss = self._loss(logits, labels)
        if self._teacher is not None:
            recipe, said = self.recipe, self._teacher.logits(images)
            loss = taught(loss, logits, said, weight=recipe.teacher_weight, temperature=recipe.teacher_temperature)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.train.several:
            return loss.detach(), ((logits.detach() > 0) == (labels > 0.5)).sum()
        hits = logits.detach().argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))
        return loss.detach(), hits.sum()

    def _may_record(self) -> bool:
        # Dropout draws from a generator of its own, quantisation in the loop changes what a step does, a teacher may copy from the
        # host, and bfloat16 caches casts: those steps run kernel by kernel.
        raw = self._raw
        plain = isinstance(raw, Network) and not raw.dropout and self._teacher is None
        return self.device.type == "cuda" and plain and self.recipe.precision == "float32" and self.world == 1

    def _update_average(self, step: int) -> None:
        assert self._average is not None
        # Running batch-norm statistics are averaged like weights; where the recipe measures them, that replaces the average.
        phase_step = step if isinstance(self._raw, Network) else step - self._float_epochs * self.steps_per_epoch
        horizon = self.recipe.ema * self.steps_per_epoch
        decay = min(math.exp(-1.0 / horizon), (1.0 + phase_step) / (10.0 + phase_step), EMA_MAX_DECAY)
        target, source = (_moving(network) for network in (self._average, self._raw))
        with torch.no_grad():
            torch._foreach_lerp_(target, source, 1.0 - decay)

    def _quantise(self) -> None:
        # The last epochs train the best weights so far, batch norm folded, on the grids that go into the file.
        images = self.train.inputs[calibration_rows(len(self.train.labels), QAT_CALIBRATION, self.seed)]
        network = prepare_qat(self.network.eval(), images)
        self._start_phase(network, copy.deepcopy(network) if self.recipe.ema else None)

    def _set_grids(self, epoch: int, *, fit: bool = False) -> None:
        """Put weights of few bits on their grids, or take them off, as they are at the end of ``epoch`` (0: before the first)."""
        # The switch and the first steps follow from the epoch and the weights, so that no state has to hold them.
        on = max(1, epoch) > self._free_epochs
        if on != self._grids_on:
            self._grids_on, self._recorded = on, None
        for network in (self._raw, self._average):
            if isinstance(network, Network):
                network.set_grids(on)
                if fit:
                    network.fit_grids()

    def _estimate_norms(self, epoch: int) -> None:
        # Averaged weights have other activations than the weights they come from. At a constant rate (proxy training of
        # mcunet-tiny2 on person64, 9 epochs) measuring took validation loss from 0.414 to 0.402; after a cosine it makes no difference.
        assert self._average is not None
        steps = min(self.steps_per_epoch, -(-self.recipe.bn_images // self.batch_size))
        reestimate_norms(self._average.eval(), (images for images, _ in self._batches(epoch, steps)))

    def _batches(self, epoch: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        # An epoch of more images than there are is several passes, each shuffled and augmented as an epoch of its own would be.
        count = len(self.train.labels)
        passes = -(-steps * self.batch_size // count)
        numbers = range((epoch - 1) * passes + 1, epoch * passes + 1)
        order = np.concatenate([epoch_order(count, seed=self.seed, epoch=number) for number in numbers])
        for start in range(0, steps * self.batch_size, self.batch_size):
            indices = order[start : start + self.batch_size][self.rank :: self.world]
            images, labels = self._feed(numbers[start // count], indices)
            yield normalise(images, self._raw.graph.input), labels

    def _reduce_epoch(self, loss_sum: Tensor, correct: Tensor, seen: int) -> int:
        # Each process normalises with its own statistics; their mean is what is evaluated and saved.
        total = torch.tensor(seen, device=self.device)
        for tensor in (loss_sum, correct, total):
            dist.all_reduce(tensor)
        for network in filter(None, (self._raw, self._average)):
            for buffer in network.buffers():
                if buffer.is_floating_point():  # whole numbers are positions, alike everywhere
                    dist.all_reduce(buffer)
                    buffer /= self.world
        return int(total)

    # evaluation -------------------------------------------------------------------------------------

    def evaluate(self, split: Split) -> EvalResult:
        """Accuracy, cross entropy and logits of :attr:`trained` on ``split``, unaugmented."""
        return evaluate(self.trained, split, threads=self.recipe.threads)

    # state ------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the whole resumable state, atomically. Raises DiskError on a full disk."""
        metadata = {"format": CHECKPOINT_FORMAT, "history": json.dumps([asdict(m) for m in self.history]), "of": self._identity()}
        write_tensors(self._tensors(), path, metadata)

    def load(self, path: Path) -> None:
        """Continue from a state that :meth:`save` wrote. Raises RunError where it is damaged or of another training."""
        tensors, metadata = read_tensors(path)
        if metadata.get("format") != CHECKPOINT_FORMAT or metadata.get("of") != self._identity():
            raise RunError(f"{path}: is the state of another training (recipe, network, seed or data differ)", "remove it to start over")
        try:
            grids = grids_in(tensors, "raw.")
            if grids is not None:
                self._start_phase(on_grids(self.graph, grids), on_grids(self.graph, grids) if self.recipe.ema else None)
            self._restore(tensors)
            self.history = [EpochMetrics(**document) for document in json.loads(metadata["history"])]
            self._set_grids(self.epoch)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(f"{path}: is damaged: {error}", "remove it to start over") from None

    def _identity(self) -> str:
        arch = self.graph.arch.id if self.graph.arch is not None else ""
        recipe = deciding(self.recipe, self.graph)
        images = [len(self.train.labels), len(self.val.labels)]
        # Files are known by their content, wherever they lie.
        origin = {"init": self._start, "teacher": self._teacher}
        files = {name: found.sha256 for name, found in origin.items() if found is not None}
        plain = {key: value for key, value in recipe.items() if key not in origin}
        return json.dumps({"arch": arch, "recipe": plain, "seed": self.seed, "images": images, **files}, sort_keys=True)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"raw.{key}": value for key, value in state_of(self._raw).items()}
        if self._average is not None:
            tensors |= {f"average.{key}": value for key, value in state_of(self._average).items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        return tensors

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._raw.load_state_dict(weights_in(tensors, "raw."))
        if self._average is not None:
            self._average.load_state_dict(weights_in(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        parameters = [p.detach() for group in self._optimizer.param_groups for p in group["params"]]
        for key, value in weights_in(tensors, "optimizer.").items():
            index, _, name = key.partition(".")
            parameter = parameters[int(index)]
            # The fused optimisers walk parameter and state side by side: both must lie in memory alike.
            aligned = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()
            state.setdefault(int(index), {})[name] = aligned
        groups: list[Any] = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


class _DeadlineReached(Exception):
    pass


def evaluate(network: Trained, split: Split, *, threads: int = 1) -> EvalResult:
    """Score (:func:`tinynas.metrics.score_of`), cross entropy and logits of ``network``, left in evaluation mode, on ``split`` as it is."""
    device = next(network.parameters()).device
    network.eval()
    logits = []
    with _threads(threads), torch.inference_mode():
        for start in range(0, len(split.labels), EVAL_BATCH):
            images = torch.from_numpy(np.array(split.inputs[start : start + EVAL_BATCH]))  # a copy: the map is read-only
            logits.append(network(normalise(images.to(device), network.graph.input)).float())
        scores = torch.cat(logits).cpu()
        labels = torch.from_numpy(np.array(split.labels))
        loss = float(binary_cross_entropy(scores, labels) if split.several else F.cross_entropy(scores, labels))
    return EvalResult(score_of(split.labels, scores.numpy().astype(np.float64)), loss, scores.numpy())


def free_epochs(recipe: Recipe, graph: Graph) -> int:
    """Epochs that train ``graph`` before weights of fewer than 8 bits are on their grids; 0 where there are none."""
    return int(recipe.few_bits_from * (recipe.epochs - recipe.qat_epochs)) if few_bits(graph) else 0


def deciding(recipe: Recipe, graph: Graph) -> dict[str, Any]:
    """What of ``recipe`` decides how ``graph`` is trained, in numbers, for records."""
    recipe = recipe.model_copy(update={"augment": recipe.augment.settled()})
    # States of older versions stay theirs: what says nothing is left out.
    idle = {"threads"} if few_bits(graph) else {"threads", "few_bits_from"}
    idle |= {"branches"} if recipe.branches == "none" else set()
    idle |= {"lr_end"} if recipe.schedule == "constant" or recipe.lr_end == 0 else set()
    idle |= _OF_INIT if recipe.init is None else set()
    idle |= _OF_TEACHER if recipe.teacher is None else set()
    known = recipe.model_dump(mode="json", exclude=idle)
    if graph.input.kind != "features":
        del known["augment"]["sound"]
    return known


def _freeze(network: torch.nn.Module, frozen: Set[str]) -> None:
    for name, parameter in network.named_parameters():
        if module_of(name) in frozen:
            parameter.requires_grad_(False)
    if isinstance(network, Network):
        network.frozen = frozenset(frozen)


def _optimizer(network: torch.nn.Module, recipe: Recipe, old: Set[str]) -> torch.optim.Optimizer:
    groups = trainable_groups(network, recipe.weight_decay, old, recipe.old_lr)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True, fused=True)


def _moving(network: torch.nn.Module) -> list[Tensor]:
    # Whole numbers, such as the pixels that a resize reads, are no weights.
    return [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]


def _average_gradients(network: torch.nn.Module, world: int) -> None:
    # One message for all gradients: tiny networks are bound by latency, not by bandwidth.
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    _keep_memory()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)


@functools.cache
def _keep_memory() -> None:
    # glibc gives every large activation back to the kernel and faults it in again at the next step;
    # keeping it is worth 6-20 % of a training step. Other C libraries have no mallopt and need none.
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 1 << 30)
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)
