"""How long things take, as people write it: ``20m``, ``1h30m``; and as they read it: ``23 min``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from .errors import ConfigError
from .text_files import shortened

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"
_WRITTEN = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m(?:in)?)?(?:{_NUMBER}s)?", re.ASCII | re.IGNORECASE)


def parse_duration(text: str, name: str) -> float:
    """Return seconds, over 0, of a text such as ``90s``, ``20m``, ``1.5h`` or ``1h30m``.

    >>> parse_duration("1h30m", "--time")
    5400.0

    Args:
        text: hours, minutes and seconds, in this order; spaces do not matter.
        name: of what the text was given for.

    Raises:
        ConfigError: it is none, or zero.
    """
    match = _WRITTEN.fullmatch("".join(text.split()))
    parts = zip(match.groups(), _UNITS.values(), strict=True) if match else ()
    seconds = sum(float(number) * unit for number, unit in parts if number)
    if not seconds:
        raise ConfigError(f"{name} is {shortened(repr(text))}; write a time over 0, such as 90s, 20m or 1h30m")
    return seconds


def duration(seconds: float) -> str:
    """Return seconds as people say them, to two digits or so.

    >>> duration(0.84), duration(14.2), duration(1390), duration(5400)
    ('0.84 s', '14 s', '23 min', '1 h 30 min')
    """
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 10:
        return f"{seconds / 60:.2g} min"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def clock_time(now: datetime, seconds: float) -> str:
    """Return what a clock will show so many seconds from `now`, with the day where it is another one.

    >>> clock_time(datetime(2026, 11, 27, 21, 30), 1000), clock_time(datetime(2026, 11, 27, 21, 30), 10_000)
    ('21:46', 'Sat 00:16')
    """
    then = now + timedelta(seconds=seconds)
    if then.date() == now.date():
        return f"{then:%H:%M}"
    return f"{then:%a %H:%M}" if then - now < timedelta(days=6) else f"{then:%Y-%m-%d %H:%M}"
