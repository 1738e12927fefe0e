"""A user's own measurements: read with their lines, kept in the budget, and what they make of the latency model."""

from __future__ import annotations

import codecs
import json
import math
from pathlib import Path

import pytest
import yaml

from tinynas import api
from tinynas.api import load_space
from tinynas.budget import Budget, load_budget
from tinynas.cli import run
from tinynas.config import build
from tinynas.cost.latency import models
from tinynas.cost.measured import Measured, refitted
from tinynas.errors import ConfigError, UserError

HEAD = "name: mine\ncore: {core}\nclock_mhz: 64\nruntime: {runtime}\nsram: 256 KiB\nflash: 1 MiB\nlatency: mine.csv\n"


def budget(folder: Path, rows: str, core: str = "cortex-m4", runtime: str = "tflm-cmsis-nn") -> Budget:
    (folder / "mine.csv").write_text("net,ms,op\n" + rows)
    (folder / "mine.yaml").write_text(HEAD.format(core=core, runtime=runtime))
    return load_budget(folder / "mine.yaml")


def published(net: str) -> float:
    found = api.estimate(net, Budget(name="b", core="cortex-m4", clock_mhz=64, runtime="tflm-cmsis-nn", sram="1 MiB", flash="1 MiB"))
    assert found.latency_ms is not None
    return found.latency_ms


def test_one_measurement_moves_the_board(tmp_path: Path) -> None:
    ms = 1.5 * published("mcunet-vww0")
    mine = budget(tmp_path, f"mcunet-vww0,{ms},\n")
    assert mine.timing is not None
    cost = api.estimate("mcunet-vww0", mine)
    assert cost.latency_ms == pytest.approx(ms, rel=0.02)
    other = api.estimate("mobilenetv2-0.35", mine)
    assert other.latency_ms == pytest.approx(1.5 * published("mobilenetv2-0.35"), rel=0.1)
    assert mine.timing.spread < models()["cortex-m4", "tflm-cmsis-nn"].spread
    document = cost.to_json()["latency"]
    assert document["own"] == 1
    assert document["low_ms"] < ms < document["high_ms"]
    assert document["source"].startswith("1 of your own, then MLPerf Tiny v1.1 Krai")


def test_operators_tell_kinds_apart_and_narrow_the_interval(tmp_path: Path) -> None:
    net = "mcunet-vww0"
    whole = published(net)
    one = budget(tmp_path, f"{net},{whole},\n").timing
    rows = budget(tmp_path, f"{net},{whole},\n{net},{whole * 0.6},CONV_2D\n{net},{whole * 0.35},DEPTHWISE_CONV_2D\n")
    assert one is not None and rows.timing is not None
    assert rows.timing.spread < one.spread
    before = models()["cortex-m4", "tflm-cmsis-nn"].cycles
    assert rows.timing.own == 3
    assert rows.timing.cycles[2] / before[2] != pytest.approx(rows.timing.cycles[1] / before[1], rel=0.02)


def test_by_hand() -> None:
    # A million instructions of 1x1 convolutions in 10 ms at 100 MHz, of a core and runtime of which nothing was published: 1 cycle each.
    row = Measured(net="n", ms=10.0, terms=(0.0, 1e6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    model = refitted("cortex-m0plus", "tflm-cmsis-nn", [row], 100.0)
    assert model.cycles[1] == pytest.approx(1.0, rel=1e-3)
    twice = refitted("cortex-m0plus", "tflm-cmsis-nn", [row.model_copy(update={"ms": 20.0})], 100.0)
    assert twice.cycles[1] == pytest.approx(2.0, rel=1e-3)
    # The prior's width is 3, a kind's 0.15: nearly all of ln 2 is the board's.
    assert math.log(twice.cycles[0]) == pytest.approx(math.log(2) * 9 / (9 + 0.15**2 + 0.03**2), rel=1e-3)


def test_a_board_without_published_figures_has_a_time_then(tmp_path: Path) -> None:
    mine = budget(tmp_path, "mcunet-vww0,900,\n", core="cortex-m0plus")
    assert mine.why_unknown("latency_ms") is None
    assert api.estimate("mcunet-vww0", mine).latency_ms == pytest.approx(900, rel=0.02)
    assert api.estimate("mcunet-vww0", mine, "tinyengine").latency_ms is None


def test_a_copy_needs_no_file(tmp_path: Path) -> None:
    mine = budget(tmp_path, "mcunet-vww0,900,\n")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "budget.yaml").write_text(mine.to_yaml())
    (tmp_path / "mine.csv").unlink()
    copy = load_budget(tmp_path / "copy" / "budget.yaml")
    assert copy == mine
    assert copy.timing == mine.timing
    assert isinstance(yaml.safe_load(mine.to_yaml())["latency"], list)


def test_the_search_counts_by_them(tmp_path: Path) -> None:
    from tinynas.graph import lower
    from tinynas.search.feasible import Feasible

    mine = budget(tmp_path, "mcunet-vww0,900,\n")
    space = load_space("tiny")
    genotype = space.draw(lambda _, n: n - 1)
    found = Feasible(space, 2, mine).costs([genotype])["latency_ms"][0]
    assert found == pytest.approx(api.estimate(lower(space.decode(genotype, 2)), mine).latency_ms, rel=1e-12)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("mcunet-vww0,fast,\n", "line 2, ms: must be a number of milliseconds above 0 (got fast)"),
        ("mcunet-vww0,9,\nmcunet-vww0,-1,\n", "line 3, ms: must be a number of milliseconds above 0 (got -1)"),
        ("nothing.tflite,9,\n", "line 2, net: "),
        ("mcunet-vww0,9,LSTM\n", "line 2, op: is no operator of mcunet-vww0"),
        ("", "holds no measurement"),
        ("mcunet-vww0,1e300,\n", "line 2, ms: no inference takes so long (got 1e300); give milliseconds, 0.0001 to 86,400,000 (a day)"),
        ("mcunet-vww0,9,\nmcunet-vww0,1e-30,\n", "line 3, ms: no inference takes so short (got 1e-30)"),
        ("mcunet-vww0,1e400,\n", "line 2, ms: must be a number of milliseconds above 0 (got 1e400)"),
        ("mcunet-vww0,nan,\n", "line 2, ms: must be a number of milliseconds above 0 (got nan)"),
        ("mcunet-vww0,41,3,\n", "line 2: has more cells than line 1 has columns (got ); write numbers with a decimal point"),
        ('"mcunet-vww0,41\n', "line 2: is no CSV: unexpected end of data; check its quotes"),
        ("x" * 5000 + ",41\nnothing,3,\n", "line 3, net: file: does not exist and is no shipped zoo"),
    ],
)
def test_faults_are_named_with_their_line(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        budget(tmp_path, content)
    assert said in str(caught.value)


def test_a_mark_of_the_editor_is_no_part_of_a_file(tmp_path: Path) -> None:
    plain = budget(tmp_path, "mcunet-vww0,900,\n")
    for name in ("mine.csv", "mine.yaml"):
        (tmp_path / name).write_bytes(codecs.BOM_UTF8 + (tmp_path / name).read_bytes())
    assert load_budget(tmp_path / "mine.yaml") == plain
    arch = tmp_path / "net.json"
    arch.write_text(api.load_net("mcunet-vww0").model_dump_json())
    before = api.load_net(str(arch))
    arch.write_bytes(codecs.BOM_UTF8 + arch.read_bytes())
    assert api.load_net(str(arch)) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "file: is empty; its first line is net,ms or net,ms,op"),
        ("\n", "file: is empty"),
        (
            "net;ms\nmcunet-vww0;900\n",
            "line 1: lacks the column net and the column ms: net,ms or net,ms,op (got net;ms); part the",
        ),
    ],
)
def test_a_csv_that_is_none(content: str, said: str, tmp_path: Path) -> None:
    budget(tmp_path, "mcunet-vww0,900,\n")
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_budget(tmp_path / "mine.yaml")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"ms": 1e300}, "latency.0.ms: Input should be less than or equal to 86400000"),
        ({"terms": []}, "latency.0.terms: must be 9 numbers from 0, not all 0, as tinynas writes them; name your CSV instead"),
        ({"terms": [-1.0] + [1.0] * 8}, "latency.0.terms: must be 9 numbers from 0"),
        ({"terms": [0.0] * 9}, "latency.0.terms: must be 9 numbers from 0"),
    ],
)
def test_a_kept_row_is_as_sound_as_a_line(row: dict[str, object], said: str, tmp_path: Path) -> None:
    document = yaml.safe_load(budget(tmp_path, "mcunet-vww0,900,\n").to_yaml())
    document["latency"][0] |= row
    with pytest.raises(ConfigError) as caught:
        build(document, Budget, source="kept")
    assert said in str(caught.value)


def test_a_csv_without_its_columns_and_a_board_without_a_clock(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("name,time\nx,1\n")
    (tmp_path / "mine.yaml").write_text(HEAD.format(core="cortex-m4", runtime="tflm"))
    with pytest.raises(ConfigError, match="lacks the column net"):
        load_budget(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("name: b\nsram: 1 MiB\nflash: 1 MiB\nlatency: mine.csv\n")
    with pytest.raises(ConfigError, match="measurements need core and clock_mhz"):
        load_budget(tmp_path / "mine.yaml")


def test_another_runtime_is_judged_by_a_budget_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured times, frames and limits that the budget's own runtime alone has are not lent to another one."""
    mine = budget(tmp_path, "mcunet-vww0,900,\n")
    other = mine.for_runtime("tflm")
    assert (other.runtime, other.latency, other.timing) == ("tflm", (), None)
    assert other == Budget(name="mine", core="cortex-m4", clock_mhz=64, runtime="tflm", sram="256 KiB", flash="1 MiB")
    assert mine.for_runtime("tflm-cmsis-nn") is mine
    pinned = mine.for_runtime("tflm-cmsis-nn@arduino")
    assert (pinned.runtime, pinned.latency) == ("tflm-cmsis-nn@arduino", mine.latency)
    rows = Budget(name="b", core="cortex-m4", runtime="compiled", frame="rows", sram="40 KiB", flash="256 KiB")
    assert [(b.runtime, b.frame) for b in map(rows.for_runtime, ("compiled", "tflm"))] == [("compiled", None), ("tflm", None)]
    with pytest.raises(UserError, match="unknown runtime 'tflite'"):
        mine.for_runtime("tflite")

    # A limit that cannot be checked with it is refused as a budget of that runtime would be.
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD.format(core="cortex-m4", runtime="tflm-cmsis-nn") + "latency_ms: 1000\n")
    assert load_budget(path).limits["latency_ms"] == 1000
    with pytest.raises(ConfigError, match=r"(?s)mine for the runtime tinyengine.*a latency_ms limit cannot be checked.*tflm-cmsis-nn$"):
        load_budget(path).for_runtime("tinyengine")

    # Reserves for the stack are a limit of compiled code alone, which promises its stack.
    path.write_text("name: b\ncore: cortex-m4\nruntime: tflm\nsram: 256 KiB\nflash: 1 MiB\nreserves: {sram: {stack: 8 B}}\n")
    for runtime, fits in (("tflm", True), ("compiled", False)):
        command = ["estimate", "mcunet-tiny2", "-b", str(path), "--runtime", runtime, "--check"]
        assert run(command) == (0 if fits else 1)
        text = capsys.readouterr().out
        assert ("fits b" in text, "Does not fit" in text) == (fits, not fits)
        assert run([*command, "--json"]) == (0 if fits else 1)
        document = json.loads(capsys.readouterr().out)
        assert (document["fits"], "stack_bytes" in document["excess"]) == (fits, not fits)
    assert document["explanation"]["binding"]["limit"] == "stack_bytes"


def test_remedies_for_another_runtime_have_its_own_milliseconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget(tmp_path, "mcunet-tiny2,1,\n")  # two hundred times faster than it is
    plain = tmp_path / "plain.yaml"
    plain.write_text(HEAD.format(core="cortex-m4", runtime="tflm").replace("latency: mine.csv\n", ""))
    documents = []
    for given in (["-b", str(tmp_path / "mine.yaml"), "--runtime", "tflm"], ["-b", str(plain)]):
        assert run(["estimate", "mcunet-vww1", *given, "--set", "sram=64 KiB", "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1] and documents[0]["explanation"]["changes"]
