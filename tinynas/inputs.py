"""Input: what a network reads, and what its stored numbers mean; the one place of that formula.

A network reads unsigned bytes (height, width, channels): pixels, or features that a front end made. Everything that
turns them into real numbers (training, calibration, evaluation, the converter, the firmware, the file's metadata) takes
scale and zero point from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from tinynas.front_end import FrontEnd

InputKind = Literal["rgb", "gray", "features"]
#: Channels of the kinds that fix them.
KIND_CHANNELS: dict[InputKind, int] = {"rgb": 3, "gray": 1}


_FORMULA = re.compile(r"\((pixel|value)-(\d{1,3})\)/((?!0+(?:\.0*)?(?:e|$))\d+(?:\.\d+)?(?:e[+-]?\d{1,2})?)")


def kind_of_channels(channels: int) -> InputKind:
    """The kind that an input of ``channels`` has where none is named: 3 is rgb, 1 gray, anything else features."""
    return next((kind for kind, count in KIND_CHANNELS.items() if count == channels), "features")


@dataclass(frozen=True, slots=True)
class Input:
    """The input of a network. real = (stored - zero_point) * scale, stored being a byte 0..255."""

    height: int
    width: int
    channels: int
    kind: InputKind = "rgb"
    scale: float = 1.0 / 128.0
    """Exactly representable in float32, so that 8-bit inputs lose nothing."""
    zero_point: int = 128
    front_end: FrontEnd | None = None
    """What makes the stored bytes out of sound; None where they are not made of sound, or by something else."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def as_map(self) -> Input:
        """Of a series of given features (a channel a feature) the map of frames x features that the same bytes are, which code around a
        network takes as it takes a gray image; any other input as it is."""
        if self.kind != "features" or self.front_end is not None or self.width != 1:
            return self
        return replace(self, width=self.channels, channels=1, kind="gray")

    @property
    def noun(self) -> str:
        """What people call one of them, in the singular: an image, a sound, or an input where features come from elsewhere."""
        if self.front_end is not None:
            return "sound"
        return "input" if self.kind == "features" else "image"

    @property
    def int8_zero_point(self) -> int:
        """The zero point of the same grid where bytes are stored as int8: byte - 128."""
        return self.zero_point - 128

    @property
    def formula(self) -> str:
        """For people and files: ``(pixel-128)/128``."""
        what = "value" if self.kind == "features" else "pixel"
        return f"({what}-{self.zero_point})/{1.0 / self.scale:g}"

    @property
    def written(self) -> str:
        """What files say of it: :attr:`formula`, and behind a bar the front end's parameters as JSON where there is one."""
        return self.formula if self.front_end is None else f"{self.formula}|{self.front_end.model_dump_json()}"

    @staticmethod
    def read(formula: str, shape: tuple[int, int, int]) -> Input | None:
        """The input of ``shape`` (height, width, channels) whose :attr:`formula` is given; None where that is no such formula."""
        found = _FORMULA.fullmatch(formula)
        if found is None:
            return None
        kind = "features" if found[1] == "value" else kind_of_channels(shape[2])
        return Input(*shape, kind, 1.0 / float(found[3]), int(found[2]))

    def real(self, stored: Any) -> Any:
        """The real numbers of ``stored`` bytes: a number, a numpy array or a tensor that already is of a float type."""
        return (stored - self.zero_point) * self.scale
