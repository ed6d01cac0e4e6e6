"""Opening whatever was trained or exported, and segmenting folders with it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Trained, street
from featherseg.core.errors import ArtifactError, CheckpointError, ConfigError, DataError, FeathersegError
from featherseg.evaluation.opening import open_labelled, open_segmenter
from featherseg.models.checkpoint import load_checkpoint, save_checkpoint
from featherseg.runtime.predict import find_images, predict


@pytest.fixture
def weights(trained: Trained, tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "best_model.pth", load_checkpoint(trained.run))


def test_all_ways_to_open_a_network_give_one_mask(trained: Trained, weights: Path) -> None:
    image = street(1, (70, 90))[0]
    sources: list[tuple[Path, dict[str, Any]]] = [
        (trained.run, {}),
        (trained.run / "best.safetensors", {"device": "cpu", "threads": 1}),
        (weights, {"backend": "pytorch", "device": "cpu"}),
        (trained.file, {"backend": "onnxruntime", "threads": 1, "device": "cpu"}),
        (trained.file, {}),
    ]
    masks = [open_segmenter(source, **options).segment(image) for source, options in sources]
    for mask in masks[1:]:
        assert np.mean(mask == masks[0]) > 0.999
    assert open_segmenter(str(trained.file)).session.name == "onnxruntime"
    assert open_segmenter(str(trained.run)).session.name == "torch"
    assert open_segmenter(trained.run).artifact.training["dataset"] == "synthetic"


@pytest.mark.parametrize(
    ("source", "options", "error", "words"),
    [
        ("file", {"backend": "pytorch"}, ConfigError, "exported file"),
        ("file", {"backend": "onnxruntim"}, ConfigError, 'did you mean "onnxruntime"'),
        ("file", {"device": "cuda"}, ConfigError, "device is 'cuda'"),
        ("file", {"threads": 0}, ConfigError, "threads is 0"),
        ("run", {"backend": "onnxruntime"}, ConfigError, "export it"),
        ("run", {"threads": 0}, ConfigError, "threads is 0"),
        ("run", {"device": "gpu0"}, ConfigError, "device is 'gpu0'"),
        ("none.onnx", {}, ArtifactError, "none.onnx"),
        ("none.pth", {}, CheckpointError, "none.pth does not exist"),
        ("none", {}, CheckpointError, "none does not exist"),
    ],
)
def test_what_cannot_be_had_is_refused(
    trained: Trained, source: str, options: dict[str, Any], error: type[FeathersegError], words: str
) -> None:
    path = {"file": trained.file, "run": trained.run}.get(source, Path(source))
    with pytest.raises(error, match=words) as caught:
        open_segmenter(path, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_cuda_is_one_line(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="device is 'cuda'") as caught:
        open_segmenter(trained.run, device="cuda")
    assert "\n" not in str(caught.value)


class TestFindImages:
    def test_files_and_folders_in_order(self, tmp_path: Path) -> None:
        for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "0.png").write_bytes(b"")
        found = find_images([tmp_path / "more" / "0.png", str(tmp_path)])
        assert [str(image.name) for image in found] == ["0.png", "a.JPG", "b.png"]
        assert found[0].path == tmp_path / "more" / "0.png"
        assert find_images([]) == []

    def test_names_that_would_overwrite_each_other(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.jpg"):
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match=r"2 images are called 'a'"):
            find_images([tmp_path])
        (tmp_path / "a.jpg").unlink()
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a.jpg").write_bytes(b"")
        assert len(find_images([tmp_path])) == 2
        with pytest.raises(DataError, match=r"2 images are called 'a'"):
            find_images([tmp_path, tmp_path / "sub" / "a.jpg", tmp_path / "sub"][::-1])

    def test_subfolders_but_hidden_ones_and_results(self, tmp_path: Path) -> None:
        names = ["b10/x.png", "b9/x.png", "b9/deep/y.jpg", "z.png"]
        left_out = [".git/x.png", "b9/.thumbs/x.png", "out/masks/x.png", "out/x.png"]
        for name in names + left_out:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        found = find_images([tmp_path], tmp_path / "b9" / ".." / "out")
        assert [image.name.as_posix() for image in found] == ["b9/deep/y.jpg", "b9/x.png", "b10/x.png", "z.png"]
        assert len(find_images([tmp_path])) == 6
        assert [image.name.as_posix() for image in find_images([tmp_path / "out"], tmp_path / "out")] == ["x.png"]

    @pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")
    def test_links_in_circles(self, tmp_path: Path) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        for name in ("a/1.png", "a/b/2.png"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "a" / "b" / "up").symlink_to(tmp_path)
        (tmp_path / "0").symlink_to(tmp_path / "a" / "b")
        (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
        other = tmp_path.with_name("elsewhere")
        other.mkdir()
        (other / "3.png").write_bytes(b"")
        (tmp_path / "more").symlink_to(other)
        names = [image.name.as_posix() for image in find_images([tmp_path])]
        assert names == ["a/1.png", "a/b/2.png", "more/3.png"]


class TestPredict:
    def test_coverage_is_the_mean_over_images(self, trained: Trained, tmp_path: Path) -> None:
        segmenter = open_segmenter(trained.file)
        paths = []
        for i in range(3):
            Image.fromarray(street(i, (48 + i, 64))[0]).save(tmp_path / f"s{i}.png")
            paths.append(tmp_path / f"s{i}.png")
        done: list[tuple[int, int]] = []
        out = tmp_path / "out"
        result = predict(segmenter, paths, out, overlays=False, progress=lambda *counts: done.append(counts))
        assert done == [(1, 3), (2, 3), (3, 3)]
        assert result.overlays == ()
        masks = [np.array(Image.open(path)) for path in result.masks]
        assert [mask.shape for mask in masks] == [(48, 64), (49, 64), (50, 64)]
        for i, name in enumerate(segmenter.artifact.classes.names):
            assert result.coverage[name] == pytest.approx(np.mean([np.mean(mask == i) for mask in masks]))
        assert sum(result.coverage.values()) == pytest.approx(1)

    def test_no_images(self, trained: Trained, tmp_path: Path) -> None:
        result = predict(open_segmenter(trained.file), [], tmp_path / "out")
        assert (result.masks, result.coverage) == ((), {})

    def test_what_was_done_before_an_error_stays_whole(self, trained: Trained, tmp_path: Path) -> None:
        Image.fromarray(street(0)[0]).save(tmp_path / "good.png")
        (tmp_path / "torn.png").write_bytes(b"torn")
        with pytest.raises(DataError, match=r"torn\.png"):
            predict(open_segmenter(trained.file), [tmp_path / "good.png", tmp_path / "torn.png"], tmp_path / "out")
        assert [path.name for path in (tmp_path / "out" / "masks").glob("[!.]*")] == ["good.png"]

    def test_images_are_never_replaced_by_their_masks(self, trained: Trained, tmp_path: Path) -> None:
        (tmp_path / "masks").mkdir()
        photo = tmp_path / "masks" / "photo.png"
        Image.fromarray(street(0)[0]).save(photo)
        before = photo.read_bytes()
        with pytest.raises(ConfigError, match="not replaced; write elsewhere"):
            predict(open_segmenter(trained.file), [photo], tmp_path)
        assert photo.read_bytes() == before


class TestOpenLabelled:
    def test_the_runs_own_validation_split(self, trained: Trained) -> None:
        for source in (trained.run, trained.file, trained.run / "best.safetensors"):
            dataset = open_labelled(source, {})
            assert (dataset.name, dataset.split, len(dataset)) == ("synthetic", "val", 4)
            assert dataset.read(0)[1].shape == (64, 96)
        assert open_labelled(trained.run, {}, split="test").split == "test"

    def test_a_file_alone_says_its_kind(self, trained: Trained, tmp_path: Path, street_folder: Path) -> None:
        alone = Path(shutil.copy(trained.file, tmp_path / "alone.onnx"))
        assert open_labelled(alone, {"dataset": "synthetic"}).name == "synthetic"
        assert open_labelled(alone, {"dataset": "folder"}, root=street_folder).classes.names == ("sky", "road", "car")
        with pytest.raises(ConfigError, match="give --kind"):
            open_labelled(alone, {})
        with pytest.raises(ConfigError, match="give --kind"):
            open_labelled(alone, {"dataset": "loader"})
        with pytest.raises(ConfigError, match="where folder data are"):
            open_labelled(alone, {"dataset": "folder"})

    def test_another_kind_takes_none_of_the_runs_options(self, trained: Trained, street_folder: Path) -> None:
        dataset = open_labelled(trained.run, {}, kind="folder", root=street_folder)
        assert dataset.name == "folder"


def test_a_stopped_call_goes_on_where_it_stopped(trained: Trained, photos: Path, tmp_path: Path) -> None:
    segmenter, out = open_segmenter(trained.file, threads=1), tmp_path / "out"
    paths = find_images([photos])

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(segmenter, paths, out, progress=stop)
    first = out / "masks" / "photo0.png"
    assert [path.name for path in (out / "masks").glob("[!.]*")] == ["photo0.png"]
    written = first.stat().st_mtime_ns
    whole = predict(segmenter, paths, tmp_path / "again")
    resumed = predict(segmenter, paths, out, resume_from=trained.file)
    assert first.stat().st_mtime_ns == written
    assert resumed.coverage == pytest.approx(whole.coverage)
    assert [path.name for path in resumed.masks] == [path.name for path in whole.masks]
    for ours, theirs in zip(resumed.masks, whole.masks, strict=True):
        assert ours.read_bytes() == theirs.read_bytes()


def test_results_older_than_image_or_network_are_made_again(trained: Trained, photos: Path, tmp_path: Path) -> None:
    segmenter, out = open_segmenter(trained.file, threads=1), tmp_path / "out"
    network = Path(shutil.copy(trained.file, tmp_path / "net.onnx"))
    paths = [image.path for image in find_images([photos])]
    predict(segmenter, paths, out, overlays=False)
    mask = out / "masks" / "photo0.png"
    times = []
    for touched in (None, paths[0], network):
        os.utime(mask, (1000, 1000))
        for source in (network, *paths):
            os.utime(source, (2000, 2000) if source == touched else (500, 500))
        predict(segmenter, paths, out, overlays=False, resume_from=network)
        times.append(mask.stat().st_mtime)
    assert times[0] == 1000
    assert min(times[1:]) > 2000
    predict(segmenter, paths, out, resume_from=network)  # the overlays are missing
    assert len(list((out / "overlays").glob("[!.]*"))) == 2
