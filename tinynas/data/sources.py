"""Which data a word means: the tables DATASETS (names) and PLACES (paths and addresses), and :func:`open_data`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tinynas.data.dataset import DataSet
from tinynas.data.held_out import hold_out
from tinynas.data.majority import most_of
from tinynas.data.options import DataOptions
from tinynas.data.progress import OnProgress
from tinynas.errors import DataError


class Opener(Protocol):
    """Opens the data of one name."""

    def __call__(self, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
        """The data; raises DataError."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data set that is known by name."""

    summary: str
    open: Opener


class PlaceOpener(Protocol):
    """Opens the data at a place."""

    def __call__(self, place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
        """The data; raises DataError."""
        ...


@dataclass(frozen=True)
class Place:
    """A kind of place where data may lie: a folder of some layout, a file, an address."""

    summary: str
    holds: Callable[[str], bool]
    """Whether a word is such a place; cheap."""
    open: PlaceOpener


def _synthetic(options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.images.synthetic import open_synthetic

    return open_synthetic(options, seed=seed, cache=cache, on_progress=on_progress)


def _prepared(name: str) -> Opener:
    def opened(options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
        from tinynas.data.images.prepared import open_store
        from tinynas.data.store import Store
        from tinynas.files import cache_dir

        # A folder of this name here may be what it was prepared into (--out).
        root = next((at for at in ((cache or cache_dir()) / "prepared" / name, Path(name)) if Store(at).exists()), None)
        if root is None:
            part = " --part large" if name.endswith("-large") else " --coco FOLDER" if name == "vww" else ""
            raise DataError(
                f"{name}: is not prepared yet",
                f"run: tinynas data prepare {name.removesuffix('-large')}{part} (or give the folder it was prepared into)",
            )
        return open_store(root, options, seed=seed, cache=cache, on_progress=on_progress)

    return opened


def _recorded(name: str) -> Opener:
    def opened(options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
        from tinynas.data.sounds.folder import open_sounds
        from tinynas.files import cache_dir

        # A folder of this name here may be what it was prepared into (--out).
        folders = ((cache or cache_dir()) / "prepared" / name, Path(name))
        table = next((at / "manifest.csv" for at in folders if (at / "manifest.csv").is_file()), None)
        if table is None:
            raise DataError(f"{name}: is not prepared yet", f"run: tinynas data prepare {name} (or give the folder it was prepared into)")
        return open_sounds(table, options, seed=seed, cache=cache, on_progress=on_progress)

    return opened


def _hub(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.images.hub import open_hub

    name = place.removeprefix(HUB).strip("/")
    if not name:
        raise DataError("hf: names no data set", "write hf:owner/name")
    return open_hub(name, options, seed=seed, cache=cache, on_progress=on_progress)


def _store(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.images.prepared import open_store

    return open_store(_path(place), options, seed=seed, cache=cache, on_progress=on_progress)


def _parquet(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.images.hub import open_parquet

    return open_parquet(_path(place), options, seed=seed, cache=cache, on_progress=on_progress)


def _folder(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.images.folder import open_folder

    return open_folder(_path(place), options, seed=seed, cache=cache, on_progress=on_progress)


def _sounds(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.sounds.folder import open_sounds

    return open_sounds(_path(place), options, seed=seed, cache=cache, on_progress=on_progress)


def _features(place: str, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> DataSet:
    from tinynas.data.sounds.given import open_features

    return open_features(_path(place), options, seed=seed, cache=cache, on_progress=on_progress)


def _is_sounds(place: str) -> bool:
    return _path(place).exists() and most_of(_path(place)) == "sounds"


def _is_features(place: str) -> bool:
    return _path(place).exists() and most_of(_path(place)) == "features"


def _path(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:  # ~name of nobody here
        return Path(place)


def _is_store(place: str) -> bool:
    from tinynas.data.store import Store

    return Store(_path(place)).exists()


def _is_parquet(place: str) -> bool:
    path = _path(place)
    if not path.is_dir():
        return path.suffix == ".parquet" and path.exists()
    inner = path / "data"
    return any(path.glob("*.parquet")) or (any(inner.glob("*.parquet")) and not any(p.is_dir() for p in inner.iterdir()))


DATASETS: dict[str, Dataset] = {
    "synthetic": Dataset("built-in pictures of person-like figures, drawn in code; no download", _synthetic),
    "wake-vision": Dataset("Wake Vision (quality), person or not; prepare it first", _prepared("wake-vision")),
    "wake-vision-large": Dataset("Wake Vision with the large training part; prepare it first", _prepared("wake-vision-large")),
    "speech-commands": Dataset("spoken words, Speech Commands v0.02; prepare it first", _recorded("speech-commands")),
    "esc10": Dataset("ten sounds of the surroundings, of ESC-50; prepare it first", _recorded("esc10")),
    "esc50": Dataset("fifty sounds of the surroundings; prepare it first", _recorded("esc50")),
    "fsdd": Dataset("spoken digits; prepare it first", _recorded("fsdd")),
    "vww": Dataset("Visual Wake Words from COCO, person or not; prepare it first", _prepared("vww")),
}
"""Data sets by name. A new one is a file with an opener and a line here; it inherits the contract test."""
HUB = "hf:"
PLACES: tuple[Place, ...] = (
    Place("hf:owner/name, a data set of the Hugging Face hub", lambda place: place.startswith(HUB), _hub),
    Place("a folder with prepared data", _is_store, _store),
    Place("a parquet file, or a folder of them", _is_parquet, _parquet),
    Place("a folder of sounds, or a table of labels (CSV)", _is_sounds, _sounds),
    Place("a folder of features in .bin files, or a table of labels (CSV)", _is_features, _features),
    Place("an image folder, or a table of labels (CSV)", lambda place: _path(place).exists(), _folder),
)
"""Where data may lie; the first that holds opens it. A new kind is a file with an opener and a line here."""


def open_data(
    spec: str | Path,
    *,
    seed: int = 0,
    cache_dir: Path | None = None,
    options: DataOptions | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> DataSet:
    """The labelled data that ``spec`` means: a name of :data:`DATASETS`, or one of :data:`PLACES`.

    ``seed`` draws splits and synthetic images only where ``options.seed`` is None: by default every run has the same test
    images. ``cache_dir`` is where decoded images are kept (see :mod:`tinynas.data.cache`). Raises DataError.
    """
    options = options or DataOptions()
    opened = _opened(str(spec), options, seed, cache_dir, on_progress)
    return hold_out(opened, options.held_out) if options.held_out else opened


def exists(spec: str | Path) -> bool:
    """Whether :func:`open_data` has something to open: a data set of a name, or a place that is there."""
    return str(spec) in DATASETS or any(place.holds(str(spec)) for place in PLACES)


def _opened(
    word: str, options: DataOptions, seed: int, cache_dir: Path | None, on_progress: Callable[[str, int, int], None] | None
) -> DataSet:
    if word in DATASETS:
        return DATASETS[word].open(options, seed=seed, cache=cache_dir, on_progress=on_progress)
    if not word.strip():
        raise DataError("no data given", f"give a folder of images or sounds, or one of: {', '.join(DATASETS)}")
    for place in PLACES:
        if place.holds(word):
            return place.open(word, options, seed=seed, cache=cache_dir, on_progress=on_progress)
    near = difflib.get_close_matches(word, DATASETS, n=1)
    raise DataError(
        f"{word}: does not exist and is no data set's name",
        f'did you mean "{near[0]}"?' if near else f"give a folder of images or sounds, hf:owner/name, or one of: {', '.join(DATASETS)}",
    )
