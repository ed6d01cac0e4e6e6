from __future__ import annotations

import re

import pytest

from featherseg.data.groups import find_group, group_note

FOUND = {
    "eyes": ([f"Image_{i:02d}{eye}" for i in range(1, 15) for eye in "LR"], 14),
    "slices": ([f"P{p:03d}_slice_{i}" for p in range(6) for i in range(4)], 6),
    "recordings": ([f"{r}_{i:06d}" for r in ("0001TP", "0006R0", "0016E5", "Seq05VD") for i in range(30)], 4),
    "tiles": (
        [f"{s}_r{r:02d}_c{c:02d}" for s in ("lake", "wood", "town", "hill") for r in range(3) for c in range(3)],
        4,
    ),
    "patients of sites": ([f"siteA-P{p:03d}-L-{i}" for p in range(6) for i in range(4)], 6),
    "folders": ([f"P{p}/img/{i}" for p in range(5) for i in range(4)], 5),
}
NONE = {
    "frames of one recording": [f"frame_{i:04d}" for i in range(50)],
    "tiles of one scene": [f"scene_r{r:02d}_c{c:02d}" for r in range(5) for c in range(5)],
    "years": [f"{year}_{i:06d}" for year in (2007, 2008, 2009, 2010) for i in range(20)],
    "words": ["cat", "dog", "house", "tree", "car", "road", "sky"],
    "numbers": [f"{i}_training" for i in range(21, 41)],
    "two groups": [f"{name}_{i}" for name in ("day", "night") for i in range(20)],
    "one large group": [f"a_{i}" for i in range(90)] + ["b_1", "b_2", "c_1", "c_2"],
    "few": ["a_1", "a_2", "b_1", "b_2"],
}


@pytest.mark.parametrize("name", FOUND)
def test_groups_of_names(name: str) -> None:
    names, count = FOUND[name]
    key = find_group(names)
    assert key is not None
    assert len(key.groups) == count
    assert all(re.search(key.pattern, each) for each in names)
    assert f"{len(names)} images of {count} groups" in group_note(names, key.pattern)[0]


@pytest.mark.parametrize("name", NONE)
def test_names_without_groups(name: str) -> None:
    assert find_group(NONE[name]) is None
