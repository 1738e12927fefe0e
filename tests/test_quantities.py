"""The table of quantities: one line is a cost everywhere; and runtimes, whose names come from their table."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tinynas.api import load_space
from tinynas.arch import load_arch
from tinynas.boards import find_board
from tinynas.budget import UNKNOWN, Budget, load_budget
from tinynas.config import n_bytes
from tinynas.cost import RUNTIMES, Cost, estimate
from tinynas.cost.batch import BatchEstimator
from tinynas.cost.explain import _excess, explain
from tinynas.cost.quantities import QUANTITIES, Quantity, shown, values_of
from tinynas.cost.tflite import FileOp, FileTensor, ModelFile
from tinynas.errors import ConfigError, InternalError, UserError
from tinynas.graph import lower
from tinynas.init import budget_text, json_schema
from tinynas.objectives import OBJECTIVES, Objective, objectives
from tinynas.records import Trial
from tinynas.report import figures
from tinynas.search.feasible import Feasible, strata
from tinynas.search.fronts import unit_point

ROOT = Path(__file__).parent.parent
ARCH = load_arch("mcunet-tiny2")
COST = estimate(lower(ARCH))
HEAD = Quantity("head_bytes", "activations", "B", lambda c: c.head_bytes, objective="head", part=lambda op: op.live_bytes, peak=True)
#: Of a share equal differences count, not equal ratios.
SHARE = Quantity("own_share", "share of the runtime", "share", lambda c: c.tail_bytes / c.sram_bytes, objective="own-share", log=False)


def budget(**more: object) -> Budget:
    return Budget.model_validate({"name": "b", "sram": n_bytes(10**6), "flash": n_bytes(10**6), **more})


# the table ---------------------------------------------------------------------------------------------


def test_every_quantity_is_a_figure_of_one_network_and_of_many() -> None:
    space = load_space("tiny")
    genotype = space.draw(lambda _, n: n - 1)
    one = estimate(lower(space.decode(genotype, 2)), "tflm-cmsis-nn", core="cortex-m4", clock_mhz=100.0)
    many = BatchEstimator(space, 2, "tflm-cmsis-nn", "cortex-m4", 100.0).estimate(np.array([genotype, genotype]))
    assert values_of(one) == one.values()
    assert list(one.values()) == list(QUANTITIES)
    for name in QUANTITIES:
        value = one.values()[name]
        assert many.column(name) == pytest.approx([math.nan if value is None else value] * 2, nan_ok=True)
        assert many.values(1)[name] == pytest.approx(one.values()[name])
    others = {"latency_ms", "stack_bytes", "update_sram_bytes"}  # not whole, or not known here
    assert all(isinstance(many.values(0)[name], int) for name in QUANTITIES if name not in others)


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=lambda q: q.name)
def test_fields_and_objectives_of_quantities_are_there(quantity: Quantity) -> None:
    if quantity.field is not None:
        assert quantity.field in Budget.model_fields
    if quantity.objective is not None:
        objective = OBJECTIVES[quantity.objective]
        assert (objective.cost, objective.trained, objective.maximize) == (quantity.name, False, False)
        assert objective.of(Trial(0, "x", "infeasible", "tpe", costs={quantity.name: 7})) == 7


def test_figures_for_people() -> None:
    macs, sram, latency = (QUANTITIES[name] for name in ("macs", "sram_bytes", "latency_ms"))
    assert [macs.text(1_674_512), macs.exact(1_674_512)] == ["1.67 M", "1,674,512"]
    assert [sram.text(2560.0), sram.exact(2560), sram.text(900)] == ["2.5 KiB", "2.5 KiB", "900 B"]
    assert [latency.text(3.456), latency.text(12.34), latency.exact(12.34), latency.text(None)] == ["3.46 ms", "12.3 ms", "12.3 ms", "–"]
    assert macs.scaled(math.e) == pytest.approx(1.0)
    assert SHARE.scaled(0.25) == 0.25
    assert [q.name for q in shown({}, "narrow")] == ["macs", "flash_bytes", "sram_bytes", "latency_ms"]
    assert [q.name for q in shown({}, "narrow", "wide")] == [
        "macs",
        "params",
        "flash_bytes",
        "program_bytes",
        "sram_bytes",
        "latency_ms",
    ]
    assert list(shown({"macs": 3}).values()) == [3, *[None] * (len(QUANTITIES) - 1)]


# limits ------------------------------------------------------------------------------------------------


def test_other_quantities_are_limited_by_name(tmp_path: Path) -> None:
    text = "name: x\nsram: 64 KiB\nflash: 1 MiB\nat_most: {weights_bytes: 20 KiB, params: 9000}\n"
    (tmp_path / "b.yaml").write_text(text)
    limited = load_budget(tmp_path / "b.yaml")
    assert limited.limits == {"sram_bytes": 65536, "program_bytes": 2**20, "weights_bytes": 20480, "params": 9000}
    over = limited.excess({"sram_bytes": 1, "program_bytes": 1, "weights_bytes": 30720, "params": 9000})
    assert (over["weights_bytes"], over["params"]) == (0.5, 0.0)
    assert limited.excess({"sram_bytes": 1, "program_bytes": 1, "weights_bytes": 1})["params"] == UNKNOWN
    assert "at_most:\n  weights_bytes: 20 KiB\n  params: 9000" in limited.to_yaml()
    (tmp_path / "again.yaml").write_text(limited.to_yaml())
    assert load_budget(tmp_path / "again.yaml") == limited
    assert load_budget(tmp_path / "b.yaml", ["at_most.params=10000"]).limits["params"] == 10000


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("{weight_bytes: 20 KiB}", 'unknown quantity weight_bytes; did you mean "weights_bytes"?'),
        ("{zzz: 20 KiB}", "it may hold params, weights_bytes"),
        ("{macs: 5}", "macs has a key of its own: macs"),
        ("{sram_bytes: 5 KiB}", "sram_bytes has a key of its own: sram"),
        ("{weights_bytes: 20}", "needs a unit"),
        ("{weights_bytes: 20 KB}", '"KB" can mean'),
        ("{params: -1}", "the limit of params must be a number greater than 0"),
        ("{params: many}", "must be a number greater than 0"),
        ("{params: .inf}", "must be a number greater than 0"),
        ("{params: 1.0e+300}", "the limit of params is larger than any; leave it out"),
        ("{params: true}", "must be a number greater than 0"),
        ("[params]", "must be a mapping"),
    ],
)
def test_faults_of_other_limits(tmp_path: Path, limits: str, message: str) -> None:
    (tmp_path / "b.yaml").write_text(f"name: x\nsram: 64 KiB\nflash: 1 MiB\nat_most: {limits}\n")
    with pytest.raises(ConfigError) as caught:
        load_budget(tmp_path / "b.yaml")
    assert message in str(caught.value)
    assert "line 4" in str(caught.value)


def test_faults_of_limits_are_all_said_at_once_each_on_its_line(tmp_path: Path) -> None:
    limits = ("params: -4", "weights_bytes: 100", "stack_bytes: 1 KiB", "bogus: 3", "macs: 4", "1: 5")
    text = "name: x\nsram: 64 KiB\nflash: 1 GB\nruntime: compiled\nat_most:\n" + "".join(f"  {limit}\n" for limit in limits)
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_budget(tmp_path / "b.yaml")
    assert [fault.place for fault in caught.value.faults] == [
        "line 3, flash",
        "line 6, at_most.params",
        "line 7, at_most.weights_bytes",
        "line 9, at_most.bogus",
        "line 10, at_most.macs",
        "line 11, at_most.1",
    ]
    told = [str(fault).partition(": ")[2] for fault in caught.value.faults[1:]]
    assert told[0] == "the limit of params must be a number greater than 0 (got -4)"
    assert told[1] == 'needs a unit: write "100 B" or "100 KiB" (got 100)'
    assert told[2].startswith("unknown quantity bogus; it may hold params") and told[2].endswith("(got 3)")
    assert told[3] == "macs has a key of its own: macs (got 4)" and told[4].startswith("unknown quantity 1;")


def test_a_feasible_set_and_an_explanation_go_by_another_limit() -> None:
    limited = budget(at_most={"params": 80_000})
    feasible = Feasible(load_space("tiny"), 2, limited)
    rows = feasible.draw(200, np.random.default_rng(0))
    costs = feasible.costs(rows)
    assert list(feasible.fits(costs)) == list(costs["params"] <= 80_000)
    assert 0 < feasible.fits(costs).sum() < 200
    most = COST.params * 4 // 5
    told = explain(ARCH, budget(at_most={"params": most}))
    assert told.binding.limit == "params"
    largest = max(COST.layers, key=lambda op: op.params)
    assert (told.binding.op, told.binding.share) == (largest.name, largest.params / COST.params)
    assert all(change.cost.params <= most for change in told.changes)
    assert f"parameters: {COST.params:,}" in told.text()


def test_where_no_operator_is_answerable_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTITIES, SHARE.name, SHARE)
    told = explain(ARCH, budget(at_most={"own_share": 0.01}))
    share = COST.tail_bytes / COST.sram_bytes
    assert (told.binding.op, told.binding.index, told.binding.share) == (None, None, None)
    assert told.binding.value == share
    assert told.binding.text().endswith("the limit of 0.01")
    assert json.dumps(told.to_json())


# objectives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["esp32-s3", "rp2040"])
def test_an_objective_without_evidence_is_refused_as_its_limit_is(name: str, tmp_path: Path) -> None:
    from tinynas.api import prepare_search

    board = load_budget(name)
    with pytest.raises(UserError, match=f"no published measurement of {board.core} with tflm") as caught:
        prepare_search(board, data="synthetic", objectives=["latency"], out=tmp_path / "run")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=f"no published measurement of {board.core} with tflm"):
        load_budget(name, ["latency_ms=100"])
    with pytest.raises(UserError, match="needs core and clock_mhz"):
        objectives(["latency"], budget())
    assert [o.name for o in objectives(["latency"], load_budget("stm32f746"))] == ["accuracy", "latency"]


def test_an_objective_is_trained_or_a_cost() -> None:
    for trained, cost in ((True, "macs"), (False, None)):
        with pytest.raises(InternalError, match="must either be trained or name its cost"):
            Objective("odd", False, "B", lambda _: None, trained=trained, cost=cost)


def test_scales_go_by_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTITIES, SHARE.name, SHARE)
    values = np.array([1.0, 4.0, 16.0])
    assert strata(values, 2) == (4.0,)
    assert strata(values, 2, log=False) == (8.5,)
    macs, share = OBJECTIVES["macs"], Objective("own-share", False, "share", lambda _: None, trained=False, cost="own_share")
    # Half way from 16 to 1 is 4 on a log scale, 8.5 on a linear one.
    assert unit_point([4.0, 8.5], [macs, share], [(math.log(16), math.log(1)), (16.0, 1.0)]) == pytest.approx([0.5, 0.5])
    assert unit_point([3.0], [share], [(3.0, 3.0)]) == [1.0]
    trials = [Trial(i, str(i), "trained", "tpe", costs={"own_share": v}, scores={"accuracy": 0.5 + i / 10}) for i, v in enumerate(values)]
    drawn = figures.draw(figures.pareto_info(trials, budget(at_most={"own_share": 10.0}), cost="own_share"))
    axis = drawn["layout"]["xaxis"]
    assert (axis["type"], axis["title"]["text"]) == ("linear", "share of the runtime")
    assert drawn["layout"]["annotations"][0]["x"] == 10.0
    progress = figures.progress_info(trials, cost="own_share", box=((0.0, 1.0), (16.0, 1.0)))
    # After the first network: accuracy 0.5 of 1, cost the best.
    assert progress.arms[0].volume[0] == pytest.approx(0.5)


def test_one_line_is_a_new_cost_everywhere(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tinynas", tmp_path / "tinynas")  # with what is compiled: it is known by its source's time
    for folder in ("budgets", "search_spaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    table = tmp_path / "tinynas" / "cost" / "quantities.py"
    line = (
        'Quantity("head_bytes", "activations", "B", lambda c: c.head_bytes, objective="head", '
        'part=lambda op: op.live_bytes, peak=True, phrase="of activations"),'
    )
    before = table.read_text(encoding="utf-8")
    last = "            unknown=why_unknown,\n        ),\n"
    assert before.count(last) == 1
    table.write_text(before.replace(last, f"{last}        {line}\n"), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NEW_COST, str(tmp_path)], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "all"


NEW_COST = """
import csv, json, math, sys
from pathlib import Path
import numpy as np
from rich.console import Console
import tinynas
from tinynas import api
from tinynas.budget import load_budget
from tinynas.cost.explain import _excess, explain
from tinynas.export.card import run_card
from tinynas.init import json_schema
from tinynas.report import write_report
from tinynas.objectives import objectives
from tinynas.report.terminal import cost_table, front_table
from tinynas.search.fronts import unit_point

folder = Path(sys.argv[1])
assert Path(tinynas.__file__).is_relative_to(folder), tinynas.__file__
budget = load_budget("stm32f746", ["at_most={head_bytes: 20 KiB}"])
assert budget.limits["head_bytes"] == 20480
assert json_schema("budget")["properties"]["at_most"]["properties"]["head_bytes"] == {"type": "string"}
cost = api.estimate("mcunet-tiny2", budget)
assert cost.to_json()["head_bytes"] == cost.head_bytes
console = Console(width=300, file=open(folder / "out.txt", "w"))
console.print(cost_table(cost, budget))
overrides = ["pool=64", "baseline=1", "start=2", "rungs=[1]", "recipe.augment.kind=none", "epoch_images=64", "bands=3"]
overrides += ["choose_space=false"]
run, result = api.search(
    budget, space="tiny", data="synthetic", out=folder / "run", objectives=["head"], trials=3, workers=1,
    overrides=[*overrides, "space.resolution=[32, 48]"],
)
with np.load(folder / "run/state/pool.npz") as pool:
    head, macs = pool["cost_head_bytes"], pool["cost_macs"]
assert head.max() <= 20480
plan = run.read_json("plan")
assert plan["reference"][1] == [math.log(head.max() * 1.05), math.log(head.min() * 0.95)], plan["reference"]
assert plan["edges"] == [float(x) for x in np.geomspace(head.min(), head.max(), 4)[1:-1]], plan["edges"]
trained = [t for t in run.trials() if t.state == "trained"]
assert len(trained) == 3 and all(0 < t.costs["head_bytes"] <= 20480 and "head_bytes" in t.excess for t in trained)
goals = objectives(["head"])
thrift = {unit_point([0.5, t.costs["head_bytes"]], goals, plan["reference"])[1] for t in trained}
assert len(thrift) > 1 and all(0 < share < 1 for share in thrift), thrift
assert all("head_bytes" in row for row in run.front())
console.print(front_table(run.front()))
console.file.close()
with open(folder / "run/trials.csv") as file:
    rows = list(csv.DictReader(file))
assert any("head_bytes" in key for key in rows[0]), rows[0].keys()
shown = (folder / "out.txt").read_text()
assert shown.count("activations") >= 3 and "20.0 KiB" in shown, shown
page = write_report(run).read_text()
assert "of activations" in page and "activations (log scale)" in page, "page"
card = run_card(run, trained[0].id)
assert "| Activations |" in card and "head_bytes 20,480 B (20.0 KiB)" in card, card
told = explain(run.arch(trained[0].id), load_budget("stm32f746", ["at_most={head_bytes: 4 KiB}"])).text()
assert told.splitlines()[1].strip().startswith("activations: ") and "are alive" in told, told
print("all")
"""


# runtimes ----------------------------------------------------------------------------------------------


@pytest.fixture
def new_runtime(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(RUNTIMES, "mine", replace(RUNTIMES["stedgeai"], name="mine", title="My own", extra_bytes=3000))
    return "mine"


def test_a_row_is_a_runtime(new_runtime: str, tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(f"name: x\nsram: 64 KiB\nflash: 1 MiB\nruntime: {new_runtime}\n")
    mine = load_budget(tmp_path / "b.yaml")
    cost = estimate(lower(ARCH), mine.runtime)
    assert cost.runtime == "mine"
    assert cost.sram_bytes == estimate(lower(ARCH), "stedgeai").sram_bytes + 3000
    assert json_schema("budget")["properties"]["runtime"]["enum"][-1] == "mine"
    assert "stedgeai, compiled, compiled-rows, compiled-stream or mine." in budget_text(find_board("pico-2"))


def test_an_unknown_runtime_is_refused_with_the_names() -> None:
    with pytest.raises(
        ValidationError, match=r"must be one of 'tflm', 'tflm@2026-10', .*'tflm-cmsis-nn@arduino', .*'tinyengine', 'stedgeai'"
    ):
        budget(runtime="mine")


def test_what_tinyengine_does_are_fields_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def cost(**fields: bool) -> Cost:
        monkeypatch.setitem(RUNTIMES, "mine", replace(RUNTIMES["tinyengine"], name="mine", **fields))
        return estimate(lower(ARCH), "mine")

    whole = cost()
    lean = cost(work_buffers=False)
    # Without generated code's work buffers only the activations are left; those are the same.
    assert lean.head_bytes == max(lean.live) == max(whole.live) < whole.head_bytes
    plain = cost(in_place_depthwise=False, work_buffers=False)
    depthwise = [i for i, piece in enumerate(plain.work.pieces) if piece.kind == "dw"]
    assert all(plain.live[i] > lean.live[i] for i in depthwise)
    assert all(plain.live[i] == lean.live[i] for i in range(len(plain.live)) if i not in depthwise)


def test_a_pad_of_a_file_goes_where_convolutions_pad_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = (
        FileTensor("input", (1, 8, 8, 3), "int8", False, 1),
        FileTensor("pads", (4, 2), "int32", True, 0),
        FileTensor("padded", (1, 10, 10, 3), "int8", False, 1),
        FileTensor("weights", (4, 3, 3, 3), "int8", True, 4),
        FileTensor("biases", (4,), "int32", True, 4),
        FileTensor("output", (1, 8, 8, 4), "int8", False, 1),
    )
    ops = (FileOp("PAD", (0, 1), (2,)), FileOp("CONV_2D", (2, 3, 4), (5,)))
    model = ModelFile("padded", 4096, tensors, ops, (0,), (5,), None)
    for pads_inside, kinds in ((True, ["conv"]), (False, ["pad", "conv"])):
        monkeypatch.setitem(RUNTIMES, "mine", replace(RUNTIMES["tinyengine"], name="mine", pads_inside=pads_inside))
        cost = model.estimate("mine")
        assert [op.kind for op in cost.layers] == kinds
        assert cost.macs == 8 * 8 * 4 * 27


def test_an_unknown_figure_never_counts_as_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUANTITIES, "own_share", replace(SHARE, of=lambda _: None))
    limited = budget(at_most={"own_share": 0.5})
    assert not limited.fits(COST)
    assert max(_excess(COST, limited)) == math.inf
    with pytest.raises(UserError, match="the limit of share of the runtime cannot be explained: it is not known of this network"):
        explain(ARCH, limited)


@pytest.mark.parametrize("given", [{}, {"core": "cortex-m4"}, {"clock_mhz": 64}])
def test_latency_needs_core_and_clock(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="a latency_ms limit cannot be checked: it needs core and clock_mhz"):
        budget(latency_ms=10, **given)
    with pytest.raises(UserError, match="the objective latency cannot be computed for b: it needs core and clock_mhz"):
        objectives(["latency"], budget(**given))
