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


DATASETS: dict[str, Dataset] = {
    "synthetic": Dataset("built-in pictures of person-like figures, drawn in code; no download", _synthetic),
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
    """The labelled images that ``spec`` means: a name of :data:`DATASETS` or an image folder.

    ``seed`` draws splits and synthetic images only where ``options.seed`` is None: by default every run has the same test
    images. ``cache_dir`` is where decoded images are kept (see :mod:`tinynas.data.cache`). Raises DataError.
    """
    options = options or DataOptions()
    word = str(spec)
    if word in DATASETS:
        return DATASETS[word].open(options, seed=seed, cache=cache_dir, on_progress=on_progress)
    path = Path(word).expanduser()
    if not word.strip():
        raise DataError("no data given", f"give an image folder or one of: {', '.join(DATASETS)}")
    if not path.exists():
        near = difflib.get_close_matches(word, DATASETS, n=1)
        raise DataError(
            f"{word}: does not exist and is no data set's name",
            f'did you mean "{near[0]}"?' if near else f"give an image folder, or one of: {', '.join(DATASETS)}",
        )
    from tinynas.data.folder import open_folder

    return open_folder(path, options, seed=seed, cache=cache_dir, on_progress=on_progress)
