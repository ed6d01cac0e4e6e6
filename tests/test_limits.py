"""What file systems, names, sizes and clocks can be: work, or one line, and nothing half-written."""

from __future__ import annotations

import ast
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import featherseg
from conftest import TINY, Ended, mounted_disk, street
from featherseg.data import create_dataset
from featherseg.data.datasets import FileDataset
from featherseg.errors import DataError, FeathersegError
from featherseg.evaluation import score
from featherseg.images import TEMPORARY, list_images, read_ids, read_image, write_atomically, write_image
from featherseg.inference import STREET, find_images, predict
from featherseg.lock import folder_lock
from featherseg.progress import counting
from featherseg.report import write_results
from featherseg.run import read_log
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.types import ClassSet, InputSpec

linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts, limits and names as on Linux")


class Stub:
    """A session that says sky over road, whatever it sees."""

    name, device = "stub", "nowhere"
    artifact = Artifact(ClassSet(("sky", "road", "car")), InputSpec(), 8, "stub", 1)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch, height, width, _ = images.shape
        logits = np.zeros((batch, 3, -(-height // 8), -(-width // 8)), np.float32)
        logits[:, 0, : logits.shape[2] // 2] = 1
        logits[:, 1, logits.shape[2] // 2 :] = 1
        return logits


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter(Stub())


def picture(path: Path, size: tuple[int, int] = (9, 7)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 20, 30)).save(path, format="PNG")
    return path


def litter(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY}*"))


NAMES = (
    "with space",
    "two\nlines",
    "tab\t",
    "ümläut-車-🚗",
    "[bold]rich[/bold]",
    ":smile:",
    "a'b\"c`d$e",
    "-o",
    "x" * 245,
    "車" * 80,  # 240 bytes
    "a.b.c",
    "\x1b[31mred",
    "e\u0301",
)


class TestNames:
    @linux
    @pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
    def test_any_name_is_segmented(self, tmp_path: Path, segmenter: Segmenter, name: str) -> None:
        photo = picture(tmp_path / "photos" / f"{name}.png")
        result = predict(segmenter, find_images([photo.parent]), tmp_path / "out")
        assert [path.name for path in result.masks] == [photo.name]
        assert read_ids(result.masks[0]).shape == (7, 9)
        assert not litter(tmp_path)

    @linux
    def test_any_name_is_a_sample(self, tmp_path: Path) -> None:
        names = set(NAMES) - {"[bold]rich[/bold]"}  # a folder of its own
        (tmp_path / "masks").mkdir()
        for name in names:
            picture(tmp_path / "images" / f"{name}.png")
            Image.new("L", (9, 7)).save(tmp_path / "masks" / f"{name}.png")
        dataset = create_dataset("folder", tmp_path, "all")
        assert {dataset.stem(i) for i in range(len(dataset))} == names
        assert dataset.read(3)[1].shape == (7, 9)

    @linux
    @pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", ":smile: [bold]"])
    def test_what_is_said_of_one_is_a_line(self, run: Callable[..., Ended], tmp_path: Path, name: str) -> None:
        broken = tmp_path / f"{name}.png"
        broken.write_text("no picture")
        assert run("predict", broken, "-q", "-o", tmp_path / "out").refused("cannot be read as an image")
        assert run("predict", tmp_path / f"no {name}.png").refused("does not exist")

    @pytest.mark.parametrize("length", [300, 10_000])
    def test_names_longer_than_names_can_be(self, run: Callable[..., Ended], tmp_path: Path, length: int) -> None:
        name = "x" * length
        for words in (
            ("predict", f"{name}.png"),
            ("eval", f"{name}.onnx"),
            ("train", f"{name}.toml"),
            ("report", name),
        ):
            assert run(*words).refused()
        assert run("train", *TINY, "-q", f"name={name}", f"out={tmp_path}").refused("name")
        with pytest.raises(FeathersegError, match="too long"):
            featherseg.load_checkpoint(name)
        with pytest.raises(FeathersegError, match="too long"):
            featherseg.load_config(name)

    def test_many_files_of_one_name_at_once_do_not_meet(self, tmp_path: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        path = tmp_path / ("y" * 250)

        def write(number: int) -> None:
            write_atomically(path, lambda file: file.write(bytes([number]) * 10_000))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(40)))
        assert len(set(path.read_bytes())) == 1
        assert list(tmp_path.iterdir()) == [path]


class TestOddFiles:
    @linux
    def test_links_that_lead_nowhere_and_pipes_are_no_pictures(self, tmp_path: Path) -> None:
        """A pipe would be waited for for ever."""
        picture(tmp_path / "a.png")
        (tmp_path / "loop.png").symlink_to("loop.png")
        (tmp_path / "gone.png").symlink_to("nothing.png")
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "folder.png").mkdir()
        assert [path.name for path in list_images(tmp_path)] == ["a.png"]
        for name in ("loop.png", "gone.png", "pipe.png"):
            with pytest.raises(DataError):
                find_images([tmp_path / name])

    @linux
    def test_a_folder_that_holds_itself(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        (tmp_path / "a").symlink_to("a")
        for words in (("predict", tmp_path / "a"), ("eval", tmp_path / "a"), ("train", f"data.root={tmp_path / 'a'}")):
            assert run(*words).refused()

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (63, 65)])
    def test_pictures_of_a_pixel(self, tmp_path: Path, segmenter: Segmenter, size: tuple[int, int]) -> None:
        photo = picture(tmp_path / "a.png", size)
        for each in (segmenter, Segmenter(STREET, threads=1)):
            result = predict(each, [photo], tmp_path / "out")
            assert read_ids(result.masks[0]).shape == size[::-1]
        assert sum(result.coverage.values()) == pytest.approx(1)

    def test_masks_that_are_jpegs_by_another_name(self, tmp_path: Path) -> None:
        plain = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
        plain.save(tmp_path / "a.mpo", save_all=True, append_images=[plain])
        plain.save(tmp_path / "b.tif", compression="jpeg")
        for name in ("a.mpo", "b.tif"):
            with pytest.raises(DataError, match="is a JPEG"):
                read_ids(tmp_path / name)
            assert read_image(tmp_path / name).shape == (8, 8, 3)

    def test_masks_in_colours_that_are_not_rgb(self, tmp_path: Path) -> None:
        Image.new("LAB", (4, 4)).save(tmp_path / "lab.tif")
        with pytest.raises(DataError, match="colour model LAB"):
            read_ids(tmp_path / "lab.tif")

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as featherseg does, outside of tests
    def test_a_picture_of_a_hundred_megapixels(self, tmp_path: Path, segmenter: Segmenter) -> None:
        Image.new("RGB", (12_000, 8_400), (9, 9, 9)).save(tmp_path / "large.png", compress_level=1)
        result = predict(segmenter, [tmp_path / "large.png"], tmp_path / "out", overlays=False)
        assert result.coverage["sky"] == pytest.approx(0.5, abs=0.01)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts small file systems with the given options, and takes them away again."""
    with ExitStack() as disks:
        numbers = count()
        yield lambda options: disks.enter_context(mounted_disk(tmp_path / f"disk{next(numbers)}", options))


class TestDisks:
    def test_one_that_may_only_be_read(
        self, run: Callable[..., Ended], mounted: Callable[[str], Path], tmp_path: Path
    ) -> None:
        disk = mounted("size=1m,ro")
        photo = picture(tmp_path / "a.png")
        assert run("predict", photo, "-q", "-o", disk / "out").refused("Read-only file system")
        assert run("train", *TINY, "-q", f"out={disk}").refused("Read-only file system")
        with pytest.raises(OSError, match="Read-only"):
            write_image(disk / "a.png", street(0)[0])

    def test_one_that_is_full(self, run: Callable[..., Ended], mounted: Callable[[str], Path], tmp_path: Path) -> None:
        disk = mounted("size=64k")
        rng = np.random.default_rng(0)
        for i in range(6):
            Image.fromarray(rng.integers(0, 256, (160, 200, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        assert run("predict", tmp_path, "-q", "-o", disk).refused("No space left")
        done = sorted(path for path in disk.rglob("*") if path.is_file())
        assert done
        for path in done:  # whole or not there
            assert read_image(path).shape == (160, 200, 3)
        assert not litter(disk)

    def test_a_report_on_a_full_one(
        self, mounted: Callable[[str], Path], tmp_path: Path, run_of: Callable[[], Path]
    ) -> None:
        disk = mounted("size=16k,nr_inodes=8")
        (disk / "results.md").write_text("old")
        (disk / "rest").write_bytes(bytes(8 << 10))
        with pytest.raises(OSError, match="No space"):
            write_results([run_of()] * 400, disk / "results.md")
        assert (disk / "results.md").read_text() == "old"
        assert not litter(disk)

    @linux
    @pytest.mark.parametrize("words", ["--version", "data --json", "data"])
    def test_output_that_nobody_can_keep(self, words: str) -> None:
        command = f"{sys.executable} -m featherseg {words} > /dev/full"
        ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 2
        assert ended.stderr == "error: system: No space left on device; check path, rights and free space\n"

    @linux
    def test_folders_without_rights(self, tmp_path: Path) -> None:
        """By a process of nobody's, since permissions do not bind root."""
        if os.geteuid() != 0:
            pytest.skip("needs to become another user")
        code = """
import os, sys
sys.path[:0] = sys.argv[2].split(os.pathsep)
from featherseg.config import load_config
from featherseg.data import create_dataset
from featherseg.data.folder import read_classes
from featherseg.errors import FeathersegError
from featherseg.images import read_image
from featherseg.report import read_run
from featherseg.runtime.artifact import read_artifact
from pathlib import Path
root = Path(sys.argv[1])
os.setgid(65534); os.setuid(65534)
os.umask(0)
for read, path in ((load_config, "c.toml"), (read_classes, "c.toml"), (read_image, "a.png"), (read_artifact, "a.onnx"),
                   (read_artifact, "shut/a.onnx"), (load_config, "shut/c.toml"), (read_run, "run")):
    try:
        read(root / path)
    except FeathersegError as error:
        assert len(str(error).splitlines()) == 1
        print("refused")
"""
        (tmp_path / "shut").mkdir()
        (tmp_path / "run").mkdir()
        for name in ("c.toml", "a.png", "a.onnx", "shut/a.onnx", "shut/c.toml", "run/config.toml"):
            (tmp_path / name).touch()
            (tmp_path / name).chmod(0)
        (tmp_path / "shut").chmod(0)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
                folder.chmod(0o755)
        command = [sys.executable, "-c", code, str(tmp_path), os.pathsep.join(sys.path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.count("refused") == 7


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[[], Path]:
    """A finished run's folder without weights."""

    def make() -> Path:
        import json

        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "config.toml").write_text('name = "a"\n')
        (folder / "env.json").write_text('{"versions": {}, "gpu": null, "cpu": "x", "threads": 1}')
        row = {"epoch": 1, "loss": 1.0, "lr": 0.1, "seconds": 2.0, "images_per_second": 9.0, "miou": 0.5}
        (folder / "log.jsonl").write_text(json.dumps(row) + "\n")
        result: dict[str, Any] = {
            "protocol": {"dataset": "camvid", "split": "val", "images": 3, "resolution": "original"},
            "classes": {"names": ["a"]},
        }
        result |= {"miou": 0.5, "boundary_f1": 0.4, "iou": [0.5], "boundary_f1_per_class": [0.4]}
        result |= {"params": 1000, "gmacs": 1.5, "best_epoch": 1, "epochs": 1}
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    return make


class TestClocks:
    """Clocks are put right while programs run: by an hour, or back by a day."""

    @pytest.fixture
    def jumping(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = time.time()
        steps = iter(range(1, 10**9))

        def jump() -> float:
            step = next(steps)
            return now - 86_400 * step if step % 2 else now + 3600 * step

        monkeypatch.setattr(time, "time", jump)
        monkeypatch.setattr(time, "time_ns", lambda: int(jump() * 1e9))

    def test_training_does_not_look_at_them(self, jumping: None, run: Callable[..., Ended], tmp_path: Path) -> None:
        ended = run("train", *TINY, f"out={tmp_path}", "name=run", "--json")
        assert ended.code == 0
        [row] = read_log(tmp_path / "run")
        assert 0 < row["seconds"] < 600
        assert row["images_per_second"] > 0

    def test_nor_do_bars_and_locks(self, jumping: None, tmp_path: Path) -> None:
        with folder_lock(tmp_path / "run"), counting("frames", 20) as progress:
            for done in range(20):
                progress(done)
        assert not (tmp_path / "run").exists()

    def test_latency_is_not_measured_by_them(self, jumping: None, segmenter: Segmenter) -> None:
        latency = segmenter.latency(street(0)[0], runs=3, warmup=1)
        assert all(ms >= 0 for times in latency.stages.values() for ms in times)

    def test_the_library_never_takes_the_time_of_day_for_a_duration(self) -> None:
        found = []
        for path in Path(featherseg.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.time", "time.time_ns"):
                    found.append(f"{path.name}:{node.lineno}")
        assert found == []


class Repeated:
    """A dataset of any length that is one sample."""

    name, split, classes = "repeated", "val", Stub.artifact.classes

    def __init__(self, length: int) -> None:
        self.length = length
        self.sample = street(1, (16, 32))

    def __len__(self) -> int:
        return self.length

    def stem(self, index: int) -> str:
        return f"s{index}"

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self.sample[0].copy(), self.sample[1].copy()


def resident() -> int:
    """Return the bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


LENGTHS = [5_000, pytest.param(100_000, marks=pytest.mark.slow)]


@linux
@pytest.mark.parametrize("length", LENGTHS)
def test_evaluating_holds_memory_flat(segmenter: Segmenter, length: int) -> None:
    marks = {}

    def mark(done: int) -> None:
        if done in (length // 5, length):
            marks[done] = resident()

    confusion, _ = score(segmenter.segment, Repeated(length), boundary=False, progress=mark)
    assert confusion.counts()[0].sum() == length * 16 * 32
    assert marks[length] - marks[length // 5] < 4 << 20


@linux
@pytest.mark.parametrize("length", LENGTHS)
def test_segmenting_many_holds_memory_flat(
    tmp_path: Path, segmenter: Segmenter, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the names of what was written, which is the result."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # which is what would take the time here
    photo = picture(tmp_path / "a.png")
    links = []
    for i in range(length):
        links.append(tmp_path / "photos" / f"{i:06}.png")
    (tmp_path / "photos").mkdir()
    for link in links:
        link.hardlink_to(photo) if int(link.stem) % 50_000 else picture(link)  # a file has 65,000 names at most
        photo = link if int(link.stem) % 50_000 == 0 else photo
    marks = {}

    def mark(done: int) -> None:
        if done in (length // 5, length):
            marks[done] = resident()

    result = predict(segmenter, iter(links), tmp_path / "out", overlays=False, progress=mark)
    assert len(result.masks) == length
    assert not litter(tmp_path)
    assert marks[length] - marks[length // 5] < 1_500 * length + (4 << 20)


def test_a_file_dataset_holds_paths_alone(tmp_path: Path) -> None:
    """Opening a large split reads none of its pictures."""
    from featherseg.data.labels import LabelTable

    pairs = tuple((tmp_path / f"{i}.png", tmp_path / f"{i}_m.png") for i in range(5_000))
    dataset = FileDataset("folder", "all", ClassSet(("a",)), pairs, LabelTable({0: 0}))
    assert len(dataset) == 5_000
    with pytest.raises(DataError, match=r"4999\.png does not exist"):
        dataset.read(4_999)
