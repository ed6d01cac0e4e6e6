from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate

from featherseg.core.config import AugmentConfig
from featherseg.data.datasets import create_dataset
from featherseg.data.loader import EpochBatches, TrainSamples, train_loader
from featherseg.data.on_device import DeviceBatches, apply_looks, blur, gaussian_taps, jitter_colors, looks_on_device
from featherseg.data.transforms import Look, TrainTransform

CPU = torch.device("cpu")


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Return noise, of all colours in the even pictures and of soft shapes in the odd ones, (B, H, W, 3)."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for image in noise[1::2]:
        image[:] = cv2.GaussianBlur(image, (0, 0), 3) // 2 + rng.integers(0, 128, 3, dtype=np.uint8)
    return noise


def tensor(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def rows(looks: list[Look]) -> Tensor:
    return torch.tensor(looks, dtype=torch.float32)


def assert_twins(ours: Tensor, theirs: NDArray[np.uint8]) -> None:
    """Equal but for the rare level that a contrast curve rounds differently, and what hue makes of it."""
    change = np.abs(ours.permute(0, 2, 3, 1).numpy().astype(int) - theirs)
    assert change.max() <= 8
    assert (change > 0).mean() < 2e-3


@pytest.mark.parametrize("size", [(64, 80), (33, 17), (2, 5), (1, 1)])
@pytest.mark.parametrize("jitter", [0.0, 0.3, 1.0])
def test_torch_makes_the_looks_that_numpy_makes(size: tuple[int, int], jitter: float) -> None:
    transform = TrainTransform(AugmentConfig(flip=0.5, jitter=jitter, blur=0.5))
    looks = [transform.draw_look(np.random.default_rng(seed)) for seed in range(12)]
    images = pictures(12, size)
    masks = np.random.default_rng(1).integers(0, 256, (12, *size), dtype=np.uint8)
    image, mask = apply_looks(tensor(images), torch.from_numpy(masks).long(), rows(looks), jitter=jitter > 0)
    expected = [transform.apply(*pair, look) for pair, look in zip(zip(images, masks, strict=True), looks, strict=True)]
    assert_twins(image, np.stack([part for part, _ in expected]))
    np.testing.assert_array_equal(mask.numpy(), np.stack([ids for _, ids in expected]))
    assert (image.dtype, mask.dtype) == (torch.uint8, torch.int64)
    assert image.is_contiguous()


def test_each_look_reaches_its_own_sample() -> None:
    images = np.repeat(pictures(1, (20, 24)), 6, axis=0)
    looks = [
        Look(flip=False),
        Look(flip=True),
        Look(flip=False, brightness=0.5),
        Look(flip=False, hue=85),
        Look(flip=False, sigma=1.0),
        Look(flip=False, saturation=0.0),
    ]
    mask = torch.arange(24).repeat(6, 20, 1)
    plain, ids = apply_looks(tensor(images), mask, rows(looks), jitter=False)
    assert torch.equal(plain[0], tensor(images)[0])
    assert torch.equal(plain[1], tensor(images)[1].flip(-1))
    assert torch.equal(ids[1], mask[1].flip(-1))
    assert all(torch.equal(ids[i], mask[i]) for i in (0, 2, 3, 4, 5))
    coloured, _ = apply_looks(tensor(images), mask, rows(looks), jitter=True)
    assert abs(float(coloured[2].float().mean()) - float(images[0].mean()) / 2) < 1
    assert torch.equal(coloured[5, 0], coloured[5, 1])
    assert float((plain[4].float().diff(dim=-1)).abs().mean()) < 0.5 * float(plain[0].float().diff(dim=-1).abs().mean())
    assert torch.equal(plain[4, :, 1:-1, 1:-1], blur(tensor(images)[4], 1.0)[:, 1:-1, 1:-1])


def test_colours_of_the_whole_cube() -> None:
    """Conversion to HSV and back, at every 5th level, turned by every hue: as OpenCV's."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, 52 * 52, 52, 3)
    transform = TrainTransform(AugmentConfig(jitter=0.3))
    for hue in (-128, -26, -1, 0, 1, 26, 77):
        look = Look(flip=False, hue=hue)
        theirs = transform.apply(cube[0], np.zeros(cube.shape[1:3], np.uint8), look._replace(sigma=0.0))[0]
        assert_twins(jitter_colors(tensor(cube), rows([look])), theirs[None])


def test_greys_stay_grey() -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(jitter_colors(grey, rows([Look(flip=False, hue=40)])), grey)


@pytest.mark.parametrize("size", [(40, 50), (3, 4), (1, 9)])
def test_blur_is_opencvs(size: tuple[int, int]) -> None:
    image = pictures(1, size)[0]
    for sigma in np.random.default_rng(0).uniform(0.3, 1.5, 40):
        expected = cv2.GaussianBlur(image, (0, 0), sigmaX=float(sigma))
        ours = blur(torch.from_numpy(image).permute(2, 0, 1), float(sigma)).permute(1, 2, 0).numpy()
        assert np.abs(ours.astype(int) - expected).max() <= 1
        assert (ours != expected).mean() < 0.01


def test_kernels_keep_the_brightness() -> None:
    for sigma in np.linspace(0.3, 1.5, 60):
        taps = gaussian_taps(float(sigma))
        assert sum(taps) == 256
        assert taps == taps[::-1]
        radius = len(taps) // 2
        exact = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        assert np.abs(np.array(taps) - 256 * exact / exact.sum()).max() < 1.5


def test_nothing_is_read_back_from_the_device() -> None:
    """Tensors of the meta device hold no values: whatever waited for one would fail here, and stall a GPU."""
    looks = rows([Look(flip=True, sigma=1.0), Look(flip=False, hue=3)])
    image = torch.zeros(2, 3, 16, 20, dtype=torch.uint8, device="meta")
    mask = torch.zeros(2, 16, 20, dtype=torch.int64, device="meta")
    image, mask = apply_looks(image, mask, looks, jitter=True)
    assert (image.shape, image.dtype, image.device.type) == ((2, 3, 16, 20), torch.uint8, "meta")
    assert mask.device.type == "meta"


@pytest.mark.parametrize(
    ("setting", "device", "on"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("auto", "mps", True),
        ("yes", "cpu", True),
        ("no", "cuda", False),
    ],
)
def test_where_looks_are_made(setting: Any, device: str, on: bool) -> None:
    assert looks_on_device(AugmentConfig(on_device=setting), torch.device(device)) is on


def batches(root: Path, workers: int, raw: bool, device: torch.device = CPU) -> list[dict[str, Tensor]]:
    config = AugmentConfig(crop=(32, 40), blur=0.5, mosaic=0.3, copy_paste=0.3)
    samples = TrainSamples(create_dataset("folder", root, "all"), TrainTransform(config), 7, raw=raw)
    order = EpochBatches(len(samples), 4, seed=7)
    loader = train_loader(samples, order, workers, pin_memory=device.type == "cuda")
    source = DeviceBatches(loader, config, device) if raw else loader
    out = []
    for epoch in (0, 1):
        order.begin(epoch)
        out += list(source)
    return out


def test_batches_keep_the_contract_and_do_not_depend_on_the_workers(street_folder: Path) -> None:
    plain, ours, theirs = (batches(street_folder, *how) for how in ((0, False), (0, True), (2, True)))
    assert len(plain) == len(ours) == len(theirs) == 6
    for expected, here, there in zip(plain, ours, theirs, strict=True):
        assert set(here) == {"image", "mask"}
        assert (here["image"].shape, here["image"].dtype) == ((4, 3, 32, 40), torch.uint8)
        assert (here["mask"].shape, here["mask"].dtype) == ((4, 32, 40), torch.int64)
        for key in here:
            assert torch.equal(here[key], there[key])
        assert torch.equal(expected["mask"], here["mask"])
        assert_twins(here["image"], expected["image"].permute(0, 2, 3, 1).numpy())


def test_the_loaders_batches_are_not_written_to(street_folder: Path) -> None:
    config = AugmentConfig(crop=(32, 40), flip=0.0, jitter=0.0, blur=1.0)
    samples = TrainSamples(create_dataset("folder", street_folder, "all"), TrainTransform(config), 0, raw=True)
    batch = default_collate([samples[0, i] for i in range(3)])
    before = {key: value.clone() for key, value in batch.items()}
    for _ in range(2):
        (out,) = DeviceBatches([batch], config, CPU)
    assert not torch.equal(out["image"].permute(0, 2, 3, 1), batch["image"])
    for key, value in batch.items():
        assert torch.equal(value, before[key])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_the_same_looks(street_folder: Path) -> None:
    ours = batches(street_folder, 2, True, torch.device("cuda"))
    for expected, here in zip(batches(street_folder, 0, True), ours, strict=True):
        assert here["image"].is_cuda
        assert torch.equal(expected["mask"], here["mask"].cpu())
        assert_twins(here["image"].cpu(), expected["image"].permute(0, 2, 3, 1).numpy())
