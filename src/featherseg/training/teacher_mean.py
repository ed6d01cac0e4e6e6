"""What teachers say of a student's images, in the student's classes: of several, the mean of their logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import ConfigError
from ..core.types import ClassSet, InputSpec
from ..models.base import resize_like
from ..models.class_matching import ClassTable, find_class, matching_classes
from .supervised import normalize, per_channel
from .teacher import Maps, Teacher
from .teacher_cache import CachedTeacher

PLACE = "distill.classes"
"""What the table of classes is called in messages."""


class TeacherMean:
    """One or several teachers of a student, heard as one.

    Each sees the image in its own normalisation and at its own size. Several of a teacher's classes that are one of the
    student's are joined by the logsumexp of their logits: its softmax is the probability of any of them. The mean of
    the teachers' logits is taken over the classes that all of them know, since a logit means something only beside the
    others of its teacher.

    Args:
        teachers: one or more.
        classes: the student's.
        spec: how the student wants its images.
        table: a teacher's class or classes by each of the student's, where names do not tell. An entry is passed over
            for a teacher that lacks what it names but knows the student's own name, as long as another follows it.

    Attributes:
        members: the teachers.
        class_ids: the student's ids of the classes that are taught, int64 (K,).

    Raises:
        ConfigError: there is no teacher; the table names a class that there is not, or one of a teacher's for two of
            the student's.
    """

    def __init__(
        self, teachers: Sequence[Teacher], classes: ClassSet, spec: InputSpec, table: ClassTable | None = None
    ) -> None:
        if not teachers:
            raise ConfigError("distillation needs at least one teacher; give a run folder or weights file")
        self.members = list(teachers)
        self.spec = spec
        known = known_classes(classes, [teacher.classes for teacher in teachers], table or {})
        shared = [i for i in range(len(classes)) if all(i in groups for groups in known)]
        self.class_ids = torch.tensor(shared, dtype=torch.int64)
        self._groups = [[groups[i] for i in shared] for groups in known]

    def keep(self, folder: str | Path, maps: frozenset[str]) -> None:
        """Keep on disk what each teacher says, and look there first; see :class:`.teacher_cache.CachedTeacher`.

        Raises:
            ConfigError: one is a plain callable.
        """
        self.members = [CachedTeacher(teacher, folder, maps) for teacher in self.members]

    def __call__(self, image: Tensor, ready: Tensor, student: Mapping[str, Tensor]) -> Maps:
        """Return what stands beside a student's maps: float32, of their sizes, without a gradient.

        Args:
            image: uint8, or float and normalised for the student; (B, 3, H, W).
            ready: the same, normalised for the student.
            student: those of its maps that are compared. Of several teachers only ``"out"`` can be.

        Returns:
            a map for each; ``"out"`` holds logits (B, K, h, w) of the classes in `class_ids`.
        """
        answers = []
        for teacher, groups in zip(self.members, self._groups, strict=True):
            said = teacher(self._for_teacher(teacher.input_spec, image, ready))
            with torch.no_grad():
                maps = {
                    tap: joined(said[tap].float(), groups) if tap == "out" else said[tap].float() for tap in student
                }
                answers.append({tap: resize_like(x, student[tap]) for tap, x in maps.items()})
        if len(answers) == 1:
            return answers[0]
        return {tap: torch.stack([answer[tap] for answer in answers]).mean(0) for tap in student}

    def _for_teacher(self, theirs: InputSpec, image: Tensor, ready: Tensor) -> Tensor:
        """Return the image as a teacher wants it; `ready` is as the student does."""
        ours = self.spec
        if (ours.mean, ours.std) != (theirs.mean, theirs.std):
            ready = normalize(image, theirs) if image.dtype == torch.uint8 else _renormalized(image, ours, theirs)
        if ours.long_side and theirs.long_side and ours.long_side != theirs.long_side:
            factor = theirs.long_side / ours.long_side
            ready = F.interpolate(ready, scale_factor=factor, mode="bilinear", antialias=factor < 1)
        return ready


def joined(logits: Tensor, groups: Sequence[tuple[int, ...]]) -> Tensor:
    """Return logits (B, K, h, w) of K groups of the classes of `logits` (B, C, h, w): the logsumexp of each."""
    parts = torch.split(logits[:, [i for group in groups for i in group]], [len(group) for group in groups], dim=1)
    return torch.cat([x if x.shape[1] == 1 else x.logsumexp(dim=1, keepdim=True) for x in parts], dim=1)


def known_classes(ours: ClassSet, teachers: Sequence[ClassSet], table: ClassTable) -> list[dict[int, tuple[int, ...]]]:
    """Return, for each teacher, its class ids by each id of ours that it knows.

    Raises:
        ConfigError: the table has a class that is not ours, an entry that is of use to no teacher or that a teacher
            can neither follow nor do without, or one class of a teacher for two of ours.
    """
    entries = {name: [others] if isinstance(others, str) else list(others) for name, others in table.items()}
    found = []
    for theirs in teachers:
        usable = {name: others for name, others in entries.items() if not _passed_over(name, entries, theirs, teachers)}
        groups = matching_classes(ours, theirs, usable, PLACE)
        _require_distinct(ours, theirs, groups)
        found.append(groups)
    return found


def _passed_over(
    name: str, entries: Mapping[str, Sequence[str]], theirs: ClassSet, teachers: Sequence[ClassSet]
) -> bool:
    """Return whether a teacher does without an entry: it matches our class by name, and the entry is for another."""

    def can_follow(classes: ClassSet) -> bool:
        return all(find_class(other, classes) is not None for other in entries[name])

    by_name = find_class(name, theirs) is not None
    return by_name and not can_follow(theirs) and any(map(can_follow, teachers))


def _require_distinct(ours: ClassSet, theirs: ClassSet, groups: Mapping[int, tuple[int, ...]]) -> None:
    """Refuse a class of a teacher that stands for two of ours: its probability would count twice."""
    taken: dict[int, int] = {}
    for mine, others in groups.items():
        for other in others:
            if other in taken:
                first, second = ours.names[taken[other]], ours.names[mine]
                raise ConfigError(
                    f"the teacher's class {theirs.names[other]!r} stands for both {first!r} and {second!r}; give it to "
                    f"one of them in [{PLACE}], where an empty list leaves a class without a teacher"
                )
            taken[other] = mine


def _renormalized(image: Tensor, ours: InputSpec, theirs: InputSpec) -> Tensor:
    """Return an image that is normalised by `ours` as `theirs` wants it."""
    mean, std, their_mean, their_std = (
        per_channel(row, image.device) for row in (ours.mean, ours.std, theirs.mean, theirs.std)
    )
    return (image * std + mean - their_mean) / their_std
