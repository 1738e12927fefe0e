"""Numbers as people read them: the same words in the terminal and on the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, assert_never

from tinynas.arch import Arch, Axes, ConvLayer, MBConv, Pool, Separable, pair
from tinynas.config import format_size
from tinynas.cost import Cost
from tinynas.cost.quantities import QUANTITIES, milliseconds
from tinynas.cost.quantities import count as count
from tinynas.cost.stepwise import StreamCost
from tinynas.errors import counted, printable
from tinynas.inputs import InputKind
from tinynas.records import instructions_words, network_figures, of_network
from tinynas.space import input_text

KIND_WORDS: dict[InputKind, str] = {"rgb": "RGB", "gray": "gray", "features": "features"}


def text(value: object) -> str:
    """``value`` as HTML that is read and not obeyed: names come from anywhere. What cannot be seen is written out."""
    return html.escape(printable(value, lines=True))


def percent(share: float | None, digits: int = 1) -> str:
    """A share (0..1) as ``84.2 %``; a dash where it is not known."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def percent_ticks(shares: Iterable[float]) -> str:
    """The format of an axis over ``shares``: with a decimal where whole percents would say the same several times."""
    known = list(shares)
    return ".0%" if known and max(known) - min(known) > 0.05 else ".1%"


def points(difference: float, digits: int = 1) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * difference:+.{digits}f} points"


def amount(name: str, value: float | None) -> str:
    """The quantity ``name`` for people: KiB, M, ms; a dash where it is not known."""
    return QUANTITIES[name].text(value)


def size(size_bytes: float | None) -> str:
    """Bytes for people; a dash where they are not known."""
    return "–" if size_bytes is None else format_size(round(size_bytes))


def stream_words(stream: StreamCost) -> str:
    """What a network keeps and computes that takes a frame at a time."""
    kept = f"kept {size(stream.state_bytes)}, inside a step {size(stream.passing_bytes)}, counters {stream.counter_bytes} B"
    each = f"MACs a step {stream.average_macs:,.1f} on average, {stream.most_macs:,} at most"
    second = "" if stream.macs_a_second is None else f", {stream.macs_a_second:,.0f} a second"
    return f"{kept}; {each}{second}; outputs from frame {stream.first} on, every {counted(stream.every, 'frame')}"


def title(name: str) -> str:
    """What people call the quantity ``name``."""
    return QUANTITIES[name].title


def short_names(nets: Sequence[str]) -> list[str]:
    """``nets`` as a table's heads have them: of paths the last part, where that is another for each."""
    last = [net.replace("\\", "/").rstrip("/").rpartition("/")[2] for net in nets]
    return last if len(set(last)) == len(last) else list(nets)


def duration(seconds: float) -> str:
    """``4m12s``; tenths below ten seconds."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{secs:02d}s" if minutes else f"{secs}s"


def time_words(seconds: float) -> str:
    """A time that somebody set: ``40 seconds``, ``8 minutes``, ``1.5 hours``."""
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return counted(seconds / length, unit)
    return counted(seconds, "second")


def roughly(seconds: float) -> str:
    """A time that is estimated: ``under a minute``, ``about 55 min``, ``about 2.5 h``, ``about 3 days``."""
    if seconds < 60:
        return "under a minute"
    minutes, hours = round(seconds / 60), seconds / 3600
    if minutes < 90:
        return f"about {minutes} min"
    if hours < 48:
        return f"about {hours:.1f} h" if hours < 9.95 else f"about {hours:.0f} h"
    return f"about {hours / 24:.0f} days"


def front_end_rows(cost: Cost) -> list[tuple[str, str]]:
    """What a front end is, and its work beside its network's, as (title, words); none where the network has none."""
    found = cost.front_end
    if found is None:
        return []
    executed = "" if found.instructions is None else f"{count(found.instructions)} instructions a frame"
    frame = ", ".join(part for part in (executed, "" if found.latency_ms is None else milliseconds(found.latency_ms)) if part)
    rows = [("front end", found.front_end.summary), *([("its work", frame)] if frame else [])]
    own, network = found.time_share, found.network_share(cost.latency_ms)
    if own is not None and network is not None:
        heard = f"{percent(own)} for the front end, {percent(network)} for the network every {found.hop_ms:,} ms"
        rows.append(("processor's time", heard))
    return rows


def verified_words(document: Mapping[str, Any]) -> str:
    """What verifying a network found (the document of ``tinynas verify --json``), in a sentence."""
    if of_network(document):
        return _network_words(document)
    where = f"emulated {document['target']}, {document['kernels']} kernels"
    if document["refused"]:
        return f"{where}: does not run"
    needed = document["needed_arena_bytes"]
    needs = "more than was promised" if needed is None else f"{needed:,} B"
    parts = [f"{needs} of arena to start, {document['promised_arena_bytes']:,} promised"]
    if document["compared_outputs"]:
        parts.append(f"{document['equal_outputs']} of {counted(document['compared_outputs'], 'output')} equal bit for bit")
    if firmware := document.get("firmware"):
        parts.append(f"the firmware {'FAILS' if firmware['failed'] else 'passes'} its self-test")
        promised = document.get("promised_program_bytes")
        beside = "" if promised is None else f", {promised:,} promised"
        parts.append(f"{firmware['program_bytes']:,} B of flash in all{beside}")
    parts.append(f"{document['code_bytes']:,} B of TFLM's code")
    parts.append(f"{sum(row['instructions'] for row in document['instructions']):,} instructions")
    return f"{where}: {', '.join(parts)}"


def _network_words(document: Mapping[str, Any]) -> str:
    where = f"emulated {document['target']}, {document['runtime']}"
    if document["refused"]:
        return f"{where}: does not run"
    parts = []
    for what, promised, measured in network_figures(document):
        beside = "" if promised is None else f" ({promised:,} promised)"
        parts += [] if measured is None else [f"{what} {measured:,} B{beside}"]
    if document["compared_outputs"]:
        parts.append(f"{document['equal_outputs']} of {counted(document['compared_outputs'], 'output')} equal bit for bit")
    parts.append(f"the firmware {'FAILS' if document['firmware']['failed'] else 'passes'} its self-test")
    parts.append(instructions_words(document))
    return f"{where}: {', '.join(parts)}"


def shape(sizes: Sequence[int]) -> str:
    """``48x48x3``."""
    return "x".join(str(size) for size in sizes)


def subspace_input(row: Mapping[str, Any]) -> str:
    """The size of input of a row of ``tinynas spaces --budget B --json``: ``48 px``, ``49 frames of 40``."""
    if "input" in row:
        return str(row["input"])
    return f"{shape(row['resolution'] if isinstance(row['resolution'], list) else [row['resolution']])} px"


def summary(arch: Arch) -> list[str]:
    """An architecture in a few short lines: input, stem, runs of blocks by width, head."""
    heard = arch.front_end
    read = f"{arch.height}x{arch.width}" if heard is None else f"{input_text(arch.input)} {heard.kind}"
    lines = [f"input {read} {KIND_WORDS[arch.input.kind]}"]
    if arch.stem is not None:
        lines.append(f"stem {_conv(arch.stem)}")
    run: list[str] = []
    width: int | None = None
    for block in arch.blocks:
        out = None if isinstance(block, Pool) else block.out
        if run and out is not None and out != width:
            lines.append(" ".join(run))
            run = []
        if not run and out is not None:
            run = [f"{out} ch:"]
        width = out if out is not None else width
        run.append(_block(block))
    if run:
        lines.append(" ".join(run))
    if arch.head is not None:
        lines.append(f"head {_conv(arch.head)}")
    return lines


def _conv(conv: ConvLayer) -> str:
    stride = f", stride {axes_text(conv.stride)}" if pair(conv.stride) != (1, 1) else ""
    return f"{shape(pair(conv.kernel))} to {conv.out}{stride}" + (f", dilation {axes_text(conv.dilation)}" if conv.dilation != 1 else "")


def axes_text(size: Axes) -> str:
    """A size for both directions, ``3``, or where they differ height x width: ``3x5``."""
    height, width = pair(size)
    return str(height) if height == width else shape((height, width))


def _block(block: MBConv | Separable | ConvLayer | Pool) -> str:
    stride = f"s{axes_text(block.stride)}" if pair(block.stride) != (1, 1) else ""
    kernel = axes_text(block.kernel)
    if not isinstance(block, Pool) and block.dilation != 1:
        kernel += f"d{axes_text(block.dilation)}"
    match block:
        case MBConv():
            ratio = f"e{block.expand:g}" if block.mid is None or block.expand == 1 else f"m{block.mid}"
            return f"k{kernel}{ratio}{stride}{'+' if block.residual else ''}"
        case Separable():
            return f"sep{kernel}{stride}"
        case ConvLayer():
            return f"conv{kernel}{stride}"
        case Pool():
            return f"{block.op}pool{kernel}{stride}"
    assert_never(block)
