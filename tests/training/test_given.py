"""What fit takes: a folder, a recipe or a configuration, settings by section, names as one likes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import featherseg
from conftest import error_line
from featherseg.core.config import Config, ModelConfig
from featherseg.core.errors import CheckpointError, ConfigError
from featherseg.core.recipes import load_config
from featherseg.models import factory
from featherseg.training.given import as_given, configured, overrides
from test_public_face import keep_entries

QUICK: dict[str, Any] = {
    "train": {"epochs": 1, "precision": "fp32", "device": "cpu"},
    "data": {"batch_size": 4, "workers": 0},
    "augment": {"crop": (64, 64)},
}


def test_a_folder_is_trained_and_the_choices_are_said(
    street_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(street_folder.parent)
    with caplog.at_level(logging.INFO, "featherseg"):
        run = featherseg.fit(street_folder, model="Jet Net", name="mine", optim={"lr": np.float64(2e-3)}, **QUICK)
    config = load_config(run.path / "config.toml")
    assert (run.path.name, config.model.name, config.optim.lr) == ("mine", "jetnet", 2e-3)
    assert config.augment.crop == (64, 64)
    said = "\n".join(caplog.messages)
    assert "data.name=" in said
    assert "optim.lr=" not in said  # what the user sets is not explained
    assert "resume_run" in error_line(ConfigError, featherseg.fit, street_folder, resume=True)


def test_settings_are_as_on_the_command_line(street_folder: Path) -> None:
    settings = {"data": {"options": {"seed": 3}, "classes": None}, "train": {"epochs": 2}}
    assert overrides(settings) == ["data.options.seed=3", "train.epochs=2"]
    ours, network = as_given(street_folder, {"name": "jetnet", "options": {}}, settings, resume=False)
    words = ["data.options.seed=3", "train.epochs=2", "model.name=JetNet", "model.options={}"]
    assert ours == configured(street_folder, words)
    assert network is None


def test_names_of_classes_may_hold_anything() -> None:
    classes = {"a.b": ["x = y", "z"], "ignore": ["other"]}
    config = load_config(None, overrides({"data": {"classes": classes}, "out": Path("runs")}))
    assert config.data.classes == {"a.b": ("x = y", "z"), "ignore": ("other",)}


def test_a_configuration_or_recipe_with_settings(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[model]\nname = "ResNet-UNet"\n[optim]\nlr = 0.5\n')
    config, _ = as_given(recipe, None, {"train": {"epochs": 2}}, resume=False)
    assert (config.model.name, config.optim.lr, config.train.epochs) == ("resnet_unet", 0.5, 2)
    config, _ = as_given(Config(model=ModelConfig(name="FastSegNet")), None, {"optim": {"lr": 0.1}}, resume=False)
    assert (config.model.name, config.optim.lr) == ("fastsegnet", 0.1)
    whole = Config(name="x")
    assert as_given(whole, None, {}, resume=False)[0] is whole


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 3}, "train.epochs"),
        ({"train": {"epoch": 3}}, "train.epoch"),
        ({"train": {"epochs": 0}}, "train.epochs"),
        ({"train": {"epochs": object()}}, "give a number, text, list or dictionary"),
    ],
)
def test_wrong_settings_are_named(street_folder: Path, settings: dict[str, Any], said: str) -> None:
    assert said in error_line(ConfigError, featherseg.fit, street_folder, **settings)


def test_a_missing_recipe_is_one_line(tmp_path: Path) -> None:
    assert "does not exist" in error_line(ConfigError, featherseg.fit, tmp_path / "none.toml")
    assert "does not exist" in error_line(CheckpointError, featherseg.load_checkpoint, tmp_path / "none")


@pytest.mark.parametrize(
    ("written", "name"), [("FastSegNet", "fastsegnet"), ("jet net", "jetnet"), ("ESPNetV2-Edge", "espnetv2_edge")]
)
def test_networks_by_their_usual_names(written: str, name: str) -> None:
    assert featherseg.create_model(written, 3).name == name


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("unet", "resnet_unet"),
        ("UNet++", "resnet_unet"),
        ("mobilenetv3", "mobilenet_aspp"),
        ("bisenet", "bisenetv2"),
        ("SegFormer-B0", "ddrnet"),
        ("deeplabv3+", "mobilenet_aspp"),
        ("fastsegnett", "fastsegnet"),
    ],
)
def test_unknown_networks_are_suggested_by_meaning(asked: str, nearest: str) -> None:
    assert f'"{nearest}"' in error_line(ConfigError, featherseg.create_model, asked, 3)


def test_a_network_in_memory_is_planned_for_a_folder(street_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_entries(factory.models, monkeypatch)
    featherseg.register_model("by_name")(lambda num_classes: nn.Conv2d(3, num_classes, 3, stride=4, padding=1))
    module = nn.Conv2d(3, 3, 3, stride=4, padding=1)
    config, network = as_given(street_folder, module, {"train": {"epochs": 2}}, resume=False)
    assert network is not None
    assert (config.model.name, config.model.options, config.train.epochs) == ("module:Conv2d", {}, 2)
    named, network = as_given(street_folder, "by_name", {"train": {"epochs": 2}}, resume=False)
    assert network is None
    assert named.augment == config.augment
