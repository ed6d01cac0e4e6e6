"""Which runs belong together on a page of results: seeds of one recipe, folds by recording and those of ``--folds``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..core.recipes import config_to_dict, without_folders

FOLDS_FILE = "folds.json"
"""What tells a folder of folds from a run folder."""

Run = dict[str, Any]
"""What :func:`.results.read_run` returns."""


def runs_in(folder: str | Path) -> list[Path]:
    """Return the run folders that a folder stands for: those of its folds, or itself."""
    folder = Path(folder)
    if not (folder / FOLDS_FILE).is_file():
        return [folder]
    return sorted(folder.glob("fold_*"), key=lambda path: (len(path.name), path.name))


def by_recipe(runs: Iterable[Run]) -> list[list[Run]]:
    """Return the runs in groups that differ in nothing but seed, name and folder, or in the fold that they are of.

    The names of folds by recording end alike, such as ``_0001TP``, in whatever a recipe names: a fold's teacher is a
    fold too.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        tree = without_folders(config_to_dict(run["config"]))
        if _is_fold(run):
            tree["data"]["options"]["fold"] = str(run["folder"].parent)
        recipe = json.dumps({key: value for key, value in tree.items() if key not in ("seed", "name", "out")})
        if recordings := _recordings(run):
            recipe = recipe.replace(json.dumps(recordings), "folds").replace(fold_suffix(run), "")
        groups.setdefault(recipe, []).append(run)
    return [sorted(group, key=_order) for group in groups.values()]


def tell_held_out(runs: Sequence[Run]) -> None:
    """Note in each run of a fold what it was judged on: recordings that only other runs were trained on, or a fold."""
    everything: dict[str, set[str]] = {}
    for run in runs:
        everything.setdefault(run["config"].data.name, set()).update(_listed(_recordings(run)))
    for run in runs:
        data = run["config"].data
        if _is_fold(run):
            run["held_out"] = f"fold {data.options['fold']} of {data.options['folds']}"
        elif own := _listed(_recordings(run)):
            run["held_out"] = ", ".join(sorted(everything[data.name].difference(own))) or "other recordings"


def held_out(group: Sequence[Run]) -> list[str]:
    """Return what each run of a group was judged on; nothing where it was a split that all share."""
    return [run["held_out"] for run in group if "held_out" in run]


def trained_on(run: Run) -> str:
    """Return in words what a run of a fold was trained on."""
    return "the other folds" if _is_fold(run) else ", ".join(_listed(_recordings(run)))


def group_name(group: Sequence[Run]) -> str:
    """Return the runs' name, without the seed or fold at its end if there are several."""
    name = str(group[0]["config"].name)
    if _is_fold(group[0]):
        return str(group[0]["folder"].parent.name)
    if held_out(group):
        return name.removesuffix(fold_suffix(group[0]))
    return re.sub(r"[-_.]?(seed|s)?\d+$", "", name) if len(group) > 1 else name


def fold_suffix(run: Run) -> str:
    """Return the end of a fold's name that tells it from the others, with the character before it."""
    name = str(run["config"].name)
    return name[name.rfind("_") :] if "_" in name else ""


def _is_fold(run: Run) -> bool:
    """Return whether a run is one of ``--folds``; see :mod:`.folds`."""
    return bool(run["config"].data.name == "fold")


def _recordings(run: Run) -> Any:
    """Return the recordings that a run was trained on, as its recipe gives them; nothing where it has all."""
    return run["config"].data.options.get("recordings") or ""


def _order(run: Run) -> tuple[Any, ...]:
    return (_recordings(run), run["config"].data.options["fold"] if _is_fold(run) else 0, run["config"].seed)


def _listed(recordings: Any) -> list[str]:
    words = recordings.split(",") if isinstance(recordings, str) else recordings
    return [word.strip() for word in words if word.strip()]
