"""Region: one of a board's memories, and what lies in it; ``sram: 320 KiB`` in a budget is one of them for everything.

TFLM's arena is one piece of memory, so it lies in one region whole, and what a network may use is what that region leaves. (TFLM can
also have its persistent structures in a second piece, by ``MicroAllocator::Create`` of two arenas. Our firmware does not.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from tinynas.config import Bytes, Config, format_size

Use = Literal["arena", "application", "stack", "frame_buffer", "runtime"]
"""What needs memory: the network's arena, and the reserves of :class:`tinynas.budget.SramReserves`."""
USES: tuple[Use, ...] = get_args(Use)


class Region(Config):
    """One contiguous memory of a board."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
    """A name for people, such as ``dtcm``."""
    size: Bytes
    """Its size, with a unit."""
    slow: bool = False
    """Whether it is behind a bus that is many times slower than the core (PSRAM, SDRAM): no time is known for an arena there."""
    use: tuple[Use, ...] = ()
    """What lies in it: ``arena`` (in one region alone), and the reserves ``application``, ``stack``, ``frame_buffer``, ``runtime``."""
    section: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.$]{1,80}$")] | None = None
    """Linker section of it, for the arena of the firmware, such as ``.axi_sram``; none where the linker puts it there by itself."""


def _sound(regions: tuple[Region, ...]) -> tuple[Region, ...]:
    def fault(rule: str, **told: str) -> PydanticCustomError:
        return PydanticCustomError("regions", rule, told)

    for name, count in Counter(region.name for region in regions).items():
        if count > 1:
            raise fault("two regions are called {name}: give each a name of its own", name=name)
    for use, count in Counter(use for region in regions for use in region.use).items():
        if count > 1:
            raise fault("{use} lies in two places: leave it in the use of one region", use=use)
    for region in regions:
        if region.size <= 0:
            raise fault("the region {name} must be more than 0 B", name=region.name)
    if not any("arena" in region.use for region in regions):
        raise fault("no region has the arena: add it to the use of the one where the network shall lie, such as use: [arena]")
    return regions


def _form(value: object) -> str | None:
    if isinstance(value, Mapping):
        return None
    return "regions" if isinstance(value, (list, tuple)) else "size"


Sram: TypeAlias = Annotated[
    Annotated[Bytes, Tag("size")] | Annotated[tuple[Region, ...], AfterValidator(_sound), Tag("regions")],
    Discriminator(
        _form,
        custom_error_type="sram",
        custom_error_message='must be a size with a unit, such as "320 KiB", or a list of regions',
    ),
]
"""A size with a unit, or a list of regions."""


def regions_of(sram: int | tuple[Region, ...]) -> tuple[Region, ...]:
    """The regions of a budget's ``sram``: of a plain size one, called ``sram``, in which everything lies."""
    return sram if isinstance(sram, tuple) else (Region.model_construct(name="sram", size=sram, slow=False, use=USES, section=None),)


def arena_of(regions: Sequence[Region]) -> Region:
    """The region in which the arena lies."""
    return next(region for region in regions if "arena" in region.use)


def overfull(regions: Sequence[Region], kept: Mapping[str, int]) -> str | None:
    """Why the reserves ``kept``, bytes by use, do not lie in ``regions`` with room for an arena; None where they do."""
    placed = {use for region in regions for use in region.use}
    for use, size_bytes in kept.items():
        if size_bytes and use not in placed:
            return f"the reserve {use} ({format_size(size_bytes)}) lies in no region: add {use} to the use of one"
    for region in regions:
        uses = [use for use in region.use if kept.get(use)]
        taken = sum(kept[use] for use in uses)
        if taken > region.size or ("arena" in region.use and taken == region.size):
            rest = "nothing is left for a network" if "arena" in region.use else "more than there is"
            where = f"SRAM in the region {region.name}" if len(regions) > 1 else "SRAM"
            largest = max(uses, key=kept.__getitem__)
            remedy = f"lower reserves.sram.{largest} ({format_size(kept[largest])}), or give more memory"
            return f"the reserves take {format_size(taken)} of {format_size(region.size)} {where}: {rest}; {remedy}"
    return None


@dataclass(frozen=True)
class Placed:
    """What lies in a region."""

    region: Region
    bytes_of: dict[str, int]
    """Bytes by use, what takes nothing left out."""

    @property
    def used(self) -> int:
        """Bytes in use."""
        return sum(self.bytes_of.values())

    @property
    def fits(self) -> bool:
        """Whether it is large enough."""
        return self.used <= self.region.size

    def to_json(self) -> dict[str, Any]:
        """A row of ``regions`` in ``estimate --budget B --json``."""
        return {
            "name": self.region.name,
            "size_bytes": self.region.size,
            "slow": self.region.slow,
            "used_bytes": self.used,
            "uses": self.bytes_of,
            "fits": self.fits,
        }


def placed(regions: Sequence[Region], kept: Mapping[str, int], arena_bytes: int) -> tuple[Placed, ...]:
    """What lies where: an arena of ``arena_bytes`` and the reserves ``kept``, region by region."""
    needs = {"arena": arena_bytes, **kept}
    return tuple(Placed(region, {use: int(needs[use]) for use in region.use if needs.get(use)}) for region in regions)
