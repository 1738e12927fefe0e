"""What the firmware folder says of itself to Arduino, PlatformIO, ESP-IDF and Zephyr: names, version, license, and the Arduino library."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from tinynas import __version__
from tinynas.config import Config

#: The Arduino library that depends= names, as its own library.properties spells it, and the first version with the header included.
ARDUINO_TFLM = "Chirale_TensorFLowLite"
ARDUINO_TFLM_OWNER = "spaziochirale"
ARDUINO_TFLM_SINCE = "2.0.0"

#: Name of a network that has none.
UNNAMED = "tinynas_model"

#: Longest name in characters: ESP-IDF's registry takes 64, Arduino 63, and a prefix or suffix may come on top.
LONGEST_NAME = 48
#: Characters of a title in manifests.
LONGEST_TITLE = 100

#: https://semver.org, its suggested expression without group names.
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?"
)
#: https://spdx.github.io/spdx-spec, annex "SPDX license expressions": ids joined by AND, OR and WITH, with parentheses.
_SPDX_TERM = r"\(*[A-Za-z0-9][A-Za-z0-9.-]*\+?\)*"
_SPDX = re.compile(rf"{_SPDX_TERM}( (AND|OR|WITH) {_SPDX_TERM})*")
_URL = re.compile(r"https?://[A-Za-z0-9][^\s\"'\\<>@{}|^`]*")


def _nameable(text: str) -> str:
    if not re.search("[0-9A-Za-z]", text):
        raise PydanticCustomError(
            "package_name", "must hold a letter of a to z or a digit, such as front-door; leave it out for the network's"
        )
    return text


def _semver(text: str) -> str:
    if not _SEMVER.fullmatch(text):
        raise PydanticCustomError("semver", "must be a semantic version, such as 1.2.0")
    return text


def _spdx(text: str) -> str:
    if not _SPDX.fullmatch(text) or text.count("(") != text.count(")"):
        raise PydanticCustomError("spdx", "must be an SPDX license expression, such as Apache-2.0 or MIT AND CC-BY-4.0")
    return text


def _url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise PydanticCustomError("url", "must be a web address, such as https://example.org/model")
    return text


class PackageOptions(Config):
    """What the manifests of the folder ``c/`` say; for whoever publishes it."""

    name: Annotated[str, AfterValidator(_nameable)] | None = None
    """Its name, made valid for each package system; none: the network's."""
    version: Annotated[str, AfterValidator(_semver)] | None = None
    """Its semantic version; none: that of tinynas, with the first digits of the model's SHA-256 behind a ``+``."""
    license: Annotated[str, AfterValidator(_spdx)] = "Apache-2.0"
    """SPDX license expression. The code's by default; the model is its owner's, whose license belongs in here before it is published."""
    url: Annotated[str, AfterValidator(_url)] | None = None
    """Page of the package; none: the runtime's."""


def semver(version: str) -> str:
    """A Python version (PEP 440) as a semantic one: ``0.4.0.dev1`` is ``0.4.0-dev1``, ``0.4rc1`` is ``0.4.0-rc1``.

    Raises ValueError for a text that does not begin with a number.
    """
    match = re.match(r"(\d+(?:\.\d+){0,2})(.*)", version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    numbers = [str(int(number)) for number in match[1].split(".")]
    release = ".".join([*numbers, "0", "0"][:3])
    rest, _, local = match[2].partition("+")
    before, build = (".".join(re.findall(r"[0-9A-Za-z]+", part)) for part in (rest, local))
    # A numeric identifier of a pre-release must not begin with 0.
    before = ".".join(str(int(part)) if part.isdigit() else part for part in before.split(".")) if before else ""
    return release + (f"-{before}" if before else "") + (f"+{build}" if build else "")


def _of_model(version: str, model_sha256: str) -> str:
    return f"{version}{'.' if '+' in version else '+'}{model_sha256[:8]}"


def identifier(name: str) -> str:
    """``name`` as a C++ namespace: lower case letters, digits and single underscores, at most :data:`LONGEST_NAME` long.

    ``model`` in it keeps it off reserved words and other people's names. It is a valid name for CMake targets, ESP-IDF components,
    Zephyr modules and PlatformIO libraries too, and in capitals one for macros and Kconfig.
    """
    word = re.sub(r"_+", "_", re.sub(r"[^0-9A-Za-z]", "_", name)).strip("_").lower()
    if not word or word[0].isdigit():
        word = f"model_{word}".rstrip("_")
    elif not (word.endswith("_model") or word.startswith("model_") or word == "model"):
        word = f"{word}_model"
    if len(word) <= LONGEST_NAME:
        return word
    # Two long names with one beginning stay two names.
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    tail = f"_{digest}_model"
    return word[: LONGEST_NAME - len(tail)].rstrip("_") + tail


def arduino_name(namespace: str) -> str:
    """The Arduino library's name and primary header for a namespace: ``mcunet_tiny2_model`` is ``McunetTiny2Model``.

    Names that begin with "Arduino" are reserved for Arduino's own libraries.
    """
    name = "".join(part[:1].upper() + part[1:] for part in namespace.split("_"))
    return f"Tinynas{name}" if name.lower().startswith("arduino") else name


def plain(text: str) -> str:
    """``text`` for comments, manifests and tables: one line, nothing that ends a string or a cell."""
    return re.sub(r"[^\w .,:;()+-]", "_", text, flags=re.ASCII) or "_"


def manifest_words(name: str, package: PackageOptions, model_sha256: str, sentence: str, page: str) -> dict[str, str]:
    """Words of the templates that the manifests hold. ``sentence`` says what the network is; ``page`` is the runtime's."""
    title = plain(name)[:LONGEST_TITLE].strip() or "_"
    namespace = identifier(name)
    description = f"{title}: {sentence}"
    return {
        "title": title,
        "sentence": description,
        "ns": namespace,
        "GUARD": namespace.upper(),
        "KCONFIG": f"TINYNAS_{namespace.upper()}",
        "arduino_name": arduino_name(namespace),
        "package_version": package.version or _of_model(semver(__version__), model_sha256),
        "package_license": package.license,
        "package_url": package.url or page,
        "sentence_json": json.dumps(description),
    }


def arduino_zip(library: str, files: Mapping[str, bytes], own: Mapping[str, bytes]) -> bytes:
    """The library as Arduino and PlatformIO install it: sources under ``src/``, C++ as .cpp, sketches under ``examples/``.

    ``files`` are those of the firmware folder, ``own`` those that only the library has, by their path inside it. Stored, not
    deflated, with one date: equal bytes everywhere.
    """
    content = {f"{library}/{path}": data for path, data in own.items()}
    for path, data in files.items():
        stem, _, suffix = path.rpartition(".")
        if "/" not in path and suffix in {"h", "c", "cc"} and not stem.endswith("_main"):
            content[f"{library}/src/{stem}.{'cpp' if suffix == 'cc' else suffix}"] = data
    for path in ("library.json", "LICENSE"):
        content[f"{library}/{path}"] = files[path]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(content):
            entry = zipfile.ZipInfo(path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, content[path])
    return buffer.getvalue()
