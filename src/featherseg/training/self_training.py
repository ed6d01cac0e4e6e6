"""Self-training: a student learns from images without labels what a teacher is sure of in them.

The teacher sees a crop as it was cut, the student the same crop with other colours, blurred, and with a rectangle of
another one put in. FixMatch (Sohn et al., arXiv 2001.07685), for segmentation with CutMix as French et al. (arXiv
1906.01916) and UniMatch (Yang et al., arXiv 2208.09910, section 3.1) have it; the teacher is the average of the
student's weights, as the mean teacher is (Tarvainen and Valpola, arXiv 1703.01780), or another network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from ..core.config import SelfTrainConfig
from ..core.errors import ConfigError
from ..core.types import ClassSet
from ..data.loader import Sample
from ..models.base import SegmentationModel
from .distill import Distilled
from .losses import CrossEntropyLoss, at_size_of
from .supervised import Objective, Supervised, normalize
from .teacher import Teacher
from .teacher_mean import TeacherMean


class SelfTrained(Objective):
    """The losses of labelled images, and the cross-entropy against what a teacher is sure of in others.

    Without a teacher, as long as :meth:`follow` was not called, labelled images alone count.

    Args:
        labelled: owner of the student, and its losses of labelled images.
        config: threshold, weight and ramp.
        classes: the student's.
        teacher: another network than the student's average. It has to know all of the classes, since it says one for
            each pixel.

    Raises:
        ConfigError: the teacher lacks a class.
    """

    def __init__(
        self,
        labelled: Supervised | Distilled,
        config: SelfTrainConfig,
        classes: ClassSet,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.labelled, self.config = labelled, config
        self.loss = CrossEntropyLoss(ignore_index=classes.ignore_index)
        self.ignore_index = classes.ignore_index
        self.progress = 1.0
        # In tuples, since they are not this module's: it neither trains nor saves them.
        self._average: tuple[SegmentationModel, ...] = ()
        self._teacher: tuple[TeacherMean, ...] = ()
        self._shares: list[Tensor] = []
        if teacher is not None:
            mean = TeacherMean([teacher], classes, self.model.input_spec)
            if lacking := [name for i, name in enumerate(classes.names) if i not in mean.class_ids.tolist()]:
                raise ConfigError(
                    f"selftrain.teacher lacks the class {lacking[0]!r} and would take its pixels for another; give a "
                    "run of the same classes, or leave it out"
                )
            self._teacher = (mean,)

    @property
    def model(self) -> SegmentationModel:
        """The student."""
        return self.labelled.model

    def extra_parameters(self) -> list[nn.Parameter]:
        """Return what trains beside the student, as the losses of labelled images have it."""
        return self.labelled.extra_parameters()

    def set_progress(self, progress: float) -> None:
        """Say how much of the training is done, 0–1, for the ramp."""
        self.progress = progress
        self.labelled.set_progress(progress)

    def follow(self, averaged: SegmentationModel) -> None:
        """Let the student's average teach, unless another network does."""
        if not self._teacher:
            self._average = (averaged.eval(),)

    def figures(self) -> dict[str, float]:
        """Return the share of the unlabelled pixels that the teacher was sure of since this was last asked."""
        shares, self._shares = self._shares, []
        return {"sure": round(float(torch.stack(shares).mean()), 4)} if shares else {}

    def forward(self, batch: Sample) -> dict[str, Tensor]:
        """Return ``"loss"``, the total, and ``"loss/<part>"``, its unweighted parts, of a batch.

        Beside ``image`` and ``mask`` of labelled images it holds, of as many others, ``weak`` and ``strong``, uint8
        (B, 3, H, W); ``padding``, int64 (B, H, W), which is ignored where they show nothing; and ``box``, int64 (B, 4):
        top, bottom, left and right of the rectangle that ``strong`` gets from the one before it.
        """
        losses: dict[str, Tensor] = self.labelled(batch)
        if not self._teacher and not self._average:
            return losses
        with torch.no_grad():
            target = self._targets(batch["weak"], batch["padding"])
            inside = boxes(batch["box"], target.shape[-2:])
            target = torch.where(inside, target.roll(1, 0), target)
            strong = torch.where(inside.unsqueeze(1), batch["strong"].roll(1, 0), batch["strong"])
            # The mean is over all pixels, so that few sure ones do not weigh as much as many.
            share = (target != self.ignore_index).float().mean()
        self._shares.append(share)
        logits = self.model.outputs(normalize(strong, self.model.input_spec))["out"]
        losses["loss/unlabelled"] = share * self.loss(logits, target)
        ramp = min(self.progress / self.config.ramp, 1.0) if self.config.ramp else 1.0
        return losses | {"loss": losses["loss"] + self.config.weight * ramp * losses["loss/unlabelled"]}

    def _targets(self, image: Tensor, padding: Tensor) -> Tensor:
        """Return the teacher's classes, int64 (B, H, W), ignored where it is not sure or nothing is shown."""
        ready = normalize(image, self.model.input_spec)
        if self._teacher:
            (mean,) = self._teacher
            logits = mean(image, ready, {"out": ready[:, :1, :: self.model.stride, :: self.model.stride]})["out"]
            ids = mean.class_ids.to(image.device)
        else:
            logits, ids = self._average[0].outputs(ready)["out"], None
        target = sure_classes(logits, padding, self.config.threshold, self.ignore_index)
        if ids is None:
            return target
        return torch.where(target == self.ignore_index, target, ids[target.clamp(max=len(ids) - 1)])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teacher along: ``to``, ``cuda`` and the like all end here."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for mean in self._teacher:
            for member in mean.members:
                if member.module is not None:
                    member.module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def sure_classes(logits: Tensor, padding: Tensor, threshold: float, ignore_index: int) -> Tensor:
    """Return the likeliest class of each pixel, int64 (B, H, W).

    Args:
        logits: float (B, C, h, w), which are upsampled one image after the other.
        padding: int64 (B, H, W); what is ignored in it stays so.
        threshold: probability, 0–1, below which a pixel is ignored.
        ignore_index: its value.
    """
    target = padding.clone()
    for each, out in zip(logits, target, strict=True):
        best, ids = at_size_of(out[None], each[None])[0].softmax(0).max(0)
        out.copy_(torch.where((best >= threshold) & (out != ignore_index), ids, ignore_index))
    return target


def boxes(corners: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return which pixels lie in a rectangle of each image, bool (B, H, W).

    Args:
        corners: top, bottom, left and right of each, int64 (B, 4); all 0 for none.
        size: (height, width).
    """
    top, bottom, left, right = corners.view(-1, 4, 1, 1).unbind(1)
    rows = torch.arange(size[0], device=corners.device).view(1, -1, 1)
    columns = torch.arange(size[1], device=corners.device).view(1, 1, -1)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
