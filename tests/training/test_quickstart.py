"""Trainings that are chosen for a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Ended, error_line, street_photos
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import config_from_dict, config_to_dict
from featherseg.doctor.examine import examine
from featherseg.doctor.mend import make_clean_copy
from featherseg.training import quickstart, starts
from featherseg.training.quickstart import quick_start


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights to be had, and none asked for."""

    def refuse(*_: object, encoder_weights: str | None = None, **__: object) -> None:
        assert encoder_weights == "imagenet"
        raise ConfigError("offline")

    monkeypatch.setattr(starts, "create_model", refuse)


def reasons(start: quickstart.QuickStart) -> dict[str, str]:
    return {choice.setting: choice.reason for choice in start.choices}


def test_each_setting_has_a_reason_and_the_configuration_is_whole(tmp_path: Path) -> None:
    start = quick_start(street_photos(tmp_path / "photos", 20))
    config = start.config
    assert config_from_dict(config_to_dict(config)) == config
    assert (config.name, config.data.name, config.model.name) == ("photos", "folder", "fastsegnet")
    assert config.model.options == {"width": 0.5, "stride": 4}
    assert config.augment.crop == (96, 128)
    assert config.data.batch_size == 8  # half of the 16 that the made split trains on
    assert config.data.crops == 4  # eight steps an epoch
    assert (config.train.epochs, config.train.eval_every) == (188, 3)
    assert all(reasons(start).values())
    assert any("laid out as folder" in note for note in start.notes)
    assert any(note.startswith("3 classes") for note in start.notes)


def test_what_the_user_sets_is_obeyed_and_not_explained(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    start = quick_start(folder, ["model.name=jetnet", "train.epochs=4", "name=mine", "optim.lr=0.1"])
    assert (start.config.name, start.config.model.name, start.config.train.epochs) == ("mine", "jetnet", 4)
    assert start.config.optim.lr == 0.1
    assert start.config.model.options == {}
    assert not {"model.name", "train.epochs", "name", "optim.lr"} & set(reasons(start))
    with pytest.raises(ConfigError, match="did you mean"):
        quick_start(folder, ["train.epoch=4"])


def test_large_images_are_cropped_in_their_shape_and_large_sets_take_fewer_epochs(tmp_path: Path) -> None:
    small, large = (
        quick_start(street_photos(tmp_path / "a", 6)),
        quick_start(street_photos(tmp_path / "b", 60, (600, 1200))),
    )
    height, width = large.config.augment.crop
    assert height % 32 == width % 32 == 0
    assert 256 * 320 < height * width <= 256 * 320 * 5  # six hundred steps of four are left
    assert "leaves 600 steps and 10 epochs in good time on a CPU" in reasons(large)["augment.crop"]
    assert width / height == pytest.approx(2, rel=0.2)
    assert large.config.train.epochs < small.config.train.epochs
    assert large.config.train.eval_every == max(large.config.train.epochs // 50, 1)
    assert small.config.data.batch_size < large.config.data.batch_size == 4


def test_rare_classes_are_balanced(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    for path in (folder / "masks").iterdir():
        mask = np.zeros((96, 128), np.uint8)
        mask[:, 64:] = 1
        mask[:3, :3] = 2
        Image.fromarray(mask).save(path)
    start = quick_start(folder)
    assert (start.config.augment.class_balance, start.config.loss.class_weights) == (0.5, "auto")
    assert "1 of the classes" in reasons(start)["loss.class_weights"]


def test_imagenet_weights_where_they_are_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "create_model", lambda *_, **__: None)
    config = quick_start(street_photos(tmp_path / "photos", 6)).config
    assert config.model.options == {"encoder_weights": "imagenet", "stride": 4}
    assert config.optim.encoder_lr is not None
    assert config.optim.encoder_lr < config.optim.lr


def test_a_gpu_takes_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = quick_start(street_photos(tmp_path / "photos", 60, (300, 600))).config
    assert config.data.batch_size == 16
    assert config.augment.crop == (288, 576)


def test_broken_data_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    (folder / "masks" / "s1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"featherseg doctor .* --fix") as caught:
        quick_start(folder)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError):
        quick_start(tmp_path)


def test_a_recipe_in_the_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "featherseg.toml").write_text('name = "clean"\n[train]\nepochs = 7\n')
    start = quick_start(tmp_path, ["train.epochs=3"])
    assert (start.config.name, start.config.train.epochs, start.choices) == ("clean", 3, ())


def test_the_command_says_what_it_chose(
    tmp_path: Path, run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = street_photos(tmp_path / "photos", 8, (64, 96))
    ended = run("train", folder, "train.epochs=1", "data.workers=0", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["run"] == "runs/photos"
    for word in ("laid out as folder", "augment.crop=[64, 96]: images are 64x96", "model.name"):
        assert word in ended.err
    assert run("train", folder, "--quiet").refused("runs/photos holds a run already")


def test_choices_follow_the_settings_as_they_finally_are(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 20)
    start = quick_start(folder, ["train.epochs=2", "data.batch_size=2"])
    assert start.config.optim.lr == pytest.approx(3e-3 * (2 / 8) ** 0.5)
    assert "for 2 images a step" in reasons(start)["optim.lr"]
    assert start.config.train.eval_every == 1
    assert "train.eval_every" not in reasons(start)
    start = quick_start(folder, ["data.batch_size=2"])
    assert start.config.train.epochs == 188  # 1500 steps x 2 / 16 images, eight steps in each epoch
    assert "1504 batches of 2" in reasons(start)["train.epochs"]
    assert "data.crops" not in reasons(start)
    start = quick_start(folder, ["data.options={val_share=0.5}", "optim.accumulate=4"])
    assert start.config.data.batch_size == 5  # half of the ten that are left to train on
    assert "10 training images" in reasons(start)["data.batch_size"]
    assert start.config.optim.lr == pytest.approx(3e-3 * (20 / 8) ** 0.5, rel=1e-3)


def test_choices_follow_optimiser_weights_crop_and_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = street_photos(tmp_path / "photos", 20)
    start = quick_start(folder, ["optim.name=sgd"])
    assert "SGD" in reasons(start)["optim.lr"]
    weights = ["model.name=fastsegnet", "model.options.encoder_weights=imagenet", "optim.lr=0.01"]
    assert quick_start(folder, weights).config.optim.encoder_lr == pytest.approx(0.001)
    assert quick_start(folder, ["augment.crop=[512, 640]"]).config.data.batch_size == 4
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    start = quick_start(street_photos(tmp_path / "many", 60), ["train.device=cpu"])
    assert start.config.data.batch_size == 8
    assert "on a CPU" in reasons(start)["data.batch_size"]


def test_a_section_that_the_user_sets_whole_is_not_chosen_from(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 20)
    data = f'data={{name="folder", root="{folder}", batch_size=3}}'
    start = quick_start(folder, [data])
    assert start.config.data.batch_size == 3
    assert not [setting for setting in reasons(start) if setting.startswith("data.")]


def test_the_user_says_where_images_and_masks_are(tmp_path: Path, run: Callable[..., Ended]) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    for part, named in (("images", "seen"), ("masks", "truth")):
        street_photos(tmp_path / part, 8)  # with more of them
        (tmp_path / part / part).rename(folder / named)
    assert "5 training images" in reasons(quick_start(folder))["data.batch_size"]
    for home in ("", f"{folder}/"):
        options = [f"data.options.images={home}seen", f"data.options.masks={home}truth"]
        start = quick_start(folder, options)
        assert start.config.data.options == {"images": f"{home}seen", "masks": f"{home}truth"}
        assert "6 training images" in reasons(start)["data.batch_size"]
        assert not [setting for setting in reasons(start) if setting.startswith("data.options")]
    (folder / "images").rename(folder / "hidden")  # nothing else is laid out as anything
    assert quick_start(folder, options).config.data.name == "folder"
    ended = run("train", folder, "data.options.images=gone", "data.options.masks=truth", "-q")
    assert ended.refused("data.options.images is 'gone', which means no pictures in", "absolute path")


def test_the_doctor_is_told_where_the_user_says_the_masks_are(tmp_path: Path, run: Callable[..., Ended]) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    (folder / "masks").rename(folder / "truth")
    (folder / "truth" / "s1.png").write_bytes(b"no picture")
    words = error_line(DataError, quick_start, folder, ["data.options.masks=truth"])
    assert f"featherseg doctor {folder} --masks truth --fix NEW_FOLDER" in words
    assert "mask-unreadable" in run("doctor", folder, "--masks", "truth", "--json", "-q").out
    run("doctor", folder, "--masks", "truth", "--fix", tmp_path / "new", "-q")
    assert quick_start(tmp_path / "new").config.data.name == "folder"


@pytest.mark.parametrize("damage", ["one mask", "all masks"])
def test_a_copy_is_offered_where_one_can_be_made(tmp_path: Path, damage: str) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    for path in sorted((folder / "masks").iterdir())[: 1 if damage == "one mask" else None]:
        path.write_bytes(b"no picture")
    words = error_line(DataError, quick_start, folder)
    assert f"featherseg doctor {folder}" in words
    assert ("--fix" in words) == (damage == "one mask")
    if damage == "one mask":
        assert examine(make_clean_copy(examine(folder), tmp_path / "new").root).count("error") == 0
    else:
        with pytest.raises(DataError):
            make_clean_copy(examine(folder), tmp_path / "new")


def test_advice_repeats_the_kind_that_the_user_gave(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    (folder / "masks" / "s1.png").write_bytes(b"no picture")
    words = error_line(DataError, quick_start, folder, ["data.name=folder"])
    assert f"featherseg doctor {folder} --kind folder --fix NEW_FOLDER" in words


def test_an_epoch_of_the_users_is_one_of_images(tmp_path: Path) -> None:
    folder = street_photos(tmp_path / "photos", 6)
    assert quick_start(folder).config.data.crops == 4
    start = quick_start(folder, ["train.epochs=100"])
    assert start.config.data.crops == 1
    assert start.config.train.eval_every == 2
    assert quick_start(folder, ["data.crops=2"]).config.train.epochs == 300


def test_large_images_are_cut_several_times_in_an_epoch(tmp_path: Path) -> None:
    start = quick_start(street_photos(tmp_path / "photos", 12, (1200, 1600)))
    assert start.config.data.crops == 4
    assert "an image is 4 times a crop" in reasons(start)["data.crops"]
