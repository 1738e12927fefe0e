"""tinynas: find a network that truly fits your microcontroller, train it, and export the int8 file.

>>> from tinynas import estimate
>>> estimate("mcunet-tiny2").macs
1674512

The public names are loaded on first use: ``import tinynas`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinynas.api import estimate as estimate
    from tinynas.api import evaluate as evaluate
    from tinynas.api import export as export
    from tinynas.api import load_net as load_net
    from tinynas.api import load_space as load_space
    from tinynas.api import promote as promote
    from tinynas.api import search as search
    from tinynas.arch import Arch as Arch
    from tinynas.budget import Budget as Budget
    from tinynas.budget import load_budget as load_budget
    from tinynas.cost import Cost as Cost
    from tinynas.errors import UserError as UserError
    from tinynas.graph import Graph as Graph
    from tinynas.graph import lower as lower
    from tinynas.runs import Run as Run
    from tinynas.space import Space as Space

__version__ = "0.1.0"

_HOMES = {
    "Arch": "arch",
    "Budget": "budget",
    "Cost": "cost",
    "Graph": "graph",
    "Run": "runs",
    "Space": "space",
    "UserError": "errors",
    "estimate": "api",
    "evaluate": "api",
    "export": "api",
    "load_budget": "budget",
    "load_net": "api",
    "load_space": "api",
    "lower": "graph",
    "promote": "api",
    "search": "api",
}


class _Package(ModuleType):
    """The package: ``tinynas.search``, ``promote`` and ``export`` are calls, although rooms of these names exist.

    Importing a submodule binds its name in the package; here that must not hide the call. The rooms are reached by
    ``from tinynas.search import ...``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
