"""The Python API: each command of the line as one call. Heavy imports happen inside the calls.

>>> from tinynas import estimate
>>> estimate("mcunet-tiny2").macs
1674512
"""

from __future__ import annotations

from pathlib import Path
from tinynas.arch import Arch, load_arch
from tinynas.budget import Budget, load_budget
from tinynas.config import load, resolve
from tinynas.cost import Cost
from tinynas.cost import estimate as estimate_graph
from tinynas.graph import Graph, lower
from tinynas.runs import Run
from tinynas.space import Space


def load_space(name_or_path: str) -> Space:
    """The search space in a YAML file or of a shipped name. Raises ConfigError with all faults at once."""
    return load(resolve(name_or_path, "search_spaces"), Space)


def load_net(net: str) -> Arch:
    """The architecture that ``net`` names: an arch YAML, a ProxylessNAS JSON, a zoo name, or ``RUN:ID`` of a run.

    Raises ConfigError or RunError with what is known.
    """
    run_name, colon, net_id = net.rpartition(":")
    if colon and not Path(net).exists() and not (len(run_name) == 1 and run_name.isalpha()):
        return Run.open(run_name).arch(net_id).model_copy(update={"name": net})
    return load_arch(net)


def load_graph(net: str) -> Graph:
    """The graph of the network that ``net`` names; see :func:`load_net`."""
    return lower(load_net(net))


def estimate(net: str | Arch | Graph, budget: str | Budget | None = None, runtime: str | None = None) -> Cost:
    """What ``net`` costs. ``runtime`` defaults to the budget's, or to ``tflm``; latency needs a budget (core and clock).

    ``net`` may also be the path of a .tflite file made by anyone. Raises UserError subclasses with the remedy.
    """
    limits = load_budget(budget) if isinstance(budget, str) else budget
    chosen = runtime or (limits.runtime if limits else "tflm")
    core, clock_mhz = (limits.core, limits.clock_mhz) if limits else (None, None)
    if isinstance(net, str) and net.endswith(".tflite"):
        from tinynas.cost.tflite import read_model

        return read_model(Path(net)).estimate(chosen, core=core, clock_mhz=clock_mhz)
    if isinstance(net, str):
        net = load_net(net)
    graph = lower(net) if isinstance(net, Arch) else net
    return estimate_graph(graph, chosen, core=core, clock_mhz=clock_mhz)
