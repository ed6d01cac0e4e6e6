"""Other projects' libraries as oracles, in this interpreter or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

VARIABLE = "FEATHERSEG_ORACLES"
"""Names a Python with the libraries that would bring older versions of ours, such as datumaro."""


def ask(module: str, program: str, *words: object) -> Any:
    """Return the JSON that a program prints in a Python that has `module`; skip where there is none."""
    python = sys.executable if find_spec(module) else os.environ.get(VARIABLE, "")
    if not python or subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
        pytest.skip(f"needs {module}, here or in the Python that {VARIABLE} names: uv pip install {module}")
    command = [python, "-W", "ignore", "-c", program, *map(str, words)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])
