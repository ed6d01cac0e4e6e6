"""Several teachers heard as one, and teachers whose classes have other names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import Tiny, batch, error_line
from featherseg.core.config import DistillConfig
from featherseg.core.errors import ConfigError
from featherseg.core.recipes import config_to_toml, load_config
from featherseg.core.types import ClassSet, InputSpec
from featherseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from featherseg.models.factory import create_model
from featherseg.training.distill import Distilled, KLLoss
from featherseg.training.fit import fit, with_lasting_paths
from featherseg.training.losses import CrossEntropyLoss
from featherseg.training.results import results_markdown
from featherseg.training.supervised import Supervised, normalize
from featherseg.training.teacher import Teacher, load_teacher
from featherseg.training.teacher_mean import TeacherMean, joined, known_classes
from trainings import tiny_config

CLASSES = ClassSet(("sky", "road", "car"))
STREET = ClassSet(("road", "sidewalk", "car", "truck", "Sky"))
KL = ({"name": "kl", "use_ignored": True},)


def says(logits: Tensor, classes: ClassSet = CLASSES, spec: InputSpec | None = None) -> Teacher:
    """A teacher that says the same of every image."""
    return Teacher(lambda image: logits[: len(image)], classes, spec)


def small(logits: Tensor) -> Tensor:
    """Logits at the size of the student's, 16x18."""
    return nn.functional.interpolate(logits, size=(16, 18), mode="bilinear", align_corners=False)


def supervised(student: Any) -> Supervised:
    return Supervised(student, CrossEntropyLoss(), CrossEntropyLoss())


def learnt(student: Any, teachers: list[Teacher], **options: Any) -> Tensor:
    return Distilled(supervised(student), teachers, KL, CLASSES, **options)(batch())["loss/kl"]


def ours(student: Any) -> Tensor:
    logits: Tensor = student.outputs(normalize(batch()["image"], student.input_spec))["out"]
    return logits


def test_the_logits_of_several_are_averaged_at_the_students_size(tiny: Tiny) -> None:
    student = tiny().train()
    fine, coarse = torch.randn(2, 3, 64, 72), torch.randn(2, 3, 8, 9)
    turned = says(coarse.flip(1), ClassSet(CLASSES.names[::-1]))
    expected = KLLoss()(ours(student), (small(fine) + small(coarse)) / 2)
    torch.testing.assert_close(learnt(student, [says(fine), turned]), expected)
    torch.testing.assert_close(learnt(student, [says(fine)]), KLLoss()(ours(student), small(fine)))


def test_several_teach_the_classes_that_all_of_them_know(tiny: Tiny) -> None:
    """Beside a teacher without the car, another's logit of it would mean nothing."""
    student = tiny().train()
    all_three, two = torch.randn(2, 3, 16, 18), torch.randn(2, 2, 16, 18)
    teachers = [says(all_three), says(two, ClassSet(("road", "sky")))]
    mean = (all_three[:, [0, 1]] + two[:, [1, 0]]) / 2
    torch.testing.assert_close(learnt(student, teachers), KLLoss()(ours(student)[:, [0, 1]], mean))


def test_each_sees_the_image_in_its_own_way(tiny: Tiny) -> None:
    seen: list[Tensor] = []

    def watch(image: Tensor) -> Tensor:
        seen.append(image)
        return torch.zeros(len(image), 3, 4, 4)

    specs = [InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), InputSpec(long_side=144), InputSpec(long_side=36)]
    student = tiny().train()
    student.input_spec = InputSpec(long_side=72)
    learnt(student, [Teacher(watch, CLASSES, spec) for spec in specs])
    image = batch()["image"]
    torch.testing.assert_close(seen[-3], normalize(image, specs[0]))
    assert [tuple(x.shape[-2:]) for x in seen[-3:]] == [(64, 72), (128, 144), (32, 36)]


def test_a_table_joins_classes_by_the_probability_of_any(tiny: Tiny) -> None:
    student, theirs = tiny().train(), torch.randn(2, 5, 16, 18)
    table = {"road": ["road", "sidewalk"], "car": ("car", "truck")}
    loss = learnt(student, [says(theirs, STREET)], class_table=table)
    probs = theirs.softmax(1)
    by_hand = torch.stack([probs[:, 4], probs[:, 0] + probs[:, 1], probs[:, 2] + probs[:, 3]], 1)
    torch.testing.assert_close(loss, KLLoss()(ours(student), by_hand.log()))
    torch.testing.assert_close(joined(theirs, [(4,), (0, 1), (2, 3)]).softmax(1), by_hand)


def test_a_class_with_an_empty_list_is_learnt_from_masks_alone(tiny: Tiny) -> None:
    student, theirs = tiny().train(), torch.randn(2, 3, 16, 18)
    loss = learnt(student, [says(theirs)], class_table={"road": []})
    torch.testing.assert_close(loss, KLLoss()(ours(student)[:, [0, 2]], theirs[:, [0, 2]]))


class TestTable:
    def test_an_entry_is_passed_over_for_a_teacher_that_does_without_it(self) -> None:
        table = {"road": ["road", "sidewalk"], "car": ["car", "truck"]}
        assert known_classes(CLASSES, [CLASSES, STREET], table) == [
            {0: (0,), 1: (1,), 2: (2,)},
            {0: (4,), 1: (0, 1), 2: (2, 3)},
        ]

    def test_an_entry_counts_for_every_teacher_that_can_follow_it(self) -> None:
        assert known_classes(CLASSES, [CLASSES, STREET], {"road": []}) == [{0: (0,), 2: (2,)}, {0: (4,), 2: (2,)}]

    @pytest.mark.parametrize(
        ("teachers", "table", "words"),
        [
            ([CLASSES], {"car": "truck"}, "distill.classes has 'truck' for 'car', no class of the other network"),
            ([CLASSES, CLASSES], {"car": "truk"}, "has 'truk' for 'car'"),
            ([CLASSES, STREET, ClassSet(("sky", "road"))], {"car": ["car", "truck"]}, "has 'car' for 'car'"),
            ([STREET], {"vehicle": "car"}, "distill.classes has 'vehicle', no class of this network"),
            ([STREET], {"sky": "road"}, "'road' stands for both 'sky' and 'road'"),
            ([STREET], {"sky": ["Sky", "Sky"]}, "'Sky' stands for both 'sky' and 'sky'"),
        ],
    )
    def test_mistakes_are_one_line(self, teachers: list[ClassSet], table: dict[str, Any], words: str) -> None:
        assert words in error_line(ConfigError, known_classes, CLASSES, teachers, table)


def test_features_of_several_are_refused(tiny: Tiny) -> None:
    student, teachers = tiny(), [Teacher(tiny(), CLASSES), Teacher(tiny(), CLASSES)]
    terms = ({"name": "features", "tap": "x4"},)
    assert "2 teachers do not share" in error_line(
        ConfigError, Distilled, supervised(student), teachers, terms, CLASSES
    )
    assert "at least one teacher" in error_line(ConfigError, Distilled, supervised(student), [], KL, CLASSES)


def test_too_few_classes_that_all_know(tiny: Tiny) -> None:
    teachers = [says(torch.zeros(2, 3, 4, 4)), says(torch.zeros(2, 2, 4, 4), ClassSet(("tree", "car")))]
    line = error_line(ConfigError, learnt, tiny(), teachers)
    assert "teacher (sky, road, car; tree, car) share 1 class names" in line


def test_every_teacher_is_kept_on_disk(tiny: Tiny, tmp_path: Path) -> None:
    student = tiny().train()
    losses = []
    for cache in ("", tmp_path, tmp_path):
        networks = [tiny(), tiny()]
        nn.init.normal_(networks[1].head.weight, generator=torch.Generator().manual_seed(3))
        losses.append(learnt(student, [Teacher(network, CLASSES) for network in networks], cache=cache).detach())
    assert torch.equal(losses[1], losses[2])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-4)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_all_of_them_move_with_the_objective(tiny: Tiny) -> None:
    distilled: Any = Distilled(supervised(tiny()), [Teacher(tiny(), CLASSES), Teacher(tiny(), CLASSES)], KL, CLASSES)
    distilled.to(torch.float64)
    assert [each.module.head.weight.dtype for each in distilled.teachers.members] == [torch.float64] * 2


def test_nothing_is_taught_with_a_gradient() -> None:
    weight = torch.ones((), requires_grad=True)
    teacher = TeacherMean([Teacher(lambda image: weight.expand(1, 3, 2, 2), CLASSES)], CLASSES, InputSpec())
    image = torch.zeros(1, 3, 64, 64)
    assert not teacher(image, image, {"out": torch.zeros(1, 3, 4, 4)})["out"].requires_grad


# Where they come from


def test_published_weights_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(weights: Any) -> Checkpoint:
        asked.append((weights.network, weights.data))
        return Checkpoint(create_model("fddwnet", len(weights.classes)), weights.classes)

    monkeypatch.setattr("featherseg.models.published.load_published", load)
    assert "traffic light" in load_teacher("fddwnet:cityscapes").classes.names
    assert asked == [("fddwnet", "cityscapes")]
    assert "no weights of jetnet" in error_line(ConfigError, load_teacher, "jetnet:cityscapes")
    assert "no weights of fddwnet" in error_line(ConfigError, load_teacher, "fddwnet:cityscape")
    assert "no weights of fddwnett" in error_line(ConfigError, load_teacher, "fddwnett:cityscapes")


def test_published_weights_are_found_on_this_machine(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(shared / "weights"))
    teacher = load_teacher("fddwnet:cityscapes")
    assert teacher(torch.zeros(1, 3, 64, 64))["out"].shape[1] == len(teacher.classes) == 19


def test_a_run_learns_from_several_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = fit(tiny_config(tmp_path, "first", train={"epochs": 1}), quiet=True)
    classes = load_checkpoint(first.path).classes
    fewer = ClassSet(classes.names[:-1])
    save_checkpoint("fewer.safetensors", Checkpoint(create_model("fastsegnet", len(fewer)), fewer))
    losses = [{"name": "kl"}]
    both = {"teacher": ["first", "fewer.safetensors"], "losses": losses, "classes": {classes.names[0]: []}}
    run = fit(tiny_config(tmp_path, "both", distill=both, train={"epochs": 1}), quiet=True)
    kept = load_config(run.path / "config.toml").distill
    assert kept.teacher == (str(tmp_path / "first"), str(tmp_path / "fewer.safetensors"))
    assert kept.classes == {classes.names[0]: ()}
    assert "teachers first + fewer.safetensors" in results_markdown([run.path])


def test_a_teacher_of_old_recipes_stays_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").mkdir()
    for given, lasting in (("", ""), ("old", str(tmp_path / "old")), ("fddwnet:cityscapes", "fddwnet:cityscapes")):
        config = with_lasting_paths(load_config(None, [f"distill.teacher={given}", f"model.init={given}"]))
        assert config.distill.teacher == config.model.init == lasting
        assert f'teacher = "{lasting}"' in config_to_toml(config)
    assert DistillConfig().teachers == ()
    assert DistillConfig(teacher="a").teachers == ("a",)
