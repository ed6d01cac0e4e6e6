from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import error_line
from featherseg.core.errors import DataError
from featherseg.data.annotations import recognise
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.cvat_xml import decode_runs
from featherseg.data.readers.public import VOC_CLASSES
from featherseg.doctor.listing import infer_kind
from labelled_exports import (
    COLORS,
    LABEL_MAP,
    SIZE,
    cvat_camvid,
    cvat_mask,
    cvat_masks,
    cvat_xml,
    cvat_xml_masks,
    save,
    scene,
    write,
)

BY_NAME = {"Box": 1, "Disc": 2, "background": 0}


def own_ids(dataset: Any, mask: np.ndarray) -> np.ndarray:
    """A mask in the scenes' ids, whatever the order of the classes."""
    table = np.full(256, 255, np.uint8)
    for i, name in enumerate(dataset.classes.names):
        table[i] = BY_NAME[name]
    return table[mask]


def read(dataset: Any, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The image and mask of a scene, wherever it is in the dataset."""
    stems = [dataset.stem(place) for place in range(len(dataset))]
    return dataset.read(next(place for place, stem in enumerate(stems) if int(stem.split("_")[-1]) == index))


def check_scenes(root: Path, kind: str = "cvat") -> None:
    dataset = create_dataset(kind, root, "all")
    assert len(dataset) == 8
    for i in range(8):
        (image, mask), expected = read(dataset, i), scene(i)
        assert np.array_equal(image, expected[0])
        assert np.array_equal(own_ids(dataset, mask), expected[1])


# Masks


def test_segmentation_masks(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    assert "labelmap.txt" in recognise(root)["cvat"].seen
    check_scenes(root)
    dataset = create_dataset("cvat", root)
    assert dataset.classes.names == ("Box", "Disc", "background")
    assert dataset.classes.colors == ((48, 112, 32), (176, 112, 32), (0, 0, 0))
    assert (len(dataset), len(create_dataset("cvat", root, "val"))) == (6, 2)
    notes = " | ".join(dataset.notes)
    assert "what nobody labelled is the class background" in notes
    assert "2 of 8 images were drawn" in notes


def test_masks_in_other_modes_are_the_pictures_they_show(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    for i, path in enumerate(sorted((root / "SegmentationClass").iterdir())):
        with Image.open(path) as picture:
            (picture.quantize() if i % 2 else picture.convert("RGBA")).save(path)
    save(root / "SegmentationClass" / "frame_000003.png", np.zeros(SIZE, np.uint8))
    dataset = create_dataset("cvat", root, "all")
    for i in (0, 1, 2, 4, 5):
        assert np.array_equal(own_ids(dataset, read(dataset, i)[1]), scene(i)[1])
    assert set(np.unique(read(dataset, 3)[1])) == {2}  # black all over is background, which is not the first label


def test_the_parts_that_lists_name(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    lists = root / "ImageSets" / "Segmentation"
    write(lists / "Train.txt", "frame_000000\nframe_000001\n")
    write(lists / "Validation.txt", "frame_000002\n")
    assert [len(create_dataset("cvat", root, split)) for split in ("train", "val", "all")] == [2, 1, 8]


def test_border_of_voc_is_ignored_and_unknown_colours_are_refused(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    colors = COLORS[scene(0)[1]]
    colors[0, :2] = (224, 224, 192)
    save(root / "SegmentationClass" / "frame_000000.png", colors)
    dataset = create_dataset("cvat", root, "all")
    assert (read(dataset, 0)[1] == 255).sum() == 2
    colors[5, 6] = (1, 2, 3)
    save(root / "SegmentationClass" / "frame_000000.png", colors)
    message = error_line(DataError, read, dataset, 0)
    assert "colour (1, 2, 3) (row 5, column 6)" in message
    colors_jpeg = root / "SegmentationClass" / "frame_000000.png"
    Image.fromarray(colors).save(colors_jpeg, format="JPEG")
    assert "is a JPEG" in error_line(DataError, read, dataset, 0)


def test_an_export_without_images(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path / "export", images=False)
    message = error_line(DataError, create_dataset, "cvat", root)
    assert "Save images" in message
    assert "data.options.images" in message
    for i in range(8):
        save(tmp_path / "photos" / "day" / f"frame_{i:06d}.png", scene(i)[0])
    dataset = create_dataset("cvat", root, "all", images="../photos")
    assert np.array_equal(read(dataset, 4)[0], scene(4)[0])
    (tmp_path / "photos" / "day" / "frame_000004.png").unlink()
    assert "frame_000004" in error_line(DataError, create_dataset, "cvat", root, "all", images="../photos")


def test_listed_without_a_mask_is_left_out(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    (root / "SegmentationClass" / "frame_000002.png").unlink()
    dataset = create_dataset("cvat", root, "all")
    assert len(dataset) == 7
    assert "1 listed images have no mask and are left out" in dataset.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Box:48,112::\n", "line 1: 'Box:48,112::' is no name:red,green,blue:parts:actions"),
        ("Box:1,2,3::\nBox:3,2,1::\n", "has the label 'Box' 2 times"),
        ("Box:1,2,3::\nDisc:1,2,3::\n", "has the colour (1, 2, 3) 2 times"),
        ("Box:300,2,3::\n", "300"),
        ("# nothing\n", "names 0 classes"),
        (":1,2,3::\n", "give it a name"),
    ],
)
def test_damaged_label_maps(tmp_path: Path, text: str, words: str) -> None:
    root = cvat_masks(tmp_path)
    write(root / "labelmap.txt", text)
    assert words in error_line(DataError, create_dataset, "cvat", root)


def test_a_label_with_colons(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    write(root / "labelmap.txt", LABEL_MAP.replace("Box", "a:b"))
    assert create_dataset("cvat", root).classes.names[0] == "a:b"


def test_camvid_like_exports(tmp_path: Path) -> None:
    root = cvat_camvid(tmp_path)
    assert "label_colors.txt" in recognise(root)["cvat"].seen
    check_scenes(root)
    (root / "default.txt").unlink()
    check_scenes(root)
    write(root / "default.txt", "/default/frame_000001.png /defaultannot/frame_000001.png\n")
    assert create_dataset("cvat", root, "all").stem(0) == "frame_000001"
    write(root / "default.txt", "/default/../../x.png /defaultannot/x.png\n")
    assert "leads out of the folder" in error_line(DataError, create_dataset, "cvat", root)


# Foreign label maps and the public sets


def kind_of(root: Path) -> str:
    try:
        return infer_kind(root)
    except DataError:
        return "refused"


def test_a_folder_with_its_own_label_map_is_never_voc_or_camvid(tmp_path: Path) -> None:
    masks, camvid = cvat_masks(tmp_path / "a"), cvat_camvid(tmp_path / "b")
    assert "labelmap.txt" in error_line(DataError, create_dataset, "voc", masks, "default")
    assert "label_colors.txt" in error_line(DataError, create_dataset, "camvid", camvid, "default")
    assert kind_of(masks) in ("cvat", "refused")
    assert kind_of(camvid) in ("cvat", "refused")


def test_labels_of_label_me_in_vocs_layout_are_never_voc(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    (root / "labelmap.txt").rename(root / "class_names.txt")
    assert "class_names.txt" in error_line(DataError, create_dataset, "voc", root, "default")
    assert kind_of(root) in ("labelme", "refused")


def test_vocs_own_label_map_changes_nothing(tmp_path: Path) -> None:
    root = cvat_masks(tmp_path)
    lines = [f"{n}:{r},{g},{b}::" for n, (r, g, b) in zip(VOC_CLASSES.names, VOC_CLASSES.colors, strict=True)]
    write(root / "labelmap.txt", "\n".join(lines) + "\nignored:224,224,192::\n")
    for i in range(8):
        save(root / "JPEGImages" / f"frame_{i:06d}.jpg", scene(i)[0])
        save(root / "SegmentationClass" / f"frame_{i:06d}.png", np.full(SIZE, 15, np.uint8))
    assert kind_of(root) == "voc"
    assert create_dataset("voc", root, "default").read(0)[1].max() == 15


# XML


def test_masks_in_xml(tmp_path: Path) -> None:
    root = cvat_xml_masks(tmp_path)
    assert recognise(root)["cvat"].seen == "annotations.xml is CVAT's XML"
    check_scenes(root)


POLYGON = '<polygon label="Box" occluded="0" points="2.00,3.00;8.00,3.00;8.00,9.00;2.00,9.00" z_order="{z}"/>'


def drawn(tmp_path: Path, *shapes: str) -> np.ndarray:
    """The mask of one image with these shapes, in the scenes' ids."""
    dataset = create_dataset("cvat", cvat_xml(tmp_path, ["".join(shapes)] * 2), "all")
    return own_ids(dataset, dataset.read(0)[1])


def area(rows: slice, columns: slice, label: int, mask: np.ndarray | None = None) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8) if mask is None else mask
    mask[rows, columns] = label
    return mask


def test_polygons_boxes_and_ellipses(tmp_path: Path) -> None:
    expected = area(slice(3, 9), slice(2, 8), 1)
    assert np.array_equal(drawn(tmp_path, POLYGON.format(z=0)), expected)
    box = '<box label="Disc" occluded="1" xtl="10.0" ytl="4.0" xbr="14.0" ybr="6.0" z_order="0">{}</box>'
    box = box.format('<attribute name="a">b</attribute>')
    assert np.array_equal(drawn(tmp_path, box), area(slice(4, 6), slice(10, 14), 2))
    on_its_side = box.replace("z_order", 'rotation="90.0" z_order')
    assert np.array_equal(drawn(tmp_path, on_its_side), area(slice(3, 7), slice(11, 13), 2))
    ellipse = '<ellipse label="Disc" cx="10.0" cy="8.0" rx="6.0" ry="3.0" rotation="{}" z_order="0"/>'
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    for angle, along, across in ((0, x - 10, y - 8), (90, y - 8, x - 10)):
        inside = (along / 6) ** 2 + (across / 3) ** 2 < 1
        assert np.array_equal(drawn(tmp_path, ellipse.format(angle)) == 2, inside)
    angle = np.radians(30)
    u = (x - 10) * np.cos(angle) + (y - 8) * np.sin(angle)
    v = (y - 8) * np.cos(angle) - (x - 10) * np.sin(angle)
    assert np.array_equal(drawn(tmp_path, ellipse.format(30)) == 2, (u / 6) ** 2 + (v / 3) ** 2 < 1)


def test_z_order_and_then_the_order_in_the_file_say_what_lies_on_top(tmp_path: Path) -> None:
    small = '<box label="Disc" xtl="4" ytl="5" xbr="6" ybr="7" z_order="{z}"/>'
    box = area(slice(3, 9), slice(2, 8), 1)
    both = area(slice(5, 7), slice(4, 6), 2, box.copy())
    assert np.array_equal(drawn(tmp_path, POLYGON.format(z=0), small.format(z=0)), both)
    assert np.array_equal(drawn(tmp_path, small.format(z=0), POLYGON.format(z=0)), box)
    assert np.array_equal(drawn(tmp_path, small.format(z=1), POLYGON.format(z=0)), both)
    assert np.array_equal(drawn(tmp_path, POLYGON.format(z=0), small.format(z=-1)), box)


def test_background_by_label_or_put_before(tmp_path: Path) -> None:
    dataset = create_dataset("cvat", cvat_xml(tmp_path / "a", [POLYGON.format(z=0)] * 2), "all")
    assert dataset.classes.names == ("background", "Box", "Disc")
    assert "what no shape covers is the class background" in dataset.notes[0]
    labels = ("Box", "Disc", "Background")
    dataset = create_dataset("cvat", cvat_xml(tmp_path / "b", [POLYGON.format(z=0)] * 2, labels), "all")
    assert dataset.classes.names == labels
    assert dataset.read(0)[1][0, 0] == 2


def test_images_without_shapes_and_things_without_area_are_said(tmp_path: Path) -> None:
    line = '<polyline label="Box" points="1,2;3,4"/><tag label="Disc"/>'
    dataset = create_dataset("cvat", cvat_xml(tmp_path, [POLYGON.format(z=0)] * 3 + [line, ""]), "all")
    assert len(dataset) == 3
    notes = " | ".join(dataset.notes)
    assert "2 images have no shapes and are left out" in notes
    assert "not read, as they have no area: 1 polyline, 1 tag" in notes


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ('<mask label="Box" rle="3, 5" left="1" top="1" width="4" height="3"/>', "do not make the 12 pixels"),
        ('<mask label="Box" rle="-3, 15" left="1" top="1" width="4" height="3"/>', "do not make the 12 pixels"),
        ('<mask label="Box" rle="x" left="1" top="1" width="4" height="3"/>', "are no numbers"),
        ('<mask label="Box" rle="1" left="1" top="1" width="100000" height="100000"/>', "over 2,147,483,648 pixels"),
        ('<mask label="Box" rle="1" left="0.5" top="1" width="1" height="1"/>', "left is '0.5'"),
        ('<polygon label="Box" points="1,2;3"/>', "no x,y"),
        ('<polygon label="Box" points="1,2;nan,4;5,6"/>', "a coordinate is 'nan'"),
        ('<box label="Box" xtl="1" ytl="1" xbr="2"/>', "ybr is 'None'"),
        ('<ellipse label="Box" cx="1" cy="1" rx="1e300" ry="1"/>', "radius"),
        ('<box label="Box" xtl="1" ytl="1" xbr="2" ybr="2" z_order="99999999999"/>', "z_order"),
    ],
)
def test_damaged_shapes(tmp_path: Path, shape: str, words: str) -> None:
    dataset = create_dataset("cvat", cvat_xml(tmp_path, [shape] * 2), "all")
    message = error_line(DataError, dataset.read, 0)
    assert words in message
    assert "the labels of 'frame_00000" in message


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'
READ = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("declaration", [BOMB, READ, '<!DOCTYPE a SYSTEM "http://localhost/a.dtd">'])
def test_xml_that_reads_or_grows_is_refused(tmp_path: Path, declaration: str) -> None:
    file = cvat_xml_masks(tmp_path) / "annotations.xml"
    head, _, rest = file.read_text().partition("\n")
    file.write_text(f"{head}\n{declaration}{rest}")
    assert "document type" in error_line(DataError, create_dataset, "cvat", tmp_path)


def test_xml_that_is_damaged_deep_or_of_a_video(tmp_path: Path) -> None:
    file = cvat_xml_masks(tmp_path) / "annotations.xml"
    whole = file.read_text()
    file.write_text(whole[:-40])
    assert "cannot be read as XML" in error_line(DataError, create_dataset, "cvat", tmp_path)
    file.write_text(whole.replace("<meta>", "<meta>" + "<a>" * 40 + "</a>" * 40))
    assert "nested more than 30 deep" in error_line(DataError, create_dataset, "cvat", tmp_path)
    file.write_text(whole.replace("</annotations>", '<track id="0" label="Box"></track></annotations>'))
    assert "CVAT for images" in error_line(DataError, create_dataset, "cvat", tmp_path)


def test_the_masks_of_cvats_manual(tmp_path: Path) -> None:
    """The example in CVAT's description of its XML format."""
    text = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"
    mask = decode_runs(text, (15, 13))
    assert mask[0].nonzero()[0].tolist() == [3, 4, 5, 6, 7]
    assert mask[7].all()
    assert (int(mask.sum()), mask[-1].nonzero()[0].tolist()) == (149, [5, 6, 7, 8, 9])
    assert cvat_mask("a", mask).count(text) == 1
