from __future__ import annotations

from datetime import datetime

import pytest

from featherseg.core.durations import clock_time, duration, parse_duration
from featherseg.core.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("20min", 1200), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1H 30M 5S", 5405)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text, "--time") == seconds


@pytest.mark.parametrize(
    "text", ["", "20", "m", "0s", "0h0m", "30m1h", "-5m", "1e3s", "20 Minuten", "1d", "٢m", "9" * 99]
)
def test_what_is_no_time_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--time is .*; write a time over 0, such as 90s, 20m or 1h30m$"):
        parse_duration(text, "--time")


def test_what_is_said_can_be_read_again() -> None:
    for seconds, said in ((0.0042, "0.0042 s"), (9.96, "10 s"), (180, "3 min"), (272, "4.5 min"), (3600, "1 h 0 min")):
        assert duration(seconds) == said
        assert parse_duration(said, "it") == pytest.approx(seconds, rel=0.05)


def test_a_clock_far_away_says_the_day() -> None:
    now = datetime(2026, 11, 27, 21, 30)
    assert clock_time(now, 60) == "21:31"
    assert clock_time(now, 86_400) == "Sat 21:30"
    assert clock_time(now, 30 * 86_400) == "2026-12-27 21:30"
