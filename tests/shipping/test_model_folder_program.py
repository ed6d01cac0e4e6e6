"""The model folder's program: it runs without torch or featherseg, and notices whatever was changed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featherseg
from featherseg.core.images import read_ids
from featherseg.core.plain_png import plain_png
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from model_folders import CONTENT, digest, names, run_program

ROOT = Path(__file__).parents[2]


def test_the_check_passes_with_onnxruntime_and_numpy_alone(dist: Path) -> None:
    done = run_program(dist)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "street.onnx: 100.0000% of the golden mask's pixels\n"
    assert done.stderr == ""
    assert names(dist) == CONTENT  # it leaves nothing behind


def test_the_check_would_notice_another_import(dist_copy: Path) -> None:
    text = (dist_copy / "run.py").read_text().replace("import hashlib\n", "import hashlib\nimport torch\n")
    (dist_copy / "run.py").write_text(text)
    assert "torch was asked for" in run_program(dist_copy).stderr


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("golden_mask.png", 0.5),
        ("golden_mask.png", 0.99),
        ("street.onnx", 0.4),
        ("street.onnx", 0.9),
        ("labels.json", 0),
    ],
)
def test_one_changed_byte_anywhere_fails_the_check(dist_copy: Path, name: str, place: float) -> None:
    body = bytearray((dist_copy / name).read_bytes())
    body[int(place * len(body))] ^= 1
    (dist_copy / name).write_bytes(body)
    done = run_program(dist_copy)
    assert done.returncode == 1
    assert done.stderr == f"failed: {name} is not as it was shipped\n"


@pytest.mark.parametrize(("changed", "code"), [(0.0005, 0), (0.002, 1)])
def test_another_mask_fails_even_where_its_sum_is_right(dist_copy: Path, changed: float, code: int) -> None:
    ids = np.array(read_ids(dist_copy / "golden_mask.png"), np.uint8)
    ids.ravel()[: round(changed * ids.size)] = 9
    assert (ids != read_ids(dist_copy / "golden_mask.png")).mean() == pytest.approx(changed, rel=0.1)
    (dist_copy / "golden_mask.png").write_bytes(plain_png(ids, read_artifact(STREET).classes))
    sums = "".join(f"{digest(dist_copy / name)}  {name}\n" for name in sorted(CONTENT - {"SHA256SUMS"}))
    (dist_copy / "SHA256SUMS").write_text(sums)
    done = run_program(dist_copy)
    assert done.returncode == code
    assert f"{1 - round(changed * ids.size) / ids.size:.4%}" in done.stdout


def test_the_example_segments_images_of_ones_own(dist: Path, tmp_path: Path) -> None:
    image, _ = render_street(3, (240, 960))  # as the network wants it, so that nothing is resized
    Image.fromarray(image).save(tmp_path / "photo.png")
    arguments = [str(dist / "street.onnx"), str(tmp_path / "photo.png"), str(tmp_path / "mask.png")]
    command = [sys.executable, "-I", str(dist / "run.py"), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    expected = Segmenter(STREET, threads=1).segment(image)
    assert (read_ids(tmp_path / "mask.png") == expected).mean() > 0.9999
    with Image.open(tmp_path / "mask.png") as picture:
        color = picture.convert("RGB").getpixel((5, 5))
    assert color == read_artifact(STREET).classes.colors[expected[5, 5]]


def test_the_example_is_the_one_in_the_repository_and_short() -> None:
    text = (ROOT / "examples" / "onnxruntime_only.py").read_text(encoding="utf-8")
    packed = (Path(featherseg.__file__).parent / "shipping" / "onnxruntime_only.py.txt").read_text(encoding="utf-8")
    assert text == packed
    tree = ast.parse(text)
    body = [node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    first = min(node.lineno for node in body)
    code = [line for line in text.splitlines()[first - 1 :] if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 43
    roots = {node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)}
    assert roots <= {"hashlib", "json", "sys", "zlib", "onnxruntime", "numpy"}
