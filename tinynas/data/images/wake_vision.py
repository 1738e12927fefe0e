"""Wake Vision (Banbury et al., arXiv 2405.00892) from Hugging Face: person or no person, nearly six million images.

Two repositories: ``Harvard-Edge/Wake-Vision`` (train_quality, validation, test; 21 columns) and
``Harvard-Edge/Wake-Vision-Train-Large`` (train_large; image, filename, person). Labels are 0 no, 1 yes, -1 does not
apply. They speak of the centre square of an image, which is what is kept. Rows of the test whose person is -1 are people too far away to
count; the official benchmark leaves them out of the test and, as the far set, asks how many are seen all the same.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tinynas.data.hugging import datasets_module
from tinynas.data.images.shards import Expectation, OnPrepare, PrepareOptions, PrepareReport, Row, Shard, expect, prepare, shuffled
from tinynas.errors import DataError, counted
from tinynas.files import cache_dir

Part = Literal["quality", "large", "validation", "test"]

LABELS = ("no_person", "person")
REPOSITORIES: dict[str, str] = {
    "quality": "Harvard-Edge/Wake-Vision",
    "validation": "Harvard-Edge/Wake-Vision",
    "test": "Harvard-Edge/Wake-Vision",
    "large": "Harvard-Edge/Wake-Vision-Train-Large",
}
HUB_SPLITS: dict[str, str] = {"quality": "train_quality", "large": "train_large", "validation": "validation", "test": "test"}
SPLIT_OF: dict[str, str] = {"quality": "train", "large": "train", "validation": "val", "test": "test"}
ATTRIBUTES = (
    "depiction",
    "body_part",
    "predominantly_female",
    "predominantly_male",
    "gender_unknown",
    "young",
    "middle_age",
    "older",
    "age_unknown",
    "near",
    "medium_distance",
    "far",
    "dark",
    "normal_lighting",
    "bright",
    "person_depiction",
    "non-person_depiction",
    "non-person_non-depiction",
)
"""The columns beside image, filename and person."""
SHARD_BYTES, SHARD_ROWS = 490_000_000, 1730
"""About what a shard of the original holds, for the estimate where the hub does not say."""


class WakeVisionOptions(PrepareOptions):
    """``tinynas data prepare wake-vision``."""

    parts: tuple[Part, ...] = ("quality", "validation", "test")
    """Which parts: ``quality`` (about 1.25 million training images), ``large`` (5.76 million), ``validation``, ``test``."""
    revision: str | None = None
    """Commit, tag or branch of the data set; a commit makes the preparation repeatable for ever."""
    source: Path | None = None
    """A folder with the parquet files (names such as train_quality-00000-of-00745.parquet); nothing is downloaded then."""
    shard_id: Annotated[int, Field(ge=0)] = 0
    """Which share of the shards to prepare, from 0, where several machines share the work (on one disk)."""
    num_shards: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many machines share the work."""
    far: Literal["drop", "keep"] = "drop"
    """Test rows of people too far to count: ``drop`` (counted), or ``keep`` them as the split ``far``, as the official
    benchmark does for its far set."""
    false_positives: Path | None = None
    """CSV with file names (first column) labelled person that show none: relabelled no_person."""
    false_negatives: Path | None = None
    """CSV with file names (first column) labelled no_person that show one: relabelled person."""
    dual_save: bool = False
    """Keep the original label beside the new one."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ValueError("parts needs at least one part, none of them twice")
        if self.shard_id >= self.num_shards:
            raise ValueError(f"shard_id {self.shard_id} is not below num_shards {self.num_shards}: shards are counted from 0")
        if self.dual_save and self.false_positives is None and self.false_negatives is None:
            raise ValueError("dual_save needs false_positives or false_negatives: without them there is one label only")
        return self


def default_root(options: WakeVisionOptions) -> Path:
    """Where the set goes: ``options.out``, or its place in the cache."""
    name = "wake-vision-large" if "large" in options.parts else "wake-vision"
    return options.out or cache_dir() / "prepared" / name


def expect_wake_vision(options: WakeVisionOptions) -> Expectation:
    """What :func:`prepare_wake_vision` will transfer and write; asks the hub for sizes, downloads nothing."""
    plan = _Plan(options)
    return expect(plan.mine(), options, default_root(options))


def prepare_wake_vision(
    options: WakeVisionOptions, on_progress: OnPrepare | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> PrepareReport:
    """Stream Wake Vision, keep centre squares as JPEG files with a manifest. Resumes by shard.

    Raises DataError: the hub out of reach, other settings than before, a full disk, a CSV that cannot be read.
    """
    plan = _Plan(options)
    identity = {
        "size": options.size,
        "jpeg_quality": options.jpeg_quality,
        "seed": options.seed,
        "far": options.far,
        "num_shards": options.num_shards,
        "parts": list(options.parts),
        "revision": plan.revision,
        "dual_save": options.dual_save,
        "relabelling": plan.relabelling.digest,
    }
    mine = "" if options.num_shards == 1 else f"-{options.shard_id}-of-{options.num_shards}"
    report = prepare(
        "wake-vision-large" if "large" in options.parts else "wake-vision",
        LABELS,
        plan.mine(),
        options,
        default_root(options),
        identity=identity,
        order=plan.order(),
        mine=mine,
        crop=True,
        on_progress=on_progress,
        sleep=sleep,
    )
    report.notes += plan.relabelling.notes(report)
    return report


class _Plan:
    """The shards of all parts, in order, and the relabelling."""

    def __init__(self, options: WakeVisionOptions) -> None:
        self.options = options
        self.relabelling = Relabelling(options.false_positives, options.false_negatives, options.dual_save)
        self.revision: str | None = None
        self.parts = [self._shards(part) for part in options.parts]

    def order(self) -> list[list[list[str]]]:
        """For each part and each machine, the keys of its shards."""
        count = self.options.num_shards
        return [[[shard.key for shard in part[i::count]] for i in range(count)] for part in self.parts]

    def mine(self) -> list[list[Shard]]:
        """This machine's shards of each part."""
        return [part[self.options.shard_id :: self.options.num_shards] for part in self.parts]

    def _shards(self, part: str) -> list[Shard]:
        options = self.options
        files = _local_files(options.source, part) if options.source is not None else self._hub_files(part)
        shards = []
        for url, size, rows in files:
            key = re.sub(r"[^A-Za-z0-9._-]", "_", url.rsplit("/", 1)[-1].removesuffix(".parquet"))
            shards.append(Shard(key, _reader(url, part, options, self.relabelling), 0 if options.source is not None else size, rows))
        if len({shard.key for shard in shards}) < len(shards):
            raise DataError(f"{part}: two shards have the same file name", "keep the parquet files of one data set in the folder")
        return shuffled(shards, options.seed)

    def _hub_files(self, part: str) -> list[tuple[str, int, int]]:
        repository, split = REPOSITORIES[part], HUB_SPLITS[part]
        try:
            datasets = datasets_module()

            builder = datasets.load_dataset_builder(repository, revision=self.options.revision)
            urls = [str(url) for url in (builder.config.data_files or {}).get(split, [])]
        except Exception as error:  # offline mode, HTTP errors, a repository that moved: all mean it cannot be listed
            raise DataError(
                f"{repository}: cannot be listed: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}",
                "check the connection and --revision, or download the parquet files yourself and pass --source FOLDER",
            ) from None
        if not urls:
            raise DataError(f"{repository}: has no split {split!r}", "pass --revision with a commit that has it")
        match = re.search(r"@([0-9a-f]{40})/", urls[0])
        if match is not None:
            self.revision = ",".join(sorted({*(self.revision or "").split(","), match[1]} - {""}))
        sizes = _hub_sizes(urls)
        return [(url, sizes.get(url, SHARD_BYTES), max(1, round(sizes.get(url, SHARD_BYTES) / SHARD_BYTES * SHARD_ROWS))) for url in urls]


def _hub_sizes(urls: list[str]) -> dict[str, int]:
    try:
        from huggingface_hub import HfFileSystem

        folder = urls[0].rsplit("/", 1)[0]
        entries: list[Any] = HfFileSystem().ls(folder, detail=True)
        return {f"hf://{entry['name']}": int(entry["size"]) for entry in entries}
    except Exception:  # only an estimate depends on it
        return {}


def _local_files(folder: Path, part: str) -> list[tuple[str, int, int]]:
    import pyarrow.parquet as parquet

    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder", "give the folder that holds the parquet files")
    found = []
    for path in sorted(folder.rglob(f"{HUB_SPLITS[part]}*.parquet")):
        try:
            rows = int(parquet.read_metadata(path).num_rows)
        except Exception as error:  # pyarrow's own errors are ValueError and OSError in turn
            raise DataError(f"{path}: is no parquet file: {error}", "download it again") from None
        found.append((str(path), path.stat().st_size, rows))
    if not found:
        raise DataError(f"{folder}: holds no {HUB_SPLITS[part]}*.parquet", "choose other parts, or another --source")
    return found


def _reader(url: str, part: str, options: WakeVisionOptions, relabelling: Relabelling) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        datasets = datasets_module()

        stream = datasets.load_dataset("parquet", data_files=[url], split="train", streaming=True)
        # Decoding is ours: one bad image must not end the stream.
        for values in stream.decode(False):
            yield to_row(values, part, options.far, relabelling)

    return rows


def to_row(values: Mapping[str, Any], part: str, far: str, relabelling: Relabelling) -> Row:
    """One row of the data set as ours; ``values`` has the original's columns, the image undecoded."""
    image = values.get("image")
    data = image.get("bytes") if isinstance(image, Mapping) else image
    name = str(values.get("filename") or (image.get("path") if isinstance(image, Mapping) else None) or "unnamed")
    person = values.get("person")
    flags = tuple(
        column if values[column] == 1 else f"-{column}" for column in ATTRIBUTES if values.get(column) is not None and values[column] != 0
    )
    if not isinstance(person, int) or person not in (0, 1):
        if far == "keep" and values.get("far") == 1:
            return Row(name, data, "person", "far", None, flags)
        return Row(name, None, "", SPLIT_OF[part], drop="person does not apply (-1)")
    label = LABELS[person]
    new = relabelling(name, label)
    return Row(
        name,
        data,
        new,
        SPLIT_OF[part],
        label if relabelling.dual and new != label else None,
        flags,
        relabelled=f"{label} -> {new}" if new != label else None,
    )


class Relabelling:
    """Which file names have a wrong label, from the two CSV files of a relabelling."""

    def __init__(self, false_positives: Path | None, false_negatives: Path | None, dual: bool) -> None:
        self.dual = dual
        self.no_person = _names(false_positives)
        self.person = _names(false_negatives)
        both = self.no_person & self.person
        if both:
            raise DataError(
                f"{len(both)} file names are in both CSV files, such as {min(both)}",
                "an image cannot be a false positive and a false negative",
            )
        lines = [*(f"-{name}" for name in sorted(self.no_person)), *(f"+{name}" for name in sorted(self.person))]
        self.digest = hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None

    def __call__(self, name: str, label: str) -> str:
        """The label of the image ``name``."""
        stem = _stem(name)
        if label == "person" and stem in self.no_person:
            return "no_person"
        if label == "no_person" and stem in self.person:
            return "person"
        return label

    def notes(self, report: PrepareReport) -> list[str]:
        """What became of the listed names."""
        if self.digest is None:
            return []
        listed, changed = len(self.no_person) + len(self.person), sum(report.relabelled.values())
        return [f"relabelled {counted(changed, 'image')}; {listed - changed:,} of {listed:,} listed names are not here or had that label"]


def _names(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}", "give a text file with one file name a line, first column") from None
    if names and names[0].lower() in ("image_name", "filename", "file_name", "image", "name", "id"):
        names = names[1:]
    if not names:
        raise DataError(f"{path}: lists no file names", "give a text file with one file name a line, first column")
    return frozenset(map(_stem, names))


def _stem(name: str) -> str:
    return os.path.splitext(name.replace("\\", "/").rsplit("/", 1)[-1])[0]  # noqa: PTH122  a name, not a path
