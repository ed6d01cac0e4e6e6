"""How finely a network has to decide for the classes of a folder: its stride, and the size of its images.

Measured is what is left of each class when the truth itself is decided once in a cell, see :mod:`..data.detail`. The
class that keeps least decides, among those with pixels enough to be learnt: a mean over classes would hide the one
that somebody labelled pixel by pixel.
"""

from __future__ import annotations

from ..core.order import spread
from ..core.types import InputSpec
from ..data.class_counts import read_mask
from ..data.datasets import SegmentationDataset
from ..data.detail import COARSE, FINE, KeptDetail, measure_detail
from ..models.factory import create_model, has_facts, model_facts
from .choices import Plan
from .starts import choose_without

USUAL, FINER = 8, (4, 2)
"""FastSegNet's stride, and those it has on request."""
WORTH = 0.5
"""Published weights that know the classes are worth several points for all of them, and are left only where a class
would keep less than this of its Dice at their network's stride: an IoU of a third, whatever is learnt."""
GAIN = 0.1
"""Of Dice that the class that keeps least has to gain, for published weights to be left."""
SMALL, TWICE = 640, 2.0
"""Longer side, in pixels, up to which images are enlarged where the finest stride is too coarse, and by how much."""
THIN_LOSS = [{"name": "cross_entropy"}, {"name": "dice", "weight": 1.0}]
"""Where a class is thin; ``benchmarks/vessels.py`` measures it against cross-entropy alone."""
MASKS = 24
"""Masks that are measured at most, spread over the training images."""


def measure_fineness(plan: Plan, train_set: SegmentationDataset, size: tuple[int, int]) -> KeptDetail:
    """Measure on a sample of the masks what :func:`choose_fineness` compares.

    Args:
        plan: with the network and its size of images as they are so far.
        train_set: the training images.
        size: their median (height, width).
    """
    places = spread(len(train_set), MASKS)
    strides = sorted({network_stride(plan), USUAL, *FINER}, reverse=True)
    scales = sorted({1.0, TWICE, _scale(plan, size)})
    masks = (read_mask(train_set, place) for place in places)
    return measure_detail(masks, train_set.classes, strides, scales)


def choose_fineness(plan: Plan, detail: KeptDetail, size: tuple[int, int]) -> tuple[str, ...]:
    """Choose a finer network than the start's where the stride of that one loses a class.

    Args:
        plan: takes the choices; the network is chosen already.
        detail: what the classes keep, as :func:`measure_fineness` measures it.
        size: median (height, width) of the images.

    Returns:
        what is lost all the same, a sentence each.
    """
    if plan.config.model.starts and not plan.gave("model") and _too_coarse(plan, detail, size):
        # The network is exchanged with all that was chosen for it.
        plan.withdraw("model", "train.start_share")
        choose_without(plan, free=True)
    if plan.config.model.name == "fastsegnet" and not plan.config.model.starts:
        _choose_stride(plan, detail, size)
    return _lost(plan, detail, size)


def network_stride(plan: Plan) -> int:
    """Return the stride of the network as it is chosen so far."""
    model = plan.config.model
    asked = model.options.get("stride")
    if isinstance(asked, int) and asked > 0:
        return asked
    if has_facts(model.name):
        return model_facts(model.name).stride
    return create_model(model.name, 2, **model.options).stride


def _scale(plan: Plan, size: tuple[int, int]) -> float:
    """Return by how much images are magnified, as far as is chosen."""
    return InputSpec(long_side=plan.config.model.long_side or None).scale(size)


def _too_coarse(plan: Plan, detail: KeptDetail, size: tuple[int, int]) -> bool:
    """Return whether a published network loses a class that FastSegNet can keep."""
    kept = detail.least(network_stride(plan), _scale(plan, size))
    return kept < WORTH and detail.least(min(FINER)) >= kept + GAIN


def _choose_stride(plan: Plan, detail: KeptDetail, size: tuple[int, int]) -> None:
    """Choose the coarsest stride at which every class keeps enough, and larger images where none is fine enough."""
    scale, before = _scale(plan, size), network_stride(plan)
    place = detail.finest(before, scale)
    if place is None or detail.least(before, scale) >= FINE:
        return
    finest = min(FINER)
    # Four times the pixels are not chosen for somebody who chose the network.
    if not plan.gave("model") and detail.least(finest, scale) < COARSE and scale == 1 and max(size) <= SMALL:
        place = detail.finest(finest, scale) or 0
        why = detail.sentence(place, finest, scale, [(finest, TWICE)])
        plan.choose("model.long_side", round(TWICE * max(size)), why)
        scale = _scale(plan, size)
    stride = detail.coarsest((USUAL, *FINER), scale)
    if stride != before:
        place = detail.finest(before, scale) or 0
        plan.choose("model.options.stride", stride, detail.sentence(place, before, scale, [(stride, scale)]))
        why = f"`{detail.names[place]}` is thin: its few pixels hardly move cross-entropy, but its Dice"
        plan.choose("loss.out", THIN_LOSS, why)


def _lost(plan: Plan, detail: KeptDetail, size: tuple[int, int]) -> tuple[str, ...]:
    """Return a sentence where the class that keeps least loses much of itself by what was chosen or given."""
    stride, scale = network_stride(plan), _scale(plan, size)
    place = detail.finest(stride, scale)
    if place is None or detail.least(stride, scale) >= COARSE:
        return ()
    finer = min(FINER)
    better = [(finer, scale)] if finer < stride else [(stride, TWICE)] if scale < TWICE else []
    return (f"warning: {detail.sentence(place, stride, scale, better)}; no training brings the rest back",)
