"""How well cheap scores rank networks: Kendall's tau against the deepest training of the tabular benchmark.

    python benchmarks/search_tau.py --data ../shared/data/images/tin20 --name tin20

Scores: MACs, parameters, NASWOT (Mellor et al., arXiv 2006.04647: log determinant of the activation patterns' kernel of
one batch at initialisation), accuracy, validation loss and summed training loss after each rung, accuracy and a share
of the validation loss (the search's score), and a fixed subset of the images. Over all networks, and as the mean over
four MACs bands, where MACs alone say little. The ceiling is the tau between two seeds of the same training.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from search_replay import RESULTS, Table, load_table

from tinynas.data import Split, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.model import ConvBN, Network, normalise
from tinynas.search.feasible import band, strata
from tinynas.search.schedule import score
from tinynas.search.settings import SearchSettings
from tinynas.train import Trainer


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    """Tau-b of two score lists."""
    i, j = np.triu_indices(len(a), 1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    ties = np.sqrt((x != 0).sum() * (y != 0).sum())
    return float((x * y).sum() / ties) if ties else 0.0


def naswot(arch, images: np.ndarray) -> float:
    """Log determinant of the kernel of activation patterns of one batch, at initialisation."""
    network = Network(lower(arch), seed=0).train()
    kernel = torch.zeros(len(images), len(images))

    def collect(module: ConvBN, _inputs, output: torch.Tensor) -> None:
        if module.act != "none":
            code = (output > 0).flatten(1).float()
            kernel.add_(code @ code.T + (1 - code) @ (1 - code).T)

    hooks = [m.register_forward_hook(collect) for m in network.modules() if isinstance(m, ConvBN)]
    with torch.no_grad():
        network(normalise(torch.from_numpy(images), network.graph.input))
    for hook in hooks:
        hook.remove()
    return float(torch.linalg.slogdet(kernel)[1])


def split_of(data, cache: dict, arch, name: str) -> Split:
    key = (name, arch.height)
    if key not in cache:
        cache[key] = data.split(name, arch.height, arch.width, arch.channels)
    return cache[key]


def extra_scores(table: Table, data, name: str, subset_networks: int) -> dict[str, dict[int, float]]:
    """NASWOT of every network, and training on a subset for some; kept in a file beside the table."""
    path = RESULTS / f"search_tau_{name}.jsonl"
    rows = list(read_lines(path))
    found: dict[str, dict[int, float]] = {"naswot": {}, "subset": {}}
    index_of = {row["id"]: i for i, row in enumerate(table.rows)}
    for row in rows:
        if row["id"] in index_of:
            found[row["score"]][index_of[row["id"]]] = row["value"]
    cache: dict = {}
    rng = np.random.default_rng(0)
    chosen = set(rng.permutation(len(table.rows))[:subset_networks].tolist())
    recipe = SearchSettings().recipe.model_copy(update={"epochs": 3, "epoch_images": 0, "subset": 2000})
    for i, row in enumerate(table.rows):
        arch = table.space.decode(row["genotype"], table.classes)
        if i not in found["naswot"]:
            images = np.array(split_of(data, cache, arch, "train").inputs[:64])
            found["naswot"][i] = naswot(arch, images)
            append_line(path, {"id": row["id"], "score": "naswot", "value": found["naswot"][i]})
        if i in chosen and i not in found["subset"]:
            trainer = Trainer(lower(arch), split_of(data, cache, arch, "train"), split_of(data, cache, arch, "val"), recipe, seed=0)
            trainer.run()
            found["subset"][i] = trainer.history[-1].val_accuracy
            append_line(path, {"id": row["id"], "score": "subset", "value": found["subset"][i]})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--subset-networks", type=int, default=60)
    options = parser.parse_args()
    table = load_table(options.name)
    extra = extra_scores(table, open_data(options.data), options.name, options.subset_networks)
    everything = range(len(table.rows))
    scores: dict[str, dict[int, float]] = {
        "MACs": {i: table.macs[i] for i in everything},
        "parameters": {i: table.rows[i]["costs"]["params"] for i in everything},
        "NASWOT": extra["naswot"],
    }
    for rung in table.rungs[:-1]:
        images = rung * table.images
        scores[f"accuracy, {images:,} images"] = {i: table.scores(i, rung)["accuracy"] for i in everything}
        scores[f"validation loss, {images:,} images"] = {i: -table.scores(i, rung)["val_loss"] for i in everything}
        scores[f"summed training loss, {images:,} images"] = {i: -table.scores(i, rung)["loss_sum"] for i in everything}
        scores[f"the search's score, {images:,} images"] = {i: score(table.scores(i, rung), 1 / table.classes) for i in everything}
    if extra["subset"]:
        scores["accuracy, 3 passes over a subset of 2,000"] = extra["subset"]
        same = {i: table.scores(i, 3)["accuracy"] for i in extra["subset"]}
        scores["accuracy, 6,000 images, the same networks"] = same
    ceilings = seed_ceiling(options.name, table)
    twice = twice_trained(options.name, table)
    lines = [
        f"# Cheap scores against the deepest training on {options.name}",
        "",
        f"{len(table.rows)} networks; Kendall's tau with the accuracy after {table.rungs[-1] * table.images:,} images (mean of the last "
        "epochs). "
        f"Bands: mean over four MACs bands of equal width in log MACs. The last column: the {len(twice)} networks that were trained with a "
        "second seed, to be compared with the ceiling (they were all drawn uniformly, so their sizes differ less). "
        "Made by `python benchmarks/search_tau.py`.",
        "",
        f"| score | networks | all | within bands | the {len(twice)} |",
        "|---|---|---|---|---|",
    ]
    edges = strata(table.macs, 4)
    bands = np.array([band(m, edges) for m in table.macs])
    for name, values in scores.items():
        index = np.array(sorted(values))
        x, y = np.array([values[i] for i in index]), table.truth[index]
        within = [kendall(x[bands[index] == b], y[bands[index] == b]) for b in range(4) if (bands[index] == b).sum() >= 8]
        both = np.isin(index, twice)
        same = f"{kendall(x[both], y[both]):.2f}" if both.sum() >= 20 else "-"
        lines.append(f"| {name} | {len(index)} | {kendall(x, y):.2f} | {np.mean(within):.2f} | {same} |")
    for text, count, tau, within_tau in ceilings:
        lines.append(f"| {text} | {count} | - | {within_tau:.2f} | {tau:.2f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    write_atomic(RESULTS / f"search_tau_{options.name}.md", text)


def twice_trained(name: str, table: Table) -> list[int]:
    """Indices of the networks that seed 1 trained to the end."""
    index_of = {row["id"]: i for i, row in enumerate(table.rows)}
    rows = read_lines(RESULTS / f"search_table_{name}.jsonl")
    deep = {row["id"] for row in rows if row["seed"] == 1 and len(row["accuracy"]) >= table.rungs[-1]}
    return sorted(index_of[id_] for id_ in deep if id_ in index_of)


def seed_ceiling(name: str, table: Table) -> list[tuple[str, int, float, float]]:
    """Tau between seeds 0 and 1 at the deepest epoch that both have."""
    by_key = {}
    for row in read_lines(RESULTS / f"search_table_{name}.jsonl"):
        by_key[(row["id"], row["seed"])] = row
    index_of = {row["id"]: i for i, row in enumerate(table.rows)}
    edges = strata(table.macs, 4)
    result = []
    for rung in table.rungs:
        pairs = [
            (
                index_of[id_],
                float(np.mean(by_key[(id_, 0)]["accuracy"][:rung][-max(1, rung // 4) :])),
                float(np.mean(row["accuracy"][:rung][-max(1, rung // 4) :])),
            )
            for (id_, seed), row in by_key.items()
            if seed == 1 and id_ in index_of and len(row["accuracy"]) >= rung
        ]
        if len(pairs) < 10:
            continue
        x, y = np.array([p[1] for p in pairs]), np.array([p[2] for p in pairs])
        bands = np.array([band(table.macs[p[0]], edges) for p in pairs])
        within = [kendall(x[bands == b], y[bands == b]) for b in range(4) if (bands == b).sum() >= 5]
        result.append(
            (
                f"ceiling: another seed, both at {rung * table.images:,} images",
                len(pairs),
                kendall(x, y),
                float(np.mean(within) if within else 0),
            )
        )
    return result


if __name__ == "__main__":
    main()
