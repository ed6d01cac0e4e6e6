"""The page's own arithmetic against featherseg's, to the bit: the scripts run in Node, where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from artifact_fixtures import picture
from featherseg.core.plain_png import plain_png
from featherseg.core.types import MIN_SIZE, ClassSet, InputSpec
from featherseg.runtime.fitting import pieces, resized
from featherseg.runtime.postprocess import upsample_argmax
from featherseg.web.page import SITE

Js = Callable[..., list[NDArray[np.uint8]]]
SIZES = [
    ((97, 131), (60, 80)),
    ((96, 128), (48, 64)),  # OpenCV has a rule of its own for quarters
    ((96, 128), (32, 32)),
    ((96, 128), (96, 64)),
    ((99, 99), (33, 33)),
    ((100, 150), (200, 310)),
    ((50, 70), (64, 40)),
    ((500, 333), (512, 341)),
    ((360, 640), (288, 512)),
    ((40, 40), (40, 40)),
]
LOGITS = [(11, 45, 60, 360, 480), (3, 8, 9, 64, 72), (5, 13, 7, 100, 50), (2, 10, 10, 10, 10), (4, 30, 40, 17, 11)]


@pytest.fixture
def js(tmp_path: Path) -> Js:
    """Run a script that sees the page's modules and `given` arrays as bytes; it yields arrays of bytes."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node: apt-get install nodejs")
    shutil.copytree(SITE, tmp_path / "site")
    (tmp_path / "package.json").write_text('{"type": "module"}')

    def run(script: str, *given: NDArray[Any]) -> list[NDArray[np.uint8]]:
        for i, array in enumerate(given):
            (tmp_path / f"in{i}").write_bytes(np.ascontiguousarray(array).tobytes())
        (tmp_path / "run.js").write_text(
            "import fs from 'node:fs';\n"
            "import * as png from './site/png.js';\n"
            "import * as resize from './site/resize.js';\n"
            "import { upsampleArgmax } from './site/upsample.js';\n"
            "const bytes = (i) => new Uint8Array(fs.readFileSync(`in${i}`));\n"
            "const floats = (i) => new Float32Array(bytes(i).buffer);\n"
            f"const found = await (async () => {{ {script} }})();\n"
            "found.forEach((array, i) => fs.writeFileSync(`out${i}`, array));\n"
            "console.log(found.length);\n"
        )
        ended = subprocess.run([node, "run.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, ended.stderr
        return [np.frombuffer((tmp_path / f"out{i}").read_bytes(), np.uint8) for i in range(int(ended.stdout))]

    return run


def rgba(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


def test_resizing(js: Js) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*old, 3), np.uint8) for old, _ in SIZES] + [picture(*old) for old, _ in SIZES]
    calls = ", ".join(
        f"resize.resized(bytes({i}), {json.dumps(old)}, {json.dumps(new)})" for i, (old, new) in enumerate(SIZES * 2)
    )
    found = js(f"return [{calls}];", *map(rgba, images))
    for image, (old, new), out in zip(images, SIZES * 2, found, strict=True):
        np.testing.assert_array_equal(out.reshape(*new, 3), resized(image, new), f"{old} to {new}")


def test_masks(js: Js) -> None:
    rng = np.random.default_rng(1)
    cases: list[tuple[NDArray[np.float32], tuple[int, int], tuple[int, int]]] = []
    for classes, h, w, height, width in LOGITS:
        noise = rng.normal(size=(classes, h, w)).astype(np.float32)
        ties = np.round(2 * noise)  # the lowest id has to win
        holes = np.where(noise > 1.5, np.float32(np.inf), np.where(noise < -2, np.float32("nan"), noise))
        for logits in (noise, ties, holes):
            cases += [(logits, (height, width), (h, w)), (logits, (height, width), (max(h - 2, 1), w - 1))]
    calls = ", ".join(
        f"upsampleArgmax(floats({i}), {list(logits.shape)}, {list(size)}, {list(extent)})"
        for i, (logits, size, extent) in enumerate(cases)
    )
    found = js(f"return [{calls}];", *(logits for logits, _, _ in cases))
    for (logits, size, extent), mask in zip(cases, found, strict=True):
        expected = upsample_argmax(logits, size, extent=extent)
        np.testing.assert_array_equal(mask.reshape(size), expected, f"{logits.shape} to {size}, {extent}")


@pytest.mark.parametrize("long_side", [None, 100])
@pytest.mark.parametrize("fixed", [None, (96, 160), (48, 200)])
def test_what_the_network_gets(js: Js, long_side: int | None, fixed: tuple[int, int] | None) -> None:
    facts = {"size": fixed, "long_side": long_side, "smallest": MIN_SIZE}
    for frame in [(30, 41), (64, 64), (75, 50), (130, 97), (33, 300)]:
        image = picture(*frame)
        script = f"""
            const fit = resize.plan({json.dumps(facts)}, {json.dumps(frame)});
            const logits = fit.canvas.map((side) => Math.ceil(side / 8));
            const extent = resize.extent(fit, logits);
            return [resize.networkInput(bytes(0), fit), new Uint8Array(fit.canvas), new Uint8Array(extent)];
        """
        given, canvas, extent = js(script, rgba(image))
        natural = InputSpec(long_side=long_side).size(frame)
        (piece,) = pieces(
            frame, fixed, "stretch" if fixed else None, natural=natural, stride=8, color=(0, 0, 0), fixed=bool(fixed)
        )
        expected = piece.network_input([image])[0]
        assert tuple(canvas) == tuple(side % 256 for side in expected.shape[:2])
        np.testing.assert_array_equal(given.reshape(expected.shape), expected)
        assert tuple(extent) == piece.extent((-(-expected.shape[0] // 8), -(-expected.shape[1] // 8)))


def test_a_limit_keeps_the_shape_and_says_what_would_be_usual(js: Js) -> None:
    script = """
        const fit = resize.plan({ size: null, long_side: null, smallest: 64 }, [3024, 4032], 524288);
        return [new Uint8Array(new Uint32Array([...fit.content, ...fit.natural]).buffer)];
    """
    height, width, *natural = js(script)[0].view(np.uint32).tolist()
    assert natural == [3024, 4032]
    assert 0.99 * 524288 < height * width < 1.01 * 524288
    assert height / width == pytest.approx(3024 / 4032, rel=0.002)


def test_png_files(js: Js, tmp_path: Path) -> None:
    classes = ClassSet(("a", "b", "c"), ((1, 2, 3), (40, 50, 60), (255, 0, 9)))
    ids = np.random.default_rng(0).integers(0, 3, (17, 29), np.uint8)
    image = picture(17, 29)
    script = f"""
        const plain = async (i) => (await png.readPlainPng(bytes(i).buffer)).pixels;
        const file = await png.writeMask(bytes(2), [17, 29], {json.dumps(classes.colors)});
        return [await plain(0), await plain(1), new Uint8Array(await file.arrayBuffer())];
    """
    files = [np.frombuffer(content, np.uint8) for content in (plain_png(image), plain_png(ids, classes))]
    pixels, values, written = js(script, *files, ids)
    np.testing.assert_array_equal(pixels.reshape(image.shape), image)
    np.testing.assert_array_equal(values.reshape(ids.shape), ids)
    (tmp_path / "mask.png").write_bytes(written.tobytes())
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), ids)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), classes.palette()[ids])
