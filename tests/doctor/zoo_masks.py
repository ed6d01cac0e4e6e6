"""Broken masks, classes and splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from zoo_base import COLORS, TRAIN, VAL, animal, cut, each_mask, image, mask, picture, save

# Masks


@animal("mask-truncated", names=("masks/train/a_scene.png",))
def mask_cut_short(root: Path) -> None:
    cut(mask(root))


@animal("mask-unreadable")
def mask_is_json(root: Path) -> None:
    mask(root).write_text('{"shapes": []}')


@animal("mask-jpeg", names=("of pixels are no class",))
def jpeg_ids(root: Path) -> None:
    mask(root).unlink()
    save(mask(root).with_suffix(".jpg"), picture(0)[1] * 2, quality=50)


@animal("mask-jpeg", names=("of pixels are no class",))
def jpeg_colours(root: Path) -> None:
    for i in range(TRAIN + VAL):
        mask(root, i).unlink()
        save(mask(root, i).with_suffix(".jpg"), np.array(COLORS, np.uint8)[picture(i)[1]], quality=90)


@animal("mask-jpeg")
def jpeg_foregrounds(root: Path) -> None:
    (root / "classes.toml").unlink()
    for i in range(TRAIN + VAL):
        mask(root, i).unlink()
        save(mask(root, i).with_suffix(".jpg"), (picture(i)[1] > 0).astype(np.uint8) * 255, quality=90)


@animal("mask-jpeg", hopeless=True)
def jpeg_ids_without_classes(root: Path) -> None:
    (root / "classes.toml").unlink()
    for i in range(TRAIN + VAL):
        mask(root, i).unlink()
        save(mask(root, i).with_suffix(".jpg"), picture(i)[1])


@animal("mask-jpeg", names=("a_scene.png",))
def jpeg_called_png(root: Path) -> None:
    Image.fromarray(picture(0)[1]).save(mask(root), format="JPEG")


@animal("mask-jpeg", names=("a_scene.tif",))
def jpeg_in_a_tiff(root: Path) -> None:
    mask(root).unlink()
    Image.fromarray(picture(0)[1]).save(mask(root).with_suffix(".tif"), compression="jpeg")


@animal("image-unreadable")
def postscript_called_png(root: Path) -> None:
    Image.fromarray(picture(0)[0]).save(image(root), format="EPS")


@animal("mask-colour")
def colour_masks(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: np.array(COLORS, np.uint8)[ids])


@animal("mask-grey-as-rgb")
def ids_in_three_channels(root: Path) -> None:
    each_mask(root, lambda ids: np.repeat(ids[..., None], 3, axis=2))


@animal("mask-grey-as-rgb", "mask-0-255")
def black_and_white_rgb(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: np.repeat((ids > 0)[..., None], 3, axis=2).astype(np.uint8) * 255)


@animal("masks-mixed", names=("masks/train/a_scene.png: colours",))
def ids_and_colours(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: np.array(COLORS, np.uint8)[ids], only=[0])


@animal("palette-differs", names=("masks/train/a_scene.png",))
def palette_of_its_own(root: Path) -> None:
    (root / "classes.toml").unlink()
    for i in range(TRAIN + VAL):
        order = [2, 0, 1] if i == 0 else [0, 1, 2]
        masked = Image.fromarray(np.argsort(order).astype(np.uint8)[picture(i)[1]])
        masked.putpalette([part for place in order for part in COLORS[place]])
        masked.save(mask(root, i))


@animal("mask-0-255")
def foreground_255(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: (ids > 0).astype(np.uint8) * 255)


@animal("mask-0-255")
def foreground_255_with_names(root: Path) -> None:
    (root / "classes.toml").write_text('names = ["background", "person"]\n')
    each_mask(root, lambda ids: (ids > 0).astype(np.uint8) * 255)


@animal("mask-alpha")
def alpha_only(root: Path) -> None:
    (root / "classes.toml").unlink()

    def cut_out(ids: np.ndarray) -> np.ndarray:
        rgba = np.zeros((*ids.shape, 4), np.uint8)
        rgba[..., 3] = (ids > 0) * 255
        return rgba

    each_mask(root, cut_out)


@animal("unknown-ids", names=("masks/train/a_scene.png: 9",))
def an_id_too_many(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        ids[10:20, 10:20] = 9
        return ids

    each_mask(root, change, only=[0])


@animal("unknown-ids", names=("#010203",))
def a_colour_too_many(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        colours = np.array(COLORS, np.uint8)[ids]
        colours[10:20, 10:20] = (1, 2, 3)
        return colours

    each_mask(root, lambda ids: np.array(COLORS, np.uint8)[ids])
    each_mask(root, change, only=[0])


@animal("mask-all-ignored", names=("masks/train/a_scene.png",))
def nothing_labelled(root: Path) -> None:
    each_mask(root, lambda ids: np.full_like(ids, 255), only=[0])


@animal("mask-single-class", names=("a_scene.png: road",))
def one_class_all_over(root: Path) -> None:
    each_mask(root, np.ones_like, only=[0])


@animal("ids-shifted")
def ids_from_one(root: Path) -> None:
    each_mask(root, lambda ids: ids + 1)


@animal("ids-shifted")
def ids_from_one_without_names(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: ids + 1)


@animal("zero-unlabelled")
def unlabelled_is_0(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        above = ids + 1
        above[:3] = 0
        return above

    each_mask(root, change)


@animal("zero-unclear", "unknown-ids", names=("3 names (sky, …, car)",), hopeless=True)
def a_class_without_a_name(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        ids[40:, 40:] = 3
        return ids

    each_mask(root, change)


@animal("zero-unclear", "unknown-ids", hopeless=True)
def the_last_id_plus_one_by_mistake(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        ids[10:14, 10:14] = 3
        return ids

    each_mask(root, change, only=[0])


@animal("mask-0-255", names=("masks/train/b_scene.png",))
def foregrounds_of_one_bit_and_of_eight(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: (ids > 0).astype(np.uint8) * 255)
    for i in range(0, TRAIN + VAL, 2):
        Image.fromarray(picture(i)[1] > 0).save(mask(root, i))


@animal("unknown-ids", hopeless=True)
def a_class_of_its_own_in_every_mask(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        ids[40:, 40:] = 9
        return ids

    each_mask(root, change)


@animal("ids-sparse")
def ids_for_the_eye(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: ids * 100)


@animal("mask-antialiased", names=("between the classes",))
def smoothed_foreground(root: Path) -> None:
    (root / "classes.toml").unlink()
    each_mask(root, lambda ids: cv2.GaussianBlur((ids > 0).astype(np.uint8) * 255, (3, 3), 0))


@animal("mask-antialiased")
def smoothed_colours(root: Path) -> None:
    each_mask(root, lambda ids: cv2.GaussianBlur(np.array(COLORS, np.uint8)[ids], (3, 3), 0))


@animal("masks-photographs", hopeless=True)
def masks_are_photographs(root: Path) -> None:
    (root / "classes.toml").unlink()
    for i in range(TRAIN + VAL):
        save(mask(root, i), picture(60 + i)[0][..., 0])


@animal("mask-is-image", "masks-photographs")
def mask_is_the_image(root: Path) -> None:
    shutil.copy(image(root), mask(root))
    save(mask(root, 1), picture(77)[0])


@animal("mask-float")
def float_ids(root: Path) -> None:
    mask(root).unlink()
    save(mask(root).with_suffix(".tif"), picture(0)[1].astype(np.float32))


@animal("mask-float", names=("not whole",))
def float_shares(root: Path) -> None:
    mask(root).unlink()
    save(mask(root).with_suffix(".tif"), picture(0)[1].astype(np.float32) / 2)


@animal("mask-16bit")
def sixteen_bit_ids(root: Path) -> None:
    each_mask(root, lambda ids: ids.astype(np.uint16))


@animal("size-mismatch", names=("32x48", "64x96"))
def mask_of_half_the_size(root: Path) -> None:
    each_mask(root, lambda ids: ids[::2, ::2].copy(), only=[0])


@animal("size-mismatch")
def mask_of_another_shape(root: Path) -> None:
    each_mask(root, lambda ids: ids[:, :64].copy(), only=[0])


# Classes and splits


@animal("class-absent", names=("bicycle",))
def a_class_that_never_occurs(root: Path) -> None:
    (root / "classes.toml").write_text('names = ["sky", "road", "car", "bicycle"]\n')


@animal("class-rare", names=("car",))
def a_rare_class(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        rare = np.minimum(ids, 1)
        rare[0, :2] = 2
        return rare

    each_mask(root, change)


@animal("class-too-thin", names=("at stride 8 `car` keeps 0.00 of its Dice; stride 2 keeps 1.00",))
def wires(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        thin = np.minimum(ids, 1)
        thin[:, 20:22] = 2
        return thin

    each_mask(root, change)


@animal("class-thin", names=("at stride 8 `car` keeps 0.8", "; stride 4 keeps 0.9"))
def posts(root: Path) -> None:
    def change(ids: np.ndarray) -> np.ndarray:
        thin = np.minimum(ids, 1)
        for i in range(4):
            thin[5:59, 7 + 21 * i : 16 + 21 * i] = 2
        return thin

    each_mask(root, change)


@animal("class-not-in-train", names=("car",))
def a_class_in_val_alone(root: Path) -> None:
    each_mask(root, lambda ids: np.minimum(ids, 1), only=range(TRAIN))


@animal("class-not-in-val", names=("car",))
def a_class_in_train_alone(root: Path) -> None:
    each_mask(root, lambda ids: np.minimum(ids, 1), only=range(TRAIN, TRAIN + VAL))


@animal("duplicate-across-splits", names=("a_scene.png", "val/j_scene.png"))
def leaked_image(root: Path) -> None:
    shutil.copy(image(root, 9), image(root))
    shutil.copy(mask(root, 9), mask(root))


@animal("duplicate-images")
def image_twice(root: Path) -> None:
    shutil.copy(image(root, 1), image(root))
    shutil.copy(mask(root, 1), mask(root))


@animal("duplicate-conflict", names=("a_scene.png", "b_scene.png"))
def two_opinions(root: Path) -> None:
    shutil.copy(image(root, 1), image(root))


@animal("near-duplicate-across-splits", names=("val/j_scene.jpg ~ images/train/a_scene.png",))
def leaked_and_compressed(root: Path) -> None:
    image(root, 9).unlink()
    brighter = np.clip(picture(0)[0].astype(int) + 6, 0, 255).astype(np.uint8)
    save(image(root, 9).with_suffix(".jpg"), brighter, quality=70)


@animal("near-duplicates")
def nearly_twice(root: Path) -> None:
    save(image(root, 1), np.clip(picture(0)[0].astype(int) + 6, 0, 255).astype(np.uint8))


@animal("masks-identical")
def one_mask_for_all(root: Path) -> None:
    each_mask(root, lambda ids: picture(0)[1])


@animal("same-recording", names=("val/drive_010.png",))
def frames_of_one_drive(root: Path) -> None:
    for part in ("images", "masks"):
        shutil.rmtree(root / part)
    wide, ids = (np.hstack(parts) for parts in zip(*(picture(i) for i in range(5)), strict=True))
    for frame in range(24):
        split = "val" if 10 <= frame < 14 else "train"
        x = 4 * frame + 80 * (frame >= 10) + 80 * (frame >= 14)  # far from the training frames before and after
        save(root / "images" / split / f"drive_{frame:03}.png", wide[:, x : x + 96])
        save(root / "masks" / split / f"drive_{frame:03}.png", ids[:, x : x + 96])
