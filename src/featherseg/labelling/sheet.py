"""The contact sheet: one HTML page with the images in the order in which they are worth labelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np

from ..core.formatting import percent
from ..core.types import ClassSet, ImageArray, MaskArray
from ..runtime.draw import overlay
from ..shipping.report.html import document, section, swatches
from ..shipping.report.panels import jpeg

SIDE = 400
"""Longer side of a picture, in pixels."""
STYLE = (
    "<style>.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:14px 10px}"
    ".sheet figure{margin:0}.sheet img{display:block;width:100%;border-radius:4px;background:var(--panel)}"
    ".sheet figcaption b{color:var(--ink)}</style>"
)


@dataclass(frozen=True)
class Tile:
    """An image on the sheet.

    Args:
        name: of the image.
        said: what stands below it.
        address: the picture, as :func:`drawn` gives it.
    """

    name: str
    said: str
    address: str


def drawn(image: ImageArray, mask: MaskArray, classes: ClassSet) -> str:
    """Return an image with its mask's colours, made small, as an address; unsure pixels are the image in pale grey."""
    scale = min(1.0, SIDE / max(mask.shape))
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    ids = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    picture = overlay(small, ids, classes, background=True)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY))
    unsure = ids == classes.ignore_index
    picture[unsure] = (128 + grey[unsure] // 2)[:, None]
    return jpeg(picture)


def page(title: str, classes: ClassSet, first: Sequence[Tile], kept: Sequence[Tile], facts: Sequence[str]) -> str:
    """Return the page.

    Args:
        title: of it.
        classes: names and colours.
        first: images in order.
        kept: images that a person labelled.
        facts: sentences at its head.
    """
    head = "".join(f'<p class="soft">{escape(fact)}</p>' for fact in facts)
    legend = swatches(
        [*zip(classes.names, classes.colors, strict=True), ("unsure: the image in grey", (190, 190, 190))]
    )
    parts = [f"{STYLE}<header><h1>{escape(title)}</h1>{head}{legend}</header>"]
    if first:
        parts.append(section("In the order of what labelling them would teach", _grid(first)))
    if kept:
        parts.append(section("Labelled already", _grid(kept), "Masks that a person made or corrected; they are kept."))
    return document(title, parts)


def numbers(rank: int, unsure: float, measure: str, sure: float) -> str:
    """Return what stands below an image."""
    return f"{rank}. {measure} {unsure:.3f}, sure of {percent(sure)} %"


def _grid(tiles: Sequence[Tile]) -> str:
    figures = "".join(
        f'<figure><img loading="lazy" src="{escape(tile.address)}" alt="{escape(tile.name)}">'
        f"<figcaption><b>{escape(tile.name)}</b><br>{escape(tile.said)}</figcaption></figure>"
        for tile in tiles
    )
    return f'<div class="sheet">{figures}</div>'
