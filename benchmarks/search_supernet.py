"""Does a search that first trains one supernet order networks better, in equal time, than one that trains networks alone?

    python benchmarks/search_supernet.py --data ../shared/data/images/tin20 --name tin20 --replays 8
    python benchmarks/search_supernet.py --data ../shared/data/images/person64 --name person64 --replays 8
    python benchmarks/search_supernet.py --report

The supernet has the weights of the largest network of benchmarks/search_space.yaml; every other network is a part of them: the first
channels, the middle of kernels, the first blocks; only the classifier of networks without a head is one of its own. A step trains four
of them on the same images, each at its own resolution (sandwich rule, arXiv 1903.05134): the largest, the smallest and two of
the table's; gradients are summed. Recipe, images, averaged weights and loss are those of the tables that benchmarks/search_table.py
trained. To be scored a network gets its part of the averaged weights, its batch norm measured anew on 256 training images, and is
validated.

Time. 1 = a full training of the table's median network. A step of the supernet is charged what its four networks cost as trainings of
their own (``Table.seconds_per_image``), a little less than what it took (``cpu`` in the rows, beside ``pace``: what trainings
of networks alone take now of what the table says). Scoring is not charged: the page says what it costs.

The decision. Replays of the product's search on the table say which networks it has trained, how far, after any time. The belief
of tinynas/search/surrogate.py, fitted to those, orders all networks of the table; Kendall's tau with the truth. Beside it the same with
the supernet's score as one feature more, fitted to what the search has trained in the time that the supernet leaves; and without the
score, for a shorter search may order the table better than a longer one, too.

What it does not show. A search that proposes by such a belief would train other networks than the replayed one. Kernels of 3 are not
transformed out of those of 5, smaller networks do not learn from the largest. The weights are not what a search would begin its
trainings with (benchmarks/slices.py tried that).

Rows: one a checkpoint of a supernet (scores in the order of the table's networks), one a replay. A stopped run goes on from its state.
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from search_replay import CLASSES, RESULTS, Replay, Table, load_table, tinynas_search
from search_table import table_recipe
from search_tau import kendall, seed_ceiling, twice_trained
from torch import Tensor, nn

from tinynas.cost import estimate
from tinynas.data import open_data
from tinynas.data.split import epoch_order
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.model import Network, normalise, read_tensors, trainable_groups, write_tensors
from tinynas.search.feasible import Floats, Genotypes, as_genotype, band, strata
from tinynas.search.schedule import Net, Result
from tinynas.search.surrogate import Features, Surrogate
from tinynas.search.training import Trainings
from tinynas.space import Genotype, Space
from tinynas.train.feed import Feed, make_feed
from tinynas.train.loop import EMA_MAX_DECAY, Trainer, evaluate
from tinynas.train.losses import make_loss
from tinynas.train.norms import reestimate_norms
from tinynas.train.quantised import weights_in

HERE = Path(__file__).parent
ROWS = RESULTS / "search_supernet.jsonl"
#: Full trainings' worth of supernet after which networks are scored; and of everything, at which searches are compared.
MARKS, TOTALS = (1, 2, 4, 8), (2, 4, 8)
#: Training images that measure batch norm of a network to be scored.
NORM_IMAGES = 256
#: The belief, the supernet's score that it is told, and the deviation expected of that feature's effect; the first is reported in full.
VARIANTS = (("process", "loss", 1.0), ("process", "loss", 3.0), ("process", "accuracy", 1.0), ("regression", "loss", 1.0))
#: Steps after which the state is kept.
KEEP = 50


def unit(table: Table) -> float:
    """Seconds of a full training of the table's median network."""
    return float(np.median([table.seconds_per_image(i) for i in range(len(table.rows))])) * table.images * table.rungs[-1]


def extreme(space: Space, *, large: bool, head: bool = True) -> Genotype:
    """The network with the most, or the least, of everything; ``head`` False: but without a head."""
    chosen = []
    for gene in space.genes:
        most = (large != gene.name.endswith(".stride")) and (head or gene.name != "head.out")
        chosen.append(0 if isinstance(gene.choices[0], str) else int((np.argmax if most else np.argmin)(gene.choices)))
    return space.canonical(chosen)


class Supernet(nn.Module):
    """Weights of which every network of ``space`` takes a part."""

    def __init__(self, space: Space, classes: int, seed: int) -> None:
        super().__init__()
        self.large = Network(lower(space.decode(extreme(space, large=True), classes)), seed=seed)
        headless = Network(lower(space.decode(extreme(space, large=True, head=False), classes)), seed=seed)
        #: the classifier of networks without a head
        self.alone = headless.get_submodule("fc")

    @functools.cached_property
    def shared(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """All parameters as networks with a head name them, and as those without."""
        headed = dict(self.large.named_parameters())
        return headed, headed | {f"fc.{name}": value for name, value in self.alone.named_parameters()}

    def parts(self, network: Network) -> dict[str, Tensor]:
        """The parameters of ``network`` by name, as views of the shared ones."""
        shared = self.shared[not hasattr(network, "head")]
        return {name: part(shared[name], own.shape) for name, own in network.named_parameters()}


def part(shared: Tensor, shape: Sequence[int]) -> Tensor:
    """The first channels of ``shared`` and the middle of its kernels."""
    firsts = [(0, size) for size in shape[:2]]
    middles = [((have - size) // 2, (have + size) // 2) for have, size in zip(shared.shape[2:], shape[2:], strict=True)]
    return shared[tuple(slice(*edges) for edges in (*firsts, *middles))]


class Training:
    """The supernet's training on one data set. Nothing random has hidden state."""

    def __init__(self, table: Table, trainings: Trainings, seed: int) -> None:
        self.table, self.trainings, self.seed, self.recipe = table, trainings, seed, trainings.recipe
        self.net = Supernet(table.space, table.classes, seed)
        self.average = copy.deepcopy(self.net)
        self.optimizer = torch.optim.AdamW(trainable_groups(self.net, self.recipe.weight_decay), lr=self.recipe.lr)
        self.loss = make_loss(self.recipe)
        self.ends = [extreme(table.space, large=large) for large in (True, False)]
        self.network = functools.cache(self._network)
        self.feeds: dict[int, Feed] = {}
        self.steps, self.charged, self.cpu = 0, 0.0, 0.0

    def _network(self, genotype: Genotype) -> tuple[Network, float]:
        # What shared weights are put into, and the seconds that an image of its training is charged.
        graph = lower(self.table.space.decode(genotype, self.table.classes))
        return Network(graph), self.table.fixed + self.table.per_mac * estimate(graph).macs

    def batch(self, network: Network, number: int) -> tuple[Tensor, Tensor]:
        """Images and labels of step ``number``, as ``network`` reads them."""
        arch, size = network.graph.arch, self.recipe.batch_size
        assert arch is not None
        split = self.trainings.split("train", arch)
        if arch.height not in self.feeds:
            self.feeds[arch.height] = make_feed(split, self.recipe.augment, self.seed, torch.device("cpu"))
        count = len(split.labels)
        passed, place = divmod(number, count // size)
        order = epoch_order(count, seed=self.seed, epoch=passed + 1)
        images, labels = self.feeds[arch.height](passed + 1, order[place * size : (place + 1) * size])
        return normalise(images, network.graph.input), labels

    def step(self) -> None:
        """One sandwich."""
        started = time.process_time()
        rng = np.random.default_rng((self.seed, self.steps))
        drawn = [as_genotype(self.table.genotypes[i]) for i in rng.integers(len(self.table.genotypes), size=2)]
        steps_an_epoch = self.recipe.epoch_images // self.recipe.batch_size
        warmup = self.recipe.warmup_epochs * steps_an_epoch
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * min(1.0, (self.steps + 1) / (warmup + 1))
        self.optimizer.zero_grad()
        for genotype in (*self.ends, *drawn):
            network, seconds = self.network(genotype)
            images, labels = self.batch(network, self.steps)
            loss = self.loss(torch.func.functional_call(network.train(), self.net.parts(network), (images,)), labels)
            if not math.isfinite(loss.item()):
                raise SystemExit(f"the loss became {loss.item()} in step {self.steps}")
            loss.backward()
            self.charged += seconds * len(labels)
        self.optimizer.step()
        decay = min(math.exp(-1.0 / (self.recipe.ema * steps_an_epoch)), (1.0 + self.steps) / (10.0 + self.steps), EMA_MAX_DECAY)
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), 1.0 - decay)
        self.steps += 1
        self.cpu += time.process_time() - started

    def scores(self) -> dict[str, Any]:
        """Accuracy and loss of every network of the table with its part of the averaged weights."""
        started, found = time.process_time(), []
        batches: dict[int, list[Tensor]] = {}
        for genotype in self.table.genotypes:
            network, _ = self.network(as_genotype(genotype))
            arch = network.graph.arch
            assert arch is not None
            network.load_state_dict(self.average.parts(network), strict=False)
            if arch.height not in batches:
                batches[arch.height] = [self.batch(network, number)[0] for number in range(NORM_IMAGES // self.recipe.batch_size)]
            reestimate_norms(network.eval(), batches[arch.height])
            result = evaluate(network, self.trainings.split("val", arch))
            found.append((round(result.accuracy, 5), round(result.loss, 5)))
        each = (time.process_time() - started) / len(found)
        return {"score_cpu": round(each, 4), "accuracy": [one[0] for one in found], "loss": [one[1] for one in found]}

    def save(self, path: Path) -> None:
        """Write the whole state, atomically."""
        state = self.optimizer.state_dict()["state"]
        moments = {f"optimizer.{i}.{key}": value for i, one in state.items() for key, value in one.items()}
        nets = {f"{name}.{key}": value for name in ("net", "average") for key, value in getattr(self, name).state_dict().items()}
        told = {"steps": self.steps, "charged": self.charged, "cpu": self.cpu}
        write_tensors({**nets, **moments}, path, {"told": json.dumps(told)})

    def load(self, path: Path) -> None:
        """Go on from what :meth:`save` wrote."""
        tensors, metadata = read_tensors(path)
        for name in ("net", "average"):
            getattr(self, name).load_state_dict(weights_in(tensors, f"{name}."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in weights_in(tensors, "optimizer.").items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        for name, value in json.loads(metadata["told"]).items():
            setattr(self, name, value)


def pace(table: Table, trainings: Trainings) -> float:
    """CPU seconds of an epoch of the table's cheapest and dearest network now, as a share of what the table says."""
    shares = []
    for i in (int(np.argmin(table.macs)), int(np.argmax(table.macs))):
        arch = table.space.decode(as_genotype(table.genotypes[i]), table.classes)
        trainer = Trainer(lower(arch), trainings.split("train", arch), trainings.split("val", arch), trainings.recipe, seed=0)
        started = time.process_time()
        trainer.run(1)
        shares.append((time.process_time() - started) / (table.images * table.seconds_per_image(i)))
    return float(np.mean(shares))


def train(table: Table, trainings: Trainings, name: str, seed: int, marks: Sequence[int], state: Path) -> None:
    """Train one supernet as far as it is missing in the rows."""
    key = {"table": name, "seed": seed}
    done = {row["trainings"] for row in read_lines(ROWS) if "trainings" in row and {k: row[k] for k in key} == key}
    if done >= set(marks):
        return
    training, path = Training(table, trainings, seed), state / f"{name}-{seed}.safetensors"
    if path.exists():
        training.load(path)
    speed = pace(table, trainings)
    for mark in marks:
        while training.charged < mark * unit(table):
            training.step()
            if training.steps % KEEP == 0:
                training.save(path)
        training.save(path)
        if mark not in done:
            told = {"steps": training.steps, "charged": round(training.charged, 2), "cpu": round(training.cpu, 2), "pace": round(speed, 3)}
            append_line(ROWS, {**key, "trainings": mark, **told, **training.scores()})
            print(key, mark, told, flush=True)


def replay(table: Table, name: str, seed: int) -> None:
    """What the product's search trains in the longest of TOTALS, as one row."""
    kept: list[tuple[int, int]] = []

    class Noted(Replay):
        def train(self, i: int, epoch: int) -> Any:
            kept.append((i, epoch))
            return super().train(i, epoch)

    spent = 0.0
    for step in tinynas_search(expect=False)(Noted(table, seed)):
        spent += step.seconds
        if spent > max(TOTALS) * unit(table):
            break
    append_line(ROWS, {"table": name, "replay": seed, "until": max(TOTALS), "trained": kept})


class Told:
    """Features of networks, and one more: the supernet's ``scores`` of the table's networks, its effect expected to be of ``weight``."""

    def __init__(self, features: Features, table: Table, scores: Floats, weight: float) -> None:
        self.features, self.weights = features, np.append(features.weights, weight)
        self._known = dict(zip(map(as_genotype, table.genotypes), scores, strict=True))

    def __call__(self, genotypes: Genotypes, costs: dict[str, Floats]) -> Floats:
        """(N, features + 1)."""
        return np.column_stack([self.features(genotypes, costs), [self._known[as_genotype(one)] for one in genotypes]])


def believed(table: Table, trained: list[list[int]], seconds: float, belief: str, scores: Floats | None, weight: float) -> Floats:
    """What a search expects of every network of the table when ``seconds`` of the trainings of a replay are done."""
    reached: dict[int, int] = {}
    for i, epoch in trained:
        seconds -= (epoch - reached.get(i, 0)) * table.images * table.seconds_per_image(i)
        if seconds < 0:
            break
        reached[i] = epoch
    nets = [Net(str(i), number, float(table.macs[i])) for number, i in enumerate(reached)]
    for net, (i, epoch) in zip(nets, reached.items(), strict=True):
        net.results += [Result(rung, rung * table.images, table.scores(i, rung)) for rung in table.rungs if rung <= epoch]
    surrogate: Any = Surrogate(table.feasible, 1 / table.classes, belief=belief)
    if scores is not None:
        surrogate.features = Told(surrogate.features, table, scores, weight)
    fit = surrogate.fit(nets, {str(i): as_genotype(table.genotypes[i]) for i in reached})
    looks = surrogate.look(table.genotypes)
    expected = fit.model.expected(looks.features, looks.genes)
    expected[list(reached)] = fit.estimates
    return expected


def taus(table: Table, values: Floats) -> Floats:
    """Kendall's tau of ``values`` with the truth: over all, and the mean of four MACs bands."""
    edges = strata(table.macs, 4)
    bands = np.array([band(macs, edges) for macs in table.macs])
    within = [kendall(values[bands == b], table.truth[bands == b]) for b in range(4) if (bands == b).sum() >= 8]
    return np.array([kendall(values, table.truth), np.mean(within)])


def signed(net: dict, kind: str) -> Floats:
    """A supernet's scores, better ones larger."""
    return np.array(net[kind]) * (-1.0 if kind == "loss" else 1.0)


def compared(table: Table, replays: list[dict], nets: list[dict]) -> dict[Any, dict[tuple[int, int], Floats]]:
    """By variant and (total, of which supernet): taus (replays, 3, 2) of the search alone, of what the supernet leaves of it, of both."""
    times = [(total, mark) for total in TOTALS for mark in MARKS if mark < total and any(net["trainings"] == mark for net in nets)]
    found = {variant: {time: np.zeros((len(replays), 3, 2)) for time in times} for variant in VARIANTS}
    for number, row in enumerate(replays):

        def known(spent: int, *told: Any, trained: list[list[int]] = row["trained"]) -> Floats:
            return taus(table, believed(table, trained, spent * unit(table), *told))

        plain = {spent: known(spent, "process", None, 0.0) for spent in {spent for pair in times for spent in (pair[0], pair[0] - pair[1])}}
        for (belief, kind, weight), (total, mark) in itertools.product(VARIANTS, times):
            told = [signed(net, kind) for net in nets if net["trainings"] == mark]
            both = np.mean([known(total - mark, belief, scores, weight) for scores in told], axis=0)
            found[belief, kind, weight][total, mark][number] = plain[total], plain[total - mark], both
    return found


def alone(table: Table, name: str, nets: list[dict]) -> Iterator[str]:
    """How well supernets order networks by themselves, as lines."""
    twice = twice_trained(name, table)
    scores = {"MACs": table.macs}
    for net, kind in itertools.product(nets, ("accuracy", "loss")):
        what = f"supernet, seed {net['seed']}, {net['trainings']} trainings' worth ({net['steps']} steps)"
        scores[f"{what}: {kind}"] = signed(net, kind)
    yield f"| score | all | within bands | the {len(twice)} trained twice |\n|---|--:|--:|--:|"
    for what, values in scores.items():
        everywhere, within = taus(table, values)
        yield f"| {what} | {everywhere:.2f} | {within:.2f} | {kendall(values[twice], table.truth[twice]):.2f} |"
    text, _, everywhere, within = seed_ceiling(name, table)[-1]
    yield f"| {text} | - | {within:.2f} | {everywhere:.2f} |"
    step = np.median([net["cpu"] / (net["charged"] * net["pace"]) for net in nets])
    score = np.median([net["score_cpu"] / net["pace"] * len(table.rows) / unit(table) for net in nets])
    yield f"\nA step took {step:.2f} of what it is charged. To score all networks took {score:.1f} trainings' worth more, not charged."


def page() -> Iterator[str]:
    """The page of all rows, as lines."""
    rows = list(read_lines(ROWS))
    yield "# A supernet before the search, or not\n\nMade by `python benchmarks/search_supernet.py`; what is not shown is said there."
    for name in CLASSES:
        nets = [row for row in rows if row["table"] == name and "trainings" in row]
        replays = [row for row in rows if row["table"] == name and row.get("until", 0) >= max(TOTALS)]
        if not nets:
            continue
        table = load_table(name)
        yield f"\n## {name}: {len(table.rows)} networks\n"
        yield from alone(table, name, nets)
        found = compared(table, replays, nets)
        yield f"\nIn equal time, {len(replays)} replays (± standard error of the paired mean); {', '.join(map(str, VARIANTS[0]))}:"
        for over, where in enumerate(("all", "bands")):
            yield f"\n| {where}: trainings' worth | of which supernet | search alone | what is left, without the score | with it | more |"
            yield "|--:|--:|--:|--:|--:|--:|"
            for spent, values in found[VARIANTS[0]].items():
                more = values[:, 2, over] - values[:, 0, over]
                means = " | ".join(f"{x:.3f}" for x in values[:, :, over].mean(axis=0))
                error = more.std(ddof=1) / len(replays) ** 0.5
                yield f"| {spent[0]} | {spent[1]} | {means} | {more.mean():+.3f} ± {error:.3f} |"
        yield "\nMean differences over these rows, to the search alone and to what is left without the score:\n"
        yield "| belief, score told, weight | all, alone | all, left | bands, alone | bands, left |\n|---|--:|--:|--:|--:|"
        for variant, by_time in found.items():
            mean = np.mean([values.mean(axis=0) for values in by_time.values()], axis=0)
            cells = " | ".join(f"{mean[2, over] - mean[other, over]:+.3f}" for over in range(2) for other in range(2))
            yield f"| {', '.join(map(str, variant))} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--name", choices=("tin20", "person64"), default="tin20")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--until", type=int, choices=MARKS, default=MARKS[-1], help="full trainings' worth of supernet")
    parser.add_argument("--replays", type=int, default=0, help="replay so many searches")
    parser.add_argument("--report", action="store_true", help="write the page")
    parser.add_argument("--state", type=Path, default=HERE.parent / "results" / "search-supernet-state")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = load_table(options.name)
    if options.data:
        options.state.mkdir(parents=True, exist_ok=True)
        data, recipe = open_data(options.data), table_recipe(RESULTS / f"search_table_{options.name}.recipe.json", [])
        for seed in range(options.seeds):
            trainings = Trainings(data, recipe, seed, options.state)
            marks = [mark for mark in MARKS if mark <= options.until]
            train(table, trainings, options.name, seed, marks, options.state)
    known = {row["replay"] for row in read_lines(ROWS) if row["table"] == options.name and row.get("until", 0) >= max(TOTALS)}
    for seed in set(range(options.replays)) - known:
        replay(table, options.name, seed)
    if options.report:
        write_atomic(RESULTS / "search_supernet.md", "\n".join(page()) + "\n")


if __name__ == "__main__":
    main()
