"""`featherseg predict` and `featherseg video`."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Ended, Trained
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter


class TestPredict:
    def test_masks_are_palette_pngs_of_the_images_size(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        ended = run("predict", trained.file, photos, "-o", out, "--json")
        assert ended.code == 0
        assert ended.json["masks"] == [str(out / "masks" / f"photo{i}.png") for i in range(2)]
        segmenter = Segmenter(trained.file)
        for i in range(2):
            image = np.array(Image.open(photos / f"photo{i}.png"))
            with Image.open(out / "masks" / f"photo{i}.png") as mask:
                assert mask.mode == "P"
                assert mask.getpalette()[:3] == list(segmenter.artifact.classes.colors[0])
                np.testing.assert_array_equal(np.array(mask), segmenter.segment(image))
            with Image.open(out / "overlays" / f"photo{i}.jpg") as picture:
                assert picture.size == image.shape[1::-1]

    def test_confidence_thresholds_and_lines(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        out, file = tmp_path / "out", tmp_path / "new" / "out.jsonl"
        words = ("predict", trained.file, photos, "-o", out, "--confidence", "--json", file, "--polygons", "-q")
        segmenter = Segmenter(trained.file, confidence=True)
        name = segmenter.artifact.classes.names[1]
        ended = run(*words, "--threshold", "0.4", "--threshold", f"{name}=0.6")
        assert ended.code == 0
        assert f"a line for each image in {file}" in ended.out
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["image"] for line in lines] == ["photo0.png", "photo1.png"]
        for i, line in enumerate(lines):
            found = segmenter(photos / f"photo{i}.png")
            least = dict.fromkeys(found.classes.names, 0.4) | {name: 0.6}
            with Image.open(line["mask"]) as mask:
                np.testing.assert_array_equal(np.array(mask), found.masked(least))
            with Image.open(out / "confidence" / f"photo{i}.png") as grey:
                assert grey.mode == "L"
                assert found.confidence is not None
                np.testing.assert_array_equal(np.array(grey), np.rint(found.confidence * 255).astype(np.uint8))
            assert line["size"] == list(found.mask.shape)
            assert all(each["polygon"] for each in line["instances"])
        # Gone on with, it writes what is missing again; without the lines, all of it.
        kept = (out / "masks" / "photo0.png").stat().st_mtime_ns
        more = (*words, "--resume", "--threshold", "0.4", "--threshold", f"{name}=0.6")
        assert run(*more).code == 0
        assert (out / "masks" / "photo0.png").stat().st_mtime_ns == kept
        assert [json.loads(line) for line in file.read_text().splitlines()] == lines

    def test_mistakes_about_confidence(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        name = Segmenter(trained.file).artifact.classes.names[0]
        begin = ("predict", trained.file, photos, "-o", tmp_path / "out", "-q")
        assert run(*begin, "--threshold", f"{name}x=0.5").refused(f"unknown class '{name}x'", name)
        assert run(*begin, "--threshold", "2").refused("threshold 2.0 is no probability")
        assert run(*begin, "--threshold", "sure").refused("--threshold is 'sure'")
        assert run(*begin, "--polygons").refused("--json out.jsonl")
        mine = tmp_path / "mine.jsonl"
        mine.write_text("{}\n")
        assert run(*begin, "--json", mine).refused("mine.jsonl", "not as featherseg wrote it")
        assert mine.read_text() == "{}\n"
        assert not (tmp_path / "out").exists()

    def test_masks_alone_and_a_table(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "[odd] :name:"
        ended = run("predict", trained.run, photos / "photo0.png", photos / "photo1.png", "-o", out, "--no-overlays")
        assert ended.code == 0
        assert not (out / "overlays").exists()
        assert "2 images" in ended.out
        assert f"masks in {out / 'masks'}" in ended.out  # whatever rich would make of the brackets

    def test_subfolders_are_kept_and_gone_on_with(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        source = tmp_path / "source"
        for name in ("left", "right/deep"):
            shutil.copytree(photos, source / name)
        out = source / "out"
        ended = run("predict", trained.file, source, "-o", out, "--json")
        names = [f"{folder}/photo{i}" for folder in ("left", "right/deep") for i in range(2)]
        assert ended.json["images"] == [f"{name}.png" for name in names]
        assert ended.json["masks"] == [str(out / "masks" / f"{name}.png") for name in names]
        assert ended.json["overlays"] == [str(out / "overlays" / f"{name}.jpg") for name in names]
        masks = [Path(path) for path in ended.json["masks"]]
        (source / "right" / "deep" / "photo1.png").touch()
        before = [path.stat().st_mtime_ns for path in masks]
        again = run("predict", trained.file, source, "-o", out, "--resume", "--json")  # its own results are no images
        assert again.json == ended.json
        assert [path.stat().st_mtime_ns > old for path, old in zip(masks, before, strict=True)] == [False] * 3 + [True]

    def test_how_strong_the_colours_are(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        def drawn(*words: str) -> np.ndarray:
            out = tmp_path / "-".join(("out", *words))
            assert run("predict", trained.file, photos / "photo0.png", "-o", out, "-q", *words).code == 0
            return np.array(Image.open(out / "overlays" / "photo0.jpg"), np.int64)

        usual, weak, strong = drawn(), drawn("--alpha", "0.3"), drawn("--alpha", "1")
        image = np.array(Image.open(photos / "photo0.png"), np.int64)
        assert np.abs(weak - image).mean() < np.abs(usual - image).mean() < np.abs(strong - image).mean()
        refused = run("predict", trained.file, photos, "-o", tmp_path / "no", "-q", "--alpha", "1.5")
        assert refused.refused("alpha is 1.5; give a share of the colours from 0 to 1")
        assert not (tmp_path / "no").exists()
        assert run("video", trained.file, photos, "-q", "--alpha", "-1").refused("alpha is -1.0")

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        words = ("-o", out, "-q")
        assert run("predict", trained.file, tmp_path / "none.png", *words).refused("none.png does not exist")
        (tmp_path / "empty").mkdir()
        assert run("predict", trained.file, tmp_path / "empty", *words).refused("no images in")
        (tmp_path / "more").mkdir()
        shutil.copy(photos / "photo0.png", tmp_path / "more" / "photo0.png")
        assert run("predict", trained.file, photos, tmp_path / "more", *words).refused("'photo0'", "rename")
        (tmp_path / "torn.png").write_bytes((photos / "photo0.png").read_bytes()[:100])
        assert run("predict", trained.file, tmp_path / "torn.png", *words).refused("torn.png cannot be read")
        (tmp_path / "other.onnx").write_bytes(b"no graph")
        assert run("predict", tmp_path / "other.onnx", photos, *words).refused("other.onnx")
        assert not out.exists()
        (tmp_path / "file").write_text("")
        assert run("predict", trained.file, photos, "-o", tmp_path / "file", "-q").refused("cannot write to")


class TestVideo:
    def test_a_folder_of_frames(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "video.mp4"
        ended = run("video", trained.file, photos, "-o", out, "--mode", "side-by-side", "--json")
        assert ended.code == 0
        assert ended.json["frames"] == 2
        assert ended.json["fps"] == pytest.approx(2 / ended.json["seconds"])
        assert set(ended.json["latency"]["ms"]) == {"decode", "segment", "draw", "encode", "sum"}
        assert (ended.json["dropped"], ended.json["skipped"], ended.json["notes"]) == (0, 0, [])
        assert out.stat().st_size > 0
        timed = run("video", trained.file, photos, "-q")
        assert "frames/s end to end" in timed.out

    def test_a_source_by_name_smoothed_and_stopped_early(
        self, run: Callable[..., Ended], trained: Trained, tmp_path: Path
    ) -> None:
        clips = pytest.importorskip("video_clips", reason="needs the video extra")
        source, out = clips.write_video(tmp_path / "in.mp4"), tmp_path / "out.mp4"
        ended = run("video", trained.file, "--source", source, "-o", out, "--smooth", "0.5", "--limit", "7", "-q")
        assert ended.code == 0
        assert ended.err == ""
        assert "7 frames in" in ended.out
        assert "dropped" not in ended.out  # a file drops none
        assert len(clips.read_video(out)[0]) == 7

    def test_a_stream_that_ends_says_so_and_what_was_dropped(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        clips = pytest.importorskip("video_clips", reason="needs the video extra")
        with clips.camera(lambda sender: clips.send_frames(sender, 25)) as url:
            ended = run("video", "--source", url, "-o", tmp_path / "out.mp4", "-q")
        assert ended.code == 0
        assert re.search(r"\d+ frames in .* end to end, \d+ dropped\n", ended.out)
        assert ended.err == f"{url} stopped after sending 25 frames (the connection was closed)\n"
        with clips.camera(lambda sender: clips.send_frames(sender, 25)) as url:
            ended = run("video", url, "--json")  # the slashes of a URL survive without --source too
        assert ended.json["frames"] + ended.json["dropped"] == 25
        assert ended.json["notes"] == [f"{url} stopped after sending 25 frames (the connection was closed)"]

    @pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
    def test_what_was_recorded_until_a_signal_plays(self, tmp_path: Path, number: int, code: int) -> None:
        clips = pytest.importorskip("video_clips", reason="needs the video extra")
        out = tmp_path / "out.mp4"
        with clips.camera(lambda sender: clips.send_frames(sender, 9000)) as url:
            command = [sys.executable, "-m", "featherseg", "video", "--source", url, "-o", str(out), "-q"]
            command += ["--size", "64x64"]  # quick on a busy machine
            # Where the tests themselves were begun in the background, SIGINT would be ignored from the start.
            heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
            )
            try:
                deadline = time.monotonic() + 150  # a busy machine, and the first start of a fresh clone
                # Frames reach the disk in fragments of a second; the first is whole when the next begins.
                while (out.read_bytes() if out.exists() else b"").count(b"moof") < 2 and time.monotonic() < deadline:
                    assert process.poll() is None, process.stderr
                    time.sleep(0.05)
                process.send_signal(number)
                _, words = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == code
        assert words == ("interrupted\n" if number == signal.SIGINT else "")
        images, times, _ = clips.read_video(out)
        assert len(images) > 5
        assert times == sorted(times)

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path) -> None:
        assert run("video", trained.file, "none.mp4", "-q").refused("none.mp4 does not exist")
        assert run("video", trained.file, photos, "--mode", "mask").refused("give --out too")
        assert run("video").refused("takes one source; got 0")
        assert run("video", trained.file).refused("takes one source; got 0")
        assert run("video", photos, "--source", photos).refused("takes one source; got 2")
        assert run("video", photos, "--smooth", "1").refused("smoothing is 1.0")
        assert run("video", photos, "--limit", "0", "-q").refused("limit is 0")
        (tmp_path / "x.mp4").write_bytes(b"no video")
        out = tmp_path / "out.mp4"
        assert run("video", trained.file, tmp_path / "x.mp4", "-o", out, "-q").refused("cannot be decoded")
        assert not out.exists()


def test_the_network_that_comes_along_segments_and_says_what_it_is(
    run: Callable[..., Ended], photos: Path, tmp_path: Path
) -> None:
    artifact = read_artifact(STREET)
    assert STREET.stat().st_size <= 5_000_000
    assert artifact.network == "fastsegnet"
    assert artifact.training["dataset"] == "camvid"
    assert artifact.verification["passed"]
    ended = run("predict", photos / "photo0.png", "-o", tmp_path / "out", "--json")
    assert len(json.loads(ended.out)["masks"]) == 1
    assert run("predict", "mine.onnx").refused("mine.onnx is a network", "name images")


class TestNothingOfAPersonsIsReplaced:
    def test_predicting_into_the_dataset(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(photos, tmp_path / "set" / "images")
        (tmp_path / "set" / "masks").mkdir()
        truth = tmp_path / "set" / "masks" / "photo1.png"
        Image.fromarray(np.ones((8, 8), np.uint8)).save(truth)
        before = truth.read_bytes()
        for words in ((), ("--resume",), ("--no-overlays",)):
            ended = run("predict", trained.file, tmp_path / "set" / "images", "-o", tmp_path / "set", "-q", *words)
            assert ended.refused("photo1.png exists and is not as featherseg wrote it")
        assert truth.read_bytes() == before
        assert sorted(p.name for p in (tmp_path / "set").rglob("*.*")) == ["photo0.png", "photo1.png", "photo1.png"]

    def test_a_corrected_prediction(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        call = ("predict", trained.file, photos, "-o", tmp_path / "out", "-q")
        assert run(*call).code == run(*call).code == run(*call, "--resume").code == 0
        mask = tmp_path / "out" / "masks" / "photo0.png"
        with Image.open(mask) as picture:
            corrected = picture.copy()
        corrected.putpixel((0, 0), 1 - min(corrected.getpixel((0, 0)), 1))
        corrected.save(mask)
        assert run(*call).refused("photo0.png")
        assert run(*call, "--resume").refused("photo0.png")

    def test_other_outputs(self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path) -> None:
        mine = tmp_path / "mine.png"
        shutil.copy(photos / "photo0.png", mine)
        before = mine.read_bytes()
        assert run("eval", trained.file, "--confusion", mine, "-q").refused("mine.png")
        assert run("doctor", photos.parent, "--html", mine, "-q").refused("mine.png")
        weights = tmp_path / "mine.safetensors"
        weights.write_bytes(b"mine")
        assert run("prune", trained.run, "--ratio", "0.1", "-o", weights).refused("mine.safetensors")
        assert run("report", trained.run, "-o", mine).refused("mine.png")
        assert mine.read_bytes() == before
        assert weights.read_bytes() == b"mine"

    def test_exporting_over_a_file(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        path = tmp_path / "mine.onnx"
        path.write_bytes(b"mine")
        assert run("export", trained.run, "-o", path, "-q").refused("mine.onnx")
        assert path.read_bytes() == b"mine"
        path.unlink()
        for _ in range(2):
            assert run("export", trained.run, "-o", path, "-q").code == 0
