"""`featherseg train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TINY, Ended
from featherseg.core.recipes import load_config
from featherseg.training.run_log import read_log


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

        monkeypatch.setattr("featherseg.training.fit.fit", fit)
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
