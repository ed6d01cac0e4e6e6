from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featherseg.core.errors import ConfigError, DataError
from featherseg.core.types import ClassSet
from featherseg.data.labels import LabelTable
from featherseg.data.readers.public import CAMVID_32, CAMVID_CLASSES, CAMVID_VOID, CITYSCAPES_CLASSES, VOC_CLASSES

HERE = Path("m.png")
CLASSES = ClassSet(("a", "b"), ((10, 20, 30), (40, 50, 60)))


def test_ids_are_mapped_by_the_table() -> None:
    table = LabelTable({7: 0, 300: 1, 255: 255})
    out = table.apply(np.array([[7, 300], [255, 7]], np.uint16), HERE)
    assert out.dtype == np.uint8
    assert out.tolist() == [[0, 1], [255, 0]]


@pytest.mark.parametrize(("value", "kind"), [(3, np.uint8), (70, np.uint8), (-1, np.int32), (65535, np.uint16)])
def test_an_id_outside_the_table_names_file_value_and_place(value: int, kind: Any) -> None:
    values = np.zeros((4, 5), kind)
    values[2, 3] = value
    values[3, 1] = value
    with pytest.raises(DataError) as info:
        LabelTable.identity(CLASSES).apply(values, HERE)
    assert str(info.value).startswith(f"mask m.png holds id {value} (row 2, column 3), which is no class;")
    assert "\n" not in str(info.value)


def test_colours_are_mapped_and_strange_ones_named() -> None:
    table = LabelTable.identity(CLASSES)
    values = np.array([[[40, 50, 60], [10, 20, 30]]], np.uint8)
    assert table.apply(values, HERE).tolist() == [[1, 0]]
    values[0, 1] = (10, 20, 31)
    with pytest.raises(DataError, match=r"holds colour \(10, 20, 31\) \(row 0, column 1\)"):
        table.apply(values, HERE)
    with pytest.raises(DataError, match="is in colour, but this dataset's masks hold class ids"):
        LabelTable({0: 0}).apply(values, HERE)


def test_an_empty_table_refuses_every_id() -> None:
    with pytest.raises(DataError, match="holds id 0"):
        LabelTable({}, {(1, 2, 3): 0}).apply(np.zeros((1, 1), np.uint8), HERE)


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_that_no_mask_file_holds(value: int) -> None:
    with pytest.raises(ConfigError, match=f"mask value {value}"):
        LabelTable({value: 0})


def test_reading_goes_through_the_file(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(tmp_path / "m.png")
    assert LabelTable.identity(CLASSES).read(tmp_path / "m.png").tolist() == [[0, 1, 255]]


# The published tables, against their sources


def test_voc_colours() -> None:
    """Spot values of the development kit's colour map."""
    assert len(VOC_CLASSES) == 21
    known = {"background": (0, 0, 0), "aeroplane": (128, 0, 0), "person": (192, 128, 128), "tvmonitor": (0, 64, 128)}
    known |= {"cat": (64, 0, 0), "dog": (64, 0, 128), "pottedplant": (0, 64, 0), "car": (128, 128, 128)}
    assert {name: VOC_CLASSES.colors[VOC_CLASSES.index(name)] for name in known} == known
    assert len(set(VOC_CLASSES.colors)) == 21


def test_camvid_folds_32_colours() -> None:
    colors = [color for folded in CAMVID_32.values() for color in folded] + [CAMVID_VOID]
    assert len(colors) == len(set(colors)) == 32
    assert all(part % 64 == 0 and part <= 192 for color in colors for part in color)
    assert tuple(CAMVID_32) == CAMVID_CLASSES.names
    assert min(Counter({name: len(folded) for name, folded in CAMVID_32.items()}).values()) >= 1
    assert [folded[0] for folded in CAMVID_32.values()] == [
        (128, 64, 128) if name == "Road" else color
        for name, color in zip(CAMVID_CLASSES.names, CAMVID_CLASSES.colors, strict=True)
    ]


def test_cityscapes_classes() -> None:
    assert len(CITYSCAPES_CLASSES) == 19
    assert CITYSCAPES_CLASSES.names[0] == "road"
    assert CITYSCAPES_CLASSES.names[18] == "bicycle"
    assert len(set(CITYSCAPES_CLASSES.colors)) == 19
