"""Which training images count as labelled, and which are trained on without labels."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from conftest import street_photos
from featherseg.core.config import AugmentConfig, DataConfig, SelfTrainConfig
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import config_from_dict, load_config
from featherseg.data.class_counts import take_class_counts
from featherseg.data.datasets import FileDataset, create_dataset
from featherseg.data.loader import TrainSamples
from featherseg.data.on_device import DeviceBatches
from featherseg.data.transforms import TrainTransform
from featherseg.data.unlabelled import labelled_images, unlabelled_images
from featherseg.data.unlabelled_crops import UnlabelledCrops

SYNTHETIC: dict[str, Any] = {"name": "synthetic", "options": {"count": 16, "val_count": 2, "size": [64, 96]}}
WHOLE: dict[str, Any] = {"name": "synthetic", "split": "train", **SYNTHETIC["options"]}


def stems(dataset: Any) -> list[str]:
    return [dataset.stem(i) for i in range(len(dataset))]


def data(**settings: Any) -> DataConfig:
    return config_from_dict({"data": SYNTHETIC | settings}).data


@pytest.mark.parametrize(
    ("labelled", "count"),
    [("", 16), ("1/8", 2), ("0.25", 4), (0.25, 4), (5, 5), ("5", 5), ("1/1", 16), (1.0, 16), (1, 1), ("1/1000", 1)],
)
def test_a_share_or_number_counts_as_labelled(labelled: Any, count: int) -> None:
    ours, rest = labelled_images(data(labelled=labelled), seed=0)
    assert len(ours) == count
    assert sorted(stems(ours) + (stems(rest) if rest is not None else [])) == sorted(stems(create_dataset(**WHOLE)))


WHOLE: dict[str, Any] = {"name": "synthetic", "split": "train", **SYNTHETIC["options"]}


def test_more_hold_the_fewer_and_seeds_differ() -> None:
    drawn = {n: set(stems(labelled_images(data(labelled=n), seed=3)[0])) for n in (2, 4, 8)}
    assert drawn[2] < drawn[4] < drawn[8]
    assert drawn[4] == set(stems(labelled_images(data(labelled="1/4"), seed=3)[0]))
    assert len({tuple(stems(labelled_images(data(labelled=4), seed=seed)[0])) for seed in range(4)}) > 1


@pytest.mark.parametrize("labelled", ["0", 0, "0/8", "9/8", "1/0", 1.5, 0.0, -3])
def test_other_numbers_are_refused(labelled: Any) -> None:
    with pytest.raises(ConfigError, match="give a share such as 1/8, a number of images, or a file"):
        data(labelled=labelled)


def test_the_command_line_writes_it_alike() -> None:
    assert load_config(None, ["data.labelled=1/8"]).data.labelled_number(367) == 46
    assert load_config(None, ["data.labelled=40"]).data.labelled_number(367) == 40
    assert load_config(None, ["data.labelled=0.5"]).data.labelled_number(367) == 184
    assert load_config(None, ["data.labelled=names.txt"]).data.labelled_number(367) is None


def test_a_file_lists_names_with_or_without_folder_and_suffix(tmp_path: Path) -> None:
    root = street_photos(tmp_path / "photos", 6)
    file = tmp_path / "names.txt"
    section: dict[str, Any] = {"name": "folder", "root": str(root), "train_split": "all", "labelled": str(file)}
    file.write_text("s4\n\nimages/s1.png\ns1.png\n")
    ours, rest = labelled_images(config_from_dict({"data": section}).data, 0)
    assert isinstance(ours, FileDataset)  # whose masks are read without the images
    assert (stems(ours), len(rest or ())) == (["s1", "s4"], 4)
    assert ours.notes[-1] == f"2 of 6 images count as labelled, as {file} lists"
    assert take_class_counts(ours).total == 2
    for content, words in (("nobody\n", "lists 'nobody'"), ("\n", "lists no images")):
        file.write_text(content)
        with pytest.raises(DataError, match=words):
            labelled_images(config_from_dict({"data": section}).data, 0)
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        labelled_images(config_from_dict({"data": section}).data, 0)
    with pytest.raises(DataError, match="has 6 images"):
        labelled_images(config_from_dict({"data": section | {"labelled": 7}}).data, 0)


def test_masks_of_unlabelled_images_are_never_opened(tmp_path: Path) -> None:
    root = street_photos(tmp_path / "photos", 6)
    (root / "classes.toml").write_text('names = ["sky", "road", "car"]\n')
    section = {"name": "folder", "root": str(root), "train_split": "all", "labelled": 2}
    ours, rest = labelled_images(config_from_dict({"data": section}).data, 0)
    others = unlabelled_images("rest", ours, ours, rest)
    for stem in stems(others):
        (root / "masks" / f"{stem}.png").write_bytes(b"no mask")
    image, mask = others.read(0)
    assert (image.shape, mask.shape, int(mask.max())) == ((96, 128, 3), (96, 128), 0)
    assert not set(stems(others)) & set(stems(ours))


def test_a_folder_gives_what_is_neither_labelled_nor_validated_on(tmp_path: Path) -> None:
    root = street_photos(tmp_path / "photos", 5)
    train, val = (create_dataset("folder", root, split) for split in ("train", "val"))
    more = tmp_path / "more"
    (more / "monday").mkdir(parents=True)
    (more / ".hidden").mkdir()
    shutil.copy(root / "images" / "s0.png", more / "s0.png")  # a copy
    for i in range(3):
        shutil.copy(root / "images" / "s1.png", more / "monday" / f"new{i}.png")
        shutil.copy(root / "images" / "s1.png", more / ".hidden" / f"h{i}.png")
    others = unlabelled_images(str(more), train, val, None)
    assert stems(others) == ["new0", "new1", "new2"]
    assert others.notes == (
        f"3 images of {more} are trained on without labels; 1 that are labelled or validated on are left out",
    )
    with pytest.raises(DataError, match="its 5 images are all labelled or validated on"):
        unlabelled_images(str(root / "images"), train, val, None)
    with pytest.raises(DataError, match="no folder"):
        unlabelled_images(str(tmp_path / "nowhere"), train, val, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        unlabelled_images(str(tmp_path / "empty"), train, val, None)


def samples(*, raw: bool = False, unlabelled: bool = True, **settings: Any) -> TrainSamples:
    augment = AugmentConfig(crop=(64, 96), scale=(0.4, 1.0))
    dataset = create_dataset(**WHOLE)
    others, _ = labelled_images(data(labelled=5), 0)
    crops = UnlabelledCrops(others, augment, SelfTrainConfig(**settings), 255) if unlabelled else None
    return TrainSamples(dataset, TrainTransform(augment), 0, raw=raw, unlabelled=crops)


def test_labelled_samples_are_the_same_with_others_beside_them() -> None:
    with_others, alone = samples(), samples(unlabelled=False)
    for key in [(0, 1), (3, 2), (3, 2, 1)]:
        for name in ("image", "mask"):
            assert (with_others[key][name] == alone[key][name]).all()


def test_both_looks_show_the_same_crop() -> None:
    plain = samples(jitter=0.0, blur=0.0, cutmix=0.0)
    flipped = 0
    for index in range(12):
        sample = plain[(0, index)]
        assert (sample["weak"] == sample["strong"]).all()
        assert sample["box"].tolist() == [0, 0, 0, 0]
        outside = sample["padding"] == 255
        assert (sample["weak"][:, outside] == sample["weak"][:, outside][:, :1]).all()  # one colour
        flipped += int(outside.any())
    assert flipped > 0  # some crops reach over the edge
    strong = [samples()[(0, index)] for index in range(12)]
    assert all((sample["weak"] != sample["strong"]).any() for sample in strong)
    areas = [int((box[1] - box[0]) * (box[3] - box[2])) for box in (sample["box"] for sample in strong)]
    assert 0 in areas
    assert max(areas) > 64 * 96 // 4


def test_what_is_made_on_the_device_is_made_of_the_same_numbers() -> None:
    keys = [(0, index) for index in range(8)]
    made, raw = (default_collate([samples(raw=on)[key] for key in keys]) for on in (False, True))
    augment = AugmentConfig(crop=(64, 96))
    (batch,) = DeviceBatches([raw], augment, torch.device("cpu"), strong=True)
    for name in ("weak", "padding", "box"):
        assert (batch[name] == made[name]).all()
    change = np.abs(batch["strong"].numpy().astype(int) - made["strong"].numpy())
    assert change.max() <= 8
    assert (change > 0).mean() < 2e-3
