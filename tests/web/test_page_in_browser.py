"""The page in headless Chromium: it proves itself or refuses, takes pictures in all ways, and keeps them to itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from artifact_fixtures import picture
from browsers import Opened, Site, served
from featherseg.core.images import read_image, write_image
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.web.page import write_page
from street_page import GOLDEN, ROUNDING, Open, copied, differing, ids, network_of

pytestmark = pytest.mark.slow


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
