"""Labelled inputs in three splits, decoded once; and what is done to them while training.

::

    from tinynas.data import open_data
    data = open_data("photos/")                # or "synthetic", "hf:owner/name", photos.parquet
    train = data.split("train", 48, 32, 3)     # uint8 (N, 48, 32, 3), mapped from the cache; sizes are height x width

A data set is inputs, labels, groups and attributes. What is about images is in the wing :mod:`tinynas.data.images`; all else
holds for any signal. A wing gives a ``Signal`` (how one record is decoded and fitted), openers that end in ``assemble``, and
a line in ``sources.DATASETS`` or ``sources.PLACES``.

What a command may call, and the model that documents its options field by field:

========================================  =====================================================================
:func:`open_data`                         :class:`DataOptions` (``--set data.KEY=VALUE``), :class:`SyntheticOptions`
:func:`tinynas.data.prepare.wake_vision`  ``tinynas.data.prepare.WakeVisionOptions``; ``prepare.expect`` estimates first
:func:`tinynas.data.prepare.vww`          ``tinynas.data.prepare.VwwOptions``
:func:`tinynas.data.info.describe`        none: everything known without training, as plain data
``images.sheet.sample_sheet``, ``augmented_sheet``  keyword arguments; write a PNG
``subsets.subset_report``                 predictions for each split of ``subsets.splits_for``
``noise.estimate_noise``                  a scorer that trains and judges, passed in
``images.augment.make_augmenter``         :class:`tinynas.recipe.Augment` (``recipe.augment.KEY``)
``images.gpu.make_gpu_augmenter``         the same, for batches of tensors on any device
========================================  =====================================================================

Rooms, lowest first: ``options records progress signal split cache | splits (carve) groups labels scan | assign leaks |
dataset (DataSet) | assemble | store | info noise subsets | images/ | sources (the tables) prepare``.
"""

from __future__ import annotations

from tinynas.data.dataset import DataSet
from tinynas.data.groups import Groups
from tinynas.data.options import DataOptions, SyntheticOptions
from tinynas.data.records import Bad, BadInput, Leak, Record, Straddle
from tinynas.data.signal import Signal
from tinynas.data.sources import DATASETS, PLACES, open_data
from tinynas.data.split import SPLITS, Split

__all__ = [
    "DATASETS",
    "PLACES",
    "SPLITS",
    "Bad",
    "BadInput",
    "DataOptions",
    "DataSet",
    "Groups",
    "Leak",
    "Record",
    "Signal",
    "Split",
    "Straddle",
    "SyntheticOptions",
    "open_data",
]
