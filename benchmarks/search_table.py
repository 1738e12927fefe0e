"""Train the tabular benchmark: many feasible networks, accuracy at every epoch, so that strategies can be replayed.

    python benchmarks/search_table.py --data ../shared/data/images/tin20 --name tin20
    python benchmarks/search_table.py --data ../shared/data/images/gtsrb48 --name gtsrb48 --networks 100 --levels 3 \\
        --set "data.groups='([^/]+/\\d+)_'" --set recipe.augment.light.flip=0
    python benchmarks/search_table.py --data ../shared/data/images/inria_64x128 --name inria --networks 100 --levels 3 \\
        --set "data.groups='(\\D*\\d+)[a-z]?(?:_\\d+)?\\.jpg$'"

What it measures. Networks of benchmarks/search_space.yaml, drawn uniformly and evenly over log MACs, are trained by
tinynas' own Trainer and proxy recipe (constant rate, averaged weights), an epoch being 2,000 images drawn afresh. All
networks are brought to level 1, then to level 2, and so on, so that a run that is cut off leaves a whole table of
shallower trainings; some networks are trained again with other seeds, for the seed-to-seed ceiling. Rows are appended
to results/benchmarks/search_table_<name>.jsonl; the script continues where it stopped.

What it does not measure. Full training (cosine schedule); "full" here means the last level.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tinynas.api import route_overrides
from tinynas.budget import load_budget
from tinynas.config import build, load
from tinynas.cost import estimate
from tinynas.data import DataOptions, open_data
from tinynas.files import append_line, read_lines, write_atomic
from tinynas.graph import lower
from tinynas.recipe import Recipe
from tinynas.search.feasible import Feasible, Floats, as_genotype, band, strata
from tinynas.search.pool import draw_pool
from tinynas.search.settings import SearchSettings
from tinynas.search.training import Trainings
from tinynas.space import Space

HERE = Path(__file__).parent
EPOCH_IMAGES = 2000
LEVELS = (1, 3, 9, 27)
SEEDS = ((0, 1.0), (1, 0.2), (2, 0.1))
"""Seeds and the share of the networks trained with each."""
#: Tables of other shapes than square -> their resolutions, in place of search_space.yaml's.
RESOLUTIONS = {"inria": ((32, 16), (48, 24), (64, 32), (80, 40))}


def table_space(name: str) -> Space:
    """The space whose networks the table holds."""
    space = load(HERE / "search_space.yaml", Space)
    return space.model_copy(update={"resolution": RESOLUTIONS[name]}) if name in RESOLUTIONS else space


def stratified(values: Floats, edges: Sequence[float], rng: np.random.Generator) -> list[int]:
    """All indices, in turn from each band (dearest first, so that the largest are never left out), shuffled within."""
    bands = [list(rng.permutation(np.flatnonzero([band(v, edges) == b for v in values]))) for b in reversed(range(len(edges) + 1))]
    order = []
    while any(bands):
        order += [int(one.pop()) for one in bands if one]
    return order


def networks(space: Space, classes: int, count: int) -> list[tuple[int, ...]]:
    """Half drawn uniformly, half evenly over log MACs; all within the benchmark's budget."""
    feasible = Feasible(space, classes, load_budget("stm32f746"))
    rng = np.random.default_rng(20)
    pool = draw_pool(feasible, 20_000, rng)
    macs = pool.costs["macs"]
    spread = stratified(macs, strata(macs, 8), rng)
    chosen = dict.fromkeys([*range(count // 2), *spread][: count + count])
    return [as_genotype(pool.genotypes[i]) for i in list(chosen)[:count]]


def table_recipe(path: Path, overrides: Sequence[str]) -> Recipe:
    """The search's recipe at the time the table was begun: a table is of one recipe, whatever becomes the default."""
    if not path.exists():
        shipped = SearchSettings().recipe.model_copy(update={"epochs": LEVELS[-1], "epoch_images": EPOCH_IMAGES})
        recipe = build(shipped.model_dump(mode="json"), Recipe, source="recipe", overrides=overrides)
        write_atomic(path, recipe.model_dump_json(indent=1) + "\n")
    return Recipe.model_validate_json(path.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--networks", type=int, default=220)
    parser.add_argument("--levels", type=int, default=len(LEVELS))
    parser.add_argument("--part", default="0/1", help="I/N: every N-th network from I, for N processes side by side")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "benchmarks")
    parser.add_argument("--state", type=Path, default=HERE.parent / "results" / "search-table-state")
    parser.add_argument("--set", action="append", default=[], help="data.KEY=VALUE, recipe.KEY=VALUE", dest="overrides")
    options = parser.parse_args()
    said = route_overrides(options.overrides)
    deadline = time.monotonic() + 60 * options.minutes
    part, parts = map(int, options.part.split("/"))

    space = table_space(options.name)
    data = open_data(options.data, options=build({}, DataOptions, source="data", overrides=said["data"]))
    classes = len(data.labels)
    chosen = networks(space, classes, options.networks)
    table = options.out / f"search_table_{options.name}.jsonl"
    changes = [text.removeprefix("recipe.") for text in said[""]]
    recipe = table_recipe(options.out / f"search_table_{options.name}.recipe.json", changes)
    done = {(row["id"], row["seed"]): len(row["accuracy"]) for row in read_lines(table)}
    for level in LEVELS[: options.levels]:
        for seed, share in SEEDS:
            trainings = Trainings(data, recipe, seed, options.state / options.name / str(seed))
            for index, genotype in enumerate(chosen):
                arch = space.decode(genotype, classes)
                if index >= share * len(chosen) or index % parts != part or done.get((arch.id, seed), 0) >= level:
                    continue
                if time.monotonic() > deadline:
                    print("time is up; run again to continue")
                    return
                trainer = trainings.trainer(arch)
                trainer.run(level)
                trainer.save(trainings.state_file(arch.id))
                history = trainer.history
                row = {
                    "index": index,
                    "id": arch.id,
                    "seed": seed,
                    "genotype": list(genotype),
                    "costs": estimate(lower(arch), "tflm").values(),
                    "accuracy": [round(m.val_accuracy, 5) for m in history],
                    "val_loss": [round(m.val_loss, 5) for m in history],
                    "loss": [round(m.loss, 5) for m in history],
                    "images": [m.images for m in history],
                    "seconds": [round(m.seconds, 3) for m in history],
                }
                append_line(table, row)
                print(
                    f"level {level} seed {seed} {index} {arch.id} {row['costs']['macs'] / 1e6:.2f} M {history[-1].val_accuracy:.3f}",
                    flush=True,
                )
    if parts == 1:
        keep_deepest(table)


def keep_deepest(table: Path) -> None:
    """Drop the rows of levels that a deeper row of the same network and seed contains."""
    deepest = {(row["id"], row["seed"]): row for row in sorted(read_lines(table), key=lambda row: len(row["accuracy"]))}
    ordered = sorted(deepest.values(), key=lambda row: (row["seed"], row["index"]))
    write_atomic(table, "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in ordered))


if __name__ == "__main__":
    main()
