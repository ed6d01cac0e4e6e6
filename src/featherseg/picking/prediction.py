"""How long a network will take, from layers that were timed before: to leave out what is far too slow, and no more.

Every convolution costs by its kind: a share for each multiply-accumulate, one for each element that it moves, and one
for being there. All else costs by what it moves. The shares are fitted to the layers of a few networks, as the engine's
own counters time them; then the sum is put right by the same networks' whole times, whose spread says how far a
prediction may be off. A network is left out only where it would miss the budget even so.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .layer_costs import KINDS, LayerCost, NetCost

REFERENCES = ("fastsegnet", "jetnet", "espnetv2", "ddrnet")
"""Networks whose layers are timed: between them they have each kind of convolution."""
LEAST_MARGIN = 1.6
"""A prediction may be off by such a factor at least, whatever the references' spread says."""
WORTH_IT = 8
"""Networks that are not timed before anything is predicted: fewer are quicker timed than predicted."""


@dataclass(frozen=True)
class Sample:
    """A network whose layers and whole were timed.

    Args:
        cost: what it computes.
        layer_ms: of convolutions, by module name.
        rest_ms: of all else.
        whole_ms: of the network, timed as it is deployed.
    """

    cost: NetCost
    layer_ms: Mapping[str, float]
    rest_ms: float
    whole_ms: float


@dataclass(frozen=True)
class Prediction:
    """What layers cost in one way of running networks.

    Args:
        shares: by kind: ms of a multiply-accumulate, of a moved element, of being there.
        other: ms of an element that anything else moves.
        scale: what puts the sum right.
        margin: factor by which a prediction may be off.
    """

    shares: Mapping[str, tuple[float, float, float]]
    other: float
    scale: float
    margin: float

    def ms(self, cost: NetCost) -> float:
        """Return the predicted time of a network."""
        return self.scale * self._raw(cost)

    def far_too_slow(self, cost: NetCost, limit_ms: float) -> bool:
        """Return whether a network would take longer than `limit_ms` even if the prediction were off by its margin."""
        return self.ms(cost) > self.margin * limit_ms

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Prediction:
        """Rebuild it from what :meth:`to_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        shares = {str(kind): (float(a), float(b), float(c)) for kind, (a, b, c) in data["shares"].items()}
        return cls(shares, float(data["other"]), float(data["scale"]), float(data["margin"]))

    def _raw(self, cost: NetCost) -> float:
        usual = self.shares["any"]
        layers = (
            sum(share * count for share, count in zip(self.shares.get(layer.kind, usual), _figures(layer), strict=True))
            for layer in cost.layers.values()
        )
        return sum(layers) + self.other * cost.other


def fit_prediction(samples: Sequence[Sample]) -> Prediction:
    """Fit what layers cost to networks that were timed; there has to be one at least."""
    rows = [
        (layer, sample.layer_ms[name])
        for sample in samples
        for name, layer in sample.cost.layers.items()
        if name in sample.layer_ms
    ]
    shares = {"any": _shares(rows)}
    for kind in KINDS:
        of_kind = [row for row in rows if row[0].kind == kind]
        if len(of_kind) >= 4:
            shares[kind] = _shares(of_kind)
    moved = sum(sample.cost.other for sample in samples)
    other = sum(sample.rest_ms for sample in samples) / moved if moved else 0.0
    plain = Prediction(shares, other, 1.0, LEAST_MARGIN)
    ratios = [sample.whole_ms / max(plain._raw(sample.cost), 1e-6) for sample in samples]
    scale = statistics.median(ratios)
    spread = max(max(ratio / scale, scale / ratio) for ratio in ratios)
    return Prediction(shares, other, scale, max(LEAST_MARGIN, spread**2))


def _figures(layer: LayerCost) -> tuple[float, float, float]:
    return float(layer.macs), float(layer.moved), 1.0


def _shares(rows: Sequence[tuple[LayerCost, float]]) -> tuple[float, float, float]:
    """Return the shares, none of them negative, that fit times best, each by its relative error.

    Of three figures there are seven choices of those that cost something; the best choice whose shares are all positive
    is the solution.
    """
    if not rows:
        return 0.0, 0.0, 0.0
    times = np.array([max(ms, 1e-4) for _, ms in rows])
    figures = np.array([_figures(layer) for layer, _ in rows]) / times[:, None]
    best, least = (0.0, 0.0, 0.0), math.inf
    for count in (1, 2, 3):
        for chosen in itertools.combinations(range(3), count):
            columns = figures[:, chosen]
            norms = np.linalg.norm(columns, axis=0)
            found = np.linalg.lstsq(columns / norms, np.ones(len(rows)), rcond=None)[0] / norms
            error = float(np.sum((columns @ found - 1) ** 2))
            if (found >= 0).all() and error < least:
                least = error
                full = np.zeros(3)
                full[list(chosen)] = found
                best = (float(full[0]), float(full[1]), float(full[2]))
    return best
