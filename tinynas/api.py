"""The Python API: each command of the line as one call. Heavy imports happen inside the calls.

>>> from tinynas import estimate
>>> estimate("mcunet-tiny2").macs
1674512
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynas.arch import Arch, load_arch
from tinynas.budget import Budget, load_budget
from tinynas.config import build, load, resolve
from tinynas.cost import Cost
from tinynas.cost import estimate as estimate_graph
from tinynas.errors import RunError, UserError
from tinynas.graph import Graph, lower
from tinynas.objectives import objectives
from tinynas.runs import Run
from tinynas.space import Space

if TYPE_CHECKING:
    from tinynas.data import ImageData
    from tinynas.search import SearchEvent, SearchResult, SearchSettings, SpaceTable


def load_space(name_or_path: str, overrides: Sequence[str] = ()) -> Space:
    """The search space in a YAML file or of a shipped name. Raises ConfigError with all faults at once."""
    return load(resolve(name_or_path, "search_spaces"), Space, overrides)


def load_net(net: str) -> Arch:
    """The architecture that ``net`` names: an arch YAML, a ProxylessNAS JSON, a zoo name, or ``RUN:ID`` of a run.

    Raises ConfigError or RunError with what is known.
    """
    run_name, colon, net_id = net.rpartition(":")
    if colon and not Path(net).exists() and not (len(run_name) == 1 and run_name.isalpha()):
        return Run.open(run_name).arch(net_id).model_copy(update={"name": net})
    return load_arch(net)


def load_graph(net: str) -> Graph:
    """The graph of the network that ``net`` names; see :func:`load_net`."""
    return lower(load_net(net))


def estimate(net: str | Arch | Graph, budget: str | Budget | None = None, runtime: str | None = None) -> Cost:
    """What ``net`` costs. ``runtime`` defaults to the budget's, or to ``tflm``; latency needs a budget (core and clock).

    ``net`` may also be the path of a .tflite file made by anyone. Raises UserError subclasses with the remedy.
    """
    limits = load_budget(budget) if isinstance(budget, str) else budget
    chosen = runtime or (limits.runtime if limits else "tflm")
    core, clock_mhz = (limits.core, limits.clock_mhz) if limits else (None, None)
    if isinstance(net, str) and net.endswith(".tflite"):
        from tinynas.cost.tflite import read_model

        return read_model(Path(net)).estimate(chosen, core=core, clock_mhz=clock_mhz)
    if isinstance(net, str):
        net = load_net(net)
    graph = lower(net) if isinstance(net, Arch) else net
    return estimate_graph(graph, chosen, core=core, clock_mhz=clock_mhz)


# searching ------------------------------------------------------------------------------------------

#: ``--set`` keys that begin with one of these go to that file; all others are settings of the search.
_ROUTES = ("budget", "space", "data")


def route_overrides(overrides: Sequence[str]) -> dict[str, list[str]]:
    """``--set`` texts by where they belong: ``budget.sram=...``, ``space.resolution=...``, ``data.groups=...``, or the settings ("")."""
    routed: dict[str, list[str]] = {"": [], **{name: [] for name in _ROUTES}}
    for text in overrides:
        head, dot, rest = text.partition(".")
        routed[head if dot and head in _ROUTES else ""].append(rest if dot and head in _ROUTES else text)
    return routed


def default_workers() -> int:
    """One training process for each core this process may use; one where a GPU is there to be shared by one process."""
    import os

    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, min(8, len(affinity(0)) if affinity else os.cpu_count() or 1))


def prepare_search(
    budget: str | Budget | None,
    *,
    space: str | Space = "mcunet",
    data: str = "synthetic",
    out: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> PreparedSearch:
    """Everything a search needs, checked before anything is trained.

    ``settings`` are fields of :class:`tinynas.search.SearchSettings`; None leaves the default. With ``resume`` the run
    ``out`` (default: the newest under ``results/``) goes on with the settings it was begun with; only ``trials``,
    ``timeout``, ``workers`` and ``storage`` may change. Raises UserError subclasses.
    """
    from tinynas.data import DataOptions, open_data
    from tinynas.search import SearchSettings

    given = {key: value for key, value in settings.items() if value is not None}
    routed = route_overrides(overrides)
    if resume:
        run = Run.open(out if out is not None else _newest_run())
        config = run.config
        changeable = {key: given[key] for key in ("trials", "timeout", "workers", "storage") if key in given}
        chosen = build({**config["settings"], **changeable}, SearchSettings, source=run.config_file, overrides=routed[""])
        options = build(config["data_options"], DataOptions, source=run.config_file)
        images = open_data(config["data"], seed=chosen.seed, options=options)
        if images.fingerprint != run.env.get("data"):
            raise RunError(f"{config['data']}: the images are not those the run was begun with", "restore them, or start a new run")
        return PreparedSearch(run, run.space, run.budget, images, chosen)
    if budget is None:
        raise UserError("no budget given", "add --budget with a YAML or a shipped name (see: tinynas budgets)")
    limits = load_budget(budget, routed["budget"]) if isinstance(budget, str) else budget
    chosen_space = load_space(space, routed["space"]) if isinstance(space, str) else space
    chosen = build(given, SearchSettings, source="search settings", overrides=routed[""])
    objectives(chosen.objectives)
    options = build({}, DataOptions, source="data options", overrides=routed["data"])
    path = Path(out) if out is not None else Run.fresh_path(_run_name(limits, data))
    if (path / "config.yaml").exists():
        raise RunError(f"{path}: holds a run already", "continue it with --resume, or choose another --out")
    images = open_data(data, seed=chosen.seed, options=options)
    run = Run.create(
        path,
        config={
            "data": data,
            "data_options": options.model_dump(mode="json", exclude_defaults=True),
            "settings": chosen.model_dump(mode="json"),
        },
        space=chosen_space,
        budget=limits,
        env={"seed": chosen.seed, "data": images.fingerprint, "labels": list(images.labels)},
    )
    return PreparedSearch(run, chosen_space, limits, images, chosen)


@dataclass(frozen=True)
class PreparedSearch:
    """A run folder with its checked inputs; :meth:`go` searches."""

    run: Run
    space: Space
    budget: Budget
    data: ImageData
    settings: SearchSettings

    def go(self, on_event: Callable[[SearchEvent], None] | None = None) -> SearchResult:
        """Search; returns when the front is final, or early after Ctrl-C with everything finished on disk."""
        from tinynas.search import search as run_search

        return run_search(self.run, self.space, self.budget, self.data, self.settings, on_event or (lambda _: None))


def search(budget: str | Budget, *, on_event: Callable[[SearchEvent], None] | None = None, **options: Any) -> tuple[Run, SearchResult]:
    """Search for networks that fit ``budget``; see :func:`prepare_search` for the options.

    Returns the run (its folder holds everything) and the result with the front.
    """
    prepared = prepare_search(budget, **options)
    return prepared.run, prepared.go(on_event)


def _run_name(budget: Budget, data: str) -> str:
    words = f"{budget.name}-{Path(data.removeprefix('hf:')).name or 'data'}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.") or "run"


def _newest_run() -> Path:
    runs = sorted(Path("results").glob("*/config.yaml"), key=lambda p: (p.stat().st_mtime, str(p)))
    if not runs:
        raise RunError("results: holds no run to resume", "name it with --out, or start one: tinynas search --budget stm32f746")
    return runs[-1].parent


def rank_spaces(space: str | Space, budget: str | Budget, *, classes: int = 2, seed: int = 0) -> SpaceTable:
    """The (resolution, width) sub-spaces of ``space`` ranked by the MACs of what fits ``budget``; see ``tinynas spaces``."""
    from tinynas.search import rank_spaces as rank

    chosen = load_space(space) if isinstance(space, str) else space
    return rank(chosen, load_budget(budget) if isinstance(budget, str) else budget, classes=classes, seed=seed)


# data ------------------------------------------------------------------------------------------------


def open_images(
    data: str, *, seed: int = 0, overrides: Sequence[str] = (), on_progress: Callable[[str, int, int], None] | None = None
) -> ImageData:
    """The labelled images that ``data`` names; ``overrides`` are data options (``groups=...`` or ``data.groups=...``)."""
    from tinynas.data import DataOptions, open_data

    texts = [text.removeprefix("data.") for text in overrides]
    return open_data(data, seed=seed, options=build({}, DataOptions, source="data options", overrides=texts), on_progress=on_progress)


def label_noise(images: ImageData, *, seed: int = 0, epochs: int = 8) -> dict[str, Any]:
    """Estimated share of wrong training labels and the surest suspects; trains mcunet-tiny2 once for each of three folds."""
    import numpy as np

    from tinynas.data import Split
    from tinynas.data.noise import estimate_noise
    from tinynas.train import Recipe, Trainer

    arch = load_arch("mcunet-tiny2").with_classes(len(images.labels))
    graph = lower(arch)

    def score(train: Split, judged: Split, fold: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        trainer = Trainer(graph, train, judged, Recipe.proxy(epochs=epochs), seed=seed + fold)
        trainer.run()
        logits = trainer.evaluate(judged).logits.astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))

    return estimate_noise(images.split("train", *graph.shape(graph.input)), images.labels, score, seed=seed).to_json()
