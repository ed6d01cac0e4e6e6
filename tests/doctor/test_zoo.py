"""Every broken dataset is found by its findings and no others; its copy has none of those that can be mended."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import zoo

from featherseg.core.errors import DataError
from featherseg.core.recipes import load_config
from featherseg.data.datasets import create_dataset
from featherseg.doctor.examine import examine
from featherseg.doctor.mend import make_clean_copy
from featherseg.doctor.rules import RULES

CLEAN = {
    "folder": zoo.clean_folder,
    "voc": zoo.clean_voc,
    "camvid": zoo.clean_camvid,
    "cityscapes": zoo.clean_cityscapes,
}


def digest(root: Path) -> str:
    """Names, links, contents and times of everything below a folder."""
    total = hashlib.sha256()
    for home, folders, files in sorted(os.walk(root)):
        for name in sorted([*folders, *files]):
            path = Path(home, name)
            total.update(f"{path.relative_to(root)} {path.lstat().st_mtime_ns} {path.lstat().st_mode}".encode())
            total.update(str(path.readlink()).encode() if path.is_symlink() else b"")
            if path.is_file():
                total.update(path.read_bytes())
    return total.hexdigest()


@pytest.mark.parametrize("name", zoo.ZOO)
def test_zoo(name: str, tmp_path: Path) -> None:
    animal, root, out = zoo.ZOO[name], tmp_path / "data", tmp_path / "out"
    root.mkdir()
    animal.base(root)
    animal.build(root)
    before = digest(root)
    examination = examine(root)
    assert {f.id: f.examples for f in examination.findings}.keys() == animal.finds
    text = str([f.examples for f in examination.findings])
    assert all(part in text for part in animal.names), text
    assert examination.clean == all(f.severity == "note" for f in examination.findings)
    assert all(f.count >= len(f.examples) > 0 for f in examination.findings)
    if animal.hopeless:
        with pytest.raises(DataError):
            make_clean_copy(examination, out)
        assert not out.exists()
    else:
        copy = make_clean_copy(examination, out)
        again = examine(out)
        assert not {f.id: f.examples for f in again.findings if f.rule.fixable}
        assert again.layout.kind == "folder"
        data = load_config(copy.config).data
        for split, count in copy.splits.items():
            dataset = create_dataset(data.name, data.root, split, **data.options)
            assert len(dataset) == count > 0
            assert dataset.classes.ignore_index == 255
            for i in range(count):
                dataset.read(i)
        pairs = len({pair.image for pair in examination.layout.pairs})
        assert sum(copy.splits.values()) == pairs - len({n for n, _ in copy.left_out if n}) or examination.spare
    assert digest(root) == before


@pytest.mark.parametrize("kind", CLEAN)
def test_clean_datasets_have_no_finding(kind: str, tmp_path: Path) -> None:
    examination = examine(CLEAN[kind](tmp_path))
    assert {f.id: f.examples for f in examination.findings} == {}
    assert examination.layout.kind == kind
    assert examination.clean
    dataset = create_dataset(kind, tmp_path, "train")
    assert [(p.image, p.mask) for p in examination.layout.pairs if p.split == "train"] == list(dataset.pairs)
    assert examination.meaning is not None
    assert examination.meaning.classes == dataset.classes


def test_the_zoo_has_every_rule() -> None:
    found = frozenset().union(*(animal.finds for animal in zoo.ZOO.values()))
    elsewhere = {"no-permission"}  # needs another user
    assert {rule.id for rule in RULES} - elsewhere == found
    assert len(zoo.ZOO) >= 30
