"""The page of a pick."""

from __future__ import annotations

import copy
from html.parser import HTMLParser
from typing import Any

import pytest

from featherseg.picking.page import render


def timing(p95: float) -> dict[str, Any]:
    stages = {"decode": 1.0, "pre": 0.5, "net": p95 - 3, "post": 0.5}
    return {"p50": p95 - 1, "p95": p95, "stages": stages, "runs": 42, "drift": 0.02, "device": "here"}


def row(net: str, p95: float | None, verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "key": f"{net}/fp32/onnxruntime/own",
        "name": f"{net} at full size, fp32 onnxruntime",
        "net": net,
        "net_name": f"{net} at full size",
        "size": [96, 128],
        "timing": timing(p95) if p95 else None,
        "predicted_ms": None,
        "reason": "",
        "verdict": verdict,
    } | more


def judged(net: str, p95: float, miou: float) -> dict[str, Any]:
    return {
        "candidate": f"{net}/fp32/onnxruntime/own",
        "name": f"{net} at full size, fp32 onnxruntime",
        "net": net,
        "precision": "fp32",
        "miou": miou,
        "boundary_f1": 0.5,
        "timing": timing(p95),
        "peak_bytes": None,
        "bytes": 1_500_000,
        "failure": "",
    }


@pytest.fixture
def report() -> dict[str, Any]:
    rung = {"miou": 0.5, "epochs": 3, "seconds": 40.0, "rung": 0, "teacher": ""}
    gone = {"rung": 0, "why": "mIoU 30.0 % after rung 1; the 2 that went on had 50.0 % or more", "when": "2026"}
    return {
        "state": "complete",
        "question": {"limit_ms": 33.3, "budget": 3600.0, "networks": [], "scales": [1.0, 0.5], "seed": 0},
        "limit": "33.3 ms (30 pictures per second)",
        "seconds": 3500.0,
        "created": "2026-11-28",
        "data": {"root": "photos <b>", "images": 8, "val_images": 2, "classes": ["sky", "road"], "size": [96, 128]},
        "device": "this machine",
        "machine": {"processor": "a processor", "threads": 2, "load": 0.1, "versions": {"torch": "2"}},
        "no_engine": {"tensorrt": "no NVIDIA driver"},
        "candidates": [
            row("good", 20.0, "in time"),
            row("quick", 8.0, "in time"),
            row("gone", 15.0, "in time"),
            row("slow", 90.0, "too slow"),
            row("snail", None, "predicted", predicted_ms=900.0, reason="predicted 900 ms; too slow even if"),
            row("odd", None, "not timed", reason="it cannot be exported"),
        ],
        "trained": [
            {"net": "good", "name": "good at full size", "start": "random weights", "rungs": [rung], "dropped": None},
            {
                "net": "gone",
                "name": "gone at full size",
                "start": "ImageNet's weights",
                "rungs": [rung],
                "dropped": gone,
            },
        ],
        "left_out": {"quick": "not trained: in the time there is, 2 of 3 networks can be"},
        "judged": [judged("good", 21.0, 0.6)],
        "choice": {
            "pick": "good/fp32/onnxruntime/own",
            "name": "good at full size, fp32 onnxruntime",
            "runner_up": None,
            "ties": [],
            "reasons": ["It has the best masks.", "The next is worse."],
        },
        "notes": ["not steady: 8 of 13 candidates of a group drifted by up to -89%"],
    }


class Checked(HTMLParser):
    """Fails at a tag that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> str:
    parser = Checked()
    parser.feed(page)
    assert parser.open == []
    return page


def test_all_of_it_is_on_the_page(report: dict[str, Any]) -> None:
    page = checked(render(report, [("street 7", {"picture": "data:,", "truth": "data:,"})]))
    for words in (
        "✓ good at full size, fp32 onnxruntime",
        "It has the best masks. The next is worse.",
        "budget 33.3 ms",
        "predicted 900 ms",
        "it cannot be exported",
        "no NVIDIA driver",
        "2 of 3 networks can be",
        "mIoU 30.0 % after rung 1",
        "not steady: 8 of 13",
        "4 candidates timed, 3 of them in time",
        "street 7",
        "1 more are further to the right",
        "58 min of 1 h 0 min",
    ):
        assert words in page, words
    assert "photos <b>" not in page


def test_what_was_not_measured_is_a_dash(report: dict[str, Any]) -> None:
    (file,) = report["judged"]
    file |= {"timing": None, "miou": None, "boundary_f1": None, "failure": "no engine here"}
    page = checked(render(report))
    assert "✗ no engine here" in page
    assert '<td class="n">–</td>' in page


def test_ties_are_called_so(report: dict[str, Any]) -> None:
    report["judged"].append(judged("gone", 20.0, 0.599))
    report["choice"]["ties"] = [each["candidate"] for each in report["judged"]]
    page = checked(render(report))
    assert "(a tie with 1 more)" in page
    assert ">a tie<" in page


def test_what_is_not_known_yet_is_left_out(report: dict[str, Any]) -> None:
    bare = copy.deepcopy(report)
    bare |= {"state": "interrupted", "judged": [], "trained": [], "candidates": [], "left_out": {}, "no_engine": {}}
    bare["choice"] = {"pick": None, "name": None, "runner_up": None, "ties": [], "reasons": []}
    page = checked(render(bare))
    assert "! no pick" in page
    assert "interrupted: this is what was known then" in page
    assert "What was trained" not in page
    bare["trained"] = report["trained"]
    bare["candidates"] = report["candidates"]
    assert "What was trained" in checked(render(bare))
