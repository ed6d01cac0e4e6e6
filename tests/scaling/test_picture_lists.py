"""Which pictures there are, in which blocks, and which were there before."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pooled_jobs import paint, paint_many

from conftest import error_line
from featherseg.core.errors import ConfigError, DataError, MissingExtraError
from featherseg.runtime.predict import find_images
from featherseg.scaling import seen as seen_module
from featherseg.scaling.listing import Picture, Sources, blocks, sources_of, unseen
from featherseg.scaling.places import place_of
from featherseg.scaling.seen import Seen
from featherseg.scaling.tables import RowReader

pa = pytest.importorskip("pyarrow", reason="the extra ray brings pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def names_of(sources: Sources) -> list[str]:
    return [picture.name for picture in sources]


class TestFolders:
    def test_the_same_pictures_as_predict_finds(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        paint_many(photos, 12)
        paint(photos / ".hidden" / "x.png", "red")
        paint(photos / ".x.png", "red")
        paint(photos / "out" / "masks" / "x.png", "red")
        (photos / "notes.txt").write_text("no picture")
        (photos / "round").symlink_to(photos)
        listed = list(sources_of(photos, out=str(photos / "out")))
        found = find_images([photos], photos / "out")
        assert {(p.path, p.name) for p in listed} == {(str(f.path), str(f.name.with_suffix(""))) for f in found}
        assert [p.name for p in listed][:4] == ["p0", "p1", "p3", "p4"]
        assert names_of(sources_of([photos / "p1.png"])) == ["p1"]

    def test_an_object_store(self, tmp_path: Path) -> None:
        photos = tmp_path / "photos"
        names = paint_many(photos, 12)
        store = place_of("memory://lists/photos")
        for name in [*names, "deep/er/x", ".hidden/x", "out/masks/x"]:
            (store / f"{name}.png").write(b"x")
        (store / "notes.txt").write(b"x")
        sources = sources_of("memory://lists/photos", out="memory://lists/photos/out")
        listed = list(sources)
        assert [p.name for p in listed] == [*sorted((n for n in names if "/" not in n), key=lambda n: int(n[1:])),
                                            "deep/er/x", "sub/p2", "sub/p5", "sub/p8", "sub/p11"]  # fmt: skip
        assert listed[0].path == "memory:///lists/photos/p0.png"
        assert place_of(listed[0].path).read() == b"x"
        assert names_of(sources_of("memory://lists/photos/sub/p2.png")) == ["p2"]

    def test_what_is_not_there_is_refused_at_once(self, tmp_path: Path) -> None:
        assert "does not exist" in error_line(DataError, sources_of(tmp_path / "no").check)
        assert "does not exist" in error_line(DataError, sources_of("memory://no/where").check)
        assert "name images" in error_line(ConfigError, sources_of([]).check)
        assert "check the address" in error_line(ConfigError, sources_of("nosuch://x").check)
        assert "chain of addresses" in error_line(ConfigError, sources_of("zip://a.png::s3://b.zip").check)

    def test_a_store_whose_package_is_missing_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fsspec = pytest.importorskip("fsspec")

        def missing(*_: object, **__: object) -> None:
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
        line = error_line(MissingExtraError, sources_of("s3://bucket/photos").check)
        assert line.startswith("s3:// needs a package beside featherseg[ray] (Install s3fs to access S3)")


class TestTables:
    def test_pictures_as_bytes(self, tmp_path: Path) -> None:
        data = [f"picture {i}".encode() for i in range(10)]
        rows = pa.table({"label": list(range(10)), "image": [{"bytes": each, "path": "x.png"} for each in data]})
        pq.write_table(rows, tmp_path / "train.parquet", row_group_size=4)
        listed = list(sources_of(tmp_path / "train.parquet"))
        assert [p.name for p in listed] == [f"train/{i:08}" for i in range(10)]
        assert listed[5].path == f"{tmp_path}/train.parquet#5"
        assert [(p.group, p.row) for p in listed][3:6] == [(0, 3), (1, 0), (1, 1)]
        assert [len(block) for block in blocks(listed, 3, 1)] == [3, 1, 3, 1, 2]
        reader = RowReader("", {})
        for i in (0, 2, 3, 1, 9, 4):  # backwards, too
            picture = listed[i]
            assert reader.read(picture.table, picture.group, picture.row) == data[i]

    def test_an_empty_row_is_an_error_of_its_own(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"image": [b"a", None]}), tmp_path / "t.parquet")
        reader = RowReader("", {})
        assert "holds no picture" in error_line(DataError, reader.read, str(tmp_path / "t.parquet"), 0, 1)

    def test_addresses(self, tmp_path: Path) -> None:
        words = ["a/b.jpg", "../c.jpg", "/abs/d.png", "memory://store/e.png"]
        pq.write_table(pa.table({"path": words, "other": ["x"] * 4}), tmp_path / "list.parquet")
        listed = list(sources_of(str(tmp_path / "*.parquet")))
        assert [p.path for p in listed] == [f"{tmp_path}/a/b.jpg", f"{tmp_path}/../c.jpg", *words[2:]]
        assert [p.name for p in listed] == ["a/b", "c", "abs/d", "store/e"]

    def test_the_column_is_asked_for_where_it_is_not_clear(self, tmp_path: Path) -> None:
        table = pa.table({"left": ["a.png"], "right": ["b.png"], "n": [1]})
        pq.write_table(table, file := tmp_path / "t.parquet")
        assert "say it with --column (left, right)" in error_line(ConfigError, sources_of(file).check)
        assert names_of(sources_of(file, column="right")) == ["b"]
        assert 'did you mean "right"' in error_line(ConfigError, sources_of(file, column="rigth").check)
        assert "no column 'n'" in error_line(ConfigError, sources_of(file, column="n").check)

    def test_damaged_ones(self, tmp_path: Path) -> None:
        (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
        assert "cannot be read as a Parquet table" in error_line(DataError, sources_of(tmp_path / "t.parquet").check)
        assert "does not exist" in error_line(DataError, sources_of(tmp_path / "no.parquet").check)
        assert "no table" in error_line(DataError, sources_of(str(tmp_path / "no*.parquet")).check)


class TestBlocks:
    def test_few_pictures_are_shared_and_many_come_in_large_blocks(self) -> None:
        def sizes(count: int, workers: int) -> list[int]:
            return [len(b) for b in blocks([Picture(str(i), str(i)) for i in range(count)], 128, workers)]

        assert sizes(20, 2) == [8, 8, 4]
        assert sizes(1000, 1) == [8] * 4 + [16] * 4 + [32] * 4 + [64] * 4 + [128] * 4 + [8]
        assert sum(sizes(12_345, 3)) == 12_345
        assert sizes(0, 1) == []

    def test_known_pictures_are_left_out_and_taken_names_are_errors(self) -> None:
        paths, names = Seen(), Seen()
        paths.add("a.jpg")
        names.add("a")
        listed = [Picture(p, p[0]) for p in ("a.jpg", "b.jpg", "b.jpg", "a.png")]
        found = list(unseen(listed, paths, names))
        assert [p.path for p in found] == ["b.jpg", "a.png"]
        assert found[0].error == ""
        assert found[1].error == "another picture's results are called a already; rename one of the two"


def test_seen_is_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen_module, "RUN", 50)
    seen, usual = Seen(), set()
    for i in range(3000):
        text = f"photos/{i * 7919 % 2011}.jpg"
        assert (text in seen) == (text in usual)
        assert seen.add(text) == (text not in usual)
        usual.add(text)
    assert len(seen) == len(usual) == 2011
    assert len(seen._arrays) < 8  # few, each at least twice as long as the next


def test_reading_stops_at_a_limit_and_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of("memory://limits/x")
    place.write(b"12345")
    assert place.read(5) == b"12345"
    assert "over 4 bytes" in error_line(DataError, place.read, 4)
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)

    class Busy:
        protocol = "memory"
        answers = iter([TimeoutError("late"), ConnectionError("cut"), b"here"])

        # As s3fs has them.
        def cat_file(self, path: str, version_id: object = None, start: object = None, end: object = None) -> bytes:
            assert (version_id, start, end) in [(None, None, None), (None, 0, 7)]
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        def unstrip_protocol(self, path: str) -> str:
            return path

    busy = type(place)(Busy(), "x")
    assert busy.read(6) == b"here"
    assert waits == [0.5, 2.0]
    Busy.answers = iter([FileNotFoundError("x"), b"never"])
    with pytest.raises(FileNotFoundError):
        busy.read()
    assert io.BytesIO(place.read()).read() == b"12345"
