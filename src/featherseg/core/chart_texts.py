"""How wide a chart's texts are, which nobody knows before a page is shown; and texts cut to a width."""

from __future__ import annotations

import unicodedata

FONT = 12
"""Size of a chart's letters, in the chart's own units."""


def text_width(text: str, size: float = FONT) -> float:
    """Return about how wide a text is in a sans-serif font; rather too wide than too narrow."""
    return size * sum(_character_width(character) for character in text)


def shorten(text: str, width: float, size: float = FONT) -> str:
    """Return a text cut to `width`: an ellipsis for its middle, since names of files mostly differ at their ends."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    kept = len(text)
    while kept > 1:
        kept -= 1
        tail = kept * 2 // 5
        short = f"{text[: kept - tail]}…{text[len(text) - tail :]}"
        if text_width(short, size) <= width:
            return short
    return "…"


def _character_width(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF" or character in "mwMW@%—…":
        return 1.0
    return 0.4 if character in "iljtfrI.,:;'|!()[] " else 0.76 if character.isupper() else 0.63
