"""``hf:owner/name`` and parquet files: any labelled image data set that ``datasets`` reads."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from tinynas.data.assemble import Source, assemble
from tinynas.data.dataset import DataSet
from tinynas.data.hugging import datasets_module
from tinynas.data.images.signal import image_signal, made_notes, measure, sized
from tinynas.data.labels import clean
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.data.records import BadInput
from tinynas.data.scan import scan, sort_out
from tinynas.errors import DataError
from tinynas.files import cache_dir

LABEL_NAMES = ("label", "labels", "class", "category", "target", "fine_label", "person", "coarse_label")
"""Columns taken for the label, in this order, before others that could be one."""
IMAGE_NAMES = ("image", "img", "picture", "photo", "jpg", "png")
SPLIT_WORDS = (("train", "train"), ("val", "val"), ("dev", "val"), ("test", "test"))
"""What a split's name contains, and which split it then is."""


@dataclass(frozen=True)
class Columns:
    """Which columns hold the image and the label, and the label's names where they are numbers."""

    image: str
    label: str
    names: tuple[str, ...] | None

    def text(self, value: object) -> str | None:
        """The label ``value`` as text; None where it does not apply (missing, or -1 of a class label)."""
        if value is None:
            return None
        if self.names is not None:
            return self.names[int(str(value))] if 0 <= int(str(value)) < len(self.names) else None
        return clean(str(value))


def open_hub(
    name: str, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """The data set ``owner/name`` of the Hugging Face hub, downloaded once into its own cache. Raises DataError."""
    datasets = datasets_module()

    if on_progress is not None:
        on_progress(f"opening hf:{name}", 0, 1)
    try:
        loaded = datasets.load_dataset(name, options.subset, revision=options.revision)
    except Exception as error:  # HTTP, offline mode, missing repositories, loading scripts: all the same to the user
        raise DataError(f"hf:{name}: cannot be loaded: {_first_line(error)}", _remedy(error)) from None
    return _open(f"hf:{name}", loaded, options, seed, cache, on_progress)


def open_parquet(
    path: Path, options: DataOptions, *, seed: int = 0, cache: Path | None = None, on_progress: OnProgress | None = None
) -> DataSet:
    """A parquet file, or a folder of them; file names such as train-00000-of-00002.parquet tell the split."""
    datasets = datasets_module()

    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    if not files:
        raise DataError(f"{path}: holds no parquet files", "give a .parquet file or a folder of them")
    by_split: dict[str, list[str]] = {}
    for file in files:
        by_split.setdefault(file.stem.split("-")[0] if len(files) > 1 else "train", []).append(str(file))
    by_split = {_safe_split(split): found for split, found in by_split.items()}
    try:
        loaded = datasets.load_dataset("parquet", data_files=by_split, cache_dir=str((cache or cache_dir()) / "hf"))
    except Exception as error:  # pyarrow and datasets raise a dozen kinds for broken files
        raise DataError(
            f"{path}: cannot be read as parquet: {_first_line(error)}", "is a file cut off? write or download it again"
        ) from None
    return _open(str(path), loaded, options, seed, cache, on_progress)


def _safe_split(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "_" for c in name) or "train"


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0][:300]


def _remedy(error: BaseException) -> str:
    text = str(error)
    if "Config name is missing" in text or "BuilderConfig" in text:
        return "choose one with --set data.subset=NAME"
    return "check the name, the connection and --set data.revision=...; a gated set needs `hf auth login`"


def _open(
    name: str, loaded: Mapping[str, Any], options: DataOptions, seed: int, cache: Path | None, on_progress: OnProgress | None
) -> DataSet:
    datasets = datasets_module()

    notes: list[str] = []
    chosen = _splits(name, list(loaded), options, notes)
    features = loaded[next(iter(chosen.values()))].features
    columns = _columns(name, features, options)
    notes.append(f"image column {columns.image!r}, label column {columns.label!r}")
    store = cache or cache_dir()
    parts = {}
    for split, source in chosen.items():
        part = loaded[source]
        if isinstance(part.features[columns.image], datasets.Image):
            part = part.cast_column(columns.image, datasets.Image(decode=False))
        parts[split] = part
    keys, stamps, places, labels = [], [], [], []
    unlabelled = 0
    for split, part in parts.items():
        for row, value in enumerate(part[columns.label]):
            label = columns.text(value)
            if label is None:
                unlabelled += 1
                continue
            keys.append(f"{split}/{row:07d}")
            stamps.append(str(part._fingerprint))
            places.append((split, row))
            labels.append(label)
    if unlabelled:
        notes.append(f"{unlabelled:,} rows without a label (missing, or -1) left out")
    lock = Lock()

    def read(i: int) -> bytes:
        split, row = places[i]
        with lock:
            return _bytes(parts[split][row][columns.image])

    identity = hashlib.sha256("\n".join([name, columns.image, *(f"{s}={p._fingerprint}" for s, p in parts.items())]).encode()).hexdigest()
    seen = scan(keys, stamps, read, measure, store / "index" / f"{identity[:24]}.json.gz", on_progress, kind="image")
    records, rows, bad = sort_out(keys, labels, [split if len(parts) > 1 else None for split, _ in places], seen)
    found = Source(
        name,
        image_signal(options),
        sized(records, options),
        lambda i: read(rows[i]),
        bad=bad,
        notes=[*notes, *made_notes(options)],
        label_order=columns.names,
    )
    return assemble(found, options, seed=seed, cache=store, on_progress=on_progress)


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping):
        if isinstance(value.get("bytes"), bytes):
            return bytes(value["bytes"])
        if value.get("path"):
            return Path(str(value["path"])).read_bytes()
    raise BadInput("missing")


def _splits(name: str, available: Sequence[str], options: DataOptions, notes: list[str]) -> dict[str, str]:
    """Ours to theirs."""
    for split, source in options.splits.items():
        if source not in available:
            near = difflib.get_close_matches(source, available, n=1)
            raise DataError(
                f"{name}: splits.{split}: there is no split {source!r}",
                f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(available)}",
            )
    if options.splits:
        return {str(split): source for split, source in options.splits.items()}
    found: dict[str, str] = {}
    for source in available:
        for word, ours in SPLIT_WORDS:
            if word in source.lower() and ours not in found:
                found[ours] = source
                break
    if not found and len(available) == 1:
        found = {"train": available[0]}
    if "train" not in found:
        raise DataError(
            f"{name}: none of its splits ({', '.join(available)}) looks like training images", "say which: --set data.splits.train=NAME"
        )
    unused = [source for source in available if source not in found.values()]
    if unused:
        notes.append(f"splits not used: {', '.join(unused)}")
    return found


def _columns(name: str, features: Mapping[str, Any], options: DataOptions) -> Columns:
    datasets = datasets_module()

    def wanted(option: str, column: str | None) -> None:
        if column is not None and column not in features:
            near = difflib.get_close_matches(column, features, n=1)
            raise DataError(
                f"{name}: {option}: there is no column {column!r}",
                f'did you mean "{near[0]}"?' if near else f"it has: {', '.join(features)}",
            )

    wanted("image_column", options.image_column)
    wanted("label_column", options.label_column)
    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    images += [key for key, kind in features.items() if key not in images and (_is_binary(kind) or _is_image_struct(kind))]
    image = options.image_column or _first(IMAGE_NAMES, images)
    if image is None:
        raise DataError(f"{name}: has no image column (columns: {', '.join(features)})", "say which: --set data.image_column=NAME")
    classes = [key for key, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    others = [key for key, kind in features.items() if key not in classes and key != image and _is_scalar(kind)]
    label = options.label_column or _first(LABEL_NAMES, [key for key in (*classes, *others) if key in LABEL_NAMES])
    if label is None and len(classes) == 1:
        label = classes[0]
    if label is None:
        raise DataError(
            f"{name}: cannot tell which column is the label (columns: {', '.join(features)})", "say which: --set data.label_column=NAME"
        )
    kind = features[label]
    names = tuple(map(clean, kind.names)) if isinstance(kind, datasets.ClassLabel) else None
    if names is None and not _is_scalar(kind):
        raise DataError(f"{name}: the column {label!r} holds {kind}, not one label an image", "choose another --set data.label_column=NAME")
    return Columns(image, label, names)


def _first(preferred: Iterable[str], candidates: Sequence[str]) -> str | None:
    return next((name for name in preferred if name in candidates), candidates[0] if candidates else None)


def _is_binary(kind: object) -> bool:
    return getattr(kind, "dtype", None) in ("binary", "large_binary")


def _is_image_struct(kind: object) -> bool:
    return isinstance(kind, Mapping) and set(kind) == {"bytes", "path"}


def _is_scalar(kind: object) -> bool:
    dtype = str(getattr(kind, "dtype", ""))
    return dtype in ("string", "large_string", "bool") or dtype.startswith(("int", "uint"))
