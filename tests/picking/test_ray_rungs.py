"""Steps of a rung on a Ray cluster of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from featherseg.core.errors import MissingExtraError
from featherseg.picking.ray_rungs import train_on_ray
from featherseg.picking.steps import Step, step_folder
from trainings import tiny_config

CLUSTER = """
import json, sys
from pathlib import Path
import ray
from featherseg.picking.ray_rungs import train_on_ray
from featherseg.picking.steps import Step
from trainings import tiny_config

folder, noted = Path(sys.argv[1]), {}
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
tasks = [(tiny_config(folder), Step(slug, f"net {slug}", 0, 1), folder) for slug in ("a", "b")]
train_on_ray(tasks, lambda step, result: noted.update({step.slug: dict(result)}))
ray.shutdown()
(folder / "noted.json").write_text(json.dumps(noted))
"""


def test_without_ray_there_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"featherseg\[ray\]"):
        train_on_ray([(tiny_config(tmp_path), Step("a", "net a", 0, 1), tmp_path)], lambda step, result: None)


@pytest.mark.slow
def test_steps_are_trained_where_there_is_room(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0"}
    # In a process of its own: Ray leaves servers to the end of the one that began it.
    ended = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    noted = json.loads((tmp_path / "noted.json").read_text())
    assert set(noted) == {"a", "b"}
    for slug, result in noted.items():
        assert 0 <= result["miou"] <= 1
        assert result["epochs"] == 1
        assert (step_folder(tmp_path, slug, 0) / "result.json").is_file()
    assert noted["a"]["miou"] == noted["b"]["miou"]  # the same training, wherever it ran
