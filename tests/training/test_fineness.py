"""How fine a network a folder's training takes, by what its classes keep."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.images import write_image, write_mask
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.data.detail import KeptDetail
from featherseg.training import starts
from featherseg.training.choices import Plan
from featherseg.training.fineness import choose_fineness, measure_fineness
from featherseg.training.quickstart import quick_start

SIZE = (360, 480)
NAMES = ("road", "pole")
KEYS = [(8, 1.0), (4, 1.0), (2, 1.0), (8, 2.0), (4, 2.0), (2, 2.0)]


@pytest.fixture(autouse=True)
def weights_of_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "create_model", lambda *_, **__: None)


def detail(at_8: float, at_4: float, at_2: float, twice_at_2: float = 1.0, pixels: int = 100) -> KeptDetail:
    """What a thin class keeps at strides of FastSegNet; images twice as large are like half the stride."""
    kept = dict(zip(KEYS, (at_8, at_4, at_2, at_4, at_2, twice_at_2), strict=True))
    return KeptDetail(NAMES, np.array([10_000, pixels]), 24, {key: np.array([0.99, d]) for key, d in kept.items()})


def chosen(found: KeptDetail, *given: str, start: str = "", size: tuple[int, int] = SIZE) -> tuple[Plan, str]:
    plan = Plan(given)
    if start:
        plan.choose("model.name", "espnetv2", "nearly the strongest start")
        plan.choose("model.init", "cityscapes", "11 of 11 classes")
        plan.choose("model.init_classes", {"pole": "pole"}, "what Cityscapes calls these")
        plan.choose("train.start_share", 0.5, "half of the start is kept")
        plan.choose("model.long_side", 960, "as large as there")
    elif not plan.gave("model"):
        plan.choose("model.name", "fastsegnet", "the most accurate of the fast networks here")
    return plan, " ".join(choose_fineness(plan, found, size))


def said(plan: Plan) -> dict[str, str]:
    return {choice.setting: choice.reason for choice in plan.choices}


@pytest.mark.parametrize(
    ("kept", "stride"),
    [((0.95, 0.97, 0.99), None), ((0.9, 0.95, 0.99), None), ((0.8, 0.93, 0.98), 4), ((0.46, 0.78, 0.92), 2)],
)
def test_the_coarsest_stride_that_keeps_enough_is_taken(kept: tuple[float, float, float], stride: int | None) -> None:
    plan, lost = chosen(detail(*kept))
    assert plan.config.model.options.get("stride") == stride
    assert [term["name"] for term in plan.config.loss.out] == ["cross_entropy", *(["dice"] if stride else [])]
    assert (lost, plan.config.model.long_side) == ("", 0)
    if stride == 2:
        reason = "at stride 8 `pole` keeps 0.46 of its Dice; stride 2 keeps 0.92"
        assert said(plan)["model.options.stride"] == reason


def test_a_class_of_a_few_pixels_decides_nothing() -> None:
    plan, lost = chosen(detail(0.1, 0.2, 0.3, pixels=5))
    assert (plan.config.model.options, lost) == ({}, "")


def test_small_images_are_enlarged_where_no_stride_is_fine_enough() -> None:
    plan, lost = chosen(detail(0.0, 0.1, 0.5, 0.95))
    assert (plan.config.model.options, plan.config.model.long_side, lost) == ({"stride": 2}, 960, "")
    assert "images 2 times as large keeps 0.95" in said(plan)["model.long_side"]
    plan, lost = chosen(detail(0.0, 0.1, 0.5), size=(1500, 2000))
    assert (plan.config.model.options, plan.config.model.long_side) == ({"stride": 2}, 0)
    assert lost.startswith("warning: at stride 2 `pole` keeps 0.50 of its Dice; stride 2 of images 2 times as large")


def test_published_weights_are_left_only_for_what_they_lose() -> None:
    plan, lost = chosen(detail(0.41, 0.71, 0.91), start="cityscapes")  # CamVid's poles, at 960 of 480
    assert (plan.config.model.name, plan.config.model.long_side, lost) == ("espnetv2", 960, "")
    plan, lost = chosen(detail(0.2, 0.45, 0.91), start="cityscapes")
    model = plan.config.model
    assert (model.name, model.options, lost) == ("fastsegnet", {"encoder_weights": "imagenet", "stride": 2}, "")
    assert (model.init, dict(model.init_classes), model.long_side) == ("", {}, 0)
    assert "train.start_share" not in said(plan)
    plan, lost = chosen(detail(0.2, 0.45, 0.48), start="cityscapes")  # nothing to be gained
    assert plan.config.model.name == "espnetv2"
    assert "at stride 8 of images 2 times as large `pole` keeps 0.45" in lost


def test_what_the_user_gave_is_obeyed_and_its_loss_said() -> None:
    thin = detail(0.46, 0.78, 0.92)
    plan, lost = chosen(thin, "model.name=jetnet")
    assert (plan.choices, plan.config.model.options) == ([], {})
    assert lost.startswith("warning: at stride 8 `pole` keeps 0.46 of its Dice; stride 2 keeps 0.92")
    plan, lost = chosen(thin, "model.options.stride=8")
    assert (plan.config.model.options, plan.config.model.long_side) == ({"stride": 8}, 0)
    assert "keeps 0.46" in lost
    plan, lost = chosen(thin, "model.init=runs/before")
    assert plan.choices == []
    assert "keeps 0.46" in lost
    plan, lost = chosen(thin, "model.name=fastsegnet")  # its stride is still free
    assert (plan.config.model.options, lost) == ({"stride": 2}, "")
    plan, lost = chosen(thin, "model.long_side=960")
    assert (plan.config.model.options, plan.config.model.long_side, lost) == ({"stride": 4}, 960, "")
    with pytest.raises(ConfigError, match="did you mean"):
        chosen(thin, "model.name=jetnets")


def folder(root: Path, width: int) -> Path:
    """Lines that cross the pictures, so many pixels wide."""
    for i in range(6):
        mask = np.zeros((160, 192), np.uint8)
        for k in range(4):
            cv2.line(mask, (0, 9 + 31 * k + i), (191, 37 + 27 * k), 1, width)
        write_image(root / "images" / f"s{i}.png", np.repeat(mask[..., None], 3, axis=2) * 90 + 40)
        write_mask(root / "masks" / f"s{i}.png", mask, ClassSet(("ground", "crack")))
    (root / "classes.toml").write_text('names = ["ground", "crack"]\n')
    return root


def test_a_folder_of_cracks_is_trained_finely(tmp_path: Path) -> None:
    start = quick_start(folder(tmp_path / "thin", 3))
    assert start.config.model.options == {"encoder_weights": "imagenet", "stride": 4}
    (choice,) = [each for each in start.choices if each.setting == "model.options.stride"]
    assert choice.reason.startswith("at stride 8 `crack` keeps 0.")
    thick = quick_start(folder(tmp_path / "thick", 16)).config
    assert thick.model.options == {"encoder_weights": "imagenet"}


def test_what_is_measured_is_what_is_compared(tmp_path: Path) -> None:
    plan = Plan(["model.name=resnet_unet", "model.long_side=288"])
    train_set = create_dataset("folder", folder(tmp_path, 3), "train")
    found = measure_fineness(plan, train_set, (160, 192))
    assert set(found.kept) == {(stride, scale) for stride in (8, 4, 2) for scale in (1.0, 1.5, 2.0)}
    assert found.masks == len(train_set)
    assert choose_fineness(plan, found, (160, 192)) == ()
    assert plan.choices == []
