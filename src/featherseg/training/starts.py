"""With which network, weights and size a training on a folder starts: published weights where they know its classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import ConfigError, DownloadError, FeathersegError, first_line
from ..core.formatting import command
from ..core.formatting import size as bytes_text
from ..core.types import ClassSet
from ..models.factory import create_model
from ..models.published import PUBLISHED, PublishedWeights
from ..models.weights import VARIABLE
from .choices import Plan
from .known_classes import Match, best_match

FEW = 200
"""Training images under which the strongest start is worth its time: there is little else to learn from."""
STRONGEST = {"cityscapes": ("fddwnet", "dabnet", "espnetv2", "cgnet"), "voc": ("espnetv2_edge",)}
"""Networks to start from by the weights' data, those with the highest published scores first."""
QUICKEST = {"cityscapes": ("espnetv2", "dabnet", "cgnet"), "voc": ("espnetv2_edge",)}
"""Likewise where there are images enough to learn from: weights within 6 points of the best, in half its time."""
SCORES = {("espnetv2_edge", "voc"): "68.9 mIoU on 150 images of VOC val"}
"""Scores, measured here, of weights whose authors state none."""
COSTS = {
    "fddwnet": 3.3,
    "dabnet": 2.1,
    "espnetv2": 2.0,
    "cgnet": 2.4,
    "espnetv2_edge": 2.9,
    "fpenet": 2.6,
    "enet": 1.8,
    "cfpnet": 1.5,
    "mininetv2": 1.5,
    "edanet": 1.0,
}
"""Time of a training step per pixel, in FastSegNet's: bf16, images of 384x512 on an AMD EPYC. The first four were
measured on two cores, where FastSegNet trained on 9.5 images a second; the others, espnetv2_edge at scale 2.0, on one
core (forward and backward, CPU time)."""


@dataclass(frozen=True)
class Sizes:
    """Which images are resized to suit weights, by their longer side in pixels.

    Args:
        known: what the weights have seen.
        smallest: smaller images are enlarged,
        enlarged: to this,
        largest: larger ones are made smaller,
        reduced: to this.
    """

    known: str
    smallest: int
    enlarged: int
    largest: int
    reduced: int


SIZES = {
    "cityscapes": Sizes("1024x2048", 900, 960, 3000, 2048),
    "voc": Sizes("384x384", 320, 512, 800, 512),
}
START_SHARE = 0.5
"""Kept of weights that know every class; see :mod:`.start_share`, whose measurements it is from. The head of a class
that they do not know begins at random, of which nothing should be kept."""
MOST = 3
"""No image is enlarged more than so many times: that costs time, and shows nothing that was not there."""


def choose_start(plan: Plan, classes: ClassSet, images: int, size: tuple[int, int]) -> tuple[str, ...]:
    """Choose network, weights and the size of images.

    Published weights of networks are taken where they know the classes, else FastSegNet from ImageNet's, else half of
    it from scratch. Only where the user set nothing of the network anything is fetched.

    Args:
        plan: takes the choices.
        classes: of the data.
        images: how many are trained on.
        size: their median (height, width).

    Returns:
        what would have been chosen, were it to be had here.
    """
    if plan.gave("model.init") or plan.gave("model.options"):
        return ()
    free = not plan.gave("model")
    missed: list[str] = []
    if match := best_match(classes):
        named = plan.config.model.name if plan.gave("model.name") else None
        for weights in _candidates(match.known.data, images, named):
            lack = _lack(weights, match, fetch=free and not missed)
            if not lack:
                _choose_published(plan, weights, match, images, size)
                break
            missed.append(lack)
        else:
            choose_without(plan, free=free)
    else:
        choose_without(plan, free=free)
    return tuple(missed[:1])


def relative_cost(network: str) -> float:
    """Return how many times FastSegNet's time a training step of a network takes per pixel; 1 where nobody measured."""
    return COSTS.get(network, 1.0)


def _candidates(data: str, images: int, named: str | None) -> list[PublishedWeights]:
    """Return weights to start from, the best first; those of the largest variant where a network has several."""
    networks: Sequence[str] = (STRONGEST if images < FEW else QUICKEST)[data] if named is None else (named,)
    fitting = [[each for each in PUBLISHED if (each.network, each.data) == (name, data)] for name in networks]
    return [max(entries, key=lambda each: each.bytes) for entries in fitting if entries]


def _lack(weights: PublishedWeights, match: Match, *, fetch: bool) -> str:
    """Return why weights cannot be started from, with what to do; empty where their file is on this machine by now."""
    size = bytes_text(weights.bytes)
    said = f"would have started from {weights.network}'s {match.known.title} weights ({size}, {weights.url})"
    try:
        # Processes that fetch the same file refuse each other, and would then train different networks.
        if weights.local() is None and not (fetch and int(os.environ.get("WORLD_SIZE", "1")) == 1):
            return f"{said}; fetch them with {command('weights', weights.network, '--fetch', weights.data)}"
        weights.fetch()
    except DownloadError as error:
        if error.__cause__ is None:
            return f"{said}, but {error}"
        folder = os.environ.get(VARIABLE) or f"a folder that the variable {VARIABLE} names"
        return f"{said}; go online, or put the file into {folder} ({_reason(error.__cause__)})"
    except FeathersegError as error:
        return f"{said}, but {error}"
    return ""


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", "")) or first_line(error)


def _choose_published(plan: Plan, weights: PublishedWeights, match: Match, images: int, size: tuple[int, int]) -> None:
    network, title = weights.network, match.known.title
    if network != STRONGEST[weights.data][0]:
        kind = "nearly the strongest start, and quicker than that"
    elif images < FEW:
        kind = f"{images} training images are few, so the strongest start wins"
    else:
        kind = "the strongest start"
    score = SCORES.get((network, weights.data)) or weights.score.partition(",")[0]
    cost = f"at about {COSTS[network]:g} times FastSegNet's time per pixel" if network in COSTS else "at unknown cost"
    plan.choose("model.name", network, f"{kind}: {score}, {cost}")
    for option, value in weights.options.items():
        plan.choose(f"model.options.{option}", value, f"as published with {title} weights")
    plan.choose("model.init", weights.data, str(match))
    if match.table:
        plan.choose("model.init_classes", dict(match.table), f"what {title} calls these")
    if match.matched == match.total:
        why = "half of the start is kept: better on pictures unlike those that are trained on"
        plan.choose("train.start_share", START_SHARE, why)
    side, sizes = max(size), SIZES[weights.data]
    if side < sizes.smallest:
        wanted, way = min(sizes.enlarged, MOST * side), "enlarged"
    elif side > sizes.largest:
        wanted, way = sizes.reduced, "made smaller"
    else:
        return
    seen = f"images are {size[0]}x{size[1]}, and the weights know {sizes.known}"
    plan.choose("model.long_side", wanted, f"{seen}: {way}, objects are about as large as there")


def choose_without(plan: Plan, *, free: bool) -> None:
    """Choose FastSegNet, from ImageNet's weights where they are to be had, unless the user set something of it."""
    if not free:
        return
    plan.choose("model.name", "fastsegnet", "the most accurate of the fast networks here")
    try:
        create_model("fastsegnet", 2, encoder_weights="imagenet")
    except ConfigError:
        why = "no ImageNet weights to be had here; from scratch the half learns as much from few images, twice as fast"
        plan.choose("model.options.width", 0.5, why)
    else:
        plan.choose("model.options.encoder_weights", "imagenet", "with few images nothing helps as much")
