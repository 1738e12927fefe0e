"""Sizes, durations, YAML: what is accepted, and that every fault is named with its place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tinynas.config import (
    MAX_CONFIG_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Bytes,
    Config,
    Seconds,
    apply_overrides,
    format_size,
    load,
    n_bytes,
    parse_duration,
    parse_size,
    parse_yaml,
    read_text,
    resolve,
    shipped,
    yaml_size,
)
from tinynas.errors import ConfigError, Fault, TinynasError, UserError


class Inner(Config):
    size: Bytes = n_bytes(0)
    """A size."""
    time: Seconds = 1.0
    """A time."""


class Outer(Config):
    name: str
    """A name."""
    inner: Inner = Inner()
    """More."""
    items: tuple[Inner, ...] = ()
    """Many."""


@pytest.mark.parametrize(
    ("text", "expected"), [("320 KiB", 327_680), ("1 MiB", 1_048_576), ("1.5KiB", 1536), ("12 B", 12), ("7 bytes", 7), ("0 B", 0), (0, 0)]
)
def test_sizes(text: object, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["320", 320, 1.5, "320 KB", "1 MB", "4k", "1.0001 KiB", "KiB", "", "-1 KiB", "1 GiBB", True, None, [], "1e9 B"]
)
def test_bad_sizes(text: object) -> None:
    with pytest.raises(Exception) as caught:
        parse_size(text)
    assert type(caught.value).__name__ == "PydanticCustomError"


def test_decimal_units_name_both_readings() -> None:
    with pytest.raises(Exception, match=r'320,000 B or 327,680 B; write "320 KiB" .* or "320000 B"'):
        parse_size("320 KB")


@given(st.integers(0, 10**12))
def test_yaml_size_round_trip(size: int) -> None:
    assert parse_size(yaml_size(size)) == size


def test_format_size() -> None:
    assert [format_size(n) for n in (0, 1023, 1024, 27_648)] == ["0 B", "1023 B", "1.0 KiB", "27.0 KiB"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h30m", 5400), ("45s", 45), ("1.5h", 5400), (30, 30), ("30", 30), ("2 min", 120)]
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0s", -1, 0, "nan", "inf", "-5m", True, None, "5 days", float("nan")])
def test_bad_durations(text: object) -> None:
    with pytest.raises(Exception) as caught:
        parse_duration(text)
    assert type(caught.value).__name__ == "PydanticCustomError"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_load(tmp_path: Path) -> None:
    path = write(tmp_path, "name: n\ninner: {size: 2 KiB, time: 5m}\nitems:\n- size: 1 B\n")
    loaded = load(path, Outer)
    assert (loaded.inner.size, loaded.inner.time, loaded.items[0].size) == (2048, 300, 1)
    assert load(path, Outer, ["inner.size=3 KiB", "name=other"]).inner.size == 3072
    with pytest.raises(ValidationError):
        loaded.name = "frozen"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("nam: x\n", "line 1, nam", "unknown key"),
        ("name: x\ninner:\n  sizes: 1 B\n", "line 3, inner.sizes", "unknown key"),
        ("name: x\ninner:\n  size: 5\n", "line 3, inner.size", "needs a unit"),
        ("name: x\nitems:\n- size: 1 B\n- time: never\n", "line 4, items.1.time", "not a duration"),
        ("inner: {}\n", "name", "is missing"),
        ("name: [1]\n", "line 1, name", "string"),
        ("name: x\nname: y\n", "line 2", "given twice"),
        ("name: 'x\n", "line", "not valid YAML"),
        ("? [a]\n: b\n", "line 1", "plain words"),
        ("- a\n", "file", "mapping"),
    ],
)
def test_faults_have_place_and_rule(tmp_path: Path, text: str, place: str, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), Outer)
    assert any(place in fault.place and rule in fault.rule for fault in caught.value.faults), caught.value
    assert "c.yaml" in str(caught.value)


def test_all_faults_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, "nme: x\ninner: {size: 1, time: x}\nitems: [{size: 1 KB}]\n"), Outer)
    assert len(caught.value.faults) == 5
    assert 'did you mean "name"' in str(caught.value)


def test_an_empty_file_lacks_its_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is missing"):
        load(write(tmp_path, ""), Outer)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_text(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="folder"):
        read_text(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_text(binary)
    big = tmp_path / "big.yaml"
    big.write_bytes(b"a" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_text(big)


@pytest.mark.parametrize("override", ["a", "=1", "a.=1", ".a=1", "a..b=1"])
def test_bad_overrides(override: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.b=value"):
        apply_overrides({}, [override])


def test_an_override_without_a_value_is_none() -> None:
    """``--set package.name=$NAME`` of a variable that is not set would take the default in silence."""
    for override in ("a.b=", "a.b=  "):
        with pytest.raises(ConfigError, match=r"a\.b=: has no value behind =; write one, or a\.b=null for none$"):
            apply_overrides({"a": {"b": 1}}, [override])
    assert apply_overrides({"a": {"b": 1}}, ["a.b=null"]) == {"a": {"b": None}}
    assert apply_overrides({}, ["a=''"]) == {"a": ""}


def test_a_fault_of_an_override_is_on_no_line(tmp_path: Path) -> None:
    class Inner(Config):
        depth: int = 1

    class Outer(Config):
        width: int
        inner: Inner = Inner()

    path = tmp_path / "outer.yaml"
    path.write_text("width: 3\ninner: {depth: 2}\n")
    for text, key in (("width=wide", "width"), ("inner.depth=deep", "inner.depth"), ("inner={depth: x}", "inner.depth")):
        with pytest.raises(ConfigError) as caught:
            load(path, Outer, [text])
        assert f"--set {key}: " in str(caught.value) and "line" not in str(caught.value)
    path.write_text("width: wide\n")
    with pytest.raises(ConfigError, match="line 1, width"):
        load(path, Outer, ["inner.depth=4"])


def test_overrides_do_not_touch_the_original() -> None:
    document = {"a": {"b": 1}}
    assert apply_overrides(document, ["a.b=2", "c.d=[1, x]"]) == {"a": {"b": 2}, "c": {"d": [1, "x"]}}
    assert document == {"a": {"b": 1}}


def test_line_numbers() -> None:
    _, lines = parse_yaml("a:\n  b: 1\n  c:\n  - x\n  - y\n", "text")
    assert (lines["a",], lines["a", "b"], lines["a", "c", 1]) == (1, 2, 5)


def _nested(levels: int) -> str:
    """``levels`` aliases deep, nine wide: 9 ** levels values in a few lines."""
    return "a0: &a0 [" + ", ".join("x" * 9) + "]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, levels))


HOSTILE = {
    "aliases that explode": (_nested(9), "line 5", "values"),
    "aliases that explode deep": ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 200)), "line 40", "levels deep"),
    "an alias of itself": ("name: &n [*n]\n", "line 1", "a part of"),
    "an alias of itself in a key": ("&a {*a : x}\n", "line 1", "a part of"),
    "deep lists": ("[" * 100_000, "line 1", "levels deep"),
    "deep mappings": ("{a: " * 10_000, "line 1", "levels deep"),
    "deep blocks": ("".join(" " * n + "a:\n" for n in range(200)), "line 40", "levels deep"),
    "wide lists": (f"items: [{'1,' * 100_000}]", "line 1", "20,000 values"),
    "a list of faults": (f"name: x\nitems: [{'{},' * 5}{'1,' * 5_000}]", "file", "4,960 more faults"),
    "a long text": (f"name: {'a b ' * 200_000}", "file", "larger than"),
    "an integer of thousands of digits": (f"name: {'9' * 5000}", "line 1", "int"),
    "an integer beyond 64 bits": ("name: x\ninner: {time: 9223372036854775808}", "line 2", "too large"),
    "a size beyond 64 bits": (f"name: x\ninner: {{size: {'9' * 400} KiB}}", "line 2, inner.size", "larger than any memory"),
    "an empty integer": ("name: !!int ''", "line 1", "int"),
    "a timestamp that is none": ("name: !!timestamp x", "line 1", "timestamp"),
    "a truth that is none": ("name: !!bool x", "line 1", "bool"),
    "a text made a mapping": ("name: !!map x", "line 1", "map"),
    "a month of no year": ("name: 2026-13-01", "line 1", "month"),
    "code": ("name: !!python/object/apply:os.system [id]", "line 1", "python/object"),
    "an escape sequence": ('name: "\\e[2J"', "line 1", "control character U+001B"),
    "a turned text": ('name: "\\u202eabc"', "line 1", "control character U+202E"),
    "half a character": ('name: "\\ud800"', "line 1", "control character U+D800"),
    "a character beyond all": ('name: "\\U00110000"', "file", "not valid YAML"),
    "a key beyond all": ('"\\Uffffffff": x', "file", "not valid YAML"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_no_configuration_holds_is_one_message_at_once(tmp_path: Path, kind: str) -> None:
    text, place, rule = HOSTILE[kind]
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), Outer)
    assert time.process_time() - started < 5
    assert any(place in fault.place and rule in fault.rule for fault in caught.value.faults), caught.value
    assert len(str(caught.value)) < 6000
    if not kind.startswith(("a long text", "a list")):
        with pytest.raises(ConfigError):
            load(write(tmp_path, "name: x"), Outer, [f"inner={text}"])


def test_aliases_that_stand_for_little_are_read(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "name: x\nitems: [&a {size: 1 KiB}, *a]\ninner: *a\n"), Outer)
    assert [item.size for item in (*loaded.items, loaded.inner)] == [1024] * 3


def test_values_as_deep_and_as_many_as_allowed_are_read() -> None:
    assert parse_yaml("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1), "text")[0]
    with pytest.raises(ConfigError, match="levels deep"):
        parse_yaml("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH, "text")
    # The mapping, its two keys, the three values of a, the list of b, and three for each alias in it.
    least = (MAX_VALUES - 7) // 3
    parse_yaml(f"a: &a [1, 1]\nb: [{'*a, ' * least}]", "text")
    with pytest.raises(ConfigError, match="values"):
        parse_yaml(f"a: &a [1, 1]\nb: [{'*a, ' * (least + 1)}]", "text")
    parse_yaml(f"[{'1,' * (MAX_VALUES - 1)}]", "text")
    with pytest.raises(ConfigError, match="values"):
        parse_yaml(f"[{'1,' * MAX_VALUES}]", "text")


def test_a_number_without_end_is_no_setting(tmp_path: Path) -> None:
    class Share(Config):
        share: float = 0.0
        """A share."""

    for text in (".inf", "-.inf", ".nan", "1e999"):
        with pytest.raises(ConfigError, match="finite"):
            load(write(tmp_path, f"share: {text}\n"), Share)


def test_an_override_is_no_deeper_than_a_document() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({}, [".".join("a" * 1000) + "=1"])
    assert len(str(caught.value)) < 300


def test_resolve_and_shipped() -> None:
    assert resolve("stm32f746", "budgets") == shipped("budgets")["stm32f746"]
    with pytest.raises(ConfigError, match=r'did you mean "tiny"'):
        resolve("tinny", "search_spaces")
    assert shipped("nothing") == {}


def test_a_folder_in_the_place_of_a_file_names_what_is_in_it(tmp_path: Path) -> None:
    for name in ("space.yaml", "budget.yaml", "notes.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=rf"is a folder; give {tmp_path / 'budget.yaml'}"):
        resolve(str(tmp_path), "budgets")
    with pytest.raises(ConfigError, match=rf"is a folder; give {tmp_path / 'space.yaml'}"):
        resolve(str(tmp_path), "search_spaces")


def test_error_tree() -> None:
    fault = Fault("line 1, a", "3", "is wrong", "do this")
    assert str(fault) == "line 1, a: is wrong (got 3); do this"
    error = ConfigError("f.yaml", [fault, fault])
    assert error.exit_code == 2
    assert str(error).startswith("f.yaml: 2 faults")
    assert str(UserError("what", "how")) == "what\n  -> how"
    assert TinynasError("x").exit_code == 1


def test_config_documents_its_fields() -> None:
    assert issubclass(Config, BaseModel)
    assert Outer.model_fields["name"].description == "A name."


def test_a_copy_keeps_nothing_that_was_computed_before() -> None:
    from tinynas.arch import load_arch

    arch = load_arch("mcunet-tiny2")
    before, name = arch.input, arch.id
    smaller = arch.model_copy(update={"height": 32, "width": 20})
    assert (smaller.input.height, smaller.input.width) == (32, 20)
    assert smaller.id != name
    assert (arch.input, arch.id) == (before, name)
    assert arch.model_copy() == arch
