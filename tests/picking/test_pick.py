"""The whole way, on a few streets with networks of a few thousand parameters."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Ended, Tiny, TinyNet, error_line, street_photos
from featherseg.core.errors import ConfigError, DataError
from featherseg.core.recipes import config_from_dict
from featherseg.models.factory import models
from featherseg.picking import pick as picks
from featherseg.picking import rungs
from featherseg.picking.pick import PAGE, Pick, PickResult
from featherseg.picking.question import Question

pytest.importorskip("optuna", reason="needs the extra pick")
SETTINGS = ("data.workers=0", "data.batch_size=4", "train.precision=fp32", "train.device=cpu", "augment.crop=[64, 96]")


@pytest.fixture
def photos_folder(tmp_path: Path) -> Path:
    root = street_photos(tmp_path / "photos", 10)
    (root / "classes.toml").write_text('names = ["sky", "road", "car"]\n')
    return root


def question(folder: Path, **changes: Any) -> Question:
    asked: dict[str, Any] = {
        "limit_ms": 3000.0,
        "budget": 100.0,
        "settings": SETTINGS,
        "networks": ("tiny",),
        "scales": (1.0, 0.75),
        "threads": 1,
    }
    return Question(str(folder), **(asked | changes))


def answer(asked: Question, place: Path) -> PickResult:
    """Pick in a process that may be a child: networks of tests are registered there too."""
    models.names()
    models._entries.setdefault("tiny", TinyNet)
    return Pick(asked, place).run()


@pytest.mark.slow
class TestWholeWay:
    @pytest.fixture(autouse=True)
    def registered(self, tiny: Tiny) -> None:
        """The tiny network is one of those to choose from."""

    def test_everything_that_is_promised_is_there(self, photos_folder: Path, tmp_path: Path) -> None:
        result = answer(question(photos_folder), tmp_path / "study")
        report = json.loads((tmp_path / "study" / "report.json").read_text())
        assert report == result.report
        assert report["state"] == "complete"
        assert result.choice.pick is not None
        assert report["choice"]["pick"] == result.choice.pick.candidate.key
        assert {row["net"] for row in report["trained"]} == {"tiny_at100", "tiny_at75"}
        for row in report["judged"]:
            if not row["failure"]:
                assert row["timing"]["runs"] >= 30
                assert row["bytes"] > 0
                assert 0 <= row["miou"] <= 1
        assert any(row["precision"] == "int8" for row in report["judged"])
        assert all(row["timing"] or row["reason"] for row in report["candidates"])
        page = (tmp_path / "study" / PAGE).read_text()
        for words in ("The pick", "Why", "Masks against time", "Pictures", "What was trained", "budget 3000.0 ms"):
            assert words in page
        recipe = config_from_dict(tomllib.loads((tmp_path / "study" / "recipe.toml").read_text()))
        assert recipe.model.name == "tiny"
        assert recipe == result.recipe
        again = answer(question(photos_folder), tmp_path / "study")  # all is known
        assert again.report["judged"] == report["judged"]
        assert again.report["trained"] == report["trained"]

    def test_killed_and_begun_again_it_is_the_same_study(self, photos_folder: Path, tmp_path: Path) -> None:
        asked, place, seen = question(photos_folder, budget=240.0), tmp_path / "study", []
        for sign in ("screening.json", "steps/*/rung0/log.jsonl", "last_rung.json"):
            process = multiprocessing.get_context("spawn").Process(target=answer, args=(asked, place))
            process.start()
            while not list(place.glob(sign)) and process.is_alive():
                time.sleep(0.05)
            time.sleep(0.5)
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            seen.append({file.name: file.read_bytes() for file in place.glob("*.json")})
        ended = answer(asked, place)
        assert ended.report["state"] == "complete"
        for before in seen:  # nothing that was found out is found out again
            assert {name: (place / name).read_bytes() for name in before} == before
        assert {"screening.json", "question.json"} <= set(seen[0])
        assert "last_rung.json" in seen[2]
        for row in ended.report["trained"]:
            assert [each["rung"] for each in row["rungs"]] == list(range(len(row["rungs"])))

    def test_two_processes_share_the_work(self, photos_folder: Path, tmp_path: Path) -> None:
        asked, place = question(photos_folder), tmp_path / "study"
        process = multiprocessing.get_context("spawn").Process(target=answer, args=(asked, place))
        process.start()
        mine = answer(asked, place)
        process.join(120)
        assert process.exitcode == 0
        trained = [each for row in mine.report["trained"] for each in row["rungs"]]
        assert len({each["process"] for each in trained}) == 2
        assert len(list((place / "steps").glob("*/rung*/result.json"))) == len(trained)


class TestEndings:
    @pytest.fixture(autouse=True)
    def registered(self, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        files = picks.CandidateFiles
        monkeypatch.setattr(picks, "CandidateFiles", lambda classes: files(classes, tmp_path / "cache"))

    def test_a_limit_that_nothing_meets(self, photos_folder: Path, tmp_path: Path) -> None:
        asked = question(photos_folder, limit_ms=0.01, scales=(1.0,))
        line = error_line(ConfigError, Pick(asked, tmp_path / "study").run)
        assert "nothing is in time: the fastest, tiny at full size" in line
        assert "where 0.0 are allowed" in line
        assert "No candidate" not in line
        page = (tmp_path / "study" / PAGE).read_text()
        assert "too slow" in page

    def test_interrupted_it_leaves_the_page_of_what_is_known(
        self, photos_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(rungs, "train_step", stop)
        with pytest.raises(KeyboardInterrupt):
            Pick(question(photos_folder, scales=(1.0,)), tmp_path / "study").run()
        report = json.loads((tmp_path / "study" / "report.json").read_text())
        assert report["state"] == "interrupted"
        assert report["choice"]["pick"] is None
        assert any(row["timing"] for row in report["candidates"])
        assert "interrupted" in (tmp_path / "study" / PAGE).read_text()

    def test_data_without_validation_images(self, photos_folder: Path, tmp_path: Path) -> None:
        asked = question(photos_folder, settings=(*SETTINGS, "data.val_split=nosuch"))
        assert "validation images" in error_line((ConfigError, DataError), Pick, asked, tmp_path / "study")
        assert not (tmp_path / "study").exists()

    def test_a_budget_for_nothing(self, photos_folder: Path, tmp_path: Path) -> None:
        asked = question(photos_folder, budget=0.5, scales=(1.0,))
        assert "--budget leaves" in error_line(ConfigError, Pick(asked, tmp_path / "study").run)


class TestCommand:
    def test_mistakes(self, run: Callable[..., Ended], photos_folder: Path, tmp_path: Path) -> None:
        assert run("pick", photos_folder).refused("either --fps")
        assert run("pick", photos_folder, "--fps", 30, "--latency", 20).refused("either --fps")
        assert run("pick", photos_folder, "--fps", 0).refused("--fps is 0")
        assert run("pick", photos_folder, "--fps", 30, "--budget", "soon").refused("--budget is 'soon'")
        assert run("pick", photos_folder, "--fps", 30, "--networks", "nosuch").refused("--networks names 'nosuch'")
        assert run("pick", photos_folder, "--fps", 30, "--scales", "1,big").refused("--scales names 'big'")
        assert run("pick", photos_folder, "--fps", 30, "--scales", "9").refused("--scales are 9")
        assert run("pick", photos_folder, "--fps", 30, "model.name=jetnet").refused("model.name")
        assert run("pick", tmp_path / "none", "--fps", 30).refused("none")
        (tmp_path / "photo.json").write_text("{}")
        assert run("pick", photos_folder, "--fps", 30, "--on", tmp_path / "photo.json").refused("no device's times")
        assert not (tmp_path / "runs").exists()
