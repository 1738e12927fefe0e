"""Labelled images in three splits, decoded once; and what is done to them while training.

::

    from tinynas.data import open_data
    data = open_data("photos/")                # or "synthetic", "hf:owner/name", photos.parquet
    train = data.split("train", 48, 48, 3)     # uint8 (N, 48, 48, 3), mapped from the cache

What a command may call, and the model that documents its options field by field:

========================================  =====================================================================
:func:`open_data`                         :class:`DataOptions` (``--set data.KEY=VALUE``), :class:`SyntheticOptions`
:func:`tinynas.data.prepare.wake_vision`  ``tinynas.data.prepare.WakeVisionOptions``; ``prepare.expect`` estimates first
:func:`tinynas.data.prepare.vww`          ``tinynas.data.prepare.VwwOptions``
:func:`tinynas.data.info.describe`        none: everything known without training, as plain data
``info.sample_sheet``, ``augmented_sheet``  keyword arguments; write a PNG
``subsets.subset_report``                 predictions for each split of ``subsets.splits_for``
``noise.estimate_noise``                  a scorer that trains and judges, passed in
``augment.make_augmenter``                :class:`tinynas.data.augment.Augment` (``recipe.augment.KEY``)
``gpu.make_gpu_augmenter``                the same, for batches of tensors on any device
========================================  =====================================================================

Rooms, lowest first: ``options split splits cache images scan | dataset (ImageData, assemble) | synthetic folder hub store |
sources (the DATASETS table) | shards wake_vision vww prepare | augment strong gpu | info noise subsets``.
"""

from __future__ import annotations

from tinynas.data.dataset import Bad, ImageData, Leak, Record
from tinynas.data.options import DataOptions, SyntheticOptions
from tinynas.data.sources import DATASETS, open_data
from tinynas.data.split import SPLITS, Split

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
    "open_data",
]
