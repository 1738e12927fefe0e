"""The Python API: each command of the line as one call. Heavy imports happen inside the calls.

>>> from tinynas import api
>>> api.estimate("mcunet-tiny2").macs
1674512
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinynas.arch import Arch, classes_for, load_arch
from tinynas.budget import LEARNING, Budget, load_budget
from tinynas.config import Config, build, format_size, load, resolve, shipped
from tinynas.cost import Cost
from tinynas.cost import estimate as estimate_graph
from tinynas.cost.runtimes import runtime_named
from tinynas.errors import BudgetError, ModelFileError, RunError, TinynasError, UserError, shell_line
from tinynas.files import cores, disk_error, process_number, write_atomic
from tinynas.foreign import refuse_models, require_tflite, what_is
from tinynas.graph import Graph, lower
from tinynas.objectives import MEAN_AVERAGE_PRECISION, of_several, traded
from tinynas.objectives import objectives as known_objectives
from tinynas.records import ADAPTED
from tinynas.runs import NOT_SEARCHED, STORAGE_VARIABLE, Run, data_place, without_password
from tinynas.space import Space

if TYPE_CHECKING:
    import numpy as np

    from tinynas.compare import Fit
    from tinynas.data import DataOptions, DataSet, Split
    from tinynas.export.compiled_verify import VerifiedNetwork
    from tinynas.export.deliver import ExportRow
    from tinynas.export.model import ExportOptions
    from tinynas.export.verify import Verified
    from tinynas.promote import PromoteEvent
    from tinynas.search import Place, SearchEvent, SearchResult, SearchSettings, SpaceTable


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
    """What ``net`` costs. ``runtime`` defaults to the budget's, or to ``tflm``; latency needs a budget (core and clock). Whether it fits
    with another runtime than the budget's is what ``budget.for_runtime(runtime)`` says.

    ``net`` may also be the path of a .tflite file made by anyone, whatever its name. Raises UserError subclasses with the remedy.
    """
    limits = load_budget(budget) if isinstance(budget, str) else budget
    if limits is not None and runtime is not None:
        limits = limits.for_runtime(runtime)
    chosen = limits.runtime if limits else "tflm" if runtime is None else runtime
    if isinstance(net, str) and names_tflite(net):
        from tinynas.cost.tflite import read_model

        model = read_model(Path(net))
        if limits is None:
            return model.estimate(chosen)
        return model.estimate(chosen, core=limits.core, clock_mhz=limits.timed_mhz, timing=limits.timing)
    if isinstance(net, str):
        net = load_net(net)
    graph = lower(net) if isinstance(net, Arch) else net
    return estimate_graph(graph, chosen) if limits is None else limits.cost(graph)


def compare(nets: Sequence[str], boards: Sequence[str] | None = None) -> list[Fit]:
    """Every network on every board (default: all of the board table), worst first; see :mod:`tinynas.compare`."""
    from tinynas.compare import all_boards
    from tinynas.compare import compare as fits

    return fits(nets, all_boards() if boards is None else boards, lambda net, budget: estimate(net, budget))


def verify(
    net: str,
    *,
    target: str = "cortex-m4",
    tflm: str | None = None,
    kernels: str | None = None,
    jobs: int | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Verified | VerifiedNetwork:
    """Run a .tflite, or the exported network of a run (``RUN``, ``RUN:ID``), and its firmware folder on an emulated core.

    TFLM comes from the tree ``tflm`` (default: ``$TFLM_DIR``), built into the cache the first time, for each core and kind of
    ``kernels`` (default: those of the run's budget, ``cmsis-nn`` for a file); ``on_note`` hears how long that will take. Of a run the
    very folder that was exported is built, of a file one is made. Where the run's budget is for compiled code, the folder holds the network
    itself and no TFLM is needed. Raises UserError where the tool chain, the emulator or the tree is wanting, and what reading the model
    raises.
    """
    if names_tflite(net):
        path, folder = Path(net), None
        _read_model(path)  # a path that is wrong is said before what else is wanting
        checks: Callable[..., Verified | VerifiedNetwork] = _prepare_checks(target, tflm, kernels or "cmsis-nn")
    else:
        run, net_id = _of_run(net)
        path = _exported(run, net_id)
        folder = _firmware_folder(run, net_id)
        checks = _run_checks(run, target, tflm, kernels, on_note)
    return checks(path, folder, jobs=jobs, on_step=on_step, on_note=on_note)


def _run_checks(
    run: Run, target: str, tflm: str | None, kernels: str | None, on_note: Callable[[str], None] | None
) -> Callable[..., Verified | VerifiedNetwork]:
    """What verifies a network of ``run`` and its firmware folder; whatever it will need is there, or UserError is raised."""
    if runtime_named(run.budget.runtime).frame is None:
        return _prepare_checks(target, tflm, _run_kernels(run, kernels, on_note))
    from tinynas.export.compiled_verify import check_network_tools, verify_network
    from tinynas.target.cores import core_named

    core, runtime = core_named(target), run.budget.runtime
    if kernels is not None:
        raise UserError(f"--kernels {kernels}: the run's budget is for {runtime}, whose kernels are its own", "leave --kernels out")
    if tflm is not None and on_note is not None:
        on_note(f"the run's budget is for {runtime}: {tflm} is not needed, and not looked at")
    check_network_tools()

    def verify_folder(path: Path, folder: Path | None, **options: Any) -> VerifiedNetwork:
        net_id = path.parent.name
        if folder is None:
            remedy = shell_line("tinynas", "promote", run.path, net_id)
            raise RunError(f"{run.path}: {net_id} has no folder c/: nothing of {runtime} to run", f"export it again: {remedy}")
        graph = lower(run.arch(net_id))
        return verify_network(_read_model(path), path.name, graph, runtime, core, folder, on_step=options.get("on_step"))

    return verify_folder


def _prepare_checks(target: str, tflm: str | None, kernels: str) -> Callable[..., Verified]:
    """What verifies a model file and its firmware folder; whatever it will need is there, or UserError is raised."""
    from tinynas.export.verify import check_tools, verify_model
    from tinynas.files import cache_dir
    from tinynas.target.cores import core_named
    from tinynas.target.library import Tree, kernels_named

    core, kind, tree = core_named(target), kernels_named(kernels), Tree.find(tflm)
    check_tools(core, tree, kind, cache_dir())

    def verify_file(path: Path, folder: Path | None, **options: Any) -> Verified:
        return verify_model(_read_model(path), path.name, core, tree, kind, cache_dir(), folder=folder, **options)

    return verify_file


def _read_model(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise disk_error(path, error, "read") from None


def _kernels_for(budget: Budget) -> str:
    """Kernels that the budget's runtime runs; CMSIS-NN where it is none of TFLM's."""
    return "reference" if budget.runtime.partition("@")[0] == "tflm" else "cmsis-nn"


def _run_kernels(run: Run, kernels: str | None, on_note: Callable[[str], None] | None) -> str:
    """``kernels``, by default those of the run's budget; others are noted: the firmware's arena is for those of the budget."""
    made_for = _kernels_for(run.budget)
    if kernels is not None and kernels != made_for and on_note is not None:
        on_note(f"the run's budget is for {run.budget.runtime}: the firmware's arena may be too small for {kernels} kernels")
    return kernels or made_for


def _of_run(net: str) -> tuple[Run, str]:
    name, colon, net_id = net.rpartition(":")
    named = bool(colon) and not Path(net).exists()
    opened = Run.open(name if named else net)
    return opened, opened.resolve_id(net_id if named else "best")


def _exported(run: Run, net_id: str) -> Path:
    from tinynas.export.formats import MODEL_FILE

    path = run.net_dir(net_id) / MODEL_FILE
    if not path.is_file():
        raise RunError(f"{run.path}: {net_id} has no {MODEL_FILE}: it was not promoted", shell_line("tinynas", "promote", run.path, net_id))
    return path


def _firmware_folder(run: Run, net_id: str) -> Path | None:
    folder = run.net_dir(net_id) / "c"
    return folder if folder.is_dir() else None


# searching ------------------------------------------------------------------------------------------

#: ``--set`` keys that begin with one of these go to that file; all others are settings of the search.
_ROUTES = ("budget", "space", "data")
#: Opening data for the first time may take the first of several processes a while.
MADE_WITHIN_S = 600.0


def route_overrides(overrides: Sequence[str]) -> dict[str, list[str]]:
    """``--set`` texts by where they belong: ``budget.sram=...``, ``space.resolution=...``, ``data.groups=...``, or the settings ("")."""
    routed: dict[str, list[str]] = {"": [], **{name: [] for name in _ROUTES}}
    for text in overrides:
        head, dot, rest = text.partition(".")
        routed[head if dot and head in _ROUTES else ""].append(rest if dot and head in _ROUTES else text)
    return routed


def _refuse_misplaced(texts: Sequence[str], settings: type[Config]) -> None:
    """Raise UserError for ``--set`` keys that are none of ``settings`` and are keys of the budget, the space or the data."""
    from tinynas.data import DataOptions

    models: tuple[type[Config], ...] = (Budget, Space, DataOptions)
    for text in texts:
        key = re.split(r"[.=]", text, maxsplit=1)[0].strip()
        homes = [name for name, model in zip(_ROUTES, models, strict=True) if key in model.model_fields]
        if homes and key not in settings.model_fields:
            raise UserError(
                f"--set {text}: {key} is no setting of the search, but of the {homes[0]}", f"write it as --set {homes[0]}.{text}"
            )


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
    cluster: str | None = None,
    settings: SearchSettings | None = None,
    begins: Callable[[], None] | None = None,
) -> PreparedSearch:
    """Everything a search needs, checked before anything is trained.

    The parameters are the options of ``tinynas search``; ``timeout`` is in seconds, or a text such as ``"30m"``. ``settings``
    holds the rest (default: a plain :class:`tinynas.search.SearchSettings`): what is given by name goes before it, and
    ``overrides``, the texts of ``--set``, before both. With ``resume`` the run ``out`` (default: the newest under
    ``results/``) goes on with the settings it was begun with: the same ones may be given again, others are refused by name. Only
    ``trials``, ``timeout`` and ``workers`` may change, ``data`` may name another place of the same data, and ``storage`` another
    address of the same study (or, before the first network, any). ``cluster`` is the address of a Dask scheduler whose workers train, at
    most ``workers`` networks at once where that is given; the run does not keep it. ``begins`` is called when what was said has been
    checked, before the data is looked at, which may take minutes. Raises UserError subclasses.
    """
    from tinynas.adapt.candidates import Adaptation, open_new, with_room
    from tinynas.data import SPLITS, DataOptions, open_data
    from tinynas.data.sources import exists
    from tinynas.search import Place, SearchSettings
    from tinynas.search.prepare import check_goals
    from tinynas.search.study import check_storage

    place = None if cluster is None else Place(cluster, workers)
    changing = _given(trials=trials, timeout=timeout, workers=workers)
    lasting = _given(objectives=None if objectives is None else list(objectives), seed=seed)
    routed = route_overrides(overrides)
    if resume:
        if settings is not None:
            raise UserError("settings beside resume: a run goes on with its own", "leave them out; --set changes a single one")
        run = Run.open(out if out is not None else _newest_run())
        if not run.searched:
            raise RunError(
                f"{run.path}: was made by tinynas promote, and nothing was searched in it", "name the run of a search with --out"
            )
        return replace(_prepare_again(run, budget, space, data, {**lasting, **changing}, routed, storage, begins), cluster=place)
    data = data or "synthetic"
    if budget is None:
        raise UserError("no budget given", "add --budget with a YAML or a shipped name (see: tinynas budgets)")
    limits = load_budget(budget, routed["budget"]) if isinstance(budget, str) else budget
    chosen_space = load_space(space, routed["space"]) if isinstance(space, str) else space
    defaults = (settings or SearchSettings()).model_dump(mode="json")
    lasting |= _given(storage=storage or os.environ.get(STORAGE_VARIABLE) or None)
    _refuse_misplaced(routed[""], SearchSettings)
    chosen = build({**defaults, **lasting, **changing}, SearchSettings, source="search settings", overrides=routed[""])
    chosen = _with_places(chosen.model_copy(update={"storage": _absolute(chosen.storage)}))
    known_objectives(chosen.objectives, limits)
    _trains_from_nothing(chosen)
    options = _absolute_files(build({}, DataOptions, source="data options", overrides=routed["data"]))
    if out is not None and (Path(out) / "config.yaml").exists():
        raise RunError(f"{out}: holds a run already", "continue it with --resume, or choose another --out")
    if chosen.storage is not None:
        check_storage(chosen.storage)
    if begins is not None and exists(data):
        begins()
    images = open_data(data, seed=chosen.seed, options=options)
    if images.several:
        chosen = chosen.model_copy(update={"objectives": of_several(chosen.objectives)})
    check_goals(chosen.objectives, images)
    new: DataSet | None = None
    if any(goal.needs == ADAPTED for goal in known_objectives(chosen.objectives, limits)):
        limits, new = with_room(limits, chosen.adapt), open_new(chosen.adapt, images, seed=chosen.seed)
    elif chosen.adapt != Adaptation():
        raise UserError(
            "--adapt-data, or --set adapt.: nothing asks for what is learned on the board", f"add --objective {ADAPTED}, or leave it out"
        )
    choice = None
    if chosen_space is None:
        from tinynas.search import choose_space

        classes = classes_for(images.labels)
        candidates = _spaces_for(images, limits, routed["space"])
        chosen_space, choice = choose_space(candidates, limits, classes=classes, seed=chosen.seed, native_size=images.native_size)
    if images.signal.kind == "sequence":
        chosen_space = _of_features(chosen_space, images.native_size)
    _reads(chosen_space, images)
    kept = chosen if chosen.storage is None else chosen.model_copy(update={"storage": without_password(chosen.storage)})
    path = Path(out) if out is not None else Run.fresh_path(_run_name(limits, data))
    run = Run.create(
        path,
        config={
            **data_place(data, path),
            "data_options": options.model_dump(mode="json", exclude_defaults=True),
            "settings": kept.model_dump(mode="json"),
            **({"space_choice": choice} if choice else {}),
        },
        space=chosen_space,
        budget=limits,
        env={
            "seed": chosen.seed,
            "data": images.fingerprint,
            "labels": list(images.labels),
            "notes": list(images.notes),
            "images": {split: len(rows) for split, rows in images.members.items()},
            "counts": {split: images.counts(split) for split in SPLITS},
            **_given(groups=_groups_digest(options), attributes=images.attributes_digest, adapt=None if new is None else new.fingerprint),
        },
    )
    return PreparedSearch(run, chosen_space, limits, images, chosen, place)


def _trains_from_nothing(settings: SearchSettings) -> None:
    for name in ("init", "teacher"):
        if (value := getattr(settings.recipe, name)) is not None:
            raise UserError(
                f"recipe.{name}: {value} is of no use to a search, whose networks are of many shapes and begin as drawn",
                f"give it to tinynas promote (--set recipe.{name}={value}); networks that begin with slices of one: --set slices=0.2",
            )


def _prepare_again(
    run: Run,
    budget: str | Budget | None,
    space: str | Space | None,
    data: str | None,
    named: dict[str, object],
    routed: Mapping[str, Sequence[str]],
    storage: str | None,
    begins: Callable[[], None] | None,
) -> PreparedSearch:
    """A search that goes on with what its run was begun with: anything else is refused, not ignored."""
    from tinynas.data import DataOptions
    from tinynas.search import SearchSettings
    from tinynas.search.study import check_storage

    begun = build(run.setting("settings"), SearchSettings, source=run.config_file)
    wanted = _with_places(build({**begun.model_dump(mode="json"), **named}, SearchSettings, source=run.config_file, overrides=routed[""]))
    if storage is None and wanted.storage != begun.storage:
        storage = wanted.storage  # by --set
    other = _other_settings(begun, wanted)
    begun_budget, begun_space = run.budget, run.space
    limits = load_budget(budget, routed["budget"]) if isinstance(budget, str) else budget
    if limits is None and routed["budget"]:
        limits = load_budget(run.path / "budget.yaml", routed["budget"])
    if limits is not None:
        other += _differences("budget.", begun_budget, limits, of_no_matter=("name", "board", "mcu", "sources"))
    chosen_space = load_space(space, routed["space"]) if isinstance(space, str) else space
    if chosen_space is None and routed["space"]:
        chosen_space = load_space(str(run.path / "space.yaml"), routed["space"])
    known = run.config.get("data_options", {})
    options = build(known, DataOptions, source=run.config_file)
    if chosen_space is not None and options.features is not None:
        frames, features = map(int, options.features.split("x"))
        chosen_space = _of_features(chosen_space, (frames, features))
    if chosen_space is not None:
        other += _differences("space.", begun_space, chosen_space, of_no_matter=("name",))
    asked = _absolute_files(build(known, DataOptions, source="data options", overrides=routed["data"]))
    if asked.groups != options.groups and _groups_digest(asked) == run.env.get("groups", ""):
        options = options.model_copy(update={"groups": asked.groups})  # the file lies elsewhere
    if asked.attributes is not None and options.attributes is not None:
        options = options.model_copy(update={"attributes": asked.attributes})  # what it says is compared below
    other += _differences("data.", options, asked)
    if other:
        lines = f" {other[0]}" if len(other) == 1 else "".join(f"\n  - {line}" for line in other)
        raise RunError(f"{run.path}: was begun with{lines}", f"leave that out, or begin another run; what may change: {MAY_CHANGE}")
    run.ask("data", data)
    if (url := run.storage(_absolute(storage))) is not None:
        check_storage(url)
    if begins is not None:
        begins()
    files = {name: file for name, file in (("groups", asked.groups), ("attributes", asked.attributes)) if file is not None}
    images, place = run.images(data, overrides=[f"{name}={json.dumps(file)}" for name, file in files.items()])
    if (difference := run.other_data(images)) is not None:
        raise RunError(
            f"{place}: these are not the {images.signal.kind}s that {run.path} was begun with: {difference}",
            "say where those are with --data PLACE, or start a new run",
        )
    if images.attributes_digest != run.env.get("attributes", images.attributes_digest):
        raise RunError(
            f"{asked.attributes or place}: says other attributes of the images than when {run.path} was begun",
            "restore the file, or start a new run",
        )
    run.check()  # what is damaged is said before hours of training
    if data is not None or place != run.config.get("data_path"):
        run.moved(data=data_place(place, run.path, data or run.config["data"]))
    if elsewhere := {name: file for name, file in files.items() if file != known.get(name)}:
        run.moved(files=elsewhere)  # workers know what the folder says, and no more
    going_on = begun.model_copy(update={**{name: getattr(wanted, name) for name in _CHANGING}, "storage": url})
    return PreparedSearch(run, begun_space, begun_budget, images, going_on)


MAY_CHANGE = "--trials, --timeout, --workers, and the place of the same --data"
#: Settings of a search that say how long and where it works, not what it finds.
_CHANGING = ("trials", "timeout", "workers", "storage")


def _other_settings(begun: SearchSettings, wanted: SearchSettings) -> list[str]:
    if MEAN_AVERAGE_PRECISION in begun.objectives:
        wanted = wanted.model_copy(update={"objectives": of_several(wanted.objectives)})
    names = [tuple(goal.name for goal in known_objectives(one.objectives)) for one in (begun, wanted)]
    same = {"objectives": begun.objectives} if names[0] == names[1] else {}  # accuracy goes without saying
    return _differences("", begun, wanted.model_copy(update=same), of_no_matter=_CHANGING)


def _differences(prefix: str, begun: Config, wanted: Config, of_no_matter: Sequence[str] = ()) -> list[str]:
    """A line for each value in which two configurations of one kind differ, of two with names one that also names both."""
    before, after = (_flat(one.model_dump(mode="json", exclude=set(of_no_matter))) for one in (begun, wanted))
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    names = [getattr(one, "name", None) for one in (begun, wanted)]
    if keys and names[0] != names[1]:
        return [f"{prefix.rstrip('.')} {names[0]}, not {names[1]} (they differ in {', '.join(keys)})"]
    return [f"{prefix}{key} {_shown(before.get(key))}, not {_shown(after.get(key))}" for key in keys]


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat


def _shown(value: object) -> str:
    text = "none" if value is None else ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return (text if len(text) <= 200 else f"{text[:197]}...") or "nothing"


def _absolute(storage: str | None) -> str | None:
    """A storage's URL that means the same from any folder."""
    file = "" if storage is None else storage.removeprefix("sqlite:///")
    relative = storage is not None and file != storage and not file.startswith(("/", ":memory:", "file:")) and file != ""
    return f"sqlite:///{Path(file).resolve()}" if relative else storage


def _with_places(settings: SearchSettings) -> SearchSettings:
    """``settings`` whose data to learn mean the same from any folder."""
    place = settings.adapt.data
    if place is None or not Path(place).expanduser().exists():
        return settings
    found = settings.adapt.model_copy(update={"data": str(Path(place).expanduser().resolve())})
    return settings.model_copy(update={"adapt": found})


def _absolute_files(options: DataOptions) -> DataOptions:
    from tinynas.data.options import GROUPS_CSV

    changed = {}
    if options.groups is not None and options.groups.startswith(GROUPS_CSV):
        changed["groups"] = f"{GROUPS_CSV}{Path(options.groups.removeprefix(GROUPS_CSV)).expanduser().resolve()}"
    if options.attributes is not None:
        changed["attributes"] = str(Path(options.attributes).expanduser().resolve())
    return options.model_copy(update=changed) if changed else options


def _groups_digest(options: DataOptions) -> str | None:
    """Digest of the file that names groups; None where there is none."""
    from tinynas.data.options import GROUPS_CSV

    if options.groups is None or not options.groups.startswith(GROUPS_CSV):
        return None
    try:
        return hashlib.sha256(Path(options.groups.removeprefix(GROUPS_CSV)).read_bytes()).hexdigest()
    except OSError:
        return None


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True)
class PreparedSearch:
    """A run folder with its checked inputs; :meth:`go` searches."""

    run: Run
    space: Space
    budget: Budget
    data: DataSet
    settings: SearchSettings
    cluster: Place | None = None
    """Where it trains; None: in processes of this machine."""

    @property
    def traded(self) -> bool:
        """Whether a front is wanted, of accuracy and costs; else the best network alone."""
        return traded(known_objectives(self.settings.objectives))

    def go(self, on_event: Callable[[SearchEvent], None] | None = None) -> SearchResult:
        """Search; returns when the front is final, or early after Ctrl-C with everything finished on disk.

        A run that was begun here and ends, however, before its first proposal is recorded leaves no folder behind.
        """
        from tinynas.search import search as run_search

        kept = False
        try:
            result = run_search(
                self.run, self.space, self.budget, self.data, self.settings, on_event or (lambda _: None), cluster=self.cluster
            )
            kept = not result.interrupted
        except TinynasError as error:
            if self._nothing_yet():
                # The advice may be to resume; there is nothing to resume.
                gone = f"nothing was trained: {self.run.path} is not kept, begin it again"
                error.hint = gone if error.hint is None else f"{error.hint}\n  -> {gone}"
            raise
        finally:
            if not kept and self._nothing_yet():
                self.run.discard()
        return result

    def _nothing_yet(self) -> bool:
        if not self.run.is_new or self.run.begun or (self.run.path / "donor.json").exists():
            return False
        try:
            with self.run.searching():
                return True
        except RunError:  # another process has begun to
            return False


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
    cluster: str | None = None,
    settings: SearchSettings | None = None,
    begins: Callable[[], None] | None = None,
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
        cluster=cluster,
        settings=settings,
        begins=begins,
    )
    return prepared.run, prepared.go(on_event)


def _run_name(budget: Budget, data: str) -> str:
    words = f"{budget.name}-{Path(data.removeprefix('hf:')).name or 'data'}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.") or "run"


def _newest_run() -> Path:
    runs = sorted(Path("results").glob("*/config.yaml"), key=lambda p: (p.stat().st_mtime, str(p)))
    if not runs:
        raise RunError("results: holds no run to resume", "name it with --out, or start one: tinynas search --budget stm32f746")
    # Those that a promotion made are not searches; damaged ones say what is wrong when they are opened.
    searches = [path for path in runs if NOT_SEARCHED not in path.read_text(encoding="utf-8", errors="replace")]
    return (searches or runs)[-1].parent


def _shipped_spaces(overrides: Sequence[str] = (), *, sounds: Literal["map", "series"] | None = None, stream: bool = False) -> list[Space]:
    """Those of images, or of ``sounds`` in such a layout, and of these those of a ``stream``."""
    known = [(str(path), load_space(str(path))) for path in shipped("search_spaces").values()]
    layouts = [(path, None if space.front_end is None else space.front_end.layout, space.causal) for path, space in known]
    return [load_space(path, overrides) for path, layout, causal in layouts if layout == sounds and causal == stream]


def _spaces_for(data: DataSet, budget: Budget, overrides: Sequence[str]) -> list[Space]:
    """The shipped spaces that ``data`` is searched in where nobody names one.

    Sounds as series, given features too, which spaces hear without their front ends: at the costs of ds-cnn-kws ten minutes found more
    there than among maps, which may spend more MACs (results/benchmarks/sound_people.md). What a runtime streams is causal as well.
    """
    sounds = data.signal.kind != "image"
    stream = sounds and runtime_named(budget.runtime).stream
    if data.signal.kind != "sequence":
        return _shipped_spaces(overrides, sounds="series" if sounds else None, stream=stream)
    return [_of_features(space, data.native_size, overrides) for space in _shipped_spaces(sounds="series", stream=stream)]


def _of_features(space: Space, size: tuple[int, int], overrides: Sequence[str] = ()) -> Space:
    """``space`` without its front end, for given features of ``size``, frames x features: as a map or a series, as its front end makes
    them; itself where it has none."""
    if space.front_end is None:
        return space
    frames, features = size
    series = space.front_end.layout == "series"
    read = {"resolution": [[frames, 1]], "channels": features} if series else {"resolution": [[frames, features]], "color": "gray"}
    return build({**space.to_json(), "front_end": None, **read}, Space, source=f"{space.name} without its front end", overrides=overrides)


def _reads(space: Space, data: DataSet) -> None:
    """Raises UserError where ``space`` is of sounds and ``data`` of images, the other way round, or of other features than given ones."""
    kind = data.signal.kind
    if space.front_end is not None and kind == "image":
        raise UserError(f"space {space.name!r} hears sounds through a front end, and {data.name} holds images", "use a space of images")
    if space.channels is not None and kind == "image":
        raise UserError(f"space {space.name!r} reads given features, and {data.name} holds images", "use a space of images")
    if space.front_end is None and kind == "sound":
        raise UserError(f"space {space.name!r} reads images, and {data.name} holds sounds", "use one with a front_end, such as listen-1d")
    if kind == "sequence":
        frames, features = data.native_size
        wrong = [given for given in space.inputs if given.shape not in ((frames, features, 1), (frames, 1, features))]
        if wrong:
            raise UserError(
                f"space {space.name!r} reads {'x'.join(map(str, wrong[0].shape))}, and {data.name} holds {frames}x{features} features",
                f"leave --space out, or use one with resolution: [[{frames}, {features}]] and color: gray, or as a series with resolution: "
                f"[[{frames}, 1]] and channels: {features}",
            )


def choose_space(
    budget: str | Budget, *, classes: int = 2, native_size: tuple[int, int] = (0, 0), seed: int = 0, sounds: bool = False
) -> tuple[Space, str]:
    """The shipped space of images, or of ``sounds``, that leads under ``budget``, and a sentence that says why.

    ``search`` asks this where no space is named, with the ``classes`` and the ``native_size`` (height, width) of its images: zeros
    stands for images of any size.
    """
    from tinynas.search import choose_space as choose

    limits = load_budget(budget) if isinstance(budget, str) else budget
    stream = runtime_named(limits.runtime).stream  # which takes sounds alone
    spaces = _shipped_spaces(sounds="series" if sounds or stream else None, stream=stream)
    return choose(spaces, limits, classes=classes, seed=seed, native_size=native_size)


def rank_spaces(space: str | Space, budget: str | Budget, *, classes: int = 2, seed: int = 0) -> SpaceTable:
    """The (size of input, width) sub-spaces of ``space`` ranked by the MACs of what fits ``budget``; see ``tinynas spaces``."""
    from tinynas.search import rank_spaces as rank

    chosen = load_space(space) if isinstance(space, str) else space
    return rank(chosen, load_budget(budget) if isinstance(budget, str) else budget, classes=classes, seed=seed)


# data ------------------------------------------------------------------------------------------------


def open_images(
    data: str,
    *,
    seed: int = 0,
    overrides: Sequence[str] = (),
    judged: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> DataSet:
    """The labelled images that ``data`` names; ``overrides`` are data options (``groups=...`` or ``data.groups=...``).

    ``judged``: nothing is trained on them, so that a split may be empty.
    """
    from tinynas.data import DataOptions, open_data

    texts = [text.removeprefix("data.") for text in overrides]
    options = build({}, DataOptions, source="data options", overrides=texts)
    return open_data(data, seed=seed, options=options.for_judging() if judged else options, on_progress=on_progress)


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

    return estimate_noise(images.read_by(graph.input, "train"), images.labels, score, seed=seed).to_json()


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
    verify: str | None = None,
    tflm: str | None = None,
    kernels: str | None = None,
    init: str | None = None,
    stages: str | None = None,
    false_alarms: float | None = None,
    budget: str | None = None,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    on_event: Callable[[PromoteEvent], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    on_step: Callable[[str, int, int], None] | None = None,
) -> list[ExportRow]:
    """Train networks of ``run`` in full, read the test images once, export and check the int8 files.

    ``ids`` are ids of the run or their beginnings, ``best``, ``knee``, or a zoo name or arch file that is trained as a reference by
    the same recipe. ``data`` says where the run's data lie, where they were moved; other data are refused. Where what lies in the old
    place has changed since the search, ``on_note`` is told so, and the card says it. ``overrides`` are settings of
    :class:`tinynas.train.Recipe` (``recipe.lr=0.005``), or data options (``data.val_share=0.1``). ``formats``: of
    :data:`tinynas.export.formats.FORMATS`, by default all that can hold a network. The files are planned and checked for the runtime
    of the run's budget. ``verify`` names an emulated core on which the exported files are verified at the end, with ``tflm`` and
    ``kernels`` as in :func:`verify`; what was found goes into the records and onto the card, and ``on_step`` hears of a first build.
    ``init``: whose weights the training begins with (:func:`tinynas.weights.open_source`); a network that is given as a .tflite begins
    with its own. ``stages``: a YAML of trainings one after the other (:mod:`tinynas.stages`), or a shipped name; the last one is on the
    run's data. ``false_alarms``: of two classes the share of negative images that may be taken for positive ones; a threshold for it is
    chosen on validation images and goes into the firmware folder. Where ``run`` names a network (as ``ids`` may), a run without a search
    is made for it in ``out`` (default: a new folder under ``results/``), with ``budget`` and ``data``. Raises UserError subclasses with
    the remedy; where verifying will lack something, before anything is trained.
    """
    from tinynas.export.deliver import add_verified, export_promoted
    from tinynas.export.formats import check_formats
    from tinynas.export.served import Audience
    from tinynas.export.written import check_unchanged
    from tinynas.promote import promote as train_in_full
    from tinynas.recipe import LENGTH, Recipe
    from tinynas.stages import check_places, load_stages, open_stages, promote_stages
    from tinynas.train.group import rank

    if verify is None:
        for option, given_one in (("--tflm", tflm), ("--kernels", kernels)):
            if given_one is not None:
                raise UserError(f"{option} {given_one}: says how it is verified, and nothing is", "add --verify CORE, or leave it out")
    routed = route_overrides(overrides)
    staged = None if stages is None else load_stages(stages)
    changes = [text.removeprefix("recipe.") for text in routed[""]]
    if staged is not None and (changes or qat or epochs is not None or init is not None):
        raise UserError("--stages: each stage has its own recipe", "write epochs, init and all else into the file of the stages")
    if staged is not None:
        check_places(staged)
    if isinstance(run, str) and _names_network(run):
        place = data or (staged.stages[-1].data if staged is not None else None)
        if tuple(ids) not in ((), ("best",)):
            raise UserError(
                f"{' '.join(ids)}: {run} is a network without a run, and such are trained one at a time", "name the others one by one"
            )
        if routed["space"]:
            raise UserError(f"--set space.{routed['space'][0]}: nothing is searched here", "leave it out")
        ids, run, data = [run], _run_for(run, budget, place, out, seed, routed, staged), None
        routed["data"] = []
    else:
        _refuse_of_run(routed)
        if budget is not None or out is not None:
            raise UserError("--budget and --out are for a network without a run, and this is a run", "leave them out: a run has its own")
    opened = run if isinstance(run, Run) else Run.open(run)
    given = {key: value for key, value in {"epochs": epochs, "threads": threads}.items() if value is not None}
    document = Recipe.full(**given).model_dump(mode="json")
    if qat:
        document["qat_epochs"] = max(1, document["epochs"] // 6)
    if init is not None:
        document["init"] = init
    images = _run_images(opened, data, routed["data"], on_note)
    if false_alarms is not None and images.signal.waves is not None:
        raise UserError(
            "--false-alarms: on the board a network of sound answers by the average of several windows, not by one threshold",
            "leave it out; the threshold of the average is set in hear.h, and tinynas evaluate --stream chooses one",
        )
    Audience(images, false_alarms=false_alarms).check()  # before hours of training
    typed = {_id_or_reference(opened, text, len(images.labels)): text for text in ids}
    net_ids = list(typed)
    _leave_room(opened, net_ids)
    for net_id in net_ids:
        check_unchanged(opened.net_dir(net_id))  # what was edited there is said before hours of training, too

    said = {text.partition("=")[0].strip() for text in changes}

    def recipe_of(net_id: str) -> Recipe:
        own = {"init": typed[net_id]} if document.get("init") is None and staged is None and _is_tflite(typed[net_id]) else {}
        recipe = build({**document, **own}, Recipe, source="recipe", overrides=changes)
        return recipe if epochs is not None or said & LENGTH else recipe.lengthened(len(images.members["train"]))

    recipes = {net_id: recipe_of(net_id) for net_id in net_ids}  # faults are said before hours of training
    sets = None if staged is None else open_stages(staged, _open_data, seed=_seed_of(opened))
    if sets is not None and (difference := opened.other_data(sets[-1])) is not None:
        raise RunError(f"{stages}: the last stage's images are not those of {opened.path}: {difference}", "end with the run's own data")
    if formats is not None:  # before hours of training
        for net_id in net_ids:
            check_formats(formats, opened.arch(net_id).input)
    if verify is not None and formats is not None and "tflite" not in formats:
        raise UserError("--verify: runs the .tflite, and --format does not name it", "add tflite to --format")
    if verify is not None and runtime_named(opened.budget.runtime).frame is not None:
        for net_id in net_ids:
            _needs_folder(formats, opened.arch(net_id), opened.budget.runtime)
    checks = None if verify is None else _run_checks(opened, verify, tflm, kernels, on_note)
    options = _export_options(runtime=opened.budget.runtime, core=opened.budget.core)
    rows = []
    for net_id in net_ids:
        if staged is not None and sets is not None:
            arch = opened.arch(net_id)
            promoted = promote_stages(opened, arch, staged, sets, seed=seed, threads=threads, on_event=on_event)
        else:
            (promoted,) = train_in_full(
                opened, [net_id], data=images, recipe=recipes[net_id], seed=seed, on_event=on_event, on_note=on_note
            )
        if rank() == 0:
            own = opened.net_dir(net_id)
            rows.append(
                export_promoted(opened, net_id, own, images, promoted, options, formats, false_alarms=false_alarms, on_note=on_note)
            )
    if checks is None:
        return rows
    try:
        found = [checks(_exported(opened, row.id), _firmware_folder(opened, row.id), on_step=on_step, on_note=on_note) for row in rows]
    except UserError as error:
        again = shell_line("tinynas", "verify", f"{opened.path}:{rows[0].id}", "--target", verify)
        kept = f"nothing is lost: what was trained and exported is in {opened.path}; to verify it: {again}"
        error.hint = kept if error.hint is None else f"{error.hint}\n  -> {kept}"
        raise
    return [add_verified(opened, row, verified.to_json(), images) for row, verified in zip(rows, found, strict=True)]


def _refuse_of_run(routed: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError where settings are of what a run has decided."""
    if said := _said(routed, "budget", "space"):
        raise UserError(f"{said}: a run has its own budget and space", "leave it out, or search anew with it: tinynas search")


def _said(routed: Mapping[str, Sequence[str]], *parts: str) -> str | None:
    """The first setting of ``parts``, as it was said."""
    return next((f"--set {part}.{text}" for part in parts for text in routed[part]), None)


def _leave_room(run: Run, net_ids: Sequence[str]) -> None:
    """Raise BudgetError where the run's budget asks for room to learn, and a network that is to be trained leaves none."""
    if run.budget.update is None:
        return
    for net_id in net_ids:
        value, limit = run.budget.cost(lower(run.arch(net_id))).update_sram_bytes, run.budget.limits[LEARNING]
        if value is None or value > limit:
            needed = "an unknown amount" if value is None else format_size(value)
            room = f"{run.budget.name} has {format_size(int(limit))}"
            raise BudgetError(
                f"{net_id}: leaves no room to learn {run.budget.update.words()}: {needed} of SRAM, and {room}",
                "train another network, or ask for less: update in the budget",
            )


def _needs_folder(formats: Sequence[str] | None, arch: Arch, runtime: str) -> None:
    """Raise UserError where ``formats`` (None: all that fit) leave out the folder that verifying compiled code runs."""
    from tinynas.export.formats import check_compiled, check_formats

    if formats is None:
        check_formats(["c"], arch.input)
        check_compiled(["c"], runtime, arch.input, exporter="tinynas", io="int8", rotation=0)
    elif "c" not in formats:
        raise UserError(f"--verify: of {runtime} it runs the folder c/, and --format does not name it", "add c to --format")


def _is_tflite(text: str) -> bool:
    return Path(text).is_file() and what_is(text).is_tflite


def _names_network(text: str) -> bool:
    """Whether ``text`` is a network (a zoo name, an arch file, a .tflite), and no run."""
    return not (Path(text) / "config.yaml").is_file() and (
        (text in shipped("zoo") and not (Path("results") / text / "config.yaml").is_file()) or Path(text).is_file() or _is_tflite(text)
    )


def _open_data(place: str, *, seed: int, options: DataOptions) -> DataSet:
    from tinynas.data import open_data

    return open_data(place, seed=seed, options=options)


def _seed_of(run: Run) -> int:
    return int(run.setting("settings").get("seed", 0))


def _run_for(
    net: str, budget: str | None, data: str | None, out: str | Path | None, seed: int, routed: Mapping[str, list[str]], staged: Any
) -> Run:
    """The run in which ``net`` is trained without a search: ``out`` where it is there already, else a new one."""
    from tinynas.data import SPLITS, DataOptions
    from tinynas.weights.describe import arch_of_file

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and out is None:
        raise UserError(f"{net}: several processes train one network in one folder, and none is named", "add --out")
    if several and process_number() > 0:
        _wait_for(Path(out or "") / "config.yaml")
    if out is not None and (Path(out) / "config.yaml").is_file():
        return _as_begun(Run.open(out), budget, data, routed)
    if budget is None or data is None:
        missing = "--budget" if budget is None else "--data"
        raise UserError(
            f"{net}: is a network, not a run, and {missing} is missing", "say for which board and on which images, or name a run"
        )
    arch = arch_of_file(net) if _is_tflite(net) else load_net(net)
    limits = load_budget(budget, routed["budget"])
    options = staged.stages[-1].data_options if staged is not None else DataOptions()
    options = _absolute_files(build(options.model_dump(mode="json"), DataOptions, source="data options", overrides=routed["data"]))
    images = _open_data(data, seed=seed, options=options)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(net).stem}-{Path(data).name}").strip("-.")
    given = options.model_dump(mode="json", exclude_defaults=True)
    if out is None and (before := _same_before(name, arch.with_classes(len(images.labels)).id, limits, images, given, seed)) is not None:
        return before
    path = Path(out) if out is not None else Run.fresh_path(name)
    return Run.create(
        path,
        config={
            **data_place(data, path),
            "data_options": given,
            "settings": {"objectives": [MEAN_AVERAGE_PRECISION if images.several else "accuracy", "macs"], "seed": seed},
            "space_choice": f"{NOT_SEARCHED}: {arch.name or net} is trained as it is",
        },
        space=load_space("tiny"),
        budget=limits,
        env={
            "seed": seed,
            "data": images.fingerprint,
            "labels": list(images.labels),
            "notes": list(images.notes),
            "images": {split: len(rows) for split, rows in images.members.items()},
            "counts": {split: images.counts(split) for split in SPLITS},
            **_given(groups=_groups_digest(options), attributes=images.attributes_digest),
        },
    )


def _wait_for(path: Path) -> None:
    """The first of several processes makes a run; the others find it made. Raises RunError where it is not."""
    until = time.monotonic() + MADE_WITHIN_S
    while not path.is_file():
        if time.monotonic() > until:
            raise RunError(f"{path.parent}: the first process made no run in it within {MADE_WITHIN_S:g} s", "see what it says")
        time.sleep(0.05)


def _as_begun(run: Run, budget: str | None, data: str | None, routed: Mapping[str, list[str]]) -> Run:
    """``run``, where nothing that is said beside it differs from what it was begun with; RunError where something does."""
    from tinynas.data.splits import splits_digest

    remedy = "leave --budget, --data and what is set of them out: a run has its own; or name another --out"
    if budget is None and routed["budget"]:
        raise RunError(f"--set budget.{routed['budget'][0]}: {run.path} has its own budget", remedy)
    if budget is not None and load_budget(budget, routed["budget"]) != run.budget:
        raise RunError(f"--budget {budget}: {run.path} was begun with another budget, {run.budget.name}", remedy)
    if data is not None or routed["data"]:
        images, place = run.images(data, overrides=routed["data"])
        other = run.other_data(images)
        if other is None and routed["data"] and splits_digest(images.members) != splits_digest(run.images(None)[0].members):
            other = "the splits differ"
        if other is not None:
            raise RunError(f"--data {place}: not what {run.path} was begun with: {other}", remedy)
    return run


def _same_before(name: str, net_id: str, budget: Budget, images: DataSet, options: Mapping[str, Any], seed: int) -> Run | None:
    """The run that an earlier command with the same network, budget, images and seed made under ``results/``, finished or not."""
    for path in itertools.takewhile(Path.is_dir, Run.places(name)):
        try:
            run = Run.open(path)
            same = not run.searched and (run.env.get("data"), run.budget, run.config.get("data_options")) == (
                images.fingerprint,
                budget,
                options,
            )
            if same and _seed_of(run) == seed and (run.net_dir(net_id) / "arch.yaml").exists():
                return run
        except UserError:
            continue  # damaged, or no run: not what is asked for
    return None


def _id_or_reference(run: Run, text: str, classes: int) -> str:
    """The id that ``text`` begins; a zoo name or an arch file joins the run, as the reference row beside its networks."""
    if text in shipped("zoo") or Path(text).is_file():
        from tinynas.weights.describe import arch_of_file

        arch = (arch_of_file(text) if _is_tflite(text) else load_net(text)).with_classes(classes)
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
    on_note: Callable[[str], None] | None = None,
) -> ExportRow:
    """Write and check the int8 file of a promoted network of a run (``net`` the run, ``net_id`` its network) into ``out``.

    With ``net`` alone (``RUN:ID``, an arch file, a zoo name) that was never promoted, weights are random: the file is good for
    sizes, arena and timing on a board, not for answers, and its report says so. ``runtime`` is the one whose memory is planned and
    checked: by default that of the run's budget, or ``tflm``. ``formats``, ``data`` and ``on_note`` as in :func:`promote`.
    """
    from tinynas.data.splits import splits_digest
    from tinynas.export.deliver import export_promoted, export_untrained
    from tinynas.export.formats import check_formats

    if Path(out).exists() and not Path(out).is_dir():
        raise UserError(f"{out}: is a file", "name a folder")
    if formats is not None:
        check_formats(formats)
    routed = route_overrides(overrides)
    given = {"exporter": exporter, "io": io, "flavour": flavour}
    run_name, colon, tail = net.rpartition(":")
    if net_id is None and colon and not Path(net).exists():
        net, net_id = run_name, tail
    if net_id is not None:
        _refuse_of_run(routed)
        opened = Run.open(net)
        resolved = opened.resolve_id(net_id)
        promoted = opened.promoted(resolved)
        if promoted is None:
            raise RunError(
                f"{opened.path}: {resolved} was not promoted: it has no trained weights",
                shell_line("tinynas", "promote", opened.path, resolved),
            )
        options = _export_options(routed[""], runtime=runtime or opened.budget.runtime, core=opened.budget.core, **given)
        images = _run_images(opened, data, routed["data"], on_note)
        if (splits := splits_digest(images.members)) != promoted.recipe.get("data_splits", splits):
            # Of promotions before 0.16 nobody knows.
            kind = images.signal.kind
            note = f"the splits are not those that {resolved} was trained on: what is a test {kind} here may have been learnt from"
            if on_note is not None:
                on_note(note)
            images = replace(images, notes=(*images.notes, note))
        return export_promoted(opened, resolved, Path(out), images, promoted, options, formats, on_note=on_note)
    if said := f"--data {data}" if data is not None else _said(routed, "data"):
        raise UserError(
            f"{said}: {net} is a network without a run, written with random weights: no data are read",
            "leave it out, or train it first: tinynas promote NET --data D",
        )
    if said := _said(routed, "budget", "space"):
        raise UserError(f"{said}: {net} is a network without a run, and has no budget and no space", "leave it out; --runtime R is for all")
    options = _export_options(routed[""], runtime=runtime or "tflm", **given)
    return export_untrained(load_net(net), Path(out), options, formats, on_note=on_note)


def _run_images(run: Run, data: str | None, overrides: Sequence[str], on_note: Callable[[str], None] | None) -> DataSet:
    """The run's images, at ``data`` where they were moved there. What has changed in their own place, or by ``overrides``, is noted."""
    run.ask("data", data)
    images, place = run.images(data, overrides=overrides)
    labels = run.env.get("labels")
    if labels is not None and len(labels) != len(images.labels):
        raise RunError(
            f"{place}: has {len(images.labels)} classes, the run's networks answer {len(labels)}", "use data with the same classes"
        )
    if (difference := run.other_data(images)) is None:
        if data is not None:
            run.moved(data=data_place(data, run.path))
        return images
    if data is not None and not overrides:
        raise RunError(
            f"{place}: these are not the {images.signal.kind}s that {run.path} was begun with: {difference}",
            "say where those are with --data PLACE, or search on these: tinynas search",
        )
    kind = images.signal.kind
    note = f"the {kind}s changed since the search: {difference}. What were test {kind}s then may be training {kind}s now, and the reverse"
    if on_note is not None:
        on_note(f"{place}: {note}")
    return replace(images, notes=(*images.notes, note))


def _export_options(overrides: Sequence[str] = (), **given: str | None) -> ExportOptions:
    from tinynas.export import ExportOptions

    return build({"workers": default_workers(), **given}, ExportOptions, source="export options", overrides=overrides)


def evaluate(
    model: str | Path,
    data: str,
    *,
    split: str = "test",
    subsets: bool = False,
    pixels: str = "auto",
    threshold: str | float | None = None,
    front_end: str | None = None,
    stream: bool = False,
    hop_ms: int | None = None,
    runtime: str | None = None,
    alarms_an_hour: float | None = None,
    false_alarms: float | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Accuracy of a .tflite on images or sounds, with kernels that equal TFLM's: the document of ``evaluate --json``.

    ``split`` may be ``all``. ``pixels``: the range of the input where the file does not tell it, such as ``0..1``,
    ``imagenet`` or ``MEAN,STD``. ``threshold``: above which a single output says yes, in its real units, or ``raw:X`` in those of a
    quantised output. ``false_alarms``: of two classes the share of negative inputs that may be taken for positive ones, for which a
    threshold is chosen on the validation part. ``front_end``: the network whose front end makes sounds the input, where the file does not
    tell it. ``stream``: also false alarms an hour and missed events on whole recordings, in windows every ``hop_ms``, smoothed as misses
    the fewest validation events at ``alarms_an_hour`` (default: 1). Where the board takes frame by frame (its ``runtime``, or that of
    the export's report beside the file) they are heard and told as there. Raises UserError subclasses with the remedy.
    """
    from tinynas.export.evaluate import evaluate_splits, read_file
    from tinynas.export.pixels import read_pixels
    from tinynas.export.streams import Stream

    require_tflite(model)
    for option, given in (("--runtime", runtime), ("--hop", hop_ms), ("--alarms-an-hour", alarms_an_hour)):
        if given is not None and not stream:
            raise UserError(f"{option} {given}: says how recordings are heard, and none are", "add --stream, or leave it out")
    read_pixels(read_file(model).facts, pixels)  # a broken file, or an option that is not understood, is said before images are read
    images = open_images(data, overrides=overrides, judged=True)
    hears = None if front_end is None else load_net(front_end).front_end
    if front_end is not None and hears is None:
        raise UserError(f"{front_end}: has no front end", "give a network that reads sounds")
    return evaluate_splits(
        model,
        images,
        split,
        subsets=subsets,
        pixels=pixels,
        threshold=threshold,
        false_alarms=false_alarms,
        workers=default_workers(),
        front_end=hears,
        stream=Stream(hop_ms, 1.0 if alarms_an_hour is None else alarms_an_hour, runtime=runtime) if stream else None,
    )


def shrink(
    model: str | Path,
    out: str | Path | None = None,
    *,
    strip_metadata: bool = False,
    keep_names: bool = False,
    litert: bool = False,
    inputs: int = 10_000,
    seconds: float = 60.0,
    data: str | None = None,
    pixels: str = "auto",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """The int8 .tflite ``model`` without what provably changes no bit of its outputs, written to ``out`` (None: nothing is written):
    the document of ``shrink --json``. ``litert``: with a zero point for each channel, without which LiteRT does not load it; TFLM does.

    Both files run on ``inputs`` inputs, for no longer than about ``seconds``: images of ``data`` where it is given (``pixels`` as in
    :func:`evaluate`), extremes, and random ones. Raises UserError subclasses with the remedy, InternalError where an output differs;
    then nothing is written.
    """
    from tinynas.export.pixels import AUTO, read_pixels
    from tinynas.export.sandbox import inspect
    from tinynas.export.shrunk import image_inputs
    from tinynas.export.shrunk import shrink as shrunk_of

    path = Path(model)
    if not path.exists():
        raise ModelFileError(f"{path}: there is no such file", "give the path of a .tflite file")
    require_tflite(path)
    target = None if out is None else Path(out)
    if target is not None and target.is_dir():
        raise UserError(f"{target}: is a folder", "name the file to write, such as --out model_shrunk.tflite")
    if target is not None and target.exists() and target.samefile(path):
        raise UserError(f"{target}: is the model itself", "write to another file with --out; the original stays to compare with")
    if data is None and (pixels != AUTO or overrides):
        said = f"--pixels {pixels}" if pixels != AUTO else f"--set {overrides[0]}"
        raise UserError(f"{said}: says how images are read, and none are", "add --data, or leave it out")
    content = _read_model(path)
    try:
        if data is not None:
            read_pixels(inspect(content).facts, pixels)  # what is not understood is said before images are read
        images = None if data is None else image_inputs(content, open_images(data, overrides=overrides, judged=True), pixels, inputs)
        report = shrunk_of(
            content,
            strip_metadata=strip_metadata,
            keep_names=keep_names,
            litert=litert,
            inputs=inputs,
            seconds=seconds,
            images=images,
        )
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error.message}", error.hint) from None
    document = {"model": str(path), "out": None if target is None else str(target), **report.to_json()}
    if target is not None:
        write_atomic(target, report.shrunk.model)
    return document


# learning on the board --------------------------------------------------------------------------------


def adapt(
    what: str,
    net: str,
    budgets: Sequence[str],
    data: str | None = None,
    *,
    schemes: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    old: str | None = None,
    init: str | None = None,
    pixels: str = "auto",
    out: str | Path | None = None,
    jobs: int = 1,
    draw: str | Path | None = None,
    overrides: Sequence[str] = (),
    on_step: Callable[[str, int, int], None] | None = None,
    on_row: Callable[[dict[str, Any], int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Learning on the board: the document of ``adapt plan|run|compare|export --json``; ``what`` is one of these words.

    ``net``: ``RUN:ID``, a .tflite, or an arch file or zoo name with the weights ``init`` (``plan`` without ``data`` needs none).
    ``budgets``: YAMLs of update budgets; ``plan`` and ``run`` take one. ``data`` is learned, ``old`` images say what becomes of the
    classes that the network knows (default: those of its run). ``schemes``: of :data:`tinynas.adapt.SCHEMES` (``run`` takes one;
    default: all). ``overrides``: ``data.KEY=VALUE``, ``old.KEY=VALUE``, or a key of the budgets. ``out`` is the file that ``run``
    writes the network to, the firmware folder of ``export``, or the folder of ``compare``, whose finished rows are not made again.
    ``draw``: an HTML file for a picture.
    Raises UserError subclasses with the remedy.
    """
    from tinynas.learnings.line import AdaptLine

    routed: dict[str, list[str]] = {"data": [], "old": [], "": []}
    for text in overrides:
        head, dot, rest = text.partition(".")
        routed[head if dot and head in ("data", "old") else ""].append(rest if dot and head in ("data", "old") else text)
    line = AdaptLine(
        net, tuple(budgets), data, tuple(schemes), tuple(seeds), old, init, pixels, {name: tuple(texts) for name, texts in routed.items()}
    )
    match what:
        case "plan":
            document = line.plan(on_step=on_step, on_note=on_note)
        case "run":
            document = line.run(None if out is None else Path(out), on_step=on_step, on_note=on_note)
        case "compare":
            document = line.compare(None if out is None else Path(out), jobs=jobs, on_row=on_row, on_note=on_note)
        case "export":
            document = line.export(None if out is None else Path(out), on_note=on_note)
        case _:
            raise UserError(f"adapt {what}: is nothing that can be done", "use plan, run, compare or export")
    if draw is not None and what in ("plan", "compare"):
        from tinynas.report.adapt_figures import write_learned_picture, write_memory_picture

        if what == "plan":
            write_memory_picture(document["schemes"], Path(draw))
        else:
            write_learned_picture(document["table"], Path(draw), document["noun"])
    return document
