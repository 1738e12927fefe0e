"""Export: a float network becomes the int8 .tflite, checked on the runtime it is for.

::

    artifact = export_model(network, calibration=train.inputs, labels=labels, evaluation=test, split_name="test", out=folder)

Nothing heavy is loaded before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinynas.export.model import EXPORTERS, Exported, ExportOptions, build_model, export_model
    from tinynas.export.tflite import ModelMeta

__all__ = ["EXPORTERS", "ExportOptions", "Exported", "ModelMeta", "build_model", "export_model"]

_HOMES = dict.fromkeys(__all__, "model") | {"ModelMeta": "tflite"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
