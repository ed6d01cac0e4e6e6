"""Commands that messages tell people to type exist, with the options that they name."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import featherseg
from conftest import Ended

OPTION = re.compile(r"--[a-z][a-z-]*")
TYPED = re.compile(r"featherseg ([a-z]+)((?: (?!with |and )[^ ,;()`\"']+)*)")


def advised() -> dict[str, set[str]]:
    """Return the options by command, of all calls of command() and of all texts with "featherseg COMMAND --option"."""
    found: dict[str, set[str]] = {}
    for path in Path(featherseg.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "command" and node.args:
                words = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
                words = [word for word in words if isinstance(word, str)]
                if words and words[0].isalpha():
                    found.setdefault(words[0], set()).update(word for word in words if OPTION.fullmatch(word))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                for match in TYPED.finditer(node.value):
                    found.setdefault(match[1], set()).update(OPTION.findall(match[2]))
    return found


def test_commands_and_options_in_messages_exist(run: Callable[..., Ended]) -> None:
    found = advised()
    assert {"--fix"} <= found["doctor"]
    assert {"--resume"} <= found["train"]
    assert {"--fetch"} <= found["weights"]
    commands = run("--help").out
    for name, options in sorted(found.items()):
        if not options:
            continue
        assert re.search(rf"\b{name}\b", commands), name
        known = set(OPTION.findall(run(name, "--help").out)) | {"--verbose"}  # which every command has
        assert options <= known, (name, options - known)


@pytest.mark.parametrize("layout", ["nothing", "two kinds", "no masks"])
def test_a_folder_that_is_not_understood_is_met_with_settings_of_the_command(
    layout: str, run: Callable[..., Ended], tmp_path: Path
) -> None:
    if layout != "nothing":
        (tmp_path / "images").mkdir()
        (tmp_path / "masks").mkdir()
    if layout == "two kinds":
        (tmp_path / "leftImg8bit").mkdir()
        (tmp_path / "_annotations.coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    ended = run("train", tmp_path, "-q")
    assert ended.code == 2
    bare = re.sub(r"featherseg doctor [^;,]*", "", ended.err)
    assert "--kind" not in bare or "data.name=" in bare
    assert "--fix" not in ended.err  # there is nothing to mend
