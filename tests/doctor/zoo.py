"""All broken datasets, with what tests need to break more."""

from __future__ import annotations

import zoo_files
import zoo_masks
import zoo_public
from zoo_base import (
    COLORS,
    NAMES,
    SIZE,
    TRAIN,
    VAL,
    ZOO,
    Animal,
    animal,
    blocks,
    clean_camvid,
    clean_cityscapes,
    clean_folder,
    clean_voc,
    cut,
    each_mask,
    image,
    mask,
    picture,
    png_chunk,
    save,
    splits,
    stem,
    write_classes,
    write_lists,
)

__all__ = [
    "COLORS",
    "NAMES",
    "SIZE",
    "TRAIN",
    "VAL",
    "ZOO",
    "Animal",
    "animal",
    "blocks",
    "clean_camvid",
    "clean_cityscapes",
    "clean_folder",
    "clean_voc",
    "cut",
    "each_mask",
    "image",
    "mask",
    "picture",
    "png_chunk",
    "save",
    "splits",
    "stem",
    "write_classes",
    "write_lists",
    "zoo_files",
    "zoo_masks",
    "zoo_public",
]
