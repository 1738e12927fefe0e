"""verify, compare: networks on emulated cores, and beside boards."""

from __future__ import annotations

from typing import Annotated

import typer

from tinynas.cli.app import app
from tinynas.cli.common import (
    DrawOption,
    JsonOption,
    KernelsOption,
    TflmOption,
    check_picture,
    console,
    counting_progress,
    emit,
    note,
    say,
    session,
)
from tinynas.errors import shell_line


@app.command()
def verify(
    net: Annotated[str, typer.Argument(metavar="RUN|FILE.tflite", help="Any .tflite, or a run (RUN, RUN:ID): its exported network.")],
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="CORE", help="cortex-m0plus, -m3, -m4, -m7, -m33 or -m55.")
    ] = "cortex-m4",
    tflm: TflmOption = None,
    kernels: KernelsOption = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Compilers at once. Default: one per core.")] = None,
    json_: JsonOption = False,
) -> None:
    """Run a model and its firmware on an emulated core: what was promised beside what it used, outputs bit for bit, instructions."""
    from tinynas import api

    session.continue_command = shell_line("tinynas", *session.arguments)
    with counting_progress() as progress:
        verified = api.verify(net, target=target, tflm=tflm, kernels=kernels, jobs=jobs, on_step=progress, on_note=note)
    if json_:
        emit(verified.to_json())
    else:
        from tinynas.report.terminal import verified_table

        console().print(verified_table(verified.to_json()))
    if not verified.good:
        raise typer.Exit(1)


@app.command()
def compare(
    nets: Annotated[list[str], typer.Argument(metavar="NET...", help="Networks, as estimate takes them.")],
    boards: Annotated[
        str | None,
        typer.Option(
            "--boards", metavar="B[,B...]", help="Boards of the table, shipped budgets or budget YAMLs. Default: every board of the table."
        ),
    ] = None,
    fits: Annotated[bool, typer.Option("--fits", help="Only boards on which every network fits.")] = False,
    draw: DrawOption = None,
    json_: JsonOption = False,
) -> None:
    """Say on which boards networks fit, and which limit decides; the worst first."""
    from tinynas import api
    from tinynas.compare import by_board

    check_picture(draw)
    found = api.compare(nets, None if boards is None else boards.split(","))
    if fits:
        good = {board for board, row in by_board(found).items() if all(fit.fits for fit in row)}
        found = [fit for fit in found if fit.board in good]
    rows = [fit.to_json() for fit in found]
    if draw is not None and rows:
        from tinynas.report import write_compare_picture

        write_compare_picture(rows, nets, draw)
    if json_:
        return emit(rows)
    from tinynas.report.terminal import compared_table

    if not found:
        return say("no board of these has room for them")
    console().print(compared_table({board: [fit.to_json() for fit in row] for board, row in by_board(found).items()}, nets))
    if len(nets) > 1:
        say("a cell says fits or not, and the limit that decides with the share of it that is used", "dim")
    return say(f"picture: {draw}") if draw is not None else None
