"""Recipes of any content: a configuration that survives its own TOML, or one line."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w
from fuzzing import Edit, answer, edits, fuzzed, json_values, mutated
from hypothesis import given
from hypothesis import strategies as st

from featherseg.core.config import Config
from featherseg.core.errors import ConfigError
from featherseg.core.recipes import config_from_dict, config_to_dict, config_to_toml, load_config


def keys(kind: type[msgspec.Struct] = Config, place: str = "") -> list[str]:
    """Return all settings that there are, sections included."""
    found = []
    for field in msgspec.structs.fields(kind):
        found.append(place + field.name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += keys(field.type, f"{place}{field.name}.")
    return found


KEYS = keys()
RECIPE = config_to_toml(config_from_dict({"ship": {"tolerances": {"int8": {"min_agreement": 0.9}}}})).encode()

values = st.one_of(
    json_values(),
    st.sampled_from([float("inf"), float("-inf"), float("nan"), 2**63, -(2**63) - 1, 10**400]),
    st.datetimes() | st.dates() | st.times(),
    st.sampled_from([datetime.datetime(1979, 5, 27, tzinfo=datetime.UTC)]),
)


def check(found: Any) -> None:
    if isinstance(found, ConfigError):
        return
    assert isinstance(found, Config)
    back = answer(_read_back, found)
    assert isinstance(back, Config), back
    assert config_to_dict(back) == config_to_dict(found) or _nan(found)  # TOML has no None; what is None is left out


def _read_back(config: Config) -> Config:
    return config_from_dict(tomllib.loads(config_to_toml(config)))


def _nan(config: Config) -> bool:
    return "nan" in repr(config)  # which is not itself


@fuzzed(300)
@given(changes=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=4))
def test_values_of_any_kind(changes: dict[str, Any]) -> None:
    tree: dict[str, Any] = {}
    for key in sorted(changes):  # sections come before what is in them
        *sections, last = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[last] = changes[key]
    check(answer(config_from_dict, tree))


@fuzzed(200)
@given(tree=st.dictionaries(st.sampled_from([*KEYS, "model", "optim"]) | st.text(max_size=8), values, max_size=4))
def test_unknown_keys_and_sections(tree: dict[str, Any]) -> None:
    check(answer(config_from_dict, tree))


@fuzzed(300)
@given(key=st.sampled_from(KEYS) | st.text(max_size=20), value=values | st.text(max_size=40))
def test_overrides(key: str, value: Any) -> None:
    try:
        text = tomli_w.dumps({"v": value}).partition(" = ")[2].strip()
    except (TypeError, ValueError, AttributeError):  # what TOML cannot hold is written as it is
        text = str(value) if not isinstance(value, int) else hex(value)
    check(answer(load_config, None, [f"{key}={text}"]))


@fuzzed(300)
@given(changes=edits(), section=st.sampled_from([b"", b"[model.options]\n", b"[[loss.out]]\n"]))
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, changes: list[Edit], section: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    path.write_bytes(mutated(RECIPE + section, changes))
    check(answer(load_config, path))


DEEP = 20_000


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP,
        "a = " + "[" * DEEP + "]" * DEEP,
        "a = " + "{a = " * DEEP,
        ".".join("a" * DEEP) + " = 1",
        "model.options." + ".".join("a" * DEEP) + " = 1",
        f"[model.options.{'.'.join('a' * DEEP)}]",
        "seed = " + "9" * 5000,
        "name = '" + "x" * 100_000 + "'",
        "x" * 100_000 + " = 1",
        "\ufeffseed = 'three'",
        "optim.lr = 1979-05-27T07:32:00Z",
        'name = "a\\u0000b"',
        "[model]\n" * 3,
    ],
    ids=range(13),
)
def test_what_breaks_readers(tmp_path: Path, text: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(text.encode())
    assert isinstance(answer(load_config, path), ConfigError)
    assert isinstance(answer(load_config, None, [text]), ConfigError)


@pytest.mark.parametrize(
    "override",
    [
        "seed=4294967296",  # over what generators of random numbers take, once epochs are mixed in
        "data.workers=100000",  # a process each
        "data.batch_size=9999999999999999999",
        "augment.scale=[1e-30, 1e-30]",
        "augment.scale=[1.0, 1e9]",
        "loss.out=[{name=3}]",
        "loss.out=[{name='cross_entropy', weight='x'}]",
        "loss.aux=[{name='cross_entropy', weight=nan}]",
        "distill.losses=[{name=['cwd']}]",
        "ship.threads=99999999999",
    ],
)
def test_what_would_break_a_training_later(override: str) -> None:
    section, _, key = override.partition("=")[0].partition(".")
    found = answer(load_config, None, [override])
    assert isinstance(found, ConfigError)
    assert section in str(found)
    assert key in str(found)


def test_an_override_is_one_setting() -> None:
    """The rest of what looks like more lines would be lost without a word."""
    assert load_config(None, ["name=a\nseed = 3"]).name == "a\nseed = 3"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 3\r\n")
    assert load_config(path).seed == 3


def test_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    for encoding in ("utf-16", "latin-1"):
        path.write_bytes('name = "straße"'.encode(encoding))
        assert "is not TOML" in str(answer(load_config, path))
