"""Broken datasets, each made from a clean one by one deed, with the findings that it must have and no others.

A builder gets the root of a clean ``folder`` dataset (nine training and three validation pairs, three classes) and
breaks it; those of other kinds begin with an empty folder.
"""

from __future__ import annotations

import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

NAMES = ("sky", "road", "car")
COLORS = ((120, 180, 240), (100, 60, 160), (220, 30, 30))
SIZE = (64, 96)
TRAIN, VAL = 9, 3


def picture(index: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise of its own, with ImageNet's mean and spread; every class holds a tenth of the pixels or more."""
    rng = np.random.default_rng(1000 + index)
    field = cv2.resize(rng.random((5, 7, 4)), size[::-1], interpolation=cv2.INTER_CUBIC)
    field = (field - field.mean((0, 1))) / field.std((0, 1))
    image = np.clip((np.array([0.485, 0.456, 0.406]) + 0.22 * field[..., :3]) * 255, 14, 255).astype(np.uint8)
    mask = np.digitize(field[..., 3], np.quantile(field[..., 3], [0.45, 0.8])).astype(np.uint8)
    return image, mask


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def clean_folder(root: Path) -> Path:
    for i in range(TRAIN + VAL):
        split = "train" if i < TRAIN else "val"
        image, mask = picture(i)
        save(root / "images" / split / f"{stem(i)}.png", image)
        save(root / "masks" / split / f"{stem(i)}.png", mask)
    write_classes(root)
    return root


def clean_voc(root: Path) -> Path:
    home = root / "VOCdevkit" / "VOC2012"
    for i in range(TRAIN + VAL):
        image, mask = picture(i)
        save(home / "JPEGImages" / f"{stem(i)}.jpg", image, quality=95)
        # All 21 classes, some ignored pixels, and a palette as VOC has it.
        values = ((mask * 7 + np.arange(96) // 14) % 21).astype(np.uint8)
        values[:2] = 255
        masked = Image.fromarray(values)
        masked.putpalette(np.arange(768, dtype=np.uint16).astype(np.uint8).tobytes())
        (home / "SegmentationClass").mkdir(exist_ok=True)
        masked.save(home / "SegmentationClass" / f"{stem(i)}.png")
    write_lists(home / "ImageSets" / "Segmentation", "{}")
    return root


def clean_camvid(root: Path) -> Path:
    for i in range(TRAIN + VAL):
        split = "train" if i < TRAIN else "val"
        image, mask = picture(i)
        save(root / split / f"{stem(i)}.png", image)
        save(root / f"{split}annot" / f"{stem(i)}.png", ((mask * 4 + np.arange(96) // 24) % 12).astype(np.uint8))
    for split, names in splits().items():
        lines = [f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png" for name in names]
        (root / f"{split}.txt").write_text("\n".join(lines))
    return root


def clean_cityscapes(root: Path) -> Path:
    for i in range(TRAIN + VAL):
        split = "train" if i < TRAIN else "val"
        image, mask = picture(i)
        values = ((mask * 12 + np.arange(96) // 8) % 34).astype(np.uint8)
        save(root / "leftImg8bit" / split / "ulm" / f"{stem(i)}_leftImg8bit.png", image)
        save(root / "gtFine" / split / "ulm" / f"{stem(i)}_gtFine_labelIds.png", values)
    return root


def stem(index: int) -> str:
    return "abcdefghijkl"[index] + "_scene"


def splits() -> dict[str, list[str]]:
    names = [stem(i) for i in range(TRAIN + VAL)]
    return {"train": names[:TRAIN], "val": names[TRAIN:]}


def write_lists(folder: Path, line: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, names in splits().items():
        (folder / f"{split}.txt").write_text("".join(line.format(name) + "\n" for name in names))


def write_classes(root: Path, extra: str = "") -> None:
    colors = ", ".join(str(list(color)) for color in COLORS)
    (root / "classes.toml").write_text(f'names = ["sky", "road", "car"]\ncolors = [{colors}]\n{extra}')


@dataclass(frozen=True)
class Animal:
    """A broken dataset.

    Args:
        build: breaks the clean dataset at its argument.
        finds: ids of all findings.
        base: what it begins with.
        names: parts of paths that the examples of these findings must name.
        hopeless: so broken that no copy can be made.
    """

    build: Callable[[Path], None]
    finds: frozenset[str]
    base: Callable[[Path], Path]
    names: tuple[str, ...]
    hopeless: bool


ZOO: dict[str, Animal] = {}


def animal(
    *finds: str,
    base: Callable[[Path], Path] = clean_folder,
    names: tuple[str, ...] = (),
    hopeless: bool = False,
) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def add(build: Callable[[Path], None]) -> Callable[[Path], None]:
        assert build.__name__ not in ZOO
        ZOO[build.__name__] = Animal(build, frozenset(finds), base, names, hopeless)
        return build

    return add


def image(root: Path, index: int = 0) -> Path:
    return root / "images" / ("train" if index < TRAIN else "val") / f"{stem(index)}.png"


def mask(root: Path, index: int = 0) -> Path:
    return root / "masks" / ("train" if index < TRAIN else "val") / f"{stem(index)}.png"


def each_mask(root: Path, change: Callable[[np.ndarray], np.ndarray], only: Iterable[int] = range(TRAIN + VAL)) -> None:
    for i in only:
        save(mask(root, i), change(picture(i)[1]))


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Files and layout


@animal("image-without-mask", names=("images/train/a_scene.png",))
def image_alone(root: Path) -> None:
    mask(root).unlink()


@animal("mask-without-image", names=("masks/val/l_scene.png",))
def mask_alone(root: Path) -> None:
    image(root, 11).unlink()


@animal("duplicate-stem", names=("a_scene.jpg", "a_scene.png"))
def two_images_of_one_name(root: Path) -> None:
    save(image(root).with_suffix(".jpg"), picture(0)[0], quality=95)


@animal("duplicate-stem")
def two_masks_of_one_name(root: Path) -> None:
    save(mask(root).with_suffix(".jpg"), picture(0)[1])


@animal("names-differ", names=("masks/train/A_SCENE.png",))
def names_differ_in_case(root: Path) -> None:
    mask(root).rename(mask(root).with_name("A_SCENE.png"))


@animal("names-differ")
def names_differ_in_suffix(root: Path) -> None:
    for i in range(TRAIN + VAL):
        mask(root, i).rename(mask(root, i).with_name(f"{stem(i)}_mask.png"))


@animal("names-differ")
def names_differ_in_unicode_form(root: Path) -> None:
    image(root).rename(image(root).with_name(unicodedata.normalize("NFC", "Müll eimer.png")))
    mask(root).rename(mask(root).with_name(unicodedata.normalize("NFD", "Müll eimer.png")))


@animal("empty-file", names=("images/train/a_scene.png",))
def empty_image(root: Path) -> None:
    image(root).write_bytes(b"")


@animal("empty-file", names=("masks/train/a_scene.png",))
def empty_mask(root: Path) -> None:
    mask(root).write_bytes(b"")


@animal("broken-link", "mask-without-image", names=("a_scene.png -> nowhere.png",))
def link_to_nowhere(root: Path) -> None:
    image(root).unlink()
    image(root).symlink_to("nowhere.png")


@animal("broken-link", "mask-without-image")
def link_to_itself(root: Path) -> None:
    image(root).unlink()
    image(root).symlink_to(image(root).name)
    (root / "images" / "train" / "loop").symlink_to(root, target_is_directory=True)


@animal("foreign-file", names=("z.gif",))
def picture_of_unread_format(root: Path) -> None:
    save(root / "images" / "train" / "z.gif", picture(50)[0])
    (root / "images" / "train" / "Thumbs.db").write_bytes(b"x")


@animal("not-read", names=("images/train/more/z.png", "images/stray.png"))
def pictures_where_nobody_looks(root: Path) -> None:
    save(root / "images" / "train" / "more" / "z.png", picture(50)[0])
    save(root / "images" / "stray.png", picture(51)[0])


@animal("layout-other", "split-names")
def folder_for_each_split(root: Path) -> None:
    for split, name in (("train", "train"), ("val", "valid")):
        for part in ("images", "masks"):
            (root / name).mkdir(exist_ok=True)
            (root / part / split).rename(root / name / part)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "masks")


@animal("layout-other")
def images_and_masks_side_by_side(root: Path) -> None:
    for i in range(TRAIN + VAL):
        image(root, i).rename(root / f"{stem(i)}.png")
        mask(root, i).rename(root / f"{stem(i)}_mask.png")
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "masks")


@animal("no-val-split")
def no_validation(root: Path) -> None:
    for part in ("images", "masks"):
        for path in (root / part / "val").iterdir():
            path.rename(root / part / "train" / path.name)
        (root / part / "val").rmdir()


@animal("no-train-split")
def no_training(root: Path) -> None:
    for part in ("images", "masks"):
        for path in (root / part / "train").iterdir():
            path.rename(root / part / "val" / path.name)
        (root / part / "train").rmdir()


@animal("split-names", names=("val is called validation",))
def other_split_names(root: Path) -> None:
    for part in ("images", "masks"):
        (root / part / "val").rename(root / part / "validation")


@animal("no-pairs", "image-without-mask", "mask-without-image", hopeless=True)
def no_names_in_common(root: Path) -> None:
    for i in range(TRAIN + VAL):
        mask(root, i).rename(mask(root, i).with_name(f"{i}.png"))


@animal("class-file", names=("classes.toml",))
def class_file_is_no_toml(root: Path) -> None:
    (root / "classes.toml").write_text('names = ["sky", ')


# Images


@animal("image-truncated", names=("images/train/a_scene.png",))
def image_cut_short(root: Path) -> None:
    cut(image(root))


@animal("image-truncated")
def jpeg_cut_short(root: Path) -> None:
    image(root).unlink()
    cut(save(image(root).with_suffix(".jpg"), picture(0)[0], quality=95))


@animal("image-unreadable")
def image_is_a_web_page(root: Path) -> None:
    image(root).write_text("<html>404</html>")


@animal("too-large", names=("images/train/a_scene.png",))
def decompression_bomb(root: Path) -> None:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(bytes(100_000)))
    image(root).write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + png_chunk(b"IEND", b""))


@animal("wrong-extension", names=("a_scene.jpg is PNG",))
def png_called_jpg(root: Path) -> None:
    image(root).rename(image(root).with_suffix(".jpg"))


@animal("image-animated", names=("2 frames",))
def animated_png(root: Path) -> None:
    frames = [Image.fromarray(picture(i)[0]) for i in (0, 50)]
    frames[0].save(image(root), save_all=True, append_images=frames[1:])


@animal("image-16bit", names=("largest value",))
def sixteen_bit_grey(root: Path) -> None:
    grey = picture(0)[0][..., 1].astype(np.uint16) * 257
    Image.fromarray(grey).save(image(root))


@animal("image-16bit", names=("16 bits",))
def sixteen_bit_colour(root: Path) -> None:
    cv2.imwrite(str(image(root)), picture(0)[0][..., ::-1].astype(np.uint16) * 257)


@animal("image-cmyk", names=("a_scene.jpg",))
def cmyk(root: Path) -> None:
    image(root).unlink()
    Image.fromarray(picture(0)[0]).convert("CMYK").save(image(root).with_suffix(".jpg"), quality=95)


@animal("image-alpha")
def see_through_image(root: Path) -> None:
    alpha = np.full((*SIZE, 1), 255, np.uint8)
    alpha[:9] = 0
    save(image(root), np.concatenate([picture(0)[0], alpha], axis=2))


@animal("image-not-rgb")
def one_grey_image(root: Path) -> None:
    save(image(root), picture(0)[0][..., 1])


@animal("image-not-rgb")
def one_palette_image(root: Path) -> None:
    Image.fromarray(picture(0)[0]).quantize(64).save(image(root))


@animal("image-float", names=("a_scene.tif",))
def float_image(root: Path) -> None:
    image(root).unlink()
    save(image(root).with_suffix(".tif"), picture(0)[0][..., 0].astype(np.float32))


def save_turned(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    lying = Image.fromarray(picture(0)[0]).transpose(Image.Transpose.ROTATE_90)
    image(root).unlink()
    lying.save(image(root).with_suffix(".jpg"), exif=exif, quality=95)


@animal("image-rotated", names=("orientation 6",))
def image_turned_by_exif(root: Path) -> None:
    save_turned(root)


@animal("image-rotated", "mask-not-rotated")
def image_turned_and_mask_not(root: Path) -> None:
    save_turned(root)
    save(mask(root), np.rot90(picture(0)[1]).copy())


@animal("image-blank")
def blank_image(root: Path) -> None:
    save(image(root), np.full((*SIZE, 3), 90, np.uint8))


@animal("image-small", names=("40x48",))
def small_image(root: Path) -> None:
    small = picture(0, (40, 48))
    save(image(root), small[0])
    save(mask(root), small[1])


@animal("size-stride", names=("67x99 by 8",))
def odd_size(root: Path) -> None:
    odd = picture(0, (67, 99))
    save(image(root), odd[0])
    save(mask(root), odd[1])


@animal("constant-border", names=("8 at top",))
def letterbox(root: Path) -> None:
    boxed = picture(0)[0]
    boxed[:8] = 0
    save(image(root), boxed)


@animal("statistics-far")
def night(root: Path) -> None:
    for i in range(TRAIN + VAL):
        save(image(root, i), picture(i)[0] // 4)


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

    each_mask(root, change)


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
