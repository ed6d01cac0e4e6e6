"""Any words on the command line: an exit code that is documented, one line on what is wrong, nothing half-written."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import bounded, check_line, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featherseg.cli.main import main
from featherseg.core.files import TEMPORARY
from featherseg.evaluation.opening import STREET

OPTIONS: dict[str, tuple[str, ...]] = {
    "predict": ("--out", "-o", "--size", "--threads", "--no-overlays", "--alpha", "--background", "--json"),
    "video": ("--out", "--size", "--threads", "--mode", "--smooth", "--limit", "--alpha", "--json"),
    "eval": ("--data", "--kind", "--split", "--size", "--scales", "--flip", "--thin", "--confusion", "--json"),
    "export": ("--to", "--precision", "--weights", "--fixed", "--unproven", "--out", "--data", "--kind", "--split"),
    "report": ("--out", "--scores", "--html", "--pictures"),
    "data": ("--json",),
    "train": ("--time", "--folds", "--resume", "--find-lr", "--quiet", "--json"),
    "quantize": ("--engine", "--max-drop", "--calibration", "--out", "--data", "--kind", "--split", "--threads"),
    "prune": ("--ratio", "--gmacs", "--params", "--latency", "--ranking", "--size", "--protect", "--out", "--json"),
    "soup": ("--greedy", "--out", "--data", "--kind", "--split", "--quiet", "--json"),
    "ship": ("--to", "--int8", "--prune", "--epochs", "--max-drop", "--out", "--data", "--kind", "--terms", "--golden"),
    "doctor": ("--kind", "--classes", "--html", "--fix", "--stride", "--json"),
    "web": ("--out", "-o", "--golden", "--runtime", "--title", "--threads", "--json"),
    "bench": ("--size", "--image", "--threads", "--runs", "--memory", "--json"),
}
"""Commands and their options. demo and models work for seconds without any words, so they are not called."""

CHEAP = ("predict", "video", "eval", "report", "data", "doctor")
"""Commands that may meet files that work; the others would train, export or measure for minutes."""

WORKING = (str(STREET), "photos", "photos/a.png", "labelled")
BROKEN = (
    *("", " ", "-", "--", "--nope", "none", "none.onnx", "none.pth", "empty", "text.onnx", "text.pth", "text.png"),
    *("text.toml", "text.mp4", "text.xml", "text.pt2", "text.engine", "run", "a\nb.onnx", "\u2028.png", "x" * 300),
    *("../../etc/passwd", "/dev/null", ".", "loop", "loop/a.png", "é.onnx", "\udcff.onnx", "\x1b[31m.onnx"),
    *("data.root=none", "seed=-1", "a=b", "=", "model.name=nope", "optim.lr=nan", "out=/proc/x", "data.root=empty"),
)
VALUES = (
    *("0", "-1", "1", "3", "1e400", "nan", "inf", "0.5", "99999999999999999999", "64x96", "0x0", "64x", "x", "--json"),
    *("onnx", "openvino", "tensorrt", "torch", "fp16", "int8", "folder", "voc", "camvid", "cityscapes", "synthetic"),
    *("train", "val", "all", "mask", "overlay", "a.png", "out.mp4", "out.gif", "o/p", "photos", "empty", "text.png"),
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with files that work and files that do not."""
    desk = tmp_path_factory.mktemp("desk")
    for name in ("photos", "empty", "run", "labelled/images", "labelled/masks"):
        (desk / name).mkdir(parents=True)
    for i in range(2):
        Image.fromarray(np.full((70, 90, 3), 40 * i, np.uint8)).save(desk / "photos" / f"{'ab'[i]}.png")
        Image.fromarray(np.full((70, 90, 3), 40 * i, np.uint8)).save(desk / "labelled" / "images" / f"{'ab'[i]}.png")
        Image.fromarray(np.full((70, 90), i, np.uint8)).save(desk / "labelled" / "masks" / f"{'ab'[i]}.png")
    for suffix in ("onnx", "pth", "png", "toml", "mp4", "xml", "pt2", "engine"):
        (desk / f"text.{suffix}").write_text("no such thing\n")
    (desk / "run" / "config.toml").write_text("name = 3\n")
    (desk / "loop").symlink_to("loop")
    before = Path.cwd()
    os.chdir(desk)
    yield desk
    os.chdir(before)


def called(words: list[str]) -> tuple[int, str, str]:
    """Return how the command line ended, in this process."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), bounded(60):
            main(words)
    except SystemExit as stop:
        code = stop.code
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
    return code, out.getvalue(), err.getvalue()


def check(desk: Path, words: list[str]) -> None:
    code, _, err = called(words)
    assert code in (0, 1, 2, 130), err
    errors = [line for line in err.split("\n") if line.startswith("error: ")]
    found = code == 1 and words[:1] == ["doctor"]  # something about the data, which is no error
    assert len(errors) == (code in (1, 2) and not found), err
    for line in errors:
        check_line(line)
        assert line.isprintable()
    assert "Traceback" not in err
    assert not list(desk.rglob(f"{TEMPORARY}*"))


words = st.one_of(
    st.sampled_from(BROKEN), st.sampled_from(BROKEN), st.text(max_size=12).filter(lambda t: "\0" not in t)
)


@st.composite
def lines(draw: st.DrawFn, commands: tuple[str, ...], files: tuple[str, ...]) -> list[str]:
    """Draw a command with some of its options and up to three names."""
    command = draw(st.sampled_from(commands))
    names = draw(st.lists(st.sampled_from(files) if draw(st.booleans()) else words, max_size=3))
    line = [command, *names]
    for option in draw(st.lists(st.sampled_from(OPTIONS[command]), max_size=3)):
        value = draw(st.one_of(st.none(), st.sampled_from(VALUES), words))
        line += [option] if value is None else [option, value]
    return draw(st.permutations(line[1:]).map(lambda rest: [command, *rest])) if draw(st.booleans()) else line


@fuzzed(120)
@given(line=lines(CHEAP, (*WORKING, *BROKEN)))
def test_commands_that_may_work(desk: Path, line: list[str]) -> None:
    check(desk, line)


@fuzzed(150)
@given(line=lines(tuple(set(OPTIONS) - set(CHEAP)), BROKEN))
def test_commands_that_are_refused(desk: Path, line: list[str]) -> None:
    check(desk, line)


@fuzzed(60)
@given(line=st.lists(st.text(max_size=8).filter(lambda t: "\0" not in t), min_size=1, max_size=4))
def test_no_command_at_all(desk: Path, line: list[str]) -> None:
    check(desk, line)


def test_what_is_said_of_control_characters_is_harmless(desk: Path) -> None:
    code, _, err = called(["predict", "\x1b[31mred\x07.onnx", "photos"])
    assert code == 2
    assert "\\x1b[31mred\\x07.onnx" in err
    assert err.count("\n") == 1


def test_names_that_no_encoding_has_are_printed(desk: Path) -> None:
    """File names are bytes; those that are no UTF-8 come as half characters, which streams refuse."""
    if sys.platform != "linux":
        pytest.skip("other systems have names of characters")
    photo = Path(os.fsdecode(b"\xff\xfe.png"))
    Image.new("RGB", (64, 64)).save(photo)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        main(["predict", str(photo), "--threads", "1", "-q", "-o", os.fsdecode(b"out\xff")])
    photo.unlink()
    streams[0].flush()
    assert b"masks in out\\udcff" in streams[0].buffer.getvalue()
