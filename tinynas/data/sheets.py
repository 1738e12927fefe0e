"""Samples of any data set as a picture: the door to the wings' sheets."""

from __future__ import annotations

from pathlib import Path

from tinynas.data.dataset import DataSet
from tinynas.errors import DataError
from tinynas.recipe import Augment


def sample_sheet(data: DataSet, path: Path, *, size: int = 96, seed: int = 0) -> Path:
    """Write a PNG with lines of random images, or spectra of sounds, of each class, of about ``size`` pixels. Raises DataError."""
    if data.signal.kind == "sound":
        from tinynas.data.sounds.sheet import spectra_sheet

        return spectra_sheet(data, path, size=size, seed=seed)
    from tinynas.data.images.sheet import sample_sheet as images

    return images(data, path, size=size, seed=seed)


def augmented_sheet(data: DataSet, augment: Augment, path: Path, *, size: int = 96, seed: int = 0) -> Path:
    """Write a PNG: each line one training input as it is, then as ``augment`` changes it. Raises DataError."""
    if data.signal.kind == "sound":
        if augment.kind == "wake-vision":
            raise DataError("wake-vision changes images, and these inputs are sounds", "use --augment light, or none")
        from tinynas.data.sounds.sheet import changed_sheet

        return changed_sheet(data, augment, path, size=size, seed=seed)
    from tinynas.data.images.sheet import augmented_sheet as images

    return images(data, augment, path, size=size, seed=seed)
