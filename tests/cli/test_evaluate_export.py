"""`featherseg eval` and `featherseg export`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Ended, Trained
from featherseg.exporting import verify
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter


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

    def test_how_sure_and_how_right(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        page = tmp_path / "new" / "evaluation.html"
        file = run("eval", trained.file, "--json", "--report", page).json["reliability"]
        (folder,) = run("eval", trained.run, "--json").json["reliability"]
        assert folder["ece"] == pytest.approx(file[0]["ece"], abs=0.005)
        assert sum(count for _, _, count in folder["bins"]) == 4 * 64 * 96
        assert len(file) == 2
        assert "Confidence" in page.read_text()
        assert page.read_text().count('class="curve"') == 3
        assert "no temperature was fitted" in run("eval", trained.run).out
        assert "after calibration" in run("eval", trained.file).out
        assert run("eval", trained.file, "--report", "page.pdf").refused("--report is page.pdf")
        assert run("eval", trained.file, "--flip", "--json").json["reliability"] == []

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
        assert [entry.name for entry in path.parent.glob("[!.]*")] == ["street.onnx"]

    def test_images_are_shown_to_it_at_the_long_side_that_is_asked_for(
        self, run: Callable[..., Ended], trained: Trained, tmp_path: Path
    ) -> None:
        path = tmp_path / "large.onnx"
        ended = run("export", trained.run, "-o", path, "--long-side", 192, "--json")
        assert ended.code == 0, ended.err
        assert Segmenter(path).seen((96, 128)) == (144, 192)
        assert ended.json["passed"] is True
        for side in (0, 1 << 15):
            assert run("export", trained.run, "-o", path, "--long-side", side).refused("--long-side is", "give 1 to")

    def test_size_is_that_of_all_files(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        pytest.importorskip("openvino", reason="needs the extra openvino")
        path = tmp_path / "street.xml"
        ended = run("export", trained.run, "--to", "openvino", "-o", path, "--unproven", "--json")
        assert ended.json["bytes"] == path.stat().st_size + path.with_suffix(".bin").stat().st_size

    def test_a_file_that_fails_is_not_left(
        self, run: Callable[..., Ended], trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = verify._torch_logits
        monkeypatch.setattr(verify, "_torch_logits", lambda net, image, size: honest(net, image, size).roll(1, 0))
        path = tmp_path / "street.onnx"
        assert run("export", trained.run, "-o", path, "-q").refused("street.onnx was not written", "agree", code=1)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("words", "name", "network_size"),
        [(("--fixed", "80x112"), "fixed.onnx", (80, 112)), (("--to", "torch"), "street.pt2", None)],
    )
    def test_other_kinds_of_files(
        self,
        run: Callable[..., Ended],
        trained: Trained,
        tmp_path: Path,
        words: tuple[str, ...],
        name: str,
        network_size: tuple[int, int] | None,
    ) -> None:
        path = tmp_path / name
        ended = run("export", trained.run, *words, "-o", path, "--json")
        assert ended.code == 0, ended.err
        assert ended.json["passed"] is True
        assert [entry.name for entry in tmp_path.glob("[!.]*")] == [name]
        assert Segmenter(path).size == network_size
        scored = run("eval", path, "--kind", "synthetic", "--json", "-q")
        assert scored.code == 0, scored.err

    def test_openvino(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        pytest.importorskip("openvino", reason="needs OpenVINO")
        path = tmp_path / "street.xml"
        ended = run("export", trained.run, "--to", "openvino", "--precision", "fp16", "-o", path, "--json")
        assert ended.json["passed"] is True
        assert sorted(entry.name for entry in tmp_path.glob("[!.]*")) == ["street.bin", "street.xml"]

    def test_an_unproven_file_says_so(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        path = tmp_path / "street.onnx"
        assert "not verified" in run("export", trained.run, "--unproven", "-o", path).out
        assert read_artifact(path).verification == {}

    def test_settings_that_do_not_go_together(self, run: Callable[..., Ended], trained: Trained) -> None:
        assert run("export", trained.run, "--weights", "int8", "--to", "openvino").refused("--weights int8")
        assert run("export", trained.run, "--fixed", "64x64", "--to", "torch").refused("--fixed is 64x64")
        assert run("export", trained.run, "--to", "torch", "--precision", "fp16").refused("no precision 'fp16'")

    def test_mistakes(self, run: Callable[..., Ended], trained: Trained, tmp_path: Path) -> None:
        assert run("export", tmp_path / "none", "-q").refused("does not exist")
        assert run("export", trained.run, "-o", tmp_path / "a.txt", "-q").refused("a.txt", ".onnx")
        (tmp_path / "file").write_text("")
        assert run("export", trained.run, "-o", tmp_path / "file" / "a.onnx", "-q").refused(str(tmp_path / "file"))
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
