"""Broken files and layouts, and images that are not what they seem."""

from __future__ import annotations

import shutil
import struct
import unicodedata
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from zoo_base import SIZE, TRAIN, VAL, animal, cut, image, mask, picture, png_chunk, save, stem

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


@animal("names-differ", "image-without-mask", names=("masks/train/A_SCENE.png",))
def names_differ_in_case_and_a_mask_is_gone(root: Path) -> None:
    mask(root).rename(mask(root).with_name("A_SCENE.png"))
    mask(root, 1).unlink()


@animal("names-differ", "mask-without-image", "image-without-mask")
def names_differ_in_suffix_and_one_altogether(root: Path) -> None:
    for i in range(TRAIN + VAL):
        mask(root, i).rename(mask(root, i).with_name(f"{stem(i)}_mask.png" if i else "other.png"))


@animal("names-differ", "image-without-mask")
def names_differ_in_unicode_form_and_a_mask_is_gone(root: Path) -> None:
    image(root).rename(image(root).with_name(unicodedata.normalize("NFC", "Müll eimer.png")))
    mask(root).rename(mask(root).with_name(unicodedata.normalize("NFD", "Müll eimer.png")))
    mask(root, 1).unlink()


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


@animal("foreign-file", names=("z.tga",))
def picture_of_unread_format(root: Path) -> None:
    save(root / "images" / "train" / "z.tga", picture(50)[0])
    (root / "images" / "train" / "Thumbs.db").write_bytes(b"x")


@animal("not-read", names=("images/train/more/z.png", "images/stray.png"))
def pictures_where_nobody_looks(root: Path) -> None:
    save(root / "images" / "train" / "more" / "z.png", picture(50)[0])
    save(root / "images" / "stray.png", picture(51)[0])


@animal("layout-other", "split-names", "image-without-mask")
def folder_for_each_split_and_a_mask_is_gone(root: Path) -> None:
    mask(root).unlink()
    for split, name in (("train", "train"), ("val", "valid")):
        for part in ("images", "masks"):
            (root / name).mkdir(exist_ok=True)
            (root / part / split).rename(root / name / part)
    shutil.rmtree(root / "images")
    shutil.rmtree(root / "masks")


@animal("layout-other", "image-without-mask")
def images_and_masks_side_by_side_and_one_gone(root: Path) -> None:
    mask(root).unlink()
    for i in range(TRAIN + VAL):
        image(root, i).rename(root / f"{stem(i)}.png")
        if mask(root, i).exists():
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


def save_turned_by(root: Path, orientation: int, turn: int, size: tuple[int, int]) -> None:
    """Save the first picture turned, with EXIF data that turn it back, and its mask turned with it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene, ids = picture(0, size)
    image(root).unlink()
    Image.fromarray(np.rot90(scene, turn).copy()).save(image(root).with_suffix(".jpg"), exif=exif, quality=95)
    save(mask(root), np.rot90(ids, turn).copy())


@animal("orientation-unclear", names=("orientation 3",))
def upside_down_and_nothing_tells(root: Path) -> None:
    save_turned_by(root, 3, 2, SIZE)


@animal("orientation-unclear", names=("orientation 6",))
def square_and_nothing_tells(root: Path) -> None:
    save_turned_by(root, 6, 1, (64, 64))


@animal("image-blank")
def blank_image(root: Path) -> None:
    save(image(root), np.full((*SIZE, 3), 90, np.uint8))


@animal("image-small", names=("40x48",))
def small_image(root: Path) -> None:
    small = picture(0, (40, 48))
    save(image(root), small[0])
    save(mask(root), small[1])


@animal("constant-border", names=("8 at top",))
def letterbox(root: Path) -> None:
    boxed = picture(0)[0]
    boxed[:8] = 0
    save(image(root), boxed)


@animal("statistics-far")
def night(root: Path) -> None:
    for i in range(TRAIN + VAL):
        save(image(root, i), picture(i)[0] // 4)
