"""Published weights of larger networks: what they give where the files are here, names and shapes where not."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from published_forward import FORWARDS, Weights
from published_names import PUBLISHED
from torch import Tensor

from featherseg.compress.qdq import quantize_onnx
from featherseg.core.errors import ConfigError
from featherseg.core.types import ClassSet
from featherseg.exporting.onnx import export_onnx
from featherseg.models.base import SegmentationModel
from featherseg.models.factory import create_model
from featherseg.models.families.espnetv2_edge import SHARES, pool_between
from featherseg.models.layers import pool_to
from featherseg.models.session import describe
from featherseg.runtime.sessions.base import open_session


def converted(name: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    module = importlib.import_module(f"featherseg.models.converters.{name}")
    result: dict[str, Tensor] = module.convert(weights)
    return result


# Weights that are here


HERE: dict[str, tuple[str, dict[str, Any], str]] = {
    "espnetv2": ("espnetv2", {}, "cityscapes/espnetv2_crop-1024_800epoch.pth"),
    "espnetv2_s_1.0": ("espnetv2_edge", {"scale": 1.0}, "voc/espnetv2_s_1.0_pascal_384x384.pth"),
    "espnetv2_s_2.0": ("espnetv2_edge", {"scale": 2.0}, "voc/espnetv2_s_2.0_pascal_384x384.pth"),
}
"""Network, options and file, by the name that the reference's logits have."""


def published(shared: Path, golden: str, classes: int) -> SegmentationModel:
    name, options, file = HERE[golden]
    weights = torch.load(shared / "weights" / file, map_location="cpu", weights_only=True)
    model = create_model(name, classes, **options).eval()
    model.load_state_dict(converted(name, weights.get("state_dict", weights)), strict=True)
    return model


@pytest.mark.parametrize("golden", HERE)
def test_published_weights_give_the_reference_logits(shared: Path, golden: str) -> None:
    with np.load((shared / "weights" / HERE[golden][2]).parent / "golden_logits.npz") as stored:
        image, expected = torch.from_numpy(stored["image"]), stored[golden]
        mask = stored.get(f"{golden}_argmax")
    with torch.no_grad():
        logits = published(shared, golden, len(expected)).outputs(image)["out"]
    # The references align corner pixels when they resize their logits; featherseg does not.
    full = F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)[0]
    np.testing.assert_allclose(full[:, ::8, ::8], expected, rtol=0, atol=1e-4)
    if mask is not None:
        first, second = full.topk(2, dim=0).values.numpy()
        tied = first - second < 1e-4
        assert ((full.argmax(0).numpy() == mask) | tied).all()


@pytest.mark.slow
def test_published_weights_are_exported_and_quantised(shared: Path, tmp_path: Path) -> None:
    street = next(iter(sorted((shared / "data" / "cityscapes").rglob("*_leftImg8bit.png"))), None)
    if street is None:
        pytest.skip(f"needs the pictures in {shared / 'data' / 'cityscapes'}")
    image = np.asarray(Image.open(street).resize((512, 256)))
    model = published(shared, "espnetv2", 19)
    path = export_onnx(model, tmp_path / "net.onnx", describe(model, ClassSet(tuple(map(str, range(19))))))
    parts = [image[y : y + 128, x : x + 256] for y in (0, 128) for x in (0, 256)]
    small = quantize_onnx(path, tmp_path / "int8.onnx", parts)
    for size in ((256, 512), (131, 213)):
        part = np.ascontiguousarray(image[: size[0], : size[1]])
        with torch.no_grad():
            expected = model.outputs(torch.from_numpy(model.input_spec.normalize(part))[None])["out"].numpy()
        np.testing.assert_allclose(open_session(path, threads=1).run(part[None]), expected, rtol=1e-3, atol=1e-3)
        rounded = open_session(small, threads=1).run(part[None])
        assert (rounded.argmax(1) == expected.argmax(1)).mean() > 0.85


# Weights that are not


@pytest.mark.parametrize("form", PUBLISHED, ids="-".join)
def test_published_tensors_are_all_ours(form: tuple[str, str]) -> None:
    options, tensors = PUBLISHED[form]
    with torch.device("meta"):
        ours = create_model(form[0], 19, **options).state_dict()
    theirs = converted(form[0], tensors())
    # Files of an older torch and of other batch norms do not count batches, which load_state_dict allows for.
    needed = {key: tuple(x.shape) for key, x in ours.items() if not key.endswith("num_batches_tracked")}
    found = {key: tuple(x.shape) for key, x in theirs.items() if not key.endswith("num_batches_tracked")}
    assert found == needed
    assert set(theirs) <= set(ours)


def random_values(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give published tensors values that keep maps within bounds; batch norms are those of no fresh network."""
    torch.manual_seed(0)
    values = {}
    for name, x in tensors.items():
        if x.ndim > 1:
            values[name] = torch.randn(x.shape) * (2 / x[0].numel()) ** 0.5
        elif name.endswith(("running_var", "_variance")):
            values[name] = torch.rand(x.shape) + 0.5
        elif name.endswith("_tracked"):
            values[name] = torch.zeros((), dtype=torch.long)
        else:
            values[name] = torch.randn(x.shape) * 0.3 + 0.5 * name.endswith("weight")
    return values


@pytest.mark.parametrize("form", PUBLISHED, ids="-".join)
def test_published_tensors_do_here_what_they_do_there(form: tuple[str, str]) -> None:
    options, tensors = PUBLISHED[form]
    values = random_values(tensors())
    model = create_model(form[0], 19, **options).eval()
    model.load_state_dict(converted(form[0], values), strict=True)
    image = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        ours, theirs = model.outputs(image)["out"], FORWARDS[form[0]](Weights(values), image)
    assert theirs.std() > 1e-2, "logits that say nothing prove nothing"
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())


# Pooling that is exported for any size


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("shape", [(6, 12), (7, 13), (2, 5), (64, 33)])
def test_grids_are_adaptive_averages(size: int, shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape)
    torch.testing.assert_close(pool_to(x, size), F.adaptive_avg_pool2d(x, size))


@pytest.mark.parametrize("share", [share for share in SHARES if share != 1])
def test_any_number_of_cells_is_an_adaptive_average(share: float) -> None:
    for length in range(4, 140):
        part = max(math.ceil(length * share), 5)
        before, after = (part, length) if share > 1 else (length, part)
        x = torch.randn(1, 1, before, before)
        expected = F.adaptive_avg_pool2d(x, after)
        torch.testing.assert_close(pool_between(x, (after, after), SHARES[share]), expected, msg=f"{length}")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("espnetv2_edge", {"scale": 3.0}, r"scale is 3.0; choose one of 0.5, 1.0"),
        ("ddrnet", {"size": "39"}, "size is '39'; "),
        ("pidnet", {"size": "l"}, "size is 'l'; "),
        ("regseg", {"size": "basic"}, "size is 'basic'; did you mean \"base\""),
        ("stdc", {"backbone": 3}, "stdc's backbone is 3; choose 1 or 2"),
        ("pp_liteseg", {"backbone": 0}, "pp_liteseg's backbone is 0; choose 1 or 2"),
    ],
)
def test_unknown_sizes_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, 5, **options)
