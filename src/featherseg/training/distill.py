"""Distillation: a student learns from its masks and, besides, from what frozen teachers see in the same images.

Every distillation loss is a module ``(student, teacher, valid) -> scalar`` over two maps float (B, C, h, w) of one
size, at the student's own stride and never at full resolution; `valid`, bool (B, h, w), says which pixels count (None:
all). All arithmetic is float32. Where no pixel counts, the loss is exactly 0 and so is its gradient.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.errors import ConfigError
from ..core.registry import Registry
from ..core.types import MIN_SIZE, ClassSet
from ..data.loader import Sample
from ..models.base import SegmentationModel
from ..models.class_matching import ClassTable
from .supervised import Objective, Supervised, normalize
from .teacher import Maps, Teacher
from .teacher_mean import TeacherMean


class DistillationLoss(nn.Module):
    """Base of the losses: it compares the maps called `tap`."""

    tap = "out"

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss of maps (B, C, h, w) over the pixels that are `valid`, bool (B, h, w)."""
        raise NotImplementedError


distillations: Registry[Callable[..., DistillationLoss]] = Registry("distillation loss")


class _LogitsLoss(DistillationLoss):
    """A comparison of logits at a temperature.

    Args:
        temperature: what both logits are divided by, > 0; more of it lets unlikely classes count for more.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise ConfigError(f"temperature is {temperature}; give a number > 0")
        self.temperature = temperature

    def _softened(self, *logits: Tensor) -> tuple[Tensor, ...]:
        if len({x.shape for x in logits}) > 1:
            shapes = " and ".join(str(tuple(x.shape)) for x in logits)
            raise ConfigError(f"logits of student and teacher are {shapes}; resize them and pick their common classes")
        return tuple(x.float() / self.temperature for x in logits)


@distillations.register("kl")
class KLLoss(_LogitsLoss):
    """Kullback-Leibler divergence of the student's class probabilities from the teacher's, averaged over pixels.

    Per pixel ``T² Σ_c p_c log(p_c / q_c)``, p and q being the teacher's and the student's softmax over classes at
    temperature T. Hinton et al., Distilling the Knowledge in a Neural Network (arXiv 1503.02531), equation 1 and
    section 2: T² keeps the gradient's size when T changes.

    Args:
        temperature: T, > 0.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__(temperature)

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean over pixels."""
        ours, theirs = (x.log_softmax(dim=1) for x in self._softened(student, teacher))
        divergence = (theirs.exp() * (theirs - ours)).sum(dim=1)
        return self.temperature**2 * _mean(divergence, valid)


@distillations.register("cwd")
class ChannelWiseLoss(_LogitsLoss):
    """Channel-wise distillation: where in the image a class is seen, rather than which class a pixel is.

    Per image and channel ``T² Σ_i p_i log(p_i / q_i)``, p and q being the softmax *over the pixels* i of the teacher's
    and the student's channel at temperature T; averaged over channels and images. Shu et al., Channel-wise Knowledge
    Distillation for Dense Prediction (ICCV 2021, arXiv 2011.13256).

    Args:
        temperature: T, > 0; the more, the larger the part of a channel's map that counts.
    """

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__(temperature)

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean over channels and the images that have a valid pixel."""
        maps = self._softened(student, teacher)
        if valid is None:
            valid = torch.ones_like(student[:, 0], dtype=torch.bool)
        # Probability 0 for other pixels. Not −inf, since 0 · (−inf + inf) would be NaN.
        ours, theirs = (torch.where(valid.unsqueeze(1), x, -1e30).flatten(start_dim=2).log_softmax(dim=2) for x in maps)
        divergence = (theirs.exp() * (theirs - ours)).sum(dim=2).mean(dim=1)
        return self.temperature**2 * _mean(divergence, valid.flatten(start_dim=1).any(dim=1))


@distillations.register("dist")
class DISTLoss(_LogitsLoss):
    """Correlation instead of equality: the student keeps the teacher's ranking, but need not be as sure.

    ``T² (inter · mean_i [1 − ρ(p_i, q_i)] + intra · mean_c [1 − ρ(p_c, q_c)])`` with Pearson's correlation ρ of class
    probabilities p (teacher) and q (student): over the classes of each pixel i, and over the pixels of the batch for
    each class c. Huang et al., Knowledge Distillation from A Stronger Teacher (NeurIPS 2022, arXiv 2205.10536), with
    pixels as instances; T² as in the authors' code (hunto/DIST_KD).

    Args:
        temperature: T, > 0.
        inter: weight of the relation between classes (the paper's β), ≥ 0.
        intra: weight of the relation within classes (the paper's γ), ≥ 0.
    """

    def __init__(self, temperature: float = 1.0, inter: float = 1.0, intra: float = 1.0) -> None:
        super().__init__(temperature)
        for name, value in (("inter", inter), ("intra", intra)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name} is {value}; give a number >= 0")
        self.inter, self.intra = inter, intra

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the weighted sum of both relations."""
        # One row a pixel of the batch: (B·h·w, C)
        ours, theirs = (
            x.softmax(dim=1).permute(0, 2, 3, 1).flatten(end_dim=2) for x in self._softened(student, teacher)
        )
        weights = torch.ones_like(ours[:, :1]) if valid is None else valid.reshape(-1, 1).float()
        between = _mean(1 - _correlation(ours, theirs, dim=1), weights[:, 0])
        within = (1 - _correlation(ours, theirs, dim=0, weights=weights)).mean() * weights.any()
        return self.temperature**2 * (self.inter * between + self.intra * within)


@distillations.register("features")
class FeatureLoss(DistillationLoss):
    """Squared distance of feature vectors, once a trained 1×1 convolution took the student's to the teacher's space.

    Per pixel ``‖r/‖r‖ − t/‖t‖‖²``, in 0–4, averaged over pixels; r is the adapted vector of the student's `tap`, t the
    teacher's. The hint of FitNets (Romero et al., arXiv 1412.6550, equation 3) on vectors of unit length, so that
    neither the scale of the teacher's activations nor its channels count in the weight.

    Args:
        channels: (student's, teacher's) channels of each tap that both have; :class:`Distilled` fills it in.
        tap: which maps to compare.
    """

    def __init__(self, channels: Mapping[str, tuple[int, int]], tap: str = "x8") -> None:
        super().__init__()
        if tap not in channels:
            common = ", ".join(sorted(channels)) or "none"
            raise ConfigError(f"tap is {tap!r}, which student and teacher do not both have; they share: {common}")
        self.tap = tap
        self.adapter = nn.Conv2d(*channels[tap], kernel_size=1)

    def forward(self, student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the mean over pixels."""
        with torch.autocast(student.device.type, enabled=False):
            adapted = F.normalize(self.adapter(student.float()), dim=1)
        return _mean((adapted - F.normalize(teacher.float(), dim=1)).square().sum(dim=1), valid)


def _mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of the values that count; 0 (with a zero gradient) where none does."""
    if valid is None:
        return values.mean()
    return (values * valid).sum() / valid.sum().clamp(min=1)


def _correlation(a: Tensor, b: Tensor, dim: int, weights: Tensor | None = None) -> Tensor:
    """Return Pearson's correlation along `dim`, of the rows with weight 1 rather than 0; 0 where one is constant."""
    if weights is None:
        weights = torch.ones_like(a[:1, :1])
    count = weights.expand_as(a).sum(dim, keepdim=True).clamp(min=1)
    rays = []
    for x in (a, b):
        centred = (x - (x * weights).sum(dim, keepdim=True) / count) * weights
        rays.append(F.normalize(centred, dim=dim, eps=1e-8))
    return (rays[0] * rays[1]).sum(dim)


@dataclass(frozen=True)
class _Share:
    """How one loss enters the sum."""

    weight: float
    decay: bool
    use_ignored: bool


class Distilled(Objective):
    """The student's supervised losses plus weighted distillation losses.

    Logits are compared over the classes that student and teacher have, matched by name or by a table: the softmax is
    over these alone. Classes that the teacher lacks are learnt from the masks only. Of several teachers the logits are
    averaged, over the classes that all of them have.

    Args:
        supervised: owner of the student, and its losses against the masks.
        teacher: what to learn from; one or several.
        terms: one mapping a loss, such as ``{"name": "kl", "weight": 1.0, "temperature": 4.0}``: ``name`` is the
            registered loss, ``weight`` (≥ 0, 1 by default) its factor. ``decay = true`` lets the factor fall linearly
            to 0 at the end of the training (see :meth:`set_progress`); ``use_ignored = true`` learns from pixels
            without a label too, the padding of small crops among them. The other keys are the loss's own options.
        classes: the student's.
        cache: folder that the teacher's maps are kept in for other runs over the same samples; see
            :class:`.teacher_cache.CachedTeacher`. Nothing is kept where left out.
        class_table: the teacher's class or classes by each of the student's, where names do not tell; see
            :class:`.teacher_mean.TeacherMean`.

    Raises:
        ConfigError: no term, an unknown loss or option, a value out of range, fewer than two common classes, a
            teacher whose channels are not its classes, a table that does not fit, or a loss of features with several
            teachers.
    """

    class_ids: Tensor

    def __init__(
        self,
        supervised: Supervised,
        teacher: Teacher | Sequence[Teacher],
        terms: Sequence[Mapping[str, Any]],
        classes: ClassSet,
        cache: str | Path = "",
        *,
        class_table: ClassTable | None = None,
    ) -> None:
        super().__init__()
        if not terms:
            raise ConfigError(f"distillation needs at least one loss; known: {', '.join(distillations)}")
        if len(classes) != supervised.model.num_classes:
            raise ConfigError(f"{len(classes)} classes for a student of {supervised.model.num_classes}; give its own")
        self.supervised = supervised
        teachers = [teacher] if isinstance(teacher, Teacher) else list(teacher)
        self.teachers = TeacherMean(teachers, classes, self.model.input_spec, class_table)
        self.ignore_index = classes.ignore_index
        self.progress = 0.0
        device = next(self.model.parameters()).device
        for module in self._teaching_modules():
            module.to(device)
        answers = [each(torch.zeros(1, 3, MIN_SIZE, MIN_SIZE, device=device)) for each in teachers]
        channels = _common_channels(self.model, answers[0])
        self.shares: dict[str, _Share] = {}
        self.losses = nn.ModuleDict()
        for term in terms:
            loss, share = _build_term(term, channels)
            if loss.tap != "out" and len(teachers) > 1:
                raise ConfigError(
                    f"distillation loss {term['name']!r} compares features, which {len(teachers)} teachers do not "
                    "share; leave it out, or give one teacher"
                )
            name = term["name"] if loss.tap == "out" else f"{term['name']}_{loss.tap}"
            if name in self.losses:
                raise ConfigError(f"distillation loss {name!r} is given twice; give each once")
            self.losses[name], self.shares[name] = loss.to(device), share
        taps = frozenset(cast(DistillationLoss, loss).tap for loss in self.losses.children())
        if cache:
            self.teachers.keep(cache, taps)
        ids = self.teachers.class_ids
        if len(ids) < 2 and "out" in taps:
            theirs = "; ".join(", ".join(each.classes.names) for each in teachers)
            raise ConfigError(
                f"student ({', '.join(classes.names)}) and teacher ({theirs}) share {len(ids)} class names; name the "
                "teacher's classes in [distill.classes]"
            )
        self.register_buffer("class_ids", ids.to(device), persistent=False)  # the student's, of what is taught

    @property
    def model(self) -> SegmentationModel:
        """The student."""
        return self.supervised.model

    def extra_parameters(self) -> list[nn.Parameter]:
        """Return what trains beside the student: the adapters of feature losses."""
        return list(self.losses.parameters())

    def set_progress(self, progress: float) -> None:
        """Say how much of the training is done, 0–1, for the losses that decay."""
        self.progress = progress

    def forward(self, batch: Sample) -> dict[str, Tensor]:
        """Return ``"loss"``, the total, and ``"loss/<part>"``, its unweighted parts, of a batch.

        ``batch["image"]`` is uint8, or float and normalised for the student; ``batch["mask"]`` is int64 (B, H, W).
        """
        image, target = batch["image"], batch["mask"]
        ready = normalize(image, self.model.input_spec) if image.dtype == torch.uint8 else image
        student = self.model.outputs(ready)
        losses = self.supervised.of_outputs(student, target)
        compared = {cast(DistillationLoss, loss).tap for loss in self.losses.children()}
        teacher = self.teachers(image, ready, {tap: student[tap] for tap in compared})
        for name, share in self.shares.items():
            loss = cast(DistillationLoss, self.losses[name])
            ours = student[loss.tap].float()
            if loss.tap == "out":
                ours = ours[:, self.class_ids]
            valid = None if share.use_ignored else self._valid(target, ours)
            losses[f"loss/{name}"] = loss(ours, teacher[loss.tap], valid)
            factor = share.weight * (1 - self.progress if share.decay else 1)
            losses["loss"] = losses["loss"] + factor * losses[f"loss/{name}"]
        return losses

    def _valid(self, target: Tensor, reference: Tensor) -> Tensor:
        """Return which cells of `reference` have a label at their centre, bool (B, h, w)."""
        labelled = (target != self.ignore_index).unsqueeze(1).float()
        return F.interpolate(labelled, size=reference.shape[-2:], mode="nearest-exact")[:, 0] > 0

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teachers along: ``to``, ``cuda`` and the like all end here."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for module in self._teaching_modules():
            module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _teaching_modules(self) -> list[nn.Module]:
        """Return what of the teachers has a device."""
        return [each.module for each in self.teachers.members if each.module is not None]


def _common_channels(student: SegmentationModel, theirs: Maps) -> dict[str, tuple[int, int]]:
    """Return (student's, teacher's) channels of the maps that both have; nothing is computed, nothing changed."""
    ghost = copy.deepcopy(student).to("meta").eval()
    with torch.no_grad():
        ours = ghost.outputs(torch.zeros(1, 3, MIN_SIZE, MIN_SIZE, device="meta"))
    return {tap: (ours[tap].shape[1], x.shape[1]) for tap, x in theirs.items() if tap in ours and tap != "out"}


def _build_term(term: Mapping[str, Any], channels: Mapping[str, tuple[int, int]]) -> tuple[DistillationLoss, _Share]:
    if "name" not in term:
        raise ConfigError(f"distillation loss {dict(term)} has no name; known: {', '.join(distillations)}")
    options = {key: value for key, value in term.items() if key != "name"}
    weight, flags = options.pop("weight", 1.0), {key: options.pop(key, False) for key in ("decay", "use_ignored")}
    if type(weight) not in (int, float) or not 0 <= weight < math.inf:
        raise ConfigError(f"distillation loss {term['name']!r} has weight {weight!r}; give a number >= 0")
    for key, value in flags.items():
        if type(value) is not bool:
            raise ConfigError(f"distillation loss {term['name']!r}: {key} is {value!r}; it takes true or false")
    if "channels" in options:
        raise ConfigError(f"distillation loss {term['name']!r}: channels are found out, not given; leave them out")
    if "channels" in signature(distillations.get(term["name"])).parameters:
        options["channels"] = channels
    loss: DistillationLoss = distillations.create(term["name"], **options)
    return loss, _Share(float(weight), **flags)
