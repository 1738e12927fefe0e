"""The page about one network: its figures and the words above them. Everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinynas.arch import Arch
from tinynas.cost import Cost
from tinynas.errors import counted, shell_line
from tinynas.records import Artifact, Promoted, Trial, firmware_words, gap_words, listening_words, of_network, threshold_words
from tinynas.report import figures
from tinynas.report.net_figures import ConfusionInfo, LayersInfo, MemoryInfo, PromisesInfo, StripInfo, TrainingInfo
from tinynas.report.run_words import table
from tinynas.report.source import Source
from tinynas.report.words import amount, count, duration, front_end_rows, percent, points, shape, size, summary, text, title, verified_words
from tinynas.space import input_text


def blank() -> dict[str, str]:
    """The texts where no network is there to select."""
    return {"title": "No network yet", "facts": '<p class="words">Details of the selected network come here.</p>'}


def network(source: Source, net_id: str) -> dict[str, Any]:
    """Name, figures and texts of one network, as page.js takes them."""
    arch, graph, cost = source.network(net_id)
    noun = arch.input.noun
    trial, promoted, artifact = source.scored.get(net_id), source.promoted.get(net_id), source.artifacts.get(net_id)
    strip, memory, layers = figures.strip_info(graph, cost), figures.memory_info(graph, cost, source.budget), figures.layers_info(cost)
    training = figures.training_info(
        source.run.training(net_id), source.history_of.get(net_id, ()), promoted.best_epoch if promoted else None
    )
    promises = figures.promises_info(artifact.report if artifact else {})
    float_counts = promoted.confusion if promoted else ()
    labels = _labels(source, artifact)
    confusion_float = figures.confusion_info(float_counts, labels, "float", noun) if float_counts else None
    int8_counts = _int8_confusion(artifact)
    confusion_int8 = figures.confusion_info(int8_counts, labels, "int8", noun) if int8_counts else None
    drawn: dict[str, Any] = {"strip": figures.draw(strip), "memory": figures.draw(memory), "layers": figures.draw(layers)}
    if training.val or training.proxy:
        drawn["training"] = figures.draw(training)
    if confusion_float is not None:
        drawn["confusion_float"] = figures.draw(confusion_float)
    if confusion_int8 is not None:
        drawn["confusion_int8"] = figures.draw(confusion_int8)
    report = artifact.report if artifact else {}
    served_figures = (
        ("curve", figures.curve_info(report)),
        ("parts", figures.parts_info(report, noun)),
        ("stream", figures.stream_info(report)),
    )
    for name, served in served_figures:
        if served is not None:
            drawn[name] = figures.draw(served)
    accuracy = trial.accuracy if trial else None
    return {
        "name": f"{net_id}  {percent(trial.expected_accuracy if trial else None)}  {amount(source.cost, cost.values().get(source.cost))}",
        "figures": drawn,
        "words": {
            "title": f"Network {text(net_id)}",
            "note": text(f"{percent(accuracy)} in the search, {count(cost.macs)} MACs"),
            "facts": _facts(source, arch, cost, trial, promoted, artifact),
            "strip-words": _strip_words(strip, arch),
            "memory-words": _memory_words(memory, cost),
            "layers-words": _layers_words(layers),
            "layers-table": _layers_table(layers),
            "training-words": _training_words(training, promoted, noun),
            "promises-words": _promises_words(promises, artifact),
            "promises": _promises_table(promises),
            "verified": _verified(artifact),
            "float-words": _confusion_words(confusion_float),
            "int8-words": _confusion_words(confusion_int8),
            "curve-words": _curve_words(report, noun),
            "parts-words": _parts_words(report, noun),
            "stream-words": _stream_words(report),
        },
    }


def _labels(source: Source, artifact: Artifact | None) -> tuple[str, ...]:
    if source.labels:
        return source.labels
    found = artifact.report.get("labels") if artifact is not None else None
    return tuple(str(label) for label in found) if isinstance(found, (list, tuple)) else ()


def _int8_confusion(artifact: Artifact | None) -> tuple[tuple[int, ...], ...]:
    report = artifact.report if artifact is not None else {}
    accuracy = report.get("accuracy")
    found = report.get("confusion") or (accuracy.get("confusion") if isinstance(accuracy, Mapping) else None)
    if isinstance(found, Mapping):
        found = found.get("int8")
    return tuple(tuple(int(n) for n in row) for row in found) if found else ()


def _facts(source: Source, arch: Arch, cost: Cost, trial: Trial | None, promoted: Promoted | None, artifact: Artifact | None) -> str:
    rows: list[tuple[str, str]] = []
    if trial is not None:
        rows.append((f"validation, {counted(trial.epochs, 'epoch')}", percent(trial.accuracy)))
        if trial.expected_accuracy != trial.accuracy:
            rows.append(("expected", percent(trial.expected_accuracy)))
    if promoted is not None:
        rows.append((f"validation, {counted(promoted.epochs, 'epoch')}", percent(promoted.val_accuracy)))
        rows.append(("test, float", percent(promoted.test_accuracy)))
    int8 = source.int8_accuracy(arch.id)
    if int8 is not None:
        rows.append(("test, int8", percent(int8)))
    if artifact is not None and artifact.report.get("top5") is not None:
        rows.append(("test, int8, among the five best", percent(artifact.report["top5"])))
    lines = [f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows]
    limits = source.budget.limits
    for key, value in cost.values().items():
        if value is None:
            continue
        shown = text(amount(key, value))
        limit = limits.get(key)
        if limit is not None:
            share = value / limit
            over = " over" if share > 1 else ""
            shown += f" <small>of {text(amount(key, limit))}</small>"
            shown += f'<span class="gauge{over}" title="{percent(share, 0)}"><i style="width:{min(100.0, 100 * share):.1f}%"></i></span>'
        lines.append(f"<dt>{text(title(key))}</dt><dd>{shown}</dd>")
    if (heard := cost.front_end) is not None:
        what, *work = [f"<dt>{text(name)}</dt><dd><small>{text(value)}</small></dd>" for name, value in front_end_rows(cost)]
        parts = (("its SRAM", heard.sram_bytes), ("its flash", heard.flash_bytes))
        lines += [what, *(f"<dt>{name}</dt><dd>{text(size(part))}</dd>" for name, part in parts), *work]
    if trial is not None:
        parent = f", from {trial.parent}" if trial.parent else ""
        lines.append(f"<dt>proposed by</dt><dd>{text(trial.source + parent)}</dd>")
    command = "" if source.running else _command(source, arch.id, promoted, artifact)
    return f'<dl class="facts">{"".join(lines)}</dl><pre>{text(chr(10).join(summary(arch)))}</pre>{command}'


def _command(source: Source, net_id: str, promoted: Promoted | None, artifact: Artifact | None) -> str:
    if promoted is None:
        command = shell_line("tinynas", "promote", source.run.path, net_id)
        return f'<p class="words">Train it in full: <code>{text(command)}</code></p>'
    if artifact is None:
        command = shell_line("tinynas", "export", source.run.path, net_id, "--out", "firmware")
        return f'<p class="words">Export it: <code>{text(command)}</code></p>'
    return f'<p class="words">Its file: <code>{text(artifact.file)}</code></p>'


def _strip_words(info: StripInfo, arch: Arch) -> str:
    kernels = sorted({s.kernel for s in info.segments if s.kind == "dw" and s.kernel is not None})
    last = [(s.height, s.width) for s in info.segments if s.side > 1][-1:] or [(1, 1)]
    widest = max(info.segments, key=lambda s: s.channels)
    heard = arch.front_end
    given = f"{arch.height}x{arch.width}</strong> pixels" if heard is None else f"{input_text(arch.input)}</strong>"
    said = (
        f"Each bar is what one operator puts out. Height is {'resolution' if heard is None else 'the mean of frames and features'} "
        f"(from <strong>{given} down to {shape(last[0])}), "
        f"width is channels (at most {widest.channels}, at {text(widest.name)}), color is the kernel. "
    )
    said += f"Depthwise kernels: {', '.join(map(shape, kernels))}. " if kernels else ""
    arcs = len(info.residuals)
    return said + (f"Arcs are the {arcs} residual connections." if arcs > 1 else "The arc is the residual connection." if arcs else "")


def _memory_words(info: MemoryInfo, cost: Cost) -> str:
    total = info.head + info.tail + info.front_end
    alive = ", ".join(text(name) for name in info.at_peak)
    tensors = sum(box.size for box in info.boxes if box.first <= info.peak <= box.last)
    scratch = " and scratch" if info.boxes and info.live[info.peak] > tensors else ""
    said = f"The peak is at <strong>{text(cost.peak_op)}</strong>: {_kib(info.head)} for {alive}{scratch}. "
    if info.tail:
        said += f"With the runtime's own {_kib(info.tail)} the arena is <strong>{_kib(info.head + info.tail)}</strong>. "
    if info.front_end:
        said += f"The front end's {_kib(info.front_end)} lie beside it: <strong>{_kib(total)}</strong> in all. "
    if info.limit is not None:
        left = info.limit - total
        said += f"{_kib(left)} of the limit stay free. " if left >= 0 else f"That is {_kib(-left)} over the limit. "
    return said + ("Boxes are tensors where the plan puts them, for as long as they are needed." if info.boxes else "")


def _kib(size_bytes: float) -> str:
    return text(size(size_bytes))


def _layers_words(info: LayersInfo) -> str:
    return (
        f"<strong>{count(info.macs)}</strong> multiply-accumulates and <strong>{_kib(info.weights_bytes)}</strong> of weights. "
        f"Most work: {text(info.heaviest[0])} ({percent(info.heaviest[1], 0)}); "
        f"most bytes: {text(info.biggest[0])} ({percent(info.biggest[1], 0)})."
    )


def _layers_table(info: LayersInfo) -> str:
    lines = [
        "<tr>"
        + "".join(
            f"<td>{cell}</td>"
            for cell in (
                text(layer.name),
                text(layer.kind),
                shape(layer.output),
                f"{layer.macs:,}",
                text(size(layer.weights_bytes)),
                text(size(layer.live_bytes)),
            )
        )
        + "</tr>"
        for layer in info.layers
    ]
    return table(["operator", "kind", "output", "MACs", "weights", "live memory"], lines)


def _training_words(info: TrainingInfo, promoted: Promoted | None, noun: str) -> str:
    if promoted is not None:
        qat = ", weights of few bits on their grids" if "few_bits_from" in promoted.recipe else ""
        qat += ", the last epochs with int8 arithmetic in the loop" if promoted.qat else ""
        return (
            f"Full training: {counted(promoted.epochs, 'epoch')} in {text(duration(promoted.seconds))}{qat}. Epoch {promoted.best_epoch} "
            f"was the best on validation {noun}s ({percent(promoted.val_accuracy)}) and was kept; only then were the test {noun}s read: "
            f"<strong>{percent(promoted.test_accuracy)}</strong>."
        )
    if info.proxy:
        steps = ", ".join(f"{percent(accuracy)} after {epochs:g}" for epochs, accuracy in info.proxy)
        unit = "epoch" if info.proxy[-1][0] == 1 else "epochs"
        return f"So far only the search's short training: {steps} {unit}. Full training usually adds several points."
    return "Not trained."


def _promises_words(info: PromisesInfo, artifact: Artifact | None) -> str:
    if artifact is None:
        return "Not exported yet: the costs above are estimates. Export measures the file on the runtime and puts both here."
    runtime = artifact.report.get("kernels") or artifact.report.get("runtime") or "tflite-micro"
    here = [row for row in info.rows if row.unit == "B" and "emulated" not in row.what]  # what starts there is known in steps of 16 B
    measured = [row.difference for row in here if row.difference is not None]
    said = f"Measured on {text(str(runtime))}, with the file <code>{text(artifact.file)}</code>. "
    said += "What was measured equals its estimate to the byte. " if measured and not any(measured) else ""
    return said + (text(firmware_words(found)) if (found := artifact.report.get("firmware")) else "")


def _promises_table(info: PromisesInfo) -> str:
    if not info.rows:
        return '<p class="empty">Nothing measured yet.</p>'
    lines = []
    for row in info.rows:
        if row.unit == "B":
            cells = [text(_bytes(row.estimated)), text(_bytes(row.measured)), text(_signed(row.difference))]
        else:
            gap = row.difference
            cells = [percent(row.estimated, 2), percent(row.measured, 2), "–" if gap is None else points(gap, 2)]
        lines.append(f'<tr><td class="text">{text(row.what)}</td>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return table(["", "estimated", "measured", "difference"], lines)


def _verified(artifact: Artifact | None) -> str:
    """What an emulated core did with the exported file: a sentence, what was wrong, and instructions by operator; empty where none did."""
    found = artifact.report.get("verified") if artifact is not None else None
    if not found:
        return ""
    said = f'<p class="words"><strong>Verified</strong> on an {text(verified_words(found))}.</p>'
    said += "".join(f'<p class="words"><strong>Not as promised:</strong> {text(problem)}.</p>' for problem in found["problems"])
    said += "".join(f'<p class="words">{text(note)}.</p>' for note in found.get("notes", ()))
    tree = "" if of_network(found) else f"TFLM from <code>{text(found['tree'])}</code>; "
    said += f'<p class="words">{tree}{text(found["compiler"])}; {text(found["emulator"])}.</p>'
    rows = found["instructions"]
    if not rows:
        return said
    most, total = max(row["instructions"] for row in rows), sum(row["instructions"] for row in rows)
    lines = []
    for row in rows:
        bar = f'<span class="gauge"><i style="width:{100 * row["instructions"] / max(most, 1):.1f}%"></i></span>'
        cells = f"<td>{row['instructions']:,}{bar}</td><td>{percent(row['instructions'] / max(total, 1))}</td>"
        lines.append(f'<tr><td class="text">{text(row["op"])}</td>{cells}</tr>')
    shown = table(["operator", "instructions", "share"], lines)
    return f"{said}<details><summary>Executed instructions by operator</summary>{shown}</details>"


def _bytes(value: float | None) -> str:
    return "–" if value is None else f"{round(value):,} B"


def _signed(value: float | None) -> str:
    return "–" if value is None else "0 B" if value == 0 else f"{round(value):+,} B"


def _confusion_words(info: ConfusionInfo | None) -> str:
    if info is None:
        return ""
    mistakes = "; ".join(f"{text(a)} taken for {text(b)} in {percent(share)}" for a, b, share in info.worst[:2])
    said = (
        f"<strong>{percent(info.accuracy)}</strong> of {sum(map(sum, info.counts)):,} test {info.noun}s right, "
        f"{percent(info.balanced_accuracy)} averaged over classes. "
    )
    return said + (f"Most common mistakes: {mistakes}." if mistakes else "No mistake.")


def _curve_words(report: Mapping[str, Any], noun: str) -> str:
    if not report.get("roc"):
        return ""
    area = report.get("auc")
    said = "" if area is None else f"The area under the curve is <strong>{area:.4f}</strong>. "
    point = report.get("operating_point")
    if point is None:
        return f"{said}Promote with <code>--false-alarms 0.05</code> to choose a threshold on validation {noun}s."
    threshold, expected, measured = map(text, threshold_words(point))
    return f"{said}The firmware says {threshold}. Expected: {expected}. Measured: {measured}."


def _parts_words(report: Mapping[str, Any], noun: str) -> str:
    if not report.get("subsets"):
        return ""
    by = "the chosen threshold" if report.get("subsets_by") == "threshold" else "the largest output"
    lines = "".join(
        f"<li>{f'<strong>{text(gap_words(gap))}</strong>' if gap['more_than_noise'] else text(gap_words(gap))}</li>"
        for gap in report.get("gaps") or ()
    )
    said = f"Test {noun}s, decided by {by}; lines are 95 % intervals."
    return f"{said} The largest gap of each group: <ul>{lines}</ul>" if lines else said


def _stream_words(report: Mapping[str, Any]) -> str:
    if not report.get("stream"):
        return ""
    how, expected, measured = map(text, listening_words(report["stream"]))
    return f"Whole recordings, as a microphone hears them: {how}. Expected: {expected}. Measured: <strong>{measured}</strong>."
