"""How every plot looks, and how a figure becomes bytes.

Figures are made without pyplot, inside `look()`, and rendered by `png` or `svg`. The same figure gives the
same bytes: no dates, no versions, no random ids. Texts are drawn as they are: no mathtext, and a glyph that
no font has is an empty box in a PNG; an SVG keeps the characters and the browser finds a font.
"""

from __future__ import annotations

import base64
import io
import re
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0
"""Inches; 700 pixels in a PNG."""
DPI = 100
COLOURS = 96
"""Colours in a PNG: few enough for a small file, enough for smooth edges."""

INK, SOFT, RULE, PALE = "#1f2933", "#616e7c", "#cbd2d9", "#eef1f4"
ACCENT = "#2f5d8a"
WARM = "#b5533c"
NEUTRAL = "#b8c0c8"
SERIES = ("#2f5d8a", "#88ccee", "#ddcc77", "#cc6677", "#44aa99", "#999933", "#aa4499")
"""Told apart by colour-blind readers: after the muted scheme of Paul Tol (https://personal.sron.nl/~pault/),
ordered so that neighbours differ in lightness too."""

_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Emoji",
)
"""Fonts looked through, in order, for a glyph; those that are not installed are left out."""

# matplotlib's settings and Python's warning filters belong to the whole process: one thread draws at a time.
_TURN = threading.RLock()


@contextmanager
def look() -> Iterator[None]:
    """The house style, whatever the user's matplotlibrc says; every figure is made and rendered inside it."""
    import matplotlib

    with _TURN, warnings.catch_warnings(), matplotlib.rc_context():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": _installed_families(),
                "font.size": 9,
                "text.parse_math": False,
                "text.color": INK,
                "axes.edgecolor": RULE,
                "axes.labelcolor": SOFT,
                "axes.labelsize": 8.5,
                "axes.linewidth": 0.8,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "grid.color": PALE,
                "grid.linewidth": 0.8,
                "xtick.color": RULE,
                "ytick.color": RULE,
                "xtick.labelcolor": SOFT,
                "ytick.labelcolor": SOFT,
                "xtick.labelsize": 8.5,
                "ytick.labelsize": 8.5,
                "xtick.major.size": 3,
                "ytick.major.size": 0,
                "legend.frameon": False,
                "legend.fontsize": 8.5,
                "legend.labelcolor": INK,
                "legend.handlelength": 0.9,
                "legend.handleheight": 0.9,
                "svg.fonttype": "none",
                "svg.hashsalt": "annotation-pipelines",
            }
        )
        yield


@cache
def _installed_families() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [family for family in _FAMILIES if family in installed] or ["sans-serif"]


def canvas(height: float) -> Figure:
    """An empty white figure of the common width; `height` in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
    return Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white", layout=layout)


def headline(figure: Figure, text: str) -> None:
    """The title, at the left edge of the figure."""
    figure.suptitle(fit(text, 96), x=0.013, ha="left", fontsize=10, fontweight="bold")


def no_data(message: str = "no data") -> Figure:
    """A small figure that says what is missing."""
    with look():
        figure = canvas(1.1)
        figure.text(0.5, 0.5, fit(message, 90), ha="center", va="center", color=SOFT, fontsize=10)
    return figure


def bare(axes: Axes) -> None:
    """Take away the frame and the ticks, keeping their labels."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def png(figure: Figure) -> bytes:
    """The figure as a small PNG with a palette, about 700 pixels wide."""
    from PIL import Image

    raw = io.BytesIO()
    with look():
        figure.savefig(raw, format="png", dpi=DPI, metadata={"Software": None})
    small = io.BytesIO()
    picture = Image.open(raw).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(small, format="PNG", optimize=True)
    return small.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an SVG document whose texts stay texts."""
    raw = io.StringIO()
    with look():
        figure.savefig(raw, format="svg", metadata={"Date": None, "Creator": None})
    return raw.getvalue()


def markdown_image(png_bytes: bytes, alt: str) -> str:
    """A PNG as a Markdown image that carries its bytes, for Dagster's Markdown metadata."""
    words = re.sub(r"[\[\]()\\`<>]", " ", alt)
    return f"![{' '.join(words.split())}](data:image/png;base64,{base64.b64encode(png_bytes).decode()})"


def fit(text: str, cells: int) -> str:
    """A text in one line of at most `cells` columns (a CJK character takes two), cut with an ellipsis."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    text = " ".join(text.split())
    if sum(map(_cells, text)) <= cells:
        return text
    used, kept = 1, ""
    for character in text:
        used += _cells(character)
        if used > cells:
            break
        kept += character
    return kept.rstrip() + "…"


def _cells(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
