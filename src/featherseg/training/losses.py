"""What training minimises: losses of logits against a mask, and their weighted sum.

Every registered loss is a module ``(logits, target) -> scalar``: logits float (B, C, h, w) of any size and precision,
target int64 (B, H, W) with class ids 0…C−1 and `ignore_index`. It is the loss of the logits upsampled bilinearly
(``align_corners=False``) to the target's size; networks hand over what they have at their own stride, and
:mod:`featherseg.training.tiled_cross_entropy` never stores the rest. All arithmetic is at least float32, so that
half-precision logits (fp16 and bf16 autocast) neither overflow nor underflow, and the result is float32. Where every
pixel is ignored the loss is exactly 0 and so is its gradient. A loss that wants logits of the target's size goes into
:class:`AtFullSize`.

Target values are not examined here, since that would make the device wait at each step: other ids than these are
refused by the datasets, and fail inside torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError
from ..core.registry import Registry
from ..core.types import IGNORE_INDEX
from .tiled_cross_entropy import check_shapes, upsampled_cross_entropy, upsampled_pixel_losses

LossBuilder = Callable[..., nn.Module]
losses: Registry[LossBuilder] = Registry("loss")


def register_loss(name: str) -> Callable[[LossBuilder], LossBuilder]:
    """Return a decorator that files a loss ``(logits (B, C, h, w), target (B, H, W)) -> scalar`` for recipes.

    Args:
        name: what recipes call it.

    Raises:
        ConfigError: the name is taken.

    Example:
        >>> @featherseg.register_loss("my_loss")
        ... class MyLoss(torch.nn.Module):
        ...     def forward(self, logits, target):
        ...         return logits.square().mean()
        >>> featherseg.load_config("recipe.toml", ['loss.out=[{name="my_loss"}]']).loss.out
        ({'name': 'my_loss'},)
    """
    return losses.register(name)


def at_size_of(target: Tensor, logits: Tensor) -> Tensor:
    """Return logits in float32, (B, C, H, W) as the target is (B, H, W)."""
    size = target.shape[-2:]
    if logits.shape[-2:] == size:
        return logits.float()
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return Σ weights·values / Σ weights, and 0 (with a zero gradient) where all weights are 0."""
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)


class _PixelLoss(nn.Module):
    """A cross-entropy per pixel, which the subclasses average in their own ways.

    Args:
        class_weights: one factor ≥ 0 per class for its pixels; None weighs all alike.
        ignore_index: target value that takes no part.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        if class_weights is None:
            self.register_buffer("class_weights", None, persistent=False)
            return
        factors = torch.tensor([float(w) for w in class_weights], dtype=torch.float32)
        if not (factors.isfinite() & (factors >= 0)).all() or not factors.any():
            raise ConfigError(f"class_weights are {list(class_weights)}; give finite numbers >= 0, not all 0")
        # Not persistent: it is a setting, and belongs to the recipe rather than to a checkpoint.
        self.register_buffer("class_weights", factors, persistent=False)

    def _pixels(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return −log p(true class) and the class weight of each pixel, float32 (B, H, W); both 0 where ignored."""
        check_shapes(logits, target, self.class_weights)
        values = upsampled_pixel_losses(logits, target, ignore_index=self.ignore_index).float()
        valid = target != self.ignore_index
        if self.class_weights is None:
            return values, valid.float()
        return values, self.class_weights[torch.where(valid, target, 0)] * valid


@losses.register("cross_entropy")
class CrossEntropyLoss(_PixelLoss):
    """Cross-entropy, averaged over the pixels that count; a weighted average where there are class weights.

    It equals ``torch.nn.functional.cross_entropy`` of the upsampled logits, but for targets without a pixel that
    counts: 0 instead of NaN.

    Args:
        class_weights: one factor per class.
        label_smoothing: share (0–1) of the target's probability that is spread evenly over all classes.
        ignore_index: target value that takes no part.

    Example:
        >>> logits, target = torch.zeros(1, 3, 8, 12), torch.zeros(1, 64, 96, dtype=torch.int64)
        >>> featherseg.CrossEntropyLoss()(logits, target) > 0
        tensor(True)
    """

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        if not 0.0 <= label_smoothing <= 1.0:
            raise ConfigError(f"label_smoothing is {label_smoothing}; give a share of 0 to 1")
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels."""
        return upsampled_cross_entropy(
            logits,
            target,
            class_weights=self.class_weights,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
        ).float()


@losses.register("focal")
class FocalLoss(_PixelLoss):
    """Cross-entropy times (1 − p)^gamma, p being the probability of the true class: easy pixels count for less.

    Lin et al., Focal Loss for Dense Object Detection (2017), equation 4; averaged as :class:`CrossEntropyLoss` is,
    which it equals at gamma 0.

    Args:
        gamma: how much less easy pixels count, ≥ 0.
        class_weights: one factor per class (the paper's alpha).
        ignore_index: target value that takes no part.

    Example:
        >>> logits, target = torch.zeros(1, 3, 8, 12), torch.zeros(1, 64, 96, dtype=torch.int64)
        >>> featherseg.FocalLoss(gamma=2.0)(logits, target) > 0
        tensor(True)
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        if not (math.isfinite(gamma) and gamma >= 0):
            raise ConfigError(f"gamma is {gamma}; give a number >= 0")
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels."""
        values, weights = self._pixels(logits, target)
        # expm1 keeps 1 − p exact for p near 1; the floor keeps the slope of x^gamma finite at 0 for gamma < 1.
        miss = (-torch.expm1(-values)).clamp(min=1e-12)
        return _weighted_mean(miss**self.gamma * values, weights)


@losses.register("dice")
class DiceLoss(_PixelLoss):
    """One minus the soft Dice coefficient, averaged over the classes that occur in the target.

    Per class, over all pixels of the batch that count: ``1 − (2 Σ p·t + smooth) / (Σ p + Σ t + smooth)``, p being
    softmax probabilities and t the target's 0 or 1. Classes that the batch lacks are left out: their coefficient
    would be decided by `smooth` alone. Its sums go over whole classes, so the upsampled logits are held in full.

    Args:
        smooth: pixels added to both sides of the fraction, ≥ 0; steadies classes of few pixels.
        ignore_index: target value that takes no part.

    Example:
        >>> logits, target = torch.zeros(1, 3, 8, 12), torch.zeros(1, 64, 96, dtype=torch.int64)
        >>> featherseg.DiceLoss()(logits, target) > 0
        tensor(True)
    """

    def __init__(self, smooth: float = 1.0, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__(None, ignore_index)
        if not (math.isfinite(smooth) and smooth >= 0):
            raise ConfigError(f"smooth is {smooth}; give a number >= 0")
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over classes, in 0–1."""
        check_shapes(logits, target)
        probs = at_size_of(target, logits).softmax(dim=1)
        ids = torch.arange(logits.shape[1], device=target.device).view(1, -1, 1, 1)
        member = target.unsqueeze(1) == ids
        valid = (target != self.ignore_index).unsqueeze(1)
        pixels = (0, 2, 3)
        overlap = torch.where(member, probs, 0.0).sum(pixels)
        truth = (member & valid).sum(pixels)
        predicted = torch.where(valid, probs, 0.0).sum(pixels)
        present = truth > 0
        # Absent classes divide by 1: with smooth 0 they would be 0/0, whose gradient is NaN even if not selected.
        dice = (2 * overlap + self.smooth) / torch.where(present, predicted + truth + self.smooth, 1.0)
        return torch.where(present, 1 - dice, 0.0).sum() / present.sum().clamp(min=1)


@losses.register("ohem")
class OHEMLoss(_PixelLoss):
    """Cross-entropy over hard pixels only: online hard example mining.

    Kept are the pixels whose true class has a probability below `thresh`. Where those are fewer than `min_kept` in
    the batch, the `min_kept` hardest are kept instead (more where several are equally hard, all that count where
    there are fewer).

    Args:
        thresh: probability in (0, 1] from which a pixel is easy.
        min_kept: fewest pixels of a batch to keep, ≥ 0.
        class_weights: one factor per class; it weighs the kept pixels and has no part in choosing them.
        ignore_index: target value that takes no part.

    Example:
        >>> logits, target = torch.zeros(1, 3, 8, 12), torch.zeros(1, 64, 96, dtype=torch.int64)
        >>> featherseg.OHEMLoss(thresh=0.7, min_kept=100)(logits, target) > 0
        tensor(True)
    """

    def __init__(
        self,
        thresh: float = 0.7,
        min_kept: int = 100_000,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        if not 0.0 < thresh <= 1.0:
            raise ConfigError(f"thresh is {thresh}; give a probability above 0 and up to 1")
        if min_kept < 0:
            raise ConfigError(f"min_kept is {min_kept}; give a number of pixels >= 0")
        self.thresh = thresh
        self.min_kept = min_kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over the kept pixels."""
        values, weights = self._pixels(logits, target)
        with torch.no_grad():
            kept = values > -math.log(self.thresh)
            count = min(self.min_kept, values.numel())
            if count:
                # Ignored pixels are easier than any; no pixel is counted on the host, so the device need not wait.
                hardness = torch.where(target != self.ignore_index, values, -1.0).flatten()
                kept |= values >= hardness.topk(count, sorted=False).values.min()
        return _weighted_mean(values, weights * kept)


@losses.register("boundary")
class BoundaryLoss(_PixelLoss):
    """Cross-entropy in which the pixels near the borders between classes count `boost` times.

    A pixel is near a border if a pixel of another class than its own lies within `width` rows and columns of it.
    Ignored pixels are of no class: the edge of an ignored area is no border, but two classes on both sides of a
    narrow ignored strip have one, once `width` spans the strip (VOC's is about 5 pixels).

    Args:
        width: reach of a border in pixels, ≥ 1.
        boost: weight of the pixels near a border, ≥ 1; the others have 1.
        class_weights: one further factor per class.
        ignore_index: target value that takes no part.

    Example:
        >>> logits, target = torch.zeros(1, 3, 8, 12), torch.zeros(1, 64, 96, dtype=torch.int64)
        >>> featherseg.BoundaryLoss()(logits, target) > 0
        tensor(True)
    """

    def __init__(
        self,
        width: int = 3,
        boost: float = 4.0,
        class_weights: Sequence[float] | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weights, ignore_index)
        if width < 1:
            raise ConfigError(f"width is {width}; give a number of pixels >= 1")
        if not (math.isfinite(boost) and boost >= 1):
            raise ConfigError(f"boost is {boost}; give a number >= 1")
        self.width = width
        self.boost = boost

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over pixels, those near borders counting `boost` times."""
        values, weights = self._pixels(logits, target)
        return _weighted_mean(values, weights * (1 + (self.boost - 1) * self.near_border(target)))

    @torch.no_grad()
    def near_border(self, target: Tensor) -> Tensor:
        """Return which pixels of a target (B, H, W) count more, bool (B, H, W)."""
        ids = target.float()
        valid = target != self.ignore_index
        # A window holds two classes where its highest and lowest id differ; each side leaves ignored pixels out.
        highest = self._window_max(torch.where(valid, ids, -torch.inf))
        lowest = -self._window_max(torch.where(valid, -ids, -torch.inf))
        return (highest > lowest) & valid

    def _window_max(self, ids: Tensor) -> Tensor:
        reach, span = self.width, 2 * self.width + 1
        rows = F.max_pool2d(ids.unsqueeze(1), (1, span), stride=1, padding=(0, reach))
        return F.max_pool2d(rows, (span, 1), stride=1, padding=(reach, 0)).squeeze(1)
