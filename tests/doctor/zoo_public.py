"""Broken datasets in the layouts of VOC, CamVid and Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from zoo_base import animal, clean_camvid, clean_cityscapes, clean_voc, picture, save

# Public datasets


def voc(root: Path) -> Path:
    return root / "VOCdevkit" / "VOC2012"


def voc_list(root: Path, split: str) -> Path:
    return voc(root) / "ImageSets" / "Segmentation" / f"{split}.txt"


@animal("listed-missing", base=clean_voc, names=("train: VOCdevkit/VOC2012/JPEGImages/a_scene.jpg",))
def voc_lists_what_is_not_there(root: Path) -> None:
    (voc(root) / "JPEGImages" / "a_scene.jpg").unlink()


@animal("listed-twice", base=clean_voc, names=("b_scene",))
def voc_lists_twice(root: Path) -> None:
    voc_list(root, "train").write_text(voc_list(root, "train").read_text() + "b_scene\n")


@animal("path-outside", base=clean_voc, names=("../../../../secret",))
def voc_list_leads_outside(root: Path) -> None:
    save(root.parent / "secret.jpg", picture(50)[0])
    lines = voc_list(root, "train").read_text()
    voc_list(root, "train").write_text(f"{lines}../../../../secret\n/etc/passwd\n")


@animal("list-bom", base=clean_voc, names=("train.txt",))
def voc_list_with_byte_order_mark(root: Path) -> None:
    voc_list(root, "train").write_bytes(b"\xef\xbb\xbf" + voc_list(root, "train").read_bytes())


@animal("list-encoding", base=clean_voc, names=("UTF-16",))
def voc_list_in_utf_16(root: Path) -> None:
    voc_list(root, "train").write_text(voc_list(root, "train").read_text(), encoding="utf-16")


@animal("listed-missing", base=clean_voc)
def voc_list_with_a_name_too_long(root: Path) -> None:
    voc_list(root, "train").write_text(voc_list(root, "train").read_text() + "x" * 5000 + "\n")


@animal("split-overlap", base=clean_voc, names=("j_scene.jpg in train and val",))
def voc_sample_in_two_splits(root: Path) -> None:
    voc_list(root, "train").write_text(voc_list(root, "train").read_text() + "j_scene\n")


@animal("not-listed", base=clean_voc, names=("i_scene.jpg",))
def voc_pair_in_no_list(root: Path) -> None:
    voc_list(root, "train").write_text(voc_list(root, "train").read_text().replace("i_scene\n", ""))


@animal("unknown-ids", base=clean_voc, names=("a_scene.png: 21, 22",))
def voc_with_an_id_too_many(root: Path) -> None:
    path = voc(root) / "SegmentationClass" / "a_scene.png"
    ids = np.array(Image.open(path))
    ids[20:30], ids[30:35] = 21, 22
    save(path, ids)


@animal("listed-missing", "path-outside", base=clean_camvid, names=("../../x.png", "trainannot/b_scene.png"))
def camvid_list_is_wrong(root: Path) -> None:
    (root / "train.txt").write_text((root / "train.txt").read_text() + "\n../../x.png ../../x.png\n")
    (root / "trainannot" / "b_scene.png").unlink()


@animal("image-without-mask", "mask-without-image", base=clean_cityscapes, names=("a_scene_leftImg8bit.png",))
def cityscapes_with_holes(root: Path) -> None:
    (root / "gtFine" / "train" / "ulm" / "a_scene_gtFine_labelIds.png").unlink()
    (root / "leftImg8bit" / "train" / "ulm" / "b_scene_leftImg8bit.png").unlink()


@animal("unknown-ids", base=clean_cityscapes, names=("40",))
def cityscapes_with_an_id_too_many(root: Path) -> None:
    path = root / "gtFine" / "train" / "ulm" / "a_scene_gtFine_labelIds.png"
    ids = np.array(Image.open(path))
    ids[20:30] = 40
    save(path, ids)
