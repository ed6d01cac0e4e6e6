"""Classes that are finer than a network's stride: what is lost of them before anything is learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from ..core.order import spread
from ..core.types import MaskArray
from ..data.detail import COARSE, FINE, KeptDetail, measure_detail
from .meaning import Meaning
from .probe import Facts, raw_of
from .raw import Trouble
from .rules import Findings
from .seen import decode

FINER = (4, 2)
"""Strides of ``fastsegnet`` that are compared with its usual one."""
MASKS = 24
"""Masks that are measured at most, spread over the set."""


def judge_detail(facts: Sequence[Facts], meaning: Meaning, stride: int, findings: Findings) -> KeptDetail:
    """Measure on a sample of the masks what classes keep at strides, and find those that keep too little.

    Args:
        facts: of the pairs.
        meaning: of the masks' values.
        stride: of the network.
        findings: what is wrong is added here.

    Returns:
        what was measured, at `stride` and the finer ones of ``FINER``.
    """
    finer = [each for each in FINER if each < stride]
    fit = [f for f in facts if f.mask.trouble is None]
    masks = _masks([fit[place] for place in spread(len(fit), MASKS)], meaning)
    detail = measure_detail(masks, meaning.classes, (stride, *finer))
    dice = detail.dice(stride)
    for place in np.argsort(dice, kind="stable").tolist():  # NaN last
        if not detail.weighty[place] or dice[place] >= FINE:
            continue
        better = [(detail.coarsest(finer, place=place), 1.0)] if finer else []
        rule = "class-too-thin" if dice[place] < COARSE else "class-thin"
        findings.add(rule, detail.sentence(place, stride, finer=better))
    return detail


def _masks(facts: Sequence[Facts], meaning: Meaning) -> Iterator[MaskArray]:
    for f in facts:
        with suppress(Trouble):  # gone since it was looked at
            yield decode(raw_of(f.pair), f.mask, meaning)
