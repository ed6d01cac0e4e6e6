"""Which start a training on a folder takes: published weights that know its classes, where they are to be had."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from conftest import street
from featherseg.core.config import Config
from featherseg.core.errors import ConfigError, DownloadError
from featherseg.core.files import sha256
from featherseg.core.images import write_image, write_mask
from featherseg.core.recipes import config_from_dict, load_config
from featherseg.core.types import ClassSet
from featherseg.data.readers.public import CAMVID_CLASSES, CITYSCAPES_CLASSES, VOC_CLASSES
from featherseg.models import published
from featherseg.models.factory import create_model
from featherseg.models.published import PUBLISHED, PublishedWeights
from featherseg.training import starts
from featherseg.training.fit import fit, names_published, with_lasting_paths
from featherseg.training.known_classes import best_match
from featherseg.training.quickstart import quick_start

STREET = ("sky", "road", "Tree", "SignSymbol")
OBJECTS = ("background", "person", "dog", "unicorn")
Here = Callable[..., list[str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Say which networks' weights are on this machine; others would be fetched, in vain. Returns what was fetched."""
    monkeypatch.delenv("FEATHERSEG_WEIGHTS", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    asked: list[str] = []
    fetch = PublishedWeights.fetch

    def refuse(url: str, path: Path, **_: object) -> Path:
        asked.append(next(each.network for each in PUBLISHED if each.url == url))
        raise DownloadError(f"{url} cannot be fetched") from URLError("no route to host")

    def say(*networks: str, imagenet: bool = False) -> list[str]:
        def local(self: PublishedWeights) -> Path | None:
            return Path(self.file) if self.network in networks else None

        monkeypatch.setattr(PublishedWeights, "local", local)
        monkeypatch.setattr(PublishedWeights, "fetch", lambda self: local(self) or fetch(self))
        monkeypatch.setattr(published, "download", refuse)
        monkeypatch.setattr(starts, "create_model", lambda *_, **__: None if imagenet else _missing())
        return asked

    return say


def _missing() -> None:
    raise ConfigError("offline")


def folder(root: Path, names: tuple[str, ...] = STREET, count: int = 12, size: tuple[int, int] = (96, 128)) -> Path:
    classes = ClassSet(names)
    for i in range(count):
        image, mask = street(i, size)
        mask[:4, :4] = 3
        write_image(root / "images" / f"s{i}.png", image)
        write_mask(root / "masks" / f"s{i}.png", mask, classes)
    (root / "classes.toml").write_text(f"names = {list(names)}\n")
    return root


def chosen(folder: Path, *settings: str) -> tuple[Config, dict[str, str], list[str]]:
    start = quick_start(folder, settings)
    missed = [note for note in start.notes if note.startswith("would have")]
    return start.config, {choice.setting: str(choice) for choice in start.choices}, missed


@pytest.mark.parametrize(
    ("names", "data", "words"),
    [
        (CAMVID_CLASSES.names, "cityscapes", "11 of 11 classes are in Cityscapes"),
        (CITYSCAPES_CLASSES.names, "cityscapes", "19 of 19"),
        (VOC_CLASSES.names, "voc", "21 of 21 classes are in PASCAL VOC"),
        (("road", "cars", "pedestrians", "puddle"), "cityscapes", "3 of 4"),
        (("background", "person", "car", "bus"), "voc", "4 of 4"),  # of Cityscapes' they are three
        (("background", "road", "car", "person"), "cityscapes", "3 of 4"),  # of VOC's as many, one of them no thing
        (("background", "cat"), "voc", "2 of 2"),
        (("background", "crack"), None, ""),
        (("background", "road"), None, ""),  # from the air, perhaps
        (("crop", "weed", "soil", "person"), None, ""),
        (("class_0", "class_1", "class_2"), None, ""),
    ],
)
def test_whose_classes_they_are(names: tuple[str, ...], data: str | None, words: str) -> None:
    match = best_match(ClassSet(names))
    assert (match.known.data if match else None) == data
    assert words in str(match)


def test_other_names_become_a_table_without_what_has_its_own_class() -> None:
    match = best_match(CAMVID_CLASSES)
    assert match is not None
    assert match.table == {
        "Pavement": "sidewalk",
        "Tree": "vegetation",
        "SignSymbol": ["traffic sign", "traffic light"],
        "Pedestrian": "person",
        "Bicyclist": ["rider", "bicycle"],
    }
    other = best_match(ClassSet(("road", "sky", "Bicyclist", "bicycle", "sign", "traffic light")))
    assert other is not None
    assert other.table == {"Bicyclist": "rider", "sign": "traffic sign"}


def test_few_street_scenes_start_from_the_strongest_at_its_size(tmp_path: Path, here: Here) -> None:
    asked = here("fddwnet", "espnetv2")
    config, said, missed = chosen(folder(tmp_path / "s", size=(360, 480)))
    assert (config.model.name, config.model.init, config.model.long_side) == ("fddwnet", "cityscapes", 960)
    assert config.model.init_classes == {"Tree": "vegetation", "SignSymbol": ("traffic sign", "traffic light")}
    assert config.train.start_share == 0.5
    assert config.augment.crop == (384, 512)  # of 720x960
    assert (config.optim.lr, config.optim.encoder_lr) == (6e-4, None)
    assert "4 of 4 classes are in Cityscapes" in said["model.init"]
    assert "3.3 times FastSegNet's time" in said["model.name"]
    assert "75.9 mIoU on Cityscapes val" in said["model.name"]
    assert "resized to 720x960" in said["augment.crop"]
    assert (
        'model.init_classes={"Tree" = "vegetation", "SignSymbol" = ["traffic sign", "traffic light"]}'
        in (said["model.init_classes"])
    )
    assert (missed, asked) == ([], [])
    texts = [choice.text for choice in quick_start(tmp_path / "s").choices]
    assert load_config(None, texts) == config  # what is printed can be typed


def test_many_take_a_quicker_one_and_large_ones_are_as_they_are(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("fddwnet", "espnetv2")
    monkeypatch.setattr(starts, "FEW", 4)
    config, said, _ = chosen(folder(tmp_path / "s", size=(600, 1000)))
    assert (config.model.name, config.model.long_side) == ("espnetv2", 0)
    assert "quicker" in said["model.name"]
    config, _, _ = chosen(folder(tmp_path / "thumbs"))
    assert config.model.long_side == 3 * 128


def test_a_slower_network_takes_fewer_steps_in_about_the_same_time(tmp_path: Path, here: Here) -> None:
    root = folder(tmp_path / "s", count=60, size=(48, 64))
    here("fddwnet")
    crop, batch = "augment.crop=[384, 512]", "data.batch_size=4"
    slow, said, _ = chosen(root, crop, batch)
    here()
    usual, _, _ = chosen(root)
    images = 48
    assert usual.train.epochs * usual.data.crops * images == pytest.approx(1500 * 8, rel=0.02)
    pixels = 384 * 512 / (256 * 320)
    assert slow.train.epochs * slow.data.crops * images * pixels * 3.3 == pytest.approx(1500 * 8, rel=0.05)
    assert "about 4 times" in said["train.epochs"]


def test_everyday_objects_start_from_voc(tmp_path: Path, here: Here) -> None:
    here("espnetv2_edge")
    config, said, _ = chosen(folder(tmp_path / "o", OBJECTS, size=(90, 200)))
    assert (config.model.name, config.model.init, config.model.options) == ("espnetv2_edge", "voc", {"scale": 2.0})
    assert config.model.long_side == 512
    assert config.model.init_classes == {}
    assert "3 of 4 classes are in PASCAL VOC" in said["model.init"]
    assert "68.9 mIoU" in said["model.name"]
    config, _, _ = chosen(folder(tmp_path / "p", OBJECTS, size=(300, 500)))
    assert config.model.long_side == 0


def test_other_things_start_as_ever_and_nothing_is_fetched(tmp_path: Path, here: Here) -> None:
    asked = here(imagenet=True)
    config, _, missed = chosen(folder(tmp_path / "s", ("a", "b", "c", "d")))
    assert config.model.options["encoder_weights"] == "imagenet"
    assert config.optim.encoder_lr == pytest.approx(config.optim.lr / 10)
    assert (config.model.init, config.model.long_side, missed, asked) == ("", 0, [], [])


def test_offline_the_next_best_is_taken_and_one_line_says_what_was_missed(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = here()
    root = folder(tmp_path / "s")
    config, _, missed = chosen(root)
    assert (config.model.name, config.model.options["width"], config.model.init) == ("fastsegnet", 0.5, "")
    assert asked == ["fddwnet"]  # one is enough to know
    assert len(missed) == 1
    for words in ("fddwnet's Cityscapes weights (3.6 MB, https://", "go online", "FEATHERSEG_WEIGHTS", "no route"):
        assert words in missed[0]
    here("cgnet")
    config, _, missed = chosen(root)
    assert (config.model.name, config.model.init) == ("cgnet", "cityscapes")
    assert len(missed) == 1
    asked.clear()
    monkeypatch.setenv("WORLD_SIZE", "2")  # processes that fetch together refuse each other
    config, _, missed = chosen(root)
    assert (config.model.name, asked) == ("cgnet", [])
    assert "featherseg weights fddwnet --fetch cityscapes" in missed[0]


def test_a_file_that_is_another_is_said(tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here()
    monkeypatch.undo()
    monkeypatch.setattr(starts, "create_model", lambda *_, **__: _missing())
    (tmp_path / "weights").mkdir()
    entry = next(each for each in PUBLISHED if each.network == "fddwnet")
    (tmp_path / "weights" / entry.file).write_bytes(b"torn")
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(tmp_path / "weights"))
    config, _, missed = chosen(folder(tmp_path / "s"))
    assert config.model.name == "fastsegnet"
    assert "is another file than the published one" in missed[0]
    assert "\n" not in missed[0]


def test_what_the_user_sets_of_the_network_is_obeyed(tmp_path: Path, here: Here) -> None:
    asked = here("dabnet", "espnetv2_edge")
    root = folder(tmp_path / "s")
    config, said, _ = chosen(root, "model.name=dabnet")
    assert (config.model.name, config.model.init, config.optim.lr) == ("dabnet", "cityscapes", 6e-4)
    assert "model.name" not in said
    config, _, missed = chosen(root, "model.name=enet")
    assert (config.model.name, config.model.init, config.model.long_side) == ("enet", "", 0)
    assert "featherseg weights enet --fetch cityscapes" in missed[0]
    for settings in (["model.name=jetnet"], ["model.options={}"], ["model.name=dabnet", 'model.init=""']):
        config, said, missed = chosen(root, *settings)
        assert (config.model.init, missed) == ("", [])
        assert not [setting for setting in said if setting.startswith("model.")]
    config, _, _ = chosen(root, "model.name=dabnet", "model.long_side=320", "optim.lr=0.01")
    assert (config.model.init, config.model.long_side, config.optim.lr) == ("cityscapes", 320, 0.01)
    config, _, _ = chosen(folder(tmp_path / "o", OBJECTS), "model.name=espnetv2_edge")
    assert config.model.options == {"scale": 2.0}
    config, _, missed = chosen(root, "model.name=fddwnet", "model.init=runs/other")
    assert (config.model.init, config.model.init_classes, missed) == ("runs/other", {}, [])
    assert config.optim.lr == 6e-4  # it is trained already, whatever it is
    assert asked == []


def test_a_dataset_called_as_the_weights_are_is_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "cityscapes")
    assert names_published("cityscapes")
    config = config_from_dict({"model": {"init": "cityscapes"}, "data": {"root": "cityscapes"}})
    lasting = with_lasting_paths(config)
    assert (lasting.model.init, lasting.data.root) == ("cityscapes", str(tmp_path / "cityscapes"))
    (tmp_path / "cityscapes" / "best.safetensors").write_bytes(b"")
    assert not names_published("cityscapes")


def test_what_is_chosen_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "featherseg")
    entry = next(each for each in PUBLISHED if each.network == "espnetv2")
    torch.manual_seed(0)
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / entry.file
    torch.save(create_model("espnetv2", 19).state_dict(), file)
    mine = dataclasses.replace(entry, sha256=sha256(file), bytes=file.stat().st_size)
    monkeypatch.setattr("featherseg.models.converters.espnetv2.convert", dict)
    for module in (starts, published):
        monkeypatch.setattr(module, "PUBLISHED", (mine,))
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(tmp_path / "weights"))
    quick = ["train.epochs=1", "augment.crop=[64, 96]", "model.long_side=96", "data.workers=0", "train.device=cpu"]
    config, _, missed = chosen(folder(tmp_path / "s", size=(48, 64)), f"out={tmp_path}", *quick)
    assert (config.model.name, config.model.init, missed) == ("espnetv2", "cityscapes", [])
    fit(config)
    kept = next(message for message in caplog.messages if "class heads keep" in message)
    assert "keep sky, road, Tree (vegetation), SignSymbol (traffic sign + traffic light)" in kept


def test_camvid_starts_from_the_real_weights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERSEG_WEIGHTS", str(shared / "weights"))
    config, said, missed = chosen(shared / "data" / "CamVid", 'data.options={recordings=["0006R0"]}')
    assert (config.model.name, config.model.init, config.model.long_side) == ("fddwnet", "cityscapes", 960)
    assert "11 of 11" in said["model.init"]
    assert missed == []
