"""budgets, schema, doctor, init, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tinynas.cli.app import app
from tinynas.cli.common import JsonOption, console, emit, next_step, say, session
from tinynas.cost.runtimes import runtime_names
from tinynas.errors import shell_line


@app.command()
def budgets(json_: JsonOption = False) -> None:
    """List the shipped budgets with what a network may use on each."""
    from tinynas.budget import load_budget
    from tinynas.config import shipped

    rows: list[dict[str, Any]] = []
    for name, path in shipped("budgets").items():
        budget = load_budget(path)
        rows.append(
            {
                "name": name,
                "board": budget.board,
                "mcu": budget.mcu,
                "core": budget.core,
                "clock_mhz": budget.clock_mhz,
                "runtime": budget.runtime,
                "sram_bytes": budget.arena.size,
                "flash_bytes": budget.flash,
                "limits": budget.limits,
                "file": str(path),
            }
        )
    if json_:
        return emit(rows)
    from tinynas.report.terminal import budgets_table

    console().print(budgets_table(rows))
    say("left: for the network, after the reserves stated in each file; flash is for the model and the runtime's code", "dim")
    return next_step("tinynas", "search", "--budget", "stm32f746")


@app.command()
def schema(
    what: Annotated[Literal["budget", "space", "recipe", "arch"], typer.Argument(help="Which file's schema.")],
    json_: JsonOption = False,
) -> None:
    """Print the JSON Schema of a YAML file, for editors: JSON with and without --json."""
    from tinynas.init import json_schema

    emit(json_schema(what))


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Where to write budget.yaml and space.yaml.")] = Path(),
    board: Annotated[str | None, typer.Option("--board", help="A board name of the board table (see: tinynas init --boards).")] = None,
    boards: Annotated[bool, typer.Option("--boards", help="List the boards and stop.")] = False,
    runtime: Annotated[
        str | None,
        typer.Option("--runtime", "-r", metavar="R", help=f"{runtime_names()}. Default: TFLM with its maker's kernels."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    json_: JsonOption = False,
) -> None:
    """Write commented budget and space YAMLs to start from."""
    from tinynas import init as starter

    if boards:
        from tinynas.boards import boards as known

        rows = [board.to_json() for board in known()]
        if json_:
            return emit(rows)
        from tinynas.report.terminal import boards_table

        console().print(boards_table(rows))
        return next_step("tinynas", "init", "--board", "stm32f746g-disco", "my_project")
    written = starter.write(directory, board=board, runtime=runtime, force=force)
    if json_:
        return emit({"files": [str(path) for path in written]})
    for path in written:
        say(f"wrote {path}")
    return next_step("tinynas", "search", "--budget", written[0], "--space", written[1])


@app.command()
def doctor(json_: JsonOption = False) -> None:
    """Check the installation: versions, device, disk, shipped files, and a small train-export-check run."""
    from tinynas.doctor import diagnose, print_checks

    checks = diagnose()
    if json_:
        emit({"ok": all(check.ok for check in checks), "checks": [check.to_json() for check in checks]})
    else:
        print_checks(checks, console())
        if all(check.ok for check in checks):
            next_step("tinynas", "search", "--budget", "stm32f746")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or its name under results/.")],
    watch: Annotated[bool, typer.Option("--watch", help="Write it anew while a search runs; end with Ctrl-C.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard event files into the run.")] = False,
    json_: JsonOption = False,
) -> None:
    """Write report.html: one page with the front, the networks and what the limits cost."""
    from tinynas.report import watch_report, write_report
    from tinynas.runs import Run

    opened = Run.open(run)
    if watch:
        session.continue_command = shell_line("tinynas", "report", run, "--watch")
        say(f"watching {opened.path}; open {opened.report_file}; end with Ctrl-C")
        return watch_report(opened)
    path = write_report(opened)
    files = {"report": str(path)}
    if tensorboard:
        from tinynas.report.tensorboard import write_tensorboard

        files["tensorboard"] = str(write_tensorboard(opened))
    if json_:
        return emit({"run": str(opened.path), **files})
    say(f"wrote {path}")
    return next_step("tensorboard", "--logdir", files["tensorboard"]) if tensorboard else None
