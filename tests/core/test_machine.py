from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from featherseg.core import machine
from featherseg.core.files import sha256


def test_facts_are_json_and_name_what_a_time_depends_on() -> None:
    facts = machine.machine_facts(3)
    assert json.loads(json.dumps(facts)) == facts
    assert list(facts) == ["processor", "cores", "threads", "load", "system", "versions"]
    assert facts["processor"] == machine.cpu_name()
    assert facts["threads"] == 3
    assert facts["cores"] == machine.machine_facts()["threads"] == machine.available_threads() >= 1
    assert facts["versions"]["python"] == platform.python_version()
    assert {"featherseg", "numpy"} <= set(facts["versions"])


def test_packages_that_are_missing() -> None:
    packages = ("numpy", "no-such-package")
    assert list(machine.versions(packages)) == ["numpy"]
    assert machine.versions(packages, missing="not installed")["no-such-package"] == "not installed"


def test_torch_is_asked_only_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert machine.gpu_name() is None
    there = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "a GPU")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=there))
    assert machine.gpu_name() == "a GPU"
    code = "import sys; from featherseg.core import machine as m; print(m.machine_facts(), 'torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split()[-1] == "False"


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="this system does not tell it")
def test_peak_of_memory_is_of_a_whole_process() -> None:
    assert (machine.peak_resident_bytes() or 0) > 10_000_000


def test_sha256_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "abc"
    file.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
