"""The session that runs a network in torch."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export_fixtures import images_of
from featherseg.core.errors import ConfigError
from featherseg.models.base import SegmentationModel
from featherseg.models.session import TorchSession, evaluating
from featherseg.runtime.artifact import Artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session
from featherseg.runtime.sessions.onnx import OnnxSession


def test_torch_session(model: SegmentationModel, artifact: Artifact, exported: Path) -> None:
    net = copy.deepcopy(model).train()
    net.stem.eval()
    modes = [module.training for module in net.modules()]
    session = TorchSession(net, artifact)
    assert isinstance(session, Session)
    assert f"threads: {torch.get_num_threads()}, fp32, channels_last, torch" in session.device
    images = images_of(77, 130, batch=2)
    reference = OnnxSession(exported, threads=1).run(images)
    limit = 2e-5 * np.abs(reference).max()
    np.testing.assert_allclose(session.run(images), reference, atol=limit)
    assert [module.training for module in net.modules()] == modes
    images.flags.writeable = False
    np.testing.assert_allclose(
        session.run(images[:, :, ::-1]), OnnxSession(exported, threads=1).run(images[:, :, ::-1].copy()), atol=limit
    )
    for size in ((40, 100), (96, 130)):
        frame = images_of(*size)[0]
        assert (Segmenter(session).segment(frame) == Segmenter(exported, threads=1).segment(frame)).mean() > 0.999
    rough = TorchSession(net, artifact, precision="bf16", channels_last=False).run(images)
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - reference).max() < 0.1 * np.abs(reference).max()
    assert next(net.parameters()).dtype == torch.float32


def test_torch_session_refuses_what_is_not_there(model: SegmentationModel, artifact: Artifact) -> None:
    for options, word in [
        ({"precision": "fp16"}, "precision"),
        ({"device": "cuda:99"}, "device"),
        ({"device": "gpu"}, "device"),
    ]:
        with pytest.raises(ConfigError, match=word) as caught:
            TorchSession(model, artifact, **options)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="stride"):
        TorchSession(model, replace(artifact, stride=2))


def test_evaluating_restores_after_an_error(model: SegmentationModel) -> None:
    net = copy.deepcopy(model).train()
    net.stem.eval()
    modes = [module.training for module in net.modules()]

    def failing() -> None:
        with evaluating(net):
            assert not any(module.training for module in net.modules())
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert [module.training for module in net.modules()] == modes
