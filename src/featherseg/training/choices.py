"""Settings that are chosen one after the other, each with its reason; what the user set is obeyed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.config import Config
from ..core.recipes import load_config


@dataclass(frozen=True)
class SettingChoice:
    """One setting, and why."""

    setting: str
    value: Any
    reason: str

    @property
    def text(self) -> str:
        """The choice as a command line takes it."""
        return f"{self.setting}={_toml(self.value)}"

    def __str__(self) -> str:
        return f"{self.text}: {self.reason}"


class Plan:
    """Choices made one after the other, each with all settings as they are by then, the user's above all.

    Args:
        settings: ``dotted.key=value`` of the user's.
    """

    def __init__(self, settings: Sequence[str]) -> None:
        self.settings = settings
        self.choices: list[SettingChoice] = []
        self._given = [setting.partition("=")[0] for setting in settings]

    @property
    def config(self) -> Config:
        """All settings, those not chosen yet at their defaults."""
        return load_config(None, [*(choice.text for choice in self.choices), *self.settings])

    def gave(self, setting: str) -> bool:
        """Return whether the user set it, a part of it, or the section it is in."""
        asked = f"{setting}."
        return any(asked.startswith(f"{key}.") or f"{key}.".startswith(asked) for key in self._given)

    def choose(self, setting: str, value: Any, reason: str) -> None:
        """Choose a setting, unless the user did."""
        if not self.gave(setting):
            self.choices.append(SettingChoice(setting, value, reason))

    def withdraw(self, *settings: str) -> None:
        """Take choices back: of these settings and of all that is in them."""
        self.choices = [
            choice for choice in self.choices if not any(f"{choice.setting}.".startswith(f"{key}.") for key in settings)
        ]


def _toml(value: Any) -> str:
    """Return a value in one line of TOML, which JSON is but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)} = {_toml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
