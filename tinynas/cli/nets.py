"""estimate, promote, export, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tinynas.cli.app import app
from tinynas.cli.common import (
    BudgetOption,
    DataOption,
    DrawOption,
    JsonOption,
    KernelsOption,
    SeedOption,
    SetOption,
    TflmOption,
    check_interrupted,
    check_picture,
    console,
    emit,
    next_step,
    note,
    say,
    session,
)
from tinynas.cost.runtimes import runtime_names
from tinynas.errors import UserError, counted, shell_line
from tinynas.export.formats import FORMATS
from tinynas.files import process_number
from tinynas.records import firmware_words

FalseAlarmsOption = Annotated[
    float | None,
    typer.Option(
        "--false-alarms",
        metavar="RATE",
        help="Of two classes: choose, on validation data, a threshold by which such a share of the negative ones is taken for positive.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="F[,F...]",
        help=f"What to write: {', '.join(f'{name} ({form.title})' for name, form in FORMATS.items())}; default: all that fit the input.",
    ),
]


def _formats(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(text.split(","))


@app.command()
def estimate(
    net: Annotated[str, typer.Argument(metavar="NET", help="An arch YAML, a ProxylessNAS JSON, any .tflite, RUN:ID, or a zoo name.")],
    budget: BudgetOption = None,
    runtime: Annotated[str | None, typer.Option("--runtime", "-r", metavar="R", help=f"{runtime_names()}.")] = None,
    layers: Annotated[bool, typer.Option("--layers", "-l", help="One row per operator, with live memory and the peak.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where it does not fit, or does not run: for scripts.")] = False,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what a network costs, before training, and whether it fits."""
    from tinynas import api
    from tinynas.budget import load_budget

    limits = load_budget(budget, overrides or ()) if budget else None
    if overrides and limits is None:
        raise UserError("--set changes the budget, and no budget is given", "add --budget")
    if check and limits is None:
        raise UserError("--check asks whether it fits, and no budget is given", "add --budget")
    if limits is not None and runtime is not None:
        limits = limits.for_runtime(runtime)
    cost = api.estimate(net, limits, runtime)
    document: dict[str, Any] = {"name": net, **cost.to_json()}
    if limits is not None:
        document |= {"budget": limits.name, **limits.told(cost)}
        document["regions"] = [placed.to_json() for placed in limits.placed(cost)]
    else:
        document["fits"], document["excess"] = None, {}
    explanation = None
    if limits is not None and not limits.fits(cost) and not api.names_tflite(net):
        from tinynas.cost.explain import explain

        explanation = explain(api.load_net(net), limits)
        document["explanation"] = explanation.to_json()
    if json_:
        emit(document)
    else:
        from tinynas.report.terminal import cost_table, layers_table, regions_table

        out = console()
        out.print(cost_table(cost, limits, name=net))
        if limits is not None and len(limits.regions) > 1:
            out.print(regions_table(limits.placed(cost)))
        if layers:
            out.print(layers_table(cost))
        if explanation is not None:
            out.print(explanation.text())
    if check and not document["fits"]:
        raise typer.Exit(1)


@app.command()
def promote(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN | NET",
            help="A run folder, or its name under results/; or a network (a zoo name, an arch YAML, a .tflite) without a run.",
        ),
    ],
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID...]", help="Networks of the run, 'best' (default), 'knee', or a zoo name as a reference."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", "-e", min=1, help="Epochs of the full training.")] = None,
    data: DataOption = None,
    seed: SeedOption = 0,
    qat: Annotated[bool, typer.Option("--qat", help="Train the last epochs with int8 quantization in the loop.")] = False,
    threads: Annotated[
        int,
        typer.Option(
            "--threads", min=1, help="CPU threads. More than one pays on idle cores only: on busy ones threads wait for each other."
        ),
    ] = 1,
    format_: FormatOption = None,
    verify: Annotated[
        str | None,
        typer.Option("--verify", metavar="CORE", help="Verify the exported files on an emulated core, as tinynas verify --target does."),
    ] = None,
    tflm: TflmOption = None,
    kernels: KernelsOption = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="SOURCE",
            help="Begin with the weights of a .tflite, .safetensors, a PyTorch state dict, RUN:ID or zoo:NAME.",
        ),
    ] = None,
    stages: Annotated[
        str | None, typer.Option("--stages", metavar="S", help="A YAML of trainings one after the other, or a shipped name.")
    ] = None,
    false_alarms: FalseAlarmsOption = None,
    budget: BudgetOption = None,
    out_: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Of a network without a run: the run's folder (default: results/NET-DATA).")
    ] = None,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Train networks of a run in full, measure them once on the test images, and export the int8 file."""
    from tinynas import api
    from tinynas.report.terminal import init_table, promote_progress, promoted_table
    from tinynas.report.words import verified_words
    from tinynas.runs import Run

    out = console()
    session.continue_command = shell_line("tinynas", *session.arguments)
    with promote_progress(out) as progress:
        rows = api.promote(
            run,
            ids or ["best"],
            epochs=epochs,
            data=data,
            seed=seed,
            qat=qat,
            threads=threads,
            formats=_formats(format_),
            verify=verify,
            tflm=tflm,
            kernels=kernels,
            init=init,
            stages=stages,
            false_alarms=false_alarms,
            budget=budget,
            out=out_,
            overrides=overrides or (),
            on_event=lambda event: progress(_promote_facts(event)),
            on_note=note,
            on_step=lambda what, done, total: progress({"step": what, "done": done, "of": total}),
        )
    if process_number() != 0:
        return None
    from tinynas.report import write_report

    opened = Run.open(rows[0].folder.parent.parent) if rows else Run.open(run)
    page = write_report(opened)
    documents = [row.to_json() for row in rows]
    if json_:
        return emit({"run": str(opened.path), "promoted": documents, "report": str(page)})
    out.print(promoted_table(documents))
    for document in documents:
        if begun := (document["training"] or {}).get("init"):
            out.print(init_table(begun))
    for row in rows:
        say(f"files of {row.id}: {row.folder}")
        if firmware := row.report.get("firmware"):
            say(firmware_words(firmware))
        if verified := row.report.get("verified"):
            say(f"verified: {verified_words(verified)}")
            for off in verified.get("notes", ()):
                say(f"note: {off}", "yellow")
        _say_dead(row)
        for problem in row.problems:
            say(f"NOT GOOD: {problem}", "bold red")
    say(f"picture: {page}")
    if any(row.problems for row in rows):
        raise typer.Exit(1)
    return next_step("tinynas", "export", opened.path, rows[0].id, "--out", "deploy") if rows else None


def _say_dead(row: Any) -> None:
    # Of random weights it says nothing: other channels will be without effect once it is trained.
    if row.promoted is not None and (dead := row.report.get("dead_channels")):
        file = next((path for path in row.files.values() if str(path).endswith(".tflite")), "the .tflite")
        say(
            f"{counted(dead, 'channel')} provably without effect on any output; remove with: {shell_line('tinynas', 'shrink', file)}",
            "yellow",
        )


def _promote_facts(event: Any) -> dict[str, Any]:
    check_interrupted()
    facts: dict[str, Any] = {"id": event.id, "epoch": event.epoch, "epochs": event.epochs}
    if event.note is not None:
        facts["message"] = f"{event.id}: {event.note}"
    if event.kind == "resumed":
        more = "" if event.note is None else f"; {event.note}"
        facts["message"] = f"{event.id}: continuing after epoch {event.epoch}{more}"
    if event.begun is not None:
        facts["message"] = f"{event.id}: {event.begun.summary}" + "".join(f"; {text}" for text in event.begun.notes)
    if event.kind == "known":
        facts["message"] = f"{event.id}: was trained with these settings before; nothing is trained again"
    if event.metrics is not None:
        metrics = event.metrics
        facts |= {"loss": metrics.loss, "val_accuracy": metrics.val_accuracy, "seconds_per_epoch": metrics.seconds}
        facts |= {"noun": event.noun, "inputs_per_second": metrics.images / metrics.seconds if metrics.seconds else None}
    return facts


@app.command()
def export(
    net: Annotated[
        str,
        typer.Argument(metavar="RUN ID | NET", help="A run and the id of a promoted network; or a network for a file with random weights."),
    ],
    net_id: Annotated[str | None, typer.Argument(metavar="[ID]")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write the files.")] = None,
    format_: FormatOption = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", "-r", metavar="R", help=f"{runtime_names()} (default: the run's, or tflm).")
    ] = None,
    exporter: Annotated[
        str, typer.Option("--exporter", help="Who writes the .tflite: tinynas, or tensorflow (second opinion).")
    ] = "tinynas",
    io: Annotated[str, typer.Option("--io", help="Type of input and output: int8, uint8 or float.")] = "int8",
    flavour: Annotated[str, typer.Option("--flavour", help="full, or lean: without names and metadata.")] = "full",
    data: DataOption = None,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Write the int8 .tflite of a promoted network and the C sources to flash it, checked on the runtime."""
    from tinynas import api

    if out is None:
        raise UserError("--out is missing", "say where to write, such as --out deploy/")
    row = api.export(
        net,
        net_id,
        out=out,
        formats=_formats(format_),
        exporter=exporter,
        runtime=runtime,
        io=io,
        flavour=flavour,
        data=data,
        overrides=overrides or (),
        on_note=lambda note: say(note, "yellow"),
    )
    if json_:
        emit(row.to_json())
    else:
        from tinynas.report.terminal import promoted_table

        console().print(promoted_table([row.to_json()]))
        for kind, path in row.files.items():
            say(f"{kind}: {path}")
        if "tflite" in row.files and row.report.get("plan"):
            say(f"memory plan: {row.report['plan']}")
        if firmware := row.report.get("firmware"):
            say(firmware_words(firmware))
        _say_dead(row)
        for problem in row.problems:
            say(f"NOT GOOD: {problem}", "bold red")
    if row.problems:
        raise typer.Exit(1)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="Any int8, uint8 or float classifier.")],
    data: Annotated[
        str, typer.Option("--data", "-d", metavar="D", help="A folder of images or sounds, a data set name, or hf:owner/name.")
    ],
    split: Annotated[str, typer.Option("--split", help="train, val, test, or all.")] = "test",
    pixels: Annotated[
        str,
        typer.Option(
            "--pixels",
            metavar="RANGE",
            help="What the input is made of, where the file does not tell: 0..1, -1..1, 0..255, any LOW..HIGH, imagenet, cifar10, mnist, "
            "caffe, or MEAN,STD (one number each or one a channel; of pixel/255 as in torchvision, of 0..255 where one is above 1).",
        ),
    ] = "auto",
    threshold: Annotated[
        str | None,
        typer.Option(
            "--threshold",
            metavar="X",
            help="Above which a single output says yes, in its real units; raw:X in those of a quantised output.",
        ),
    ] = None,
    front_end: Annotated[
        str | None,
        typer.Option("--front-end", metavar="NET", help="Of sounds: the network whose front end it has, where the file does not tell."),
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="Of sounds: also false alarms an hour and missed events on whole recordings.")
    ] = False,
    hop: Annotated[int | None, typer.Option("--hop", metavar="MS", min=1, help="From window to window; default: clip / 4.")] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            metavar="R",
            help="With --stream: what runs it on the board; compiled-stream hears frame by frame. Default: as export.json beside it says.",
        ),
    ] = None,
    alarms_an_hour: Annotated[
        float | None,
        typer.Option(
            "--alarms-an-hour", metavar="N", min=0, help="With --stream: so many are allowed where the smoothing is chosen; default: 1."
        ),
    ] = None,
    false_alarms: FalseAlarmsOption = None,
    subsets: Annotated[
        bool,
        typer.Option(
            "--subsets", help="Demand figures by the attributes the data has (data.attributes, Wake Vision's); given where it has any."
        ),
    ] = False,
    draw: DrawOption = None,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Measure a .tflite on images or sounds, with kernels that equal TensorFlow Lite Micro's bit for bit."""
    from tinynas import api

    check_picture(draw)
    result = api.evaluate(
        model,
        data,
        split=split,
        subsets=subsets,
        pixels=pixels,
        threshold=threshold,
        front_end=front_end,
        stream=stream,
        hop_ms=hop,
        runtime=runtime,
        alarms_an_hour=alarms_an_hour,
        false_alarms=false_alarms,
        overrides=overrides or (),
    )
    if draw is not None:
        from tinynas.report import write_evaluation_picture

        write_evaluation_picture(result, draw)
    if json_:
        return emit(result)
    from tinynas.report.terminal import evaluation_table

    console().print(evaluation_table(result))
    return say(f"picture: {draw}") if draw is not None else None


@app.command()
def shrink(
    model: Annotated[Path, typer.Argument(metavar="FILE.tflite", help="Any int8 .tflite, whoever made it.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="F", help="Where to write the smaller file. Without it, it is only said what would go.")
    ] = None,
    inputs: Annotated[int, typer.Option("--inputs", metavar="N", min=1, help="Inputs on which both files are run and compared.")] = 10_000,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=1, help="At most so long, however many were compared.")] = 60.0,
    strip_metadata: Annotated[bool, typer.Option("--strip-metadata", help="Also drop labels and all other metadata.")] = False,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Keep the names of inner tensors, which only people and debuggers read.")
    ] = False,
    litert: Annotated[
        bool, typer.Option("--litert", help="LiteRT is to load it, too: with a zero point for each channel, which TFLM does without.")
    ] = False,
    data: DataOption = None,
    pixels: Annotated[str, typer.Option("--pixels", metavar="RANGE", help="What the input is made of, as evaluate takes it.")] = "auto",
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Remove from a .tflite what provably changes no bit of its outputs: dead channels, idle operators, bytes that nothing reads."""
    from tinynas import api

    document = api.shrink(
        model,
        out,
        strip_metadata=strip_metadata,
        keep_names=keep_names,
        litert=litert,
        inputs=inputs,
        seconds=seconds,
        data=data,
        pixels=pixels,
        overrides=overrides or (),
    )
    if json_:
        return emit(document)
    from tinynas.report.terminal import shrunk_table

    console().print(shrunk_table(document))
    return say(f"written: {out}") if out is not None else None
