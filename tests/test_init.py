"""What init writes is what search reads; schemas accept what the loader accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynas import init
from tinynas.boards import Board, boards, find_board
from tinynas.budget import load_budget
from tinynas.config import build, load, shipped
from tinynas.cost import estimate
from tinynas.errors import UserError
from tinynas.graph import lower
from tinynas.space import Space


@pytest.mark.parametrize("board", boards(), ids=lambda b: b.name)
def test_every_board_makes_a_budget_that_a_network_of_its_space_fits(board: Board, tmp_path: Path) -> None:
    written = init.write(tmp_path, board=board.name)
    budget, space = load_budget(written[0]), load(written[1], Space)
    assert (budget.arena.size, budget.flash, budget.core) == (board.sram_bytes, board.flash_bytes, board.core)
    assert budget.limits["sram_bytes"] >= 0.6 * board.sram_bytes
    smallest = estimate(lower(space.sample(lambda _name, _n: 0, classes=2)), budget.runtime, core=budget.core)
    assert smallest.program_bytes is not None
    if board.flash_bytes >= 256 * 1024:  # the interpreter with its kernels can be most of 128 KiB
        assert smallest.program_bytes <= budget.limits["program_bytes"]
    if board.sram_bytes >= 64 * 1024:
        assert budget.fits(smallest), budget.excess(smallest)


@pytest.mark.parametrize("board", [board for board in boards() if board.note], ids=lambda board: board.name)
def test_what_is_said_of_a_board_stands_above_its_sizes_not_beside_one_of_them(board: Board) -> None:
    """Some notes are about the flash, some about SRAM, some about the core: none may be read as another's."""
    lines = init.budget_text(board).splitlines()
    place = lines.index(f"# About this board: {board.note}.")
    assert lines[place + 1].startswith("sram:") and lines[place + 2 + len(board.regions)].startswith("flash: ")
    assert not any("#" in line for line in lines[place + 1 + bool(board.regions) : place + 3 + len(board.regions)])


def test_boards_are_well_formed() -> None:
    names = [board.name for board in boards()]
    assert len(set(names)) == len(names) >= 40
    cores = set(init.json_schema("budget")["properties"]["core"]["anyOf"][0]["enum"])
    for board in boards():
        assert re.fullmatch(r"[a-z0-9.-]+", board.name)
        assert board.core in cores
        assert board.source
        assert 16 * 1024 <= board.sram_bytes <= 1024**2
        assert 20 <= board.clock_mhz <= 1000


@pytest.mark.parametrize(
    ("budget", "board"), [("stm32f746", "stm32f746g-disco"), ("nano33-ble-sense", "nano33-ble-sense"), ("rp2040", "pico")]
)
def test_the_table_agrees_with_the_shipped_budgets(budget: str, board: str) -> None:
    ours, theirs = find_board(board), load_budget(budget)
    assert (ours.sram_bytes, ours.flash_bytes, ours.clock_mhz, ours.core) == (theirs.sram, theirs.flash, theirs.clock_mhz, theirs.core)


def test_boards_are_found_by_either_name_and_a_typing_mistake_gets_a_hint() -> None:
    assert find_board("Arduino Nano 33 BLE Sense").name == "nano33-ble-sense"
    assert find_board("NUCLEO_F767ZI").name == "nucleo-f767zi"
    with pytest.raises(UserError, match="nucleo-f767zi"):
        find_board("nucelo-f767zi")
    with pytest.raises(UserError, match="--boards"):
        find_board("§")


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    first = init.write(tmp_path)
    first[0].write_text("mine")
    with pytest.raises(UserError, match="force"):
        init.write(tmp_path)
    assert first[0].read_text() == "mine"
    init.write(tmp_path, force=True)
    assert load_budget(first[0]).board == "STM32F746G-DISCO"
    with pytest.raises(UserError, match="not a folder"):
        init.write(first[0])


def test_the_first_line_points_an_editor_at_the_schema(tmp_path: Path) -> None:
    for path in init.write(tmp_path)[:2]:
        target = re.match(r"# yaml-language-server: \$schema=(\S+)", path.read_text())
        assert target
        schema = json.loads((path.parent / target[1]).read_text())
        assert not list(violations(yaml.safe_load(path.read_text()), schema, schema))


@pytest.mark.parametrize("what", ["budget", "space", "arch", "recipe"])
def test_schemas_document_every_field(what: init.Kind) -> None:
    schema = init.json_schema(what)
    json.dumps(schema, allow_nan=False)
    for node in [schema, *schema.get("$defs", {}).values()]:
        for name, field in node.get("properties", {}).items():
            assert {"description", "const", "$ref"} & set(field), f"{what}: {name} has no description"


@pytest.mark.parametrize("kind", ["budgets", "search_spaces"])
def test_schemas_accept_every_shipped_file_and_refuse_mistakes(kind: str) -> None:
    schema = init.json_schema("budget" if kind == "budgets" else "space")
    for path in shipped(kind).values():
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert not list(violations(document, schema, schema)), path
        assert list(violations({**document, "unknown": 1}, schema, schema))
    if kind == "budgets":
        assert list(violations({"name": "x", "sram": "320 KB", "flash": "1 MiB"}, schema, schema))
        assert list(violations({"name": "x", "flash": "1 MiB"}, schema, schema))
    else:
        for kernel, good in ((4, False), ([3, [5, 4]], False), ([3, [5, 3, 3]], False), ([3, [5, 3]], True)):
            document = {"resolution": [48, [32, 20]], "stages": [{"out": 8, "kernel": kernel}]}
            assert bool(list(violations(document, schema, schema))) != good
        assert list(violations({"resolution": [[32, 2]], "stages": [{"out": 8}]}, schema, schema))
        for stage, good in (
            ({"out": 8, "act": "relu"}, True),
            ({"out": 8, "act": ["relu", "tanh"]}, False),
            ({"out": 8, "act": []}, False),
        ):
            assert bool(list(violations({"front_end": {"bins": 24, "kind": ["mel", "mfcc"]}, "stages": [stage]}, schema, schema))) != good
        assert list(violations({"front_end": {"bins": [24, 3]}, "stages": [{"out": 8}]}, schema, schema))


SPACES = st.fixed_dictionaries(
    {
        "resolution": st.one_of(st.integers(8, 96), st.lists(st.integers(8, 96), min_size=1, max_size=3, unique=True)),
        "stages": st.lists(
            st.fixed_dictionaries(
                {"out": st.integers(1, 64)},
                optional={"kernel": st.one_of(st.sampled_from([1, 3, 5]), st.just([3, 7])), "depth": st.integers(1, 4)},
            ),
            min_size=1,
            max_size=3,
        ),
    },
    optional={"color": st.sampled_from(["rgb", "gray", ["rgb", "gray"]]), "head": st.just({"out": [0, 64]})},
)


@settings(max_examples=50, deadline=None)
@given(SPACES)
def test_the_space_schema_accepts_what_the_loader_accepts(document: dict[str, Any]) -> None:
    schema = init.json_schema("space")
    build(document, Space, source="test")
    assert not list(violations(document, schema, schema))


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str = "file") -> Any:
    """The part of JSON Schema that ours use; yields every violation."""
    known = {"$schema", "$ref", "$defs", "title", "description", "default", "examples", "type", "enum", "const", "anyOf", "oneOf"}
    known |= {"properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "uniqueItems", "pattern"}
    known |= {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "discriminator"}
    assert not set(schema) - known, f"teach this checker {set(schema) - known}"
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in schema.items() if k != "$ref"}}
    for key in ("anyOf", "oneOf"):
        if key in schema and all(any(violations(value, branch, root, place)) for branch in schema[key]):
            yield f"{place}: no branch fits"
    types: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "null": type(None),
        "boolean": bool,
    }
    if "type" in schema and not isinstance(value, types[schema["type"]]):
        yield f"{place}: not {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: not in {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{place}: not {schema['const']}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{place}: does not match"
    if isinstance(value, (int, float)):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            yield f"{place}: out of range"
        if value <= schema.get("exclusiveMinimum", value - 1):
            yield f"{place}: out of range"
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{place}: wrong length"
        first = schema.get("prefixItems", [])
        for index, item in enumerate(value):
            rule = first[index] if index < len(first) else schema.get("items", {})
            yield from violations(item, rule, root, f"{place}[{index}]")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        yield from (f"{place}: {key} is missing" for key in schema.get("required", ()) if key not in value)
        for key, item in value.items():
            if key in properties:
                yield from violations(item, properties[key], root, f"{place}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{place}: unknown key {key}"


@pytest.mark.parametrize("runtime", ["compiled", "compiled-rows"])
def test_a_budget_for_compiled_code_says_how_frames_come(runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tinynas.cli import run

    assert run(["init", str(tmp_path), "--board", "nano33-ble-sense", "--runtime", runtime]) == 0
    text = (tmp_path / "budget.yaml").read_text()
    assert "\nruntime: compiled\n" in text and f"\n{'# ' if runtime == 'compiled' else ''}frame: rows\n" in text
    budget = load_budget(tmp_path / "budget.yaml")
    assert (budget.runtime, budget.reserves.sram.runtime, budget.reserves.sram.stack) == (runtime, 0, 8 * 1024)
    assert load_budget(tmp_path / "budget.yaml", ["frame=rows"]).runtime == "compiled-rows"
    assert "frame:" not in init.budget_text(find_board("nano33-ble-sense"))
    assert run(["init", str(tmp_path / "b"), "--runtime", "tflite"]) == 2
    assert "unknown runtime 'tflite'" in capsys.readouterr().err
