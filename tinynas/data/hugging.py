"""The one place that imports ``datasets``: with telemetry off."""

from __future__ import annotations

import os
from types import ModuleType


def datasets_module() -> ModuleType:
    """The package ``datasets``; nothing but what is asked for leaves the machine."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets

    return datasets  # type: ignore[no-any-return]
