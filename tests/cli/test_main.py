"""The command line as a whole: help, wrong words, how it ends, and what the base install can do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TINY, Ended, Trained, python


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
            ("label", "featherseg label mine.onnx frames/ -o round1"),
            ("video", "featherseg video drive.mp4 -o segmented.mp4"),
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

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion(self, run: Callable[..., Ended], shell: str) -> None:
        script = run("completion", shell).out
        for word in ("featherseg", "train", "doctor", "json"):
            assert word in script
        assert run("completion", "csh").refused("bash")

    def test_a_wrong_command_is_guessed(self, run: Callable[..., Ended]) -> None:
        assert run("trian").refused('Did you mean "train"?', "featherseg --help")

    def test_verbose_says_where_an_error_came_from(self, run: Callable[..., Ended]) -> None:
        ended = run("eval", "nothing.onnx", "--verbose")
        assert ended.code == 2
        assert ended.err.startswith("Traceback")
        assert ended.err.splitlines()[-1].startswith("error: ")
        assert run("eval", "nothing.onnx").refused("nothing.onnx")

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
from featherseg.cli.main import main
for words in ([], ["--help"], ["--version"], ["train", "--help"], ["eval", "--help"], ["data"]):
    main(words)
heavy = [name for name in ("torch", "torchvision", "timm", "lightning_fabric") if name in sys.modules]
assert not heavy, heavy
"""
        python(code)


class TestWrongWords:
    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("nope",), 'Unknown command "nope"'),
            (("eval", "x.onnx", "--qqqq"), "Unknown option: --qqqq; see featherseg eval --help"),
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


def test_an_interrupted_command_ends_with_130(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("featherseg.training.fit.fit", interrupt)
    ended = run("train", *TINY)
    assert (ended.code, ended.out, ended.err) == (130, "", "interrupted\n")


def test_what_we_did_wrong_is_a_traceback(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("featherseg.training.fit.fit", fail)
    with pytest.raises(ZeroDivisionError):
        run("train", *TINY)


def test_the_base_install_evaluates_and_predicts(trained: Trained, photos: Path, tmp_path: Path) -> None:
    """In a process that cannot import torch, as on an edge box."""
    code = """
import contextlib, io, sys
for name in ("torch", "torchvision", "timm", "lightning_fabric", "safetensors", "onnx", "onnxscript"):
    sys.modules[name] = None
from featherseg.cli.main import main
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
    assert len(list((tmp_path / "out" / "masks").glob("*.png"))) == 2
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
