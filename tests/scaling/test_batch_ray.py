"""Ray itself: pools of processes on this machine, kills, evaluation to the same bits."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pooled_jobs import PURE, paint, paint_many

from artifact_fixtures import CLASSES, write_pooled
from conftest import Ended, Trained
from featherseg.batch import evaluate_dataset, segment_dataset
from featherseg.core.types import ClassSet
from featherseg.data.datasets import create_dataset
from featherseg.evaluation.opening import open_segmenter
from featherseg.evaluation.scores import evaluate
from featherseg.scaling.cluster import cluster, flow
from featherseg.scaling.index import Index, Row
from featherseg.scaling.places import place_of

ray = pytest.importorskip("ray", reason='needs pip install "featherseg[ray]"')
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Ray's own are not ours to mend
    pytest.mark.skipif(sys.platform == "win32", reason="Ray is not made for Windows"),
]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests here: each start takes seconds, on a busy machine a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        patch.delenv("RAY_ADDRESS", raising=False)
        with cluster(2, 1):
            yield


def parent(number: int) -> int:
    """Return the process that started one, on Linux."""
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def index_of(out: Path) -> dict[str, Row]:
    index = Index(place_of(out / "index"), CLASSES.names)
    rows = [row for _, part in index.read_all(index.parts()) for row in part]
    assert len({row.path for row in rows}) == len(rows)
    return {row.path: row for row in rows}


@pytest.mark.usefixtures("local_ray")
class TestSegmenting:
    def test_folders_with_bad_pictures_and_the_command(self, tmp_path: Path, run: Callable[..., Ended]) -> None:
        model, photos, out = write_pooled(tmp_path / "m.onnx"), tmp_path / "photos", tmp_path / "out"
        names = paint_many(photos, 40)
        (photos / "torn.png").write_bytes((photos / "p0.png").read_bytes()[:40])
        ended = run("predict", model, photos, "-o", out, "--ray", "--workers", 2, "--json")
        assert ended.code == 0, ended.err
        assert (ended.json["images"], ended.json["failed"], ended.json["kept"]) == (41, 1, 0)
        assert ended.json["coverage"] == pytest.approx({"red": 14 / 40, "green": 13 / 40, "blue": 13 / 40})
        rows = index_of(out)
        assert set(rows) == {str(photos / f"{name}.png") for name in [*names, "torn"]}
        for i, name in enumerate(names):
            assert (np.array(Image.open(out / "masks" / f"{name}.png")) == i % 3).all()
        # One table for whoever reads Parquet.
        table = pq.read_table(out / "index")
        assert table.num_rows == 41
        assert set(table.column_names) == {"path", "mask", "height", "width", "coverage", "confidence", "error"}
        # Mended, and gone on with: only the bad picture is done.
        before = {path: path.stat().st_mtime_ns for path in (out / "masks").rglob("*.png")}
        paint(photos / "torn.png", "blue")
        refused = run("predict", model, photos, "-o", out, "--ray", "--json")
        assert refused.refused("go on with --resume")
        ended = run("predict", model, photos, "-o", out, "--ray", "--resume", "--json")
        assert (ended.json["images"], ended.json["failed"], ended.json["kept"]) == (41, 0, 40)
        assert index_of(out)[str(photos / "torn.png")].mask == "masks/torn.png"
        assert {path: path.stat().st_mtime_ns for path in before} == before

    def test_a_store_over_http(self, tmp_path: Path) -> None:
        pytest.importorskip("aiohttp", reason="http:// needs aiohttp")
        names = paint_many(tmp_path / "www" / "photos", 12)
        (tmp_path / "www" / "photos" / "torn.jpg").write_bytes(b"\xff\xd8\xff torn")

        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *words: object) -> None:
                """Say nothing."""

        handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/photos/"
            model = write_pooled(tmp_path / "m.onnx")
            result = segment_dataset(model, address, f"file://{tmp_path}/out", workers=2)
            server.shutdown()
        assert (result.done, result.failed) == (12, 1)
        assert sorted(p.relative_to(tmp_path / "out/masks").as_posix() for p in (tmp_path / "out").rglob("*.png")) == (
            sorted(f"{name}.png" for name in names)
        )

    def test_tables_of_pictures(self, tmp_path: Path) -> None:
        import pyarrow as pa

        colors = [list(PURE)[i % 3] for i in range(20)]
        data = [paint(tmp_path / "x.png", color).read_bytes() for color in colors]
        pq.write_table(pa.table({"image": data}), tmp_path / "t.parquet", row_group_size=7)
        model = write_pooled(tmp_path / "m.onnx")
        result = segment_dataset(model, tmp_path / "t.parquet", tmp_path / "out", workers=2, confidence=False)
        assert (result.done, result.failed, result.confidence) == (20, 0, None)
        for i in range(20):
            assert (np.array(Image.open(tmp_path / f"out/masks/t/{i:08}.png")) == i % 3).all()

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_worker_that_is_killed_is_replaced(self, tmp_path: Path) -> None:
        photos, killed = tmp_path / "photos", []
        names = paint_many(photos, 120)

        def kill_one(done: int, total: int) -> None:
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):  # it ended meanwhile
                    words, number = (process / "cmdline").read_bytes(), int(process.name)
                    ours = parent(parent(number)) == os.getpid()  # Ray's daemon, which we started, started it
                    if not killed and words.startswith(b"ray::MapWorker") and ours:
                        os.kill(number, signal.SIGKILL)
                        killed.append(number)

        model, out = write_pooled(tmp_path / "m.onnx"), tmp_path / "out"
        result = segment_dataset(model, photos, out, workers=2, block=8, progress=kill_one)
        assert killed
        assert (result.done, result.failed) == (120, 0)
        assert set(index_of(out)) == {str(photos / f"{name}.png") for name in names}
        assert not list(out.rglob("_pending-*"))

    def test_nothing_but_bad_pictures_is_a_mistake(self, tmp_path: Path, run: Callable[..., Ended]) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "torn.png").write_bytes(b"torn")
        model = write_pooled(tmp_path / "m.onnx")
        ended = run("predict", model, tmp_path / "photos", "-o", tmp_path / "out", "--ray", "-q")
        assert ended.refused("no picture could be segmented", "torn.png")

    def test_a_full_disk_stops_it(self, tmp_path: Path, run: Callable[..., Ended]) -> None:
        paint_many(tmp_path / "photos", 3)
        out = tmp_path / "out"
        model = write_pooled(tmp_path / "m.onnx")
        run("predict", model, tmp_path / "photos" / "p0.png", "-o", out, "--ray")
        shutil.rmtree(out / "masks")
        (out / "masks").write_text("in the way")
        ended = run("predict", model, tmp_path / "photos", "-o", out, "--ray", "--resume", "-q")
        assert ended.refused("cannot write to")


@pytest.mark.usefixtures("local_ray")
def test_workers_are_this_python_where_it_is(local_ray: None) -> None:
    with cluster(1, 1):
        said = list(flow(lambda: [0], lambda: lambda item: (sys.executable, str(Path.cwd())), workers=1, threads=1))
    assert said == [(sys.executable, str(Path.cwd()))]  # not a copy that ``uv run`` is given


class TestEvaluating:
    def test_the_same_bits(self, trained: Trained) -> None:
        data = create_dataset("synthetic", split="val", val_count=21, size=(64, 96))
        thin = data.classes.names[:2]
        for options in ({"thin": thin}, {"scales": (0.75, 1.0), "flip": True}):
            alone = evaluate(open_segmenter(trained.file, threads=1), data, **options)
            shared = evaluate_dataset(trained.file, data, workers=2, **options)
            assert np.array_equal(alone.matrix, shared.matrix)
            ours, theirs = json.dumps(shared.to_dict()), json.dumps(alone.to_dict())
            assert ours == theirs  # boundary F1 and clDice, their counts and the rest too

    def test_classes_in_another_order_and_the_command(self, tmp_path: Path, run: Callable[..., Ended]) -> None:
        model = write_pooled(tmp_path / "m.onnx")
        folder = tmp_path / "data"
        for i in range(9):
            paint(folder / "images" / f"s{i}.png", list(PURE)[i % 3])
            (folder / "masks").mkdir(exist_ok=True)
            mask = np.full((16, 24), (2, 0, 1)[i % 3], np.uint8)
            mask[0] = 0
            Image.fromarray(mask).save(folder / "masks" / f"s{i}.png")
        (folder / "classes.toml").write_text('names = ["green", "blue", "red"]\n')
        words = ("eval", model, "--data", folder, "--kind", "folder", "--split", "all", "--json", "-q")
        alone, shared = run(*words), run(*words, "--ray", "--workers", 2)
        assert shared.code == 0, shared.err
        assert shared.out == alone.out
        (folder / "images" / "s4.png").write_bytes(b"torn")
        assert run(*words, "--ray").refused("s4.png cannot be read")  # a score leaves none out

    def test_a_dataset_of_other_classes_is_refused(self, tmp_path: Path) -> None:
        from featherseg.core.errors import ConfigError

        data = create_dataset("synthetic", split="val", val_count=2, size=(64, 96))
        assert isinstance(data.classes, ClassSet)
        with pytest.raises(ConfigError, match="are not the network's"):
            evaluate_dataset(write_pooled(tmp_path / "m.onnx"), data)


def test_gone_on_with_after_a_kill(tmp_path: Path) -> None:
    """Complete blocks stay as they are, and in the end each picture is in the index once."""
    model, photos, out = write_pooled(tmp_path / "m.onnx"), tmp_path / "photos", tmp_path / "out"
    names = [f"p{i}" for i in range(400)]
    for i, name in enumerate(names):
        paint(photos / f"{name}.png", list(PURE)[i % 3], (200, 300))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    environment.pop("RAY_ADDRESS", None)
    words = [sys.executable, "-m", "featherseg", "predict", model, photos, "-o", out, "--ray", "--workers", "2", "-q"]
    with subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL) as first:
        limit = time.monotonic() + 300
        while len(list(out.glob("index/part-*"))) < 3:
            assert first.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    _settled(out)
    rows = index_of(out)
    assert 3 * 8 <= len(rows) < 400
    before = {row.mask: (out / row.mask).stat().st_mtime_ns for row in rows.values()}
    parts = {path.name: path.stat().st_mtime_ns for path in out.glob("index/part-*")}
    ended = subprocess.run([*words, "--resume", "--json"], env=environment, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert (told["images"], told["failed"], told["kept"]) == (400, 0, len(rows))
    assert set(index_of(out)) == {str(photos / f"{name}.png") for name in names}
    assert {mask: (out / mask).stat().st_mtime_ns for mask in before} == before
    assert {name: (out / "index" / name).stat().st_mtime_ns for name in parts} == parts
    assert sorted(path.stem for path in (out / "masks").glob("*.png")) == sorted(names)
    assert not list(out.rglob("_pending-*"))
    assert not list(out.rglob(".writing-*"))


def _settled(out: Path) -> None:
    """Wait until the workers, which Ray ends when their driver is gone, write no more."""
    last, quiet = -1, 0
    while quiet < 20:
        now = len(list(out.rglob("*")))
        quiet = quiet + 1 if now == last else 0
        last = now
        time.sleep(0.1)
