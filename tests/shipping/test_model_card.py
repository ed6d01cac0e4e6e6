"""The model folder's card: how to run the file, on what terms, and no name that breaks a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from featherseg.core.types import ClassSet
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.shipping.card import model_card
from model_folders import shipped_street, street_report


def cells(line: str) -> list[str]:
    """Return a Markdown table row's cells; an escaped bar is no border."""
    return [cell.strip() for cell in line.replace("\\|", "\0").strip().strip("|").split("|")]


def test_the_card_says_what_it_is_and_how_to_run_it(dist: Path) -> None:
    card = (dist / "README.md").read_text(encoding="utf-8")
    for words in (
        "fastsegnet",
        "python run.py street.onnx photo.jpg mask.png",
        "python run.py --check",
        "sha256sum -c SHA256SUMS",
        "> For research only.",
        "camvid val, 101 images; original resolution, single scale",
        "| 3 | Road | `#804080` |",
        "255 in a mask is no class",
    ):
        assert words in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert {len(cells(line)) for line in rows[:4]} == {10}
    assert {len(cells(line)) for line in rows[4:]} == {5}
    assert sum(line.startswith("| `street.onnx` |") for line in rows) == 1


def test_odd_names_do_not_break_the_card() -> None:
    odd = ("a|b", "<script>x</script>", "`code` *star*", "two\nlines", "[link](http://example.com)")
    classes = ClassSet(odd)
    file = shipped_street(iou=dict.fromkeys(odd, 0.5))
    report = street_report(file, classes=classes, name="# x", fp32_iou=dict.fromkeys(odd, float("nan")))
    artifact = replace(read_artifact(STREET), classes=classes)
    card = model_card(artifact, report, "m.onnx", data="d", terms="1 < 2\n# not a heading")
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert len(rows) == 4 + 2 + len(odd)
    assert {len(cells(line)) for line in rows[-len(odd) :]} == {5}
    assert "<script" not in card.replace("\\<script", "")
    assert "two lines" in card
    assert "\\[link\\]" in card
    assert "> \\# not a heading" in card
    assert "Not measured, for they do not occur in the test data: a\\|b" in card
