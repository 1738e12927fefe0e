"""data prepare, data info."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tinynas.cli.app import app
from tinynas.cli.common import JsonOption, SeedOption, SetOption, console, counting_progress, emit, next_step, say, session
from tinynas.errors import counted, shell_line

if TYPE_CHECKING:
    from tinynas.config import Config
    from tinynas.data.dataset import UnusableData
    from tinynas.data.prepare import PrepareProgress, PrepareReport

data = typer.Typer(help="Prepare published data sets, and look into any data.", no_args_is_help=True)
prepare = typer.Typer(help="Fetch or convert a published data set once; resumes where it was cut off.", no_args_is_help=True)
app.add_typer(data, name="data")
data.add_typer(prepare, name="prepare")

M = TypeVar("M", bound="Config")
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder of the prepared set. Default: the cache, where --data NAME finds it.")
]
#: Budgets of boards that are proposed for data of a kind: one with a camera, one with a microphone.
BUDGETS = {"image": "stm32f746", "sound": "nano33-ble-sense", "sequence": "nano33-ble-sense"}
CountOption = Annotated[int | None, typer.Option("--n", min=1, help="At most this many images of each part.")]
SizeOption = Annotated[int | None, typer.Option("--size", min=16, help="Short side in pixels of the images kept. Default: 160.")]
FolderOption = Annotated[
    Path | None, typer.Option("--export-imagefolder", metavar="DIR", help="Also write split/class/name.jpg, the ImageNet way.")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be transferred and written.")]


def _options(model: type[M], overrides: list[str] | None, **given: Any) -> M:
    from tinynas.config import build

    document = {key: str(value) if isinstance(value, Path) else value for key, value in given.items() if value is not None}
    return build(document, model, source="options", overrides=overrides or ())


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[PrepareProgress], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from tinynas.report.words import duration

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} shards", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
    ]
    out = console()
    with Progress(*columns, console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("preparing", total=None, facts="")

        def show(event: PrepareProgress) -> None:
            left = "" if event.eta_seconds is None else f", {duration(event.eta_seconds)} left"
            facts = f"{counted(event.images, 'image')} ({event.images_per_second:,.0f}/s), {event.bad} bad{left}"
            bar.update(task, total=event.shards, completed=event.shards_done, facts=facts)
            if event.message:
                say(event.message, "dim")

        yield show


def _by_class(counts: Mapping[str, int]) -> str:
    """How many there are of each class, the first eight; the class first, as it may be a number itself."""
    shown = ", ".join(f"{label}: {count:,}" for label, count in list(counts.items())[:8])
    return shown + (f", and {counted(len(counts) - 8, 'more class', 'more classes')}" if len(counts) > 8 else "")


def _report(report: PrepareReport, name: str, json_: bool) -> None:
    if json_:
        return emit(report.to_json())
    for split, counts in report.images.items():
        say(f"{split}: {_by_class(counts)}")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
    say(f"{counted(report.rows, 'row')} read; dropped: {dropped or 'none'}; {counted(len(report.bad), 'bad image')}")
    for note in report.notes:
        say(note, "dim")
    say(f"prepared in {report.path}")
    return next_step("tinynas", "search", "--budget", BUDGETS["image"], "--data", name)


@prepare.command("wake-vision")
def wake_vision(
    part: Annotated[
        list[str] | None, typer.Option("--part", help="quality, large, validation or test; may be given several times.")
    ] = None,
    n: CountOption = None,
    size: SizeOption = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Commit, tag or branch of the data set.")] = None,
    source: Annotated[
        Path | None, typer.Option("--source", metavar="DIR", help="A folder with the parquet files: nothing is downloaded.")
    ] = None,
    shard_id: Annotated[int | None, typer.Option("--shard-id", min=0, help="This machine's share of the shards, from 0.")] = None,
    num_shards: Annotated[int | None, typer.Option("--num-shards", min=1, help="Machines that share the work.")] = None,
    far: Annotated[str | None, typer.Option("--far", help="drop (default) or keep the official benchmark's far set.")] = None,
    false_positives: Annotated[
        Path | None, typer.Option("--false-positives", metavar="CSV", help="File names to relabel no_person.")
    ] = None,
    false_negatives: Annotated[Path | None, typer.Option("--false-negatives", metavar="CSV", help="File names to relabel person.")] = None,
    dual_save: Annotated[bool, typer.Option("--dual-save", help="Keep the original label beside the new one.")] = False,
    export_imagefolder: FolderOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    dry_run: DryOption = False,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Stream Wake Vision from the Hugging Face hub (or local parquet files) into a cache of JPEG files with a manifest."""
    from tinynas.data.prepare import WakeVisionOptions, expect
    from tinynas.data.prepare import wake_vision as run

    options = _options(
        WakeVisionOptions,
        overrides,
        parts=part or None,
        n=n,
        size=size,
        revision=revision,
        source=source,
        shard_id=shard_id,
        num_shards=num_shards,
        far=far,
        false_positives=false_positives,
        false_negatives=false_negatives,
        dual_save=dual_save or None,
        export_imagefolder=export_imagefolder,
        out=out,
        seed=seed,
    )
    session.continue_command = shell_line("tinynas", *session.arguments)
    expectation = expect(options)
    if dry_run and json_:
        return emit(vars(expectation) if hasattr(expectation, "__dict__") else str(expectation))
    say(expectation)
    if dry_run:
        return None
    with _progress() as show:
        report = run(options, show)
    return _report(report, "wake-vision-large" if "large" in options.parts else "wake-vision", json_)


@prepare.command()
def vww(
    coco: Annotated[Path, typer.Option("--coco", metavar="DIR", help="COCO's folder: annotations/instances_*.json and the images.")],
    minival: Annotated[
        Path | None, typer.Option("--minival", metavar="FILE", help="Ids or file names of the test images, one a line.")
    ] = None,
    area: Annotated[float | None, typer.Option("--area", help="Share of the image a box must cover. Default: 0.005.")] = None,
    n: CountOption = None,
    size: SizeOption = None,
    export_imagefolder: FolderOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Make Visual Wake Words (person or no person) from COCO's annotations and images."""
    from tinynas.data.prepare import VwwOptions
    from tinynas.data.prepare import vww as run

    options = _options(
        VwwOptions,
        overrides,
        coco=coco,
        minival=minival,
        area=area,
        n=n,
        size=size,
        export_imagefolder=export_imagefolder,
        out=out,
        seed=seed,
    )
    session.continue_command = shell_line("tinynas", *session.arguments)
    with _progress() as show:
        report = run(options, show)
    return _report(report, "vww", json_)


FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="PATH", help="The archive, or the folder that it was unpacked into: nothing is downloaded."),
]


def _sound_set(name: str, title: str) -> None:
    def command(source: FromOption = None, out: OutOption = None, json_: JsonOption = False) -> None:
        from tinynas.data.prepare import SoundSetOptions, sounds

        options = _options(SoundSetOptions, None, source=source, out=out)
        session.continue_command = shell_line("tinynas", *session.arguments)
        with counting_progress() as progress:
            report = sounds(name, options, progress)
        if json_:
            return emit(report.to_json())
        for split, counts in report.sounds.items():
            say(f"{split or 'all'}, {counted(sum(counts.values()), 'sound')}: {_by_class(counts)}")
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.to_json()["bad"]["reasons"].items())
        say(f"{counted(len(report.bad), 'bad sound')}{f': {reasons}' if reasons else ''}")
        say(f"prepared in {report.path}")
        return next_step("tinynas", "data", "info", name if out is None else str(out / "manifest.csv"))

    command.__doc__ = f"Fetch {title}, or take it from where it is, and write a manifest."
    prepare.command(name)(command)


for _name, _title in {
    "speech-commands": "Speech Commands v0.02 (35 words; 2.4 GB)",
    "esc10": "ESC-10 (ten sounds of the surroundings, part of ESC-50; 600 MB)",
    "esc50": "ESC-50 (fifty sounds of the surroundings; 600 MB)",
    "fsdd": "the Free Spoken Digit Dataset (16 MB)",
}.items():
    _sound_set(_name, _title)


@data.command()
def info(
    d: Annotated[
        str,
        typer.Argument(
            metavar="D", help="A folder of images or sounds, a table of labels (CSV), a data set name, hf:owner/name, or a parquet file."
        ),
    ],
    samples: Annotated[
        Path | None,
        typer.Option(
            "--samples", "--sheet", metavar="FILE.png", help="Write a sheet of random images, or spectra of sounds, of each class."
        ),
    ] = None,
    augment: Annotated[
        str | None, typer.Option("--augment", help="With --samples: none, light or wake-vision, as training changes the inputs.")
    ] = None,
    size: Annotated[int, typer.Option("--size", min=16, max=512, help="Short side in pixels of the pictures on the sheet.")] = 96,
    noise: Annotated[bool, typer.Option("--noise", help="Estimate the share of wrong labels (trains a small net three times).")] = False,
    seed: SeedOption = 0,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what is in a data set: classes, sizes, splits, duplicates, leakage, broken files; and all that is wrong with it."""
    from tinynas import api
    from tinynas.data.dataset import UnusableData

    with counting_progress() as progress:
        try:
            images = api.open_images(d, seed=seed, overrides=overrides or (), on_progress=progress)
        except UnusableData as error:
            _show_unusable(error, json_)
            raise
        from tinynas.data.info import describe
        from tinynas.data.sheets import augmented_sheet, sample_sheet

        document = describe(images)
        if samples is not None and augment is not None:
            from tinynas.config import build
            from tinynas.recipe import Augment

            document["samples"] = str(
                augmented_sheet(images, build({"kind": augment}, Augment, source="--augment"), samples, size=size, seed=seed)
            )
        elif samples is not None:
            document["samples"] = str(sample_sheet(images, samples, size=size, seed=seed))
        if noise:
            document["label_noise"] = api.label_noise(images, seed=seed)
    if json_:
        return emit(document)
    for line in _facts(document):
        say(line)
    if samples is not None:
        say(f"picture: {samples}")
    given = [word for text in overrides or () for word in ("--set", text)]
    return next_step("tinynas", "search", "--budget", BUDGETS[document["kind"]], "--data", d, *given)


def _show_unusable(error: UnusableData, json_: bool) -> None:
    """What can be seen of data with faults: facts here, the faults where errors go (in the one document of ``--json``, both)."""
    from tinynas.data.info import describe

    document = describe(error.data)
    if json_:
        faults = [{"message": fault.message, "hint": fault.hint} for fault in error.faults]
        return emit({**document, "error": {"type": type(error).__name__, "message": error.message, "hint": error.hint, "faults": faults}})
    for line in _facts(document):
        say(line)
    return None


def _facts(document: dict[str, Any]) -> Iterator[str]:
    kind, unit = document["kind"], " px" if document["kind"] == "image" else ""
    sizes = ""
    if document["sizes"] is not None and "seconds" in document["sizes"]:
        seconds, rates = document["sizes"]["seconds"], list(document["sizes"]["rates"])
        shown = ", ".join(f"{int(rate):,}" for rate in rates[:3]) + (" ..." if len(rates) > 3 else "")
        sizes = f", {seconds['min']:.2f}-{seconds['max']:.2f} s, {seconds['sum'] / 60:,.1f} minutes in all, at {shown} Hz"
    elif document["sizes"] is not None:
        native, short = document["sizes"]["native"], document["sizes"]["short_side"]
        sizes = f", about {native['height']}x{native['width']}{unit} (height x width; short side {short['min']}-{short['max']})"
    yield f"{document['name']}: {counted(document['images'], kind)} of {counted(len(document['labels']), 'class', 'classes')}{sizes}"
    for split, counts in document["splits"].items() if document["images"] else ():
        yield f"  {split:<6} {sum(counts.values()):>9,}  {_by_class(counts)}"
    if document["bad"]["count"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in document["bad"]["reasons"].items())
        yield f"  left out: {counted(document['bad']['count'], kind)} ({reasons})"
    if document["images"]:
        yield f"  exact duplicates: {document['duplicates']}; {kind}s in more than one split: {len(document['leaks'])}"
    if document["groups"] is not None:
        groups, largest = document["groups"], document["groups"]["largest"]
        by_split = ", ".join(f"{count:,} in {split}" for split, count in groups["splits"].items())
        yield f"  groups: {groups['count']:,} ({by_split}); the largest, {largest['group']}, has {counted(largest['images'], kind)}"
        yield f"  groups in more than one split: {len(groups['in_several_splits'])}"
    for note in document["notes"]:
        yield f"  note: {note}"
    for warning in document["warnings"]:
        yield f"  warning: {warning}"
    if "label_noise" in document:
        noise = document["label_noise"]
        yield (
            f"  label noise: at most about {100 * noise['share']:.1f} % of {noise['judged']:,} training {kind}s "
            f"(by a cross-validated net of {100 * noise['accuracy']:.1f} % accuracy); the surest suspects:"
        )
        for suspect in noise["suspects"][:10]:
            likely = f"{suspect['suggested']} ({100 * suspect['probability']:.0f} %)"
            yield f"    {suspect['name']}: labeled {suspect['label']}, looks like {likely}"
