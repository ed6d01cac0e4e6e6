"""Write the reference pages from the program itself, before the site is built: ``python docs/write_reference.py``."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import featherseg
from featherseg import batch
from featherseg.cli.app import app
from featherseg.cli.main import main  # noqa: F401 (brings in the commands)

HERE = Path(__file__).parent / "reference"

EXIT_CODES = """## Exit codes

| code | meaning |
|---|---|
| 0 | done; `doctor`: nothing found |
| 1 | a file failed its verification and was not written; `doctor`: findings |
| 2 | a mistake in what was asked or given: one line says what, its value, and what to do |
| 130 | interrupted; what was finished is kept |

Results go to standard output, progress and warnings to standard error; without colours where that is no terminal.
`--json` prints the result for programs, `--quiet` no progress.
"""


def command_page() -> str:
    """Return the page on the command line."""
    text = app.generate_docs(output_format="markdown", heading_level=1)
    text = text.replace("# featherseg\n", "# Command line\n", 1)
    return f"{text.rstrip()}\n\n{EXIT_CODES}"


def python_page() -> str:
    """Return the page on the public names: signature and docstring of each, and of its methods."""
    parts = [
        "# Python",
        "",
        "The public names of `featherseg`. Importing it imports no torch before one of them needs it.",
        "",
    ]
    public = {name: getattr(featherseg, name) for name in featherseg.__all__}
    public |= {f"batch.{name}": getattr(batch, name) for name in batch.__all__}
    for name, thing in public.items():
        parts += [f"## {name}", "", *_about(name, thing)]
        for method, member in _methods(thing):
            parts += [f"### {name}.{method}", "", *_about(method, member)]
    return "\n".join(parts).rstrip() + "\n"


def _about(name: str, thing: Any) -> list[str]:
    """Return the lines of one name: its signature, and its docstring with the sections as lists."""
    try:
        signature = "" if isinstance(thing, property) else str(inspect.signature(thing))
    except ValueError:  # an error's, which is Python's own
        signature = ""
    signature = re.sub(r"(: |-> )'([^']+)'", r"\1\2", signature)  # annotations that are still text
    # Markdown takes single backticks, and knows no roles.
    text = re.sub(r":\w+:`[~.]*([^`]+)`", r"`\1`", inspect.getdoc(thing) or "").replace("``", "`")
    text = re.sub(r"^(Args|Attributes|Returns|Raises):\n((?:    .*\n?|\n)+)", _section, text + "\n", flags=re.MULTILINE)
    return ["```python", f"{name}{signature}", "```", "", text.strip(), ""]


def _section(match: re.Match[str]) -> str:
    """Return a section of a docstring with one bullet an entry."""
    body = re.sub(r"\n {8,}", " ", match[2].rstrip())
    entries = [line.strip() for line in body.splitlines() if line.strip()]
    if match[1] != "Returns":
        entries = [re.sub(r"^(\*{0,2}[\w, ]+?):", r"`\1`:", entry) for entry in entries]
    return f"**{match[1]}**\n\n" + "\n".join(f"- {entry}" for entry in entries) + "\n\n"


def _methods(thing: object) -> list[tuple[str, object]]:
    """Return a class's own public methods and properties, in the order of their definition."""
    if not inspect.isclass(thing):
        return []
    members = {name: getattr(member, "__func__", member) for name, member in vars(thing).items()}
    return [
        (name, member)
        for name, member in members.items()
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)) and member.__doc__
    ]


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    (HERE / "cli.md").write_text(command_page(), encoding="utf-8")
    (HERE / "api.md").write_text(python_page(), encoding="utf-8")
