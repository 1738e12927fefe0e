"""MODEL_CARD.md: what a model is, what it was made from, how good it is, what it costs and how to run it.

A pure function of records: the same records give the same text. Nothing is invented: what no record holds is
said to be unknown. Figures say whether they were measured or estimated, and by what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinynas import __version__, metrics
from tinynas.arch import Arch, pair
from tinynas.config import format_size
from tinynas.cost import RUNTIMES, estimate
from tinynas.cost.quantities import QUANTITIES, Quantity, shown
from tinynas.cost.runtimes import unrun, why_no_update
from tinynas.cost.stepwise import why_no_stream
from tinynas.cost.work import from_graph
from tinynas.errors import counted, printable
from tinynas.export.formats import FORMATS, fitting
from tinynas.files import write_atomic
from tinynas.graph import lower
from tinynas.records import (
    CLASS_COLUMNS,
    FIGURE_TITLES,
    Artifact,
    Promoted,
    class_rows,
    firmware_words,
    gap_words,
    interval_words,
    listening_words,
    network_figures,
    of_network,
    threshold_words,
)
from tinynas.runs import Run

if TYPE_CHECKING:
    from tinynas.data import DataSet

UNKNOWN = "unknown"
#: Larger confusions are shown by their most frequent mistakes.
_MAX_CONFUSION = 20


def model_card(
    arch: Arch,
    *,
    labels: Sequence[str] = (),
    promoted: Promoted | None = None,
    artifact: Artifact | None = None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    data: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    licences: Mapping[str, str] | None = None,
    name: str | None = None,
    input_rotation: int = 0,
    firmware: bool = False,
) -> str:
    """The card as Markdown.

    ``costs``: runtime name -> ``Cost.to_json()``. ``data``: name, fingerprint, notes, splits (name -> images), and
    what else is known. ``budget``: name, board, runtime, limits (cost name -> bytes or count). ``licences``: of
    ``weights``, ``data`` and ``code``. ``environment``: ``env.json`` of the run. ``firmware``: whether a folder
    ``c/`` lies beside the model.
    """
    title = name or arch.name or f"network {arch.id}"
    report = artifact.report if artifact is not None else {}
    parts = [
        _front_matter(arch, licences),
        f"# {_text(title)}",
        _what(arch, labels, input_rotation),
        _uses(),
        _data(data, labels, arch.input.noun),
        _recipe(promoted),
        _results(promoted, report, labels, arch.input.noun),
        _served(report, arch.input.noun),
        _costs(costs, report, budget),
        _verified(report),
        _limits(arch, promoted, report, data, costs),
        _licence(licences),
        _run(arch, labels, artifact, input_rotation, firmware),
        _made(arch, artifact, environment),
    ]
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def run_card(
    run: Run, net_id: str, *, data: Mapping[str, Any] | None = None, licences: Mapping[str, str] | None = None, input_rotation: int = 0
) -> str:
    """The card of a network of ``run``, from what the run folder holds; ``data`` (see :func:`data_facts`) says more of the images.

    Costs are estimated for every runtime that runs it, with latency for the budget's core where there is evidence.
    Raises RunError for an unknown id.
    """
    net_id = run.resolve_id(net_id)
    arch, budget, env = run.arch(net_id), run.budget, run.env
    graph = lower(arch)
    timings = {budget.runtime.partition("@")[0]: budget.timing}  # the user's own measurements are of the budget's runtime
    pieces = from_graph(graph).pieces
    costs = {
        name: estimate(
            graph,
            name,
            core=budget.core,
            clock_mhz=budget.timed_mhz,
            timing=timings.get(name),
            update=budget.update if why_no_update(name) is None else None,
        ).to_json()
        for name, runtime in RUNTIMES.items()
        if not unrun(runtime, pieces) and (not runtime.stream or why_no_stream(graph) is None)
    }
    return model_card(
        arch,
        labels=[str(label) for label in env.get("labels", ())],
        promoted=run.promoted(net_id),
        artifact=run.artifact(net_id),
        costs=costs,
        data=data or {"name": run.config.get("data", UNKNOWN), "fingerprint": env.get("data", UNKNOWN)},
        budget={"name": budget.name, "board": budget.board, "runtime": budget.runtime, "limits": budget.limits},
        environment=env,
        licences=licences,
        input_rotation=input_rotation,
        firmware=(run.net_dir(net_id) / "c").is_dir(),
    )


def write_card(run: Run, net_id: str, **options: Any) -> Path:
    """Write :func:`run_card` to ``nets/<id>/MODEL_CARD.md``; ``options`` are its own."""
    path = run.net_dir(run.resolve_id(net_id)) / "MODEL_CARD.md"
    write_atomic(path, run_card(run, net_id, **options))
    return path


def data_facts(data: DataSet) -> dict[str, Any]:
    """What a card says of ``data``."""
    splits = {split: len(data.rows(split)) for split in ("train", "val", "test")}
    return {"name": data.name, "fingerprint": data.fingerprint, "splits": splits, "notes": list(data.notes)}


# sections ------------------------------------------------------------------------------------------------


def _front_matter(arch: Arch, licences: Mapping[str, str] | None) -> str:
    licence = (licences or {}).get("weights", UNKNOWN)
    lines = ["---", f"license: {_yaml(licence)}", "library_name: tflite"]
    tag = {"image": "image-classification", "sound": "audio-classification"}.get(arch.input.noun)
    lines += [f"pipeline_tag: {tag}"] if tag else []
    widths = "".join(f"int{bits}, " for bits in sorted({8, *_weights(arch)}, reverse=True))
    return "\n".join([*lines, f"tags: [tinyml, microcontroller, {widths}tinynas]", "---"])


def _what(arch: Arch, labels: Sequence[str], rotation: int) -> str:
    kind = {"rgb": "RGB", "gray": "grayscale", "features": f"features of {arch.channels} channel{'s' if arch.channels > 1 else ''}"}[
        arch.input.kind
    ]
    turned = "; the image must be turned by 180 degrees first (the firmware's `QuantizeFrame` does it)" if rotation else ""
    rows = [
        ("Task", f"{_task(arch)} classification"),
        ("Input", f"{arch.height} x {arch.width} (height x width) {kind}, real = {arch.input.formula}{turned}"),
        ("Output", f"{arch.classes} logits: {_labels(labels, arch.classes)}"),
        ("Architecture", f"`{arch.id}`: {_blocks(arch)}"),
        ("Made with", f"tinynas {__version__}"),
    ]
    bits = _weights(arch)
    if set(bits) - {8}:
        many = " and ".join(f"{_count(found)} of {width} bits" for width, found in bits.items())
        rows.insert(-1, ("Weights", f"{many}; activations of 8 bits"))
    return _table(("What", ""), rows)


def _weights(arch: Arch) -> dict[int, int]:
    """Bits of a weight -> how many weights have as many."""
    return estimate(lower(arch)).weights_by_bits


def _task(arch: Arch) -> str:
    return "feature" if arch.input.noun == "input" else arch.input.noun


def _uses() -> str:
    return (
        "## Intended use\n\n"
        "Unknown: whoever publishes the model says here what it is for and what it is not for. "
        "The records hold how it was trained and measured, which the sections below give."
    )


def _data(data: Mapping[str, Any] | None, labels: Sequence[str], noun: str) -> str:
    known = dict(data or {})
    splits = known.pop("splits", None)
    notes = known.pop("notes", None) or ()
    rows = [("Name", _text(known.pop("name", UNKNOWN))), ("Fingerprint of the content", f"`{_text(known.pop('fingerprint', UNKNOWN))}`")]
    if isinstance(splits, Mapping) and splits:
        rows.append((f"{noun.capitalize()}s", ", ".join(f"{_text(split)} {_count(count)}" for split, count in splits.items())))
    else:
        rows.append((f"{noun.capitalize()}s", UNKNOWN))
    rows.append(("Classes", ", ".join(_text(label) for label in labels) if labels else UNKNOWN))
    rows += [(_text(str(key)).capitalize(), _text(value)) for key, value in known.items() if isinstance(value, (str, int, float))]
    text = "## Data\n\n" + _table(("What", ""), rows)
    if notes:
        text += "\n\nFound while reading it:\n\n" + "\n".join(f"- {_text(note)}" for note in notes)
    return text


def _recipe(promoted: Promoted | None) -> str:
    if promoted is None:
        return "## Training\n\nUnknown: no record of the training was given."
    rows = [
        ("Epochs", f"{promoted.epochs}, best by validation: {promoted.best_epoch}"),
        ("Quantization-aware", "yes" if promoted.qat else "no"),
        ("Seed", str(promoted.seed)),
        ("Time", f"{promoted.seconds:,.0f} s"),
    ]
    if begun := promoted.init:
        counts = ", ".join(f"{begun[fate]} {fate}" for fate in ("taken", "cut", "new"))
        rows.append(("Began with", _text(f"{begun['source']} ({begun['what']}); layers: {counts}")))
    for number, stage in enumerate(promoted.stages, 1):
        reached = f"{stage['epochs']} epochs, validation {_share(stage['val_accuracy'])}, test {_share(stage['test_accuracy'])}"
        rows.append((_text(f"Stage {number}, {stage['name']}"), reached))
    rows += [(_text(key.replace("_", " ")), _text(value)) for key, value in _flat(promoted.recipe) if key != "epochs"]
    return "## Training\n\n" + _table(("Setting", "Value"), rows)


def _results(promoted: Promoted | None, report: Mapping[str, Any], labels: Sequence[str], noun: str) -> str:
    accuracy = _mapping(report.get("accuracy"))
    split, count = accuracy.get("split"), report.get("n", promoted.test_images if promoted else None)
    where = _text(split) if split else ("test" if promoted else UNKNOWN)
    rows = []
    if promoted is not None:
        rows.append(("float32", "validation", _share(promoted.val_accuracy), UNKNOWN, "PyTorch"))
        rows.append(("float32", "test", _share(promoted.test_accuracy), _interval(promoted.test_accuracy, promoted.test_images), "PyTorch"))
    elif accuracy.get("float") is not None:
        rows.append(("float32", where, _share(accuracy["float"]), _interval(accuracy["float"], count), "PyTorch"))
    kernels = _text(report.get("kernels", accuracy.get("kernels", UNKNOWN)))
    int8 = accuracy.get("int8")
    several = report.get("several") or (promoted.several if promoted else {})
    if several:
        return _results_of_several([*rows, ("int8", where, _share(int8), UNKNOWN, kernels)], report, promoted)
    rows.append(("int8", where, _share(int8), _interval(int8, count), kernels))
    text = "## Results\n\n" + _table(("Numbers", "Split", "Accuracy", "95 % interval", "Kernels"), rows)
    text += f"\n\nThe interval (Wilson) is what {_count(count)} {noun}s leave open; it says nothing of other data."
    if report.get("top5") is not None:
        found = interval_words(report["top5"], report["top5_interval"])
        text += f"\n\nThe right class is among the five best on {found} of the {noun}s (int8)."
    further = [
        f"{title} {_share(report[key])}" for key, title in (("balanced_accuracy", "balanced accuracy"), ("auc", "AUC")) if report.get(key)
    ]
    if further:
        text += f"\n\nThe int8 file's {' and '.join(further)} on the same {noun}s."
    agreement = _agreement(report.get("agreement"), noun)
    if agreement:
        text += f"\n\n{agreement}"
    per_class = _per_class(report.get("agreement"), labels)
    if per_class:
        text += "\n\n" + _table(("Class", "int8 agrees with float"), per_class)
    for title, matrix in (("float32", promoted.confusion if promoted else ()), ("int8", report.get("confusion") or ())):
        shown = _confusion(matrix, labels)
        text += f"\n\n### Confusion, {title}\n\n{shown or f'{UNKNOWN.capitalize()}.'}"
    return text


def _results_of_several(rows: Sequence[tuple[str, ...]], report: Mapping[str, Any], promoted: Promoted | None) -> str:
    """The results where inputs may have several labels at once: there is no accuracy, and no interval of what there is."""
    shown = [(numbers, split, share, kernels) for numbers, split, share, _, kernels in rows]
    text = "## Results\n\n" + _table(("Numbers", "Split", "Mean average precision", "Kernels"), shown)
    several = report.get("several")
    if several:
        table = _table(tuple(name.capitalize() for name in CLASS_COLUMNS), [tuple(map(_text, row)) for row in class_rows(several)])
        text += (
            f"\n\nAn image may be of several classes at once, or of none ({several['none']:,} of {several['inputs']:,} here). Each is "
            "said where its output is at least its threshold, in steps of the int8 output (as a probability), which has the highest F1 on "
            f"the images it was chosen on:\n\n{table}"
        )
    agreement = _mapping(report.get("agreement")).get("overall")
    if agreement is not None:
        text += f"\n\nAt a probability of a half the int8 file tells {_share(agreement)} of (image, class) as the float network does."
    if promoted is not None and promoted.several and not several:
        named = [(_text(row["label"]), f"{row['positives']:,}", _share(row["average_precision"])) for row in promoted.several["classes"]]
        text += "\n\n" + _table(("Class", "There", "Average precision, float32"), named)
    return text


def _served(report: Mapping[str, Any], noun: str) -> str:
    """Recall and false alarms, the chosen threshold, and the parts of the data; empty where nothing of it is known."""
    parts = []
    if report.get("positive") and report.get("recall") is not None:
        shares = {name: interval_words(report.get(name), report.get(f"{name}_interval")) for name in ("recall", "false_alarms")}
        said = f"recall {shares['recall']}, false alarms {shares['false_alarms']}"
        parts.append(f"Of {_text(report['positive'])}, where the largest output decides: {said}, with 95 % intervals.")
    if point := report.get("operating_point"):
        said_of = zip(("Threshold", "Expected", "Measured"), threshold_words(point), strict=True)
        parts.append(_table(("The code in `c/` decides by", ""), [(title, _text(said)) for title, said in said_of]))
    if subsets := report.get("subsets"):
        rows = [
            (_text(name), _count(part["n"]), *(interval_words(part.get(key), part.get(f"{key}_interval")) for key in FIGURE_TITLES))
            for name, part in subsets.items()
        ]
        by = "by the threshold" if report.get("subsets_by") == "threshold" else "by the largest output"
        parts.append(f"Parts of the test {noun}s, decided {by}, with 95 % intervals:")
        parts.append(_table(("Part", f"{noun.capitalize()}s", *(title.capitalize() for title in FIGURE_TITLES.values())), rows))
        if gaps := report.get("gaps"):
            parts.append("The largest gap of each group (Fisher's exact test, corrected for all that was compared by Holm's method):")
            parts.append("\n".join(f"- {_text(gap_words(gap))}" for gap in gaps))
    if stream := report.get("stream"):
        said_of = zip(("As it listens", "Expected", "Measured"), listening_words(stream), strict=True)
        parts.append(_table(("Whole recordings", ""), [(title, _text(said)) for title, said in said_of]))
    return "## Who is served how well\n\n" + "\n\n".join(parts) if parts else ""


def _costs(costs: Mapping[str, Mapping[str, Any]] | None, report: Mapping[str, Any], budget: Mapping[str, Any] | None) -> str:
    text = "## Costs\n\n"
    if costs:
        titles = [quantity.title[:1].upper() + quantity.title[1:] for quantity in shown({}, "narrow", "wide")]
        rows = [
            (
                f"`{_text(runtime)}`",
                *(_amount(quantity, value) + _known(cost, quantity) for quantity, value in shown(cost, "narrow", "wide").items()),
            )
            for runtime, cost in costs.items()
        ]
        text += "Estimated, by runtime:\n\n" + _table(("Runtime", *titles), rows)
        text += _front_end(costs)
        sources = _evidence(costs)
        if sources:
            text += f"\n\nHow well these are known:\n\n{sources}"
    else:
        text += "Estimates by runtime: unknown."
    compiled, arena = _mapping(report.get("firmware")), _mapping(report.get("arena_bytes"))
    pairs = [("File", _mapping(report.get("flash_bytes"))), ("TFLM arena, 64-bit host", arena)]
    both = [(title, _size(pair.get("estimated")), _size(pair.get("measured"))) for title, pair in pairs[: 1 if compiled else 2]]
    mcu, checked = arena.get("microcontroller_estimated"), arena.get("runtime")
    where = f"SRAM on the microcontroller, `{_text(checked)}`" if checked else "TFLM arena, 32-bit microcontroller"
    verified = _mapping(report.get("verified"))
    needed = verified.get("used_work_bytes" if of_network(verified) else "needed_arena_bytes")
    both.append((where, _size(mcu), _emulated(needed, verified)))
    if compiled.get("stack_bytes") is not None:  # TFLM's own arena says nothing of a network that it does not run
        both.append(("Stack of an inference", _size(compiled["stack_bytes"]), _emulated(verified.get("stack_bytes"), verified)))
    text += "\n\nThe exported file:\n\n" + _table(("What", "Estimated", "Measured"), both)
    if dead := report.get("dead_channels"):
        text += f"\n\n{counted(dead, 'channel')} of it provably change{'s' if dead == 1 else ''} no output: `tinynas shrink` removes them."
    if budget:
        limits = _mapping(budget.get("limits"))
        most = ", ".join(f"{_text(key)} {_amount(QUANTITIES[key], value)}" for key, value in limits.items())
        board = f" ({_text(budget['board'])})" if budget.get("board") else ""
        text += f"\n\nMade for the budget {_text(budget.get('name', UNKNOWN))}{board}"
        text += f", runtime `{_text(budget.get('runtime', UNKNOWN))}`: at most {most or UNKNOWN}."
    else:
        text += "\n\nBudget: unknown."
    return text


def _emulated(measured: object, verified: Mapping[str, Any]) -> str:
    return "not measured" if measured is None else f"{_size(measured)}, on an emulated {_text(verified['target'])}"


def _verified(report: Mapping[str, Any]) -> str:
    found = _mapping(report.get("verified"))
    if not found:
        return ""
    if of_network(found):
        return _verified_network(found)
    rows = [
        ("Arena promised", _size(found["promised_arena_bytes"])),
        ("Arena to start, in steps of 16 B", _size(found["needed_arena_bytes"])),
        ("Arena in use", _size(found["used_arena_bytes"])),
        ("Code of TFLM and its kernels", _beside(found["code_bytes"], found.get("promised_code_bytes"))),
    ]
    if firmware := _mapping(found.get("firmware")):
        rows.append(("All that is linked, with the model", _beside(firmware["program_bytes"], found.get("promised_program_bytes"))))
        equal = f"{firmware['equal_images']} of {counted(firmware['images'], 'input')} equal bit for bit"
        rows.append(("Self-test of `c/`" if found.get("folder") else "Self-test", f"{'FAIL' if firmware['failed'] else 'PASS'}, {equal}"))
    if found["compared_outputs"]:
        equal = f"{found['equal_outputs']} of {found['compared_outputs']} equal bit for bit"
        rows.append(("Outputs beside tflite-micro's on a computer", equal))
    if found["instructions"]:
        rows.append(("Executed instructions, one inference", _count(sum(row["instructions"] for row in found["instructions"]))))
    rows += [("Tree", f"`{_text(found['tree'])}`"), ("Compiler", _text(found["compiler"])), ("Emulator", _text(found["emulator"]))]
    text = f"## On an emulated {_text(found['target'])}\n\nWith TFLM's {_text(found['kernels'])} kernels:\n\n" + _table(("What", ""), rows)
    return text + _found(found)


def _verified_network(found: Mapping[str, Any]) -> str:
    firmware = found["firmware"]
    rows = [(what[:1].upper() + what[1:], _beside(measured, promised)) for what, promised, measured in network_figures(found)]
    equal = f"{firmware['equal_images']} of {counted(firmware['images'], 'input')} equal bit for bit"
    rows.append(("Self-test of `c/`", f"{'FAIL' if firmware['failed'] else 'PASS'}, {equal}"))
    if found["compared_outputs"]:
        equal = f"{found['equal_outputs']} of {found['compared_outputs']} equal bit for bit"
        rows.append(("Outputs beside tflite-micro's on a computer", equal))
    if found["inference_instructions"] is not None:
        mean, most = found.get("step_instructions"), _count(found["inference_instructions"])
        one = ("Executed instructions, one inference", most) if mean is None else ("Executed instructions of a step", f"{most} at most")
        rows += [one] if mean is None else [one, ("The same, on average", _count(round(mean)))]
    rows += [("Compiler", _text(found["compiler"])), ("Emulator", _text(found["emulator"]))]
    head = f"## On an emulated {_text(found['target'])}\n\nThe folder `c/`, which holds the network as C (`{_text(found['runtime'])}`):\n\n"
    return head + _table(("What", ""), rows) + _found(found)


def _found(found: Mapping[str, Any]) -> str:
    text = "".join(f"\n\n**Not as promised:** {_text(problem)}." for problem in found["problems"])
    text += "".join(f"\n\n{_text(note)}." for note in found.get("notes", ()))
    return text + "\n\nInstructions are exact and are not time: an emulator has no wait states, caches or pipeline."


def _beside(measured: object, promised: object) -> str:
    return _size(measured) + ("" if promised is None else f", {_size(promised)} promised")


def _known(cost: Mapping[str, Any], quantity: Quantity) -> str:
    """How well a quantity is known; evidence is named as the quantity is, without its unit."""
    known = _mapping(cost.get("evidence")).get(quantity.name.removesuffix("_bytes"))
    if known is None:
        return ""
    return ", at least" if quantity.name == "sram_bytes" and cost.get("at_least") else f", {_text(known[0])}"


def _front_end(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """What of the figures is the front end's, which is the same C for every runtime; empty without one."""
    found = next((_mapping(cost.get("front_end")) for cost in costs.values() if cost.get("front_end")), None)
    if found is None:
        return ""
    rows = [("What", _text(found["what"])), ("SRAM", _size(found["sram_bytes"])), ("Flash", _size(found["flash_bytes"]))]
    rows.append(("Stack, at most", _size(found["stack_bytes"])))
    if found["frame_instructions"] is not None:
        rows.append(("Instructions of a frame, at most", _count(found["frame_instructions"])))
    text = "\n\nOf these the front end takes:\n\n" + _table(("Front end", ""), rows)
    text += "\n\nThe latency is that of one frame and an inference."
    for runtime, cost in costs.items():
        known = _mapping(cost.get("front_end"))
        own, network = known["time_share"], known["network_time_share"]
        if own is not None and network is not None:
            text += f" While it listens with `{_text(runtime)}`, the front end takes {_share(own)} of the processor's time, the network"
            text += f" {_share(network)}: it is asked every {_count(known['hop_ms'])} ms."
    return text


def _evidence(costs: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for runtime, cost in costs.items():
        parts = [
            f"{figure.upper() if figure == 'sram' else figure}: {_text(known[1])}"
            for figure, known in _mapping(cost.get("evidence")).items()
        ]
        if cost.get("at_least"):
            parts.append(f"the runtime's own part for {', '.join(map(_text, cost['at_least']))} is not known, so SRAM is at least this")
        if cost.get("exact_plan") is False:
            parts.append("no memory plan of this runtime is known to the byte")
        lines += [f"- `{_text(runtime)}`: {'; '.join(parts)}."] if parts else []
    return "\n".join(lines)


def _limits(
    arch: Arch,
    promoted: Promoted | None,
    report: Mapping[str, Any],
    data: Mapping[str, Any] | None,
    costs: Mapping[str, Mapping[str, Any]] | None,
) -> str:
    elsewhere = {"image": "other cameras, light, distances and people", "sound": "other microphones, rooms, noise and voices"}
    others = elsewhere.get(arch.input.noun, "other data")
    lines = [
        f"Accuracy was measured on the split named above and on nothing else: {others} are unknown.",
        "How accuracy differs between groups of people or places is unknown: the records hold no such labels.",
        "The interval counts sampling only; the share of wrong labels in the data is "
        + (_text(data["label_noise"]) if data and data.get("label_noise") is not None else UNKNOWN)
        + ".",
    ]
    if _mapping(report.get("accuracy")).get("int8") is None:
        lines.append("The int8 file's accuracy has not been measured.")
    if promoted is None:
        lines.append("How the weights came about is unknown.")
    if not costs or any(cost.get("latency_ms") is None for cost in costs.values()):
        lines.append("Where the latency is unknown there is no public measurement for that core and runtime: measure it on the board.")
    if _task(arch) == "image":
        lines.append("A frame that comes as RGB565 has fewer colors than the training images; what that costs is unknown.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _licence(licences: Mapping[str, str] | None) -> str:
    known = dict(licences or {})
    rows = [(part.capitalize(), _text(known.pop(part, UNKNOWN))) for part in ("weights", "data")]
    rows.append(("Code in `c/`", _text(known.pop("code", "Apache-2.0 (tinynas templates)"))))
    rows += [(_text(part).capitalize(), _text(licence)) for part, licence in known.items()]
    return (
        "## Licenses\n\n"
        + _table(("Part", "License"), rows)
        + ("\n\nThe license of the data may bind the weights too; that is for whoever publishes them to settle.")
    )


def _run(arch: Arch, labels: Sequence[str], artifact: Artifact | None, rotation: int, firmware: bool) -> str:
    compiled = {} if artifact is None else _mapping(artifact.report.get("firmware"))
    return f"## How to run\n\n{_run_host(arch, labels, artifact, rotation)}\n\n{_run_board(arch, firmware, compiled)}"


def _run_host(arch: Arch, labels: Sequence[str], artifact: Artifact | None, rotation: int) -> str:
    if artifact is not None and artifact.format != "tflite":
        return "On a computer: `tinynas export --format tflite` writes the .tflite, which this folder does not hold."
    if arch.input.kind == "features":
        return (
            f"On a computer: tflite-micro's Python interpreter (`pip install tflite-micro`) takes int8 (1, {arch.height}, {arch.width}, "
            f"{arch.channels}): each value 0 to 255 of the front end minus 128."
        )
    file = artifact.file if artifact is not None else "model_int8.tflite"
    turn = "[::-1, ::-1]" if rotation else ""
    colour = "RGB" if arch.channels == 3 else "GRAY"
    names = ", ".join(repr(label) for label in labels)
    label = f"[{names}][int(np.argmax(logits))]" if labels else "int(np.argmax(logits))"
    several = artifact.report.get("several") if artifact is not None else None
    if several:
        cuts = ", ".join(f"{row['label']!r}: {row['threshold']['raw']}" for row in several["classes"])
        label = f"[name for value, (name, threshold) in zip(logits.ravel(), {{{cuts}}}.items()) if value >= threshold]"
    code = f"""\
import cv2
import numpy as np
from tflite_micro import runtime  # pip install opencv-python-headless tflite-micro: the kernels that microcontrollers run

height, width = {arch.height}, {arch.width}
image = cv2.cvtColor(cv2.imread("image.jpg"), cv2.COLOR_BGR2{colour})
rows, columns = image.shape[:2]  # the largest centered window of the input's shape
high, wide = min(rows, max(1, round(columns * height / width))), min(columns, max(1, round(rows * width / height)))
image = image[(rows - high) // 2 :, (columns - wide) // 2 :][:high, :wide]
method = cv2.INTER_AREA if height <= high and width <= wide else cv2.INTER_LINEAR
pixels = cv2.resize(image, (width, height), interpolation=method){turn}.reshape(1, height, width, {arch.channels})

interpreter = runtime.Interpreter.from_file("{file}")
interpreter.set_input((pixels.astype(np.int16) - 128).astype(np.int8), 0)
interpreter.invoke()
logits = interpreter.get_output(0)
print({label})"""
    return (
        f"On a computer:\n\n```python\n{code}\n```\n\n"
        "Do not judge it by LiteRT's default delegate (XNNPACK): its int8 results differ from every microcontroller's."
    )


def _run_board(arch: Arch, firmware: bool, compiled: Mapping[str, Any]) -> str:
    if firmware and compiled:
        return (
            f"On a microcontroller: {firmware_words(compiled)} It is an Arduino library, an ESP-IDF component, a Zephyr module and plain\n"
            "CMake in one, and needs nothing else; its README says how. Flash the self-test first: it must print PASS."
        )
    if firmware:
        return (
            "On a microcontroller: the folder `c/` beside this file is an Arduino library, an ESP-IDF component, a Zephyr module and\n"
            "plain CMake in one; its README says how. Flash the self-test first: it must print PASS."
        )
    if "c" not in fitting(arch.input):
        return f"On a microcontroller: tinynas writes no code for this input; {FORMATS['c'].lacks}. TFLM runs the .tflite as it is."
    return "On a microcontroller: `tinynas export --format tflite,c` writes the code around the model."


def _made(arch: Arch, artifact: Artifact | None, environment: Mapping[str, Any] | None) -> str:
    rows = [
        ("Architecture id", f"`{arch.id}`"),
        ("File", f"`{_text(artifact.file)}`, SHA-256 `{artifact.sha256}`" if artifact else UNKNOWN),
    ]
    known = environment or {}
    rows.append(("Python", _text(known.get("python", UNKNOWN))))
    rows.append(("Machine", _text(known.get("platform", UNKNOWN))))
    versions = _mapping(known.get("versions"))
    rows.append(("Packages", ", ".join(f"{_text(k)} {_text(v)}" for k, v in versions.items()) or UNKNOWN))
    return "## Provenance\n\n" + _table(("What", ""), rows)


# pieces --------------------------------------------------------------------------------------------------


def _blocks(arch: Arch) -> str:
    kinds: dict[str, int] = {}
    for block in arch.blocks:
        kinds[block.kind] = kinds.get(block.kind, 0) + 1
    body = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "no blocks"
    stem = f"{'x'.join(map(str, pair(arch.stem.kernel)))} convolution to {arch.stem.out} channels, " if arch.stem else ""
    head = f", last convolution to {arch.head.out}" if arch.head else ""
    return f"{stem}{body}{head}, mean, classifier"


def _labels(labels: Sequence[str], classes: int) -> str:
    return ", ".join(_text(label) for label in labels) if labels else f"names {UNKNOWN} ({counted(classes, 'class', 'classes')})"


def _agreement(agreement: Any, noun: str) -> str:
    overall = agreement
    if isinstance(agreement, Mapping):
        overall = next((agreement[key] for key in ("overall", "argmax", "all", "share") if key in agreement), None)
    if not isinstance(overall, (int, float)):
        return ""
    return f"The int8 file gives the float network's answer on {_share(overall)} of the {noun}s."


def _per_class(agreement: Any, labels: Sequence[str]) -> list[tuple[str, str]]:
    rows = _mapping(agreement).get("per_class") if isinstance(agreement, Mapping) else None
    if isinstance(rows, Mapping):
        return [(_text(name), _share(value)) for name, value in rows.items()]
    if isinstance(rows, (list, tuple)):
        return [(_text(labels[i]) if i < len(labels) else str(i), _share(value)) for i, value in enumerate(rows)]
    return []


def _confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    matrix = [[int(n) for n in row] for row in matrix]
    if not matrix:
        return ""
    names = [_text(labels[i]) if i < len(labels) else str(i) for i in range(len(matrix))]
    if len(matrix) <= _MAX_CONFUSION:
        rows = [
            (f"**{name}**", *(_count(n) for n in row), _recall(row, i)) for i, (name, row) in enumerate(zip(names, matrix, strict=True))
        ]
        return "Rows are true classes, columns what the model said.\n\n" + _table(("", *names, "Recall"), rows)
    mistakes = sorted(
        ((n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n), key=lambda m: (-m[0], m[1], m[2])
    )
    shown = [(names[i], names[j], _count(n)) for n, i, j in mistakes[:_MAX_CONFUSION]]
    return f"The most frequent mistakes of {len(matrix)} classes.\n\n" + _table(("True class", "Said", "Images"), shown)


def _recall(row: Sequence[int], index: int) -> str:
    return _share(row[index] / sum(row)) if sum(row) else UNKNOWN


def _interval(accuracy: Any, count: Any) -> str:
    if not isinstance(accuracy, (int, float)) or not isinstance(count, int) or count < 1:
        return UNKNOWN
    low, high = metrics.wilson(round(accuracy * count), count)
    return f"{_share(low)} to {_share(high)}"


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key} ")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _share(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, (int, float)) else UNKNOWN


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if isinstance(value, float) else UNKNOWN


def _size(value: Any) -> str:
    return f"{int(value):,} B ({format_size(int(value))})" if isinstance(value, (int, float)) else UNKNOWN


def _amount(quantity: Quantity, value: Any) -> str:
    if value is None:
        return f"{UNKNOWN} (no evidence)"
    return _size(value) if quantity.unit == "B" else f"{value:,.1f} ms" if quantity.unit == "ms" else _count(value)


def _text(value: Any) -> str:
    """``value`` as one line that breaks no table and starts no markup."""
    text = printable(re.sub(r"\s+", " ", "none" if value is None else str(value)).strip())
    return re.sub(r"([|<>*`\\\[\]])", r"\\\1", text) or UNKNOWN


def _yaml(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", value):
        return value
    shown = printable(re.sub(r'["\\\s]', " ", value)).replace("\\", "\\\\")
    return f'"{shown}"'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join('---' for _ in header)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
