"""What `import featherseg` gives."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import torch

import featherseg


@pytest.mark.parametrize("name", featherseg.__all__)
def test_every_public_name_is_there_and_no_module(name: str) -> None:
    thing = getattr(featherseg, name)
    assert callable(thing)
    assert not inspect.ismodule(thing)
    assert inspect.getdoc(thing)


def test_names_stay_themselves_when_their_modules_are_imported() -> None:
    """A submodule that is imported becomes an attribute of the package, and would hide a function of its name."""
    folder = Path(featherseg.__file__).parent
    modules = {path.stem for path in folder.iterdir()}
    assert not modules & set(featherseg.__all__)


def test_all_is_sorted_and_complete() -> None:
    assert featherseg.__all__ == sorted(set(featherseg.__all__))
    assert sorted(dir(featherseg)) == sorted([*featherseg.__all__, "__version__"])
    tree = ast.parse(Path(featherseg.__file__).read_text())
    typed = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(featherseg.__all__) <= typed  # type checkers see the same names


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'JetNett'"):
        featherseg.JetNett  # noqa: B018
    with pytest.raises(ImportError):
        from featherseg import nothing  # noqa: F401


def test_the_networks_as_the_papers_users_call_them() -> None:
    from featherseg import FastSegNet, JetNet, LightweightSegmentationModel, ResNetUNet, count_parameters, return_model

    image = torch.randn(1, 3, 224, 224)
    assert JetNet(num_classes=21)(image).shape == (1, 21, 224, 224)
    assert JetNet(21)(image).shape == (1, 21, 224, 224)
    small = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert FastSegNet(num_classes=19).eval()(small).shape == (1, 19, 64, 96)
        assert ResNetUNet(num_classes=21).eval()(small).shape == (1, 21, 64, 96)
        assert return_model(input_nc=3, output_nc=22, netG="lednet_128").eval()(small).shape == (1, 22, 64, 96)
        model = LightweightSegmentationModel(num_classes=21, pretrained=False, return_features=True).eval()
        logits, features = model(small)
    assert logits.shape == (1, 21, 64, 96)
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "low": (1, 16, 16, 24),
        "mid": (1, 24, 8, 12),
        "high": (1, 48, 4, 6),
    }
    assert count_parameters(model) == (6_831_509, 6_831_509)
    model.classifier.requires_grad_(False)
    assert count_parameters(model) == (6_831_509, 6_831_509 - 256 * 21 - 21)


def test_pretrained_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from urllib.error import URLError

    from featherseg import FeathersegError, LightweightSegmentationModel

    def offline(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr("torch.hub.urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FeathersegError) as caught:
        LightweightSegmentationModel(num_classes=21, pretrained=True, return_features=True)
    assert "\n" not in str(caught.value)
    assert "no network" in str(caught.value)


def test_the_loss_as_its_users_call_it() -> None:
    torch.manual_seed(0)
    pred = torch.randn(2, 5, 8, 8, requires_grad=True)
    target = torch.randint(0, 5, (2, 8, 8))
    loss = featherseg.OHEMLoss(thresh=0.7, min_kept=100_000)(pred, target)
    expected = torch.nn.functional.cross_entropy(pred, target)  # fewer pixels than min_kept: all are kept
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    assert pred.grad is not None
    assert pred.grad.abs().sum() > 0
