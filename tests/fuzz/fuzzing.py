"""How the fuzz tests work: seeds and mutations, what counts as a refusal, and how many cases are run.

A normal run is short and the same each time. ``FEATHERSEG_FUZZ=20000 pytest tests/fuzz`` runs so many fresh cases of
each test instead; a case that fails is printed as the code that reproduces it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from featherseg.core.errors import FeathersegError

LONG = int(os.environ.get("FEATHERSEG_FUZZ", "0"))
"""Cases of each test in a long session; 0 is the normal suite."""

MAX_LINE = 2_000
"""Characters that an error may have: one line is not one line if it takes a minute to scroll by."""

Edit = tuple[int, float, bytes]
"""Kind of change, place as a share of the length, and the bytes it brings."""

INTERESTING = (
    *(bytes([value]) for value in (0, 1, 0x7F, 0x80, 0xFE, 0xFF)),
    *(value.to_bytes(4, "little") for value in (0, 0x7FFFFFFF, 0xFFFFFFFF, 50_000)),
    *(value.to_bytes(4, "big") for value in (0x7FFFFFFF, 50_000)),
    *(value.to_bytes(8, "little") for value in (1 << 40, (1 << 63) - 1, (1 << 64) - 1)),
    b"\x00" * 64,
    b"\xff" * 64,
)


def fuzzed(cases: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator for a property: `cases` fixed ones, or ``FEATHERSEG_FUZZ`` fresh ones."""
    return settings(
        max_examples=LONG or cases,
        derandomize=not LONG,
        database=None,
        deadline=None,  # shared machines pause; bounded() is what finds a hang
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


@contextmanager
def bounded(seconds: int = 20) -> Iterator[None]:
    """Fail a case that takes longer; its usual time is milliseconds."""

    def expire(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"a case takes over {seconds} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_line(message: str) -> None:
    """A message is one line that fits on a screen."""
    assert len(message.splitlines()) == 1, message
    assert len(message) <= MAX_LINE, f"{len(message)} characters: {message[:300]}"


def answer(action: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return what `action` returns, or its refusal; anything else that it raises is a defect."""
    with bounded():
        try:
            return action(*args, **options)
        except FeathersegError as refusal:
            check_line(str(refusal))
            return refusal


def listing(folder: Path) -> dict[str, bytes | None]:
    """Return all that is in a folder: bytes of files, None of others."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def edits(most: int = 6) -> st.SearchStrategy[list[Edit]]:
    """Return lists of changes that :func:`mutated` makes."""
    piece = st.one_of(st.sampled_from(INTERESTING), st.binary(min_size=1, max_size=12))
    return st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1), piece), min_size=1, max_size=most)


def mutated(data: bytes, changes: list[Edit]) -> bytes:
    """Return `data` after changes: bits flipped, bytes overwritten, put in, cut out, doubled, or the rest cut off."""
    for kind, share, piece in changes:
        place = min(int(share * len(data)), max(len(data) - 1, 0))
        head, tail = data[:place], data[place:]
        if kind == 0 and tail:
            data = head + bytes([tail[0] ^ (1 << (piece[0] & 7))]) + tail[1:]
        elif kind == 1:
            data = head + piece + tail[len(piece) :]
        elif kind == 2:
            data = head + piece + tail
        elif kind == 3:
            data = head + tail[len(piece) :]
        elif kind == 4:
            data = head + tail[:64] + tail
        elif kind == 5:
            data = head
    return data


def json_values(leaves: int = 12) -> st.SearchStrategy[Any]:
    """Return values that JSON can hold, awkward ones among them."""
    scalar = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 300),
        st.sampled_from([10**12, -(2**63), 2**63, 2**64, 10**30, 10**400]),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(["", "a\nb", "\u2028", "\ud83d", "x" * 3000, "../../etc/passwd", "\x00", "\x1b[31m"]),
    )
    return st.recursive(
        scalar,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=leaves,
    )


def tampered(tree: Any, changes: list[tuple[float, Any]]) -> Any:
    """Return a copy of a JSON-like tree in which some nodes, counted through, are other values or are gone.

    A change is the node's place as a share of all nodes, and the value; ``...`` removes it.
    """
    for share, value in changes:
        places = list(_places(tree))
        chosen = places[min(int(share * len(places)), len(places) - 1)]
        tree = _with(tree, chosen, value)
    return tree


def tree_changes(most: int = 3) -> st.SearchStrategy[list[tuple[float, Any]]]:
    """Return lists of changes that :func:`tampered` makes."""
    return st.lists(st.tuples(st.floats(0, 1), json_values(5) | st.just(...)), min_size=1, max_size=most)


def _places(tree: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*here, key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _places(value, (*here, i))


def _with(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return {} if value is ... else value
    key, *rest = place
    if isinstance(tree, dict):
        if not rest and value is ...:
            return {k: v for k, v in tree.items() if k != key}
        return {k: _with(v, tuple(rest), value) if k == key else v for k, v in tree.items()}
    if not rest and value is ...:
        return [v for i, v in enumerate(tree) if i != key]
    return [_with(v, tuple(rest), value) if i == key else v for i, v in enumerate(tree)]
