"""Figures as short texts, the same in the terminal, on pages and in the model card."""

from __future__ import annotations

import math
import os
import shlex
import subprocess

DASH = "–"
"""Stands for what was not measured or does not occur."""


def command(*words: object) -> str:
    """Return a command line of featherseg's as the shell of this system takes it, paths with spaces quoted.

    >>> command("doctor", "my photos")
    "featherseg doctor 'my photos'"
    """
    return " ".join(map(quoted, ("featherseg", *words)))


def quoted(word: object) -> str:
    """Return a word as the shell of this system takes it."""
    return subprocess.list2cmdline([str(word)]) if os.name == "nt" else shlex.quote(str(word))


def percent(fraction: float | None, decimals: int = 1, absent: str = DASH) -> str:
    """Return a score (0–1) as a percentage without the sign; `absent` for NaN and None."""
    return absent if fraction is None or math.isnan(fraction) else f"{100 * fraction:.{decimals}f}"


def share(fraction: float) -> str:
    """Return a share near 1 with three decimals of a percent, rounded down: 100 % means every pixel."""
    return DASH if math.isnan(fraction) else f"{math.floor(fraction * 1e5) / 1e3:.3f} %"


def fixed(value: float, decimals: int) -> str:
    """Return a number with so many decimals."""
    return DASH if math.isnan(value) else f"{value:.{decimals}f}"


def error(value: float) -> str:
    """Return a small relative error."""
    return f"{value:.1e}" if math.isfinite(value) else DASH


def size(count: float) -> str:
    """Return a number of bytes with its unit; 1 MB is 10⁶ bytes. None at all is a file that does not exist."""
    if count == 0:
        return DASH
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def ratio(value: float, base: float) -> str:
    """Return `value` in percent of `base`; nothing where either is not known or zero."""
    known = math.isfinite(value) and math.isfinite(base) and value > 0 and base > 0
    return f"{100 * value / base:.0f} %" if known else ""


def change(value: float, base: float) -> str:
    """Return the difference of two scores in points, with its sign; nothing where either is not known."""
    difference = round(100 * (value - base), 1)
    return "" if math.isnan(difference) else f"{difference:+.1f}".replace("-", "−") if difference else "±0.0"
