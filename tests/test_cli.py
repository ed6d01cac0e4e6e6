"""The command line: what it prints where, what it ends with, and that mistakes are one line and leave nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Trained
from featherseg.cli import main
from featherseg.config import load_config
from featherseg.data import create_dataset
from featherseg.export import verify
from featherseg.inference import STREET
from featherseg.run import read_log
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, *words: str, code: int = 2) -> bool:
        """One line on standard error, and nothing on standard output."""
        assert self.out == ""
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert self.code == code
        for word in words:
            assert word in self.err
        return True


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    def call(*words: object) -> Ended:
        capfd.readouterr()
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    street = create_dataset("synthetic", split="test", size=(64, 96))
    for i, size in enumerate([(96, 64), (70, 130)]):  # (width, height), as PIL has it
        Image.fromarray(street.read(i)[0]).resize(size).save(folder / f"photo{i}.png")
    return folder


TINY = (
    "model.name=jetnet",
    "data.name=synthetic",
    "data.options={count=8, val_count=2, size=[64, 96]}",
    "data.batch_size=4",
    "data.workers=0",
    "augment.crop=[64, 96]",
    "train.epochs=1",
    "train.precision=fp32",
    "train.device=cpu",
)


class TestHelp:
    def test_no_words_print_the_help(self, run: Callable[..., Ended]) -> None:
        ended = run()
        assert ended.code == 0
        assert "featherseg demo" in ended.out

    @pytest.mark.parametrize(
        ("command", "example"),
        [
            ("train", "featherseg train data.root=photos model.name=jetnet train.epochs=20"),
            ("train", "featherseg train --resume runs/camvid_fastsegnet"),
            ("demo", "featherseg demo -o runs"),
            ("eval", "featherseg eval street.onnx --data ~/CamVid --confusion confusion.png"),
            ("export", "featherseg export runs/camvid_fastsegnet -o street.onnx"),
            ("predict", "featherseg predict mine.onnx photos/ -o out"),
            ("video", "featherseg video mine.onnx drive.mp4 -o segmented.mp4"),
            ("report", "featherseg report runs/* -o docs/results.md"),
        ],
    )
    def test_examples_stand_on_lines_of_their_own(
        self, run: Callable[..., Ended], command: str, example: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        ended = run(command, "--help")
        assert ended.code == 0
        assert example in [line.strip() for line in ended.out.splitlines()]

    def test_versions(self, run: Callable[..., Ended]) -> None:
        lines = run("--version").out.splitlines()
        names = [line.split()[0] for line in lines]
        assert names == ["featherseg", "onnxruntime", "torch", "python"]
        assert lines[-1].split()[1] == ".".join(map(str, sys.version_info[:3]))

    def test_help_and_the_package_import_no_torch(self) -> None:
        code = """
import sys
import featherseg
assert {"evaluate", "JetNet"} <= set(dir(featherseg))
from featherseg.cli import main
for words in ([], ["--help"], ["--version"], ["train", "--help"], ["eval", "--help"], ["data"]):
    main(words)
heavy = [name for name in ("torch", "torchvision", "timm", "lightning_fabric") if name in sys.modules]
assert not heavy, heavy
"""
        python(code)


def python(code: str, *words: object) -> str:
    """Run code in a process of its own, and return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class TestWrongWords:
    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("nope",), 'Unknown command "nope"'),
            (("eval", "x.onnx", "--bad"), "Unknown option: --bad; see featherseg eval --help"),
            (("eval",), "MODEL"),
            (("predict",), "MODEL_AND_IMAGES"),
            (("eval", "x.onnx", "--threads", "many"), "many"),
            (("eval", "x.onnx", "--scales", "big"), "big"),
            (("export", "run", "--to", "tflite"), "tflite"),
            (("video", "x.onnx", "y.mp4", "--mode", "colour"), "colour"),
            (("models", "resnet"), "resnet"),
        ],
    )
    def test_are_one_line(self, run: Callable[..., Ended], words: tuple[str, ...], reason: str) -> None:
        assert run(*words).refused(reason, "--help")

    @pytest.mark.parametrize("size", ["512", "512x", "0x64", "64X-3", "²x64", "64x96x3"])
    def test_sizes(self, run: Callable[..., Ended], trained: Trained, size: str) -> None:
        assert run("eval", trained.file, f"--size={size}").refused(size, "such as 512x1024")


class TestTrain:
    def test_a_recipe_with_settings(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text('name = "from_recipe"\n[model]\nname = "jetnet"\n[optim]\nlr = 0.5\n')
        ended = run("train", recipe, *TINY, "optim.lr=0.002", f"out={tmp_path}", "--json")
        assert ended.code == 0
        assert ended.json["run"] == str(tmp_path / "from_recipe")
        assert ended.json["best_epoch"] == 1
        assert 0 <= ended.json["miou"] <= 1
        assert "images/s" in ended.err  # progress does not mix with the result
        assert load_config(tmp_path / "from_recipe" / "config.toml").optim.lr == 0.002

    def test_settings_alone_and_resume(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        ended = run("train", *TINY, f"out={tmp_path}", "name=plain", "-q")
        assert ended.code == 0
        assert ended.err == ""
        assert "val mIoU" in ended.out
        assert str(tmp_path / "plain") in ended.out
        config = tmp_path / "plain" / "config.toml"
        config.write_text(config.read_text().replace("epochs = 1", "epochs = 2"))
        resumed = run("train", "--resume", tmp_path / "plain", "-q", "--json")
        assert resumed.code == 0
        assert [row["epoch"] for row in read_log(tmp_path / "plain")] == [1, 2]

    def test_other_processes_of_one_training_say_nothing(
        self, run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fit(*_: object, **__: object) -> None:
            monkeypatch.setenv("RANK", "1")

        monkeypatch.setattr("featherseg.train.fit", fit)
        assert run("train", *TINY, f"out={tmp_path}", "--json").out == ""

    @pytest.mark.parametrize(
        ("words", "reasons"),
        [
            (("missing.toml",), ("missing.toml does not exist",)),
            (("modle.name=jetnet",), ("unknown setting 'modle'", 'did you mean "model"?')),
            (("model.name=jetnett",), ('did you mean "jetnet"?',)),
            (("data.name=camvid", "data.root=nowhere", "data.options={}"), ("nowhere",)),
            (("optim.lr=fast",), ("optim.lr is 'fast'",)),
            (("train.device=cuda",), ("no CUDA device",)),
            (("--resume", "nowhere"), ("nowhere is no run folder",)),
            (("--resume", "nowhere", "optim.lr=1"), ("leave the other settings out",)),
        ],
    )
    def test_mistakes_leave_nothing(
        self,
        run: Callable[..., Ended],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        words: tuple[str, ...],
        reasons: tuple[str, ...],
    ) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.chdir(tmp_path)
        settings = TINY if "=" in words[0] else ()
        assert run("train", *settings, *words, "-q").refused(*reasons)
        assert list(tmp_path.iterdir()) == []

    def test_an_out_that_is_a_file(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert run("train", *TINY, f"out={tmp_path / 'file'}", "-q").refused(str(tmp_path / "file"))


class TestEval:
    def test_run_folder_and_file_score_alike(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        folder = run("eval", trained.run, "--json")
        file = run("eval", trained.file, "--json", "--confusion", tmp_path / "new" / "confusion.png")
        assert folder.code == file.code == 0
        assert folder.json["miou"] == pytest.approx(file.json["miou"], abs=0.001)
        assert file.json["protocol"]["images"] == 4
        assert np.array(file.json["matrix"]).sum() <= 4 * 64 * 96
        result = json.loads((trained.run / "result.json").read_text())
        assert folder.json["miou"] == pytest.approx(result["miou"], abs=1e-6)
        with Image.open(tmp_path / "new" / "confusion.png") as picture:
            assert picture.mode == "RGB"

    def test_table_names_classes_and_protocol(self, run: Callable[..., Ended], trained: Trained) -> None:
        ended = run("eval", trained.file)
        assert "road" in ended.out
        assert "synthetic val, 4 images, original resolution, single scale" in ended.out

    def test_scales_flip_size_and_split_reach_the_protocol(self, run: Callable[..., Ended], trained: Trained) -> None:
        several = run("eval", trained.file, "--scales", "0.75", "1.0", "--flip", "--split", "test", "--json").json
        assert several["protocol"]["scales"] == [0.75, 1.0]
        assert several["protocol"]["flip"] is True
        assert several["protocol"]["split"] == "test"
        sized = run("eval", trained.file, "--size", "80x80", "--threads", "1", "--json").json
        assert "80x80" in sized["protocol"]["resolution"]
        assert sized["matrix"] != run("eval", trained.file, "--json").json["matrix"]

    def test_a_file_far_from_its_run_needs_the_data_named(
        self, run: Callable[..., Ended], trained: Trained, street_folder: Path, tmp_path: Path
    ) -> None:
        alone = shutil.copy(trained.file, tmp_path / "alone.onnx")
        assert run("eval", alone, "--kind", "folder").refused("--data")
        assert run("eval", alone, "--kind", "foldr", "--data", street_folder).refused('did you mean "folder"?')
        assert run("eval", alone, "--kind", "folder", "--data", street_folder, "-q").refused(
            "classes are not the network's"
        )

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("nowhere.onnx",), "nowhere.onnx"),
            (("nowhere",), "nowhere does not exist"),
            (("RUN", "--threads", "0"), "threads is 0"),
            (("RUN", "--scales", "-1"), "-1"),
            (("RUN", "--scales", "0.5", "--size", "64x64"), "leave out size or scales"),
            (("RUN", "--confusion", "matrix.xyz"), "matrix.xyz"),
            (("RUN", "--split", "tset"), "tset"),
        ],
    )
    def test_mistakes(
        self,
        run: Callable[..., Ended],
        trained: Trained,
        words: tuple[str, ...],
        reason: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert run("eval", *(trained.run if word == "RUN" else word for word in words), "-q").refused(reason)
        assert list(tmp_path.iterdir()) == []

    def test_scores_are_not_lost_with_the_picture(
        self, run: Callable[..., Ended], trained: Trained, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        ended = run("eval", trained.file, "--json", "-q", "--confusion", tmp_path / "file" / "confusion.png")
        assert ended.code == 2
        assert ended.json["miou"] >= 0
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1


class TestExport:
    def test_writes_a_verified_file(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        path = tmp_path / "new" / "street.onnx"
        ended = run("export", trained.run, "-o", path, "--json")
        assert ended.code == 0
        assert ended.json["path"] == str(path)
        assert ended.json["passed"] is True
        assert ended.json["bytes"] == path.stat().st_size
        assert read_artifact(path).verification["agreement"] == ended.json["agreement"] >= 0.9995
        assert [entry.name for entry in path.parent.iterdir()] == ["street.onnx"]

    def test_a_file_that_fails_is_not_left(
        self, run: Callable[..., Ended], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = verify._torch_mask
        monkeypatch.setattr(verify, "_torch_mask", lambda net, image: (honest(net, image) + 1) % 3)
        path = tmp_path / "street.onnx"
        assert run("export", trained.run, "-o", path, "-q").refused("street.onnx was not written", "agree", code=1)
        assert list(tmp_path.iterdir()) == []

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        assert run("export", tmp_path / "none", "-q").refused("does not exist")
        assert run("export", trained.run, "-o", tmp_path / "a.txt", "-q").refused("a.txt", ".onnx")
        (tmp_path / "file").write_text("")
        assert run("export", trained.run, "-o", tmp_path / "file" / "a.onnx", "-q").refused(str(tmp_path / "file"))
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


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

    def test_masks_alone_and_a_table(
        self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "[odd] :name:"
        ended = run("predict", trained.run, photos / "photo0.png", photos / "photo1.png", "-o", out, "--no-overlays")
        assert ended.code == 0
        assert not (out / "overlays").exists()
        assert "2 images" in ended.out
        assert f"masks in {out / 'masks'}" in ended.out  # whatever rich would make of the brackets

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
        assert out.stat().st_size > 0
        timed = run("video", trained.file, photos, "-q")
        assert "frames/s end to end" in timed.out

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, photos: Path, tmp_path: Path) -> None:
        assert run("video", trained.file, "none.mp4", "-q").refused("none.mp4 does not exist")
        assert run("video", trained.file, photos, "--mode", "mask").refused("give --out too")
        (tmp_path / "x.mp4").write_bytes(b"no video")
        out = tmp_path / "out.mp4"
        assert run("video", trained.file, tmp_path / "x.mp4", "-o", out, "-q").refused("cannot be decoded")
        assert not out.exists()


class TestLists:
    def test_models(self, run: Callable[..., Ended]) -> None:
        assert run("models", "--json").json["jetnet"]["params"] == 133_301
        table = run("models").out
        assert "0.13" in table
        assert "26.70" in table
        lines = [line for line in table.splitlines() if "mobilenet_aspp" in line]
        assert len(lines) == 1  # a pipe gets whole lines
        assert "1905.02244" in lines[0]

    def test_data(self, run: Callable[..., Ended]) -> None:
        kinds = run("data", "--json").json
        assert {"camvid", "cityscapes", "folder", "synthetic", "voc"} <= set(kinds)
        text = run("data").out
        assert "ImageSets/Segmentation" in text

    def test_report(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        page = tmp_path / "docs" / "results.md"
        assert run("report", trained.run, "-o", page).code == 0
        assert "## tiny" in page.read_text()
        other = tmp_path / "other.md"
        assert run("report", trained.run, tmp_path, "-o", other).refused("is no run folder")
        assert not other.exists()


def test_an_interrupted_command_ends_with_130(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("featherseg.train.fit", interrupt)
    ended = run("train", *TINY)
    assert (ended.code, ended.out, ended.err) == (130, "", "interrupted\n")


def test_what_we_did_wrong_is_a_traceback(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("featherseg.train.fit", fail)
    with pytest.raises(ZeroDivisionError):
        run("train", *TINY)


def test_the_base_install_evaluates_and_predicts(trained: Trained, photos: Path, tmp_path: Path) -> None:
    """In a process that cannot import torch, as on an edge box."""
    code = """
import contextlib, io, sys
for name in ("torch", "torchvision", "timm", "lightning_fabric", "safetensors", "onnx", "onnxscript"):
    sys.modules[name] = None
from featherseg.cli import main
file, run, photos, out = sys.argv[1:]
main(["predict", file, photos, "-o", out, "-q"])
main(["eval", file, "-q"])
main(["report", run, "-o", out + "/results.md"])
for words in (["train"], ["demo"], ["export", run], ["models"], ["predict", run, photos]):
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            main(words)
    except SystemExit as stop:
        print("ended", stop.code, stderr.getvalue(), end="")
"""
    out = python(code, trained.file, trained.run, photos, tmp_path / "out")
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 2
    assert "val mIoU" in out
    errors = [line for line in out.splitlines() if line.startswith("ended")]
    starts = ("Training", "Training", "Exporting", "Listing networks", f"Opening the weights of {trained.run}")
    assert len(errors) == len(starts)
    for line, start in zip(errors, starts, strict=True):
        assert line.startswith(f'ended 2 error: {start} needs: pip install "featherseg[train]"')


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    command = f"{sys.executable} -m featherseg data --json | true"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert ended.stderr == ""


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
