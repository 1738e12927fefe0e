"""What a search may believe of networks, in variants: replays on tin20 and person64 beside the figures of each.

    python benchmarks/search_belief.py --name tin20 --seeds 6 --limit 8
    python benchmarks/search_belief.py --name tin20 --full --seeds 16 --limit 40
    python benchmarks/search_belief.py --name tin20 --match ramp --seeds 8 --limit 8
    python benchmarks/search_belief.py --name gtsrb48 --match '"ramp": 64' --seeds 12 --limit 16
    python benchmarks/search_belief.py --taus       # how well accuracies of networks not seen are predicted, of tin20 and person64
    python benchmarks/search_belief.py --timed      # the default and the front's least trained first, under time limits, of all three
    python benchmarks/search_belief.py --report     # with search_replay_macro.jsonl, which benchmarks/search_replay.py makes

A variant is a line of JSON in ``VARIANTS``: what is trusted after 1, 2, 4, ... epochs (``trust``; ``own``: never), who has turns, how many
networks are drawn before anything is modelled, after how many the front gets its whole share of the training (``ramp``), how far what is
expected of a network is doubted when it is asked what a longer training is worth (``doubt``; without it the least trained of the front goes
on, of those the dearest), the model (``belief``: the regression, the process, or the regression with a prior carried
over from another table), the weight of the loss, what improvements are divided by, what is seen of a network (``seen``: the weight of
sizes given what shows of them, and that of the anatomy: the mean of layers' log MACs, activations, the narrowest). With ``full`` every
training is a full one, of which accuracy alone counts, in a box that begins at that quantile of the table's accuracies. Replays go to
results/benchmarks/search_belief.jsonl; a stopped run is continued. The share is that of the networks handed over by what is
expected of them.

What the figures do not show. Seeds are few: the standard error of a mean is beside it, and variants of one table share their seeds. The
rows in the file looked at the front after every 4 % more training, and their process had a grid in which several members were equal.
``handloss``, ``floor``, ``weighted`` and ``draws`` were tried beside (loss in what is handed over; improvements counted from guessing;
short trainings weigh less in the regression; one draw in place of eight, which a closed form has replaced) and are in the file only.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from typing import Any

import numpy as np
import search_replay
from scipy.stats import kendalltau
from search_replay import CLASSES, RESULTS, Replay, Table, at, curve, load_table, quartiles, search_of_ours, spent_until, tinynas_search

from tinynas import pareto
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.search import acquisition, proposals, schedule, surrogate
from tinynas.search.settings import SearchSettings

ROWS = RESULTS / "search_belief.jsonl"
MARKS = (0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
#: What every variant begins with: the defaults up to 0.7.0.
BEFORE: dict[str, Any] = {"trust": [0.3, 0.5, 0.75, 1.0], "modelled": 8, "settings": {"baseline": 5, "start": 5}, "seen": [1.0, 0.0]}
LATER = [0, 0, 0.25, 0.5, 0.75, 1.0]
SMALL = {"modelled": 6, "settings": {"baseline": 3, "start": 3}}
FOUR = {"modelled": 4, "settings": {"baseline": 2, "start": 2}}
MODEL = {"turns": ["model"]}
NOW = {"trust": LATER, "seen": [0.2, 1.0], "belief": "process"}
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    MODEL,
    {**MODEL, "own": 1},
    {**MODEL, "trust": LATER},
    {"trust": LATER},
    {**MODEL, "own": 1, **SMALL},
    {**MODEL, "trust": LATER, **SMALL},
    {**MODEL, "trust": LATER, **SMALL, "belief": "process"},
    {"own": 1, "belief": "process"},
    {"trust": LATER, **SMALL},
    {"trust": LATER, **SMALL, "seen": [0.0, 1.0]},
    {"trust": LATER, **SMALL, "seen": [0.2, 1.0]},
    {**NOW, **SMALL},
    {**NOW, **FOUR},
    {**NOW, **FOUR, **MODEL},
    {**NOW, "modelled": 3, "settings": {"baseline": 1, "start": 2}},
    *({**NOW, **FOUR, "ramp": networks} for networks in (0, 32, 48, 64)),
    *({**NOW, **FOUR, "ramp": 64, "doubt": doubt} for doubt in (0.5, 1.0)),
    {**MODEL, "own": 1, "belief": "prior"},
    {**MODEL, "own": 1, "belief": "prior", "modelled": 4, "settings": {"baseline": 2, "start": 3}},
    {**MODEL, "trust": LATER, "belief": "prior", "modelled": 4, "settings": {"baseline": 2, "start": 3}},
    {**MODEL, "own": 1, "loss": 0.3},
    {**MODEL, "own": 1, "per_second": 0.5},
)
#: Those of full trainings alone, replayed up to 40 networks.
FULL: tuple[dict[str, Any], ...] = tuple(
    {**NOW, **few, **turns, **belief, "full": quantile}
    for quantile in (0.05, 0.3)
    for few, turns, belief in (
        (SMALL, {}, {}),
        (FOUR, {}, {}),
        (FOUR, MODEL, {}),
        (FOUR, {}, {"belief": "regression"}),
    )
)
#: The table that a prior comes from.
OTHER = {"tin20": "person64", "person64": "tin20"}
#: How much less the prior's prediction is held to nothing than a feature.
BOOST = 3.0


class Carried(surrogate.Linear):
    """The regression with one feature more: what a regression on another table's truth predicts, in its standard deviations."""

    def __init__(self, prior: surrogate.Linear, known: surrogate.Known) -> None:
        self.prior = prior
        super().__init__(self.wider(known.features), known.scores, np.append(known.weights, 1.0))

    def wider(self, features: np.ndarray) -> np.ndarray:
        return np.concatenate([features, self.prior.predict(features, self.prior.weights)[:, None]], axis=1)

    def _standard(self, features: np.ndarray) -> np.ndarray:
        wide = features if features.shape[1] == len(self.mean) else self.wider(features)
        return super()._standard(wide) * np.append(np.ones(len(self.mean) - 1), BOOST)


SHIPPED = dict(surrogate.BELIEFS)
_features = surrogate.Features.__init__


def look(sizes: float, anatomy: float) -> None:
    """Weigh sizes, given what shows of them, and the anatomy so."""

    def weighed(self: surrogate.Features, feasible: Any) -> None:
        _features(self, feasible)
        # Of sram, macs, macs**2, params, activations, narrowest, mean_log_macs the last three.
        self.weights = np.append(self.weights[:-3], [anatomy] * 3)

    surrogate.LESS = sizes
    surrogate.Features.__init__ = weighed


def taus() -> str:
    """Kendall's tau of predicted accuracies with the true ones, of networks that were not seen."""
    lines = ["| | tin20, 8 | 16 | 32 seen | person64, 8 | 16 | 32 seen |", "|---|--:|--:|--:|--:|--:|--:|"]
    for belief, (sizes, anatomy) in itertools.product(SHIPPED, ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.2, 0.0), (0.2, 1.0))):
        look(sizes, anatomy)
        cells = []
        for table in map(load_table, OTHER):
            known = surrogate.Surrogate(table.feasible, 1 / table.classes)
            looks = known.look(table.genotypes)
            features, genes = looks.features, looks.genes
            scores = np.array([table.seen(i, table.rungs[-1]) for i in range(len(table.rows))])
            for count in (8, 16, 32):
                rng, found = np.random.default_rng(0), []
                for _ in range(40):
                    order = rng.permutation(len(scores))
                    these, others = order[:count], order[count:]
                    seen = surrogate.Known(features[these], known.features.weights, genes[these], scores[these])
                    predicted = SHIPPED[belief](seen).expected(features[others], genes[others])
                    found.append(kendalltau(predicted, table.truth[others])[0])
                cells.append(f"{np.mean(found):.3f}")
        lines.append(f"| {belief}, sizes {sizes:g}, anatomy {anatomy:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def timed() -> str:
    """The share of the best hypervolume of what is handed over after so many trainings' time, shared out as the product does; 16 seeds."""
    limits = (1, 2, 4, 8, 16)
    lines = [f"| | {' | '.join(map(str, limits))} |", "|---|" + "--:|" * len(limits)]
    shipped = acquisition.DOUBT
    for name, doubt in itertools.product(CLASSES, (0.0, shipped)):
        table, acquisition.DOUBT = load_table(name), doubt
        unit = float(np.median([table.seconds_per_image(i) for i in range(len(table.rows))])) * table.images * table.rungs[-1]
        cells = []
        for limit in limits:
            shares = []
            for seed in range(16):
                *_, (_, ours) = search_of_ours(Replay(table, 300 + seed), SearchSettings(), limit * unit)
                expected = ours.expected()
                nets = [net for net in ours.nets.values() if net.id in expected]
                front = pareto.front([(expected[net.id], net.cost) for net in nets], (True, False))
                shares.append(table.volume([int(nets[k].id) for k in front]) / table.best)
            cells.append(f"{np.mean(shares):.3f} ± {np.std(shares) / len(shares) ** 0.5:.3f}")
        lines.append(f"| {name}, {'by what it is worth' if doubt else 'the least trained of the front'} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def prior_of(name: str) -> surrogate.Linear:
    """The regression on all networks of a table."""
    table = load_table(name)
    features = surrogate.Features(table.feasible)(table.genotypes, table.feasible.costs(table.genotypes))
    return surrogate.Linear(features, (table.truth - table.truth.mean()) / table.truth.std())


def vary(table: Table, name: str, variant: dict[str, Any]) -> None:
    """Put a variant in the place of the product's constants."""
    options = {**BEFORE, **variant}
    look(*options["seen"])
    surrogate.TRUST = tuple(0 * np.array(options["trust"])) if options.get("own") else tuple(options["trust"])
    surrogate.MODELLED = proposals.MODELLED = options["modelled"]
    schedule.LOSS_WEIGHT = options.get("loss", 0.1)
    search_replay.RAMP = options.get("ramp", 0)
    acquisition.DOUBT = options.get("doubt", 0.0)
    prior = prior_of(OTHER[name]) if options.get("belief") == "prior" else None
    regression = SHIPPED["regression"] if prior is None else functools.partial(Carried, prior)
    surrogate.BELIEFS.update({**SHIPPED, "regression": regression})
    plain = acquisition.Acquisition.expected_improvement if not hasattr(vary, "plain") else vary.plain
    vary.plain = plain

    def per_second(self, fit, nets, looks, awaited=()):
        seconds = table.fixed + table.per_mac * looks.costs["macs"]
        return plain(self, fit, nets, looks, awaited) / seconds ** options["per_second"]

    acquisition.Acquisition.expected_improvement = per_second if "per_second" in options else plain
    first = proposals.Proposer.__init__ if not hasattr(vary, "first") else vary.first
    vary.first = first

    def best_first(self, *args, **more):
        # The start takes what the prior puts first in each band.
        first(self, *args, **more)
        said = prior.predict(self.surrogate.look(self.pool.genotypes).features, prior.weights)
        self._bands = [rows[np.argsort(-said[rows], kind="stable")] for rows in self._bands]

    proposals.Proposer.__init__ = best_first if prior is not None else first


@functools.cache
def in_full(name: str, quantile: float) -> Table:
    """The table without short trainings and losses, in a box that begins at a quantile of its accuracies."""
    table = load_table(name)
    top = table.rungs[-1]
    table.rungs = (top,)
    table.reference = table.floor = float(np.quantile(table.truth, quantile))
    table.best = table.volume(range(len(table.rows)))
    table.scores = lambda i, epoch: {"accuracy": table.seen(i, epoch), "val_loss": 0.0}
    return table


def replay(table: Table, name: str, variant: dict[str, Any], seed: int, limit: float) -> dict[str, Any]:
    """One row."""
    if "full" in variant:
        table = in_full(name, variant["full"])
    vary(table, name, variant)
    settings = {**BEFORE, **variant}["settings"]
    belief = "process" if variant.get("belief") == "process" else "regression"
    points = curve(table, tinynas_search({**settings, "belief": belief}), seed, limit)
    shares = [round(at(points, 0, mark), 4) for mark in MARKS if mark <= limit]
    until = {str(share): spent_until(points, 0, share) for share in (0.9, 0.95)}
    return {"table": name, "variant": variant, "seed": seed, "limit": limit, "shares": shares, "trainings": until}


def page() -> str:
    """The table of all rows."""
    rows = list(read_lines(ROWS))
    lines = []
    for (name, limit), group in itertools.groupby(sorted(rows, key=lambda r: (r["table"], r["limit"])), lambda r: (r["table"], r["limit"])):
        marks = [mark for mark in MARKS if mark <= limit]
        by: dict[str, list[dict]] = {}
        for row in group:
            by.setdefault(json.dumps(row["variant"], sort_keys=True), []).append(row)
        lines += ["", f"{name}, up to {limit:g} full trainings:", ""]
        lines.append("| variant | seeds | mean | " + " | ".join(f"{m:g}" for m in marks) + " | 90 % after | 95 % after |")
        lines.append("|---|--:|--:|" + "--:|" * (len(marks) + 2))
        for variant, found in by.items():
            shares = np.array([row["shares"] for row in found])
            error = shares.mean(axis=1).std() / len(found) ** 0.5
            cells = " | ".join(f"{x:.3f}" for x in shares.mean(axis=0))
            until = " | ".join(quartiles([row["trainings"][s] for row in found], 1) for s in ("0.9", "0.95"))
            lines.append(f"| `{variant}` | {len(found)} | {shares.mean():.4f} ± {error:.4f} | {cells} | {until} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", choices=tuple(CLASSES), default="tin20")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--limit", type=float, default=8.0)
    parser.add_argument("--full", action="store_true", help="the variants of full trainings alone")
    parser.add_argument("--match", default="", help="only variants whose JSON has this in it")
    parser.add_argument("--taus", action="store_true", help="only print how well accuracies are predicted")
    parser.add_argument("--timed", action="store_true", help="only print what two ways to deepen come to under time limits")
    parser.add_argument("--report", action="store_true", help="only write the table into results/benchmarks/search_belief.md")
    options = parser.parse_args()
    if options.taus or options.timed:
        print(taus() if options.taus else timed())
        return
    if not options.report:
        known = {json.dumps([r["table"], r["variant"], r["seed"], r["limit"]], sort_keys=True) for r in read_lines(ROWS)}
        table = load_table(options.name)
        for variant, seed in itertools.product(FULL if options.full else VARIANTS, range(options.seeds)):
            if (
                options.match in json.dumps(variant)
                and json.dumps([options.name, variant, seed, options.limit], sort_keys=True) not in known
            ):
                append_line(ROWS, replay(table, options.name, variant, seed, options.limit))
    path = RESULTS / "search_belief.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    mark = "\n## Every variant\n"
    write_atomic(path, text.split(mark)[0] + mark + page())


if __name__ == "__main__":
    main()
