"""Bars made of text, for places that show a little Markdown at once and a picture only on demand."""

from __future__ import annotations

from collections.abc import Mapping

MOST = 8
WIDTH = 24


def text_bars(counts: Mapping[str, int], *, most: int = MOST) -> str:
    """Counts as a Markdown code block of bars, most frequent first; below 1,000 characters, so that the UI shows it.

    Labels beyond `most` are put together, long names are cut.
    """
    total = sum(counts.values())
    if not total:
        return "nothing labelled yet"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:most], ordered[most:]
    if rest:
        shown.append((f"{len(rest)} more", sum(count for _, count in rest)))
    top = max(count for _, count in shown)
    width = min(WIDTH, max(len(label) for label, _ in shown))
    lines = [
        f"{_cut(label, width):<{width}} {'█' * max(count > 0, round(WIDTH * count / top)):<{WIDTH}} "
        f"{count:,} ({count / total:.0%})"
        for label, count in shown
    ]
    return "\n".join(("```", *lines, "```"))


def _cut(label: str, width: int) -> str:
    label = " ".join(label.replace("`", "'").split())
    return label if len(label) <= width else label[: width - 1] + "…"
