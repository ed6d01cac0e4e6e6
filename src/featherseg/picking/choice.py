"""Which finalist it is, and why; what cannot be told apart is a tie, and is called so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core.formatting import percent
from .finals import Judged

SAMPLES = 400
"""Resamplings of the validation images by which two scores are compared."""
CONFIDENCE = 90.0
TIE = 0.005
"""mIoU, 0–1: scores that far apart count as different, whatever the images' chance."""
SAME_TIME = 0.05
"""Times that differ by a smaller share are the same."""


@dataclass(frozen=True)
class Choice:
    """The pick, or why there is none.

    Args:
        pick: what is picked; None where nothing that was judged is in time.
        runner_up: the next best that is in time, of another network or size where there is one.
        ties: networks that could not be told from the best by their scores, each in its best way, the pick included;
            empty where there is one best.
        reasons: a paragraph, sentence by sentence.
    """

    pick: Judged | None
    runner_up: Judged | None = None
    ties: tuple[Judged, ...] = ()
    reasons: tuple[str, ...] = field(default=())


def choose(
    judged: Sequence[Judged], matrices: Mapping[str, NDArray[np.int64]], limit_ms: float, seed: int = 0
) -> Choice:
    """Return the candidate with the best masks that is in time; of several that tie the quickest.

    Args:
        judged: the finalists.
        matrices: confusion matrices of the images by candidate, int64 (N, C, C).
        limit_ms: what 95 of 100 pictures may take.
        seed: of the resampling.
    """
    fitting = sorted((each for each in judged if each.fits(limit_ms)), key=lambda each: (-each.miou, _p95(each)))
    if not fitting:
        return Choice(None, reasons=_why_none(judged, limit_ms))
    best = fitting[0]
    ties = [each for each in fitting if each is best or _tied(matrices, best, each, seed)]
    pick = min(ties, key=lambda each: (_rank(_p95(each), min(map(_p95, ties))), -each.miou, each.bytes))
    others = [each for each in fitting if each.candidate.net != pick.candidate.net] or [
        each for each in fitting if each is not pick
    ]
    runner_up = others[0] if others else None
    named = {each.candidate.net: each for each in reversed(ties)} | {pick.candidate.net: pick}
    tied = tuple(sorted(named.values(), key=ties.index))  # the same network in another way is no other answer
    reasons = _reasons(pick, best, tied, runner_up, judged, limit_ms)
    return Choice(pick, runner_up, tied if len(tied) > 1 else (), reasons)


def difference(one: NDArray[np.int64], other: NDArray[np.int64], seed: int = 0) -> tuple[float, float]:
    """Return the ends of the interval in which the difference of two mIoUs lies, by resampling the images.

    Args:
        one: confusion matrices of the images, (N, C, C).
        other: likewise, of the same images.
        seed: of the resampling.
    """
    draws = np.random.default_rng(seed).integers(0, len(one), (SAMPLES, len(one)))
    counts = np.stack([np.bincount(draw, minlength=len(one)) for draw in draws])  # how often each image occurs
    found = _miou(np.tensordot(counts, one, 1)) - _miou(np.tensordot(counts, other, 1))
    low, high = np.nanpercentile(found, [(100 - CONFIDENCE) / 2, (100 + CONFIDENCE) / 2])
    return float(low), float(high)


def _miou(matrices: NDArray[np.int64]) -> NDArray[np.float64]:
    hit = np.diagonal(matrices, axis1=1, axis2=2).astype(np.float64)
    union = matrices.sum(axis=1) + matrices.sum(axis=2) - hit
    share = np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)
    means: NDArray[np.float64] = np.nanmean(share, axis=1)
    return means


def _tied(matrices: Mapping[str, NDArray[np.int64]], best: Judged, other: Judged, seed: int) -> bool:
    if best.miou - other.miou > TIE or best.candidate.key not in matrices or other.candidate.key not in matrices:
        return False
    low, high = difference(matrices[best.candidate.key], matrices[other.candidate.key], seed)
    return low <= 0 <= high


def _rank(ms: float, least: float) -> int:
    """Return a place by time in which times that are the same have the same place."""
    return int(np.log(ms / least) / np.log1p(SAME_TIME))


def _p95(judged: Judged) -> float:
    return judged.timing.p95 if judged.timing else float("inf")


def _reasons(
    pick: Judged,
    best: Judged,
    ties: Sequence[Judged],
    runner_up: Judged | None,
    judged: Sequence[Judged],
    limit_ms: float,
) -> tuple[str, ...]:
    first = (
        f"{pick.candidate} has a mIoU of {percent(pick.miou)} % and a boundary F1 of {percent(pick.boundary_f1)} % on "
        f"the validation images as it is deployed, and 95 of 100 pictures take no longer than {_p95(pick):.1f} ms "
        f"of the {limit_ms:.1f} that they may."
    )
    said = [first]
    if len(ties) > 1:
        rest = [str(each.candidate) for each in ties if each is not pick]
        said.append(
            f"It is a tie with {'; '.join(rest)}: less than {100 * TIE:g} points of mIoU lie between them, and which "
            "is ahead depends on the images; of all these it is the quickest, or as quick as any."
        )
    if runner_up is not None and runner_up not in ties:
        gap = 100 * (best.miou - runner_up.miou)
        said.append(
            f"The next, {runner_up.candidate}, is {gap:.1f} points below the best and takes {_p95(runner_up):.1f} ms."
        )
    better = [each for each in judged if not each.failure and not each.fits(limit_ms) and each.miou > pick.miou]
    if better:
        slow = max(better, key=lambda each: each.miou)
        said.append(
            f"{slow.candidate} would be {100 * (slow.miou - pick.miou):.1f} points better, but takes "
            f"{_p95(slow):.1f} ms."
        )
    return tuple(said)


def _why_none(judged: Sequence[Judged], limit_ms: float) -> tuple[str, ...]:
    timed = [each for each in judged if each.timing is not None and not each.failure]
    if not timed:
        return ("None of the finalists could be judged.",)
    fastest = min(timed, key=_p95)
    return (
        f"None of the finalists is in time: the quickest, {fastest.candidate}, takes {_p95(fastest):.1f} ms where "
        f"{limit_ms:.1f} are allowed.",
    )
