from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifact_fixtures import PooledSession, picture
from conftest import error_line
from featherseg.core.errors import ConfigError
from featherseg.core.images import read_mask
from featherseg.runtime.segmenter import Segmenter
from featherseg.serving.answers import mask_png, wanted
from featherseg.serving.limits import Limits, Refusal
from featherseg.serving.models import Models, ServedModel, named_source, open_models
from featherseg.serving.page import page_of
from featherseg.web.page import SITE
from running_server import FRAME, Running, encoded, running, served

PLACE = "/v1/segment/colors"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=Limits(pixels=40_000, workers=2)) as found:
        yield found


def test_the_mask_is_that_of_the_segmenter(server: Running, tmp_path: Path) -> None:
    reply = server.ask("POST", PLACE, encoded())
    assert (reply.status, reply.headers["content-type"]) == (200, "image/png")
    expected = Segmenter(PooledSession())(FRAME)
    np.testing.assert_array_equal(reply.mask, expected.mask)
    (tmp_path / "mask.png").write_bytes(reply.body)
    mask = read_mask(tmp_path / "mask.png")
    np.testing.assert_array_equal(mask.values, expected.mask)
    assert mask.palette is not None
    assert [tuple(color) for color in mask.palette[:3]] == list(expected.classes.colors)
    stages = dict(part.split(";dur=") for part in reply.headers["server-timing"].split(", "))
    assert list(stages) == ["receive", "queue", "decode", "segment", "encode"]
    assert all(float(ms) >= 0 for ms in stages.values())


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (199, 1), (64, 65)])
def test_masks_of_any_shape_are_whole_pngs(server: Running, size: tuple[int, int]) -> None:
    frame = picture(*size)
    np.testing.assert_array_equal(
        server.ask("POST", PLACE, encoded(frame)).mask, Segmenter(PooledSession()).segment(frame)
    )


def test_accept_chooses(server: Running) -> None:
    overlay = server.ask("POST", PLACE, encoded(), Accept="image/jpeg")
    assert overlay.headers["content-type"] == "image/jpeg"
    shown = np.asarray(Image.open(io.BytesIO(overlay.body))).astype(int)
    drawn = Segmenter(PooledSession())(FRAME).overlay().astype(int)
    assert np.abs(shown - drawn).mean() < 12
    figures = server.ask("POST", PLACE, encoded(), Accept="application/json").json
    expected = Segmenter(PooledSession(), confidence=True)(FRAME)
    assert figures == json.loads(expected.to_json(polygons=True, background=True))
    assert len(figures["instances"][0]["polygon"][0]) >= 3
    refused = server.ask("POST", PLACE, encoded(), Accept="text/html")
    assert refused.status == 406
    assert "image/png" in refused.error


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "image/png"),
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("text/html, application/json;q=0.5, image/jpeg; q=0.7", "image/jpeg"),
        ("image/png;q=0, application/json", "application/json"),
        ("IMAGE/JPEG", "image/jpeg"),
        ("image/jpeg;q=x, application/*;q=0.1", "application/json"),
    ],
)
def test_the_header_accept(accept: str, kind: str) -> None:
    assert wanted(accept) == kind


def test_a_header_that_accepts_nothing() -> None:
    for accept in ("image/png;q=0", "text/plain", ";;,,"):
        with pytest.raises(Refusal) as caught:
            wanted(accept)
        assert caught.value.status == 406


def test_pngs_of_masks_are_smaller_than_those_of_pillow() -> None:
    prediction = Segmenter(PooledSession())(picture(300, 400))
    stream = io.BytesIO()
    Image.fromarray(prediction.mask).save(stream, format="PNG", compress_level=1)
    content = mask_png(prediction)
    assert len(content) < len(stream.getvalue())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), prediction.mask)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_pictures_of_many_kinds(server: Running, kind: str) -> None:
    reply = server.ask("POST", PLACE, encoded(kind=kind))
    assert reply.status == 200
    assert reply.mask.shape == FRAME.shape[:2]


def test_turned_pictures_come_back_upright(server: Running) -> None:
    image = Image.fromarray(FRAME)
    exif = image.getexif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    assert server.ask("POST", PLACE, stream.getvalue()).mask.shape == FRAME.shape[1::-1]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims many pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def many_scans() -> bytes:
    """A small progressive JPEG with its last scan a thousand times over."""
    data = encoded(kind="JPEG", progressive=True)
    place = data.rindex(b"\xff\xda")
    return data[:place] + data[place:-2] * 1000 + data[-2:]


REFUSED = {
    "unknown model": ("/v1/segment/color", encoded(), {}, 404, 'did you mean "colors"?'),
    "empty": (PLACE, b"", {}, 400, "--data-binary"),
    "no picture": (PLACE, b"hello", {}, 422, "no picture"),
    "truncated JPEG": (PLACE, encoded(kind="JPEG")[:-200], {}, 422, "send it whole"),
    "bomb": (PLACE, bomb(9_000, 9_000), {}, 413, "9000x9000"),
    "larger than Pillow likes": (PLACE, bomb(1 << 30, 1 << 30), {}, 413, "--max-pixels"),
    "one pixel too many": (PLACE, encoded(picture(200, 201)), {}, 413, "200"),
    "endless JPEG": (PLACE, many_scans(), {}, 422, "scans"),
    "too many bytes": (PLACE, bytes(2_000_000), {}, 413, "--max-bytes"),
    "form": (PLACE, b"--x--", {"Content_Type": "multipart/form-data; boundary=x"}, 415, "--data-binary"),
    "unknown encoding": (PLACE, encoded(), {"Content_Encoding": "br"}, 415, "gzip"),
    "not encoded": (PLACE, encoded(), {"Content_Encoding": "gzip"}, 400, "gzip"),
    "gzip cut short": (PLACE, gzip.compress(encoded())[:-9], {"Content_Encoding": "gzip"}, 400, "cut short"),
    "gzip bomb": (PLACE, gzip.compress(bytes(20_000_000)), {"Content_Encoding": "gzip"}, 413, "--max-bytes"),
    "no such address": ("/v1/segments/colors", b"", {}, 404, "/openapi.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(server: Running, case: str) -> None:
    path, body, headers, status, words = REFUSED[case]
    reply = server.ask("POST", path, body, **headers)
    assert (reply.status, words in reply.error) == (status, True), reply.error
    assert server.ask("POST", PLACE, encoded()).status == 200


def test_a_picture_at_the_limit_is_taken(server: Running) -> None:
    assert server.ask("POST", PLACE, encoded(picture(200, 200))).status == 200


def test_compressed_bodies(server: Running) -> None:
    for coding, body in (("gzip", gzip.compress(encoded())), ("deflate", zlib.compress(encoded()))):
        assert server.ask("POST", PLACE, body, Content_Encoding=coding).status == 200


def test_bodies_in_pieces(server: Running) -> None:
    data = encoded()
    reply = server.ask("POST", PLACE, iter([data[:50], data[50:]]))
    assert reply.status == 200
    assert server.ask("POST", PLACE, iter([bytes(600_000)] * 4)).status == 413


def test_other_methods(server: Running) -> None:
    reply = server.ask("GET", PLACE)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert "POST" in reply.error


def test_what_models_say(server: Running) -> None:
    (facts,) = server.ask("GET", "/v1/models").json["models"]
    assert facts == server.ask("GET", "/v1/models/colors").json
    assert facts["classes"]["names"] == ["red", "green", "blue"]
    assert server.ask("GET", "/v1/models/x").status == 404


def test_the_page_without_one(server: Running) -> None:
    reply = server.ask("GET", "/")
    assert reply.headers["content-type"].startswith("text/html")
    assert "colors" in reply.body.decode()


def test_a_page_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>mine</p>")
    (tmp_path / "net.wasm").write_bytes(b"\0asm")
    (tmp_path.parent / "secret").write_text("no")
    with running(page=tmp_path) as server:
        page = server.ask("GET", "/")
        assert page.body == b"<p>mine</p>"
        assert page.headers["cross-origin-embedder-policy"] == "require-corp"
        assert server.ask("GET", "/net.wasm").headers["content-type"] == "application/wasm"
        for path in ("/../secret", "/%2e%2e/secret", "/nope"):
            assert server.ask("GET", path).status == 404
        assert server.ask("POST", PLACE, encoded()).status == 200
    assert "index.html" in error_line(ConfigError, lambda: running(page=tmp_path / "no").__enter__())


def test_the_page_of_the_first_network(pooled: Path, tmp_path: Path) -> None:
    if not SITE.is_dir():
        pytest.skip(f"needs the page's own files in {SITE}")
    models = open_models([pooled], workers=1)
    with page_of(models) as folder:
        assert folder is not None
        with running(*models, page=folder) as server:
            page = server.ask("GET", "/")
            assert b"pooled" in page.body
            facts = server.ask("GET", "/page.json").json
            assert server.ask("GET", f"/{facts['model']['url']}").body == pooled.read_bytes()
    assert not folder.exists()
    with page_of(models, tmp_path) as folder:
        assert folder == tmp_path


def test_networks_that_no_browser_runs_have_no_page() -> None:
    model = served()
    with page_of(Models([ServedModel("run", Path("runs/a"), model.shared, model.alone)])) as folder:
        assert folder is None


def test_a_page_that_cannot_be_written_is_no_reason_to_end(caplog: pytest.LogCaptureFixture) -> None:
    with page_of(Models([served(name="gone")])) as folder:  # there is no such file
        assert folder is None
    assert "gone.onnx" in caplog.text


def test_a_token(tmp_path: Path) -> None:
    with running(token="s3cret") as server:
        assert server.ask("POST", PLACE, encoded()).status == 401
        missing = server.ask("GET", "/metrics")
        assert missing.headers["www-authenticate"].startswith("Bearer")
        assert "no token" in missing.error
        for wrong in ("Bearer s3cre", "Bearer s3crett", "Bearer é", "s3cret", "Basic s3cret", "Basic !!", "Bearer"):
            reply = server.ask("POST", PLACE, encoded(), Authorization=wrong.encode("latin-1").decode("latin-1"))
            assert reply.status == 401, wrong
            assert "s3cret" not in reply.error
        assert server.ask("POST", PLACE, encoded(), Authorization="Bearer s3cret").status == 200
        assert server.ask("GET", "/", Authorization="Basic dTpzM2NyZXQ=").status == 200  # u:s3cret
        assert server.ask("GET", "/").headers["www-authenticate"].startswith("Basic")
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert server.ask("GET", path).status == 200
        said = server.ask("GET", "/openapi.json", Authorization="Bearer s3cret").json
        assert said["paths"]["/metrics"]["get"]["responses"]["401"]


def test_names_of_models(tmp_path: Path) -> None:
    assert named_source("a/street.onnx") == ("street", Path("a/street.onnx"))
    assert named_source("left=a/street.onnx") == ("left", Path("a/street.onnx"))
    assert named_source("fddwnet:cityscapes") == ("fddwnet-cityscapes", Path("fddwnet:cityscapes"))
    (tmp_path / "run.1").mkdir()
    assert named_source(tmp_path / "run.1") == ("run.1", tmp_path / "run.1")
    assert "street=" in error_line(ConfigError, named_source, "a/my street.onnx")
    (tmp_path / "labels.json").write_text(json.dumps({"model": "net.onnx"}))
    assert named_source(tmp_path) == ("net", tmp_path / "net.onnx")
    assert named_source(f"mine={tmp_path}") == ("mine", tmp_path / "net.onnx")
    assert "'a'" in error_line(ConfigError, Models, [served(name="a"), served(name="a")])
    assert "no model" in error_line(ConfigError, Models, [])
