"""Blocks of pictures, done in this process."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pooled_jobs import make_job, paint, paint_many, pictures, rows_of, work

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError
from featherseg.runtime.predict import find_images, predict
from featherseg.runtime.segmenter import Segmenter
from featherseg.scaling.listing import Picture
from featherseg.scaling.places import place_of
from featherseg.scaling.results import PENDING, Note, Results, block_id
from featherseg.scaling.worker import Model, Worker


def test_masks_are_those_of_predict_and_rows_say_what_they_show(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = paint_many(photos, 5)
    job = make_job(tmp_path, tmp_path / "out", overlays=True)
    rows = work(job, pictures(photos, names))
    segmenter = Segmenter(job.model.path)
    predict(segmenter, find_images([photos]), tmp_path / "usual")
    for kind, ending in (("masks", "png"), ("overlays", "jpg")):
        for name in names:
            ours, theirs = (tmp_path / each / kind / f"{name}.{ending}" for each in ("out", "usual"))
            assert ours.read_bytes() == theirs.read_bytes()
    for i, name in enumerate(names):
        row = rows[str(photos / f"{name}.png")]
        assert (row.mask, row.height, row.width, row.error) == (f"masks/{name}.png", 16, 24, None)
        assert row.coverage == {color: float(k == i % 3) for k, color in enumerate(("red", "green", "blue"))}
        assert row.confidence == pytest.approx(1.0)  # logits 255 apart


def test_bad_pictures_are_rows(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    whole = paint(photos / "whole.png", "red", (64, 64)).read_bytes()
    (photos / "torn.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("no picture")
    (photos / "empty.png").touch()
    Image.new("1", (30_000, 30_000)).save(photos / "bomb.png")
    names = ["whole", "torn", "empty", "gone", "bomb"]
    listed = [*pictures(photos, names), Picture(str(photos / "text.jpg"), "text"), Picture("x", "taken", error="taken")]
    rows = work(make_job(tmp_path, tmp_path / "out"), listed)
    errors = {Path(path).name: row.error for path, row in rows.items() if row.error}
    assert set(errors) == {"torn.png", "empty.png", "gone.png", "bomb.png", "text.jpg", "x"}
    assert "more than 178,956,970" in errors["bomb.png"]
    assert "does not exist" in errors["gone.png"]
    assert errors["text.jpg"].startswith("text.jpg cannot be read as an image: its bytes are none of PNG, JPEG")
    assert errors["x"] == "taken"
    assert all("\n" not in error for error in errors.values())
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["whole.png"]


def test_a_complete_block_is_not_done_again(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = paint_many(photos, 3)
    job = make_job(tmp_path, tmp_path / "out")
    worker = Worker(job)
    first = worker(pictures(photos, names))
    (tmp_path / "out" / "masks" / "p0.png").unlink()
    shutil.rmtree(photos)
    assert worker(pictures(photos, names)) == first
    assert first.done == 3
    assert not (tmp_path / "out" / "masks" / "p0.png").exists()
    assert not [name for name in job.results.index.names() if name.startswith(PENDING)]


def test_a_persons_file_stays(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = paint_many(photos, 2)
    job = make_job(tmp_path, tmp_path / "out")
    theirs = paint(tmp_path / "out" / "masks" / "p0.png", "green").read_bytes()
    rows = work(job, pictures(photos, names))
    error = rows[str(photos / "p0.png")].error
    assert error == "masks/p0.png exists and is not of this index, so it is not replaced; move it away"
    assert (tmp_path / "out" / "masks" / "p0.png").read_bytes() == theirs
    assert rows[str(photos / "p1.png")].error is None


def test_what_a_killed_call_left_is_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    names = paint_many(photos, 2)
    block = pictures(photos, names)
    job = make_job(tmp_path, tmp_path / "out", call="second")
    left = Note("first", files=("masks/p0.png",))
    (job.results.index / f"{PENDING}{block_id(['elsewhere'])}.json").write(left.to_json())
    paint(tmp_path / "out" / "masks" / "p0.png", "green")
    (note,) = job.results.leftovers().values()
    assert note == ("masks/p0.png",)
    rows = work(make_job_with(job, note), block)
    assert rows[str(photos / "p0.png")].error is None
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "masks" / "p0.png")), np.zeros((16, 24)))


def make_job_with(job, files):
    from dataclasses import replace

    return replace(job, replaceable=frozenset(files))


class TestAPictureThatEndsItsWorker:
    """The third worker leaves it out: the first did not say where it was, the second did."""

    def test_it_gets_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photos = tmp_path / "photos"
        names = paint_many(photos, 4)
        block = pictures(photos, names)
        job = make_job(tmp_path, tmp_path / "out")
        usual = Worker._one

        def ends(self: Worker, picture: Picture, *given: object) -> object:
            if picture.name == "p1":
                raise KeyboardInterrupt  # as good as a signal: nothing after it is done
            return usual(self, picture, *given)

        monkeypatch.setattr(Worker, "_one", ends)
        for tries in (1, 2):
            with pytest.raises(KeyboardInterrupt):
                Worker(job)(block)
            (file,) = (tmp_path / "out" / "index").glob(f"{PENDING}*")
            assert json.loads(file.read_text())["tries"] == tries
        found = Worker(job)(block)
        assert (found.done, found.failed) == (3, 1)
        row = rows_of(job)[block[1].path]
        assert row.error == "it ended the process that segmented it, twice; make it smaller"

    def test_an_interrupted_call_accuses_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        photos = tmp_path / "photos"
        block = pictures(photos, paint_many(photos, 2))

        def ends(self: Worker, picture: Picture, *given: object) -> object:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Worker, "_one", ends)
            for call in ("first", "second", "third"):
                with pytest.raises(KeyboardInterrupt):
                    Worker(make_job(tmp_path, tmp_path / "out", call))(block)
        job = make_job(tmp_path, tmp_path / "out", "fourth")
        assert Worker(job)(block).failed == 0


def test_an_object_store_is_written_to(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    store = place_of("memory://bucket/photos")
    names = paint_many(photos, 3)
    for name in names:
        (store / f"{name}.png").write((photos / f"{name}.png").read_bytes())
    job = make_job(tmp_path, "memory://bucket/out")
    rows = work(job, [Picture((store / f"{name}.png").address, name) for name in [*names, "gone"]])
    assert [row.error for row in rows.values()] == [None, None, None, "it does not exist any more"]
    mask = Image.open(io.BytesIO((job.results.place / "masks/sub/p2.png").read()))
    assert np.array_equal(np.array(mask), np.full((16, 24), 2))


def test_a_full_disk_stops_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    block = pictures(photos, paint_many(photos, 2))
    worker = Worker(make_job(tmp_path, tmp_path / "out"))
    place = tmp_path / "out" / "masks"
    place.write_text("a file, where a folder is to be")
    line = error_line(DataError, worker, block)
    assert f"cannot write to {tmp_path / 'out'}" in line
    assert not list((tmp_path / "out" / "index").glob("part-*"))


class TestTheFolderOfResults:
    def test_a_persons_folder_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        line = error_line(ConfigError, make_job, tmp_path, tmp_path / "out")
        assert (
            line == f"{tmp_path / 'out'} holds 'thesis.txt', which is not of such results; name another folder with -o"
        )

    def test_so_are_results_of_another_network(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        job = make_job(tmp_path, tmp_path / "out")
        work(job, pictures(photos, paint_many(photos, 1)))
        file = Path(job.model.path)
        file.write_bytes(file.read_bytes() + b"\x00")
        line = error_line(ConfigError, make_job, tmp_path, tmp_path / "out")
        assert "holds results of another network: pooled.onnx (" in line

    def test_and_of_other_settings(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        make_job(tmp_path, tmp_path / "out", size=(32, 48))  # nothing was done with it
        work(make_job(tmp_path, tmp_path / "out"), pictures(photos, paint_many(photos, 1)))
        line = error_line(ConfigError, make_job, tmp_path, tmp_path / "out", size=(64, 96))
        assert "holds results made with size None, not [64, 96]; name another folder" in line

    def test_results_are_gone_on_with_only_when_told_to(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        job = make_job(tmp_path, tmp_path / "out")
        work(job, pictures(photos, paint_many(photos, 1)))
        job.results.begin(job.record, resume=True)
        assert "go on with --resume" in error_line(ConfigError, job.results.begin, job.record, False)

    def test_a_stranger_of_the_records_name_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "featherseg.json").write_text('{"mine": 1}')
        assert "it is no record of results" in error_line(ConfigError, make_job, tmp_path, tmp_path / "out")

    def test_what_only_can_be_read_is_refused(self, tmp_path: Path) -> None:
        pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
        results = Results("http://127.0.0.1:9/out")
        job = make_job(tmp_path, tmp_path / "out")
        assert "can only be read from" in error_line(ConfigError, results.begin, job.record, False)


def test_a_file_travels_to_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    job = make_job(tmp_path, tmp_path / "out")
    content = Path(job.model.path).read_bytes()
    opened = Model("/not/here/pooled.onnx", content).open(threads=1)
    assert opened.artifact.classes.names == ("red", "green", "blue")
    (file,) = (tmp_path / "elsewhere").rglob("pooled.onnx")
    file.write_bytes(b"damaged")
    Model("/not/here/pooled.onnx", content).open(threads=1)
    assert file.read_bytes() == content
