"""What `--ray` needs and refuses, without starting Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Ended

Run = Callable[..., Ended]


def test_addresses_need_it(run: Run, photos: Path, tmp_path: Path) -> None:
    assert run("predict", "s3://bucket/photos").refused("s3://bucket/photos is an address", "add --ray")
    assert run("predict", photos, "-o", "s3://bucket/out").refused("s3://bucket/out is an address")


def test_so_do_its_options(run: Run, photos: Path) -> None:
    assert run("predict", photos, "--workers", 2).refused("--workers goes with --ray")
    assert run("predict", photos, "--column", "image").refused("--column goes with --ray")
    assert run("eval", "street.onnx", "--workers", 2).refused("--workers goes with --ray")


@pytest.mark.parametrize("missing", ["fsspec", "ray", "ray.data"])
def test_the_extra_is_named(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing != "fsspec":
        pytest.importorskip(missing.partition(".")[0])
    monkeypatch.setitem(sys.modules, missing, None)
    ended = run("predict", photos, "-o", tmp_path / "out", "--ray")
    assert ended.refused('pip install "featherseg[ray]"')
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_told_before_ray_starts(run: Run, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs pip install "featherseg[ray]"')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    words = ("predict", photos, "--ray", "-o")
    assert run(*words, tmp_path / "mine").refused("holds 'thesis.txt'", "name another folder with -o")
    assert run("predict", tmp_path / "no", "--ray").refused("does not exist")
    assert run("predict", "nosuch://bucket/photos", "--ray").refused("nosuch://bucket/photos cannot be used")
    assert run(*words, "http://127.0.0.1:9/out").refused("can only be read from")
    assert run(*words, tmp_path / "new", "--workers", 0).refused("workers is 0; give at least 1")
    assert run(*words, tmp_path / "new", "--threads", 0).refused("threads is 0")
    assert not (tmp_path / "new").exists()
