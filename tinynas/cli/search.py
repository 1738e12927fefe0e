"""search, worker, pareto, spaces."""

from __future__ import annotations

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
    quote,
    session,
)
from tinynas.errors import UserError, counted

if TYPE_CHECKING:
    from tinynas.api import PreparedSearch
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
        typer.Option("--objective", "-o", help="What to trade against accuracy: macs (default), sram, flash, latency, ..."),
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
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Search for networks that fit a budget and train them: the Pareto front of accuracy and cost."""
    from tinynas import api

    seconds = _duration(timeout)
    if seconds is None and trials is None and not resume:
        seconds = DEFAULT_TIMEOUT_S
    if not resume:
        console().print(_first_line(budget, space, data, seconds, trials), soft_wrap=True)
    prepared = api.prepare_search(
        budget,
        space=space,
        data=data,
        out=out,
        resume=resume,
        overrides=overrides or (),
        objectives=tuple(_split(objective)) or None,
        trials=trials,
        timeout=seconds,
        workers=workers or (None if resume else api.default_workers()),
        seed=seed,
        storage=storage,
    )
    session.continue_command = quote(["tinynas", "search", "--resume", "--out", str(prepared.run.path)])
    result = _run(prepared)
    if result.interrupted and not prepared.run.config_file.exists():
        session.continue_command = None
        console().print(f"nothing was trained yet: {prepared.run.path} is not kept", markup=False, soft_wrap=True)
        raise KeyboardInterrupt
    _finish(prepared, result, json_)
    if result.interrupted:
        raise KeyboardInterrupt


def _split(objective: list[str] | None) -> list[str]:
    return [name.strip() for text in objective or () for name in text.split(",") if name.strip()]


def _first_line(budget: str | None, space: str | None, data: str | None, seconds: float | None, trials: int | None) -> str:
    length = counted(trials or 0, "network") if seconds is None else counted(seconds / 60, "minute")
    images = data or "the built-in synthetic images (pass --data for your own)"
    return f"searching {space or 'the space that suits'} for {budget or 'a budget'} on {images}, {length}"


def _run(prepared: PreparedSearch) -> SearchResult:
    from tinynas.report.terminal import search_progress

    out = console()
    for note in prepared.data.notes:
        out.print(note, style="dim", markup=False)
    with search_progress(out) as progress:
        settings = prepared.settings

        def show(event: SearchEvent) -> None:
            if event.kind == "trial":
                check_interrupted()
            facts = {name: getattr(event, name) for name in ("message", "front_size", "hypervolume", "elapsed", "eta", "best_accuracy")}
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
    from tinynas.report.terminal import front_table

    out = console()
    out.print(front_table(result.front))
    counts = result.counts
    out.print(
        f"{counted(len(result.front), 'network')} on the front of {counts.trained} trained in {result.seconds / 60:.1f} min; "
        f"{counted(counts.infeasible, 'proposal')} did not fit, {counts.duplicate} known already, {counts.failed} failed",
        soft_wrap=True,
    )
    out.print(
        f"hypervolume of what was seen {result.hypervolume:.4f}, uniform feasible baseline {result.baseline_hypervolume:.4f}; "
        "accuracies are of the short proxy training",
        soft_wrap=True,
    )
    out.print(f"picture: {page}", soft_wrap=True)
    if result.front and not result.interrupted:
        next_step(f"tinynas promote {run.path} best")
    return None


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
    session.continue_command = quote(["tinynas", "worker", run])
    trained = work(opened.path, data=data, storage=storage)
    if json_:
        return emit({"run": str(opened.path), "trainings": trained})
    console().print(f"{counted(trained, 'training')} done for {opened.path}")
    return None


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
    from tinynas.report.terminal import front_table

    if not rows:
        console().print("the front is empty: nothing was trained yet")
        return next_step(f"tinynas search --resume --out {opened.path}")
    console().print(front_table(rows))
    return next_step(f"tinynas promote {opened.path} best")


@app.command()
def spaces(
    budget: BudgetOption = None,
    space: SpaceOption = None,
    seed: SeedOption = 0,
    draw: Annotated[Path | None, typer.Option("--draw", metavar="FILE.html", help="Also draw the distributions of MACs.")] = None,
    json_: JsonOption = False,
) -> None:
    """List the shipped spaces; with --budget, rank the (resolution, width) sub-spaces of one by what fits."""
    from tinynas import api
    from tinynas.config import shipped

    if budget is None:
        rows: list[dict[str, Any]] = []
        for name, path in shipped("search_spaces").items():
            loaded = api.load_space(str(path))
            rows.append({"name": name, "networks": float(loaded.size), "description": loaded.describe(), "file": str(path)})
        if json_:
            return emit(rows)
        for row in rows:
            console().print(f"[bold]{row['name']:<10}[/bold] {row['description']}")
        return next_step("tinynas spaces --budget stm32f746")
    chosen: str | Space | None = space
    if chosen is None:
        chosen, why = api.choose_space(budget, seed=seed)
        console().print(f"for two classes and images of any size: {why}", markup=False, soft_wrap=True)
    table = api.rank_spaces(chosen, budget, seed=seed)
    if draw is not None:
        from tinynas.report import write_space_picture

        write_space_picture(table, draw)
    if json_:
        return emit(table.to_json())
    console().print(table.text(), markup=False, soft_wrap=True)
    if draw is not None:
        console().print(f"picture: {draw}")
    return next_step(f"tinynas search --budget {budget} --space {space or table.space}")
