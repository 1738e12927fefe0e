"""Which numbers a model's input is made of: pixels as 0..1, -1..1, 0..255, by mean and std; as told, or as the file says.

::

    reading = read_pixels(inspected.facts)          # what the file says, else what is assumed
    reading = read_pixels(inspected.facts, "0..1")  # what the user says
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinynas.errors import UserError
from tinynas.export.facts import Grid, ModelFacts, input_table

AUTO = "auto"
FORMS = "0..1, -1..1, 0..255, any LOW..HIGH, imagenet, cifar10, mnist, caffe, or MEAN,STD"
"""What ``--pixels`` takes."""
_HINT = (
    f"use {FORMS}: one number each or one a channel, as torchvision's Normalize takes them (0.485,0.456,0.406,0.229,0.224,0.225), or of "
    "pixels 0..255 where a number is above 1 (127.5,127.5); bgr: in front turns the channels round"
)


@dataclass(frozen=True)
class Pixels:
    """real = (pixel - mean) / std, each one number or one a channel."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    """The network reads blue first; mean and std are in the network's order."""

    def real(self) -> NDArray[np.float64]:
        """(256, 1) or (256, channels): the input of each byte."""
        bytes_ = np.arange(256, dtype=np.float64)[:, None]
        return np.asarray((bytes_ - np.asarray(self.mean)) / np.asarray(self.std))

    def fits(self, channels: int) -> bool:
        """Whether there is a number for each of ``channels``."""
        return {len(self.mean), len(self.std)} <= {1, channels} and (channels == 3 or not self.bgr)

    @property
    def formula(self) -> str:
        """For people: ``(pixel-127.5)/127.5``."""
        mean, std = (
            f"{values[0]:.6g}" if len(values) == 1 else f"[{', '.join(f'{v:.6g}' for v in values)}]" for values in (self.mean, self.std)
        )
        return ("BGR " if self.bgr else "") + (f"(pixel-{mean})/{std}" if mean != "0" else f"pixel/{std}" if std != "1" else "pixel")


def _between(low: float, high: float, name: str = "") -> Pixels:
    std = 255 / (high - low)
    return Pixels(name or f"{low:g}..{high:g}", (-low * std + 0.0,), (std,))


def _normalized(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Pixels:
    """As torchvision.transforms.Normalize takes them: of pixel / 255."""
    return Pixels(name, tuple(255 * m for m in mean), tuple(255 * s for s in std))


NAMED: Mapping[str, Pixels] = {
    pixels.name: pixels
    for pixels in (
        _between(0, 1),
        _between(-1, 1),
        _between(0, 255),
        _between(-128, 127),
        _normalized("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        _normalized("cifar10", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        _normalized("mnist", (0.1307,), (0.3081,)),
        Pixels("caffe", (103.939, 116.779, 123.68), (1.0,), bgr=True),
    )
}
"""By name. The last four are what torchvision's examples and Keras' ``preprocess_input`` (mode "caffe") use."""
ASSUMED = "-1..1"
"""Of a float input of which nothing is known."""
CANDIDATES = ("0..1", "-1..1", "0..255", "imagenet")
"""What is tried where nothing is known."""


@dataclass(frozen=True)
class Reading:
    """How images become a model's input."""

    table: NDArray[np.generic]
    """(256,), or (256, channels): the input element of each byte."""
    name: str
    formula: str
    known_from: str
    known: bool = True
    """False where it is an assumption."""
    bgr: bool = False
    warning: str = ""

    def to_json(self) -> dict[str, object]:
        """As ``evaluate --json`` shows it."""
        return {"range": self.name, "formula": self.formula, "known_from": self.known_from, "known": self.known}


def parse_pixels(text: str, channels: int) -> Pixels:
    """What ``--pixels TEXT`` means for an input of ``channels``. Raises UserError with the forms that are understood."""
    word = text.strip().lower()
    if word.startswith("bgr:"):
        plain = parse_pixels(word.removeprefix("bgr:"), channels)
        pixels = Pixels(f"bgr:{plain.name}", plain.mean, plain.std, bgr=True)
    elif word in NAMED:
        pixels = NAMED[word]
    else:
        pixels = _parsed(text, word)
    if not pixels.fits(channels):
        raise UserError(
            f"--pixels {text}: is for {'3' if pixels.bgr else max(len(pixels.mean), len(pixels.std))} channels, the model reads {channels}",
            "give one mean and one std, or one of each a channel",
        )
    return pixels


def _parsed(text: str, word: str) -> Pixels:
    number = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
    if ends := re.fullmatch(rf"({number})\.\.({number})", word):
        low, high = float(ends[1]), float(ends[2])
        if not -1e6 < low < high - 1e-6 < 1e6:
            raise UserError(f"--pixels {text}: the first number must be the smaller one", _HINT)
        return _between(low, high, word)
    parts = [part for part in re.split(r"[\s,;:/\[\]()]+", word) if part]
    if len(parts) < 2 or len(parts) % 2 or not all(re.fullmatch(number, part) for part in parts):
        raise UserError(f"--pixels {text}: is not understood", _HINT)
    values = [float(part) for part in parts]
    mean, std = tuple(values[: len(values) // 2]), tuple(values[len(values) // 2 :])
    if min(std) < 1e-6 or max(map(abs, values)) > 1e6:
        raise UserError(f"--pixels {text}: std is {', '.join(f'{s:g}' for s in std)}; every std must be above 0, and sane", _HINT)
    if max(map(abs, values)) > 1:
        return Pixels(text, mean, std)
    return _normalized(text, mean, std)


def read_pixels(facts: ModelFacts, given: str = AUTO) -> Reading:
    """How the model's input is made of pixels: as ``given``, else as the file says, else as is mostly right (``known`` is False then).

    Asked in this order: tinynas's own metadata, TFLite's NormalizationOptions, the quantisation of the input or of a QUANTIZE
    right behind it, arithmetic with constants right behind it. Raises UserError for a text that is not understood.
    """
    channels, grid = facts.input_shape[2], facts.pixel_grid
    if given != AUTO:
        pixels = parse_pixels(given, channels)
        return _reading(facts, pixels, "given with --pixels", _cut_off(pixels, grid))
    if facts.formula_known:
        return Reading(
            input_table(facts), _span(facts.input.real(np.array([0.0, 255.0]))), facts.input.formula, "tinynas's metadata in the file"
        )
    problem = facts.told.problem
    if facts.told.mean:
        told = Pixels("", facts.told.mean, facts.told.std)
        named = _recognised(told.real(), channels)
        told = Pixels(named.name if named else _span(told.real()), told.mean, told.std)
        if not told.fits(channels):
            problem = f"TFLite metadata normalise {max(len(told.mean), len(told.std))} channels, the input has {channels}"
        elif grid is None or _clipped(told, grid) <= 0.1:
            return _reading(facts, told, "the file's TFLite metadata (NormalizationOptions)")
        else:
            problem = f"TFLite metadata say {told.formula}, which the input's quantisation ({_span(grid.ends)}) cannot hold: not used"
    if grid is not None:
        where = f"{'the QUANTIZE behind the float input' if facts.input_dtype == 'float32' else 'the quantisation of the input'}"
        where += f" (scale {grid.scale:.6g}, zero point {grid.zero_point})"
        found = _recognised(grid.ends, channels)
        if found is not None and (found.bgr or len(found.mean) > 1):
            return _reading(facts, found, where, problem)
        own = _steps(grid)
        known_from = where if found is not None else f"assumed: each step of {where} is a pixel value, {_span(grid.ends)}"
        name = _span(grid.ends) if found is None else found.name
        reading = _reading(facts, own, known_from, problem)
        formula = reading.formula if found is None else found.formula
        return Reading(reading.table, name, formula, known_from, found is not None, warning=problem)
    if facts.scaling is not None and (made := _made_for(*facts.scaling)):
        what = f"the arithmetic behind the input (x * {facts.scaling[0]:.4g} {facts.scaling[1]:+.4g})"
        return _reading(facts, NAMED[made], what, problem)
    return _reading(facts, NAMED[ASSUMED], "assumed: nothing in the file says what range its input has", problem, known=False)


def _made_for(factor: float, offset: float) -> str:
    """The range of which ``x * factor + offset`` makes what networks compute with: a spread of about one, around 0 or beginning there.

    "" where that is neither 0..255 nor 0..1. Of 0..1 it must be centred: a batch norm that reads -1..1 is not.
    """
    for name, width, aside in (("0..255", 255.0, 1.0), ("0..1", 1.0, 0.2)):
        spread = abs(factor) * width
        if 0.5 <= spread <= 6 and abs(offset + factor * width / 2) <= aside * spread:
            return name
    return ""


def candidates(facts: ModelFacts, used: Reading) -> dict[str, Reading]:
    """Other readings to try beside ``used``, by name."""
    found = [NAMED[name] for name in CANDIDATES if NAMED[name].fits(facts.input_shape[2])]
    readings = {pixels.name: _reading(facts, pixels, "tried") for pixels in found}
    return {used.name: used} | {
        name: reading
        for name, reading in readings.items()
        if not np.array_equal(np.broadcast_arrays(_columns(reading.table), _columns(used.table))[0], _columns(used.table))
    }


def _columns(table: NDArray[np.generic]) -> NDArray[np.generic]:
    return table if table.ndim == 2 else table[:, None]


def _reading(facts: ModelFacts, pixels: Pixels, known_from: str, warning: str = "", *, known: bool = True) -> Reading:
    real = pixels.real()
    if facts.input_dtype == "float32":
        table: NDArray[np.generic] = real.astype(np.float32)
    else:
        grid = Grid(facts.input_scale, facts.input_zero_point, facts.input_dtype)
        low, high = grid.limits
        steps = real / grid.scale + grid.zero_point
        plain = np.arange(low, high + 1, dtype=np.float64)[:, None]
        # Where each byte is within a step of the grid's own, it is that step: what firmware does, and rounding merges no two.
        elements = plain if np.abs(steps - plain).max() <= 1.01 else np.clip(np.rint(steps), low, high)
        table = elements.astype(facts.input_dtype)
    if table.shape[1] == 1:
        table = table[:, 0]
    return Reading(table, pixels.name, pixels.formula, known_from, known, pixels.bgr, warning)


def _cut_off(pixels: Pixels, grid: Grid | None) -> str:
    """A warning where the input's quantisation cannot hold what was asked for."""
    share = 0.0 if grid is None else _clipped(pixels, grid)
    if grid is None or share <= 0.02:
        return ""
    return (
        f"--pixels {pixels.name}: the file's own input range is {_span(grid.ends)}; {100 * share:.0f} % of pixel values are cut off by it"
    )


def _clipped(pixels: Pixels, grid: Grid) -> float:
    """The share of pixel values that ``grid`` cannot hold, to within two of its steps."""
    real, (low, high) = pixels.real(), grid.ends
    slack = 2 * grid.scale
    return float(((real < low - slack) | (real > high + slack)).mean())


def _steps(grid: Grid) -> Pixels:
    """Each of the grid's 256 steps as a byte."""
    return Pixels("", (float(grid.zero_point - grid.limits[0]),), (1 / grid.scale,))


def _recognised(real: NDArray[np.float64], channels: int) -> Pixels | None:
    """The named range with the ends of ``real``, to within 3 % of its width."""
    low, high = float(real.min()), float(real.max())
    for pixels in NAMED.values():
        ends = pixels.real()
        slack = 0.03 * float(np.ptp(ends))
        if pixels.fits(channels) and abs(low - ends.min()) <= slack and abs(high - ends.max()) <= slack:
            return pixels
    return None


def _span(real: NDArray[np.float64]) -> str:
    return f"{real.min():.3g}..{real.max():.3g}"
