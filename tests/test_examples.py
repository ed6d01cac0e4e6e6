"""The programs in ``examples/`` run, and what the README names is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import featherseg
from featherseg.core.recipes import load_config

ROOT = Path(__file__).parents[1]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_own_folder_ends_in_a_file_that_onnxruntime_alone_can_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load("own_folder").main(tmp_path, images=8, epochs=1)
    assert "passed" in capsys.readouterr().out
    assert (tmp_path / "overlay.png").is_file()

    image = sorted((tmp_path / "streets" / "images" / "val").iterdir())[0]
    load("onnxruntime_only").main(str(tmp_path / "street.onnx"), str(image), str(tmp_path / "mask.png"))
    with Image.open(tmp_path / "mask.png") as file:
        mask = np.asarray(file)
    ours = featherseg.Segmenter(tmp_path / "street.onnx")(np.asarray(Image.open(image).convert("RGB"))).mask
    # Pillow interpolates in another order of floating-point operations; ties on borders may fall otherwise.
    assert (mask == ours).mean() > 0.999


def test_names_in_the_readme_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"featherseg\.([A-Za-z_]+)\(", text))
    assert names
    assert names <= set(featherseg.__all__)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_valid_and_named_after_their_file(recipe: Path) -> None:
    assert load_config(recipe).name == recipe.stem


GENERATED = ("reference/api.md", "reference/cli.md")
"""Pages that docs/write_reference.py writes before the site is built, which itself refuses links that lead nowhere."""


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8")):
            written = target in GENERATED
            assert written or (page.parent / target).exists(), f"{page.name} links to {target}"
