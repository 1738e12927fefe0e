"""The page: everything about a run in one HTML file that opens offline.

Python makes numbers, words and figures; page.js only shows them. All text that comes from outside (class names, file
names, board names) is escaped, and the page's Content-Security-Policy lets no script run but its own three.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import resources
from string import Template
from typing import Any

from tinynas import __version__
from tinynas.report import figures
from tinynas.report.net_words import blank, network
from tinynas.report.run_words import run_slots
from tinynas.report.search_figures import Dot, LimitsInfo, draw_pareto
from tinynas.report.source import Source
from tinynas.report.theme import PALETTES, layout
from tinynas.report.words import summary, text, title
from tinynas.runs import Run

#: Seconds between two looks for news while a search runs.
EVERY = 5

#: A search may end this much after its deadline; one without a sign of life for so long is taken for dead.
GRACE_S, SILENCE_S = 60.0, 1800.0


def render(run: Run, *, running: bool = False) -> str:
    """The HTML text of the page of ``run``; ``running`` makes it look for news of itself."""
    source = Source(run, running)
    data = document(source)
    slots: Mapping[str, str] = data["slots"]
    scripts = {"probe": _asset("probe.js"), "plotly": _plotly(), "script": _asset("page.js")}
    return Template(_asset("page.html")).substitute(
        **{name.replace("-", "_"): slots[name] for name in slots},
        **scripts,
        policy=_policy(scripts.values()),
        version=__version__,
        title=text(data["title"]),
        css=_asset("page.css"),
        data=_inert(data),
    )


def _asset(name: str) -> str:
    return (resources.files("tinynas.report") / "assets" / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def _policy(scripts: Iterable[str]) -> str:
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "frame-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _inert(data: Any) -> str:
    """``data`` as JSON that no HTML parser can leave."""
    raw = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(node: Any) -> Any:
    # JSON has no infinities; figures read null as a gap. Floats keep six digits: nobody sees more, and files shrink.
    if isinstance(node, float):
        return float(f"{node:.6g}") if math.isfinite(node) else None
    if isinstance(node, dict):
        return {key: _finite(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_finite(value) for value in node]
    return node


def document(source: Source) -> dict[str, Any]:
    """Everything page.js shows: words (escaped HTML), figures, networks."""
    progress, limits, spaces = source.progress(), source.limits(), source.spaces()
    nets = {net_id: network(source, net_id) for net_id in source.detailed}
    shown = [net_id for net_id in source.detailed if net_id in nets]
    front = [i for i in source.front if i in nets and i not in source.picked]
    others = [i for i in shown if i not in source.front and i not in source.picked]
    default = (source.picked or source.front or tuple(shown))[:1]
    hover = {net_id: "<br>" + "<br>".join(text(line) for line in summary(source.arch(net_id))) for net_id in shown}
    drawings = {cost: draw_pareto(info, lambda dot: _hover(dot, hover)) for cost, info in source.fronts.items()}
    slots = run_slots(source, progress, limits, spaces)
    return {
        # What the page compares to know whether there is news: the moment of writing is not part of it.
        "stamp": hashlib.sha256(json.dumps([_finite(drawings), slots, _finite(nets)], sort_keys=True).encode()).hexdigest()[:16],
        "title": f"{source.run.name} · tinynas",
        "running": source.running,
        "every": EVERY,
        "slots": slots,
        "axes": [[cost, title(cost)] for cost in source.costs],
        "order": list(dict.fromkeys([*default, *source.front, *shown])),
        "groups": [["Trained in full", [i for i in source.picked if i in nets]], ["On the front", front], ["Others tried", others]],
        "nets": nets,
        "blank": blank(),
        "figures": {
            "pareto": drawings,
            "fronts": {cost: list(info.front) for cost, info in source.fronts.items()},
            "progress": figures.draw(progress) if any(arm.spent for arm in progress.arms) else None,
            "spaces": figures.draw(spaces) if spaces.curves else None,
            "limits": [figures.draw(LimitsInfo((one,), limits.networks)) for one in limits.limits[:4]],
        },
        "themes": {"light": layout("light"), "dark": layout("dark")},
        "palettes": PALETTES,
    }


def _hover(dot: Dot, lines: Mapping[str, str]) -> str:
    return lines.get(dot.id, "")


def stale(run: Run) -> bool:
    """True where something of the run is newer than its page."""
    if not run.report_file.exists():
        return True
    written = run.report_file.stat().st_mtime
    watched = [
        run.trials_file,
        run.config_file,
        *run.path.glob("*.json"),
        *run.path.glob("nets/*/*.json"),
        *run.path.glob("nets/*/train.csv"),
    ]
    return any(path.exists() and path.stat().st_mtime > written for path in watched)


def search_is_running(run: Run) -> bool:
    """True where a search has begun and not ended, as far as its files tell; a killed one counts as ended before long."""
    if run.search_ended or not run.searched:
        return False
    deadline = (run.read_json("clock") or {}).get("deadline")
    if isinstance(deadline, (int, float)) and time.time() > deadline + GRACE_S:
        return False
    changed = max(path.stat().st_mtime for path in (run.config_file, run.trials_file, run.path / "clock.json") if path.exists())
    return time.time() < changed + SILENCE_S
