"""YAML in, frozen pydantic model out; all faults at once with file, line, place and nearest key.

Sizes carry units (``320 KiB``), durations too (``10m``). Nothing here knows what is configured.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence, Set
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from tinynas.errors import ConfigError, Fault

M = TypeVar("M", bound="Config")

#: Larger files are refused, and so are more values, deeper ones and larger integers: no configuration of ours comes near.
MAX_CONFIG_BYTES = 512 * 1024
MAX_VALUES = 20_000
MAX_DEPTH = 40
MAX_INTEGER = 2**63 - 1
#: Faults of one document that are listed; the rest is counted.
MAX_FAULTS = 40

#: Characters that move a terminal's cursor, recolor it, ring it or turn what is written, halves of characters; not tab and newline.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$")
_SIZE_UNITS = {"b": 1, "bytes": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_AMBIGUOUS = {"kb": (1000, 1024), "mb": (1000**2, 1024**2), "gb": (1000**3, 1024**3), "k": (1000, 1024), "m": (1000**2, 1024**2)}
_DURATION = re.compile(r"^\s*(?:([0-9]+(?:\.[0-9]+)?)\s*h)?\s*(?:([0-9]+(?:\.[0-9]+)?)\s*m(?:in)?)?\s*(?:([0-9]+(?:\.[0-9]+)?)\s*s)?\s*$")


class Config(BaseModel):
    """Base of every configuration model: frozen, unknown keys refused, fields documented where declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with ``update`` in force; what was worked out from the old values (cached properties) is not taken along."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            for name in [name for name in copied.__dict__ if name not in type(self).model_fields]:
                del copied.__dict__[name]
        return copied


def parse_size(value: object) -> int:
    """Bytes from ``"320 KiB"``. A bare number or a decimal ``KB`` is refused: both readings are named."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise PydanticCustomError("size", 'must be a size with a unit, such as "320 KiB"')
    if isinstance(value, (int, float)):
        if value == 0:
            return 0
        raise PydanticCustomError("size", 'needs a unit: write "{value} B" or "{value} KiB"', {"value": value})
    match = _SIZE.match(value)
    if match is None:
        raise PydanticCustomError("size", 'is not a size; write a number and a unit, such as "320 KiB"')
    number, unit = float(match[1]), match[2].lower()
    if unit in _AMBIGUOUS:
        decimal, binary = _AMBIGUOUS[unit]
        raise PydanticCustomError(
            "size",
            '"{unit}" can mean {decimal} B or {binary} B; write "{number} {iec}" for the latter or "{bytes} B" for the former',
            {
                "unit": match[2],
                "decimal": f"{round(number * decimal):,}",
                "binary": f"{round(number * binary):,}",
                "number": match[1],
                "iec": f"{unit[0].upper()}iB",
                "bytes": round(number * decimal),
            },
        )
    if unit not in _SIZE_UNITS:
        raise PydanticCustomError("size", 'has no known unit; use B, KiB or MiB, such as "320 KiB"')
    size = number * _SIZE_UNITS[unit]
    if size > MAX_INTEGER:
        raise PydanticCustomError("size", "is larger than any memory")
    if size != int(size):
        raise PydanticCustomError("size", "is not a whole number of bytes")
    return int(size)


def _already_bytes(value: object) -> object:
    # Python callers and round trips of resolved models pass plain ints through model_construct / BytesInt;
    # in YAML a unit is required, and YAML values reach us as str/int/float.
    return value if isinstance(value, _ResolvedBytes) else parse_size(value)


class _ResolvedBytes(int):
    """An int known to be bytes (internal: lets code build models without formatting a string)."""


def n_bytes(value: int) -> int:
    """Mark ``value`` as a size in bytes, for building configuration models from Python."""
    return _ResolvedBytes(value)


def is_bytes(value: object) -> bool:
    """Whether ``value`` was marked by :func:`n_bytes`, and needs no unit."""
    return isinstance(value, _ResolvedBytes)


Bytes = Annotated[int, BeforeValidator(_already_bytes, json_schema_input_type=str)]
"""A size in bytes, written in YAML with a unit."""


def format_size(size_bytes: int) -> str:
    """``size_bytes`` for people: KiB with one decimal (B below 1 KiB)."""
    return f"{size_bytes} B" if abs(size_bytes) < 1024 else f"{size_bytes / 1024:,.1f} KiB"


def yaml_size(size_bytes: int) -> str:
    """``size_bytes`` as YAML text that :func:`parse_size` reads back exactly."""
    for unit, factor in (("MiB", 1024**2), ("KiB", 1024)):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor} {unit}"
    return f"{size_bytes} B"


def parse_duration(value: object) -> float:
    """Seconds from ``"10m"``, ``"1h30m"``, ``"45s"`` or a bare number of seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and value.strip():
        try:
            seconds = float(value)
        except ValueError:
            match = _DURATION.match(value)
            if match is None or not any(match.groups()):
                raise PydanticCustomError("duration", 'is not a duration; write "10m", "1h30m" or "45s"') from None
            hours, minutes, secs = (float(part or 0) for part in match.groups())
            seconds = hours * 3600 + minutes * 60 + secs
    else:
        raise PydanticCustomError("duration", 'is not a duration; write "10m", "1h30m" or "45s"')
    if not math.isfinite(seconds) or seconds <= 0:
        raise PydanticCustomError("duration", "must be a positive, finite time")
    return seconds


Seconds = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=str | float)]
"""A duration in seconds, written as ``10m`` or ``45s``."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys (YAML's silent last-one-wins hides mistakes), and what no configuration holds.

    Aliases count as what they stand for: a few lines of them can stand for more values than any memory holds.
    """

    def __init__(self, text: str, *, controls: bool = False) -> None:
        super().__init__(text)
        self._controls = controls
        self._composed = self._level = 0
        # Of each node that is whole: the values it stands for and the levels below it.
        self._extent: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            known = super().compose_node(parent, index)
            if known is not None and id(known) not in self._extent:
                raise yaml.composer.ComposerError(None, None, "an alias stands for what it is a part of", mark)
            return known
        self._composed += 1
        self._level += 1
        self._check(self._composed, self._level, mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(node, yaml.CollectionNode):
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            extents = [self._extent[id(part)] for part in parts]
            values, levels = 1 + sum(values for values, _ in extents), 1 + max((levels for _, levels in extents), default=0)
            self._check(values, levels, mark)
            self._extent[id(node)] = values, levels
        elif node is not None:
            self._extent[id(node)] = 1, 1
        return node

    @staticmethod
    def _check(values: int, levels: int, mark: yaml.Mark) -> None:
        if values > MAX_VALUES:
            problem = f"more than {MAX_VALUES:,} values, aliases counted as what they stand for"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        if levels > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", mark)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            kind = str(node.tag).rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"is no {kind}: {error}", node.start_mark) from None
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise yaml.constructor.ConstructorError(None, None, "the number is too large", node.start_mark)
        if isinstance(value, str) and not self._controls and (found := CONTROLS.search(value)) is not None:
            problem = f"holds the control character U+{ord(found[0]):04X}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, yaml.Node] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, (str, int, float, bool)):
            raise yaml.constructor.ConstructorError(None, None, "keys must be plain words", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen[key] = key_node
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_text(path: Path) -> str:
    """The text of a user's small file, without the mark that editors put before it (BOM).

    Unreadable, oversized and non-UTF-8 files are a :class:`ConfigError`.
    """
    try:
        if path.is_dir():
            raise ConfigError(path, [Fault("file", None, "is a folder, not a file", "give the path of a file")])
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                path, [Fault("file", f"{path.stat().st_size:,} B", f"is larger than {MAX_CONFIG_BYTES:,} B", "is this the right file?")]
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(path, [Fault("file", None, "does not exist", "check the path")]) from None
    except UnicodeDecodeError as error:
        raise ConfigError(path, [Fault(f"byte {error.start}", None, "is not UTF-8 text", "is this the right file?")]) from None
    except OSError as error:
        raise ConfigError(path, [Fault("file", None, error.strerror or str(error), "check its permissions")]) from None


def parse_yaml(text: str, source: str | Path, *, controls: bool = False) -> tuple[Any, dict[tuple[str | int, ...], int]]:
    """The document in ``text`` and the 1-based line of every key and item; texts may hold control characters where ``controls``.

    Raises ConfigError with line and column on a syntax error, a duplicate key or a non-mapping key.
    """
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(source, [Fault("file", f"{len(text):,} characters", f"is longer than {MAX_CONFIG_BYTES:,}")])
    loader: _Loader | None = None
    try:
        loader = _Loader(text, controls=controls)
        node = loader.get_single_node()
        document = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "file" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(source, [Fault(place, None, f"is not valid YAML: {problem}", "check quotes, colons and indentation")]) from None
    except (ValueError, OverflowError) as error:  # escapes of characters that there are not
        raise ConfigError(source, [Fault("file", None, f"is not valid YAML: {error}", "check its escapes")]) from None
    finally:
        if loader is not None:
            loader.dispose()
    lines: dict[tuple[str | int, ...], int] = {}
    if node is not None:
        _mark_lines(node, (), lines)
    return document, lines


def _mark_lines(node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> None:
    # The loader bounds values and depth, aliases counted as what they stand for.
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            child = (*path, key.value)
            lines[child] = key.start_mark.line + 1
            _mark_lines(value, child, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _mark_lines(value, (*path, index), lines)


def load(path: Path, model: type[M], overrides: Sequence[str] = ()) -> M:
    """Read the YAML at ``path`` into ``model``, with ``--set a.b=c`` overrides applied.

    Raises ConfigError naming every fault with its line, value, rule and nearest key.
    """
    document, lines = parse_yaml(read_text(path), path)
    return build(document, model, source=path, lines=lines, overrides=overrides)


def build(
    document: object,
    model: type[M],
    *,
    source: str | Path,
    lines: Mapping[tuple[str | int, ...], int] | None = None,
    overrides: Sequence[str] = (),
) -> M:
    """Validate an already parsed ``document`` into ``model``; see :func:`load`."""
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(source, [Fault("file", type(document).__name__, "must be a mapping of keys to values")])
    document = apply_overrides(document, overrides)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        said = {tuple(text.partition("=")[0].strip().split(".")) for text in overrides}
        faults = list(itertools.islice(_faults(error, document, model, lines or {}, said), MAX_FAULTS))
        if error.error_count() > MAX_FAULTS == len(faults):
            faults.append(Fault("file", None, f"has {error.error_count() - MAX_FAULTS:,} more faults", "mend these first"))
        raise ConfigError(source, faults) from None


def apply_overrides(document: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``document`` with every ``a.b=c`` set; values are read as YAML. Raises ConfigError where one is no such text."""
    result: dict[str, Any] = dict(document)
    for text in overrides:
        key, equals, raw = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts) or len(parts) > MAX_DEPTH:
            text = text if len(text) <= 120 else text[:117] + "..."
            raise ConfigError("--set", [Fault(text, None, "is not of the form a.b=value", "such as --set train.epochs=20")])
        if not raw.strip():  # as a shell makes it of a variable that is not set
            raise ConfigError("--set", [Fault(text.strip(), None, "has no value behind =", f"write one, or {key.strip()}=null for none")])
        value, _ = parse_yaml(raw, f"--set {key}")
        cursor = result
        for part in parts[:-1]:
            child = cursor.get(part)
            child = dict(child) if isinstance(child, dict) else {}
            cursor[part] = child
            cursor = child
        cursor[parts[-1]] = value
    return result


#: What pydantic says in words of Python -> in words of YAML.
_SHAPES = {
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "int_parsing": "must be a whole number in digits, such as 5000000",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
}

#: Of these it helps to know what the number is of, and in which unit.
_NUMBERS = frozenset({"int_parsing", "int_from_float", "int_type", "float_parsing", "float_type"})


def _faults(
    error: ValidationError,
    document: object,
    model: type[BaseModel],
    lines: Mapping[tuple[str | int, ...], int],
    said: Set[tuple[str, ...]] = frozenset(),
) -> Iterable[Fault]:
    # ``said`` are the paths that --set gave: what is wrong there is on no line.
    items = error.errors(include_url=False)
    nested = {item["loc"][:n] for item in items for n in range(1, len(item["loc"]))}
    for item in items:
        if item["type"] == "too_short" and item["loc"] in nested:
            continue  # only short because its items are faulty, which is said already
        # pydantic puts union tags and function names into the location: keep the parts the document has.
        where = _document_path(item["loc"], document)
        dotted = ".".join(str(part) for part in where) or "file"
        line = next((lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in lines), None)
        place = f"line {line}, {dotted}" if line is not None and where else dotted
        if any(where[:n] in said for n in range(1, len(where) + 1)):
            place = f"--set {dotted}"
        rule, remedy = item["msg"], None
        value: str | None = repr(item["input"])
        if item["type"] == "extra_forbidden":
            known = _known_keys(model, where[:-1])
            near = difflib.get_close_matches(str(where[-1]), known, n=1, cutoff=0.5)
            rule, value = "unknown key", None
            remedy = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(known))}"
        elif item["type"] == "missing":
            rule, value = "is missing", None
        elif item["type"] == "literal_error":
            expected = str(item.get("ctx", {}).get("expected", ""))
            choices = re.findall(r"'([^']*)'", expected)
            near = difflib.get_close_matches(str(item["input"]), choices, n=1, cutoff=0.4)
            rule = f"must be one of {expected}"
            remedy = f'did you mean "{near[0]}"?' if near else None
        elif item["type"] in _SHAPES:
            rule = _SHAPES[item["type"]]
            remedy = _said_of(model, where) if item["type"] in _NUMBERS else None
        elif item["type"] == "value_error":
            rule = rule.removeprefix("Value error, ")
            value = None if isinstance(item["input"], (dict, list)) else value
        elif isinstance(item["input"], (dict, list)) and len(repr(item["input"])) > 80:
            value = f"a {type(item['input']).__name__}"
        yield Fault(place, value if value is None or len(value) <= 120 else value[:117] + "...", rule, remedy)


def _document_path(location: tuple[int | str, ...], document: object) -> tuple[str | int, ...]:
    path: list[str | int] = []
    cursor: Any = document
    for position, part in enumerate(location):
        here = isinstance(cursor, dict) and part in cursor
        if here or (isinstance(cursor, (list, tuple)) and isinstance(part, int) and part < len(cursor)):
            cursor = cursor[part]
            path.append(part)
        elif isinstance(cursor, dict) and position == len(location) - 1:
            path.append(part)
    return tuple(path)


def _said_of(model: type[BaseModel], path: tuple[str | int, ...]) -> str | None:
    """The first sentence that documents the key at ``path``."""
    for holder in _models_at(model, path[:-1]):
        if path and (field := holder.model_fields.get(str(path[-1]))) is not None and field.description:
            return f"it is: {' '.join(field.description.split()).partition('. ')[0].rstrip('.')}"
    return None


def _known_keys(model: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    return sorted({name for candidate in _models_at(model, path) for name in candidate.model_fields})


def _models_at(model: type[BaseModel], path: tuple[str | int, ...]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [model]
    for part in path:
        following: list[type[BaseModel]] = []
        for candidate in models:
            if isinstance(part, int) or part not in candidate.model_fields:
                following.append(candidate) if isinstance(part, int) else None
                continue
            following += _models_in(candidate.model_fields[part].annotation)
        models = following
    return models


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]


def shipped(kind: str) -> dict[str, Path]:
    """Name to path of every shipped YAML or JSON of ``kind`` (``budgets``, ``search_spaces`` or ``zoo``).

    In a checkout these are the folders at the top; in a wheel they lie inside the package.
    """
    package = Path(str(resources.files("tinynas")))
    folders = [package / "shipped" / kind, package / kind, package.parent / kind]
    for folder in folders:
        if folder.is_dir():
            files = sorted(p for p in folder.iterdir() if p.suffix in {".yaml", ".yml", ".json"})
            if files:
                return {p.stem: p for p in files}
    return {}


def resolve(name_or_path: str, kind: str) -> Path:
    """The file a user means: an existing path, or a shipped name. Raises ConfigError with the nearest name."""
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = shipped(kind)
    if name_or_path in known:
        return known[name_or_path]
    near = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.4)
    if path.is_dir():
        inside = sorted(str(file) for file in path.iterdir() if file.suffix in {".yaml", ".yml", ".json"})
        named = [file for file in inside if Path(file).stem == kind.removeprefix("search_").rstrip("s")]
        remedy = f"give {named[0]}" if named else f"give the file: {', '.join(inside[:5])}" if inside else "give a file"
        raise ConfigError(name_or_path, [Fault("file", None, "is a folder", remedy)])
    remedy = f'did you mean "{near[0]}"?' if near else f"shipped: {', '.join(known) or 'none'}"
    raise ConfigError(name_or_path, [Fault("file", None, f"does not exist and is no shipped {kind.replace('_', ' ').rstrip('s')}", remedy)])
