"""The recipe that trains a pick to the end and ships it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ..core.config import Config
from ..core.files import write_atomically
from ..core.recipes import config_to_toml
from ..exporting.targets import targets
from ..shipping.pipeline import ship
from ..shipping.report.figures import ShipReport
from ..training.fit import fit
from ..training.run_folder import RunFolder
from .candidates import Candidate

NAME = "recipe.toml"


def final_recipe(usual: Config, pick: Candidate, out: Path, threads: int | None = None) -> Config:
    """Return the whole training of a pick: as long as one on the folder alone, from the start it was picked with.

    Args:
        usual: the network's training.
        pick: what was picked.
        out: folder for the run.
        threads: of the engine, for shipping.
    """
    change = msgspec.structs.replace
    to = tuple(dict.fromkeys(("onnx", *([pick.way.flavour] if pick.way.flavour in targets else []))))
    section = change(usual.ship, to=to, int8=pick.way.weights == "int8", threads=threads or 0)
    return change(usual, name=f"pick_{pick.net.slug}", out=str(out), ship=section)


def write_recipe(config: Config, folder: Path) -> Path:
    """Write the recipe into a folder."""
    text = config_to_toml(config)
    return write_atomically(folder / NAME, lambda file: file.write(text.encode()))


def train_and_ship(config: Config, out: Path) -> ShipReport:
    """Train a recipe to the end, or go on with it, and make a folder of proven files of it.

    Raises:
        FeathersegError: as training and shipping do.
    """
    path = Path(config.out) / config.name
    if not (path / "result.json").is_file():
        begun = (path / "config.toml").is_file()
        if begun:
            config = msgspec.structs.replace(RunFolder(path).config, name=config.name, out=config.out)
        fit(config, resume=begun)
    return ship(path, out, config.ship)
