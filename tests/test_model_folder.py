"""The model folder: whole or not there, checkable with sha256sum, and run without torch or featherseg."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import featherseg
from featherseg import model_folder
from featherseg.data.synthetic import render_street
from featherseg.errors import ArtifactError, ConfigError, FeathersegError, VerificationError
from featherseg.images import read_ids, read_image
from featherseg.model_card import model_card
from featherseg.model_folder import plain_png, write_model_folder
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.ship_report import ShippedFile, ShipReport, Step, read_report
from featherseg.types import ClassSet

ROOT = Path(__file__).parents[1]
STREET = Path(featherseg.__file__).parent / "pretrained" / "street.onnx"
SIZE = (97, 131)
"""Of the golden image: odd, so that rows and columns end between logits."""
CONTENT = {
    "README.md",
    "SHA256SUMS",
    "golden.png",
    "golden_mask.png",
    "labels.json",
    "report.html",
    "report.json",
    "run.py",
    "street.onnx",
}
# Nothing but onnxruntime, numpy and the standard library can be imported.
ALONE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "featherseg", "PIL", "cv2", "numba", "onnx", "torchvision"}:
            raise ImportError(f"{name} was asked for")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped(path: Path = STREET, **changes: Any) -> ShippedFile:
    iou = dict.fromkeys(read_artifact(STREET).classes.names, 0.7)
    size = path.stat().st_size
    file = ShippedFile(path.name, "onnx", "f32", size, digest(path), "a CPU", 0.75, 0.7, iou, 1.0, 1e-6)
    return replace(file, **changes)


def shipping(*files: ShippedFile, **changes: Any) -> ShipReport:
    options: dict[str, Any] = {
        "name": "streets",
        "created": "2026-01-01",
        "classes": read_artifact(STREET).classes,
        "protocol": "original resolution, single scale",
        "dataset": "camvid val",
        "images": 101,
        "hardware": {"cpu": "a CPU"},
        "steps": (Step("float", "baseline", 0.75, 0.7, 2_300_000, 1.56, 9_200_000, 90.0),),
        "files": files or (shipped(),),
    }
    return ShipReport(**options | changes)


def write(folder: Path, files: list[Path] | None = None, report: ShipReport | None = None, **changes: Any) -> Path:
    options = {"data": "CamVid train", "terms": "For research only.", "threads": 1} | changes
    golden = options.pop("golden", render_street(7, SIZE)[0])
    artifact = options.pop("artifact", read_artifact(STREET))
    return write_model_folder(folder, artifact, files or [STREET], report or shipping(), golden, **options)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a folder's program with an isolated Python from elsewhere, with nothing of ours to import."""
    command = [sys.executable, "-I", "-c", ALONE, str(folder / "run.py"), *(arguments or ("--check",))]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; only to be read."""
    return write(tmp_path_factory.mktemp("made") / "dist")


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "dist"))


def test_the_folder_holds_what_it_should_and_nothing_else(made: Path) -> None:
    assert names(made) == CONTENT
    assert names(made.parent) == {"dist"}
    assert (made / "street.onnx").read_bytes() == STREET.read_bytes()
    assert read_report(made).name == "streets"
    labels = json.loads((made / "labels.json").read_text())
    assert labels.pop("model") == "street.onnx"
    assert ClassSet.from_dict(labels) == read_artifact(STREET).classes
    assert made.stat().st_mode & 0o777 == 0o777 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_sums_are_those_of_all_files_and_sha256sum_reads_them(copy: Path) -> None:
    lines = [line.split("  ") for line in (copy / "SHA256SUMS").read_text().splitlines()]
    assert {name: sum_ for sum_, name in lines} == {name: digest(copy / name) for name in CONTENT - {"SHA256SUMS"}}
    if shutil.which("sha256sum") is None:
        pytest.skip("needs the program sha256sum")
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 0
    (copy / "labels.json").write_text("{}")
    assert subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 1


def test_golden_mask_is_the_deployed_paths(made: Path) -> None:
    image = read_image(made / "golden.png")
    np.testing.assert_array_equal(image, render_street(7, SIZE)[0])
    ids = read_ids(made / "golden_mask.png")
    np.testing.assert_array_equal(ids, Segmenter(STREET, threads=1).segment(image))
    assert len(np.unique(ids)) > 3
    with Image.open(made / "golden_mask.png") as picture:
        colors = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colors, read_artifact(STREET).classes.palette()[ids])


def test_the_check_passes_with_onnxruntime_and_numpy_alone(made: Path) -> None:
    done = run(made)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "street.onnx: 100.0000% of the golden mask's pixels\n"
    assert done.stderr == ""
    assert names(made) == CONTENT  # it leaves nothing behind


def test_the_check_would_notice_another_import(copy: Path) -> None:
    with (copy / "run.py").open("a") as file:
        file.write("import torch\n")
    text = (copy / "run.py").read_text().replace("import hashlib\n", "import hashlib\nimport torch\n")
    (copy / "run.py").write_text(text)
    assert "torch was asked for" in run(copy).stderr


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
def test_one_changed_byte_anywhere_fails_the_check(copy: Path, name: str, place: float) -> None:
    body = bytearray((copy / name).read_bytes())
    body[int(place * len(body))] ^= 1
    (copy / name).write_bytes(body)
    done = run(copy)
    assert done.returncode == 1
    assert done.stderr == f"failed: {name} is not as it was shipped\n"


@pytest.mark.parametrize(("changed", "code"), [(0.0005, 0), (0.002, 1)])
def test_another_mask_fails_even_where_its_sum_is_right(copy: Path, changed: float, code: int) -> None:
    ids = np.array(read_ids(copy / "golden_mask.png"), np.uint8)
    ids.ravel()[: round(changed * ids.size)] = 9
    assert (ids != read_ids(copy / "golden_mask.png")).mean() == pytest.approx(changed, rel=0.1)
    (copy / "golden_mask.png").write_bytes(plain_png(ids, read_artifact(STREET).classes))
    sums = "".join(f"{digest(copy / name)}  {name}\n" for name in sorted(CONTENT - {"SHA256SUMS"}))
    (copy / "SHA256SUMS").write_text(sums)
    done = run(copy)
    assert done.returncode == code
    assert f"{1 - round(changed * ids.size) / ids.size:.4%}" in done.stdout


def test_the_example_segments_images_of_ones_own(made: Path, tmp_path: Path) -> None:
    image, _ = render_street(3, (120, 200))
    Image.fromarray(image).save(tmp_path / "photo.png")
    arguments = [str(made / "street.onnx"), str(tmp_path / "photo.png"), str(tmp_path / "mask.png")]
    command = [sys.executable, "-I", str(made / "run.py"), *arguments]
    subprocess.run(command, check=True, capture_output=True)
    expected = Segmenter(STREET, threads=1).segment(image)
    assert (read_ids(tmp_path / "mask.png") == expected).mean() > 0.9999
    with Image.open(tmp_path / "mask.png") as picture:
        color = picture.convert("RGB").getpixel((5, 5))
    assert color == read_artifact(STREET).classes.colors[expected[5, 5]]


def test_the_example_is_the_one_in_the_repository_and_short() -> None:
    text = (ROOT / "examples" / "onnxruntime_only.py").read_text(encoding="utf-8")
    packed = Path(featherseg.__file__).with_name("onnxruntime_only.py.txt").read_text(encoding="utf-8")
    assert text == packed
    tree = ast.parse(text)
    body = [node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    first = min(node.lineno for node in body)
    code = [line for line in text.splitlines()[first - 1 :] if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 31
    roots = {node.names[0].name for node in ast.walk(tree) if isinstance(node, ast.Import)}
    assert roots <= {"hashlib", "json", "sys", "zlib", "onnxruntime", "numpy"}


def test_pngs_are_as_png_says() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3), (64, 65, 3), (300, 200, 3)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        np.testing.assert_array_equal(open_png(plain_png(pixels)), pixels)
    ids = rng.integers(0, 3, (70, 64)).astype(np.uint8)
    np.testing.assert_array_equal(open_png(plain_png(ids, ClassSet(("a", "b", "c")))), ids)


def open_png(body: bytes) -> np.ndarray:
    with Image.open(BytesIO(body)) as picture:
        return np.array(picture)


def test_a_folder_of_ours_is_replaced_as_a_whole(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    shutil.copy(STREET, other)
    (copy / "__pycache__").mkdir()
    write(copy, [other], shipping(shipped(other)))
    assert names(copy) == CONTENT - {"street.onnx"} | {"other.onnx"}
    assert names(tmp_path) == {"dist", "other.onnx"}
    assert run(copy).returncode == 0


def test_an_empty_folder_is_filled_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == CONTENT


def spoil_report(folder: Path) -> None:
    (folder / "report.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "thesis.txt").write_text("mine"),
            "holds 'thesis.txt', which featherseg did not write",
        ),
        (lambda folder: (folder / "report.json").unlink(), "no whole model folder"),
        (spoil_report, "no whole model folder"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "no whole model folder"),
        (lambda folder: (folder / "SHA256SUMS").write_text("x\n"), "no whole model folder"),
    ],
)
def test_what_is_not_ours_stays(copy: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(copy)
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(ConfigError, match=message) as caught:
        write(copy)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert names(copy.parent) == {"dist"}


def test_foreign_folders_and_files_stay(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigError, match="no whole model folder"):
        write(tmp_path / "photos")
    with pytest.raises(ConfigError, match="is a file"):
        write(tmp_path / "file")
    assert names(tmp_path) == {"photos", "file"}
    assert names(tmp_path / "photos") == {"a.jpg"}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("broken", ["write_report", "plain_png", "_swap"])
def test_a_failure_halfway_leaves_everything_as_it_was(
    copy: Path, monkeypatch: pytest.MonkeyPatch, broken: str, there: bool
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_folder, broken, fail)
    folder = copy if there else copy.parent / "new"
    with pytest.raises(OSError, match="No space"):
        write(folder)
    assert names(copy.parent) == {"dist"}
    assert names(copy) == CONTENT


def test_the_old_folder_comes_back_where_the_new_one_cannot_be_renamed(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="busy"):
        write(copy)
    assert names(copy.parent) == {"dist"}
    assert run(copy).returncode == 0


def copied(folder: Path, name: str) -> Path:
    return Path(shutil.copy(STREET, folder / name))


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (
            lambda _: {"files": [Path("gone.onnx")], "report": shipping(shipped(name="gone.onnx"))},
            ArtifactError,
            "exist",
        ),
        (
            lambda _: {"report": shipping(shipped(), shipped(name="b.onnx"))},
            ArtifactError,
            "b.onnx has passed, but",
        ),
        (lambda _: {"report": shipping(shipped(sha256="0" * 64))}, ArtifactError, "its SHA-256 differs"),
        (
            lambda _: {"report": shipping(shipped(passed=False, failures=("mIoU fell",)))},
            VerificationError,
            "street.onnx failed: mIoU fell",
        ),
        (lambda tmp: {"files": [STREET, copied(tmp, "a b.onnx")]}, ConfigError, "'a b.onnx' would need quoting"),
        (lambda tmp: {"files": [STREET, copied(tmp, "run.py")]}, ConfigError, "'run.py' has a name"),
        (lambda tmp: {"files": [STREET, copied(tmp, "street.onnx")]}, ConfigError, "2 files have 1 different names"),
        (
            lambda _: {"main": "model.onnx"},
            ConfigError,
            "main file is 'model.onnx'; give one of the ONNX files: street",
        ),
        (
            lambda tmp: {"files": [copied(tmp, "a.xml")], "report": shipping(shipped(name="a.xml"))},
            ConfigError,
            "there is none",
        ),
        (lambda _: {"golden": np.zeros((64, 64), np.uint8)}, ConfigError, "golden image is uint8"),
        (lambda _: {"golden": np.zeros((63, 99, 3), np.uint8)}, ConfigError, "at least 64"),
        (lambda _: {"terms": " "}, ConfigError, "data or terms is empty"),
        (
            lambda _: {"report": shipping(shipped(iou={}), classes=ClassSet(("a",)))},
            ConfigError,
            "1 classes that are not the file's",
        ),
        (
            lambda _: {
                "artifact": replace(read_artifact(STREET), classes=ClassSet(("a",))),
                "report": shipping(shipped(iou={}), classes=ClassSet(("a",))),
            },
            ArtifactError,
            "other classes",
        ),
    ],
)
def test_folders_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, prepare: Callable[[Path], dict[str, Any]], error: type[FeathersegError], message: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with pytest.raises(error) as caught:
        write(tmp_path / "out" / "dist", **prepare(tmp_path / "in"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path / "out") == set()


def test_failed_files_are_in_the_report_and_not_in_the_folder(tmp_path: Path) -> None:
    failed = shipped(name="int8.onnx", passed=False, failures=("mIoU fell",))
    write(tmp_path / "dist", report=shipping(shipped(), failed))
    assert names(tmp_path / "dist") == CONTENT
    assert "failed, not in this folder: mIoU fell" in (tmp_path / "dist" / "README.md").read_text()


def cells(line: str) -> list[str]:
    """Return a Markdown table row's cells; an escaped bar is no border."""
    return [cell.strip() for cell in line.replace("\\|", "\0").strip().strip("|").split("|")]


def test_the_card_says_what_it_is_and_how_to_run_it(made: Path) -> None:
    card = (made / "README.md").read_text(encoding="utf-8")
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
    file = shipped(iou=dict.fromkeys(odd, 0.5))
    report = shipping(file, classes=classes, name="# x", float_iou=dict.fromkeys(odd, float("nan")))
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
