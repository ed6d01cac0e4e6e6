"""Files that version 0.1.0 wrote load, resume to the same weights and give the same masks.

``version_0_1_0`` holds a run of a narrow JetNet that was copied after two of four epochs, the training state at the
end of its fourth, the file exported from it, a street with the mask that this file gave it, and a shipment's report.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from featherseg.core.images import read_ids, read_image
from featherseg.models.checkpoint import load_checkpoint, load_state
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.shipping.report.page import read_report
from featherseg.training.fit import resume_run
from featherseg.training.run_log import read_log

OLD = Path(__file__).with_name("version_0_1_0")


def test_masks_are_the_same() -> None:
    mask = Segmenter(OLD / "narrow.onnx")(read_image(OLD / "street_0.png")).mask
    expected = read_ids(OLD / "street_0_narrow.png")
    # On the machine that made it they are equal. Another processor adds up in another order, which may turn a pixel
    # between two classes that are equally likely.
    assert int(np.count_nonzero(mask != expected)) <= 2


def test_a_run_resumes_where_the_old_version_went(tmp_path: Path) -> None:
    run = Path(shutil.copytree(OLD / "run", tmp_path / "run"))
    assert load_checkpoint(run).training["run"] == "run_0_1_0"
    assert resume_run(run).epochs == 4
    assert [row["epoch"] for row in read_log(run)] == [1, 2, 3, 4]
    ours, theirs = load_state(run / "state.safetensors"), load_state(OLD / "resumed_state.safetensors")
    assert ours["schedule"] == theirs["schedule"]
    for part in ("objective", "ema"):
        assert ours[part].keys() == theirs[part].keys()
        for key, tensor in ours[part].items():
            # Equal to the last bit on the machine that made them; others round in other places.
            torch.testing.assert_close(tensor, theirs[part][key], rtol=1e-3, atol=1e-4)


def test_a_report_is_read() -> None:
    report = read_report(OLD)
    assert [file.precision for file in report.files] == ["fp32", "int8", "fp32", "int8"]
    assert report.steps[0].miou == report.files[0].miou
    assert report.fp32_iou
    assert "fp32_iou" in report.to_dict()


def test_an_exported_file_says_what_it_is() -> None:
    artifact = read_artifact(OLD / "narrow.onnx")
    assert artifact.network == "jetnet"
    assert artifact.verification["passed"]
    assert len(artifact.classes) == 9
