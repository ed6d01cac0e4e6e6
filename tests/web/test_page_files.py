"""The page as files: what is in the folder, what it may ask for, what is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from artifact_fixtures import picture, write_pooled
from conftest import Ended, Trained, error_line, python
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.config import ShipConfig
from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.core.images import read_image, write_image
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.shipping.folder import read_model_folder
from featherseg.shipping.pipeline import ship
from featherseg.web.float_activations import write_float_activations
from featherseg.web.page import SITE, content_policy, write_page
from featherseg.web.runtime import ENGINES, VERSION, integrity, web_runtime


@pytest.fixture
def page(pooled: Path, tmp_path: Path) -> Path:
    return write_page(pooled, tmp_path / "page", golden=picture(96, 128)).folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder that looks like the npm package."""
    home = tmp_path / "onnxruntime-web"
    (home / "dist").mkdir(parents=True)
    (home / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.8.7"}')
    for name in sum(ENGINES.values(), ()):
        (home / "dist" / name).write_text(f"// {name}")
    return home


def test_a_page_has_all_that_it_names(page: Path) -> None:
    facts = json.loads((page / "page.json").read_text())
    named = [facts["model"], facts["golden"]["image"], facts["golden"]["mask"]]
    for file in named:
        content = (page / file["url"]).read_bytes()
        assert (len(content), integrity(content)) == (file["bytes"], file["integrity"])
        assert hashlib.sha256(content).hexdigest().startswith(Path(file["url"]).stem)
    assert all((page / name).exists() for name in facts["shell"])
    assert {path.name for path in SITE.iterdir()} <= set(facts["shell"])
    listed = dict(line.split("  ")[::-1] for line in (page / "SHA256SUMS").read_text().splitlines())
    files = {path.relative_to(page).as_posix(): path for path in page.rglob("*") if path.is_file()}
    assert listed == {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items() if n != "SHA256SUMS"}


def test_the_golden_mask_is_what_the_network_says(page: Path, pooled: Path) -> None:
    facts = json.loads((page / "page.json").read_text())
    golden = read_image(page / facts["golden"]["image"]["url"])
    np.testing.assert_array_equal(golden, picture(96, 128))
    with Image.open(page / facts["golden"]["mask"]["url"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask), Segmenter(pooled).segment(golden))
    assert facts["golden"]["agreement"] == 0.999


def test_a_golden_image_goes_along_at_the_size_that_the_network_wants(tmp_path: Path) -> None:
    fixed = write_pooled(tmp_path / "fixed.onnx", size=(64, 96))
    for golden in (None, picture(200, 300)):
        page = write_page(fixed, tmp_path / "page", golden=golden).folder
        facts = json.loads((page / "page.json").read_text())
        assert facts["input"]["size"] == [64, 96]
        assert read_image(page / facts["golden"]["image"]["url"]).shape == (64, 96, 3)


def test_the_policy_lets_the_page_ask_nobody_else(package: Path) -> None:
    own, cdn = content_policy(web_runtime(package)), content_policy(web_runtime())
    assert "connect-src 'self';" in own
    assert "http" not in own
    assert f"connect-src 'self' https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/;" in cdn
    for policy in (own, cdn):
        assert policy.startswith("default-src 'none';")
        assert "unsafe-inline" not in policy
        assert "'unsafe-eval'" not in policy


def test_the_policy_and_the_title_stand_in_the_page(pooled: Path, tmp_path: Path) -> None:
    page = write_page(pooled, tmp_path / "page", golden=picture(64, 64), title='<b> "$policy" & co').folder
    text = (page / "index.html").read_text()
    assert f'content="{content_policy(web_runtime())}"' in text
    assert "<title>&lt;b&gt; &quot;$policy&quot; &amp; co: featherseg</title>" in text
    assert "ONNX Runtime from cdn.jsdelivr.net" in text
    assert not re.search(r"<script(?![^>]*src=)|style=|\son[a-z]+=\"", text)  # the policy would stop them


def test_runtime_files_are_copied_with_their_hashes(pooled: Path, package: Path, tmp_path: Path) -> None:
    page = write_page(pooled, tmp_path / "page", golden=picture(64, 64), runtime=package)
    said = json.loads((page.folder / "page.json").read_text())["runtime"]
    assert said["version"] == "9.8.7"
    for engine, names in ENGINES.items():
        for file, name in zip(said[engine].values(), names, strict=True):
            assert file["url"] == f"onnxruntime-web@9.8.7/{name}"
            assert file["integrity"] == integrity((page.folder / file["url"]).read_bytes())
    assert web_runtime(package / "dist").files == page.runtime.files


def test_pinned_hashes_are_of_the_published_files(ort_web: Path) -> None:
    copied, pinned = web_runtime(ort_web), web_runtime("cdn")
    if copied.version != VERSION:
        pytest.skip(f"needs onnxruntime-web {VERSION}; found {copied.version}")
    assert copied.files == pinned.files


def test_runtime_folders_that_are_none_are_refused(package: Path, tmp_path: Path) -> None:
    assert "npm install onnxruntime-web" in error_line(ConfigError, web_runtime, tmp_path / "nothing")
    (package / "dist" / "ort.wasm.min.mjs").unlink()
    assert "no dist/ort.wasm.min.mjs" in error_line(ConfigError, web_runtime, package)
    (package / "package.json").write_text('{"name": "left-pad", "version": "1"}')
    assert "'left-pad', not onnxruntime-web" in error_line(ConfigError, web_runtime, package)
    (package / "package.json").write_text("[]")
    assert "no package.json" in error_line(ConfigError, web_runtime, package)


def test_a_page_is_replaced_and_nothing_else_is(page: Path, pooled: Path, tmp_path: Path) -> None:
    before = {path.name for path in (page / "files").iterdir()}
    write_page(pooled, page, golden=picture(96, 128, seed=5))
    assert len(before & {path.name for path in (page / "files").iterdir()}) == 1  # the network
    (page / "app.js").write_text("mine")
    assert "'app.js', which was edited" in error_line(ConfigError, write_page, pooled, page)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    assert "no page of featherseg's" in error_line(ConfigError, write_page, pooled, tmp_path / "photos")
    (tmp_path / "file").write_bytes(b"x")
    assert "is a file" in error_line(ConfigError, write_page, pooled, tmp_path / "file")
    assert (page / "app.js").read_text() == "mine"
    assert {path.name for path in (tmp_path / "photos").iterdir()} == {"a.jpg"}


def test_an_int8_file_gets_floats_between_its_layers(trained: Trained, package: Path, tmp_path: Path) -> None:
    scenes = [render_street(i, (64, 96))[0] for i in range(6)]
    int8 = quantize_onnx(trained.file, tmp_path / "int8.onnx", scenes)
    page = write_page(int8, tmp_path / "page", golden=scenes[0], runtime=package).folder
    facts = json.loads((page / "page.json").read_text())
    network = page / facts["model"]["url"]
    nodes = [node.op_type for node in onnx.load(str(network)).graph.node]
    assert "QuantizeLinear" not in nodes
    assert "DequantizeLinear" in nodes
    assert facts["model"]["name"] == "int8.onnx"
    assert network.stat().st_size < 1.05 * int8.stat().st_size
    masks = [Segmenter(file).segment(scenes[0]) for file in (network, int8)]
    assert (masks[0] == np.asarray(Image.open(page / facts["golden"]["mask"]["url"]))).all()
    assert (masks[0] == masks[1]).mean() > 0.9
    assert not write_float_activations(trained.file, tmp_path / "same.onnx")
    assert not (tmp_path / "same.onnx").exists()


def test_what_no_page_can_run_is_refused(pooled: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    assert "a page runs .onnx files" in error_line(ArtifactError, write_page, tmp_path / "street.engine", out)
    assert "no such file" in error_line(ArtifactError, write_page, tmp_path / "street.onnx", out)
    assert "golden image" in error_line(ConfigError, write_page, pooled, out, golden=picture(20, 200))
    assert not out.exists()


def test_a_golden_mask_of_one_class_is_told(pooled: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    with caplog.at_level(logging.WARNING, "featherseg"):
        assert write_page(pooled, tmp_path / "page", golden=grey).classes_seen == 1
    assert "one class only" in caplog.text


def test_pages_need_no_torch() -> None:
    assert python("import sys, featherseg.web.page; print('torch' in sys.modules)") == "False\n"


def test_the_command(run: Callable[..., Ended], pooled: Path, dist: Path, tmp_path: Path) -> None:
    ended = run("web", pooled, "-o", tmp_path / "page", "--title", "Blocks")
    assert ended.code == 0, ended.err
    assert "ONNX Runtime 1.30.0 from cdn.jsdelivr.net" in ended.out
    assert f"python -m http.server -d {tmp_path / 'page'}" in ended.out
    assert "<h1>Blocks</h1>" in (tmp_path / "page" / "index.html").read_text()
    # A model folder has a golden image of its own.
    facts = run("web", dist, "-o", tmp_path / "shipped", "--json").json
    said = json.loads((tmp_path / "shipped" / "page.json").read_text())
    assert facts["folder"] == str(tmp_path / "shipped")
    assert said["model"]["name"] == STREET.name
    golden = read_image(tmp_path / "shipped" / said["golden"]["image"]["url"])
    np.testing.assert_array_equal(golden, read_image(dist / "golden.png"))
    own = write_image(tmp_path / "own.png", picture(80, 70))
    assert run("web", dist, "-o", tmp_path / "shipped", "--golden", own).code == 0


def test_the_command_refuses(run: Callable[..., Ended], pooled: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "page"
    assert run("web", photos, "-o", out).refused("no folder that featherseg ship wrote", "featherseg export RUN")
    assert run("web", pooled, "-o", photos).refused("no page of featherseg's")
    assert run("web", pooled, "-o", out, "--runtime", photos).refused("package.json", "npm install")
    assert run("web", pooled, "-o", out, "--golden", tmp_path / "no.png").refused("no.png does not exist")
    assert not out.exists()


def test_shipping_with_a_page(trained: Trained, tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    ship(trained.run, dist, ShipConfig(to=("web",), threads=1))
    facts = json.loads((dist / "web" / "page.json").read_text())
    main, golden = read_model_folder(dist)
    assert (dist / "web" / facts["model"]["url"]).read_bytes() == main.read_bytes()
    assert facts["model"]["miou"] == read_artifact(main).verification["miou"]
    assert (dist / "web" / facts["golden"]["image"]["url"]).read_bytes() == golden.read_bytes()
    assert "`web/`: a page" in (dist / "README.md").read_text()
    assert "  web/index.html" in (dist / "SHA256SUMS").read_text()
    ship(trained.run, dist, ShipConfig(threads=1))  # a folder with a page is one of ours
    assert not (dist / "web").exists()
    line = error_line(ConfigError, ship, trained.run, dist, ShipConfig(to=("webb",)))
    assert line == "unknown target 'webb'; did you mean \"web\"?"
