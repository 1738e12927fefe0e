"""The Python API: each command of the line as one call. Heavy imports happen inside the calls.

>>> from tinynas import api
>>> api.estimate("mcunet-tiny2").macs
1674512
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynas.arch import Arch, classes_for, load_arch
from tinynas.budget import Budget, load_budget
from tinynas.config import build, load, resolve, shipped
from tinynas.cost import Cost
from tinynas.cost import estimate as estimate_graph
from tinynas.errors import RunError, UserError
from tinynas.files import cores
from tinynas.foreign import refuse_models, require_tflite, what_is
from tinynas.graph import Graph, lower
from tinynas.objectives import objectives as known_objectives
from tinynas.runs import Run
from tinynas.space import Space

if TYPE_CHECKING:
    import numpy as np

    from tinynas.data import DataSet, Split
    from tinynas.export.deliver import ExportRow
    from tinynas.export.model import ExportOptions
    from tinynas.promote import PromoteEvent
    from tinynas.search import SearchEvent, SearchResult, SearchSettings, SpaceTable


def load_space(name_or_path: str, overrides: Sequence[str] = ()) -> Space:
    """The search space in a YAML file or of a shipped name. Raises ConfigError with all faults at once."""
    return load(resolve(name_or_path, "search_spaces"), Space, overrides)


def load_net(net: str) -> Arch:
    """The architecture that ``net`` names: an arch YAML, a ProxylessNAS JSON, a zoo name, or ``RUN:ID`` of a run.

    Raises ConfigError or RunError with what is known, ModelFileError for a finished model.
    """
    run_name, colon, net_id = net.rpartition(":")
    if colon and not Path(net).exists() and not (len(run_name) == 1 and run_name.isalpha()):
        return Run.open(run_name).arch(net_id).model_copy(update={"name": net})
    if net not in shipped("zoo"):
        refuse_models(net)
    return load_arch(net)


def names_tflite(net: str) -> bool:
    """Whether ``net`` is a .tflite model, by its content, or the name of one that is not there. Raises ModelFileError for a model of
    another kind under such a name."""
    if not Path(net).exists():
        return net.lower().endswith((".tflite", ".lite"))
    if net.lower().endswith((".tflite", ".lite")):
        require_tflite(net)
    return what_is(net).is_tflite


def estimate(net: str | Arch | Graph, budget: str | Budget | None = None, runtime: str | None = None) -> Cost:
    """What ``net`` costs. ``runtime`` defaults to the budget's, or to ``tflm``; latency needs a budget (core and clock).

    ``net`` may also be the path of a .tflite file made by anyone, whatever its name. Raises UserError subclasses with the remedy.
    """
    limits = load_budget(budget) if isinstance(budget, str) else budget
    chosen = runtime or (limits.runtime if limits else "tflm")
    core, clock_mhz = (limits.core, limits.clock_mhz) if limits else (None, None)
    if isinstance(net, str) and names_tflite(net):
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
    """One process for each core this process may use, at most 8: beyond that memory, not cores, is short."""
    return min(8, cores())


def prepare_search(
    budget: str | Budget | None,
    *,
    space: str | Space | None = None,
    data: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    objectives: Sequence[str] | None = None,
    trials: int | None = None,
    timeout: float | str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    storage: str | None = None,
    settings: SearchSettings | None = None,
) -> PreparedSearch:
    """Everything a search needs, checked before anything is trained.

    The parameters are the options of ``tinynas search``; ``timeout`` is in seconds, or a text such as ``"30m"``. ``settings``
    holds the rest (default: a plain :class:`tinynas.search.SearchSettings`): what is given by name goes before it, and
    ``overrides``, the texts of ``--set``, before both. With ``resume`` the run ``out`` (default: the newest under
    ``results/``) goes on with the settings it was begun with; only ``trials``, ``timeout``, ``workers`` and ``storage`` may
    change. Raises UserError subclasses.
    """
    from tinynas.data import DataOptions, open_data
    from tinynas.search import SearchSettings

    changing = _given(trials=trials, timeout=timeout, workers=workers, storage=storage)
    lasting = _given(objectives=None if objectives is None else list(objectives), seed=seed)
    routed = route_overrides(overrides)
    if resume:
        if settings is not None:
            raise UserError("settings beside resume: a run goes on with its own", "leave them out; --set changes a single one")
        run = Run.open(out if out is not None else _newest_run())
        begun = run.config["settings"]
        _check_same_inputs(run, budget, space, data, {key.removesuffix("s"): value == begun[key] for key, value in lasting.items()})
        chosen = build({**begun, **changing}, SearchSettings, source=run.config_file, overrides=routed[""])
        images = _run_images(run, None, ())
        if images.fingerprint != run.env.get("data"):
            raise RunError(f"{images.name}: the images are not those the run was begun with", "restore them, or start a new run")
        return PreparedSearch(run, run.space, run.budget, images, chosen)
    data = data or "synthetic"
    if budget is None:
        raise UserError("no budget given", "add --budget with a YAML or a shipped name (see: tinynas budgets)")
    limits = load_budget(budget, routed["budget"]) if isinstance(budget, str) else budget
    chosen_space = load_space(space, routed["space"]) if isinstance(space, str) else space
    candidates = _shipped_spaces(routed["space"]) if chosen_space is None else []
    defaults = (settings or SearchSettings()).model_dump(mode="json")
    chosen = build({**defaults, **lasting, **changing}, SearchSettings, source="search settings", overrides=routed[""])
    known_objectives(chosen.objectives, limits)
    options = build({}, DataOptions, source="data options", overrides=routed["data"])
    path = Path(out) if out is not None else Run.fresh_path(_run_name(limits, data))
    if (path / "config.yaml").exists():
        raise RunError(f"{path}: holds a run already", "continue it with --resume, or choose another --out")
    images = open_data(data, seed=chosen.seed, options=options)
    choice = None
    if chosen_space is None:
        from tinynas.search import choose_space

        classes = classes_for(images.labels)
        chosen_space, choice = choose_space(candidates, limits, classes=classes, seed=chosen.seed, native_size=images.native_size)
    run = Run.create(
        path,
        config={
            "data": data,
            "data_options": options.model_dump(mode="json", exclude_defaults=True),
            "settings": chosen.model_dump(mode="json"),
            **({"space_choice": choice} if choice else {}),
        },
        space=chosen_space,
        budget=limits,
        env={"seed": chosen.seed, "data": images.fingerprint, "labels": list(images.labels)},
    )
    return PreparedSearch(run, chosen_space, limits, images, chosen)


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _check_same_inputs(
    run: Run, budget: str | Budget | None, space: str | Space | None, data: str | None, settings: Mapping[str, bool]
) -> None:
    """A resumed run goes on with its own inputs: other ones beside ``--resume`` are refused, not ignored.

    ``settings`` says by name whether what is given is what the run was begun with.
    """
    given = {
        **settings,
        "budget": None if budget is None else (load_budget(budget) if isinstance(budget, str) else budget).limits == run.budget.limits,
        "space": None if space is None else (load_space(space) if isinstance(space, str) else space) == run.space,
        "data": None if data is None else data == run.config["data"],
    }
    other = [name for name, same in given.items() if same is False]
    if other:
        raise RunError(
            f"{run.path}: was begun with another {' and '.join(other)}", "leave it out to continue that run, or name the run with --out"
        )


@dataclass(frozen=True)
class PreparedSearch:
    """A run folder with its checked inputs; :meth:`go` searches."""

    run: Run
    space: Space
    budget: Budget
    data: DataSet
    settings: SearchSettings

    def go(self, on_event: Callable[[SearchEvent], None] | None = None) -> SearchResult:
        """Search; returns when the front is final, or early after Ctrl-C with everything finished on disk."""
        from tinynas.search import search as run_search

        return run_search(self.run, self.space, self.budget, self.data, self.settings, on_event or (lambda _: None))


def search(
    budget: str | Budget | None,
    *,
    space: str | Space | None = None,
    data: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overrides: Sequence[str] = (),
    objectives: Sequence[str] | None = None,
    trials: int | None = None,
    timeout: float | str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    storage: str | None = None,
    settings: SearchSettings | None = None,
    on_event: Callable[[SearchEvent], None] | None = None,
) -> tuple[Run, SearchResult]:
    """Search for networks that fit ``budget`` (None with ``resume``); the parameters are those of :func:`prepare_search`.

    Returns the run (its folder holds everything) and the result with the front. ``on_event`` hears what happens on the way.
    """
    prepared = prepare_search(
        budget,
        space=space,
        data=data,
        out=out,
        resume=resume,
        overrides=overrides,
        objectives=objectives,
        trials=trials,
        timeout=timeout,
        workers=workers,
        seed=seed,
        storage=storage,
        settings=settings,
    )
    return prepared.run, prepared.go(on_event)


def _run_name(budget: Budget, data: str) -> str:
    words = f"{budget.name}-{Path(data.removeprefix('hf:')).name or 'data'}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.") or "run"


def _newest_run() -> Path:
    runs = sorted(Path("results").glob("*/config.yaml"), key=lambda p: (p.stat().st_mtime, str(p)))
    if not runs:
        raise RunError("results: holds no run to resume", "name it with --out, or start one: tinynas search --budget stm32f746")
    return runs[-1].parent


def _shipped_spaces(overrides: Sequence[str] = ()) -> list[Space]:
    return [load_space(str(path), overrides) for path in shipped("search_spaces").values()]


def choose_space(budget: str | Budget, *, classes: int = 2, native_size: tuple[int, int] = (0, 0), seed: int = 0) -> tuple[Space, str]:
    """The shipped space that leads under ``budget``, and a sentence that says why.

    ``search`` asks this where no space is named, with the ``classes`` and the ``native_size`` (height, width) of its images: zeros
    stands for images of any size.
    """
    from tinynas.search import choose_space as choose

    limits = load_budget(budget) if isinstance(budget, str) else budget
    return choose(_shipped_spaces(), limits, classes=classes, seed=seed, native_size=native_size)


def rank_spaces(space: str | Space, budget: str | Budget, *, classes: int = 2, seed: int = 0) -> SpaceTable:
    """The (resolution, width) sub-spaces of ``space`` ranked by the MACs of what fits ``budget``; see ``tinynas spaces``."""
    from tinynas.search import rank_spaces as rank

    chosen = load_space(space) if isinstance(space, str) else space
    return rank(chosen, load_budget(budget) if isinstance(budget, str) else budget, classes=classes, seed=seed)


# data ------------------------------------------------------------------------------------------------


def open_images(
    data: str, *, seed: int = 0, overrides: Sequence[str] = (), on_progress: Callable[[str, int, int], None] | None = None
) -> DataSet:
    """The labelled images that ``data`` names; ``overrides`` are data options (``groups=...`` or ``data.groups=...``)."""
    from tinynas.data import DataOptions, open_data

    texts = [text.removeprefix("data.") for text in overrides]
    return open_data(data, seed=seed, options=build({}, DataOptions, source="data options", overrides=texts), on_progress=on_progress)


def label_noise(images: DataSet, *, seed: int = 0, epochs: int = 8) -> dict[str, Any]:
    """Estimated share of wrong training labels and the surest suspects; trains mcunet-tiny2 once for each of three folds."""
    import numpy as np

    from tinynas.data.noise import estimate_noise
    from tinynas.metrics import softmax
    from tinynas.recipe import Recipe
    from tinynas.train import Trainer

    arch = load_arch("mcunet-tiny2").with_classes(len(images.labels))
    graph = lower(arch)

    def score(train: Split, judged: Split, fold: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        trainer = Trainer(graph, train, judged, Recipe.proxy(epochs=epochs), seed=seed + fold)
        trainer.run()
        return softmax(trainer.evaluate(judged).logits.astype(np.float64))

    return estimate_noise(images.split("train", *graph.input.shape), images.labels, score, seed=seed).to_json()


# promoting and exporting ------------------------------------------------------------------------------


def promote(
    run: str | Path | Run,
    ids: Sequence[str] = ("best",),
    *,
    epochs: int | None = None,
    data: str | None = None,
    seed: int = 0,
    qat: bool = False,
    threads: int | None = None,
    formats: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    on_event: Callable[[PromoteEvent], None] | None = None,
) -> list[ExportRow]:
    """Train networks of ``run`` in full, read the test images once, export and check the int8 files.

    ``ids`` are ids of the run or their beginnings, ``best``, or a zoo name or arch file that is trained as a reference by
    the same recipe. ``data`` defaults to the run's; ``overrides`` are settings of :class:`tinynas.train.Recipe` (``recipe.lr=0.005``), or
    data options (``data.val_share=0.1``). ``formats``: of :data:`tinynas.export.formats.FORMATS`, by default all that can hold a
    network. The files are planned and checked for the runtime of the run's budget. Raises UserError subclasses with the remedy.
    """
    from tinynas.export.deliver import export_promoted
    from tinynas.export.formats import check_formats
    from tinynas.promote import promote as train_in_full
    from tinynas.recipe import Recipe
    from tinynas.train.group import rank

    opened = run if isinstance(run, Run) else Run.open(run)
    routed = route_overrides(overrides)
    given = {key: value for key, value in {"epochs": epochs, "threads": threads}.items() if value is not None}
    document = Recipe.full(**given).model_dump(mode="json")
    if qat:
        document["qat_epochs"] = max(1, document["epochs"] // 6)
    changes = [text.removeprefix("recipe.") for text in routed[""]]
    recipe = build(document, Recipe, source="recipe", overrides=changes)
    images = _run_images(opened, data, routed["data"])
    net_ids = list(dict.fromkeys(_id_or_reference(opened, text, len(images.labels)) for text in ids))
    if formats is not None:  # before hours of training
        for net_id in net_ids:
            check_formats(formats, opened.arch(net_id).input)
    options = _export_options(runtime=opened.budget.runtime)
    rows = []
    for net_id in net_ids:
        (promoted,) = train_in_full(opened, [net_id], data=images, recipe=recipe, seed=seed, on_event=on_event)
        if rank() == 0:
            rows.append(export_promoted(opened, net_id, opened.net_dir(net_id), images, promoted, options, formats))
    return rows


def _id_or_reference(run: Run, text: str, classes: int) -> str:
    """The id that ``text`` begins; a zoo name or an arch file joins the run, as the reference row beside its networks."""
    if text in shipped("zoo") or Path(text).is_file():
        arch = load_net(text).with_classes(classes)
        run.write_arch(arch)
        return arch.id
    return run.resolve_id(text)


def export(
    net: str,
    net_id: str | None = None,
    *,
    out: str | Path,
    formats: Sequence[str] | None = None,
    exporter: str = "tinynas",
    runtime: str | None = None,
    io: str = "int8",
    flavour: str = "full",
    data: str | None = None,
    overrides: Sequence[str] = (),
) -> ExportRow:
    """Write and check the int8 file of a promoted network of a run (``net`` the run, ``net_id`` its network) into ``out``.

    With ``net`` alone (``RUN:ID``, an arch file, a zoo name) that was never promoted, weights are random: the file is good for
    sizes, arena and timing on a board, not for answers, and its report says so. ``runtime`` is the one whose memory is planned and
    checked: by default that of the run's budget, or ``tflm``. ``formats`` as in :func:`promote`.
    """
    from tinynas.export.deliver import export_promoted, export_untrained
    from tinynas.export.formats import check_formats

    if formats is not None:
        check_formats(formats)
    routed = route_overrides(overrides)
    given = {"exporter": exporter, "io": io, "flavour": flavour}
    run_name, colon, tail = net.rpartition(":")
    if net_id is None and colon and not Path(net).exists():
        net, net_id = run_name, tail
    if net_id is not None:
        opened = Run.open(net)
        resolved = opened.resolve_id(net_id)
        promoted = opened.promoted(resolved)
        if promoted is None:
            raise RunError(
                f"{opened.path}: {resolved} was not promoted: it has no trained weights", f"tinynas promote {opened.path} {resolved}"
            )
        options = _export_options(routed[""], runtime=runtime or opened.budget.runtime, **given)
        return export_promoted(opened, resolved, Path(out), _run_images(opened, data, routed["data"]), promoted, options, formats)
    options = _export_options(routed[""], runtime=runtime or "tflm", **given)
    return export_untrained(load_net(net), Path(out), options, formats)


def _run_images(run: Run, data: str | None, overrides: Sequence[str]) -> DataSet:
    from tinynas.data import DataOptions, open_data

    config = run.config
    known = config["data_options"] if data is None or data == config["data"] else {}
    options = build(known, DataOptions, source="data options", overrides=overrides)
    images = open_data(data or config["data"], seed=config["settings"].get("seed", 0), options=options)
    labels = run.env.get("labels")
    if labels is not None and len(labels) != len(images.labels):
        raise RunError(
            f"{data}: has {len(images.labels)} classes, the run's networks answer {len(labels)}", "use data with the same classes"
        )
    return images


def _export_options(overrides: Sequence[str] = (), **given: str) -> ExportOptions:
    from tinynas.export import ExportOptions

    return build({"workers": default_workers(), **given}, ExportOptions, source="export options", overrides=overrides)


def evaluate(model: str | Path, data: str, *, split: str = "test", subsets: bool = False, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Accuracy of a .tflite on images, with kernels that equal TFLM's: the document of ``evaluate --json``."""
    from tinynas.export.evaluate import evaluate_splits, input_shape

    require_tflite(model)
    input_shape(model)  # a broken file is said before images are read
    return evaluate_splits(model, open_images(data, overrides=overrides), split, subsets=subsets, workers=default_workers())
