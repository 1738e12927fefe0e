"""adapt plan, adapt run, adapt compare, adapt export: learning on the board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from tinynas.cli.app import app
from tinynas.cli.common import (
    DataOption,
    DrawOption,
    JsonOption,
    SeedOption,
    SetOption,
    check_interrupted,
    check_picture,
    console,
    counting_progress,
    emit,
    note,
    say,
    session,
)
from tinynas.errors import UserError, shell_line

commands = typer.Typer(
    name="adapt", help="Learn new classes on the board: what fits, what is learned so, and which scheme is best.", no_args_is_help=True
)
app.add_typer(commands)

NetArgument = Annotated[
    str, typer.Argument(metavar="NET", help="RUN:ID, a .tflite, or an arch YAML or zoo name (with --init for its weights).")
]
BudgetsOption = Annotated[
    list[str] | None, typer.Option("--budget", "-b", metavar="U", help="A YAML of an update budget: ram, extra, macs, share, learning.")
]
InitOption = Annotated[
    str | None, typer.Option("--init", metavar="SOURCE", help="Weights of NET: a .safetensors, a PyTorch state dict, a .tflite.")
]
PixelsOption = Annotated[
    str, typer.Option("--pixels", metavar="RANGE", help="What the first layer reads, where the weights' source does not tell.")
]
OldOption = Annotated[
    str | None, typer.Option("--old", metavar="D", help="Images of the classes that NET knows. Default: those of its run.")
]
SchemesOption = Annotated[
    str | None,
    typer.Option(
        "--scheme", metavar="S[,S...]", help="full, classifier, last, bias, sparse, random, velocity, su, tinytrain. Default: all."
    ),
]


def _schemes(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(text.split(","))


class _Asked(TypedDict):
    """What all three commands take, as :func:`tinynas.api.adapt` does."""

    net: str
    budgets: Sequence[str]
    data: str | None
    schemes: Sequence[str]
    old: str | None
    init: str | None
    pixels: str
    overrides: Sequence[str]


def _asked(
    net: str,
    budget: list[str] | None,
    data: str | None,
    scheme: str | None,
    old: str | None,
    init: str | None,
    pixels: str,
    overrides: list[str] | None,
) -> _Asked:
    return _Asked(
        net=net,
        budgets=budget or (),
        data=data,
        schemes=_schemes(scheme),
        old=old,
        init=init,
        pixels=pixels,
        overrides=overrides or (),
    )


@commands.command()
def plan(
    net: NetArgument,
    budget: BudgetsOption = None,
    data: DataOption = None,
    scheme: SchemesOption = None,
    old: OldOption = None,
    init: InitOption = None,
    pixels: PixelsOption = "auto",
    layers: Annotated[bool, typer.Option("--layers", "-l", help="Of one scheme: a row for each operator of the backward pass.")] = False,
    draw: DrawOption = None,
    seed: SeedOption = 0,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what each scheme would update under the budget, and what a step of it takes; nothing is learned."""
    from tinynas import api
    from tinynas.report.adapt_figures import layers_table, plan_table

    check_picture(draw)
    if layers and len(_schemes(scheme)) != 1:
        raise UserError("--layers: shows the operators of one scheme", "name it with --scheme")
    with counting_progress() as progress:
        document = api.adapt(
            "plan",
            **_asked(net, budget, data, scheme, old, init, pixels, overrides),
            seeds=(seed,),
            draw=draw,
            on_step=progress,
            on_note=note,
        )
    if json_:
        return emit(document)
    console().print(plan_table(document["schemes"]))
    if layers and document["schemes"][0]["cost"] is not None:
        console().print(layers_table(document["schemes"][0]))
    return say(f"picture: {draw}") if draw is not None else None


@commands.command()
def run(
    net: NetArgument,
    budget: BudgetsOption = None,
    data: DataOption = None,
    scheme: SchemesOption = None,
    old: OldOption = None,
    init: InitOption = None,
    pixels: PixelsOption = "auto",
    out: Annotated[Path | None, typer.Option("--out", metavar="F.safetensors", help="Where to write the network that was learned.")] = None,
    seed: SeedOption = 0,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Learn a data set as a board would, by one scheme, and say how good old and new classes are then."""
    from tinynas import api
    from tinynas.config import format_size
    from tinynas.report.words import percent

    with counting_progress() as progress:

        def told(what: str, done: int, total: int) -> None:
            check_interrupted()
            progress(what, done, total)

        document = api.adapt(
            "run",
            **_asked(net, budget, data, scheme, old, init, pixels, overrides),
            seeds=(seed,),
            out=out,
            on_step=told,
            on_note=note,
        )
    if json_:
        return emit(document)
    before, after = document["accuracy"]["before"], document["accuracy"]["after"]
    for name in ("new", "old"):
        if after[name] is not None:
            count = document["test_images"][name]
            say(f"{name} classes: {percent(after[name])} of {count:,} test {document['noun']}s, {percent(before[name])} before")
    cost = document["cost"]
    say(f"memory: {format_size(cost['ram_bytes'])}, {format_size(cost['extra_bytes'])} beside inference; most in {cost['peak']['at']}")
    say(f"a step: {document['macs']:,} MACs, {document['parameters']:,} parameters updated ({percent(document['share'])})")
    if not document["fits"]:
        say("beyond the budget", "yellow")
    return say(f"written: {out}") if out is not None else None


@commands.command()
def compare(
    net: NetArgument,
    budget: BudgetsOption = None,
    data: DataOption = None,
    scheme: SchemesOption = None,
    seeds: Annotated[str, typer.Option("--seeds", metavar="N[,N...]", help="Each learns by itself.")] = "0,1",
    old: OldOption = None,
    init: InitOption = None,
    pixels: PixelsOption = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Rows and table; finished rows in it are not made again.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes at once.")] = 1,
    draw: DrawOption = None,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Schemes x budgets x seeds, each a learning of its own: one table, and accuracy over memory as a picture."""
    from tinynas import api
    from tinynas.report.adapt_figures import learned_table

    check_picture(draw)
    session.continue_command = shell_line("tinynas", *session.arguments)
    with counting_progress() as progress:

        def told(row: dict[str, Any], done: int, total: int) -> None:
            check_interrupted()
            progress("learnings", done, total)

        document = api.adapt(
            "compare",
            **_asked(net, budget, data, scheme, old, init, pixels, overrides),
            seeds=_numbers(seeds),
            out=out,
            jobs=jobs,
            draw=draw,
            on_row=told,
            on_note=note,
        )
    if json_:
        return emit(document)
    console().print(learned_table(document["table"]))
    say(f"table: {document['files']['csv']}")
    return say(f"picture: {draw}") if draw is not None else None


@commands.command()
def export(
    net: NetArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder.")],
    budget: BudgetsOption = None,
    data: DataOption = None,
    scheme: Annotated[str | None, typer.Option("--scheme", metavar="S", help="classifier, bias or last.")] = None,
    old: OldOption = None,
    init: InitOption = None,
    pixels: PixelsOption = "auto",
    seed: SeedOption = 0,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Write the firmware folder of a network that learns on the board: the usual one, and adapt.h."""
    from tinynas import api
    from tinynas.config import format_size

    document = api.adapt(
        "export",
        net,
        budget or (),
        data,
        schemes=_schemes(scheme),
        seeds=(seed,),
        old=old,
        init=init,
        pixels=pixels,
        out=out,
        overrides=overrides or (),
        on_note=note,
    )
    if json_:
        return emit(document)
    cost = document["cost"]
    say(
        f"memory: {format_size(cost['ram_bytes'])}: {format_size(document['arena_bytes'])} of the network, "
        f"{format_size(document['learning_bytes'])} of learning, {format_size(cost['extra_bytes'])} beside inference alone"
    )
    say(f"a step: {cost['macs']['step']:,} MACs, {cost['parameters']:,} parameters; saved in {document['blob_bytes']:,} B")
    return say(f"written: {out}")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or len({int(part) for part in parts}) < len(parts):
        raise UserError(f"--seeds {text}: must be numbers from 0, each once", "such as --seeds 0,1")
    return tuple(int(part) for part in parts)
