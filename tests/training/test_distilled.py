"""The distilled objective: what a teacher adds to a training, and must never do to a student."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from conftest import Tiny, batch, create_variant
from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet, InputSpec
from featherseg.models.factory import create_model
from featherseg.training.distill import Distilled, KLLoss
from featherseg.training.losses import CrossEntropyLoss
from featherseg.training.supervised import Supervised, normalize
from featherseg.training.teacher import Teacher

CLASSES = ClassSet(("sky", "road", "car"))
KL = ({"name": "kl"},)


def supervised(model: Any, aux_weight: float = 0.4) -> Supervised:
    return Supervised(model, CrossEntropyLoss(), CrossEntropyLoss(), aux_weight)


def other(model: nn.Module, seed: int = 5) -> Any:
    """A copy with other weights."""
    torch.manual_seed(seed)
    model = copy.deepcopy(model)
    for p in model.parameters():
        nn.init.normal_(p)
    return model


def objective(tiny: Tiny, terms: Any = KL, **options: Any) -> Any:
    student = tiny().train()
    teacher = Teacher(other(student), CLASSES, options.pop("spec", InputSpec()))
    return Distilled(supervised(student, **options), teacher, terms, CLASSES)


@pytest.mark.parametrize("aux_weight", [0.4, 0.0])
def test_total_is_the_supervised_loss_plus_weighted_terms(tiny: Tiny, aux_weight: float) -> None:
    terms = ({"name": "kl", "weight": 0.5, "temperature": 2.0}, {"name": "cwd", "weight": 3}, {"name": "dist"})
    distilled, data = objective(tiny, terms, aux_weight=aux_weight), batch(ignored=True)
    losses, alone = distilled(data), distilled.supervised(data)
    assert set(losses) == {*alone, "loss/kl", "loss/cwd", "loss/dist"}
    for name in set(alone) - {"loss"}:
        torch.testing.assert_close(losses[name], alone[name])
    extra = 0.5 * losses["loss/kl"] + 3 * losses["loss/cwd"] + losses["loss/dist"]
    torch.testing.assert_close(losses["loss"], alone["loss"] + extra)


def test_logits_are_compared_at_the_students_stride_over_labelled_pixels(tiny: Tiny) -> None:
    student, data = tiny().train(), batch(ignored=True)
    fine = torch.randn(2, 3, 64, 72)  # a teacher at full resolution
    teacher = Teacher(lambda image: fine[: len(image), :, : image.shape[2], : image.shape[3]], CLASSES)
    loss = Distilled(supervised(student), teacher, KL, CLASSES)(data)["loss/kl"]
    logits = student.outputs(normalize(data["image"], student.input_spec))["out"]
    small = nn.functional.interpolate(fine, size=(16, 18), mode="bilinear", align_corners=False)
    torch.testing.assert_close(loss, KLLoss()(logits[:, :, 8:], small[:, :, 8:]))  # the upper half is ignored
    everywhere = Distilled(supervised(student), teacher, ({"name": "kl", "use_ignored": True},), CLASSES)(data)
    torch.testing.assert_close(everywhere["loss/kl"], KLLoss()(logits, small))


def test_a_cell_counts_if_the_pixel_at_its_centre_has_a_label(tiny: Tiny) -> None:
    student, data = tiny().train(), batch(ignored=True)
    data["mask"] = torch.full_like(data["mask"], 255)
    data["mask"][:, 22, 34] = 1  # the centre of row 5, column 8 at stride 4
    data["mask"][:, 40, 40] = 1  # the corner of a cell
    logits = torch.randn(2, 3, 16, 18)
    teacher = Teacher(lambda image: logits[: len(image), :, : image.shape[2] // 4, : image.shape[3] // 4], CLASSES)
    ours = student.outputs(normalize(data["image"], student.input_spec))["out"]
    loss = Distilled(supervised(student), teacher, KL, CLASSES)(data)["loss/kl"]
    torch.testing.assert_close(loss, KLLoss()(ours[:, :, 5:6, 8:9], logits[:, :, 5:6, 8:9]))


@pytest.mark.parametrize("terms", [KL, ({"name": "features", "tap": "x4"}, {"name": "dist"})])
def test_every_parameter_gets_a_gradient_and_the_teacher_none(tiny: Tiny, terms: Any) -> None:
    distilled = objective(tiny, terms)
    distilled(batch(ignored=True))["loss"].backward()
    for name, p in distilled.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all()
    parameters = list(distilled.teachers.members[0].module.parameters())
    assert parameters
    assert all(not p.requires_grad and p.grad is None for p in parameters)
    assert not {id(p) for p in parameters} & {id(p) for p in distilled.parameters()}


def test_the_teacher_stays_in_eval_unchanged_and_out_of_the_state(tiny: Tiny) -> None:
    distilled = objective(tiny)
    before = copy.deepcopy(distilled.teachers.members[0].module.state_dict())
    optimizer = torch.optim.SGD(distilled.parameters(), lr=0.1)
    distilled.train()
    distilled(batch(ignored=True))["loss"].backward()
    optimizer.step()
    assert not any(m.training for m in distilled.teachers.members[0].module.modules())
    assert all(torch.equal(before[k], v) for k, v in distilled.teachers.members[0].module.state_dict().items())
    assert set(distilled.state_dict()) == {f"supervised.model.{k}" for k in distilled.model.state_dict()}
    assert not distilled.teachers.members[0](torch.zeros(1, 3, 64, 64))["out"].requires_grad


def test_a_teacher_leaves_the_users_module_as_it_was(tiny: Tiny) -> None:
    student = tiny().train()
    distilled: Any = Distilled(supervised(student), Teacher(student, CLASSES), KL, CLASSES)  # its own first state
    assert student.training
    assert all(p.requires_grad for p in student.parameters())
    optimizer = torch.optim.SGD(distilled.parameters(), lr=0.1)
    distilled(batch(ignored=True))["loss"].backward()
    optimizer.step()
    assert not torch.equal(student.head.weight, distilled.teachers.members[0].module.head.weight)


def test_making_the_objective_changes_nothing_of_the_student(tiny: Tiny) -> None:
    student = tiny().train()
    student.encoder[1].eval()  # a user who froze batch norm
    before = copy.deepcopy(student.state_dict())
    Distilled(supervised(student), Teacher(other(student), CLASSES), [{"name": "features", "tap": "x4"}], CLASSES)
    assert student.training
    assert not student.encoder[1].training
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())


def test_the_teacher_moves_with_the_objective(tiny: Tiny) -> None:
    distilled = objective(tiny).to(memory_format=torch.channels_last).to(torch.float64)
    weight = distilled.teachers.members[0].module.encoder[0].weight
    assert weight.dtype == torch.float64
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert {p.device.type for p in distilled.to("meta").teachers.members[0].module.parameters()} == {"meta"}


@pytest.mark.parametrize("mode", ["call", "whole"])
def test_inference_mode_is_no_trouble(tiny: Tiny, mode: str) -> None:
    student = tiny().train()
    network = other(student).eval()
    called = torch.inference_mode()(network.outputs)
    terms = ({"name": "kl"}, {"name": "cwd"}, {"name": "dist"}, {"name": "features", "tap": "x4"})
    distilled = Distilled(supervised(student), Teacher(called, CLASSES), terms, CLASSES)
    if mode == "call":
        distilled(batch(ignored=True))["loss"].backward()
        assert student.head.weight.grad is not None
    else:
        with torch.inference_mode():
            assert distilled.eval()(batch(ignored=True))["loss"].isfinite()


def test_each_network_sees_its_own_normalisation(tiny: Tiny) -> None:
    spec = InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    seen: list[Tensor] = []

    def watch(image: Tensor) -> Tensor:
        seen.append(image)
        return torch.zeros(len(image), 3, 4, 4)

    student, data = tiny().train(), batch(ignored=True)
    distilled = Distilled(supervised(student), Teacher(watch, CLASSES, spec), KL, CLASSES)
    first = distilled(data)["loss/kl"]
    ready = distilled(data | {"image": normalize(data["image"], student.input_spec)})["loss/kl"]
    expected = normalize(data["image"], spec)
    torch.testing.assert_close(seen[-2], expected)
    torch.testing.assert_close(seen[-1], expected, rtol=1e-4, atol=1e-5)  # undone from the student's
    torch.testing.assert_close(first, ready)


def test_classes_are_matched_by_name(tiny: Tiny) -> None:
    """The teacher knows other classes, in another order, and not the student's sky."""
    student, data = tiny().train(), batch(ignored=True)
    logits = torch.randn(2, 4, 16, 18)
    knows = ClassSet(("Car", "tree", "ROAD", "person"))
    teacher = Teacher(lambda image: logits[: len(image), :, : image.shape[2] // 4, : image.shape[3] // 4], knows)
    distilled = Distilled(supervised(student), teacher, [{"name": "kl", "use_ignored": True}], CLASSES)
    ours = student.outputs(normalize(data["image"], student.input_spec))["out"]
    expected = KLLoss()(ours[:, [1, 2]], logits[:, [2, 0]])  # road, car
    torch.testing.assert_close(distilled(data)["loss/kl"], expected)


@pytest.mark.parametrize("names", [("tree", "person"), ("tree", "car")])
def test_too_few_common_classes(tiny: Tiny, names: tuple[str, str]) -> None:
    student, teacher = tiny(), Teacher(tiny(2), ClassSet(names))
    with pytest.raises(ConfigError, match=rf"share {int('car' in names)} class names") as caught:
        Distilled(supervised(student), teacher, KL, CLASSES)
    assert "\n" not in str(caught.value)
    terms = ({"name": "features", "tap": "x4"},)  # features have no classes
    assert Distilled(supervised(student.train()), teacher, terms, CLASSES)(batch(ignored=True))["loss"].isfinite()


def test_adapters_of_features_train(tiny: Tiny) -> None:
    student = tiny().train()
    teacher = Teacher(tiny(width=6).eval(), CLASSES)
    distilled = Distilled(supervised(student), teacher, [{"name": "features", "tap": "x4"}], CLASSES)
    extra = distilled.extra_parameters()
    assert [tuple(p.shape) for p in extra] == [(6, 4, 1, 1), (6,)]
    ours = {id(p) for p in distilled.parameters()} - {id(p) for p in student.parameters()}
    assert {id(p) for p in extra} == ours
    optimizer = torch.optim.Adam(extra, lr=0.03)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = distilled(batch(ignored=True))["loss/features_x4"]
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]


def test_decay_is_linear_to_zero(tiny: Tiny) -> None:
    terms = ({"name": "kl", "weight": 2.0, "decay": True}, {"name": "cwd"})
    distilled, data = objective(tiny, terms), batch(ignored=True)
    for progress, factor in ((0.0, 2.0), (0.25, 1.5), (1.0, 0.0)):
        distilled.set_progress(progress)
        losses = distilled(data)
        expected = distilled.supervised(data)["loss"] + factor * losses["loss/kl"] + losses["loss/cwd"]
        torch.testing.assert_close(losses["loss"], expected)


def test_a_student_comes_closer_to_a_fixed_teacher(tiny: Tiny) -> None:
    distilled, data = objective(tiny, ({"name": "kl", "weight": 5.0},)), batch()
    optimizer = torch.optim.Adam(distilled.parameters(), lr=0.03)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        losses = distilled(data)
        losses["loss"].backward()
        optimizer.step()
        values.append(losses["loss/kl"].item())
    assert values[-1] < 0.3 * values[0]


@pytest.mark.parametrize("size", [(33, 41), (64, 64)])
@pytest.mark.parametrize("name", ["jetnet", "fastsegnet", "fastsegnet at stride 2"])
def test_networks_of_different_strides_and_taps(name: str, size: tuple[int, int]) -> None:
    student = create_variant(name, 3).train()
    teacher = Teacher(create_model("mobilenet_aspp", 3), CLASSES)
    terms = ({"name": "features"}, {"name": "features", "tap": "x4"}, {"name": "cwd"}, {"name": "dist"})
    losses = Distilled(supervised(student), teacher, terms, CLASSES)(batch(size, ignored=True))
    assert {"loss/features_x8", "loss/features_x4", "loss/cwd", "loss/dist"} < set(losses)
    losses["loss"].backward()
    assert all(x.isfinite() for x in losses.values())
    assert all(p.grad is not None for p in student.parameters())


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_training_finds_no_unused_parameter(tiny: Tiny) -> None:
    terms = ({"name": "features", "tap": "x4", "decay": True}, {"name": "kl"})
    distilled = objective(tiny, terms)
    wrapped = nn.parallel.DistributedDataParallel(distilled)
    for progress in (0.0, 0.5, 1.0):  # a second step raises where the first left a parameter without a gradient
        distilled.set_progress(progress)
        losses = wrapped(batch(ignored=True))
        losses["loss"].backward()
    assert losses["loss"].isfinite()


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ([], "at least one loss; known: cwd, dist, features, kl"),
        ([{"weight": 1.0}], "has no name"),
        ([{"name": "kll"}], 'did you mean "kl"'),
        ([{"name": "kl", "temprature": 2.0}], "temperature"),
        ([{"name": "kl", "temperature": 0.0}], "temperature is 0.0"),
        ([{"name": "cwd", "temperature": float("inf")}], "temperature is inf"),
        ([{"name": "dist", "inter": -1.0}], "inter is -1.0"),
        ([{"name": "kl", "weight": -1}], "weight -1; give a number >= 0"),
        ([{"name": "kl", "weight": "big"}], "weight 'big'"),
        ([{"name": "kl", "weight": float("nan")}], "weight nan"),
        ([{"name": "kl", "decay": 1}], "decay is 1; it takes true or false"),
        ([{"name": "kl"}, {"name": "kl", "temperature": 1.0}], "given twice"),
        ([{"name": "features", "tap": "x16"}], "tap is 'x16'.*they share: x4"),
        ([{"name": "features", "channels": {}}], "channels are found out"),
    ],
)
def test_mistakes_are_one_line(tiny: Tiny, terms: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        objective(tiny, terms)
    assert "\n" not in str(caught.value)


def test_classes_that_are_not_the_networks_are_refused(tiny: Tiny) -> None:
    with pytest.raises(ConfigError, match="2 classes for a student of 3"):
        Distilled(supervised(tiny()), Teacher(tiny(), CLASSES), KL, ClassSet(("sky", "road")))
    with pytest.raises(ConfigError, match=r"\(1, 4, 16, 16\); 3 classes need"):
        Distilled(supervised(tiny()), Teacher(tiny(4), CLASSES), KL, CLASSES)
    with pytest.raises(ConfigError, match="logits are list; 3 classes need"):
        Distilled(supervised(tiny()), Teacher(lambda image: [image], CLASSES), KL, CLASSES)


# Where teachers come from
