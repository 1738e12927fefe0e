"""The page: whole, offline, and safe with any class name; written anew while a search runs."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import EVIL, make_run

from tinynas.budget import load_budget
from tinynas.config import load, shipped
from tinynas.export.card import run_card
from tinynas.report import figures, page, watch_report, write_report, write_space_picture
from tinynas.report.run_words import _progress_words
from tinynas.report.source import Source
from tinynas.runs import Run
from tinynas.space import Space


class Reader(HTMLParser):
    """Tags, attributes, scripts and the data of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.data: dict[str, Any] = {}
        self._kind: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._kind = None if tag != "script" else dict(attrs).get("type") or "code"

    def handle_data(self, data: str) -> None:
        if self._kind == "code":
            self.scripts.append(data)
        elif self._kind:
            self.data = json.loads(data)
        self._kind = None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "demo", networks=14)


@pytest.fixture(scope="module")
def html(run: Run) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def parsed(html: str) -> Reader:
    return Reader(html)


def test_the_page_loads_nothing(parsed: Reader) -> None:
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            target = attributes.get(name) or ""
            assert not target or target.startswith(("#", "data:,")), f"<{tag} {name}={target}>"
    assert not [tag for tag, _ in parsed.tags if tag in {"iframe", "object", "embed", "link"} and tag != "link"]


def test_only_our_own_scripts_may_run(parsed: Reader) -> None:
    (policy,) = (a["content"] or "" for tag, a in parsed.tags if tag == "meta" and a.get("http-equiv"))
    allowed = re.findall(r"'sha256-([^']+)'", policy)
    found = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in parsed.scripts]
    assert found == allowed
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]


def test_every_slot_and_figure_has_its_place(parsed: Reader) -> None:
    slots = {a["data-slot"] for _, a in parsed.tags if a.get("data-slot")}
    assert slots == set(parsed.data["slots"])
    words = {a["data-net"] for _, a in parsed.tags if a.get("data-net")}
    net = parsed.data["nets"][parsed.data["order"][0]]
    assert words == set(net["words"])
    places = {a["data-figure"] for _, a in parsed.tags if a.get("data-figure")}
    assert set(net["figures"]) <= places
    assert {"pareto", "progress", "spaces", "limit0", "limit3"} <= places


def test_every_heading_and_label_points_somewhere(parsed: Reader) -> None:
    ids = [a["id"] for _, a in parsed.tags if a.get("id")]
    assert len(set(ids)) == len(ids)
    for _, attributes in parsed.tags:
        for name in ("aria-labelledby", "for"):
            if attributes.get(name):
                assert attributes[name] in ids


def test_the_page_holds_the_runs_numbers(run: Run, parsed: Reader) -> None:
    source = Source(run)
    data = parsed.data
    assert set(data["nets"]) == set(source.scored)
    assert data["order"][0] == source.picked[0]
    assert next(a for a, _ in data["axes"]) == "macs"
    front = {t.id: t for t in source.trials if t.id in source.front}
    for net_id, trial in front.items():
        row = re.search(rf'data-id="{net_id}".*?</tr>', data["slots"]["front-table"])
        assert row
        assert f"{100 * (trial.accuracy or 0):.1f} %" in row[0]
    assert "84.1\N{NO-BREAK SPACE}% in int8 on test images" in data["slots"]["headline"]
    exported = data["nets"][source.picked[0]]
    assert "equals its estimate to the byte" in exported["words"]["promises-words"]
    assert "confusion_int8" in exported["figures"]
    assert "tinynas promote" in data["nets"][data["order"][-1]]["words"]["facts"]


@pytest.mark.parametrize("expected", [0.7, 0.876])
def test_the_first_words_say_how_short_the_training_was_and_what_is_expected(expected: float, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", networks=3, promoted=0)
    best = Source(run).front[0]
    (trial,) = [one for one in run.trials() if one.id == best]
    run.append_trial(dataclasses.replace(trial, scores={"accuracy": 0.7, "expected_accuracy": expected}, epochs=1))
    slots = Reader(write_report(Run.open(run.path)).read_text(encoding="utf-8")).data["slots"]
    hope = ", 87.6 % expected" if expected > 0.7 else ""
    assert f"70.0 % after 1 epoch{hope}, fits".replace(" %", "\N{NO-BREAK SPACE}%") in slots["headline"]
    assert "after 1 epoch of training" in slots["lead"] and ("87.6 %" in slots["lead"]) == bool(hope)
    assert f"after 1 epoch{hope.replace(',', ';')}</span>" in slots["kpis"]


@pytest.mark.parametrize("named", [["macs"], ["accuracy", "macs"]])
def test_the_search_and_its_baseline_are_compared_in_the_searchs_own_box(named: list[str], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", networks=8)
    config = yaml.safe_load(run.config_file.read_text())
    config["settings"]["objectives"] = named
    run.config_file.write_text(yaml.safe_dump(config))
    one = Source(Run.open(run.path))
    box = ((1 / 2, 1.0), (math.log(4.2e6), math.log(0.4e6)))
    told = one.progress()
    assert told == figures.progress_info(one.history, cost="macs", box=box, seconds=_seconds(one), noun="image")
    assert told != figures.progress_info(one.history, cost="macs", box=None, seconds=_seconds(one), noun="image")


def test_a_search_for_the_best_alone_is_compared_by_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", networks=8)
    config = yaml.safe_load(run.config_file.read_text())
    for names, volume in ((["accuracy"], False), (["accuracy", "macs"], True)):
        config["settings"]["objectives"] = names
        run.config_file.write_text(yaml.safe_dump(config))
        one = Source(Run.open(run.path))
        words = _progress_words(one, one.progress())
        assert ("ypervolume" in words) == volume and "in this run" in words


def _seconds(source: Source) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for line in source.run.log("times"):
        found.setdefault(line["number"], []).append(line["seconds"])
    return found


def test_a_run_of_sounds_speaks_of_sounds(tmp_path: Path) -> None:
    run = make_run(tmp_path / "heard", networks=4, promoted=1, space_name="listen")
    source = Source(run)
    artifact = run.artifact(source.picked[0])
    assert artifact is not None
    figures = {"events": 9, "missed": 1, "miss_rate": 1 / 9, "false_alarms": 2, "false_alarms_per_hour": 4.0}
    stream = {
        "recordings": 3,
        "hours": 0.5,
        "hop_ms": 250,
        "allowed_per_hour": 1.0,
        "smoothing": {"windows": 2, "threshold": 0.9, "refractory_s": 1.0, "chosen_on": "val"},
        "expected": {**figures, "missed": 0},
        "curve": [{"threshold": 0.9, **figures}],
        **figures,
    }
    run.write_artifact(dataclasses.replace(artifact, report={**artifact.report, "stream": stream}))
    text = write_report(run).read_text(encoding="utf-8")
    data = Reader(text).data
    words = [*data["slots"].values(), *(word for net in data["nets"].values() for word in net["words"].values())]
    assert not [word for word in words if re.search(r"\bimages?\b", word)], "nothing here is an image"
    assert 'from <span data-slot="noun">sound</span> to answer' in text
    assert "84.1\N{NO-BREAK SPACE}% in int8 on test sounds" in data["slots"]["headline"]
    assert "validation sounds right" in data["slots"]["lead"]
    net = data["nets"][source.picked[0]]
    heard = source.network(source.picked[0])[2].front_end
    assert heard is not None and heard.front_end.summary in net["words"]["facts"]
    assert "in all" in net["words"]["memory-words"] and "front end" in net["words"]["memory-words"]
    said = net["words"]["stream-words"]
    assert "0 of 9 events missed, 4.00 false alarms an hour on the val split, which chose it" in said
    assert "1 of 9 events missed" in said and [trace["name"] for trace in net["figures"]["stream"]["data"]] == [
        "thresholds",
        "chosen on val",
    ]
    card = run_card(run, source.picked[0])
    assert heard.front_end.summary in card and "sounds leave open" in card and "Whole recordings" in card
    assert "audio-classification" in card and not re.search(r"\bimages?\b", card)


def test_outside_text_is_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "evil", networks=6, labels=EVIL)
    text = write_report(run).read_text(encoding="utf-8")
    assert len(re.findall(r"<script", text)) == 4 + len(re.findall(r"<script", page._plotly()))
    parsed = Reader(text)
    assert len(parsed.scripts) == 3
    assert all(tag != "img" for tag, _ in parsed.tags)

    def walk(node: Any) -> None:
        if isinstance(node, str):
            assert "<img" not in node
            assert "<script" not in node
            assert "<b>board" not in node
        elif isinstance(node, dict):
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk({key: value for key, value in parsed.data.items() if key != "title"})
    raw = text.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&") & set(raw)


def test_words_price_the_limits(parsed: Reader) -> None:
    words = parsed.data["slots"]["limits-words"]
    assert words.count("<li>") == 3
    assert "less would have cost" in words
    assert len(parsed.data["figures"]["limits"]) == 3


@pytest.mark.parametrize("networks", [0, 1])
def test_runs_with_little_in_them_have_a_page(tmp_path: Path, networks: int) -> None:
    run = make_run(tmp_path / "small", networks=networks, promoted=0, finished=False)
    parsed = Reader(page.render(run, running=True))
    assert len(parsed.data["nets"]) == networks
    assert parsed.data["running"]
    assert ("Nothing trained yet" in parsed.data["slots"]["headline"]) == (networks == 0)


def test_a_run_as_created_has_a_page(tmp_path: Path) -> None:
    space = load(shipped("search_spaces")["tiny"], Space)
    run = Run.create(tmp_path / "new", config={}, space=space, budget=load_budget("stm32f746"), env={})
    assert Reader(page.render(run)).data["order"] == []


def test_the_stamp_changes_with_the_content_only(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", networks=4, finished=False, promoted=0)
    first = Reader(page.render(run, running=True)).data["stamp"]
    assert Reader(page.render(run, running=True)).data["stamp"] == first
    run.append_trial(run.trials()[-1].__class__(**{**vars(run.trials()[-1]), "scores": {"accuracy": 0.99}}))
    assert Reader(page.render(run, running=True)).data["stamp"] != first


def test_many_networks_keep_the_page_small_and_quick(tmp_path: Path) -> None:
    run = make_run(tmp_path / "big", networks=260, promoted=0)
    started = time.process_time()
    text = page.render(run)
    assert time.process_time() - started < 20
    data = Reader(text).data
    assert len(data["nets"]) == 120
    assert set(data["figures"]["fronts"]["macs"]) <= set(data["nets"])
    assert len(text) < 12_000_000


def test_watch_follows_a_search_and_ends_with_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "live", networks=3, finished=False, promoted=0)
    written: list[float] = []
    thread = threading.Thread(
        target=watch_report, args=(run,), kwargs={"every": 0.05, "on_write": lambda p: written.append(p.stat().st_mtime)}
    )
    thread.start()
    deadline = time.monotonic() + 20
    while not written and time.monotonic() < deadline:
        time.sleep(0.02)
    assert Reader(run.report_file.read_text(encoding="utf-8")).data["running"]
    time.sleep(0.2)
    assert len(written) == 1, "written without news"
    run.write_json("summary", {"seconds": 1.0, "reason": "done", "interrupted": False})
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert not Reader(run.report_file.read_text(encoding="utf-8")).data["running"]


def test_a_resumed_search_counts_as_running(tmp_path: Path) -> None:
    run = make_run(tmp_path / "again", networks=2)
    assert not page.search_is_running(run)
    run.write_json("clock", {"deadline": None, "timeout": None})
    later = time.time() + 5
    os.utime(run.path / "clock.json", (later, later))
    assert page.search_is_running(run)


def test_a_killed_search_counts_as_ended_before_long(tmp_path: Path) -> None:
    run = make_run(tmp_path / "killed", networks=2, finished=False)
    assert page.search_is_running(run)
    assert Reader(write_report(run).read_text(encoding="utf-8")).data["running"]
    run.write_json("clock", {"deadline": time.time() - 3600, "timeout": 60})
    assert not page.search_is_running(run)
    run.write_json("clock", {"deadline": None, "timeout": None})
    long_ago = time.time() - 7200
    for path in (run.config_file, run.trials_file, run.path / "clock.json"):
        os.utime(path, (long_ago, long_ago))
    assert not page.search_is_running(run)
    assert "unfinished" in Reader(write_report(run).read_text(encoding="utf-8")).data["slots"]["eyebrow"]


def test_space_picture_is_one_offline_file(tmp_path: Path) -> None:
    class Table:
        def to_json(self) -> list[dict[str, Any]]:
            return [
                {"resolution": 48, "width_mult": 0.5, "share": 0.4, "mean_macs": 2e6, "macs_quantiles": [1e6, 2e6, 3e6], "chosen": True}
            ]

    text = write_space_picture(Table(), tmp_path / "spaces.html").read_text(encoding="utf-8")
    assert "48 px" in text
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', text)


def test_a_search_for_the_best_alone_says_so(run: Run, tmp_path: Path) -> None:
    """The page of the same networks, whose front had many; unknown objectives are taken for a trade."""
    words = {}
    for name, objectives in (
        ("alone", ["accuracy", "int8_accuracy"]),
        ("front", ["accuracy", "macs"]),
        ("old", ["no-longer-known"]),
        ("unsaid", []),
    ):
        copy = tmp_path / name
        shutil.copytree(run.path, copy)
        config = yaml.safe_load((copy / "config.yaml").read_text())
        config["settings"]["objectives"] = objectives
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
        words[name] = Source(Run.open(copy), False)
    assert [source.traded for source in words.values()] == [False, True, True, True]
    slots = page.document(words["alone"])["slots"]
    assert "asked for the best that fits, whatever it costs" in slots["front-words"]
    assert slots["table-title"] == "The best" and "on the front<" not in slots["kpis"]
    slots = page.document(words["front"])["slots"]
    assert slots["table-title"] == "The front, most accurate first" and "on the front<" in slots["kpis"]
