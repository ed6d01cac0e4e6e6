"""The page of a training: what its run folder holds is shown, what is not known is left out and said."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conftest import Ended, Trained
from featherseg.core.charts import Curve, curves, heat_map
from featherseg.core.errors import CheckpointError
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.shipping.report.run_figures import hard_images
from featherseg.shipping.run_report import report_run


class Page(HTMLParser):
    """Sections and addresses of a page; refuses scripts and whatever is closed wrongly."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["h2"]:
            self.sections.append(data)


@pytest.fixture
def finished(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.run, tmp_path / "my <run>"))


EVERYTHING = ["Figures", "Loss", "Scores by epoch", "Learning rate", "Scores by class", "Confusion matrix"]
EVERYTHING += ["Seeing it learn", "Worst pictures", "Settings", "Environment"]


def test_a_finished_run(run: Callable[..., Ended], finished: Path) -> None:
    ended = run("report", finished, "--html", "--pictures", "2", "-q")
    assert ended.code == 0
    text = (finished / "report.html").read_text()
    page = Page(text)
    assert page.sections == EVERYTHING
    assert all(address.startswith("data:image/") for address in page.addresses)
    result = json.loads((finished / "result.json").read_text())
    assert f"mIoU {100 * result['miou']:.1f} %" in text
    assert "finished after" in text
    for chart in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(chart)
    assert text.count("mIoU of this picture") == 2
    assert "&lt;run&gt;" in text
    again = run("report", finished, "--html", "--pictures", "0", "-q")  # its own page may be written again
    assert again.code == 0
    (finished / "report.html").write_text("mine")
    assert run("report", finished, "--html", "-q").refused("report.html exists")


def test_a_run_that_goes_on(finished: Path, tmp_path: Path) -> None:
    (finished / "result.json").unlink()
    log = (finished / "log.jsonl").read_text().splitlines()
    unscored = {key: value for key, value in json.loads(log[0]).items() if key not in ("miou", "iou", "pixel_accuracy")}
    (finished / "log.jsonl").write_text(json.dumps(unscored) + "\n" + log[1] + "\n")
    text = report_run(finished, tmp_path / "page.html", pictures=1).read_text()
    assert Page(text).sections == EVERYTHING  # the matrix is counted on the way
    assert re.search(r"not finished: 2 of \d+ epochs so far; best epoch 2", text)
    assert "featherseg train --resume" in text
    shutil.rmtree(finished / "progress")
    (finished / "log.jsonl").write_text(json.dumps(unscored) + "\n")
    text = report_run(finished, tmp_path / "page.html", pictures=0).read_text()
    assert Page(text).sections == ["Figures", "Loss", "Learning rate", "Settings", "Environment"]
    assert "none of them evaluated" in text
    assert "The confusion matrix is left out" in text


def test_without_network_or_data(finished: Path) -> None:
    (finished / "best.safetensors").unlink()
    (finished / "last.safetensors").unlink()
    text = report_run(finished).read_text()
    assert [name for name in EVERYTHING if name not in Page(text).sections] == ["Worst pictures"]
    assert "The worst pictures are left out: " in text


def test_scores_that_later_versions_write_are_shown(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    result |= {"recall_per_class": [0.123] * len(result["iou"]), "mean_recall": 0.123, "odd": [[1]], "note": "text"}
    (finished / "result.json").write_text(json.dumps(result))
    text = report_run(finished, pictures=0).read_text()
    assert ">recall</li>" in text.replace("</span> ", ">")
    assert "<th>mean recall</th>" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", '{"epochs": 3}'),
        ("result.json", "[1]"),
        ("classes.json", "{}"),
        ("log.jsonl", '{"epoch": 1}\n['),
    ],
)
def test_damage_is_one_line(finished: Path, name: str, content: str) -> None:
    (finished / name).write_text(content)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        report_run(finished, pictures=0)
    assert "\n" not in str(caught.value)
    assert not (finished / "report.html").exists()


def test_mistakes(run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
    assert run("report", tmp_path, "--html").refused("is no run folder")
    assert run("report", trained.run, trained.run, "--html", "-o", tmp_path / "x.html").refused(
        "one page holds one run"
    )
    assert run("report", trained.run, "--html", "--scores", tmp_path / "x").refused("leave out --scores")
    assert run("report", trained.run, "--html", "--pictures", "-1").refused("--pictures is -1")


def test_the_worst_pictures_by_their_own_score(street_folder: Path) -> None:
    dataset = create_dataset("folder", street_folder, "all")
    truth = {dataset.read(i)[0].tobytes(): (i, dataset.read(i)[1]) for i in range(len(dataset))}

    def segment(image: np.ndarray) -> np.ndarray:
        index, mask = truth[image.tobytes()]
        wrong = np.where(mask == 255, 0, mask)
        wrong[:, : 2 * ((index * 7) % 10)] = 0  # 0, 14, 8, 2, 16, 10, 4, 18, 12, 6 columns are sky
        return wrong.astype(np.uint8)

    hard, confusion = hard_images(dataset, segment, 3)
    assert len(hard) == 3
    scores = [image.miou for image in hard]
    assert scores == sorted(scores)
    everything, _ = hard_images(dataset, segment, 99)
    assert [image.name for image in everything[:3]] == [image.name for image in hard]
    assert everything[-1].miou == 1.0
    assert confusion.matrix.sum() == sum((mask != 255).sum() for _, mask in truth.values())
    assert list(hard[0].panels) == ["image", "truth", "prediction", "what is wrong"]
    assert set(hard[0].seen) <= set(ClassSet(("sky", "road", "car")).names)


def test_curves_and_heat_maps_are_where_their_figures_say() -> None:
    line = Curve("loss", ((1, 4.0), (2, float("nan")), (3, 2.0), (4, 1.0)), 1, marked=4)
    chart = ElementTree.fromstring(curves([line], "epoch", "loss", (1, 4)))
    dots = [dot for dot in chart.iter("circle") if dot.attrib["class"] == "c1"]
    x, y = ([float(dot.attrib[key]) for dot in dots] for key in ("cx", "cy"))
    assert (x[1] - x[0]) / (x[2] - x[1]) == pytest.approx(2, abs=0.01)
    assert (y[1] - y[0]) / (y[2] - y[1]) == pytest.approx(2, abs=0.02)
    assert [ring.attrib["cx"] for ring in chart.iter("circle") if "ring" in ring.attrib["class"]] == [f"{x[2]:.1f}"]
    across = [text.text for text in chart.iter("text") if text.attrib["y"] == "246.0"]
    assert across == ["1", "2", "3", "4"]  # no half epochs
    ElementTree.fromstring(curves([Curve("a", ((7, 0.5),), 1)], "epoch", "%", (7, 7)))

    names = ["sky", "<road>", "x" * 90]
    shares = [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [float("nan")] * 3]
    picture = ElementTree.fromstring(heat_map(names, shares, [[f"{a} {b}" for b in names] for a in names]))
    cells = [rect for rect in picture.iter("rect") if "fill-opacity" in rect.attrib]
    assert [cell.attrib["class"] for cell in cells] == ["c1", "c8", "c1"]
    opacity = [float(cell.attrib["fill-opacity"]) for cell in cells]
    assert opacity[0] > opacity[2] > opacity[1]
    assert len(list(ElementTree.fromstring(heat_map(["n"] * 200, [[0.005] * 200] * 200, [["t"] * 200] * 200)))) > 200
