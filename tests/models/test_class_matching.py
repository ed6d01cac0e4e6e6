from __future__ import annotations

import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.models.class_matching import matching_classes

OURS = ClassSet(("Road", "Traffic-Sign", "Bicyclist", "Sky"))
THEIRS = ClassSet(("sky", "road", "traffic sign", "rider", "bicycle"))


def test_names_match_in_any_spelling() -> None:
    assert matching_classes(OURS, THEIRS) == {0: (1,), 1: (2,), 3: (0,)}


def test_a_table_says_what_names_do_not() -> None:
    table = {"Bicyclist": ["Rider", "bicycle"], "Road": [], "Sky": "road"}
    assert matching_classes(OURS, THEIRS, table) == {1: (2,), 2: (3, 4), 3: (1,)}


@pytest.mark.parametrize(
    ("table", "words"),
    [({"Rode": "road"}, "T has 'Rode', no class of this network"), ({"Road": "street"}, "T has 'street' for 'Road'")],
)
def test_classes_that_there_are_not_are_refused(table: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        matching_classes(OURS, THEIRS, table, "T")
