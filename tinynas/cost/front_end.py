"""What a front end takes beside its network: SRAM, stack, flash and instructions of the C that the firmware folder holds.

SRAM and tables follow from the parameters. Code and stack were measured of compiled objects, instructions counted on emulated cores over
sounds that take most (front_end.json, written by benchmarks/front_end_costs.py); a frame's instructions are a sum of terms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

from tinynas.cost.latency import RATES, LatencyModel
from tinynas.cost.sound_folder import around_bytes
from tinynas.front_end import FrontEnd

if TYPE_CHECKING:  # numpy, and the tables made with it, are loaded where a network has a front end
    import numpy as np
    from numpy.typing import NDArray

#: Answers of the network that the firmware keeps and averages.
SMOOTHED = 4
#: So many times in a clip the network is asked.
HOPS = 4
#: Bytes of the counters beside the frames and the answers: where each stands, and for how long nothing is told.
COUNTERS_BYTES = 16
#: The same where the network takes one frame at a time: of the answers, and of what is not told.
STREAM_COUNTERS_BYTES = 8
#: The word in whose first byte the classifier of a network as C says whether there was an answer.
ANSWERED_BYTES = 4
#: More than the most that was measured of code, and of stack: other sizes of the same code take a few other instructions.
SPARE_CODE_BYTES, SPARE_STACK_BYTES = 64, 32
#: What a frame's instructions are a sum of, by :func:`terms`.
TERMS = ("frame", "samples", "pairs", "turned", "halves", "frequencies", "channels", "noise", "gain", "cosines")


class Measured(NamedTuple):
    """What was measured on a core, with arm-none-eabi-gcc 12.2 at -O2."""

    code: Mapping[str, int]
    """By :func:`variant`: bytes of code, the C library's functions included, tables not."""
    stack: int
    """Most bytes of stack below a call."""
    instructions: Mapping[str, float]
    """For each of :data:`TERMS`, of a frame that takes most."""


@dataclass(frozen=True, slots=True)
class FrontEndCost:
    """What a front end and what stands around it take."""

    front_end: FrontEnd
    """Of which this is the cost."""
    state_bytes: int
    """SRAM that it computes in."""
    kept_bytes: int
    """SRAM of the frames of a clip, and of the answers that are averaged."""
    table_bytes: int
    code_bytes: int
    around_bytes: int
    """Flash of what stands between it and an answer where the network is C: what hears, the classifier, the labels; 0 around a model file,
    whose folder :class:`tinynas.cost.code_flash.Code` holds."""
    stack_bytes: int
    """Stack below a call; the network's is not taken at the same time."""
    instructions: int | None
    """Most of one frame; None on a core where none were counted."""
    latency_ms: float | None
    """Of one frame; None without a clock or evidence."""
    measured: bool
    """Whether code and stack were measured on the core asked for: else they are the most of those that were."""
    every: int | None = None
    """Frames from one answer to the next of a network that takes one at a time; None: it hears the last clip, :data:`HOPS` times in one."""

    @property
    def sram_bytes(self) -> int:
        """All of it, stack aside."""
        return self.state_bytes + self.kept_bytes

    @property
    def flash_bytes(self) -> int:
        """Tables and code."""
        return self.table_bytes + self.code_bytes

    @property
    def program_bytes(self) -> int:
        """All that the folder adds to a program beside its network."""
        return self.flash_bytes + self.around_bytes

    @property
    def hop(self) -> int:
        """Frames from one answer of the network to the next."""
        return max(1, self.front_end.frames // HOPS) if self.every is None else self.every

    @property
    def hop_ms(self) -> int:
        """The same in milliseconds."""
        return self.hop * self.front_end.stride_ms

    @property
    def time_share(self) -> float | None:
        """Share of the processor's time that it takes while it listens; None without a time of a frame."""
        return None if self.latency_ms is None else self.latency_ms / self.front_end.stride_ms

    def network_share(self, latency_ms: float | None) -> float | None:
        """The same of its network, an inference of which takes ``latency_ms``, every :attr:`hop_ms`."""
        return None if latency_ms is None else latency_ms / self.hop_ms

    def to_json(self) -> dict[str, object]:
        """As ``estimate --json`` shows it."""
        return {
            "what": self.front_end.summary,
            "frames": self.front_end.frames,
            "sram_bytes": self.sram_bytes,
            "state_bytes": self.state_bytes,
            "flash_bytes": self.flash_bytes,
            "table_bytes": self.table_bytes,
            "around_bytes": self.around_bytes,
            "stack_bytes": self.stack_bytes,
            "frame_instructions": self.instructions,
            "frame_ms": self.latency_ms,
            "hop_ms": self.hop_ms,
            "time_share": self.time_share,
        }


class FrontEndCosts(NamedTuple):
    """The same of N networks, as arrays; NaN where a figure is not known."""

    sram_bytes: NDArray[np.int64]
    flash_bytes: NDArray[np.int64]
    program_bytes: NDArray[np.int64]
    stack_bytes: NDArray[np.int64]
    latency_ms: NDArray[np.float64]

    @staticmethod
    def of(costs: Sequence[FrontEndCost]) -> FrontEndCosts:
        """Of some front ends, in their order."""
        import numpy as np

        return FrontEndCosts(
            np.array([cost.sram_bytes for cost in costs], np.int64),
            np.array([cost.flash_bytes for cost in costs], np.int64),
            np.array([cost.program_bytes for cost in costs], np.int64),
            np.array([cost.stack_bytes for cost in costs], np.int64),
            np.array([math.nan if cost.latency_ms is None else cost.latency_ms for cost in costs]),
        )

    def take(self, which: NDArray[np.int64]) -> FrontEndCosts:
        """Of networks, the front end of each by its number."""
        sram, flash, program, stack, latency = self
        return FrontEndCosts(sram[which], flash[which], program[which], stack[which], latency[which])


@lru_cache(maxsize=1)
def measured() -> Mapping[str, Measured]:
    """The table by core."""
    read = json.loads(resources.files("tinynas.cost").joinpath("front_end.json").read_text(encoding="utf-8"))
    return {core: Measured(row["code"], row["stack"], row["instructions"]) for core, row in read.items()}


def variant(front_end: FrontEnd) -> str:
    """What the code depends on: the steps it has, and whether the FFT's length is a power of four."""
    steps = [name for name, there in (("noise", front_end.noise_reduction), ("gain", front_end.pcan)) if there]
    return " ".join([front_end.kind, *steps, "odd" if _stages(front_end) % 2 else "even"])


def terms(front_end: FrontEnd) -> dict[str, int]:
    """How many there are in a frame of each of :data:`TERMS`: butterflies of four that multiply, and of two, by their names."""
    from tinynas.sound.tables import tables_of

    tables = tables_of(front_end)
    pairs, kept = front_end.fft_size // 2, front_end.noise_reduction or front_end.pcan
    odd = _stages(front_end) % 2
    length, turned = 1 + odd, 0
    while length < pairs:  # a stage of four: all butterflies but each transform's first one turn what they join
        turned += pairs // 4 - pairs // (4 * length)
        length *= 4
    return {
        "frame": 1,
        "samples": front_end.window,
        "pairs": pairs,
        "turned": turned,
        "halves": pairs // 2 * odd,
        "frequencies": len(tables.rising),
        "channels": front_end.bins,
        "noise": front_end.bins * kept,
        "gain": front_end.bins * front_end.pcan,
        "cosines": front_end.bins * front_end.coefficients * (front_end.kind == "mfcc"),
    }


def _stages(front_end: FrontEnd) -> int:
    """Binary digits of the FFT's length: two of them are a stage, one that is left over is a stage of its own."""
    return (front_end.fft_size // 2).bit_length() - 1


def state_bytes(front_end: FrontEnd) -> int:
    """What the C structure takes."""
    kept = front_end.noise_reduction or front_end.pcan
    samples = 2 * front_end.window + 2 * front_end.bins * (front_end.kind == "mfcc")
    return 2 * front_end.fft_size + 4 * front_end.bins * kept + _aligned(samples) + 4


def kept_bytes(front_end: FrontEnd, classes: int, *, compiled: bool = False, stream: bool = False) -> int:
    """What the frames of a clip and the answers of a network of ``classes`` take; of a ``stream`` one frame. ``compiled``: the network is
    C, whose classifier keeps whether there was an answer."""
    frames, counters = (1, STREAM_COUNTERS_BYTES) if stream else (front_end.frames, COUNTERS_BYTES)
    return _aligned(frames * front_end.features + SMOOTHED * classes) + counters + ANSWERED_BYTES * compiled


def table_bytes(front_end: FrontEnd) -> int:
    """What the tables take in flash."""
    from tinynas.sound.tables import LOG_CURVE, tables_of

    tables = tables_of(front_end)
    width = 2 if int(tables.widths.max()) > 255 else 1
    total = 2 * front_end.window + 2 * len(tables.sine) + width * len(tables.widths) + 2 * len(tables.rising) + 2 * len(LOG_CURVE)
    total += 0 if tables.gain is None else 2 * len(tables.gain)
    return total + (0 if tables.cosine is None else 2 * tables.cosine.size)


def front_end_cost(
    front_end: FrontEnd,
    classes: int,
    *,
    core: str | None = None,
    clock_mhz: float | None = None,
    timing: LatencyModel | None = None,
    compiled: bool = False,
    every: int | None = None,
) -> FrontEndCost:
    """The cost of ``front_end`` before a network of ``classes``; time by the cycles that ``timing`` has for operators without products.

    ``compiled``: the network is C, and no model file with its interpreter. ``every``: it takes one frame at a time, keeps what it needs of
    earlier ones itself, and answers once in so many; None: it hears whole clips.
    """
    own = None if core is None else measured().get(core)
    counting = tuple(measured().values()) if own is None else (own,)
    executed = None
    if own is not None:
        executed = round(sum(own.instructions[name] * count for name, count in terms(front_end).items()))
    latency = None
    if executed is not None and clock_mhz is not None and timing is not None:
        latency = float(timing.ms(executed * timing.cycles[RATES.index("others")], clock_mhz))
    return FrontEndCost(
        front_end,
        state_bytes(front_end),
        kept_bytes(front_end, classes, compiled=compiled, stream=every is not None),
        table_bytes(front_end),
        max(each.code[variant(front_end)] for each in counting) + SPARE_CODE_BYTES,
        around_bytes("clip" if every is None else "frame", classes, core) if compiled else 0,
        max(each.stack for each in counting) + SPARE_STACK_BYTES,
        executed,
        latency,
        own is not None,
        every,
    )


def _aligned(size: int) -> int:
    return -(-size // 4) * 4
