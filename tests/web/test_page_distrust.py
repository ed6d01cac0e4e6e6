"""The page in headless Chromium distrusts: a wrong network, a wrong engine, a file that is another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from browsers import SOFTWARE_WEBGPU, Opened, launch, served
from conftest import Trained
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.images import read_image, write_image
from featherseg.data.readers.synthetic import render_street
from featherseg.runtime.segmenter import Segmenter
from featherseg.web.page import write_page
from featherseg.web.runtime import ENGINES, integrity
from street_page import GOLDEN, ROUNDING, Open, copied, differing, network_of

pytestmark = pytest.mark.slow


WRONG_RUNTIME = """
class Tensor {
  constructor(type, data, dims) { Object.assign(this, { type, data, dims }); }
}
const run = async ({ image: { dims } }) => {
  const shape = [1, 11, Math.ceil(dims[1] / 8), Math.ceil(dims[2] / 8)];
  return { logits: { dims: shape, data: new Float32Array(shape.reduce((a, b) => a * b)) } };
};
const InferenceSession = { create: async () => ({ run }) };
export { InferenceSession, Tensor };
export const env = { wasm: {} };
"""
"""An engine that runs without complaint, and gives nonsense."""


def replaced(page: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a page knows of its files, as somebody would who exchanged one of them in good faith."""
    facts = json.loads((page / "page.json").read_text())
    change(facts)
    (page / "page.json").write_text(json.dumps(facts))


def sabotaged(page: Path) -> None:
    """Make the network say its first class wherever it was in doubt, file and hash agreeing with each other."""
    facts = json.loads((page / "page.json").read_text())
    path = page / facts["model"]["url"]
    model = onnx.load(str(path))
    # The head's bias has one value for each class.
    biases = [each for each in model.graph.initializer if each.dims == [len(facts["classes"]["names"])]]
    head = next(each for each in biases if numpy_helper.to_array(each).dtype == np.float32)
    values = numpy_helper.to_array(head).copy()
    values[0] += 50
    head.CopyFrom(numpy_helper.from_array(values, head.name))
    onnx.save(model, str(path))
    content = path.read_bytes()
    replaced(page, lambda facts: facts["model"].update(bytes=len(content), integrity=integrity(content)))


def test_a_sabotaged_network_is_refused(page: Path, tab: Open, photo: Path, tmp_path: Path) -> None:
    sabotaged(copied(page, tmp_path / "page"))
    with served(tmp_path / "page") as site:
        opened = tab().go(site.url)
        assert not opened.is_good
        assert opened.status.startswith("This page refuses to segment")
        assert "WebAssembly: wrong: only " in opened.status
        for name in ("#file", "#camera", "#golden", "#save-mask", "#save-overlay"):
            assert opened.tab.is_disabled(name), name
        opened.give("drop", photo)
        opened.tab.wait_for_timeout(500)
        assert not opened.tab.is_visible("#picture")


@pytest.mark.parametrize("kind", ["model", "runtime"])
def test_a_file_that_is_another_is_refused(page: Path, tab: Open, tmp_path: Path, kind: str) -> None:
    copy = copied(page, tmp_path / "page")
    facts = json.loads((copy / "page.json").read_text())
    file = facts["model"] if kind == "model" else facts["runtime"]["wasm"]["module"]
    with (copy / file["url"]).open("ab") as stream:
        stream.write(b"\n")
    with served(copy) as site:
        opened = tab().go(site.url)
        assert not opened.is_good
        assert "or is not the file that this page was made with" in opened.status


def with_wrong(page: Path, place: Path, *engines: str) -> Path:
    """A page some of whose engines give nonsense."""
    copy = copied(page, place)

    def change(facts: dict[str, Any]) -> None:
        for engine in engines:
            file = facts["runtime"][engine]["module"]
            (copy / file["url"]).write_text(WRONG_RUNTIME)
            file["integrity"] = integrity(WRONG_RUNTIME.encode())

    replaced(copy, change)
    return copy


A_GPU = "Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => ({ info: {} }) } })"


def test_webgpu_that_is_silently_wrong_gives_way_to_wasm(page: Path, tab: Open, tmp_path: Path) -> None:
    with served(with_wrong(page, tmp_path / "page", "webgpu")) as site:
        opened = tab()
        opened.tab.add_init_script(A_GPU)
        opened.go(site.url)
        assert opened.is_good
        assert "of the golden mask with WebAssembly" in opened.status
        assert "WebGPU is not used: wrong: only " in opened.status
        opened.tab.click("summary")
        tried = opened.tab.inner_text("#tried")
        assert "WebGPU: wrong: only " in tried
        assert "WebAssembly: 100.000 % of the golden mask's pixels." in tried


def test_where_all_engines_are_wrong_none_is_used(page: Path, tab: Open, tmp_path: Path) -> None:
    with served(with_wrong(page, tmp_path / "page", *ENGINES)) as site:
        opened = tab()
        opened.tab.add_init_script(A_GPU)
        opened.go(site.url)
        assert opened.status.startswith("This page refuses to segment")
        assert "WebGPU: wrong: only " in opened.status
        assert "WebAssembly: wrong: only " in opened.status
        assert opened.tab.is_disabled("#file")


def test_webgpu_in_software_gives_the_golden_mask(
    playwright: Any, ort_web: Path, trained: Trained, tmp_path: Path
) -> None:
    golden = render_street(5, (64, 96))[0]
    page = write_page(trained.file, tmp_path / "page", golden=golden, runtime=ort_web).folder
    browser = launch(playwright, SOFTWARE_WEBGPU)
    try:
        with served(page) as site:
            usual = Opened(browser.new_page()).go(site.url)
            if "not to be had" in usual.status:
                pytest.skip("this Chromium computes no WebGPU in software")
            assert "WebGPU is not used: computed on the processor here" in usual.status
            wanted = Opened(browser.new_page()).go(f"{site.url}?engine=webgpu")
            assert wanted.is_good, wanted.status
            assert wanted.status.endswith("of the golden mask with WebGPU.")
    finally:
        browser.close()


def test_an_int8_file(ort_web: Path, trained: Trained, tab: Open, tmp_path: Path) -> None:
    int8 = quantize_onnx(trained.file, tmp_path / "int8.onnx", [render_street(i, (64, 96))[0] for i in range(6)])
    page = write_page(int8, tmp_path / "page", golden=GOLDEN, runtime=ort_web).folder
    with served(page) as site:
        opened = tab().go(site.url)
        assert opened.is_good, opened.status
        photo = write_image(tmp_path / "photo.png", render_street(8, (96, 160))[0])
        opened.choose(photo)
        expected = Segmenter(network_of(page)).segment(read_image(photo))
        assert differing(opened, tmp_path / "mask.png", expected) <= ROUNDING
        assert (expected == Segmenter(int8).segment(read_image(photo))).mean() > 0.95
