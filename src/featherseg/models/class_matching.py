"""Which classes of one network are which of another's: by a table where one is given, else by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..core.errors import ConfigError, did_you_mean
from ..core.types import ClassSet

ClassTable = Mapping[str, str | Sequence[str]]
"""The other network's class or classes by each of ours, such as ``{"Bicyclist": ["rider", "bicycle"]}``."""


def matching_classes(
    ours: ClassSet, theirs: ClassSet, table: ClassTable | None = None, place: str = "the table"
) -> dict[int, tuple[int, ...]]:
    """Return the other network's class ids by each id of ours that has some.

    Classes that the table does not name are matched by name; upper and lower case, spaces, hyphens and underscores
    make no difference.

    Args:
        ours: our classes.
        theirs: the other network's.
        table: theirs by ours; an empty list leaves a class without one.
        place: what the table is called in messages.

    Raises:
        ConfigError: the table names a class that there is not.
    """
    known = {plain_name(name): i for i, name in enumerate(theirs.names)}
    found: dict[int, tuple[int, ...]] = {
        i: (known[plain_name(name)],) for i, name in enumerate(ours.names) if plain_name(name) in known
    }
    for name, others in (table or {}).items():
        if name not in ours.names:
            raise ConfigError(f"{place} has {name!r}, no class of this network; {did_you_mean(name, ours.names)}")
        others = [others] if isinstance(others, str) else others
        for other in others:
            if plain_name(other) not in known:
                hint = did_you_mean(other, theirs.names)
                raise ConfigError(f"{place} has {other!r} for {name!r}, no class of the other network; {hint}")
        found.pop(ours.names.index(name), None)
        if others:
            found[ours.names.index(name)] = tuple(known[plain_name(other)] for other in others)
    return dict(sorted(found.items()))


def find_class(name: str, classes: ClassSet) -> int | None:
    """Return the id of the class of that name, spelt as :func:`matching_classes` allows; None where there is none."""
    return next((i for i, known in enumerate(classes.names) if plain_name(known) == plain_name(name)), None)


def plain_name(name: str) -> str:
    """Return the name of a class without what spellings differ in: ``Traffic-Light`` as ``trafficlight``."""
    return "".join(letter for letter in name.casefold() if letter not in " -_")
