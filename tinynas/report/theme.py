"""Colors and layout of every figure, light and dark.

Figures name their colors (``@front``) instead of giving them, so that one figure serves both themes. The hues are
Okabe and Ito's, which people with any of the common color-vision deficiencies tell apart; marks differ in shape or
dash as well. Dark values are lightened to keep at least 4.5:1 against the ground.
"""

from __future__ import annotations

from typing import Any, Literal

Mode = Literal["light", "dark"]
MODES: tuple[Mode, ...] = ("light", "dark")

PALETTES: dict[Mode, dict[str, str]] = {
    "light": {
        "ink": "#1a1f25",
        "muted": "#59636e",
        "faint": "#c4ccd4",
        "grid": "#e7ebef",
        "paper": "#ffffff",
        "ground": "#f4f6f8",
        "front": "#0072b2",
        "cloud": "#98a3af",
        "baseline": "#c77700",
        "limit": "#b84300",
        "picked": "#a8467f",
        "good": "#00795a",
        "k1": "#aab4be",
        "k3": "#56b4e9",
        "k5": "#009e73",
        "k7": "#e69f00",
        "k9": "#d55e00",
        "low": "#f4f6f8",
        "high": "#0072b2",
        "full": "#6fbcea",
        "over": "#f9dcc9",
        "beyond": "#ee9a63",
        "wash": "rgba(0,114,178,0.10)",
    },
    "dark": {
        "ink": "#e9edf1",
        "muted": "#9ba7b3",
        "faint": "#47525d",
        "grid": "#28313a",
        "paper": "#171c22",
        "ground": "#0f1317",
        "front": "#56b4e9",
        "cloud": "#6d7884",
        "baseline": "#f0ad2e",
        "limit": "#ff8a4c",
        "picked": "#e79cc6",
        "good": "#35c79b",
        "k1": "#65717d",
        "k3": "#56b4e9",
        "k5": "#1fb88d",
        "k7": "#f0ad2e",
        "k9": "#f0783c",
        "low": "#1d242b",
        "high": "#2a76ab",
        "full": "#1f5f8c",
        "over": "#4d2c1b",
        "beyond": "#a14a1e",
        "wash": "rgba(86,180,233,0.14)",
    },
}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def layout(mode: Mode) -> dict[str, Any]:
    """The plotly layout that every figure starts from."""
    color = PALETTES[mode]
    axis = {
        "gridcolor": color["grid"],
        "linecolor": color["faint"],
        "tickcolor": color["faint"],
        "zeroline": False,
        "automargin": True,
        "title": {"font": {"size": 12, "color": color["muted"]}, "standoff": 8},
        "tickfont": {"size": 11.5, "color": color["muted"]},
        "fixedrange": True,
    }
    return {
        "font": {"family": FONT, "size": 13, "color": color["ink"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 52, "r": 16, "t": 12, "b": 44},
        "xaxis": axis,
        "yaxis": axis,
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": color["paper"],
            "bordercolor": color["faint"],
            "font": {"size": 12.5, "color": color["ink"]},
            "align": "left",
        },
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12, "color": color["muted"]},
            "itemsizing": "constant",
        },
        "bargap": 0.15,
        "dragmode": False,
    }


def colored(node: Any, mode: Mode) -> Any:
    """``node`` with every ``@name`` replaced by the color of ``mode``."""
    if isinstance(node, str) and node.startswith("@"):
        return PALETTES[mode][node[1:]]
    if isinstance(node, dict):
        return {key: colored(value, mode) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [colored(value, mode) for value in node]
    return node


def picture_page(title: str, body: str) -> str:
    """A page of figures by itself, as HTML: ``body`` holds a ``div`` of class ``light`` and one of class ``dark`` of each, of which the
    reader's system shows one. It opens offline, and is as wide as the screen."""
    from plotly.offline import get_plotlyjs

    light, dark = PALETTES["light"], PALETTES["dark"]
    style = (
        f"body{{margin:16px;font-family:{FONT};color:{light['ink']};background:{light['paper']}}}.dark{{display:none}}"
        f"@media(prefers-color-scheme:dark){{body{{color:{dark['ink']};background:{dark['paper']}}}.dark{{display:block}}.light{{display:none}}}}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{style}</style><script>{get_plotlyjs()}</script></head><body>{body}</body></html>"
    )
