"""Recipes: configurations read from TOML and ``dotted.key=value`` overrides, and written as such.

Unknown keys, wrong types and values out of range are refused when a recipe is read, before any work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import tomli_w

from .config import Config
from .errors import ConfigError, did_you_mean, first_line
from .text_files import check_tree, parse_toml, read_text, shortened
from .typed_values import read_value


def load_config(recipe: str | Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe and apply overrides such as ``optim.lr=1e-3`` or ``model.options.width=0.5``.

    Args:
        recipe: TOML file; None starts from the defaults.
        overrides: ``dotted.key=value``; the value is TOML, or a bare string.

    Raises:
        ConfigError: file missing or no TOML; unknown key; value of the wrong type or out of range.

    Example:
        >>> featherseg.load_config("recipe.toml", ["optim.lr=2e-3"]).optim.lr
        0.002
    """
    tree: dict[str, Any] = {}
    if recipe is not None:
        path = Path(recipe)
        try:
            if not path.is_file():
                raise ConfigError(f"recipe {path} does not exist; give a .toml file")
            tree = parse_toml(read_text(path))
        except OSError as error:
            raise ConfigError(f"recipe {path} cannot be read ({error.strerror}); check its name and rights") from error
        except ConfigError:
            raise
        except ValueError as error:
            hint = "; write Windows paths between single quotes" if "\\" in first_line(error) else ""
            raise ConfigError(f"recipe {path} is not TOML: {first_line(error)}{hint}") from error
    for override in overrides:
        _apply(tree, override)
    return config_from_dict(tree)


def config_from_dict(tree: dict[str, Any]) -> Config:
    """Check a nested dictionary and return it as a :class:`Config`; errors name the setting."""
    try:
        check_tree(tree)
    except ValueError as error:
        raise ConfigError(f"the configuration cannot be used: {error}") from error
    _refuse_unknown(Config, tree, "")
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        reason, _, place = first_line(error).partition(" - at `$")
        raise ConfigError(_explain(tree, place.rstrip("`").lstrip("."), reason)) from error


def without_folders(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose paths are names alone: folders of one machine say nothing on another."""

    def names(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: names(value) for key, value in node.items()}
        return Path(node).name if isinstance(node, str) and ("/" in node or "\\" in node) else node

    portable: dict[str, Any] = names(tree)
    return portable


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return a configuration as a nested dictionary without the settings that are None."""

    def prune(node: Any) -> Any:
        if isinstance(node, list | tuple):
            return [prune(value) for value in node if value is not None]
        return {k: prune(v) for k, v in node.items() if v is not None} if isinstance(node, dict) else node

    tree: dict[str, Any] = prune(msgspec.to_builtins(config))
    return tree


def config_to_toml(config: Config) -> str:
    """Return a configuration as TOML that :func:`load_config` reads back to an equal one."""
    return tomli_w.dumps(config_to_dict(config))


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    shown = shortened(repr(override))
    if not equals or not key:
        raise ConfigError(f"override {shown} is not key=value; write for example optim.lr=0.001")
    *sections, last = key.strip().split(".")
    value = read_value(text.strip(), _kind_of(key.strip()))
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"override {shown}: {shortened(repr(section))} is a value, not a section")
    tree[last] = value


def _kind_of(key: str) -> Any:
    """Return the type of the setting that a dotted key names, without bounds; None where it names an option."""
    kind: Any = Config
    for part in key.split("."):
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return None
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.name == part), None)
    return str if get_origin(kind) is Annotated and get_args(kind)[0] is str else kind


def _explain(tree: dict[str, Any], place: str, reason: str) -> str:
    """Return one line with the setting at `place`, such as ``augment.crop[0]``, its value, and what it may be."""
    node: Any = tree
    kind: Any = Config
    for key in re.findall(r"[^.\[\]]+", place):
        node = node[int(key)] if isinstance(node, list | tuple) else node[key]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == key)
    choices = [c for part in (kind, *get_args(kind)) if get_origin(part) is Literal for c in get_args(part)]
    if reason.startswith("Invalid enum value"):
        reason = f"choose {', '.join(choices)}"
    shown = "" if isinstance(node, dict) else f" is {shortened(repr(node))}"
    return f"setting {place}{shown}: {reason[:1].lower()}{reason[1:]}"


def _refuse_unknown(kind: type[msgspec.Struct], tree: Any, place: str) -> None:
    """Raise for the first key that `kind` has not; msgspec would too, but without a suggestion."""
    if not isinstance(tree, dict):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in tree.items():
        if key not in fields:
            raise ConfigError(f"unknown setting {shortened(repr(place + key))}; {_meant(key, fields)}")
        if isinstance(fields[key], type) and issubclass(fields[key], msgspec.Struct):
            _refuse_unknown(fields[key], value, f"{place}{key}.")


def _meant(key: str, fields: dict[str, Any]) -> str:
    """Return what may be meant by a key that is not there: often a section's, given without the section."""
    homes = [
        f"{name}.{key}"
        for name, kind in fields.items()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and key in kind.__struct_fields__
    ]
    return f'did you mean "{homes[0]}"?' if len(homes) == 1 else did_you_mean(key, fields)
