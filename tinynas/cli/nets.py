"""estimate, promote, export, evaluate."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tinynas.cli.app import app
from tinynas.cli.common import BudgetOption, JsonOption, SetOption, console, emit
from tinynas.errors import UserError


@app.command()
def estimate(
    net: Annotated[str, typer.Argument(metavar="NET", help="An arch YAML, a ProxylessNAS JSON, a .tflite, RUN:ID, or a zoo name.")],
    budget: BudgetOption = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", "-r", metavar="R", help="tflm, tflm-cmsis-nn, tinyengine or stedgeai.")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", "-l", help="One row per operator, with live memory and the peak.")] = False,
    overrides: SetOption = None,
    json_: JsonOption = False,
) -> None:
    """Say what a network costs, before training, and whether it fits."""
    from tinynas import api
    from tinynas.budget import load_budget

    limits = load_budget(budget, overrides or ()) if budget else None
    if overrides and limits is None:
        raise UserError("--set changes the budget, and no budget is given", "add --budget")
    cost = api.estimate(net, limits, runtime)
    document: dict[str, Any] = {"name": net, **cost.to_json()}
    if limits is not None:
        excess = limits.excess(cost)
        document["fits"], document["excess"] = limits.fits(cost), excess
        document["budget"], document["limits"] = limits.name, limits.limits
    else:
        document["fits"], document["excess"] = None, {}
    explanation = None
    if limits is not None and not limits.fits(cost) and not net.endswith(".tflite"):
        from tinynas.cost.explain import explain

        explanation = explain(api.load_net(net), limits)
        document["explanation"] = explanation.to_json()
    if json_:
        return emit(document)
    from tinynas.report.terminal import cost_table, layers_table

    out = console()
    out.print(cost_table(cost, limits, name=net))
    if layers:
        out.print(layers_table(cost))
    if explanation is not None:
        out.print(explanation.text())
    return None
