"""`featherseg doctor`: exit codes, JSON, the page, the copy, and a training on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import zoo

from conftest import Ended
from featherseg.doctor.examine import examine
from featherseg.doctor.page import write_page
from featherseg.doctor.rules import RULES

Run = Callable[..., Ended]


def broken(name: str, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    zoo.ZOO[name].base(root)
    zoo.ZOO[name].build(root)
    return root


def test_clean(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", zoo.clean_folder(tmp_path / "data"), "-q")
    assert ended.code == 0
    assert "folder, 9 train, 3 val; 0 errors, 0 warnings, 0 notes" in ended.out
    assert ended.err == ""


def test_notes_alone_are_clean(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", broken("night", tmp_path))
    assert ended.code == 0
    assert "note statistics-far: 1 dataset, colours are far" in ended.out


def test_findings(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", broken("an_id_too_many", tmp_path))
    assert ended.code == 1
    assert "error unknown-ids: 1 file, masks hold values that are no class" in ended.out
    assert "masks/train/a_scene.png: 9 (1.6% of pixels)" in ended.out
    assert "--fix   those pixels become 255, ignored" in ended.out


def test_json(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", broken("an_id_too_many", tmp_path), "--json")
    assert ended.code == 1
    (finding,) = ended.json["findings"]
    assert (finding["id"], finding["severity"], finding["count"], finding["fixable"]) == (
        "unknown-ids",
        "error",
        1,
        True,
    )
    assert ended.json["splits"] == {"train": 9, "val": 3}
    assert ended.json["sizes"] == {"64x96": 12}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "nowhere is no folder"),
        ((".", "--kind", "vocc"), 'did you mean "voc"'),
        (("data", "--stride", "0"), "stride is 0"),
        (("data", "--fix", "data/out"), "lies in the dataset"),
        (("data", "--classes", "nowhere.toml"), "does not exist"),
    ],
)
def test_refused(run: Run, words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.clean_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert run("doctor", *words).refused(said)


def test_hopeless_data_is_refused_after_the_report(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", broken("masks_are_photographs", tmp_path), "--fix", tmp_path / "out")
    assert ended.code == 2
    assert "masks-photographs" in ended.out
    assert "error: " in ended.err
    assert not (tmp_path / "out").exists()


def test_fix_and_train(run: Run, tmp_path: Path) -> None:
    ended = run("doctor", broken("ids_from_one", tmp_path), "--fix", tmp_path / "out", "--json")
    assert ended.code == 0  # of the copy
    assert not ended.json["clean"]
    assert ended.json["copy"]["examination"]["clean"]
    assert ended.json["copy"]["splits"] == {"train": 9, "val": 3}
    config = tmp_path / "out" / "featherseg.toml"
    trained = run("train", config, "train.epochs=1", "train.device=cpu", f"out={tmp_path / 'runs'}", "-q", "--json")
    assert trained.code == 0, trained.err
    assert Path(trained.json["run"]).name == "out"


class Tags(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "line", "path", "circle", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["an_id_too_many", "masks_are_photographs", "no_names_in_common", "wires"])
def test_page(name: str, run: Run, tmp_path: Path) -> None:
    root = broken(name, tmp_path)
    run("doctor", root, "--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert all(address.startswith("data:image/") for address in tags.addresses)
    for finding in examine(root).findings:
        assert finding.id in text
    assert ("Samples" in text) == (name not in ("masks_are_photographs", "no_names_in_common"))


def test_page_escapes_names(tmp_path: Path) -> None:
    root = zoo.clean_folder(tmp_path / "<b>data")
    (root / "classes.toml").write_text('names = ["<script>alert(1)</script>", "road", "car"]\n')
    zoo.image(root).rename(zoo.image(root).with_name("<img src=x>.png"))
    text = write_page(examine(root), tmp_path / "page.html").read_text()
    assert "<script>" not in text
    assert "<img src=x>" not in text
    assert "<b>data" not in text


def test_rules_are_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    assert re.findall(r"^\| `([a-z0-9-]+)` \|", page, re.MULTILINE) == [rule.id for rule in RULES]
    for rule in RULES:
        assert f"| `{rule.id}` | {rule.severity} |" in page
        assert rule.title[0].islower()
        assert not rule.title.endswith(".")


def test_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from featherseg.cli.main import main\nmain(['doctor', *sys.argv[1:], '-q', '--json'])"
    )
    words = [
        str(zoo.clean_folder(tmp_path / "data")),
        "--fix",
        str(tmp_path / "out"),
        "--html",
        str(tmp_path / "p.html"),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["copy"]["examination"]["clean"]
