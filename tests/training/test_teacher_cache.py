"""A teacher's maps on disk: the same answer from file as from the teacher, and never another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import Tiny, batch
from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.training.distill import Distilled
from featherseg.training.losses import CrossEntropyLoss
from featherseg.training.supervised import Supervised
from featherseg.training.teacher import Teacher
from featherseg.training.teacher_cache import CachedTeacher

CLASSES = ClassSet(("sky", "road", "car"))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 64, 72, generator=torch.Generator().manual_seed(0))


def test_the_second_answer_comes_from_disk_and_is_the_first(tiny: Tiny, image: Tensor, tmp_path: Path) -> None:
    teacher = Teacher(tiny().eval(), CLASSES)
    first = CachedTeacher(teacher, tmp_path)(image)
    assert torch.equal(first["out"], teacher(image)["out"].half())
    assert set(first) == {"out"}
    assert len(files(tmp_path)) == 1
    again = CachedTeacher(Teacher(tiny().eval(), CLASSES), tmp_path)  # an equal teacher of another process
    again.teacher = None  # type: ignore[assignment]  # it must not be asked
    assert torch.equal(again(image)["out"], first["out"])


def test_other_images_weights_and_classes_are_other_files(tiny: Tiny, image: Tensor, tmp_path: Path) -> None:
    network = tiny().eval()
    CachedTeacher(Teacher(network, CLASSES), tmp_path)(image)
    changed = image.clone()
    changed[1, 2, 63, 71] += 1e-3
    CachedTeacher(Teacher(network, CLASSES), tmp_path)(changed)
    nn.init.normal_(network.head.bias)
    CachedTeacher(Teacher(network, CLASSES), tmp_path)(image)
    CachedTeacher(Teacher(network, ClassSet(("a", "b", "c"))), tmp_path)(image)
    CachedTeacher(Teacher(network, CLASSES), tmp_path, frozenset({"out", "x4"}))(image)
    assert len(files(tmp_path)) == 5


def test_a_torn_file_is_written_anew(tiny: Tiny, image: Tensor, tmp_path: Path) -> None:
    cached = CachedTeacher(Teacher(tiny().eval(), CLASSES), tmp_path)
    expected = cached(image)["out"]
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(cached(image)["out"], expected)
    assert torch.equal(cached(image)["out"], expected)


def test_the_objective_learns_the_same_with_and_without_files(tiny: Tiny, tmp_path: Path) -> None:
    terms = ({"name": "kl"}, {"name": "features", "tap": "x4"})
    losses = []
    for cache in ("", tmp_path, tmp_path):
        student = tiny().train()
        teacher = Teacher(tiny(), CLASSES)
        teacher.network.head.weight.data.mul_(2)
        torch.manual_seed(0)
        objective = Distilled(
            Supervised(student, CrossEntropyLoss(), CrossEntropyLoss()), teacher, terms, CLASSES, cache
        )
        losses.append(objective(batch())["loss"].detach())
    assert torch.equal(losses[1], losses[2])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-4)
    assert len(files(tmp_path)) == 1


def test_a_callable_cannot_be_told_from_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="plain callable"):
        CachedTeacher(Teacher(lambda image: image, CLASSES), tmp_path)
