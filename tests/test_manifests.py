"""What the firmware folder says to Arduino, PlatformIO, ESP-IDF and Zephyr, held against what each of them accepts.

The rules are written from the public specifications, which each function names; the tools themselves are not needed.
"""

from __future__ import annotations

import configparser
import fnmatch
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_firmware import (
    SOURCES,
    entered,
    folder,
    images_for,
    needs_arm,
    needs_cmake,
    run,
    small,
    tflm_outputs,
    tiny_model,
    wheel_exports_the_interpreter,
)

from tinynas.config import build
from tinynas.errors import ConfigError
from tinynas.export.facts import read_facts
from tinynas.export.firmware import ArenaFigures, build_firmware, measured_arena
from tinynas.export.folder import SELF_TEST_FAIL, SELF_TEST_PASS
from tinynas.export.manifests import LONGEST_NAME, LONGEST_TITLE, arduino_name, identifier, semver
from tinynas.export.model import ExportOptions
from tinynas.target.cores import CORES

SHARED = Path(os.environ.get("TINYNAS_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data")).parent
ARDUINO_TREE = SHARED / "tflm_arduino"
WHEEL = Path(__file__).parent / "tflm_wheel"
COMPILER = ("arm-none-eabi-g++", "-Os", *CORES["cortex-m4"].flags, "-fno-threadsafe-statics")

needs_wheel = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux" or not wheel_exports_the_interpreter(),
    reason="needs g++, Linux, and a tflite-micro wheel that exports tflite::micro::MicroInterpreter",
)

#: Names that people give, and some that they should not.
ODD = (
    "",
    "mcunet-tiny2",
    "Arduino person",
    "9 lives",
    'x"; int\\',
    "model",
    "_",
    "\u540d\u524d",
    "a: [b, c] # d",
    "${IDF_PATH} $(shell) @ns@ %s {}",
    "line\nbreak\ttab",
    "self_test",
    "person " * 60,
)

#: https://semver.org/#is-there-a-suggested-regular-expression-regex-to-check-a-semver-string
SEMVER = (
    r"^(?P<major>0|[1-9]\d*)\.(?P<minor>0|[1-9]\d*)\.(?P<patch>0|[1-9]\d*)"
    r"(?:-(?P<prerelease>(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+(?P<buildmetadata>[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$"
)


# what each package system accepts --------------------------------------------------------------------------------


def check_arduino(archive: dict[str, bytes], *, tflm: bool) -> dict[str, str]:
    """The Arduino library specification, format 1.5, and the rules that arduino-lint makes of it; gives library.properties.

    https://arduino.github.io/arduino-cli/latest/library-specification and https://arduino.github.io/arduino-lint/latest/rules/library
    """
    roots = {path.split("/")[0] for path in archive}
    assert len(roots) == 1
    root = roots.pop()
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", root) and len(root) <= 63  # LS002, LS003
    text = archive[f"{root}/library.properties"].decode("ascii")
    lines = [line.split("=", 1) for line in text.splitlines()]
    properties = dict(lines)
    assert len(properties) == len(lines)
    known = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures", "depends", "includes"}
    assert set(properties) == known - (set() if tflm else {"depends"})
    assert all(value.strip() == value != "" for value in properties.values())
    assert properties["name"] == root  # LS... : the folder of an installed library is called so
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9 _.-]*", properties["name"]) and len(properties["name"]) <= 63  # LP005, LP006
    assert not properties["name"].lower().startswith("arduino")  # LP009
    assert re.match(SEMVER, properties["version"])  # LP016
    assert not properties["maintainer"].lower().startswith("arduino")  # LP022
    # The list of LP026.
    categories = "Display,Communication,Signal Input/Output,Sensors,Device Control,Timing,Data Storage,Data Processing,Other"
    assert properties["category"] in categories.split(",")
    assert re.fullmatch(r"https?://\S+", properties["url"])  # LP031
    assert re.fullmatch(r"\*|[a-z0-9_]+(,[a-z0-9_]+)*", properties["architectures"])  # LP037
    assert not tflm or re.fullmatch(r"[A-Za-z][A-Za-z0-9 _.-]* \(>=\d+\.\d+\.\d+\)", properties["depends"])  # LP042
    assert f"{root}/src/{properties['includes']}" in archive  # LP048
    assert properties["includes"] == f"{root}.h"  # LS008
    for path in archive:
        parts = path.split("/")[1:]
        assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", part) for part in parts)
        match parts:
            case ["library.properties" | "library.json" | "LICENSE"]:
                pass
            case ["src", file]:
                assert file.endswith((".h", ".cpp" if tflm else ".c"))
            case ["examples", sketch, file]:
                assert file == "platformio.ini" or file == f"{sketch}.ino"  # SS001: the file is called as its folder
                assert f"{root}/examples/{sketch}/{sketch}.ino" in archive
            case _:
                raise AssertionError(f"{path} has no place in a library")
    return properties


#: https://docs.platformio.org/en/latest/manifests/library-json/index.html, and its parser's bounds (platformio 6).
PLATFORMIO: dict[str, Any] = {
    "$schema": r"https://.*/library\.json",
    "name": r"[^:;/,@<>]{1,100}",
    "version": SEMVER[1:-1],
    "description": r".{1,1000}",
    "keywords": [r"[a-z\d\-_+. ]{1,50}"],
    "license": r"[A-Za-z0-9.+ ()-]{1,255}",
    "homepage": r"https?://\S{1,247}",
    "authors": [{"name": r".{1,100}"}],
    "frameworks": [r"[a-z\d\-_]{1,50}"],
    "platforms": r"[a-z\d\-_]{1,50}|\*",
    "headers": [r"\w+\.h"],
    "dependencies": [{"owner": r".{1,100}", "name": r".{1,100}", "version": r"\^\d+\.\d+\.\d+"}],
    "build": {"srcFilter": [r"[+-]<[^<>]+>"]},
}

#: https://docs.espressif.com/projects/idf-component-manager/en/latest/reference/manifest_file.html
_SLUG = r"[a-zA-Z\d]+(?:[_-](?![_-])|[a-zA-Z\d])*[a-zA-Z\d]+"
ESP_IDF: dict[str, Any] = {
    "version": SEMVER[1:-1],
    "description": r"[^\n]+",
    "url": r"https?://\S+",
    "license": r"[A-Za-z0-9.+ ()-]+",
    "tags": [r"[A-Za-z0-9_-]{3,32}"],
    "targets": [r"esp32(s2|s3|c2|c3|c5|c6|c61|h2|h21|h4|p4)?"],
    "dependencies": {"idf": r">=\d+\.\d+", "espressif/esp-tflite-micro": r"\^\d+\.\d+\.\d+"},
    "files": {"exclude": [r"[^\n]+"]},
}

#: https://docs.zephyrproject.org/latest/develop/modules.html, and METADATA_SCHEMA of scripts/zephyr_module.py
ZEPHYR_MODULE: dict[str, Any] = {
    "name": r"[A-Za-z][A-Za-z0-9_]*",
    "build": {"cmake": r"\S+", "kconfig": r"\S+", "depends": [r"[a-z-]+"]},
    "samples": [r"\S+"],
}

#: https://docs.zephyrproject.org/latest/develop/test/twister.html, and scripts/schemas/twister/testsuite-schema.yaml
ZEPHYR_SAMPLE: dict[str, Any] = {
    "sample": {"name": r"[^\n]+", "description": r"[^\n]+"},
    "common": {
        "tags": r"[a-z ]+",
        "modules": [r"[a-z-]+"],
        "harness": "console",
        "harness_config": {"type": "one_line", "regex": [r"[^\n]+"]},
    },
    "tests": {r"sample(\.[A-Za-z0-9_]+)+": {"filter": r"\w+", "min_ram": int, "min_flash": int, "integration_platforms": [r"[a-z0-9_/]+"]}},
}


#: The same of the folder around a compiled network, which needs no runtime.
WITHOUT_RUNTIME: dict[str, dict[str, Any]] = {
    "library.json": {**{key: rule for key, rule in PLATFORMIO.items() if key != "dependencies"}, "frameworks": r"\*"},
    "idf_component.yml": {**ESP_IDF, "dependencies": {"idf": r">=\d+\.\d+"}},
    "zephyr/module.yml": {**ZEPHYR_MODULE, "build": {"cmake": r"\S+", "kconfig": r"\S+"}},
    "sample.yaml": {**ZEPHYR_SAMPLE, "common": {key: rule for key, rule in ZEPHYR_SAMPLE["common"].items() if key != "modules"}},
}


def fits(document: Any, schema: Any, place: str = "") -> None:
    """Every key of the schema is there and no other; texts match their expressions, lists have one or more elements."""
    match schema:
        case dict():
            assert isinstance(document, dict), place
            for key in document:
                assert any(re.fullmatch(known, key) or known == key for known in schema), f"{place}: unknown key {key}"
            for known, rule in schema.items():
                found = [key for key in document if key == known or re.fullmatch(known, key)]
                assert found, f"{place}: no {known}"
                for key in found:
                    fits(document[key], rule, f"{place}/{key}")
        case list():
            assert isinstance(document, list) and document, place
            assert len({json.dumps(item) for item in document}) == len(document), f"{place}: twice the same"
            for item in document:
                fits(item, schema[0], place)
        case str():
            assert isinstance(document, str) and re.fullmatch(schema, document), f"{place}: {document!r}"
        case type():
            assert isinstance(document, schema) and not isinstance(document, bool), f"{place}: {document!r}"
        case _:
            raise AssertionError(schema)


def unzipped(files: dict[str, bytes]) -> dict[str, bytes]:
    (name,) = [path for path in files if path.endswith(".zip")]
    archive = zipfile.ZipFile(io.BytesIO(files[name]))
    return {path: archive.read(path) for path in archive.namelist()}


def check_all(files: dict[str, bytes], sources: Sequence[str] = SOURCES, *, tflm: bool = True) -> None:
    """Every manifest of the folder, which compiles ``sources``, and that what it names is there."""
    archive = unzipped(files)
    rules = {"library.json": PLATFORMIO, "idf_component.yml": ESP_IDF, "zephyr/module.yml": ZEPHYR_MODULE, "sample.yaml": ZEPHYR_SAMPLE}
    rules = rules if tflm else WITHOUT_RUNTIME
    properties = check_arduino(archive, tflm=tflm)
    root = properties["name"]
    assert f"{root}.zip" in files and f"{root}.h" in files

    library = json.loads(files["library.json"])
    fits(library, rules["library.json"], "library.json")
    assert archive[f"{root}/library.json"] == files["library.json"]
    assert library["headers"] == [f"{root}.h"]
    for dependency in library.get("dependencies", ()):
        assert properties["depends"] == f"{dependency['name']} (>={dependency['version'].removeprefix('^')})"
    # What PlatformIO compiles: of the folder as it is, where there is no src/, and of the zip.
    inside = {path.removeprefix(f"{root}/src/") for path in archive if path.startswith(f"{root}/src/")}
    assert matched(set(files), library["build"]["srcFilter"]) == set(sources)
    assert matched(inside, library["build"]["srcFilter"]) == {source.replace(".cc", ".cpp") for source in sources}

    component = yaml.safe_load(files["idf_component.yml"])
    fits(component, rules["idf_component.yml"], "idf_component.yml")
    excluded = {path for path in files for pattern in component["files"]["exclude"] if fnmatch.fnmatch(path, pattern.replace("/**/", "/"))}
    assert excluded == {path for path in files if path.startswith(("zephyr/", "qemu/")) or path.endswith((".zip", "library.json"))}
    assert {component["version"], library["version"], properties["version"]} == {component["version"]}
    assert component["license"] == library["license"]
    assert component["url"] == library["homepage"] == properties["url"]

    module = yaml.safe_load(files["zephyr/module.yml"])
    fits(module, rules["zephyr/module.yml"], "module.yml")
    assert module["build"]["kconfig"] in files and module["build"]["cmake"] == "."
    namespace = module["name"]
    spelled = r"namespace (\w+) {" if tflm else r"int (\w+)_answer\("
    assert library["name"] == namespace == re.findall(spelled, files["classifier.h"].decode())[0]
    for kconfig in ("Kconfig", "zephyr/Kconfig") if tflm else ("zephyr/Kconfig",):
        text = files[kconfig].decode("ascii")
        symbols = re.findall(r"^config (\S+)$", text, re.M)
        assert symbols and all(re.fullmatch(r"TINYNAS_[A-Z0-9_]+", symbol) for symbol in symbols)
        assert all(f"CONFIG_{symbol}" in files["CMakeLists.txt"].decode() for symbol in symbols)
        assert all(line.count('"') in (0, 2) and "$" not in line for line in text.splitlines())
    (place,) = module["samples"]
    sample = yaml.safe_load(files[f"{place}/sample.yaml"])
    fits(sample, rules["sample.yaml"], "sample.yaml")
    assert list(sample["tests"]) == [f"sample.tinynas.{namespace}"]
    (regex,) = sample["common"]["harness_config"]["regex"]
    assert re.search(regex, f"{namespace} {SELF_TEST_PASS}") and not re.search(regex, f"{namespace} {SELF_TEST_FAIL}")
    assert f'"{namespace} {SELF_TEST_PASS}"' in files["self_test.cc" if tflm else "self_test.c"].decode()
    for line in files[f"{place}/prj.conf"].decode().splitlines():
        assert line.startswith("#") or re.fullmatch(r"CONFIG_[A-Z0-9_]+=(y|\d+)", line)

    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(archive[f"{root}/examples/self_test/platformio.ini"].decode("ascii"))
    assert ini["env"]["lib_deps"] == "symlink://../.."  # the library that the sketch is an example of
    boards = [section for section in ini.sections() if section.startswith("env:")]
    assert len(boards) >= 2 and all(set(ini[board]) == {"platform", "board"} for board in boards)


def matched(paths: set[str], filters: list[str]) -> set[str]:
    """PlatformIO's srcFilter: patterns add and take away, in order; a star stays within a folder."""
    chosen: set[str] = set()
    for rule in filters:
        names = {path for path in paths if path.count("/") == rule.count("/") and fnmatch.fnmatch(path, rule[2:-1])}
        chosen = chosen | names if rule[0] == "+" else chosen - names
    return chosen


# names, versions, licenses ---------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=120))
@example("x" * 500)
@example("arduino")
@example("ARDUINO_model")
@example("\ud800")
def test_every_name_is_valid_everywhere(name: str) -> None:
    word = identifier(name)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", word) and "model" in word and len(word) <= LONGEST_NAME
    assert identifier(word) == word  # a name that is valid stays
    assert re.fullmatch(_SLUG, word) and len(word) <= 64  # ESP-IDF's registry
    library = arduino_name(word)
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", library) and len(library) <= 63 and not library.lower().startswith("arduino")


def test_names_by_hand() -> None:
    assert (identifier("mcunet-tiny2"), arduino_name("mcunet_tiny2_model")) == ("mcunet_tiny2_model", "McunetTiny2Model")
    assert arduino_name(identifier("Arduino person")) == "TinynasArduinoPersonModel"
    assert identifier("model") == "model" and identifier("remodel") == "remodel_model"
    # Long names with one beginning stay two.
    long = [identifier("a long name " * 20 + end) for end in "xy"]
    assert long[0] != long[1] and {len(name) for name in long} == {LONGEST_NAME}
    assert len(identifier("a" * (LONGEST_NAME - 6))) == LONGEST_NAME and identifier("a" * 42) == "a" * 42 + "_model"


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_manifests_of_any_name(name: str) -> None:
    files = small(name=name)
    check_all(files)
    title = yaml.safe_load(files["idf_component.yml"])["description"].removesuffix(": image classifier, 12x16x3, 3 classes")
    assert 1 <= len(title) <= LONGEST_TITLE
    for path, content in files.items():
        if not path.endswith(".zip"):
            assert "@" not in content.decode("ascii").replace("${CMAKE", ""), path  # nothing left to fill, and nothing filled in


@pytest.mark.parametrize(
    ("python", "semantic"),
    [
        ("0.3.0", "0.3.0"),
        ("1", "1.0.0"),
        ("0.4rc1", "0.4.0-rc1"),
        ("0.4.0.dev01", "0.4.0-dev01"),
        ("1.2.3.04", "1.2.3-4"),
        ("1.2+local.007", "1.2.0+local.007"),
        ("2026.01.5", "2026.1.5"),
    ],
)
def test_versions_of_python_become_semantic(python: str, semantic: str) -> None:
    assert semver(python) == semantic
    assert re.match(SEMVER, semantic)


def test_the_version_names_the_model_and_what_a_user_sets_is_said() -> None:
    import hashlib

    from tinynas import __version__

    assert yaml.safe_load(small()["idf_component.yml"])["version"] == f"{__version__}+{hashlib.sha256(tiny_model()).hexdigest()[:8]}"
    with pytest.raises(ValueError, match="is no version"):
        semver("main")
    overrides = ["package.name=front door", "package.version=1.2.0", "package.license=MIT AND (CC-BY-4.0 OR LicenseRef-Mine)"]
    options = build({}, ExportOptions, source="export options", overrides=[*overrides, "package.url=https://example.org/door?a=b"])
    files = small(package=options.package)
    check_all(files)
    assert {"FrontDoorModel.zip", "FrontDoorModel.h"} <= set(files)
    component = yaml.safe_load(files["idf_component.yml"])
    assert (component["version"], component["license"]) == ("1.2.0", "MIT AND (CC-BY-4.0 OR LicenseRef-Mine)")
    assert component["url"] == "https://example.org/door?a=b"
    assert "The manifests say: MIT AND" in files["LICENSE"].decode()


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("name", ""),
        ("name", " "),
        ("name", "--_"),
        ("name", "дверь"),
        ("version", "1.2"),
        ("version", "v1.2.0"),
        ("version", "1.02.0"),
        ("license", "my own"),
        ("license", 'MIT"'),
        ("license", "(MIT"),
        ("license", ""),
        ("url", "example.org"),
        ("url", 'https://x"y'),
    ],
)
def test_what_no_package_system_takes_is_refused(key: str, bad: str) -> None:
    with pytest.raises(ConfigError, match=f"package.{key}"):
        build({"package": {key: bad}}, ExportOptions, source="export options")


def test_a_package_without_a_name_has_the_networks() -> None:
    assert build({}, ExportOptions, source="export options", overrides=["package.name=null"]).package.name is None
    with pytest.raises(ConfigError, match=r"package\.name=: has no value behind ="):
        build({}, ExportOptions, source="export options", overrides=["package.name="])
    with pytest.raises(ConfigError, match=r"--set package\.name: must hold a letter of a to z or a digit, such as front-door.*got ''"):
        build({}, ExportOptions, source="export options", overrides=["package.name=''"])


def test_twister_passes_over_boards_that_are_too_small() -> None:
    sample = yaml.safe_load(small(arena=ArenaFigures(1, 1, mcu_bytes=10 * 1024 - 512 + 1))["zephyr/self_test/sample.yaml"])
    (test,) = sample["tests"].values()
    assert test["min_ram"] == 11 + 32  # an arena of 10 KiB and 16 B
    assert test["min_flash"] == -(-len(tiny_model()) // 1024) + 256


def test_the_check_of_manifests_can_fail() -> None:
    """Each rule bites: a fault put into one manifest is found."""
    files = small()
    faults = {
        "library.json": (b'"frameworks"', b'"framework"'),
        "idf_component.yml": (b"targets: [esp32,", b"targets: [esp32, esp32,"),
        "zephyr/module.yml": (b"kconfig: zephyr/Kconfig", b"kconfig: zephyr/kconfig"),
        "zephyr/Kconfig": (b'bool "', b'bool ""'),
        "zephyr/self_test/sample.yaml": (b"PASS", b"FAIL"),
        "zephyr/self_test/prj.conf": (b"CONFIG_CPP=y", b"CPP=y"),
        "self_test.cc": (b": PASS", b": PASSED"),
    }
    for path, (old, new) in faults.items():
        assert old in files[path]
        with pytest.raises(AssertionError):
            check_all({**files, path: files[path].replace(old, new)})


# what the build systems do with them ---------------------------------------------------------------------------------

#: The commands of ESP-IDF and Zephyr that the folder calls, said instead of done.
MOCK = """
foreach(command IN ITEMS idf_component_register zephyr_include_directories zephyr_library_sources zephyr_library_compile_options
                         zephyr_compile_definitions zephyr_library_compile_definitions set_source_files_properties)
  cmake_language(EVAL CODE "function(${command})\\n message(STATUS \\"${command}: \\${ARGV}\\")\\nendfunction()")
endforeach()
macro(target_compile_definitions)
  message(STATUS "target_compile_definitions: ${ARGV}")
endmacro()
"""


@needs_cmake
@pytest.mark.parametrize("arena", ["0", "5000"])
def test_cmake_registers_the_sources_with_esp_idf_and_zephyr(tmp_path: Path, arena: str) -> None:
    c = folder(tmp_path / "c", tiny_model())
    listed = ";".join(SOURCES)
    settings = f"{MOCK}set(CONFIG_TINYNAS_DEMO_MODEL_ARENA_BYTES {arena})\n"
    (tmp_path / "idf.cmake").write_text(f"{settings}set(ESP_PLATFORM 1)\nset(COMPONENT_LIB lib)\ninclude({c}/CMakeLists.txt)\n")
    status, text = run("cmake", "-P", tmp_path / "idf.cmake")
    assert status == 0, text
    assert f"idf_component_register: SRCS;{listed};INCLUDE_DIRS;." in text
    assert ("target_compile_definitions: lib;PUBLIC;DEMO_MODEL_ARENA_BYTES=5000" in text) == (arena == "5000")
    zephyr = f"{settings}function(zephyr_library)\nendfunction()\n"
    for on, cmsis in ((True, True), (True, False), (False, True)):
        kernels = f"set(CONFIG_TENSORFLOW_LITE_MICRO_CMSIS_NN_KERNELS {cmsis})\n"
        (tmp_path / "z.cmake").write_text(f"{zephyr}{kernels}set(CONFIG_TINYNAS_DEMO_MODEL {on})\ninclude({c}/CMakeLists.txt)\n")
        status, text = run("cmake", "-P", tmp_path / "z.cmake")
        assert status == 0, text
        assert (f"zephyr_library_sources: {listed}" in text) == on
        assert ("zephyr_compile_definitions: DEMO_MODEL_ARENA_BYTES=5000" in text) == (on and arena == "5000")
        assert ("zephyr_library_compile_definitions: CMSIS_NN" in text) == (on and cmsis)


@needs_cmake
def test_example_projects_find_the_folder_above_them(tmp_path: Path) -> None:
    c = folder(tmp_path / "some where", tiny_model())
    (tmp_path / "tools/cmake").mkdir(parents=True)
    (tmp_path / "tools/cmake/project.cmake").write_text('message(STATUS "components: ${EXTRA_COMPONENT_DIRS}")\n')
    mock = "macro(project)\nendmacro()\nmacro(cmake_minimum_required)\nendmacro()\n"
    mock += f"set(ENV{{IDF_PATH}} {tmp_path})\n"
    (tmp_path / "idf.cmake").write_text(f'{MOCK}{mock}include("{c}/examples/self_test/CMakeLists.txt")\n')
    status, text = run("cmake", "-P", tmp_path / "idf.cmake")
    assert status == 0 and f"components: {c}\n" in text, text
    (tmp_path / "main.cmake").write_text(f'{MOCK}{mock}include("{c}/examples/self_test/main/CMakeLists.txt")\n')
    status, text = run("cmake", "-P", tmp_path / "main.cmake")
    assert status == 0 and "idf_component_register: SRCS;main.cc;PRIV_REQUIRES;some where" in text, text
    assert (c / "examples/self_test/main/main.cc").is_file()
    mock += 'macro(find_package)\n  message(STATUS "modules: ${ZEPHYR_EXTRA_MODULES}")\nendmacro()\n'
    mock += "macro(zephyr_compile_options)\nendmacro()\n"
    mock += 'macro(target_sources)\n  message(STATUS "sources: ${ARGV}")\nendmacro()\n'
    (tmp_path / "z.cmake").write_text(f'{mock}include("{c}/zephyr/self_test/CMakeLists.txt")\n')
    status, text = run("cmake", "-P", tmp_path / "z.cmake")
    assert status == 0 and f"modules: {c}\n" in text and f"sources: app;PRIVATE;{c}/self_test_main.cc" in text, text


def on_host(place: Path, entry: str, sources: list[Path], *flags: str) -> str:
    """The log of C++ in which ``entry`` is called, with TFLM's interpreter out of the Python wheel."""
    (place / "entry.cc").write_text(entry)
    command = ["g++", "-O1", "-shared", "-fPIC", *flags, "-isystem", str(WHEEL), *map(str, sources), "entry.cc", "-o", "l.so"]
    subprocess.run(command, cwd=place, check=True, timeout=200)
    return entered(place / "l.so")[1]


@needs_wheel
def test_the_last_line_is_what_those_who_wait_for_it_expect(tmp_path: Path) -> None:
    model = tiny_model()
    arena = measured_arena(model)
    c = folder(tmp_path / "c", model, arena=arena)
    (regex,) = yaml.safe_load((c / "zephyr/self_test/sample.yaml").read_text())["common"]["harness_config"]["regex"]
    programs = {
        "self_test_main.cc": 'int program();\nextern "C" int entry() { return program(); }\n',
        "examples/self_test/main/main.cc": 'extern "C" void app_main();\nextern "C" int entry() { app_main(); return 0; }\n',
    }
    for main, entry in programs.items():
        text = on_host(c, entry, [c / path for path in (*SOURCES, main)], "-Dmain=program", "-I.")
        assert text.splitlines()[-1] == f"demo_model {SELF_TEST_PASS}" and re.search(regex, text), text
    expected = tflm_outputs(model, images_for(read_facts(model))).copy()
    expected[0, 0] += 1
    c = folder(tmp_path / "wrong", model, expected=expected, arena=arena)
    text = on_host(c, programs["self_test_main.cc"], [c / path for path in (*SOURCES, "self_test_main.cc")], "-Dmain=program")
    assert text.splitlines()[-1] == f"demo_model {SELF_TEST_FAIL}" and not re.search(regex, text), text


#: As much of Arduino's core as TFLM's port and the sketches touch.
ARDUINO_H = """
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <time.h>
struct SerialShim {
  void begin(unsigned long) {}
  explicit operator bool() const { return true; }
  void print(const char* text) { fputs(text, stdout); }
  void println(const char* text) { puts(text); }
  void println(double value) { printf("%d %%\\n", static_cast<int>(100 * value)); }
  void println(double value, int digits) { printf("%.*f\\n", digits, value); }
};
extern SerialShim Serial;
inline void delay(unsigned long) {}
inline unsigned long micros() { return static_cast<unsigned long>(clock() * (1000000.0 / CLOCKS_PER_SEC)); }
void setup();
void loop();
"""


def arduino_library(path: Path, model: bytes) -> Path:
    """The library as installed, and the shim of Arduino's core beside it."""
    labels = [f"class {i}" for i in range(read_facts(model).classes)]
    options = {"images": images_for(read_facts(model)), "labels": labels, "arena": measured_arena(model), "name": "demo"}
    zipfile.ZipFile(io.BytesIO(build_firmware(model, **options)["DemoModel.zip"])).extractall(path)
    (path / "core").mkdir()
    (path / "core/Arduino.h").write_text(ARDUINO_H)
    return path / "DemoModel"


@needs_wheel
@pytest.mark.parametrize("header", ["Chirale_TensorFlowLite.h", "TensorFlowLite.h"])
def test_sketches_run_with_the_library_that_depends_names_and_with_another(tmp_path: Path, header: str) -> None:
    library = arduino_library(tmp_path, tiny_model())
    (tmp_path / "core" / header).write_text("")
    entry = '#include "Arduino.h"\nSerialShim Serial;\nextern "C" int entry() { setup(); loop(); fflush(stdout); return 1; }\n'
    sources = sorted((library / "src").glob("*.cpp"))
    # The builder makes C++ of a sketch by including Arduino.h before it.
    flags = ["-std=gnu++11", "-DARDUINO=10819", f"-I{tmp_path}/core", f"-I{library}/src", "-include", "Arduino.h", "-x", "c++"]
    text = on_host(tmp_path, entry, [*sources, library / "examples/self_test/self_test.ino"], *flags)
    assert text.splitlines().count(f"demo_model {SELF_TEST_PASS}") == 2, text  # the log's, and the serial monitor's
    text = on_host(tmp_path, entry, [*sources, library / "examples/classify/classify.ino"], *flags)
    times, ms, said = text.splitlines()
    assert times == "net,ms" and re.fullmatch(r"model_int8.tflite,\d+\.\d{3}", ms) and re.fullmatch(r"class \d \d+ %", said), text


@needs_arm
@pytest.mark.skipif(not ARDUINO_TREE.is_dir(), reason="the Arduino library's TFLM is not beside the checkout (../shared/tflm_arduino)")
def test_the_library_compiles_against_the_arduino_tree(tmp_path: Path) -> None:
    """Arduino's own interpreter of December 2023, as its builder compiles: C++14, its version defined, no flags of a library."""
    model = tiny_model()
    library = arduino_library(tmp_path, model)
    (tmp_path / "core/peripherals").mkdir()
    (tmp_path / "core/peripherals/peripherals.h").write_text("")  # which the tree lacks: it is a sketch's own hardware
    third = ARDUINO_TREE / "third_party"
    includes = [ARDUINO_TREE, third / "flatbuffers/include", third / "gemmlowp", third / "ruy"]
    flags = ["-std=gnu++14", "-DARDUINO=10819", f"-I{library}/src", f"-I{tmp_path}/core", *(f"-isystem{path}" for path in includes)]
    sketches = sorted((library / "examples").glob("*/*.ino"))
    assert [path.stem for path in sketches] == ["classify", "self_test"]
    for source in [*sorted((library / "src").glob("*.cpp")), *sketches]:
        command = [*COMPILER, *flags, "-Wall", "-Wextra", "-Werror", "-include", "Arduino.h", "-x", "c++", "-c", str(source)]
        done = subprocess.run([*command, "-o", str(tmp_path / "o.o")], capture_output=True, text=True, check=False, timeout=100)
        assert (done.returncode, done.stderr) == (0, ""), source
