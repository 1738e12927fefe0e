"""Networks beside boards: every board of the table has a budget, the worst comes first, and the binding limit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from one_op import options
from tflite_files import Graph, file

from tinynas import api
from tinynas.boards import boards
from tinynas.budget import UNKNOWN, load_budget
from tinynas.cli import run
from tinynas.compare import all_boards, board_budget, by_board, compare
from tinynas.config import shipped
from tinynas.cost.runtimes import refuse, runtime_named, unrun
from tinynas.cost.work import from_graph
from tinynas.errors import UnrunError, UserError
from tinynas.graph import lower
from tinynas.init import budget_text
from tinynas.report.figures import compare_info, draw
from tinynas.report.words import amount, short_names


def test_every_board_has_the_budget_that_init_writes(tmp_path: Path) -> None:
    assert len(all_boards()) == len(boards()) >= 40
    for board in boards():
        path = tmp_path / "budget.yaml"
        path.write_text(budget_text(board))
        if board.name not in shipped("budgets"):  # a shipped budget of that name is the better known one
            assert board_budget(board.name) == load_budget(path)
    assert board_budget("stm32f746") == load_budget("stm32f746")
    assert board_budget(str(path)) == load_budget(path)


def test_rows_are_worst_first_and_name_the_limit() -> None:
    names = ("nucleo-l010rb", "stm32f746g-disco", "nucleo-l412kb")
    fits = compare(["mcunet-tiny2", "mcunet-vww1"], names, api.estimate)
    assert len(fits) == 6
    worst = [fit.excess[fit.binding] for fit in fits]
    assert worst == sorted(worst, reverse=True)
    for fit in fits:
        assert fit.fits == all(value <= fit.budget.limits[name] for name, value in fit.cost.values().items() if name in fit.budget.limits)
        assert fit.excess[fit.binding] == max(fit.excess.values())
    first = fits[0]
    # 20 KiB of SRAM, a sixteenth and an eighth of them kept back, for a network that needs a hundred.
    assert (first.net, first.board, first.binding, first.fits) == ("mcunet-vww1", "nucleo-l010rb", "sram_bytes", False)
    assert first.to_json()["excess"]["sram_bytes"] == pytest.approx(first.cost.sram_bytes / (20 * 1024 * (1 - 1 / 8 - 1 / 8)) - 1, rel=0.02)
    assert next(fit for fit in fits if fit.net == "mcunet-tiny2" and fit.board == "stm32f746g-disco").fits
    assert list(by_board(fits)) == list(dict.fromkeys(fit.board for fit in fits))


def test_faults_are_named() -> None:
    with pytest.raises(UserError, match="no network"):
        compare([], ["stm32f746"], api.estimate)
    with pytest.raises(UserError, match="board pico is given twice"):
        compare(["mcunet-tiny2"], ["pico", "pico"], api.estimate)
    with pytest.raises(UserError, match="no board called"):
        compare(["mcunet-tiny2"], ["piko"], api.estimate)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "mcunet-tiny2", "mcunet-vww1", "--boards", "nucleo-l010rb,stm32f746,pico", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 6 and rows[0]["board"] == "nucleo-l010rb" and rows[0]["binding"] == "sram_bytes"
    assert run(["compare", "mcunet-tiny2", "mcunet-vww1", "--boards", "nucleo-l010rb,stm32f746,pico"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[1:4]] == ["nucleo-l010rb", "pico", "stm32f746"]
    assert "no" in table[1] and "fits" in table[3]
    assert run(["compare", "mcunet-tiny2", "mcunet-vww1", "--boards", "nucleo-l010rb,pico", "--fits", "--json"]) == 0
    assert {row["board"] for row in json.loads(capsys.readouterr().out)} == {"pico"}
    assert run(["compare", "mcunet-vww1", "--boards", "nucleo-l010rb", "--fits"]) == 0
    assert "no board" in capsys.readouterr().out


@pytest.mark.parametrize(("net", "code"), [("mcunet-tiny2", 0), ("mcunet-vww1", 1)])
def test_check_tells_a_script_whether_it_fits(net: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = tmp_path / "budget.yaml"
    budget.write_text("name: small\nsram: 64 KiB\nflash: 256 KiB\n")
    assert run(["estimate", net, "-b", str(budget), "--check"]) == code
    assert run(["estimate", net, "-b", str(budget), "--check", "--json"]) == code
    assert run(["estimate", net, "-b", str(budget)]) == 0, "without being asked it only tells"
    capsys.readouterr()
    assert run(["estimate", net, "--check"]) == 2
    assert "add --budget" in capsys.readouterr().err


def test_the_picture_has_the_numbers_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boards_ = "nucleo-l010rb,stm32f746,pico"
    page = tmp_path / "compare.html"
    assert run(["compare", "mcunet-vww1", "mcunet-tiny2", "--boards", boards_, "--draw", str(page), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    info = compare_info(rows, ["mcunet-vww1", "mcunet-tiny2"])
    assert info.nets == ("mcunet-vww1", "mcunet-tiny2") and info.boards == ("nucleo-l010rb", "pico", "stm32f746")
    assert info.fitting == 2
    worst = info.cells[0][0]
    assert worst.share == pytest.approx(1 + rows[0]["excess"]["sram_bytes"]) and not worst.fits
    assert worst.text == f"no, SRAM {100 * worst.share:.0f} %" and info.cells[2][1].text.startswith("fits, ")
    used, limit = rows[0]["sram_bytes"], rows[0]["limits"]["sram_bytes"]
    assert limit == 15 * 1024
    assert f"SRAM {used / 1024:.1f} KiB of 15.0 KiB" in worst.lines and any(line.startswith("latency ") for line in info.cells[2][0].lines)
    heat = draw(info)["data"][0]
    assert heat["z"][0][0] == 2.0 and heat["z"][2][1] == info.cells[2][1].share < 1 < heat["z"][0][1] < 2
    text = page.read_text()
    assert text.count('class="plotly-graph-div"') == 2 and "prefers-color-scheme:dark" in text and 'src="http' not in text
    assert run(["compare", "mcunet-vww1", "--boards", "pico", "--draw", str(tmp_path / "x.png")]) == 2
    assert "name it .html" in capsys.readouterr().err and not (tmp_path / "x.png").exists()
    assert run(["compare", "mcunet-vww1", "--boards", "pico", "--draw", str(page)]) == 0
    assert f"picture: {page}" in capsys.readouterr().out.replace("\n", "")


def test_one_network_has_its_arena_flash_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "mcunet-tiny2", "--boards", "stm32f746"]) == 0
    head, row = capsys.readouterr().out.splitlines()[:2]
    assert head.split() == ["board", "SRAM", "program", "flash", "latency", "limit", "that", "decides"]
    cost = api.estimate("mcunet-tiny2", "stm32f746")
    assert (
        f"{cost.sram_bytes / 1024:.1f} KiB" in row
        and amount("program_bytes", cost.program_bytes) in row
        and amount("latency_ms", cost.latency_ms) in row
        and "fits program flash" in row
    )


def test_a_network_that_a_runtime_refuses_comes_first_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = tmp_path / "refused.tflite"
    graph = Graph()
    tensors = [graph.tensor([1, 64]) for _ in range(3)]
    for source, target in pairwise(tensors):
        graph.op("RESHAPE", [source], [target], options("ReshapeOptions", newShape=[1, 64]))
    refused.write_bytes(file(graph.ends(tensors[:1], tensors[2:]), plan=[0, 64]))
    assert run(["compare", "mcunet-vww1", str(refused), "--boards", "nucleo-l010rb,pico", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["runs"] for row in rows] == [False, False, True, True] and not rows[0]["fits"]
    assert rows[0]["reasons"] == ["a memory plan (OfflineMemoryAllocation) of 2 tensors where there are 3"]
    cells = {cell.text for row in compare_info(rows, ["mcunet-vww1", str(refused)]).cells for cell in row if cell.share is None}
    assert cells == {"does not run"}
    assert run(["compare", "mcunet-vww1", str(refused), "--boards", "nucleo-l010rb,pico"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("no does not run") == 2 and out.count("where there are 3") == 1 and "refused.tflite" in out


def test_what_a_board_cannot_cost_is_a_row_beside_all_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Compiled code is made of networks, and a stream of causal ones: what is neither does not run there, and the others are told."""
    model = tmp_path / "net.tflite"
    graph = Graph()
    tensors = [graph.tensor([1, 64]) for _ in range(2)]
    graph.op("RESHAPE", tensors[:1], tensors[1:], options("ReshapeOptions", newShape=[1, 64]))
    model.write_bytes(file(graph.ends(tensors[:1], tensors[1:])))
    boards_ = []
    for runtime in ("compiled", "compiled-stream"):
        boards_.append(str(tmp_path / f"{runtime}.yaml"))
        Path(boards_[-1]).write_text(f"name: b\nruntime: {runtime}\ncore: cortex-m4\nsram: 256 KiB\nflash: 1 MiB\n")
    nets = ["mcunet-tiny2", str(model)]
    command = ["compare", *nets, "--boards", ",".join([*boards_, "pico"])]
    assert run([*command, "--json"]) == 0
    rows = {(row["net"], row["board"]): row for row in json.loads(capsys.readouterr().out)}
    assert {key for key, row in rows.items() if row["runs"]} == {(nets[0], boards_[0]), (nets[0], "pico"), (nets[1], "pico")}
    assert {row["runs"] for row in rows.values()} == {True, False} and len(rows) == 6
    refused = rows[nets[1], boards_[0]]
    assert refused["reasons"] == ["a .tflite is not compiled: give the network that it was made from"]
    assert (refused["runtime"], refused["fits"], refused["sram_bytes"], refused["latency_ms"]) == ("compiled", False, None, None)
    assert refused["limits"] == load_budget(boards_[0]).limits and set(refused["excess"].values()) == {UNKNOWN}
    assert set(refused) | {"flash_bytes"} == set(rows[nets[0], boards_[0]])
    assert rows[nets[0], boards_[1]]["reasons"][0].startswith("the network cannot be streamed: ")
    assert run([*command, "--draw", str(tmp_path / "x.html")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.count("no does not run") == 3 and out.count("a .tflite is not compiled") == 2
    assert run(["compare", str(model), "--boards", f"{boards_[0]},pico", "--fits", "--json"]) == 0
    assert [row["board"] for row in json.loads(capsys.readouterr().out)] == ["pico"]
    assert run(["compare", str(tmp_path / "none.tflite"), "--boards", boards_[0]]) == 2


def test_all_reasons_of_a_runtime_come_with_the_error() -> None:
    odd = [replace(piece, weight_bits=3, dilation=(2, 2)) for piece in from_graph(lower(api.load_net("mcunet-tiny2"))).pieces]
    for runtime in ("compiled", "tinyengine"):
        with pytest.raises(UnrunError) as caught:
            refuse(runtime_named(runtime), odd)
        assert caught.value.reasons == unrun(runtime_named(runtime), odd) and isinstance(caught.value, UserError)
        assert len(caught.value.reasons) == (1 if runtime_named(runtime).dilated == "any" else 2)


def test_heads_are_short_where_they_stay_apart() -> None:
    assert short_names(["a/b.tflite", "c"]) == ["b.tflite", "c"]
    assert short_names(["a/b.tflite", "c/b.tflite"]) == ["a/b.tflite", "c/b.tflite"]
