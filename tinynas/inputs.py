"""Input: what a network reads, and what its stored numbers mean; the one place of that formula.

A network reads unsigned bytes (height, width, channels): pixels, or features that a front end made. Everything that
turns them into real numbers (training, calibration, evaluation, the converter, the firmware, the file's metadata) takes
scale and zero point from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

InputKind = Literal["rgb", "gray", "features"]
#: Channels of the kinds that fix them.
KIND_CHANNELS: dict[InputKind, int] = {"rgb": 3, "gray": 1}


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

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def int8_zero_point(self) -> int:
        """The zero point of the same grid where bytes are stored as int8: byte - 128."""
        return self.zero_point - 128

    @property
    def formula(self) -> str:
        """For people and files: ``(pixel-128)/128``."""
        what = "value" if self.kind == "features" else "pixel"
        return f"({what}-{self.zero_point})/{1.0 / self.scale:g}"

    def real(self, stored: Any) -> Any:
        """The real numbers of ``stored`` bytes: a number, a numpy array or a tensor that already is of a float type."""
        return (stored - self.zero_point) * self.scale
