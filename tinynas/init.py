"""What ``tinynas init`` writes (commented budget and space YAMLs) and what ``tinynas schema`` prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema

from tinynas.arch import Arch
from tinynas.boards import Board, find_board
from tinynas.budget import Budget
from tinynas.config import Config, format_size, yaml_size
from tinynas.cost.runtimes import runtime_for, runtime_named, runtime_names
from tinynas.errors import UserError
from tinynas.files import write_atomic
from tinynas.recipe import Recipe
from tinynas.space import Space

Kind = Literal["budget", "space", "recipe", "arch"]
#: The board that a plain ``tinynas init`` starts from.
DEFAULT_BOARD = "stm32f746g-disco"
#: Folder of the JSON Schemas beside the written files; editors find them through the first line of each YAML.
SCHEMA_DIR = ".schema"


def json_schema(what: Kind) -> dict[str, Any]:
    """JSON Schema (2020-12) of a YAML file, for editors: completion, documentation and checks while typing."""
    model = _model(what)
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(schema_generator=_Generator),
    }
    if what == "budget":
        _sizes_are_text(schema)
    if what == "space":
        _choices_may_be_single(schema)
    return schema


#: What the text of a size is like.
_SIZE = {
    "type": "string",
    "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(B|KiB|MiB)|0)\s*$",
    "examples": ["320 KiB", "1 MiB"],
}


class _Generator(GenerateJsonSchema):
    """Sizes have a default that is an int marked as bytes: JSON Schema takes it as the text a user writes."""

    def encode_default(self, dft: Any) -> Any:
        return yaml_size(dft) if isinstance(dft, int) and type(dft) not in (int, bool) else super().encode_default(dft)


def _model(what: Kind) -> type[Config]:
    models: dict[Kind, type[Config]] = {"budget": Budget, "space": Space, "recipe": Recipe, "arch": Arch}
    return models[what]


def _objects(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {"": schema, **schema.get("$defs", {})}


def _sizes_are_text(schema: dict[str, Any]) -> None:
    # A size needs a unit; the schema says so, and its defaults are written the way a user writes them.
    for name, node in _objects(schema).items():
        for key, field in node.get("properties", {}).items():
            if name == "FlashReserves" and "anyOf" in field:  # a size, or left out
                field["type"] = "string"
                del field["anyOf"], field["default"]
            if key == "sram" and "oneOf" in field:  # a size, or regions
                field["anyOf"] = [_SIZE if form.get("type") == "string" else {**form, "minItems": 1} for form in field.pop("oneOf")]
            elif field.get("type") == "string" and (key in {"flash", "size"} or name.endswith("Reserves")):
                field |= _SIZE
            elif isinstance(field.get("default"), dict):
                del field["default"]  # nested reserves: their own fields have defaults


def _choices_may_be_single(schema: dict[str, Any]) -> None:
    # "kernel: 3" means "kernel: [3]".
    for node in _objects(schema).values():
        for key, field in node.get("properties", {}).items():
            if field.get("type") == "array" and key != "stages":
                array = {k: field.pop(k) for k in ("type", "items") if k in field}
                field["anyOf"] = [{**array, "minItems": 1, "uniqueItems": True}, array["items"]]
                if isinstance(field.get("default"), tuple):
                    field["default"] = list(field["default"])
            for branch in [one for one in field.get("anyOf", []) if one.get("type") == "array" and "uniqueItems" not in one]:  # or none
                branch |= {"minItems": 1, "uniqueItems": True}
                field["anyOf"].append(branch["items"])


def write(directory: Path, *, board: str | None = None, runtime: str | None = None, force: bool = False) -> list[Path]:
    """Write ``budget.yaml``, ``space.yaml`` and their schemas into ``directory``; the paths, budget first, space second.

    ``runtime`` is what will run the network (None: TFLM with the kernels of the board's maker).
    Raises UserError where a file is there already and not ``force``, or for an unknown board or runtime.
    """
    chosen = find_board(board or DEFAULT_BOARD)
    files = {
        directory / "budget.yaml": budget_text(chosen, runtime),
        directory / "space.yaml": space_text(chosen, runtime),
        directory / SCHEMA_DIR / "budget.json": json.dumps(json_schema("budget"), indent=2) + "\n",
        directory / SCHEMA_DIR / "space.json": json.dumps(json_schema("space"), indent=2) + "\n",
    }
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory}: is a file, not a folder", "give the folder to write into")
    taken = [path for path in files if path.exists() and path.suffix == ".yaml"]
    if taken and not force:
        raise UserError(f"{', '.join(map(str, taken))}: there already", "write elsewhere, or overwrite with --force")
    for path, text in files.items():
        write_atomic(path, text)
    return list(files)


def _kept(board: Board, runtime: str) -> dict[str, int]:
    """Starting values for reserves in bytes: those of the shipped budgets, less on small chips. Whole 256 B steps. Compiled code has no
    memory but its work area."""
    wishes = {
        "application": (24 * 1024, board.sram_bytes // 8),
        "stack": (8 * 1024, board.sram_bytes // 16),
        "runtime": (4 * 1024 if runtime_named(runtime).frame is None else 0, board.sram_bytes // 16),
        "flash_application": (64 * 1024, board.flash_bytes // 8),
    }
    return {name: min(wish, most) // 256 * 256 for name, (wish, most) in wishes.items()}


def budget_text(board: Board, runtime: str | None = None) -> str:
    """A commented budget YAML for ``board`` and ``runtime`` (None: TFLM with the kernels of the board's maker)."""
    runtime = runtime or runtime_for(board.core)
    kept = _kept(board, runtime)
    note = f"# About this board: {board.note}.\n" if board.note else ""
    regions = "".join(f'  - "{region.name}: {region.source}"\n' for region in board.regions)
    where = ", each in the region that names it" if board.regions else ""
    return f"""\
# yaml-language-server: $schema={SCHEMA_DIR}/budget.json
# What a network may use on one board: capacity (facts) less reserves (your choices).
# Sizes need a unit: B, KiB or MiB.
name: {board.name}
board: {board.board}
mcu: {board.mcu}
core: {board.core}
clock_mhz: {board.clock_mhz:g}

# What runs the network decides what SRAM and flash mean: {runtime_names()}.
runtime: {_runtime(runtime)}

{note}sram: {_sram(board)}
flash: {yaml_size(board.flash_bytes)}

# Kept back from the network{where}. Measure your own firmware (arm-none-eabi-size) and put its figures here.
reserves:
  sram:
    application: {yaml_size(kept["application"])}    # globals, heap, drivers
    stack: {yaml_size(kept["stack"])}
    frame_buffer: 0 B    # camera frame in internal SRAM: width x height x bytes a pixel
    runtime: {yaml_size(kept["runtime"])}    # static memory of the runtime outside the arena
  flash:
    application: {yaml_size(kept["flash_application"])}    # code, drivers, bootloader
    # The code of the runtime and of the kernels that a network needs counts as part of the network. Where you have measured it:
    # runtime: 100 KiB    # then this is kept back instead

# Limits of your own, if you have some:
# macs: 5000000       # multiply-accumulates of one inference
# latency_ms: 100     # time of one inference; needs core and clock_mhz, and evidence for the runtime

sources:
  - "sram, flash, clock: {board.source}"
{regions}  - "reserves: starting values; change them"
"""


def _runtime(name: str) -> str:
    """What stands behind ``runtime:``, and for compiled code the key ``frame``."""
    frame = runtime_named(name).frame
    if frame is None or runtime_named(name).stream:
        return name
    told = "# kept: whole frames, in the network's memory (the default); rows: row by row as the camera gives them, in less memory."
    return f"compiled\n{told}\n{'# ' if frame == 'kept' else ''}frame: rows"


def _sram(board: Board) -> str:
    """What stands behind ``sram:``: a size, or the regions in lines of their own."""
    if not board.regions:
        return yaml_size(board.sram_bytes)
    lines = ["   # the board's memories and what lies in each. The arena lies in one of them, whole."]
    for region in board.regions:
        slow = ", slow: true" if region.slow else ""
        lines.append(f"  - {{name: {region.name}, size: {yaml_size(region.size_bytes)}{slow}, use: [{', '.join(region.use)}]}}")
    return "\n".join(lines)


def space_text(board: Board, runtime: str | None = None) -> str:
    """A commented space YAML whose resolutions suit ``board`` with ``runtime``, as :func:`budget_text` takes it."""
    kept = _kept(board, runtime or runtime_for(board.core))
    room = board.sram_bytes - kept["application"] - kept["stack"] - kept["runtime"]
    # The first convolution holds its input (3 bytes a pixel) and an 8-channel map of a quarter as many pixels.
    sides = [side for side in (32, 48, 64, 80, 96, 112, 128, 144, 160) if 5 * side * side <= room] or [32]
    return f"""\
# yaml-language-server: $schema={SCHEMA_DIR}/space.json
# Which networks may be chosen: ProxylessNAS (inverted residual) blocks in stages.
# A list offers choices, a single value fixes one. `tinynas spaces` lists the shipped spaces with their sizes.
name: my-space

# Square input sides in pixels. Those whose first layer fits {format_size(room)} of SRAM:
resolution: [{", ".join(map(str, sides))}]
color: rgb    # or gray, or [rgb, gray]
# Of sounds instead of both: front_end: {{bins: [24, 40], stride_ms: [10, 20], window_ms: 30}}; see docs/sound.md and the space listen.

# Multiplies every channel count below; results are rounded to a multiple of divisor.
width_mult: [0.35, 0.5, 0.75, 1.0]
divisor: 8

stem: {{out: 16, kernel: 3, stride: 2}}    # the first convolution

# The body. Each stage: out (channels), depth (blocks), kernel and expand (chosen per block), stride (of its first block).
stages:
  - {{out: 16, depth: 1,         kernel: [3, 5],    expand: 1,         stride: 1}}
  - {{out: 24, depth: [1, 2, 3], kernel: [3, 5, 7], expand: [3, 4, 6], stride: 2}}
  - {{out: 40, depth: [1, 2, 3], kernel: [3, 5, 7], expand: [3, 4, 6], stride: 2}}
  - {{out: 80, depth: [1, 2, 3], kernel: [3, 5, 7], expand: [3, 4, 6], stride: 2}}
  - {{out: 96, depth: [1, 2],    kernel: [3, 5, 7], expand: [3, 4, 6], stride: [1, 2]}}

head: {{out: [0, 160]}}    # a last 1x1 convolution; 0 for none
act: relu6
"""
