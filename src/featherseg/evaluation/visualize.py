"""Pictures for people: a grid of results, and a confusion matrix with names and percentages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..core.errors import ConfigError
from ..core.formatting import percent
from ..core.types import ClassSet, ImageArray, MaskArray

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER, EMPTY, RULE = (255, 255, 255), (233, 236, 239), (206, 212, 218)
INK, SOFT_INK = (33, 37, 41), (108, 117, 125)
IGNORED = (214, 218, 224)
"""Colour of ignored pixels: of the paper rather than of a class. Many class sets have black already."""
CELL_WIDTH = 360
MARGIN, GAP = 20, 6


def result_grid(
    images: Sequence[ImageArray],
    targets: Sequence[MaskArray],
    predictions: Sequence[MaskArray],
    classes: ClassSet,
    *,
    rows: int = 3,
    columns: int = 1,
) -> ImageArray:
    """Draw examples as image | truth | prediction, with titles and a legend of the classes that occur.

    Args:
        images: RGB uint8 (H, W, 3); sizes may differ from example to example.
        targets: class ids uint8 (H, W) of each image's size.
        predictions: class ids uint8 (H, W) of each image's size.
        classes: names and colours.
        rows: examples below one another.
        columns: examples side by side, three pictures each. The first ``rows × columns`` examples are drawn, or all
            where there are fewer.

    Returns:
        RGB uint8 picture.

    Raises:
        ConfigError: the lists differ in length or are empty, sizes within an example differ, or a count is below 1.
    """
    if rows < 1 or columns < 1:
        raise ConfigError(f"a grid of {rows} rows and {columns} columns; give at least 1 of each")
    if not images or not len(images) == len(targets) == len(predictions):
        raise ConfigError(
            f"{len(images)} images, {len(targets)} targets and {len(predictions)} predictions; give as many of each"
        )
    triples = list(zip(images, targets, predictions, strict=True))[: rows * columns]
    for i, (image, target, prediction) in enumerate(triples):
        if not image.shape[:2] == target.shape == prediction.shape:
            raise ConfigError(
                f"example {i}: image is {image.shape[:2]}, target {target.shape} and prediction {prediction.shape};"
                " bring them to one size"
            )
    columns = min(columns, len(triples))
    rows = -(-len(triples) // columns)
    # One shape for all cells, the images' median; what is wider or taller is fitted in.
    cell = (
        CELL_WIDTH,
        round(CELL_WIDTH * float(np.median([image.shape[0] / image.shape[1] for image, *_ in triples]))),
    )
    font = ImageFont.load_default(17)
    head = 30
    width = 2 * MARGIN + columns * (3 * cell[0] + 2 * GAP) + (columns - 1) * MARGIN
    body = head + rows * (cell[1] + GAP) - GAP
    legend = _legend(_occurring(triples, classes), width - 2 * MARGIN)
    sheet = Image.new("RGB", (width, MARGIN + body + MARGIN + legend.height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    paint = _painter(classes)
    for i, (image, target, prediction) in enumerate(triples):
        row, column = divmod(i, columns)
        left = MARGIN + column * (3 * cell[0] + 2 * GAP + MARGIN)
        top = MARGIN + head + row * (cell[1] + GAP)
        pictures = (image, paint[target], paint[prediction])
        for j, (title, picture) in enumerate(zip(("image", "truth", "prediction"), pictures, strict=True)):
            x = left + j * (cell[0] + GAP)
            if row == 0:
                draw.text((x + cell[0] / 2, MARGIN + head / 2 - 4), title, INK, font, anchor="mm")
            sheet.paste(_fit(picture, cell, smooth=j == 0), (x, top))
    sheet.paste(legend, (MARGIN, MARGIN + body + MARGIN))
    return np.array(sheet)


def confusion_picture(matrix: NDArray[np.integer[Any]], classes: ClassSet) -> ImageArray:
    """Draw a confusion matrix as a heat map, each row in percent of the target pixels of its class.

    Right pixels (the diagonal) are blue and confusions red, both on a square-root scale so that a confusion of a few
    percent is seen. Percentages that round to 0 are left blank; the row of a class without target pixels is empty.

    Args:
        matrix: pixel counts (C, C), rows = target.
        classes: names and colours.

    Returns:
        RGB uint8 picture.

    Raises:
        ConfigError: the matrix is not (C, C).
    """
    count = len(classes)
    if matrix.shape != (count, count):
        raise ConfigError(f"the matrix is {matrix.shape} for {count} classes; give ({count}, {count})")
    side = int(np.clip(720 / count, 38, 84))
    font, small, title_font = (ImageFont.load_default(size) for size in (16, 13 if side < 48 else 15, 21))
    names = [_shorten(name, font, 190) for name in classes.names]
    longest = round(max(font.getlength(name) for name in names))
    swatch = 14
    # Column names lean at 45°: they rise above the matrix, and the last one also reaches past its right edge.
    slant = round(0.71 * longest) + swatch + 14
    left, top = MARGIN + 26 + longest + 8 + swatch + 8, MARGIN + 64 + slant
    rule = "% of each class's true pixels; blue: right, red: confused"
    width = max(left + count * side + max(MARGIN, slant - side // 2), left + round(font.getlength(rule)) + MARGIN)
    sheet = Image.new("RGB", (width, top + count * side + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((left, MARGIN), "Confusion matrix", INK, title_font)
    draw.text((left, MARGIN + 30), rule, SOFT_INK, font)
    draw.text((left - 12, top - swatch - 12), "predicted class", SOFT_INK, small, anchor="rs")
    _paste_turned(sheet, "true class", small, SOFT_INK, 90, (MARGIN, top + count * side // 2), "centre")

    rows = matrix.sum(1)
    shares = matrix / np.maximum(rows, 1)[:, None]
    for i, name in enumerate(names):
        middle = top + i * side + side // 2
        draw.text((left - swatch - 16, middle), name, INK, font, anchor="rm")
        _swatch(draw, (left - swatch - 8, middle - swatch // 2), swatch, classes.colors[i])
        across = left + i * side + side // 2
        _swatch(draw, (across - swatch // 2, top - swatch - 8), swatch, classes.colors[i])
        _paste_turned(sheet, name, font, INK, 45, (across - 4, top - swatch - 12), "corner")
        y = top + i * side
        if not rows[i]:
            draw.rectangle((left, y, left + count * side - 2, y + side - 2), EMPTY)
            draw.text((left + count * side / 2, middle - 1), "no true pixels", SOFT_INK, small, anchor="mm")
            continue
        for j in range(count):
            x, share = left + j * side, float(shares[i, j])
            fill = _heat(share, right=i == j)
            draw.rectangle((x, y, x + side - 2, y + side - 2), fill)
            text = _cell_text(share, decimals=side >= 60)
            dark = 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] < 150
            draw.text((x + side / 2 - 1, y + side / 2 - 1), text, PAPER if dark else INK, small, anchor="mm")
    return np.array(sheet)


@dataclass(frozen=True)
class _Entry:
    """One item of a legend."""

    name: str
    color: Color


def _painter(classes: ClassSet) -> NDArray[np.uint8]:
    """Return colours by mask value, uint8 (256, 3), with a colour of its own for ignored pixels."""
    table = classes.palette()
    table[classes.ignore_index] = IGNORED
    return table


def _occurring(triples: Sequence[tuple[ImageArray, MaskArray, MaskArray]], classes: ClassSet) -> list[_Entry]:
    """Return the classes that any of the masks holds, in order, and "ignored" last if there is any."""
    seen = np.zeros(256, bool)
    for _, target, prediction in triples:
        seen[np.unique(target)] = True
        seen[np.unique(prediction)] = True
    entries = [_Entry(classes.names[i], classes.colors[i]) for i in range(len(classes)) if seen[i]]
    return entries + [_Entry("ignored", IGNORED)] * bool(seen[classes.ignore_index])


def _legend(entries: Sequence[_Entry], width: int) -> Image.Image:
    """Draw swatches and names in centred lines of at most `width` pixels."""
    font, swatch, line_height, space = ImageFont.load_default(15), 15, 28, 18
    lines: list[list[tuple[_Entry, int]]] = [[]]
    for entry in entries:
        length = swatch + 8 + round(font.getlength(entry.name))
        if lines[-1] and sum(size + space for _, size in lines[-1]) + length > width:
            lines.append([])
        lines[-1].append((entry, length))
    strip = Image.new("RGB", (width, line_height * len(lines)), PAPER)
    draw = ImageDraw.Draw(strip)
    for i, line in enumerate(lines):
        x = (width - sum(size + space for _, size in line) + space) // 2
        middle = i * line_height + line_height // 2
        for entry, size in line:
            _swatch(draw, (x, middle - swatch // 2), swatch, entry.color)
            draw.text((x + swatch + 8, middle), entry.name, INK, font, anchor="lm")
            x += size + space
    return strip


def _swatch(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: int, color: Color) -> None:
    x, y = corner
    draw.rounded_rectangle((x, y, x + size, y + size), 3, fill=color, outline=RULE)


def _fit(picture: ImageArray, cell: tuple[int, int], *, smooth: bool) -> Image.Image:
    """Resize a picture into a (width, height) cell, its proportions kept; enlarged, it blurs only if `smooth`."""
    height, width = picture.shape[:2]
    scale = min(cell[0] / width, cell[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # These are colours for the eye, no class ids: averaging them where they shrink keeps thin poles unbroken.
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST_EXACT
    resized = cv2.resize(picture, size, interpolation=way)
    framed = Image.new("RGB", cell, PAPER)
    framed.paste(Image.fromarray(resized), ((cell[0] - size[0]) // 2, (cell[1] - size[1]) // 2))
    return framed


def _shorten(text: str, font: Font, width: int) -> str:
    """Cut a text to `width` pixels, an ellipsis showing that it was cut."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _paste_turned(
    sheet: Image.Image, text: str, font: Font, color: Color, degrees: int, at: tuple[int, int], anchor: str
) -> None:
    """Write a text turned counter-clockwise, `at` being its start ("corner") or its left edge's middle ("centre")."""
    _, _, right, bottom = font.getbbox(text)
    label = Image.new("L", (round(right) + 4, round(bottom) + 4), 0)
    ImageDraw.Draw(label).text((1, 1), text, 255, font)
    turned = label.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    y = at[1] - (turned.height if anchor == "corner" else turned.height // 2)
    sheet.paste(Image.new("RGB", turned.size, color), (at[0], y), turned)


def _heat(share: float, *, right: bool) -> Color:
    """Return the colour of a share (0–1): white to blue if it is `right`, white to red if not."""
    stops = np.array([(250, 250, 251), (158, 202, 225), (49, 120, 181), (8, 48, 107)], float)
    if not right:
        stops = np.array([(250, 250, 251), (252, 187, 161), (239, 83, 62), (150, 15, 25)], float)
    place = np.sqrt(share) * (len(stops) - 1)
    red, green, blue = (round(float(np.interp(place, range(len(stops)), stops[:, k]))) for k in range(3))
    return red, green, blue


def _cell_text(share: float, *, decimals: bool) -> str:
    """Return a share as percent without the sign; nothing for one that rounds to 0."""
    text = percent(share, int(decimals))
    return "" if float(text) == 0 else text
