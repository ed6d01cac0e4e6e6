"""The page in headless Chromium: it proves itself or refuses, takes pictures in all ways, and keeps them to itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image, ImageCms

from artifact_fixtures import picture
from browsers import SOFTWARE_WEBGPU, Opened, Site, launch, served
from conftest import Trained
from featherseg.compress.qdq import quantize_onnx
from featherseg.core.images import read_image, write_image
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.web.page import write_page
from featherseg.web.runtime import ENGINES, integrity

pytestmark = pytest.mark.slow

GOLDEN = render_street(3, (96, 160))[0]
ROUNDING = 1e-4
"""Share of a mask's pixels that engines may see otherwise: those whose two best classes are equal but for rounding."""
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

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def page(ort_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of the street network with all that it needs; only to be read."""
    return write_page(STREET, tmp_path_factory.mktemp("page") / "page", golden=GOLDEN, runtime=ort_web).folder


@pytest.fixture(scope="module")
def site(page: Path) -> Iterator[Site]:
    with served(page) as site:
        yield site


@pytest.fixture
def tab(chromium: Any) -> Iterator[Callable[..., Opened]]:
    """Open a tab that knows nothing of the others."""
    contexts = []

    def new(**options: Any) -> Opened:
        contexts.append(chromium.new_context(**options))
        return Opened(contexts[-1].new_page())

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def opened(tab: Open, site: Site) -> Opened:
    return tab().go(site.url)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_image(tmp_path / "photo.png", render_street(8, (120, 200))[0])


def ids(path: Path) -> np.ndarray:
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


def differing(opened: Opened, place: Path, expected: np.ndarray) -> float:
    """Share of the pixels whose class in the saved mask is another than expected."""
    found = ids(opened.saved("#save-mask", place))
    assert found.shape == expected.shape
    return float((found != expected).mean())


def network_of(page: Path) -> Path:
    """The network's file on a page."""
    return page / json.loads((page / "page.json").read_text())["model"]["url"]


def copied(page: Path, place: Path) -> Path:
    return Path(shutil.copytree(page, place))


def replaced(page: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a page knows of its files, as somebody would who exchanged one of them in good faith."""
    facts = json.loads((page / "page.json").read_text())
    change(facts)
    (page / "page.json").write_text(json.dumps(facts))


def test_it_proves_itself_and_says_so(opened: Opened) -> None:
    assert opened.is_good
    assert opened.status.startswith("Checked: 100.000 % of the golden mask with WebAssembly, ")
    assert "WebGPU is not used: not to be had in this browser." in opened.status
    assert opened.tab.evaluate("crossOriginIsolated")  # by the service worker alone: the server sends no such headers
    assert opened.tab.evaluate("navigator.hardwareConcurrency > 1") == ("1 thread." not in opened.status)
    assert "Pictures stay on this device." in opened.tab.inner_text("header")
    assert opened.tab.inner_text("#measures").startswith(
        "The golden image. 384 × 640 pixels"
    )  # the network wants a long side of 640


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_pictures_come_in_all_ways(page: Path, opened: Opened, photo: Path, tmp_path: Path, way: str) -> None:
    if way == "choose":
        opened.choose(photo)
    else:
        opened.give(way, photo)
        opened.shown(photo.stem)
    expected = Segmenter(network_of(page)).segment(read_image(photo))
    assert differing(opened, tmp_path / "mask.png", expected) <= ROUNDING
    assert "120 × 200 pixels, seen by the network at 384 × 640" in opened.tab.inner_text("#measures")
    assert opened.tab.inner_text("#told").startswith("Segmented: ")


def test_a_file_that_is_no_picture_is_told_and_the_page_goes_on(opened: Opened, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    opened.tab.set_input_files("#file", tmp_path / "notes.png")
    opened.tab.wait_for_selector("#trouble:not([hidden])")
    assert opened.tab.inner_text("#trouble") == "This browser cannot read that file as a picture; try a JPEG or PNG."
    opened.choose(photo)
    assert not opened.tab.is_visible("#trouble")


def odd_pictures(folder: Path) -> dict[str, Path]:
    """Pictures that canvases read in their own way, or would."""
    image = Image.fromarray(picture(70, 110))
    clear = image.copy()
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 110).astype(np.uint8), (70, 1))))
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # A profile with red and blue exchanged: whoever applies it sees other colours.
    swapped = lab.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    files = {name: folder / f"{name}.png" for name in ("clear", "grey", "palette", "profile", "deep")}
    files |= {name: folder / f"{name}.jpg" for name in ("jpeg", "turned")}
    clear.save(files["clear"])
    image.convert("L").save(files["grey"])
    image.quantize(40).save(files["palette"])
    image.save(files["profile"], icc_profile=swapped)
    Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257).save(files["deep"])
    image.save(files["jpeg"], quality=90)
    image.save(files["turned"], quality=90, exif=turned)
    return files


def test_pictures_are_read_as_featherseg_reads_them(opened: Opened, tmp_path: Path) -> None:
    opened.tab.fill("#opacity", "0")  # what is saved is the picture itself, as it was read
    for name, path in odd_pictures(tmp_path).items():
        opened.choose(path)
        found, expected = read_image(opened.saved("#save-overlay", tmp_path / "seen.png")), read_image(path)
        assert found.shape == expected.shape, name
        assert np.abs(found.astype(int) - expected).max() <= 1, name
        assert (found != expected).mean() < 0.001, name


def test_masks_are_featherseg_s_own_on_fifty_validation_images(
    page: Path, opened: Opened, shared: Path, tmp_path: Path
) -> None:
    photos = sorted((shared / "data" / "CamVid" / "val").glob("*.png"))[:100:2]
    segmenter = Segmenter(network_of(page))
    worst = 0.0
    for path in photos:
        opened.choose(path)
        worst = max(worst, differing(opened, tmp_path / "mask.png", segmenter.segment(read_image(path))))
    assert len(photos) == 50
    assert worst <= ROUNDING


def test_jpegs_too(page: Path, opened: Opened, shared: Path, tmp_path: Path) -> None:
    photos = sorted((shared / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages").glob("*.jpg"))[:10]
    segmenter = Segmenter(network_of(page))
    found = []
    for path in photos:
        opened.choose(path)
        found.append(differing(opened, tmp_path / "mask.png", segmenter.segment(read_image(path))))
    assert max(found) <= ROUNDING


def test_the_camera(opened: Opened) -> None:
    opened.tab.click("#camera")
    opened.shown("camera")
    opened.tab.wait_for_selector("#rate:has-text('frames a second')")
    opened.tab.wait_for_selector("#rate:not(:has-text('0.0 '))", timeout=60_000)
    assert opened.tab.get_attribute("#camera", "aria-pressed") == "true"
    assert opened.tab.inner_text("#camera") == "Stop camera"
    shares = opened.tab.inner_text("#legend")
    assert "%" in shares
    opened.tab.click("#camera")
    assert opened.tab.get_attribute("#camera", "aria-pressed") == "false"
    assert not opened.tab.is_visible("#rate")


def test_a_camera_that_is_not_given_is_told(opened: Opened) -> None:
    opened.tab.evaluate(
        """() => {
            const refusal = Object.assign(new Error("no"), { name: "NotAllowedError" });
            navigator.mediaDevices.getUserMedia = () => Promise.reject(refusal);
        }"""
    )
    opened.tab.click("#camera")
    opened.tab.wait_for_selector("#trouble:not([hidden])")
    assert opened.tab.inner_text("#trouble") == "The camera cannot be used: Its use was not allowed."
    assert opened.tab.get_attribute("#camera", "aria-pressed") == "false"


def test_classes_opacity_and_the_saved_overlay(opened: Opened, photo: Path, tmp_path: Path) -> None:
    opened.choose(photo)
    mask = ids(opened.saved("#save-mask", tmp_path / "mask.png"))
    classes = read_artifact(STREET).classes
    common = int(np.bincount(mask.ravel()).argmax())
    box = opened.tab.locator("#picture").bounding_box()
    row, column = 60, 100
    opened.tab.hover(
        "#picture", position={"x": (column + 0.5) * box["width"] / 200, "y": (row + 0.5) * box["height"] / 120}
    )
    assert opened.tab.inner_text("#pointer") == classes.names[mask[row, column]]
    opened.tab.fill("#opacity", "100")
    assert opened.tab.inner_text("#opacity-text") == "100 %"
    overlay = read_image(opened.saved("#save-overlay", tmp_path / "all.png"))
    np.testing.assert_array_equal(overlay, classes.palette()[mask])
    opened.tab.get_by_role("checkbox", name=classes.names[common]).click()
    overlay = read_image(opened.saved("#save-overlay", tmp_path / "one_less.png"))
    hidden = mask == common
    np.testing.assert_array_equal(overlay[hidden], read_image(photo)[hidden])
    np.testing.assert_array_equal(overlay[~hidden], classes.palette()[mask][~hidden])
    opened.tab.click("#none")
    np.testing.assert_array_equal(read_image(opened.saved("#save-overlay", tmp_path / "none.png")), read_image(photo))
    share = opened.tab.locator("#legend li").nth(common).locator(".share").inner_text()
    assert float(share.removesuffix(" %")) == pytest.approx(100 * hidden.mean(), abs=0.11)


def test_the_network_may_be_shown_less(opened: Opened, tmp_path: Path) -> None:
    large = write_image(tmp_path / "large.png", picture(500, 800))
    opened.choose(large)
    assert "seen by the network at 400 × 640:" in opened.tab.inner_text("#measures")
    opened.tab.select_option("#detail", "131072")
    opened.tab.wait_for_selector("#measures:has-text('instead of 400 × 640')")
    assert ids(opened.saved("#save-mask", tmp_path / "mask.png")).shape == (500, 800)


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


def test_it_opens_again_without_a_server(page: Path, tab: Open, photo: Path, tmp_path: Path) -> None:
    with served(page) as site:
        opened = tab().go(site.url)
        assert opened.is_good
    opened.tab.reload()
    opened.settle()
    assert opened.is_good, opened.status
    opened.choose(photo)
    assert differing(opened, tmp_path / "mask.png", Segmenter(network_of(page)).segment(read_image(photo))) <= ROUNDING


def test_a_page_that_was_made_anew_is_seen_at_once(page: Path, ort_web: Path, tab: Open, tmp_path: Path) -> None:
    place = copied(page, tmp_path / "page")
    with served(place) as site:
        opened = tab().go(site.url)
        write_page(STREET, place, golden=render_street(9, (64, 64))[0], runtime=ort_web, title="anew")
        opened.tab.reload()
        opened.settle()
        assert opened.is_good
        assert opened.tab.inner_text("h1") == "anew"
        assert "640 × 640" in opened.tab.inner_text("#measures")


def test_no_picture_leaves_the_page(tab: Open, page: Path, photo: Path, tmp_path: Path) -> None:
    with served(page) as site, served(tmp_path) as elsewhere:
        opened = tab()
        asked: list[str] = []
        opened.tab.context.on("request", lambda request: asked.append(request.url))
        opened.go(site.url)
        before = len(site.asked)
        opened.choose(photo)
        opened.tab.click("#camera")
        opened.shown("camera")
        opened.tab.click("#camera")
        assert site.asked[before:] == []
        assert {line.split()[0] for line in site.asked} == {"GET"}
        assert all(url.startswith((site.url, "blob:")) for url in asked)
        # Neither the page nor its worker could, whatever ran in them.
        attempt = f"fetch('{elsewhere.url}', {{ mode: 'no-cors' }}).then(() => 'sent', () => 'refused')"
        assert opened.tab.evaluate(attempt) == "refused"
        ours, *_ = opened.tab.workers  # the others are threads, which do nothing but wait for work
        assert ours.evaluate(attempt) == "refused"
        assert elsewhere.asked == []


def test_from_a_public_address(ort_web: Path, tab: Open, tmp_path: Path) -> None:
    page = write_page(STREET, tmp_path / "page", golden=GOLDEN).folder
    with served(page) as site:
        opened = tab(service_workers="block")

        def answer(route: Any) -> None:
            name = route.request.url.rpartition("/")[2]
            headers = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
            route.fulfill(body=(ort_web / "dist" / name).read_bytes(), headers=headers)

        opened.tab.context.route("https://cdn.jsdelivr.net/**", answer)
        opened.go(site.url)
        assert opened.is_good, opened.status
        assert "1 thread." in opened.status  # without a service worker, from a server that sends no headers
        assert "and ONNX Runtime from cdn.jsdelivr.net" in opened.tab.inner_text("header")


def test_a_screen_of_390_pixels(tab: Open, site: Site, photo: Path) -> None:
    opened = tab(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).go(site.url)
    opened.choose(photo)
    assert opened.tab.evaluate("document.documentElement.scrollWidth") <= 390
    for control in opened.tab.locator("button:visible, label.button, select:visible, input[type=range]").all():
        box = control.bounding_box()
        assert box["x"] >= 0, control
        assert box["x"] + box["width"] <= 390, control
    for name in ("#camera", "#golden", "#save-mask"):
        assert opened.tab.locator(name).bounding_box()["height"] >= 40
    assert opened.tab.locator("#below").bounding_box()["width"] > 300


def test_by_keyboard_and_screen_reader(opened: Opened, photo: Path) -> None:
    tab = opened.tab
    for role, name in (
        ("button", "Camera"),
        ("button", "Golden image"),
        ("button", "Save mask"),
        ("slider", "Opacity"),
        ("combobox", "Network sees"),
        ("checkbox", "Road"),
        ("list", "Classes"),
    ):
        assert tab.get_by_role(role, name=name).count() == 1, name
    opened.choose(photo)
    assert tab.get_by_role("img", name="photo, segmented: ").count() == 1
    tab.locator("body").click(position={"x": 2, "y": 2})
    reached = []
    for _ in range(12):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.type"))
    assert reached[0] == "file"
    assert {"camera", "golden", "all", "none", "checkbox"} <= set(reached)
    road = tab.get_by_role("checkbox", name="Road")
    road.focus()
    tab.keyboard.press("Space")
    assert not road.is_checked()
    tab.locator("#opacity").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.inner_text("#opacity-text") == "61 %"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(tab: Open, site: Site, scheme: str) -> None:
    opened = tab(color_scheme=scheme).go(site.url)
    places = ("h1", "#about", "#status", "#measures", "#legend .name", "#golden", ".button.main", "summary", "#all")
    for place in places:
        assert opened.tab.locator(place).first.evaluate(CONTRAST) >= 4.5, place


CONTRAST = """(element) => {
    // As WCAG 2.2 defines contrast; the first background that is not clear lies behind the words.
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    let behind = element;
    while (behind && (parts(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const light = (color) => {
        const [red, green, blue] = parts(color).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const both = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""
