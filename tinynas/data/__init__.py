"""Labelled images in three splits, decoded once; and what is done to them while training.

::

    from tinynas.data import open_data
    data = open_data("photos/")                # or "synthetic", "hf:owner/name", photos.parquet
    train = data.split("train", 48, 48, 3)     # uint8 (N, 48, 48, 3), mapped from the cache
"""

from __future__ import annotations

from tinynas.data.dataset import Bad, ImageData, Leak, Record
from tinynas.data.options import DataOptions, SyntheticOptions
from tinynas.data.sources import DATASETS, open_data
from tinynas.data.split import SPLITS, Split, batches

__all__ = [
    "DATASETS",
    "SPLITS",
    "Bad",
    "DataOptions",
    "ImageData",
    "Leak",
    "Record",
    "Split",
    "SyntheticOptions",
    "batches",
    "open_data",
]
