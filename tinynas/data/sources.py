"""Which data a word means: the DATASETS table and :func:`open_data`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tinynas.data.dataset import ImageData
from tinynas.data.options import DataOptions
from tinynas.data.scan import OnProgress
from tinynas.errors import DataError


class Opener(Protocol):
    """Opens one kind of data."""

    def __call__(self, options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> ImageData:
        """The data; raises DataError."""
        ...


@dataclass(frozen=True)
class Dataset:
    """A data set that is known by name."""

    summary: str
    open: Opener


def _synthetic(options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> ImageData:
    from tinynas.data.synthetic import open_synthetic

    return open_synthetic(options, seed=seed, cache=cache, on_progress=on_progress)


def _prepared(name: str) -> Opener:
    def opened(options: DataOptions, *, seed: int, cache: Path | None, on_progress: OnProgress | None) -> ImageData:
        from tinynas.data.cache import cache_dir
        from tinynas.data.store import Store, open_store

        root = (cache or cache_dir()) / "prepared" / name
        if not Store(root).exists():
            part = " --part large" if name.endswith("-large") else " --coco FOLDER" if name == "vww" else ""
            raise DataError(
                f"{name}: is not prepared yet",
                f"run: tinynas data prepare {name.removesuffix('-large')}{part} (or give the folder it was prepared into)",
            )
        return open_store(root, options, seed=seed, cache=cache, on_progress=on_progress)

    return opened


DATASETS: dict[str, Dataset] = {
    "synthetic": Dataset("built-in pictures of person-like figures, drawn in code; no download", _synthetic),
    "wake-vision": Dataset("Wake Vision (quality), person or not; prepare it first", _prepared("wake-vision")),
    "wake-vision-large": Dataset("Wake Vision with the large training part; prepare it first", _prepared("wake-vision-large")),
    "vww": Dataset("Visual Wake Words from COCO, person or not; prepare it first", _prepared("vww")),
}
"""Data sets by name. A new one is a file with an opener and a line here; it inherits the contract test."""


def open_data(
    spec: str | Path,
    *,
    seed: int = 0,
    cache_dir: Path | None = None,
    options: DataOptions | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> ImageData:
    """The labelled images that ``spec`` means.

    A name of :data:`DATASETS`, an image folder, a folder with prepared data, a parquet file or a folder of them, or
    ``hf:owner/name``.

    ``seed`` draws splits and synthetic images only where ``options.seed`` is None: by default every run has the same test
    images. ``cache_dir`` is where decoded images are kept (see :mod:`tinynas.data.cache`). Raises DataError.
    """
    options = options or DataOptions()
    word = str(spec)
    if word in DATASETS:
        return DATASETS[word].open(options, seed=seed, cache=cache_dir, on_progress=on_progress)
    if word.startswith("hf:"):
        from tinynas.data.hub import open_hub

        name = word.removeprefix("hf:").strip("/")
        if not name:
            raise DataError("hf: names no data set", "write hf:owner/name")
        return open_hub(name, options, seed=seed, cache=cache_dir, on_progress=on_progress)
    path = Path(word).expanduser()
    if not word.strip():
        raise DataError("no data given", f"give an image folder or one of: {', '.join(DATASETS)}")
    if not path.exists():
        near = difflib.get_close_matches(word, DATASETS, n=1)
        raise DataError(
            f"{word}: does not exist and is no data set's name",
            f'did you mean "{near[0]}"?' if near else f"give an image folder, hf:owner/name, or one of: {', '.join(DATASETS)}",
        )
    from tinynas.data.folder import open_folder
    from tinynas.data.store import Store, open_store

    if Store(path).exists():
        return open_store(path, options, seed=seed, cache=cache_dir, on_progress=on_progress)
    if path.suffix == ".parquet" or (path.is_dir() and _is_parquet_folder(path)):
        from tinynas.data.hub import open_parquet

        return open_parquet(path, options, seed=seed, cache=cache_dir, on_progress=on_progress)

    return open_folder(path, options, seed=seed, cache=cache_dir, on_progress=on_progress)


def _is_parquet_folder(path: Path) -> bool:
    return any(path.glob("*.parquet")) or (any(path.glob("data/*.parquet")) and not any(p.is_dir() for p in (path / "data").iterdir()))
