"""search, worker, pareto, spaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinynas.cli.app import app
from tinynas.cli.common import (
    BudgetOption,
    DataOption,
    JsonOption,
    SeedOption,
    SetOption,
    check_interrupted,
    console,
    emit,
    next_step,
    next_steps,
    say,
    session,
)
from tinynas.errors import UserError, counted, shell_line

if TYPE_CHECKING:
    from tinynas.api import PreparedSearch
    from tinynas.runs import Run
    from tinynas.search import SearchEvent, SearchResult
    from tinynas.space import Space

SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        "-s",
        metavar="S",
        help="A space YAML or a shipped name (see: tinynas spaces). Default: the shipped one that suits the budget.",
    ),
]
#: Without --trials and --timeout a search takes this long: with the installation, a first run fits into a coffee break.
DEFAULT_TIMEOUT_S = 480.0
#: Settings that end a search, by what --set calls them.
LIMITS = ("trials", "timeout", "images")


def _duration(text: str | None) -> float | None:
    if text is None:
        return None
    from tinynas.config import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UserError(f"--timeout {text!r} {error}") from None


@app.command()
def search(
    budget: BudgetOption = None,
    space: SpaceOption = None,
    data: DataOption = None,
    trials: Annotated[
        int | None, typer.Option("--trials", "-n", min=1, help="Networks to train; default: as many as the time allows.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", "-t", metavar="10m", help="Time for the search, such as 10m or 1h30m. Default: 8m.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Training processes, one thread each. Default: one per core.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything random. Default: 0.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            "-o",
            help="What to trade against accuracy: macs (default), sram, flash, latency, ...; accuracy: nothing, the best that fits.",
        ),
    ] = None,
    adapt_data: Annotated[
        str | None,
        typer.Option("--adapt-data", metavar="D", help="With -o adapted_accuracy: what each network is to learn on the board."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="results/NAME", help="The run folder. Default: results/<budget>-<data>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out (default: the newest).")] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Optuna storage, such as postgresql://user@host/db. TINYNAS_STORAGE says it unseen by others (it may hold a password).",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Train on the workers of a Dask scheduler, such as tcp://host:8786: they share nothing but the network.",
        ),
    ] = None,
    overrides: SetOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what was found in the data, and what the search decides before it begins.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Search for networks that fit a budget and train them: the Pareto front of accuracy and cost."""
    from tinynas import api

    seconds = _duration(timeout)
    limited = resume or trials is not None or any(text.partition("=")[0].strip() in LIMITS for text in overrides or ())
    if seconds is None and not limited:
        seconds = DEFAULT_TIMEOUT_S
    first = f"continuing {out or 'the newest run'}" if resume else _first_line(budget, space, data, seconds, trials)
    prepared = api.prepare_search(
        budget,
        space=space,
        data=data,
        out=out,
        resume=resume,
        overrides=(*(overrides or ()), *([] if adapt_data is None else [f"adapt.data={adapt_data}"])),
        objectives=tuple(_split(objective)) or None,
        trials=trials,
        timeout=seconds,
        workers=workers or (None if resume or cluster else api.default_workers()),
        seed=seed,
        storage=storage,
        cluster=cluster,
        begins=lambda: console().print(first),
    )
    on_cluster = [] if cluster is None else ["--cluster", cluster]
    session.continue_command = shell_line("tinynas", "search", "--resume", "--out", prepared.run.path, *on_cluster)
    for line in prepared.data.notes if verbose else _prose(first, prepared.data.notes, console().width):
        console().print(line, style="dim")
    result = _run(prepared, verbose)
    if result.interrupted and not prepared.run.config_file.exists():
        session.continue_command = None
        say(f"nothing was trained yet: {prepared.run.path} is not kept")
        raise KeyboardInterrupt
    _finish(prepared, result, json_)
    if result.interrupted:
        raise KeyboardInterrupt


def _split(objective: list[str] | None) -> list[str]:
    return [name.strip() for text in objective or () for name in text.split(",") if name.strip()]


def _first_line(budget: str | None, space: str | None, data: str | None, seconds: float | None, trials: int | None) -> str:
    from tinynas.report.words import time_words

    length = time_words(seconds) if seconds is not None else counted(trials, "network") if trials is not None else "as long as --set says"
    images = data or "synthetic images (no --data given)"
    return f"searching {f'{space} ' if space else ''}for {budget or 'a budget'} on {images}, {length}"


#: Lines of prose before the bar; with --verbose as many as there are to say.
PROSE_LINES = 4
MORE = "more on data and plan: --verbose"


def _prose(first: str, notes: Sequence[str], width: int) -> list[str]:
    """What follows the ``first`` line on a terminal of ``width`` columns: the notes that have room in :data:`PROSE_LINES`."""
    from rich.text import Text

    def height(line: str) -> int:
        return len(Text(line).wrap(console(), width))

    room = PROSE_LINES - height(first) - height(MORE)
    lines = []
    for note in notes:
        if height(note) > room:
            break
        room -= height(note)
        lines.append(note)
    return [*lines, MORE]


def _run(prepared: PreparedSearch, verbose: bool) -> SearchResult:
    from tinynas.report.terminal import search_progress

    with search_progress(console()) as progress:
        settings = prepared.settings

        def show(event: SearchEvent) -> None:
            if event.kind == "trial":
                check_interrupted()
            names = ("front_size", "hypervolume", "elapsed", "eta", "best_accuracy", "points", "cost", "trained_before")
            facts: dict[str, Any] = {name: getattr(event, name) for name in names}
            if not prepared.traded:
                del facts["front_size"], facts["hypervolume"]  # one network
            # What is decided before the first training is told on the page too.
            before = event.kind in ("start", "space", "pool", "plan")
            facts["status" if before and not verbose else "message"] = event.message
            progress({**facts, **event.counts.to_json(), "timeout": settings.timeout, "trials": settings.trials})

        return prepared.go(show)


def _finish(prepared: PreparedSearch, result: SearchResult, json_: bool) -> None:
    from tinynas.report import write_report

    run = prepared.run
    page = write_report(run)
    if json_:
        return emit(
            {
                "run": str(run.path),
                "trials": result.counts.to_json(),
                "hypervolume": result.hypervolume,
                "baseline_hypervolume": result.baseline_hypervolume,
                "front": list(result.front),
                "interrupted": result.interrupted,
                "report": str(page),
            }
        )
    from tinynas.report.words import duration

    if result.front:
        _show_front(run, result.front)
    counts, out = result.counts, console()
    found = f"{counted(len(result.front), 'network')} on the front" if prepared.traded else "the best"
    out.print(
        f"{found} of {counts.trained:,} trained in {duration(result.seconds)}; "
        f"{counted(counts.infeasible, 'proposal')} did not fit, {counts.duplicate:,} known already, {counts.failed:,} failed"
    )
    short = "accuracies are of the short proxy training"
    volumes = f"hypervolume of what was seen {result.hypervolume:.4f}, uniform feasible baseline {result.baseline_hypervolume:.4f}; "
    out.print(f"{volumes}{short}" if prepared.traded else short)
    say(f"picture: {page}")
    return None if result.interrupted else _promotions(run, result.front)


def _names(run: Run) -> dict[str, str]:
    """What networks of the front are called, by id; empty where there is no front. One alone has no knee."""
    front = run.front()
    if not front:
        return {}
    names = {run.knee: "knee"} if len(front) > 1 else {}
    names[run.best] = "best, knee" if run.best in names else "best"
    return names


def _show_front(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    from tinynas.report.terminal import front_table

    console().print(front_table(rows, _names(run)))


def _promotions(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """The commands that train networks of the front in full, each with how long it would take here."""
    from tinynas.recipe import Recipe
    from tinynas.report.pace import Pace
    from tinynas.report.words import amount, roughly

    pace, by_id = Pace.of(run), {str(row["id"]): row for row in rows}
    commands: list[tuple[list[object], str]] = []
    for net_id, called in reversed(_names(run).items()):
        name = called.partition(",")[0]
        macs = by_id[net_id]["macs"]
        takes = "" if pace is None else f"{roughly(pace.full_training(macs, Recipe.full().lengthened(pace.train_images)))}, "
        commands.append((["tinynas", "promote", run.path, name], f"{takes}{amount('macs', macs)} MACs"))
    if commands:
        next_steps(commands)


@app.command()
def worker(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a running search.")],
    data: Annotated[
        str | None, typer.Option("--data", "-d", metavar="D", help="Where the run's data are for this machine, if not where the run says.")
    ] = None,
    storage: Annotated[str | None, typer.Option("--storage", metavar="URL", help="The run's storage, with its password.")] = None,
    json_: JsonOption = False,
) -> None:
    """Join a running search from this or another machine; ends when the search does."""
    from tinynas.runs import Run
    from tinynas.search import worker as work

    opened = Run.open(run)
    session.continue_command = shell_line("tinynas", "worker", run)
    trained = work(opened.path, data=data, storage=storage)
    if json_:
        return emit({"run": str(opened.path), "trainings": trained})
    return say(f"{counted(trained, 'training')} done for {opened.path}")


@app.command()
def pareto(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its name under results/.")],
    json_: JsonOption = False,
) -> None:
    """Print the Pareto front of a run."""
    from tinynas.runs import Run

    opened = Run.open(run)
    rows = opened.front()
    if json_:
        return emit(rows)
    trained = sum(trial.was_trained for trial in opened.trials()) if not rows and opened.searched else 0
    if trained:
        say(f"the search has not ended, and its front is written at the end: {counted(trained, 'network')} trained so far are on its page")
        return next_step("tinynas", "report", opened.path)
    if not rows:
        say("the front is empty: nothing was trained yet")
        return next_step("tinynas", "search", "--resume", "--out", opened.path)
    _show_front(opened, rows)
    return _promotions(opened, rows)


@app.command()
def spaces(
    budget: BudgetOption = None,
    space: SpaceOption = None,
    seed: SeedOption = 0,
    draw: Annotated[Path | None, typer.Option("--draw", metavar="FILE.html", help="Also draw the distributions of MACs.")] = None,
    json_: JsonOption = False,
) -> None:
    """List the shipped spaces; with --budget, rank the (input, width) sub-spaces of one by what fits."""
    from tinynas import api
    from tinynas.config import shipped

    if budget is None:
        rows: list[dict[str, Any]] = []
        for name, path in shipped("search_spaces").items():
            loaded = api.load_space(str(path))
            rows.append({"name": name, "networks": float(loaded.size), "description": loaded.describe(), "file": str(path)})
        if json_:
            return emit(rows)
        from tinynas.report.terminal import spaces_table

        console().print(spaces_table(rows))
        return next_step("tinynas", "spaces", "--budget", "stm32f746")
    chosen: str | Space | None = space
    if chosen is None:
        chosen, why = api.choose_space(budget, seed=seed)
        console().print(f"for two classes and images of any size: {why}")
    table = api.rank_spaces(chosen, budget, seed=seed)
    if draw is not None:
        from tinynas.report import write_space_picture

        write_space_picture(table, draw)
    if json_:
        return emit(table.to_json())
    from tinynas.report.terminal import subspaces_table

    console().print(subspaces_table(table.to_json()))
    console().print(table.explain())
    if draw is not None:
        say(f"picture: {draw}")
    return next_step("tinynas", "search", "--budget", budget, "--space", space or table.space)
