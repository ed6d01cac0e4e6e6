"""From a folder alone to what a recipe says of it: kind, splits, options and classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.formatting import command
from ..core.types import ClassSet
from .classes import understand
from .examine import in_parallel, quick_check
from .listing import list_pairs
from .mend import advice
from .pairing import printable
from .probe import probe
from .rules import Findings

SAMPLE = 24
"""Pairs that are looked at where no file names the classes."""


@dataclass(frozen=True)
class InferredData:
    """What a folder is.

    Args:
        kind: as in the registry of datasets.
        root: the folder.
        train_split: name of the split to train on.
        val_split: name of the split to validate on.
        options: what the loader has to be told.
        classes: names and colours; None where they cannot be known.
        notes: what was inferred rather than stated, a sentence each.
        splits: names of all splits that have labels, in order.
    """

    kind: str
    root: Path
    train_split: str
    val_split: str
    options: dict[str, Any]
    classes: ClassSet | None
    notes: tuple[str, ...]
    splits: tuple[str, ...] = ()

    def to_config(self) -> dict[str, Any]:
        """Return the ``[data]`` section that opens it, as :func:`featherseg.core.recipes.config_from_dict` reads it."""
        names = {"train_split": self.train_split, "val_split": self.val_split}
        usual = {"train_split": "train", "val_split": "val"}
        section: dict[str, Any] = {"name": self.kind, "root": str(self.root)}
        section |= {key: name for key, name in names.items() if name != usual[key]}
        return {"data": section | ({"options": self.options} if self.options else {})}


def infer_data(path: str | Path, kind: str | None = None, options: Mapping[str, Any] | None = None) -> InferredData:
    """Find out what kind of dataset a folder is and how it is opened.

    Args:
        path: the folder; a leading ``~`` is expanded.
        kind: of dataset; inferred where None.
        options: of the loader's that are given, such as which files are ``masks``; they are among those returned.

    Raises:
        ConfigError: no such kind.
        UndecidedError: the folder has several sets of masks.
        DataError: no such folder, no known layout, one that the loaders do not read, or no pairs.
    """
    root = Path(path).expanduser()
    layout = list_pairs(root, kind, None, options)
    said = ("--kind", kind) if kind else ()
    if layout.refusal and not layout.direct:
        rest = f"; {advice(quick_check(root, kind), kind)}" if layout.pairs else ""
        raise DataError(f"{layout.refusal}{rest}")
    if not layout.pairs:
        raise DataError(
            f"{root} looks like {layout.kind}, but no image there has a mask; see {command('doctor', root, *said)}"
        )
    notes = []
    if layout.given is not None:
        classes: ClassSet | None = layout.given.classes
    else:
        step = max(1, len(layout.pairs) // SAMPLE)
        facts = list(in_parallel(probe, layout.pairs[::step][:SAMPLE]))
        meaning = understand(facts, None, root, Findings())
        classes = meaning.classes if meaning else None
        if classes is not None:
            some = f"{len(facts)} of {len(layout.pairs)} masks"
            notes.append(f"{len(classes)} classes in {some}: {', '.join(classes.names)}; name them in classes.toml")
    if layout.kind not in ("folder", "camvid"):  # whose loaders say the same
        notes += layout.notes
    splits = ", ".join(map(printable, layout.splits))
    notes.insert(0, f"{printable(str(root))} is laid out as {layout.kind}, splits {splits}")
    names = layout.train_split, layout.val_split
    return InferredData(layout.kind, root, *names, layout.options, classes, tuple(notes), layout.splits)
