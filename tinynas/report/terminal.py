"""Tables and progress for the terminal. Everything is a rich renderable; rich drops colors where ``NO_COLOR`` is set.

Where the output is no terminal, progress becomes a plain line now and then. Imports rich only.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from tinynas.budget import UNKNOWN, Budget
from tinynas.cost import Cost
from tinynas.cost.latency import latency_model, why_uncounted
from tinynas.cost.quantities import milliseconds, shown
from tinynas.cost.runtimes import runtime_named
from tinynas.errors import counted, printable
from tinynas.records import (
    CLASS_COLUMNS,
    FIGURE_TITLES,
    class_rows,
    expected_accuracy,
    gap_words,
    instructions_words,
    interval_words,
    listening_words,
    network_figures,
    of_network,
    threshold_words,
)
from tinynas.regions import Placed
from tinynas.report.small_plot import FrontPlot
from tinynas.report.words import (
    amount,
    count,
    duration,
    front_end_rows,
    percent,
    shape,
    short_names,
    size,
    stream_words,
    subspace_input,
    title,
)

#: Seconds between two plain progress lines where the output is no terminal.
PLAIN_EVERY = 15.0


@dataclass(frozen=True)
class Bar:
    """A bar of ``width`` cells filled to ``share``; beyond 1 it is full and red. ASCII where the terminal is."""

    share: float
    width: int = 12
    color: str = "cyan"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        eighths = round(min(max(self.share, 0.0), 1.0) * self.width * 8)
        if self.share > 0 and eighths == 0:
            eighths = 1
        full, part = divmod(eighths, 8)
        if options.ascii_only:
            text = "#" * round(eighths / 8) + "." * (self.width - round(eighths / 8))
        else:
            text = "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")
            text += "·" * (self.width - len(text))
        # Share over 1 is said by the text beside the bar too: color alone says nothing.
        yield Segment(text, Style.parse("red" if self.share > 1 else self.color))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


#: A table that is this much wider than the terminal may have its words on second lines; one that is wider still is stacked.
_FOLDED = 16


class _Rows:
    """A table that stays readable where the terminal is narrow: first it loses its bars, then words between the first column and
    the figures take second lines, then each row becomes a few short lines."""

    def __init__(self, columns: Sequence[str], right: Sequence[str], heads: int) -> None:
        self.columns, self.right, self.heads = tuple(columns), frozenset(right), heads
        self.rows: list[tuple[tuple[Text | Bar, ...], str]] = []

    def add_row(self, *cells: str | Text | Bar, style: str | None = None) -> None:
        """One row: strings, texts, bars. Text from outside is shown as it is."""
        self.rows.append((tuple(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells), style or ""))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        every = range(len(self.columns))
        words = [i for i in every if not any(isinstance(cells[i], Bar) for cells, _ in self.rows)]
        foldable = [i for i in words[self.heads :] if self.columns[i] not in self.right]
        for keep, folded in ((every, []), (words, []), (words, foldable)):
            widths = {i: self._width(i) for i in keep}
            over = sum(widths.values()) + 2 * (len(keep) - 1) - options.max_width
            if over > (_FOLDED if folded else 0):
                continue
            # The column with the most room to give gives first; none is narrower than its longest word.
            room = {i: widths[i] - self._width(i, whole=False) for i in folded}
            for i in sorted(room, key=lambda i: -room[i]):
                cut = max(0, min(room[i], over))
                widths[i], over = widths[i] - cut, over - cut
            if over <= 0:
                yield self._table(widths)
                return
        for cells, style in self.rows:
            yield from self._stacked(
                [(self.columns[i], cell) for i in words if isinstance(cell := cells[i], Text)], style, options.max_width
            )

    def _width(self, column: int, *, whole: bool = True) -> int:
        """Columns that it takes; or its longest word."""
        widths = [cell_len(self.columns[column])]
        for cells, _ in self.rows:
            cell = cells[column]
            widths.append(
                cell.width if isinstance(cell, Bar) else cell.cell_len if whole else max(map(cell_len, cell.plain.split()), default=0)
            )
        return max(widths)

    def _table(self, widths: Mapping[int, int]) -> Table:
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
        for index, width in widths.items():
            title = self.columns[index]
            justify: Literal["right", "left"] = "right" if title in self.right else "left"
            table.add_column(Text(printable(title)), justify=justify, width=width, no_wrap=width == self._width(index))
        for cells, style in self.rows:
            table.add_row(*(cells[index] for index in widths), style=style)
        return table

    def _stacked(self, cells: Sequence[tuple[str, Text]], style: str, width: int) -> Iterator[RenderableType]:
        head = Text("  ", style=style).join(cell for _, cell in cells[: self.heads])
        facts = [
            Text.assemble(f"{title.strip()} " if title.strip() else "", cell) for title, cell in cells[self.heads :] if cell.plain.strip()
        ]
        comma, lines = Text(", ", style=style), [head]
        for number, fact in enumerate(facts):
            # What belongs together stays on one line; the first fact beside the name only where all have room there.
            if number == 0 and head.cell_len + 2 + comma.join(facts).cell_len <= width:
                lines[0] = Text.assemble(head, "  ", fact)
            elif number > 0 and lines[-1].cell_len + 2 + fact.cell_len <= width:
                lines[-1] = Text.assemble(lines[-1], ", ", fact)
            else:
                lines.append(Text.assemble("  ", fact))
        for line in lines:
            line.style = style
            line.overflow = "fold"
            yield line


def _table(*columns: str, right: Sequence[str] = (), heads: int = 1) -> _Rows:
    """The first ``heads`` columns name a row."""
    return _Rows(columns, right, heads)


def cost_table(cost: Cost, budget: Budget | None = None, *, name: str | None = None) -> Group:
    """What a network costs, and beside each limit of ``budget`` how much of it is used."""
    limits = budget.limits if budget is not None else {}
    columns = ("", "estimate") + (("limit", "used", " ") if limits else ())
    table = _table(*columns, right=("estimate", "limit", "used"))
    for key, value in cost.values().items():
        if value is None and key not in limits:
            continue
        unsure = (key == "sram_bytes" and cost.unknown) or (key == "macs" and cost.work.uncounted)
        least = "at least " if unsure else ""
        ends = cost.latency_interval if key == "latency_ms" else None
        between = "" if ends is None else f" ({milliseconds(ends[0]).removesuffix(' ms')} to {milliseconds(ends[1]).removesuffix(' ms')})"
        row: list[Any] = [title(key), least + amount(key, value) + between]
        if limits:
            limit = limits.get(key)
            if limit is None:
                row += ["", "", ""]
            elif value is None:
                row += [amount(key, limit), "no evidence", ""]
            else:
                row += [amount(key, limit), percent(value / limit, 0), Bar(value / limit)]
        table.add_row(*row)
        if key == "sram_bytes":
            to_start = cost.setup_bytes - cost.head_bytes - cost.tail_bytes
            parts = [("activations", cost.head_bytes), ("runtime's own", cost.tail_bytes), ("more, to start", to_start)]
            parts = parts if to_start > 0 else parts[:-1]
            _add_parts(table, parts + _front_end_part(cost), len(columns))
        if key == "update_sram_bytes" and cost.learning is not None:
            _add_parts(table, [("inference", cost.learning.inference.sram_bytes), ("learning", cost.learning.extra_bytes)], len(columns))
        if key == "flash_bytes" and cost.front_end is not None:
            _add_parts(table, [("model", cost.flash_bytes), *_front_end_part(cost, flash=True)], len(columns))
        if key == "program_bytes" and cost.code is not None:
            code = [("runtime", cost.code.runtime_bytes), ("firmware", cost.code.firmware_bytes)]
            code = [part for part in code if part[1]]
            around = [] if cost.front_end is None else [("around them", cost.front_end.around_bytes)]
            around = [part for part in around if part[1]]
            _add_parts(table, [("model", cost.flash_bytes), *code, *_front_end_part(cost, flash=True), *around], len(columns))
    said = f"runtime {cost.runtime}; the SRAM peak is at {cost.peak_op} (operator {cost.peak_index})"
    if cost.learning is not None:
        step = cost.learning
        said += f"; a step of learning changes {step.parameters:,} parameters in {step.macs:,} MACs, and most is alive in {step.peak}"
    if cost.stream is not None:
        said = f"runtime {cost.runtime}; MACs are those of a whole clip\n{stream_words(cost.stream)}"
    if set(cost.weights_by_bits) - {8}:
        said += "; weights: " + ", ".join(f"{count(found)} of {bits} bits" for bits, found in cost.weights_by_bits.items())
    runtime = Text(said, "dim")
    head = [Text(printable(name), "bold")] if name else []
    notes = [Text(f"note: {note}") for note in _notes(cost, budget)]
    heard = [Text(f"{name}: {words}") for name, words in front_end_rows(cost)]
    body: list[Any] = [*head, table, *heard, runtime, *(Text(line, "dim") for line in known_lines(cost)), *notes]
    if cost.runs is False:
        return Group(*body, *_refused(cost))
    return Group(*body) if budget is None else Group(*body, _verdict(cost, budget))


def _front_end_part(cost: Cost, *, flash: bool = False) -> list[tuple[str, int]]:
    return [] if cost.front_end is None else [("front end", cost.front_end.flash_bytes if flash else cost.front_end.sram_bytes)]


def _add_parts(table: _Rows, parts: Sequence[tuple[str, int]], columns: int) -> None:
    for part, part_bytes in parts:
        table.add_row(Text(f"  {part}", "dim"), Text(size(part_bytes), "dim"), *[""] * (columns - 2))


#: Reasons against a model that are shown; all are in the JSON.
_REASONS = 8


def _refused(cost: Cost) -> list[Text]:
    rest = len(cost.reasons) - _REASONS
    lines = [Text.assemble((f"does not run on {cost.runtime}: ", "bold red"), reason) for reason in cost.reasons[:_REASONS]]
    return [*lines, Text(f"and {counted(rest, 'reason')} more (--json)", "dim")] if rest > 0 else lines


def _notes(cost: Cost, budget: Budget | None) -> list[str]:
    notes = list(cost.work.notes)
    if cost.work.uncounted:
        notes.append(f"the MACs of {', '.join(cost.work.uncounted)} are not known")
    if cost.runs is None:
        notes.append(f"whether {cost.runtime} has all of its operators is not known")
    timing = cost.timing or (None if budget is None else latency_model(budget.core, cost.runtime))
    if budget is not None and budget.arena.slow and not budget.latency:
        notes.append(f"no latency: {budget.why_unknown('latency_ms')}")
    elif timing is not None and cost.runs is not False and cost.latency_ms is None:
        why = why_uncounted(cost.work, timing)
        if why is not None:
            notes.append(f"no latency: {why}")
    elif budget is not None and cost.latency_ms is None and budget.core is not None and timing is None and cost.runs is not False:
        counts = "no latency:" if cost.instructions is None else f"instructions, not time: {count(cost.instructions)} an inference;"
        notes.append(f"{counts} no time is known of {budget.core} with {cost.runtime}, measure yours (latency: mine.csv)")
    return notes


def regions_table(placed: Sequence[Placed]) -> RenderableType:
    """What lies in each memory of a board, and how full it is."""
    table = _table("region", "size", "used", "", "what lies there", right=("size", "used"))
    for one in placed:
        region, share = one.region, one.used / one.region.size
        uses = ", ".join(f"{use.replace('_', ' ')} {size(size_bytes)}" for use, size_bytes in one.bytes_of.items())
        name = printable(region.name) + (" (slow)" if region.slow else "")
        table.add_row(Text(name, "bold"), size(region.size), percent(share, 0), Bar(share), uses or "nothing")
    return table


def known_lines(cost: Cost) -> list[str]:
    """How well the memory figures of ``cost`` are known, and from what: a line a figure."""
    document = cost.to_json()
    lines = []
    for figure, (known, source) in document["evidence"].items():
        least = ""
        if figure == "sram" and document["at_least"]:
            known, least = "at least", f"; the runtime's part of {', '.join(document['at_least'])} is not known"
        versions = ""
        if figure == "sram" and len(cost.by_version) > 1:
            versions = f"; of {len(cost.by_version)} versions in use {cost.version} asks for most"
        lines.append(f"{figure}: {known}, {source}{versions}{least}")
    return lines


def _verdict(cost: Cost, budget: Budget) -> Text:
    board = printable(budget.board or budget.name)
    over = {key: share for key, share in budget.excess(cost).items() if share > 0}
    if not over:
        return Text.assemble(("fits ", "bold green"), board)
    values = cost.values()
    parts = []
    for key in over:
        value = values[key]
        if value is None:
            parts.append(f"{title(key)} is not known for {cost.runtime} on {budget.core or 'an unknown core'}")
        else:
            parts.append(f"{title(key)} is {amount(key, value - budget.limits[key])} over")
    return Text.assemble(("does not fit ", "bold red"), f"{board}: ", "; ".join(parts))


def layers_table(cost: Cost) -> RenderableType:
    """One row per operator: shapes, MACs, weights, live memory with a bar, the peak marked."""
    narrow = any(op.weight_bits not in (None, 8) for op in cost.layers)
    bits = ["bits"] if narrow else []
    heads = ["#", "operator", "kind", "output", "MACs", "weights", *bits, "live", "", " "]
    table = _table(*heads, right=("#", "MACs", "weights", *bits, "live"), heads=2)
    top = max((op.live_bytes for op in cost.layers), default=1) or 1
    for op in cost.layers:
        peak = op.index == cost.peak_index
        name = op.name.removeprefix(f"{op.index}:")  # operators of a file are named by number and kind
        table.add_row(
            str(op.index),
            name,
            "" if name.startswith(op.kind) else op.kind,
            shape(op.output_shape),
            count(op.macs) if op.macs else "",
            size(op.weights_bytes) if op.weights_bytes else "",
            *([str(op.weight_bits or "")] if narrow else []),
            size(op.live_bytes),
            Bar(op.live_bytes / top, 10, "magenta" if peak else "cyan"),
            "< peak" if peak else "",
            style="bold" if peak else None,
        )
    return table


def front_table(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None) -> RenderableType:
    """The front, most accurate first: accuracy with a bar, every cost that is known, and what ``names`` calls an id.

    Where the search expects another accuracy than it has seen, both are shown, and the expected one counts.
    """
    keys = [quantity.name for quantity in shown({}, "narrow") if any(row.get(quantity.name) is not None for row in rows)]
    int8 = any(row.get("int8_accuracy") is not None for row in rows)
    expected = any(expected_accuracy(row) != row.get("accuracy") for row in rows)
    columns = ["network", "expected" if expected else "accuracy", ""] + (["seen"] if expected else [])
    columns += (["int8"] if int8 else []) + [title(key) for key in keys]
    table = _table(*columns, *([" "] if names else []), right=columns[1:2] + columns[3:])
    best = max((expected_accuracy(row) or 0.0 for row in rows), default=0.0)
    worst = min((expected_accuracy(row) or 0.0 for row in rows), default=0.0)
    # The bar starts a little below the worst of the front: from zero all bars of a front look alike.
    floor = max(0.0, worst - 0.25 * (best - worst) - 0.01)
    for row in sorted(rows, key=lambda row: -(expected_accuracy(row) or 0.0)):
        accuracy = expected_accuracy(row)
        cells: list[Any] = [Text(printable(row["id"]), "bold"), percent(accuracy)]
        cells.append("" if accuracy is None else Bar((accuracy - floor) / (best - floor or 1.0), 6 if expected else 10, "green"))
        cells += [percent(row.get("accuracy"))] if expected else []
        cells += [percent(row.get("int8_accuracy"))] if int8 else []
        cells += [amount(key, row.get(key)) for key in keys]
        table.add_row(*cells, *([Text(names.get(str(row["id"]), ""), "dim")] if names else []))
    return table


def promoted_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows of ``tinynas promote --json``: float and int8 accuracy, estimated and measured sizes of what was written.

    Of a compiled network memory is its work area and stack, measured where it was verified: TFLM runs it nowhere but here.
    """
    by_tflm = not any(_compiled(row) for row in rows)
    sizes: dict[str, Callable[[Mapping[str, Any]], str]] = {}
    if any(_has_model(row) for row in rows):
        sizes["file (estimated)"] = lambda row: _measured(row.get("flash_bytes") or {})
        if by_tflm:
            sizes["arena here (estimated)"] = lambda row: _measured(row.get("arena_bytes") or {})
    if any(row.get("firmware") for row in rows):
        sizes["work area (promised)"] = lambda row: _compiled_memory(row, "work_bytes", "used_work_bytes")
        sizes["stack (promised)"] = lambda row: _compiled_memory(row, "stack_bytes", "stack_bytes")
    columns = ("float", "int8", "agreement", *sizes)
    table = _table("network", *columns, right=columns)
    for row in rows:
        accuracy = row.get("accuracy") or {}
        table.add_row(
            Text(printable(row["id"]), "bold"),
            percent(accuracy.get("float")),
            percent(accuracy.get("int8")),
            percent(row.get("agreement")),
            *(words(row) for words in sizes.values()),
        )
    parts: list[RenderableType] = [table]
    for row in rows:
        shown = {"five best": "top5", "recall": "recall", "false alarms": "false_alarms"}
        said = [f"{words} {interval_words(row[key], row[f'{key}_interval'])}" for words, key in shown.items() if row.get(key) is not None]
        said += [*threshold_words(row["operating_point"])] if row.get("operating_point") else []
        said += [f"as it listens: {listening_words(row['stream'])[2]}"] if row.get("stream") else []
        if said:
            parts += [Text(), *(Text(printable(f"{row['id']}  {line}")) for line in said)]
        if row.get("several"):
            parts += [Text(), Text("mean average precision; of each class, int8:"), _classes(row["several"])]
        if row.get("subsets"):
            parts += [Text(), *_served(row)]
    return table if len(parts) == 1 else Group(*parts)


def init_table(begun: Mapping[str, Any]) -> RenderableType:
    """What weights a training began with, layer by layer: the document ``init`` of ``tinynas promote --json``."""
    table = _table("layer", "weights", "", "from", "")
    for row in begun["layers"]:
        fate = f"{row['fate']}, frozen" if row["frozen"] else row["fate"]
        table.add_row(*(Text(printable(text)) for text in (row["layer"], row["shape"], fate, row["source"], row["note"])))
    return table


def _compiled(row: Mapping[str, Any]) -> bool:
    return runtime_named(row["runtime"]).frame is not None


def _has_model(row: Mapping[str, Any]) -> bool:
    """Whether the .tflite was written, as a file or inside the sources around TFLM."""
    return "tflite" in row["files"] or ("c" in row["files"] and not _compiled(row))


def _compiled_memory(row: Mapping[str, Any], promised: str, measured: str) -> str:
    firmware, verified = row.get("firmware") or {}, row.get("verified") or {}
    return _measured({"estimated": firmware.get(promised), "measured": verified.get(measured)})


def _measured(pair: Mapping[str, Any]) -> str:
    measured, estimated = size(pair.get("measured")), size(pair.get("estimated"))
    # One unit for both where it is the same.
    same = measured[-4:] == estimated[-4:] == " KiB"
    return f"{measured} ({estimated[:-4] if same else estimated})"


def budgets_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows of ``tinynas budgets --json``: the board, and what it leaves to a network."""
    table = _table("budget", "board", "core", "MHz", "SRAM left", "flash left", right=("MHz", "SRAM left", "flash left"))
    for row in rows:
        clock = "" if row["clock_mhz"] is None else f"{row['clock_mhz']:g}"
        limits = row["limits"]
        left = [size(limits["sram_bytes"]), size(limits["flash_bytes"] if "flash_bytes" in limits else limits["program_bytes"])]
        table.add_row(Text(printable(row["name"]), "bold"), row["board"] or "", row["core"] or "", clock, *left)
    return table


def spaces_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The shipped spaces: name and what is in each."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(Text(row["name"], "bold"), Text(row["description"]))
    return table


def subspaces_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The rows of ``tinynas spaces --budget B --json``: how much of each sub-space fits, with how many MACs, and who is searched."""
    figures = ("fit", "mean MACs", "median", "largest")
    table = _table("sub-space", *figures, "searched for", right=figures)
    for row in rows:
        quantiles = row["macs_quantiles"]
        middle, most = (amount("macs", q) for q in (quantiles[10], quantiles[-1])) if quantiles else ("–", "–")
        mean = amount("macs", row["mean_macs"]) if quantiles else "–"
        bands = ", ".join(f"band {band + 1}" for band in row["bands"])
        table.add_row(f"{subspace_input(row)}, x{row['width_mult']:g}", percent(row["share"], 0), mean, middle, most, bands)
    return table


def boards_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The board table: name, chip, clock and memory."""
    table = _table("board", "MCU", "core", "MHz", "SRAM", "flash", right=("MHz", "SRAM", "flash"))
    for row in rows:
        sizes = [f"{row[key] / 1024:,.0f} KiB" for key in ("sram_bytes", "flash_bytes")]
        table.add_row(Text(printable(row["name"]), "bold"), row["mcu"], row["core"], f"{row['clock_mhz']:g}", *sizes)
    return table


def verified_table(document: Mapping[str, Any]) -> Group:
    """What an emulated core did with a model, beside what was promised: the document of ``tinynas verify --json``."""
    if of_network(document):
        return _verified_network_table(document)
    firmware = document.get("firmware")
    table = _table("", "promised", "measured", right=("promised", "measured"))
    table.add_row("arena in use", "", _bytes(document["used_arena_bytes"]))
    table.add_row("arena to start", _bytes(document["promised_arena_bytes"]), _bytes(document["needed_arena_bytes"]))
    if firmware:
        table.add_row("arena in the firmware", _bytes(firmware["arena_bytes"]), _bytes(firmware["used_arena_bytes"]))
    table.add_row("flash: model", _bytes(document["promised_flash_bytes"]), _bytes(document["model_bytes"]))
    table.add_row("flash: TFLM and kernels", _bytes(document.get("promised_code_bytes")), _bytes(document["code_bytes"]))
    if firmware:
        table.add_row("flash: all that is linked", _bytes(document.get("promised_program_bytes")), _bytes(firmware["program_bytes"]))
    where = f"{document['kernels']} kernels of {document['tree']} on an emulated {document['target']}"
    lines: list[Any] = [Text(printable(document["name"]), "bold"), table, Text(printable(where), "dim")]
    lines.append(Text(f"{document['compiler']}; {document['emulator']}", "dim"))
    if document["compared_outputs"]:
        equal = document["equal_outputs"] == document["compared_outputs"]
        outputs = counted(document["compared_outputs"], "output")
        said = f"{document['equal_outputs']} of {outputs} equal those of tflite-micro here, bit for bit"
        lines.append(Text(said, "" if equal else "bold red"))
    elif not document["refused"]:
        lines.append(Text(f"outputs were not compared: {document['not_compared']}", "dim"))
    if firmware:
        folder = document["folder"] or "made for this"
        passed = f"passes its self-test: {firmware['equal_images']} of {counted(firmware['images'], 'input')} equal bit for bit"
        said = f"the firmware folder ({folder}) {'FAILS its self-test' if firmware['failed'] else passed}"
        lines.append(Text(printable(said), "bold red" if firmware["failed"] else ""))
    elif not document["refused"]:
        lines.append(Text(printable(f"no firmware was built, the file alone was run: {document['no_firmware']}"), "yellow"))
    if document["instructions"]:
        lines.append(_instructions(document["instructions"]))
    return Group(*lines, *_kept_promises(document))


def _verified_network_table(document: Mapping[str, Any]) -> Group:
    """The same of a compiled network."""
    firmware = document["firmware"]
    table = _table("", "promised", "measured", right=("promised", "measured"))
    for what, promised, measured in network_figures(document):
        table.add_row(what, _bytes(promised), _bytes(measured))
    lines: list[Any] = [Text(printable(document["name"]), "bold"), table]
    lines.append(Text(f"{document['runtime']} on an emulated {document['target']}", "dim"))
    lines.append(Text(f"{document['compiler']}; {document['emulator']}", "dim"))
    if document["compared_outputs"]:
        same = document["equal_outputs"] == document["compared_outputs"]
        outputs = counted(document["compared_outputs"], "output")
        said = f"{document['equal_outputs']} of {outputs} equal those of tflite-micro here, bit for bit"
        lines.append(Text(said, "" if same else "bold red"))
    elif not document["refused"]:
        lines.append(Text(f"outputs were not compared: {document['not_compared']}", "dim"))
    passed = f"passes its self-test: {firmware['equal_images']} of {counted(firmware['images'], 'input')} equal bit for bit"
    said = f"the firmware folder ({document['folder']}) {'FAILS its self-test' if firmware['failed'] else passed}"
    lines.append(Text(printable(said), "bold red" if firmware["failed"] else ""))
    if document["instructions"]:
        lines.append(_instructions(document["instructions"]))
        all_of_it = " in all" if document.get("step_instructions") is None else ""
        lines.append(Text(f"{instructions_words(document)}{all_of_it}, measuring left out", "dim"))
    return Group(*lines, *_kept_promises(document))


def _kept_promises(document: Mapping[str, Any]) -> list[Text]:
    notes = [Text(f"note: {printable(note)}", "yellow") for note in document.get("notes", ())]
    problems = [Text(f"NOT as promised: {printable(problem)}", "bold red") for problem in document["problems"]]
    kept = Text("memory and outputs as promised, flash is not: see the note", "yellow") if notes else Text("as promised", "green")
    return notes + (problems or [kept])


def shrunk_table(document: Mapping[str, Any]) -> Group:
    """What was taken out of a model and what that saves: the document of ``tinynas shrink --json``."""
    lines: list[Any] = [Text(printable(document["model"]), "bold")]
    if not document["changed"]:
        lines.append(Text("nothing was found: no channel, operator or byte can go without changing what it computes or holds"))
    else:
        lines += _shrunk_lines(document)
    lines += [Text(printable(f"note: {note}"), "yellow") for note in document["notes"]]
    if document["left"]:
        lines.append(Text(printable(f"left as they are, with all that they touch: {', '.join(document['left'])}"), "dim"))
    return Group(*lines)


def _shrunk_lines(document: Mapping[str, Any]) -> list[Any]:
    lines: list[Any] = []
    if document["layers"]:
        removed = _table("#", "operator", "channels", "constant", "duplicate", "unread", right=("#", "channels"))
        for layer in document["layers"]:
            before, after = layer["channels"]
            why = [str(layer.get(reason, "")) for reason in ("constant", "duplicate", "unread")]
            removed.add_row(str(layer["op"]), layer["kind"], f"{before} -> {after}", *why)
        lines.append(removed)
    if document["operators"]:
        idle = Counter(op["kind"] for op in document["operators"])
        lines.append(Text(printable("operators that did nothing: " + ", ".join(f"{count} {kind}" for kind, count in idle.items()))))
    arena = document["arena_bytes"]
    table = _table("", "before", "after", right=("before", "after"))
    rows = (("file", document["bytes"]), ("arena on this computer", arena["estimated"]), ("  as tflite-micro uses it", arena["measured"]))
    for name, pair in (*rows, ("SRAM on a microcontroller", document["sram_bytes"])):
        if pair is not None:
            table.add_row(name, *map(_bytes, pair))
    table.add_row("multiply-accumulates", *["–" if macs is None else f"{macs:,}" for macs in document["macs"]])
    lines.append(table)
    equal = document["equal"]
    if equal["why_not"]:
        lines.append(Text(printable(f"proven by arithmetic alone, not compared: {equal['why_not']}"), "yellow"))
    else:
        images = f", {equal['images']:,} of them images" if equal["images"] else ""
        said = f"all outputs equal on {equal['compared']:,} inputs{images}, in {equal['seconds']:,} s: {equal['kernels']}"
        lines.append(Text(printable(said), "green"))
    return lines


def _bytes(value: int | None) -> str:
    return "–" if value is None else f"{value:,} B"


def _instructions(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    most, total = max(row["instructions"] for row in rows), sum(row["instructions"] for row in rows)
    table = _table("operator", "instructions", "share", " ", right=("instructions", "share"))
    for index, row in enumerate(rows):
        table.add_row(
            f"{index} {row['op']}", f"{row['instructions']:,}", percent(row["instructions"] / total, 0), Bar(row["instructions"] / most)
        )
    table.add_row("all", f"{total:,}", "", "")
    return table


def compared_table(rows: Mapping[str, Sequence[Mapping[str, Any]]], nets: Sequence[str]) -> Group:
    """Boards down: one network with its arena, flash and time, several with the limit that decides and the share of it that is used.

    Below, why networks do not run: once for each reason.
    """
    if len(nets) == 1:
        figures = ("sram_bytes", "program_bytes", "latency_ms")
        heads = [title(name) for name in figures]
        table = _table("board", *heads, "limit that decides", right=heads)
        for board, fits in rows.items():
            (fit,) = fits
            table.add_row(Text(board, "bold"), *(amount(name, fit[name]) for name in figures), _fit_cell(fit))
    else:
        heads = [printable(net) for net in short_names(nets)]
        table = _table("board", *heads, right=heads)
        for board, fits in rows.items():
            cells = {fit["net"]: fit for fit in fits}
            table.add_row(board, *(_fit_cell(cells[net]) for net in nets))
    return Group(table, *_not_run([fit for fits in rows.values() for fit in fits]))


def _not_run(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    reasons: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in rows:
        if row["runs"] is False:
            reasons[row["net"], row["runtime"]] = tuple(row["reasons"])
    lines = []
    for (net, runtime), why in reasons.items():
        for reason in why[:_REASONS]:
            lines.append(Text.assemble((f"{printable(net)} does not run on {runtime}: ", "bold red"), printable(reason)))
        if len(why) > _REASONS:
            lines.append(Text(f"and {counted(len(why) - _REASONS, 'reason')} more (--json)", "dim"))
    return lines


def _fit_cell(fit: Mapping[str, Any]) -> Text:
    if fit["runs"] is False:
        return Text("no   does not run", "red")
    over = fit["excess"][fit["binding"]]
    used = "not known" if over >= UNKNOWN else percent(1 + over, 0)
    return Text(f"{'fits' if fit['fits'] else 'no  '} {title(fit['binding'])} {used}", "green" if fit["fits"] else "red")


def _stream_lines(stream: Mapping[str, Any]) -> list[Any]:
    how, expected, measured = listening_words(stream)
    curve: Any = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    for column in ("threshold", "missed", "false alarms an hour"):
        curve.add_column(column, justify="right")
    curve.add_column("")
    chosen = stream["smoothing"]["threshold"]
    shown: dict[tuple[int, int], Mapping[str, Any]] = {}
    for row in stream["curve"]:  # of equal ones the first, or the one that was chosen
        key = row["missed"], row["false_alarms"]
        shown[key] = row if row["threshold"] == chosen else shown.get(key, row)
    for row in shown.values():
        here = row["threshold"] == chosen
        style = "bold" if here else ""
        cells = (f"{row['threshold']:g}", f"{row['missed']:,}", f"{row['false_alarms_per_hour']:.2f}", "chosen" if here else "")
        curve.add_row(*(Text(cell, style) for cell in cells))
    return [Text(f"stream: {measured}", "bold"), Text(f"  {how}"), Text(f"  expected: {expected}"), curve]


def evaluation_table(result: Mapping[str, Any]) -> Group:
    """The document of ``tinynas evaluate --json``: figures, whence they are, the confusion of up to twelve classes, subsets, warnings."""
    figures = Table.grid(padding=(0, 2))
    for key, words in (("accuracy", "accuracy"), ("balanced_accuracy", "balanced accuracy")):
        if result.get(key) is not None:
            figures.add_row(words, Text(percent(result[key], 2), "bold"))
    if result.get("several"):
        figures.add_row("mean average precision", Text(percent(result["several"]["mean_average_precision"], 2), "bold"))
        figures.add_row("F1, mean of the classes", percent(result["several"]["f1"], 2))
        figures.add_row("of no class", f"{result['several']['none']:,}")
    if result.get("auc") is not None:
        figures.add_row("area under the ROC curve", f"{result['auc']:.4f}")
    for key, words in (("top5", "among the five best"), ("recall", "recall"), ("false_alarms", "false alarms")):
        if result.get(key) is not None:
            of = f" of {result['positive']}" if key != "top5" else ""
            figures.add_row(words + of, interval_words(result[key], result[f"{key}_interval"]))
    figures.add_row(f"{result.get('kind', 'image')}s", f"{result.get('n', 0):,}" + (f" ({result['split']})" if result.get("split") else ""))
    if result.get("kernels"):
        figures.add_row("kernels", Text(str(result["kernels"])))
    if result.get("pixels"):
        pixels = result["pixels"]
        figures.add_row("input", Text(f"{pixels['range']}, {pixels['formula']}: {pixels['known_from']}"))
    parts: list[Any] = [figures]
    if result.get("operating_point"):
        titles = ("chosen threshold", "expected with it", "measured with it")
        for title_, said in zip(titles, threshold_words(result["operating_point"]), strict=True):
            figures.add_row(title_, Text(printable(said)))
    if result.get("threshold"):
        threshold = result["threshold"]
        figures.add_row("threshold", Text(f"{threshold['positive']} above {threshold['value']:.4g}: {threshold['known_from']}"))
    if result.get("order_known_from"):
        figures.add_row("order of classes", Text(str(result["order_known_from"])))
    if result.get("stream"):
        parts += [Text(), *_stream_lines(result["stream"])]
    confusion = result.get("confusion") or ()
    if confusion and len(confusion) <= 12:
        labels = [str(label) for label in result.get("labels") or range(len(confusion))]
        table: Any = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
        table.add_column("true class \\ taken for")
        for label in labels:
            table.add_column(Text(label), justify="right")
        for i, (label, row) in enumerate(zip(labels, confusion, strict=True)):
            table.add_row(Text(label), *[Text(f"{n:,}", "bold" if i == j else "") for j, n in enumerate(row)])
        parts += [Text(), table]
    if result.get("several"):
        parts += [Text(), _classes(result["several"])]
    if result.get("subsets"):
        parts += [Text(), *_served(result)]
    for warning in result.get("warnings") or ():
        parts += [Text(), Text(f"WARNING: {warning}", "yellow")]
    return Group(*parts)


def _classes(several: Mapping[str, Any]) -> RenderableType:
    """Each class of several labels at once."""
    table = _table(*CLASS_COLUMNS, right=CLASS_COLUMNS[1:-1])
    for cells in class_rows(several):
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _served(result: Mapping[str, Any]) -> list[Any]:
    """How each part of the data is served, and the largest gaps."""
    titles = {key: words for key, words in FIGURE_TITLES.items() if any(part.get(key) is not None for part in result["subsets"].values())}
    table = _table("subset", "count", *titles.values(), right=("count", *titles.values()))
    for name, part in result["subsets"].items():
        cells = [interval_words(part.get(key), part.get(f"{key}_interval")) for key in titles]
        table.add_row(Text(printable(str(name))), f"{part['n']:,}", *cells)
    lines = [Text(printable(gap_words(gap)), "yellow" if gap["more_than_noise"] else "") for gap in result.get("gaps") or ()]
    return [table, *lines]


# Progress. Events are read by attribute name, so that report needs no stage and no stage needs report.


def _get(event: Any, *names: str, default: Any = None) -> Any:
    for name in names:
        value = event.get(name) if isinstance(event, Mapping) else getattr(event, name, None)
        if value is not None:
            return value
    return default


class _Progress(abc.ABC):
    """Draws on a terminal, or prints a plain line now and then; call it with each event."""

    def __init__(self, console: Console, every: float) -> None:
        self.console, self.every = console, every
        self._live: Live | None = None
        self._last_line = float("-inf")
        self._pending: str | None = None
        self._messages: set[str] = set()
        self._status = ""

    def __call__(self, event: Any) -> None:
        self._status = str(_get(event, "status") or self._status)
        message = _get(event, "message")
        if message and str(message) not in self._messages:
            self._messages.add(str(message))
            self.console.print(Text(str(message), "dim"))
        if self._live is not None:
            self._live.update(self.draw(event))
            return
        self._pending = self.line(event)
        now = time.monotonic()
        if self._pending and now - self._last_line >= self.every:
            self._last_line = now
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self.console.print(self._pending, markup=False, highlight=False, soft_wrap=True)
            self._pending = None

    @contextlib.contextmanager
    def running(self) -> Iterator[_Progress]:
        """Draw while the context lasts; the last state stays on the screen."""
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            try:
                yield self
            finally:
                self._flush()
            return
        with Live(console=self.console, refresh_per_second=4) as self._live:
            yield self
        self._live = None

    @abc.abstractmethod
    def draw(self, event: Any) -> Group:
        """What a terminal shows."""

    @abc.abstractmethod
    def line(self, event: Any) -> str:
        """One plain line."""


def _bar_line(console: Console, before: str, share: float, after: str) -> RenderableType:
    """A bar of up to 32 columns between two texts; on a narrow terminal the texts alone, as far as they need two lines."""
    room = console.width - len(before) - len(after) - 2
    if room < 8:
        return Text(f"{before} {percent(share, 0)}, {after}", overflow="fold")
    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(before), ProgressBar(total=1.0, completed=share, width=min(32, room)), Text(after))
    return grid


class _SearchProgress(_Progress):
    def _share(self, event: Any) -> float:
        elapsed, timeout = _get(event, "elapsed", "elapsed_s", "seconds", default=0.0), _get(event, "timeout", "timeout_s")
        trained, trials = _get(event, "trained", default=0), _get(event, "trials", "target")
        shares = [elapsed / timeout] if timeout else []
        shares += [trained / trials] if trials else []
        return min(1.0, max(shares, default=0.0))

    def _clock(self, event: Any) -> str:
        elapsed, timeout = _get(event, "elapsed", "elapsed_s", "seconds", default=0.0), _get(event, "timeout", "timeout_s")
        share = self._share(event)
        text = duration(elapsed) + (f" of {duration(timeout)}" if timeout else "")
        eta = _get(event, "eta")
        if not timeout and (eta or 0.02 < share < 1):
            text += f", {duration(eta or elapsed * (1 - share) / share)} left"
        return text

    def _facts(self, event: Any) -> list[str]:
        elapsed = _get(event, "elapsed", "elapsed_s", "seconds", default=0.0)
        trained, trials = _get(event, "trained", default=0), _get(event, "trials", "target")
        facts = [f"{trained:,}" + (f" of {trials:,}" if trials else "") + " trained"]
        before = min(trained, _get(event, "trained_before", default=0))
        notes = [f"{before:,} before"] if before else []
        if trained > before and elapsed > 1:
            notes.append(f"{60 * (trained - before) / elapsed:.1f}/min")
        facts[0] += f" ({', '.join(notes)})" if notes else ""
        for names, words in (
            (("infeasible",), "do not fit"),
            (("duplicate", "duplicates"), "seen before"),
            (("stopped",), "stopped early"),
            (("failed",), "failed"),
        ):
            number = _get(event, *names, default=0)
            if number:
                facts.append(f"{number:,} {words}")
        front = _get(event, "front_size", "front")
        if front is not None:
            facts.append(f"front {front if isinstance(front, int) else len(front)}")
        best, volume = _get(event, "best_accuracy", "best"), _get(event, "hypervolume")
        facts += [f"best {percent(best)}"] if best is not None else []
        facts += [f"hypervolume {volume:.4f}"] if volume is not None else []
        return facts

    def draw(self, event: Any) -> Group:
        """The bar with the clock, a line of counts (or of what is prepared), and the front as a small plot."""
        points = _get(event, "points")
        counts = (
            Text(self._status, "dim", overflow="fold") if self._preparing(event) else Text(" · ".join(self._facts(event)), overflow="fold")
        )
        parts: list[Any] = [_bar_line(self.console, "searching", self._share(event), self._clock(event)), counts]
        return Group(*parts, *([FrontPlot(points, _get(event, "cost", default="macs"))] if points else []))

    def line(self, event: Any) -> str:
        """One plain line: of counts, or of what is prepared."""
        return f"[{self._clock(event)}] " + (self._status if self._preparing(event) else ", ".join(self._facts(event)))

    def _preparing(self, event: Any) -> bool:
        # Nothing came of a proposal yet, good or bad.
        return bool(self._status) and not any(_get(event, name, default=0) for name in ("trained", "infeasible", "duplicate", "failed"))


class _PromoteProgress(_Progress):
    def draw(self, event: Any) -> Group:
        """The bar of the network in training, and what it has reached; or of a step behind it."""
        if (step := _get(event, "step")) is not None:
            done, of = event["done"], event["of"]
            return Group(_bar_line(self.console, step, done / of, f"{done} of {of}"))
        epoch, epochs = _get(event, "epoch", default=0), _get(event, "epochs", default=0)
        done = epoch / epochs if epochs else 0.0
        bar = _bar_line(self.console, self._who(event), done, f"epoch {epoch} of {epochs}{self._left(event)}")
        return Group(bar, Text(" · ".join(self._facts(event)), overflow="fold"))

    def line(self, event: Any) -> str:
        """One plain line."""
        if (step := _get(event, "step")) is not None:
            return f"{step}: {event['done']} of {event['of']}"
        epoch, epochs = _get(event, "epoch", default=0), _get(event, "epochs", default=0)
        return ", ".join([f"{self._who(event)}: epoch {epoch} of {epochs}{self._left(event)}", *self._facts(event)])

    @staticmethod
    def _who(event: Any) -> str:
        net, index, total = _get(event, "id", "net_id", default=""), _get(event, "index"), _get(event, "total", "count")
        number = f" ({index + 1} of {total})" if index is not None and total and total > 1 else ""
        return f"training {net}{number}"

    @staticmethod
    def _left(event: Any) -> str:
        epoch, epochs = _get(event, "epoch", default=0), _get(event, "epochs", default=0)
        seconds = _get(event, "seconds_per_epoch")
        return f", {duration(seconds * (epochs - epoch))} left" if seconds and epochs > epoch else ""

    @staticmethod
    def _facts(event: Any) -> list[str]:
        facts = []
        loss, accuracy = _get(event, "loss"), _get(event, "val_accuracy", "accuracy")
        best, rate = _get(event, "best_val_accuracy", "best_accuracy", "best"), _get(event, "inputs_per_second")
        facts += [f"loss {loss:.3f}"] if loss is not None else []
        facts += [f"validation {percent(accuracy)}"] if accuracy is not None else []
        facts += [f"best {percent(best)}"] if best is not None else []
        facts += [f"{rate:,.0f} {_get(event, 'noun', default='input')}s/s"] if rate else []
        return facts


@contextlib.contextmanager
def search_progress(console: Console, *, every: float = PLAIN_EVERY) -> Iterator[Callable[[Any], None]]:
    """A callable for ``search``'s ``on_event``: a live bar on a terminal, else a plain line every ``every`` seconds.

    Events may be objects or mappings with any of: elapsed, timeout, trials, trained, trained_before, infeasible, duplicate, stopped,
    failed, front_size, hypervolume, best_accuracy, message (printed once), status (shown in place of counts until something
    is trained), points and cost (drawn as a :class:`tinynas.report.small_plot.FrontPlot`).
    """
    with _SearchProgress(console, every).running() as progress:
        yield progress


@contextlib.contextmanager
def promote_progress(console: Console, *, every: float = PLAIN_EVERY) -> Iterator[Callable[[Any], None]]:
    """A callable for ``promote``'s ``on_event``; see :func:`search_progress`.

    Events may have any of: id, index, total, epoch, epochs, loss, val_accuracy, best_val_accuracy,
    seconds_per_epoch, inputs_per_second and what they are (noun), message; or, of what comes behind the training, step, done and of.
    """
    with _PromoteProgress(console, every).running() as progress:
        yield progress
