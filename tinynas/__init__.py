"""tinynas: find a network that truly fits your microcontroller, train it, and export the int8 file.

>>> from tinynas import estimate
>>> estimate("mcunet-tiny2").macs
1674512

The public names are loaded on first use: ``import tinynas`` costs nothing. The calls ``search``, ``promote`` and ``export``
are in :mod:`tinynas.api`, with all others of the command line: ``tinynas.search`` and its like are the rooms they lead to.
"""

import typing

if typing.TYPE_CHECKING:
    from tinynas import api
    from tinynas.api import estimate, evaluate, load_net, load_space
    from tinynas.arch import Arch
    from tinynas.budget import Budget, load_budget
    from tinynas.cost import Cost
    from tinynas.errors import UserError
    from tinynas.graph import Graph, lower
    from tinynas.runs import Run
    from tinynas.space import Space

__version__ = "0.18.0"

__all__ = [
    "Arch",
    "Budget",
    "Cost",
    "Graph",
    "Run",
    "Space",
    "UserError",
    "__version__",
    "api",
    "estimate",
    "evaluate",
    "load_budget",
    "load_net",
    "load_space",
    "lower",
]

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
    "load_budget": "budget",
    "load_net": "api",
    "load_space": "api",
    "lower": "graph",
}


def __getattr__(name: str) -> typing.Any:
    from importlib import import_module

    if name == "api":
        return import_module("tinynas.api")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
