"""What a training is asked for: a configuration, recipe or folder, with settings and perhaps a network in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from ..core.config import Config, ModelConfig
from ..core.errors import ConfigError
from ..core.progress import logger
from ..core.recipes import config_from_dict, config_to_dict, load_config
from ..models.base import SegmentationModel
from ..models.factory import models
from ..models.foreign import as_network
from .choices import SettingChoice
from .quickstart import quick_start
from .timing import in_time

WHOLE_TABLES = ("data.classes", "model.init_classes", "distill.classes")
"""Tables whose keys are names of classes, which may hold dots; they are set as a whole."""


def configured(source: str | Path | None, settings: Iterable[str] = (), *, seconds: float | None = None) -> Config:
    """Return the configuration of a training, and say what was chosen for a folder.

    Args:
        source: folder of images and masks, or a recipe's TOML file; the settings alone where left out.
        settings: ``dotted.key=value`` of the user's.
        seconds: that the training may take, measuring included; as long as configured where left out.

    Raises:
        DataError: the folder is no dataset, or cannot be trained on.
        ConfigError: the recipe is missing, a setting unknown or out of range, or the time too short.
    """
    settings = [_known_network(setting) for setting in settings]
    if source is None or not Path(source).expanduser().is_dir():
        config = _with_known_name(load_config(source, settings))
        if seconds is None:
            return config
        config, choices = in_time(config, settings, seconds)
        lines = [*map(str, choices)]
    else:
        start = quick_start(source, settings, seconds=seconds)
        config, lines = _with_known_name(start.config), [*start.notes, *map(str, start.choices)]
    for line in lines:
        logger.info(line)
    return config


def as_given(
    source: Config | str | Path,
    model: nn.Module | Mapping[str, Any] | str | None,
    settings: Mapping[str, Any],
    *,
    resume: bool,
) -> tuple[Config, SegmentationModel | None]:
    """Return the configuration of a training, and its network where that is given as an object.

    Args:
        source: as :func:`featherseg.fit` takes it, and so for the others.
        model: network, section, or name.
        settings: by section.
        resume: whether a run shall be gone on with, whose folder says it all.

    Raises:
        ConfigError: a setting is unknown or out of range, or the network cannot be used.
        DataError: the folder is no dataset, or cannot be trained on.
    """
    network = as_network(model) if isinstance(model, nn.Module) else None
    settings = dict(settings)
    if isinstance(model, str):
        settings["model"] = {"name": model}
    elif network is not None:
        # Options, so that no other network is chosen, and no start; the stride, since no name tells it.
        settings["model"] = {"name": network.name, "options": {"stride": network.stride}}
    elif model is not None:
        settings["model"] = model
    if isinstance(source, Config):
        settings.pop("model", None) if network is not None else None
        config = _merged(source, settings) if settings else source
    elif resume:
        raise ConfigError(f"resume goes on with a run, not with {source}; use resume_run with the run's folder")
    else:
        config = configured(source, overrides(settings))
    if network is None:
        return _with_known_name(config), None
    if config.model.starts:
        raise ConfigError(
            f"model.init is {config.model.init!r}, but the network is given as an object; fill it before: "
            "load_checkpoint(..., model=...)"
        )
    section = ModelConfig(name=network.name, options=network.options, long_side=config.model.long_side)
    return msgspec.structs.replace(config, model=section), network


def overrides(settings: Mapping[str, Any]) -> list[str]:
    """Return settings by section as ``dotted.key=value``; what is None is left out.

    Raises:
        ConfigError: a value is none that a recipe can hold.
    """
    return [SettingChoice(key, value, "").text for key, value in _leaves(settings, "")]


def _leaves(tree: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{place}{key}"
        if isinstance(value, Mapping) and value and name not in WHOLE_TABLES:
            yield from _leaves(value, f"{name}.")
        elif value is not None:
            yield name, _plain(value, name)


def _plain(value: Any, name: str) -> Any:
    """Return a value as a recipe can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each, name) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, name) for each in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # NumPy's numbers
        value = value.item()
    if not isinstance(value, bool | int | float | str):
        raise ConfigError(f"setting {name} is a {type(value).__name__}; give a number, text, list or dictionary")
    return value


def _merged(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return a configuration with some settings changed, tables within sections as a whole."""
    tree = config_to_dict(config)
    for key, value in settings.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            tree[key] |= {name: _plain(each, f"{key}.{name}") for name, each in value.items() if each is not None}
        elif value is not None:
            tree[key] = _plain(value, key)
    return config_from_dict(tree)


def _known_network(setting: str) -> str:
    """Return a setting with the network that it may name as it is registered."""
    key, equals, name = setting.partition("=")
    known = models.spelled(name.strip().strip("\"'")) if equals and key.strip() == "model.name" else None
    return f"{key}={known}" if known else setting


def _with_known_name(config: Config) -> Config:
    """Return a configuration with its network's name as it is registered; an unknown one is refused later."""
    known = models.spelled(config.model.name) or config.model.name
    if known == config.model.name:
        return config
    return msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, name=known))
