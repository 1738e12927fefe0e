"""A network of a run, or one without training, made into the files that its user asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinynas.arch import Arch
from tinynas.data import DataSet
from tinynas.errors import InternalError, RunError, counted
from tinynas.export.card import data_facts, write_card
from tinynas.export.formats import fitting
from tinynas.export.model import ExportOptions, export_model
from tinynas.export.served import Audience
from tinynas.export.verify import still_verified
from tinynas.export.written import REPORT
from tinynas.files import write_atomic
from tinynas.graph import lower
from tinynas.model import Network
from tinynas.quantize.qat import finish_qat
from tinynas.records import Artifact, Promoted
from tinynas.runs import Run
from tinynas.train.quantised import load_trained

#: Training images that calibrate activations when a network is exported.
CALIBRATION_IMAGES = 256
#: Random inputs that stand for images where a network was not trained.
_NOISE_IMAGES = 64


#: What a row says of who is served, where it is known: parts of the export report.
SERVED = (
    *("balanced_accuracy", "auc", "accuracy_interval", "top5", "top5_interval", "positive", "recall", "recall_interval"),
    "several",
    *("false_alarms", "false_alarms_interval", "operating_point", "stream", "subsets_by", "subsets", "gaps"),
)


@dataclass(frozen=True)
class ExportRow:
    """A network that was exported: a row of ``promote --json``, and the document of ``export --json``."""

    id: str
    folder: Path
    files: dict[str, str]
    report: dict[str, Any]
    """The export report, as in ``export.json``."""
    promoted: dict[str, Any] | None = None
    """Full training, as in ``metrics.json``; None for a network that was not trained."""

    @property
    def problems(self) -> list[str]:
        """What keeps the file from being good; empty for a good one."""
        verified = self.report.get("verified") or {}
        return [*self.report.get("problems", ()), *verified.get("problems", ())]

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the keys of ``promote --json``."""
        agreement = self.report.get("agreement") or {}
        return {
            "id": self.id,
            "accuracy": self.report.get("accuracy") or {"float": None, "int8": None, "split": None},
            **{name: self.report[name] for name in SERVED if name in self.report},
            "agreement": agreement.get("overall") if isinstance(agreement, dict) else agreement,
            "cost": self.report.get("cost"),
            "flash_bytes": self.report.get("flash_bytes"),
            "arena_bytes": self.report.get("arena_bytes"),
            "runtime": self.report.get("runtime"),
            "firmware": self.report.get("firmware"),
            "evidence": self.report.get("evidence"),
            "plan": self.report.get("plan"),
            "dead_channels": self.report.get("dead_channels"),
            "kernels": self.report.get("kernels"),
            "problems": self.problems,
            "verified": self.report.get("verified"),
            "training": self.promoted,
            "files": self.files,
        }


def export_promoted(
    run: Run,
    net_id: str,
    folder: Path,
    images: DataSet,
    promoted: Promoted,
    options: ExportOptions,
    formats: Sequence[str] | None = None,
    *,
    false_alarms: float | None = None,
    on_note: Callable[[str], None] | None = None,
) -> ExportRow:
    """Write and check the promoted network ``net_id`` of ``run``; its int8 accuracy is that on the test images.

    ``formats``: by default all that can hold the network. In the run's own folder the record and the card of the run are written too,
    elsewhere ``export.json``. ``false_alarms``: the rate for which a threshold is chosen on validation images; outside of the run's own
    folder the one that was promoted. Raises UserError subclasses with the remedy; RunError where another training of the network has taken
    the place of ``promoted``: nothing is written into the run's own folder then. ``on_note`` hears of files of an earlier export that went.
    """
    if folder != run.net_dir(net_id):
        return _export_promoted(run, net_id, folder, images, promoted, options, formats, false_alarms, on_note)
    with run.finishing(net_id):
        if not run.has_promoted(promoted):
            raise RunError(
                f"{run.path}: another training of {net_id} has ended meanwhile, and is what is promoted of it now; this one, of "
                f"{counted(promoted.epochs, 'epoch')}, is kept in {run.net_dir(net_id) / 'earlier'}, and was not exported",
                "train one after the other, or each in a run of its own (--out)",
            )
        return _export_promoted(run, net_id, folder, images, promoted, options, formats, false_alarms, on_note)


def _export_promoted(
    run: Run,
    net_id: str,
    folder: Path,
    images: DataSet,
    promoted: Promoted,
    options: ExportOptions,
    formats: Sequence[str] | None,
    false_alarms: float | None,
    on_note: Callable[[str], None] | None,
) -> ExportRow:
    graph = lower(run.arch(net_id))
    weights = run.weights_file(net_id)
    try:
        trained = load_trained(graph, weights)
    except RunError as error:
        raise run.damaged(weights, error.message.removeprefix(f"{weights}: ")) from None
    before = _exported_before(run, net_id)
    if false_alarms is None and before is not None and folder != run.net_dir(net_id):
        false_alarms = (before.report.get("operating_point") or {}).get("wished")
    artifact = export_model(
        trained if isinstance(trained, Network) else trained.floats(),
        calibration=images.read_by(graph.input, "train").subset(CALIBRATION_IMAGES, 0).inputs,
        labels=images.labels,
        out=folder,
        formats=fitting(graph.input, options.runtime) if formats is None else formats,
        evaluation=images.read_by(graph.input, "test"),
        split_name="test",
        options=options,
        qgraph=None if isinstance(trained, Network) else finish_qat(trained),
        arena_limit=int(run.budget.limits["sram_bytes"]),
        arena_section=run.budget.arena.section,
        net_id=net_id,
        audience=Audience(images, false_alarms=false_alarms),
        owned=folder == run.net_dir(net_id),
        on_note=on_note,
    )
    files = _paths(folder, artifact)
    if folder == run.net_dir(net_id):
        known = before is not None and before.sha256 == artifact.sha256
        if before is not None and known and (verified := still_verified(before.report, folder / "c")) is not None:
            artifact = replace(artifact, report={**artifact.report, "verified": verified})
        run.write_artifact(artifact)
        files["card"] = str(write_card(run, net_id, data=data_facts(images)))
    else:
        _write_record(folder, artifact)
    return ExportRow(net_id, folder, files, artifact.report, promoted.to_json())


def _exported_before(run: Run, net_id: str) -> Artifact | None:
    try:
        return run.artifact(net_id)
    except RunError:  # a damaged record is written anew
        return None


def add_verified(run: Run, row: ExportRow, verified: dict[str, Any], images: DataSet) -> ExportRow:
    """Put what verifying a network of ``run`` found (:meth:`tinynas.export.verify.Verified.to_json`) into its record and onto its card."""
    artifact = run.artifact(row.id)
    if artifact is None:
        raise InternalError(f"{row.id} was verified and has no record")
    artifact = replace(artifact, report={**artifact.report, "verified": verified})
    run.write_artifact(artifact)
    write_card(run, row.id, data=data_facts(images))
    return replace(row, report=artifact.report)


def export_untrained(
    arch: Arch,
    folder: Path,
    options: ExportOptions,
    formats: Sequence[str] | None = None,
    *,
    on_note: Callable[[str], None] | None = None,
) -> ExportRow:
    """Write ``arch`` with random weights: for sizes, arena and timing on a board, not for answers, and the report says so."""
    graph = lower(arch)
    noise = np.random.default_rng(0).integers(0, 256, (_NOISE_IMAGES, *graph.input.shape), dtype=np.uint8)
    artifact = export_model(
        Network(graph, seed=0).eval(),
        calibration=noise,
        labels=tuple(f"class_{index}" for index in range(arch.classes)),
        out=folder,
        formats=fitting(graph.input, options.runtime) if formats is None else formats,
        options=options,
        on_note=on_note,
    )
    artifact = replace(artifact, report={**artifact.report, "weights": "random: for sizes and timing only"})
    _write_record(folder, artifact)
    return ExportRow(arch.id, folder, _paths(folder, artifact), artifact.report)


def _paths(folder: Path, artifact: Artifact) -> dict[str, str]:
    return {name: str(folder / file) for name, file in artifact.report["files"].items()}


def _write_record(folder: Path, artifact: Artifact) -> None:
    write_atomic(folder / REPORT, json.dumps(artifact.to_json(), indent=2) + "\n")
