"""A page of the street network, opened in tabs of a headless Chromium, and what its tests ask of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browsers import Opened, Site, served
from featherseg.core.images import write_image
from featherseg.data.readers.synthetic import render_street
from featherseg.evaluation.opening import STREET
from featherseg.web.page import write_page

GOLDEN = render_street(3, (96, 160))[0]
ROUNDING = 1e-4
"""Share of a mask's pixels that engines may see otherwise: those whose two best classes are equal but for rounding."""
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
