"""Who is trained for how long: successive halving whose first rung is short, and whose last one takes what is left.

In each rung all that are left train on, from where they were; the better half goes on, for twice as long. How long is
planned before the first rung, from measured steps, and but for the last rung it stays: the same seed then trains the
same. The last rung ends when the time does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..core.durations import duration
from ..core.errors import ConfigError
from .pace import NetPace

FINALISTS = 3
"""Networks in the last rung, at most."""
EARLY_SHARE = 0.55
"""Of the time for training, what all rungs but the last may take."""
MOST_EPOCHS = 1000


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Args:
        nets: what takes part in the first rung, by what its files are called.
        left_out: why others that are quick enough do not take part.
        sizes: networks in each rung.
        epochs: of a network in each rung but the last.
        paces: what each network's training takes, by a few steps of it.
        batches: of an epoch of each.
    """

    nets: tuple[str, ...]
    left_out: dict[str, str]
    sizes: tuple[int, ...]
    epochs: tuple[int, ...]
    paces: dict[str, NetPace]
    batches: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The last rung."""
        return len(self.sizes) - 1

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Rebuild it from what :meth:`to_dict` gave."""
        paces = {slug: NetPace(**pace) for slug, pace in data["paces"].items()}
        listed = (tuple(data[key]) for key in ("nets", "sizes", "epochs"))
        nets, sizes, epochs = listed
        return cls(nets, dict(data["left_out"]), sizes, epochs, paces, dict(data["batches"]))


def rung_sizes(count: int) -> tuple[int, ...]:
    """Return how many networks there are in each rung.

    >>> rung_sizes(1), rung_sizes(3), rung_sizes(12)
    ((1,), (3, 2), (12, 6, 3))
    """
    sizes = [count]
    while count > 1 and (len(sizes) == 1 or sizes[-1] > FINALISTS):
        sizes.append(max(math.ceil(sizes[-1] / 2), min(2, count)))
    return tuple(sizes)


def make_plan(paces: Mapping[str, NetPace], seconds: float) -> Plan:
    """Plan the rungs.

    Args:
        paces: what each network's training takes, those first that shall be left out last.
        seconds: for all trainings.

    Raises:
        ConfigError: there is no time for an epoch of a single network.
    """
    order = list(paces)
    for count in range(len(order), 0, -1):
        chosen = order[:count]
        sizes = rung_sizes(count)
        room = seconds if count == 1 else EARLY_SHARE * seconds
        if count == 1:
            cost = paces[chosen[0]].seconds(1)
            first = 1
        else:
            first = _first_epochs(paces, chosen, sizes, room)
            cost = _early_cost(paces, chosen, sizes, 1)
        if cost <= room:
            why = f"not trained: in the time there is, {count} of {len(order)} networks can be, and this one came later"
            return Plan(
                tuple(chosen),
                dict.fromkeys(order[count:], why),
                sizes,
                tuple(first * 2**rung for rung in range(len(sizes) - 1)),
                dict(paces),
            )
    for slug in order[1:]:  # the first takes too long even alone
        if paces[slug].seconds(1) <= seconds:
            why = f"not trained: in the time there is one network can be, and {slug} alone has time for an epoch"
            return Plan((slug,), {each: why for each in order if each != slug}, (1,), (), dict(paces))
    quickest = min(paces.values(), key=lambda pace: pace.seconds(1))
    raise ConfigError(
        f"--budget leaves {duration(max(seconds, 0.0))} for training, and one epoch of the quickest network takes "
        f"{duration(quickest.seconds(1))} with its scores; give a longer --budget or fewer images"
    )


def _first_epochs(paces: Mapping[str, NetPace], chosen: Sequence[str], sizes: Sequence[int], room: float) -> int:
    """Return how many epochs the first rung may have."""
    epochs = 1
    while epochs < MOST_EPOCHS and _early_cost(paces, chosen, sizes, epochs + 1) <= room:
        epochs += 1
    return epochs


def _early_cost(paces: Mapping[str, NetPace], chosen: Sequence[str], sizes: Sequence[int], first: int) -> float:
    """Return what all rungs but the last take; who is left in the later ones is not known, so by their mean."""
    cost = sum(paces[slug].seconds(first) for slug in chosen)
    for rung, size in enumerate(sizes[1:-1], start=1):
        whole = sum(paces[slug].seconds(first * 2**rung, paces[slug]) for slug in chosen)
        cost += size * whole / len(chosen)
    return cost


def survivors(results: Mapping[str, float | None], count: int, order: Sequence[str]) -> list[str]:
    """Return who goes on: the highest scores; of equals the one that comes first in `order`."""
    scored = [slug for slug in order if results.get(slug) is not None]
    return sorted(scored, key=lambda slug: (-(results[slug] or 0.0), order.index(slug)))[:count]


def last_epochs(paces: Mapping[str, NetPace], finalists: Sequence[str], seconds: float) -> dict[str, int]:
    """Return how many epochs each finalist trains in the last rung; fewer finalists where all have no time for one.

    All have as many, so that none is judged by what it had no time to learn.

    Args:
        paces: of the finalists, teachers included.
        finalists: the best first.
        seconds: that are left for training.
    """
    for count in range(len(finalists), 0, -1):
        chosen = finalists[:count]
        room = seconds - sum(paces[slug].overhead for slug in chosen)
        epochs = int(room / max(sum(paces[slug].epoch for slug in chosen), 1e-9))
        if epochs >= 1 or count == 1:
            return dict.fromkeys(chosen, min(max(epochs, 1), MOST_EPOCHS))
    return {}
