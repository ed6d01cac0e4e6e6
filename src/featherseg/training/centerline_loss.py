"""The loss ``cldice``: how far the soft centre lines of thin classes are from the masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError
from ..core.types import IGNORE_INDEX
from .losses import at_size_of, losses
from .tiled_cross_entropy import check_shapes


def soft_skeleton(shape: Tensor, iterations: int) -> Tensor:
    """Return soft centre lines: what an opening takes away, of the shape and of each of its erosions.

    Shit et al., clDice (CVPR 2021, arXiv 2003.07311), algorithm 1. Erosion is the least of a pixel and its four
    neighbours and dilation the greatest of 3x3, as in the authors' code (github.com/jocpae/clDice, MIT).

    Args:
        shape: degrees of membership (B, C, H, W), 0–1; what lies outside erodes nothing.
        iterations: erosions; things of up to ``2 · iterations + 1`` pixels' width are thinned to their middle.
    """
    line = F.relu(shape - _opened(shape))
    for _ in range(iterations):
        shape = _eroded(shape)
        line = line + (1 - line) * F.relu(shape - _opened(shape))
    return line


def _eroded(shape: Tensor) -> Tensor:
    upright = -F.max_pool2d(-shape, (3, 1), stride=1, padding=(1, 0))
    across = -F.max_pool2d(-shape, (1, 3), stride=1, padding=(0, 1))
    return torch.minimum(upright, across)


def _opened(shape: Tensor) -> Tensor:
    return F.max_pool2d(_eroded(shape), 3, stride=1, padding=1)


@losses.register("cldice")
class CenterlineDiceLoss(nn.Module):
    """One minus the soft clDice of thin classes, averaged over those that occur in the target.

    Shit et al. (CVPR 2021, arXiv 2003.07311), section 3.2. Per class, over all pixels of the batch that count:
    topology precision ``(Σ s(p)·t + smooth) / (Σ s(p) + smooth)`` and sensitivity ``(Σ s(t)·p + smooth) / (Σ s(t) +
    smooth)``, p being softmax probabilities, t the target's 0 or 1, s :func:`soft_skeleton`; clDice is their harmonic
    mean. Ignored pixels are 0 in p and t. It says nothing of how thick things are, so it stands beside another loss:
    the authors add Dice, with at most half of the weight here. Skeletons go over whole classes: the upsampled logits
    are held in full, and about 130 bytes per pixel, class and iteration beside them.

    Args:
        classes: ids of the classes; recipes give names. Left out, all but the first, which is the background.
        iterations: erosions: no less than half the width in pixels of the widest of the thin things. 3 is the authors'
            default.
        smooth: pixels added to both sides of the fractions, ≥ 0; 1 is the authors'.
        ignore_index: target value that takes no part.

    Example:
        >>> logits, target = torch.zeros(1, 3, 8, 12), torch.zeros(1, 64, 96, dtype=torch.int64)
        >>> target[:, 30:33] = 1
        >>> losses.create("cldice", classes=[1])(logits, target) > 0
        tensor(True)
    """

    def __init__(
        self,
        classes: Sequence[int] | None = None,
        iterations: int = 3,
        smooth: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        if classes is not None and (not classes or any(type(c) is not int or c < 0 for c in classes)):
            raise ConfigError(f"classes are {classes!r}; give a list of one class or more")
        if type(iterations) is not int or not 1 <= iterations <= 100:
            raise ConfigError(f"iterations is {iterations}; give a whole number from 1 to 100")
        if not (math.isfinite(smooth) and smooth >= 0):
            raise ConfigError(f"smooth is {smooth}; give a number >= 0")
        self.classes = None if classes is None else tuple(dict.fromkeys(classes))
        self.iterations = iterations
        self.smooth = smooth
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean over classes, in 0–1; 0 where none of them occurs."""
        check_shapes(logits, target)
        count = logits.shape[1]
        chosen = tuple(range(1, count)) if self.classes is None else self.classes
        if not chosen or max(chosen) >= count:
            raise ConfigError(f"classes are {list(chosen)}, but the network has {count}; give ids of 0 to {count - 1}")
        ids = torch.tensor(chosen, device=target.device)
        valid = (target != self.ignore_index).unsqueeze(1)
        truth = ((target.unsqueeze(1) == ids.view(1, -1, 1, 1)) & valid).float()
        probs = torch.where(valid, at_size_of(target, logits).softmax(dim=1)[:, ids], 0.0)
        with torch.no_grad():
            true_line = soft_skeleton(truth, self.iterations)
        line = soft_skeleton(probs, self.iterations)
        precision = self._share(line, truth)
        sensitivity = self._share(true_line, probs)
        present = truth.amax((0, 2, 3)) > 0
        # Absent classes divide by 1: their fractions would be decided by `smooth` alone, or be 0/0.
        both = torch.where(present, precision + sensitivity, 1.0).clamp(min=torch.finfo(torch.float32).tiny)
        loss = 1 - 2 * precision * sensitivity / both
        return torch.where(present, loss, 0.0).sum() / present.sum().clamp(min=1)

    def _share(self, line: Tensor, shape: Tensor) -> Tensor:
        """Return which share of each class's line lies in its shape (C,); 0 where there is no line."""
        pixels = (0, 2, 3)
        whole = line.sum(pixels) + self.smooth
        return ((line * shape).sum(pixels) + self.smooth) / torch.where(whole > 0, whole, 1.0)
