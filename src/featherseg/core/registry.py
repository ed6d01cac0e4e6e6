"""Names that users write in recipes and on the command line, and what they stand for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from threading import RLock
from typing import Any, Generic, TypeVar

from .errors import ConfigError, did_you_mean
from .text_files import shortened

ALIKE = 0.85
"""Of names that are taken for a slip of the pen rather than another thing's."""

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """A table from name to callable. A second callable under one name is an error, not a silent swap.

    Args:
        kind: what the entries are, for messages: ``"network"``, ``"loss"``.
        home: package whose modules register the entries, each its own. They are imported at the first question about
            an entry, so that a new one is one new file, and a program that asks for none imports none.
        meanings: the nearest entry, and what it is, by the plain spelling of names that others know; see :func:`plain`.
    """

    def __init__(
        self, kind: str, home: str | None = None, meanings: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        self.kind, self._home, self._meanings = kind, home, meanings or {}
        self._is_filled = home is None
        self._filling = RLock()
        self._entries: dict[str, T] = {}

    @property
    def _known(self) -> dict[str, T]:
        if not self._is_filled:
            with self._filling:  # another thread waits for the whole table
                self._fill()
        return self._entries

    def _fill(self) -> None:
        if self._is_filled or self._home is None:
            return
        for module in pkgutil.iter_modules(importlib.import_module(self._home).__path__):
            importlib.import_module(f"{self._home}.{module.name}")
        self._is_filled = True

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its callable under `name`."""

        def add(entry: T) -> T:
            # What comes from outside must not take a name that a module of ours registers later.
            taken = self._entries if self._home and str(entry.__module__).startswith(self._home) else self._known
            if name in taken:
                raise ConfigError(f"{self.kind} {name!r} is registered already; choose another name")
            self._entries[name] = entry
            return entry

        return add

    def spelled(self, name: str) -> str | None:
        """Return the name that is meant, as it is registered; None where there is none.

        Case, spaces, hyphens and underscores are as one likes: ``"ResNet-UNet"`` is ``"resnet_unet"``.
        """
        if name in self._known:
            return name
        fitting = [each for each in self._known if plain(each) == plain(name)]
        return fitting[0] if len(fitting) == 1 else None

    def get(self, name: str) -> T:
        """Return the entry called `name`; an unknown name is a :class:`ConfigError` with a suggestion."""
        if (known := self.spelled(name)) is None:
            raise ConfigError(f"unknown {self.kind} {name!r}; {self._hint(name)}")
        return self._known[known]

    def _hint(self, name: str) -> str:
        """Return what may be meant by an unknown name."""
        if get_close_matches(name, self._known, n=1, cutoff=ALIKE):
            return did_you_mean(name, self._known)
        for word, (nearest, what) in self._meanings.items():
            if plain(name).startswith(word):
                return f'the nearest here is "{nearest}", {what}'
        return did_you_mean(name, self._known)

    def create(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Call the entry `name`; options that it does not take, or of a wrong plain type, are refused before."""
        entry = self.get(name)
        signature = inspect.signature(entry)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
        unknown = [] if open_ended else [key for key in options if key not in signature.parameters]
        if unknown:
            hint = did_you_mean(unknown[0], signature.parameters)
            raise ConfigError(f"{self.kind} {name!r} has no option {unknown[0]!r}; {hint}")
        hints = typing.get_type_hints(vars(entry).get("__init__", entry) if isinstance(entry, type) else entry)
        for key, value in options.items():
            if key in hints and not _plain_type_fits(value, hints[key]):
                wanted = " or ".join(_type_name(kind) for kind in _alternatives(hints[key]))
                raise ConfigError(f"{self.kind} {name!r}: option {key} is {shortened(repr(value))}; it takes {wanted}")
        return entry(*args, **options)

    def names(self, pattern: str = "*") -> list[str]:
        """Return the sorted names that match a shell-style `pattern`."""
        return sorted(name for name in self._known if fnmatch(name, pattern))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.spelled(name) is not None


def plain(name: str) -> str:
    """Return a name as it is compared: without case, spaces, hyphens and underscores."""
    return "".join(letter for letter in name.casefold() if letter not in " -_")


PLAIN = (bool, int, float, str, list, dict)
"""What a recipe can hold; values of other types come from code, which knows what it does."""


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _plain_type_fits(value: Any, hint: Any) -> bool:
    """Return whether a recipe's value may go where `hint` stands; hints beyond plain types take all."""
    kinds = _alternatives(hint)
    if type(value) not in PLAIN or not set(kinds) <= {bool, int, float, str, type(None), Path}:
        return True
    return type(value) in kinds or (type(value) is int and float in kinds) or (type(value) is str and Path in kinds)


def _type_name(kind: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return names.get(kind, "nothing")
