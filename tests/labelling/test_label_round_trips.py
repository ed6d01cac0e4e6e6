"""What label writes for other programs is read back pixel for pixel, by featherseg and by those programs' libraries."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from conftest import Trained
from featherseg.core.images import read_ids, write_image, write_mask
from featherseg.data.datasets import create_dataset
from featherseg.data.readers.synthetic import STREET_CLASSES, render_street
from featherseg.labelling.label import label
from featherseg.runtime.predict import find_images
from featherseg.runtime.segmenter import Segmenter
from other_pythons import ask

PROGRAMS = ("cvat", "labelstudio", "coco")


@pytest.fixture(scope="module", params=[False, True], ids=["bitmaps", "polygons"])
def written(
    request: pytest.FixtureRequest, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, dict[str, np.ndarray]]:
    """Images, the folder that label wrote, and its masks by the images' names; one of them is a person's."""
    root = tmp_path_factory.mktemp("labelled")
    images, out = root / "images", root / "out"
    for i in range(3):
        write_image(images / ("a" if i else "b") / f"f{i}.png", render_street(i, (64, 96))[0])
    mine = render_street(0, (64, 96))[1]
    mine[:7, 5:] = 255
    write_mask(out / "masks" / "b" / "f0.png", mine, STREET_CLASSES)
    found = find_images([images])
    result = label(Segmenter(trained.file), found, out, threshold=0.8, to=PROGRAMS, polygons=request.param)
    assert len(result.notes) == 3
    table = {each.name: read_ids(each.mask) for each in (*result.order, *result.kept)}
    assert all(255 in mask for mask in table.values())
    return images, out, table


def test_featherseg_reads_all_of_them(written: tuple[Path, Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    images, out, expected = written
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    for program in ("labelstudio", "coco"):
        (tmp_path / program).mkdir()
        (tmp_path / program / "export.json").write_bytes((out / f"{program}.json").read_bytes())
    (tmp_path / "coco" / "images").symlink_to(images)
    opened = {
        "cvat": create_dataset("cvat", tmp_path / "cvat", "all", images=str(images)),
        "labelstudio": create_dataset(
            "labelstudio", tmp_path / "labelstudio", "all", images=str(images), predictions=True
        ),
        "coco": create_dataset("coco", tmp_path / "coco", "all", background=False),
    }
    for program, dataset in opened.items():
        names = [name for name in dataset.classes.names if name != "background"]
        assert set(names) <= set(STREET_CLASSES.names), program
        table = np.full(256, 255, np.uint8)
        for i, name in enumerate(dataset.classes.names):
            table[i] = STREET_CLASSES.names.index(name) if name in STREET_CLASSES.names else 254
        found = {dataset.stem(i): table[dataset.read(i)[1]] for i in range(len(dataset))}
        assert set(found) == {Path(name).stem for name in expected}, program
        for name, mask in expected.items():
            np.testing.assert_array_equal(found[Path(name).stem], mask, err_msg=f"{program}: {name}")


def test_predictions_are_no_labels_unless_they_are_asked_for(
    written: tuple[Path, Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    images, out, _ = written
    (tmp_path / "export.json").write_bytes((out / "labelstudio.json").read_bytes())
    dataset = create_dataset("labelstudio", tmp_path, "all", images=str(images))
    assert [dataset.stem(i) for i in range(len(dataset))] == ["f0"]  # the person's
    tasks = json.loads((out / "labelstudio.json").read_text())
    assert [task["data"]["image"].rpartition("/")[2] for task in tasks if "annotations" in task] == ["f0.png"]
    guesses = [task["predictions"][0] for task in tasks if "predictions" in task]
    assert all(0 < guess["score"] < 1 and guess["model_version"] == "featherseg" for guess in guesses)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # pycocotools makes arrays as NumPy 1 did
def test_pycocotools_reads_the_same_pixels(written: tuple[Path, Path, dict[str, np.ndarray]]) -> None:
    _, out, expected = written
    coco = COCO(out / "coco.json")
    ids = {c["id"]: STREET_CLASSES.names.index(c["name"]) for c in coco.loadCats(coco.getCatIds())}
    polygons = 0
    for image in coco.loadImgs(coco.getImgIds()):
        mask = np.full((image["height"], image["width"]), 254, np.uint8)
        for each in coco.loadAnns(coco.getAnnIds(image["id"])):
            polygons += isinstance(each["segmentation"], list)
            mask[coco.annToMask(each) > 0] = 255 if each["iscrowd"] else ids[each["category_id"]]
        same = (mask == expected[image["file_name"]]).mean()
        assert same == 1.0 if not polygons else same > 0.97  # their rasters of outlines are their own


LABEL_STUDIO = """
import json, sys
import numpy as np
from label_studio_sdk.converter.brush import decode_rle
tasks = json.load(open(sys.argv[1]))
masks = {}
for task in tasks:
    for result in (task.get("annotations") or task["predictions"])[0]["result"]:
        size = result["original_height"], result["original_width"], 4
        alpha = np.reshape(decode_rle(result["value"]["rle"]), size)[..., 3]
        name = task["data"]["image"].partition("images/")[2]
        masks.setdefault(name, {})[result["value"]["brushlabels"][0]] = (alpha > 0).astype(int).tolist()
print(json.dumps(masks))
"""


def test_label_studios_own_library_reads_the_same_strokes(
    written: tuple[Path, Path, dict[str, np.ndarray]],
) -> None:
    _, out, expected = written
    if "PolygonLabels" in (out / "labelstudio.xml").read_text():
        pytest.skip("polygons are percent of the picture; there is nothing to decode")
    found = ask("label_studio_sdk", LABEL_STUDIO, out / "labelstudio.json")
    assert set(found) == set(expected)
    for name, strokes in found.items():
        mask = np.full(expected[name].shape, 254, np.uint8)
        for label_name, inside in strokes.items():
            value = 255 if label_name == "__ignore__" else STREET_CLASSES.names.index(label_name)
            mask[np.asarray(inside, bool)] = value
        np.testing.assert_array_equal(mask, expected[name])


DATUMARO = """
import json, sys
import numpy as np
from datumaro.components.dataset import Dataset
dataset = Dataset.import_from(sys.argv[1], "voc_segmentation")
names = [label.name for label in dataset.categories()[next(iter(dataset.categories()))]]
masks = {}
for item in dataset:
    for each in item.annotations:
        if hasattr(each, "image"):
            masks.setdefault(item.id, {})[names[each.label]] = np.asarray(each.image).astype(int).tolist()
print(json.dumps(masks))
"""


def test_datumaro_which_cvat_reads_with_sees_the_same_masks(
    written: tuple[Path, Path, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    _, out, expected = written
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        archive.extractall(tmp_path)
    found = ask("datumaro", DATUMARO, tmp_path)
    assert set(found) == {str(Path(name).with_suffix("")) for name in expected}
    for name, labels in found.items():
        mask = np.full(expected[f"{name}.png"].shape, 254, np.uint8)
        for label_name, inside in labels.items():
            value = 255 if label_name == "ignored" else STREET_CLASSES.names.index(label_name)
            mask[np.asarray(inside, bool)] = value
        np.testing.assert_array_equal(mask, expected[f"{name}.png"])
