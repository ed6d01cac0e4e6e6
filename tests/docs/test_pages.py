"""Every block of code in the README and the docs is run, page by page, in a small world where its files exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Ended
from featherseg.cli.app import app
from featherseg.compress import proven
from featherseg.compress.quantize import QuantizeResult, quantize
from featherseg.core.images import read_image
from featherseg.core.recipes import config_from_dict
from featherseg.exporting.verdict import Tolerance
from featherseg.scaling.cluster import cluster
from featherseg.shipping.context import ShipContext
from pages_world import QUICK, ROOT, make_world

pytest.importorskip("av", reason="the pages run videos too")
pytest.importorskip("ray", reason='the page on scale needs pip install "featherseg[ray]"')

PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "reference" not in p.parts)]
NOT_OURS = ("pip install", "npm install", "uv run", "sha256sum", "python ", "openssl ", "curl ")
"""How lines begin that are others' commands, or ours in another process."""
NOT_HERE = re.compile(
    r"--source (0|rtsp:)|--to tensorrt|--time \d+m|--runtime node_modules|s3://|featherseg serve|featherseg pick "
)
"""What needs a camera, a GPU, a package of npm, a cloud or minutes: only parsed."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, and what it says."""

    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.S | re.M):
        yield Block(language, text)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a shell block, without comments; a backslash joins lines."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield shlex.join(words)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8 may lose what it likes: the pages' networks are hardly trained."""
    usual = ShipContext.tolerance
    wide = Tolerance(max_logit_error=100.0, min_agreement=0.0, max_miou_drop=1.0, max_confidence_error=1.0)
    monkeypatch.setattr(
        ShipContext, "tolerance", lambda self, precision: wide if precision == "int8" else usual(self, precision)
    )

    def loose(*given: Any, **options: Any) -> QuantizeResult:
        return quantize(*given[:-1], replace(given[-1], max_drop=0.99), **options)

    monkeypatch.setattr(proven, "quantize", loose)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves it to the system to end its processes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("page", [p for p in PAGES if list(blocks(p))], ids=lambda p: p.stem)
def test_page(
    page: Path, world: Path, run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world, tmp_path, symlinks=True, dirs_exist_ok=True)
    if re.search(r"train recipes/camvid_fastsegnet\.toml(?!.*name=)", page.read_text(encoding="utf-8")):
        shutil.rmtree(tmp_path / "runs" / "camvid_fastsegnet")  # the page makes it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))  # for Ray's processes
    names: dict[str, object] = {"image": read_image(tmp_path / "street.png")}
    with cluster(2, 1) if page.stem == "scale" else nullcontext():  # one Ray for the page, for its start takes long
        _run_blocks(page, names, run)


def _run_blocks(page: Path, names: dict[str, object], run: Callable[..., Ended]) -> None:
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, str(page), "exec"), names)
        elif block.language == "toml":
            config_from_dict(tomllib.loads(block.text))
        elif block.language == "sh":
            for command in commands(block.text):
                _run_command(command, run)
        else:
            # bash: whole scripts; mermaid: pictures
            assert block.language in ("", "bash", "mermaid"), f"{page}: what is {block.language}?"
            assert not re.search("^featherseg ", block.text, re.M), f"{page}: a command in a block that is not run"


def _run_command(command: str, run: Callable[..., Ended]) -> None:
    if command.startswith(NOT_OURS):
        return
    words = [str(Path(word).expanduser()) if word.startswith("~") else word for word in shlex.split(command)]
    assert words[0] == "featherseg", command
    if NOT_HERE.search(command):
        app.parse_args(words[1:], exit_on_error=False)
        return
    if words[1] == "train" and Path(words[2]).is_dir():
        given = {word.partition("=")[0] for word in words if "=" in word}
        words += [setting for setting in QUICK if setting.partition("=")[0] not in given]
    if words[1] in ("bench", "profile") and "--runs" not in words:
        words += ["--runs", "2"]
    ended = run(*words[1:])
    found = 1 if words[1] == "doctor" and ended.code == 1 else 0  # its findings are no failure of the page
    assert ended.code == found, f"{command}\n{ended.err}"


def test_pages_exist_and_have_blocks() -> None:
    assert sum(len(list(blocks(page))) for page in PAGES) > 15
