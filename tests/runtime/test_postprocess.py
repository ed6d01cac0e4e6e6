from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from featherseg.errors import ConfigError
from featherseg.runtime import postprocess
from featherseg.runtime.postprocess import upsample_argmax, upsample_argmax_numpy

Upsample = Callable[[NDArray[Any], tuple[int, int]], NDArray[Any]]
BOTH = pytest.mark.parametrize("upsample", [upsample_argmax, upsample_argmax_numpy])


def interpolate(logits: NDArray[Any], size: tuple[int, int], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """The oracle: torch's interpolation (C, H, W), by default in double precision."""
    maps = torch.from_numpy(np.ascontiguousarray(logits)).to(dtype)[None]
    return torch.nn.functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]


def random_logits(rng: np.random.Generator, kind: str, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    classes, height, width = shape
    logits: NDArray[Any]
    if kind == "noise":
        logits = rng.normal(size=shape) * 10.0 ** rng.integers(-6, 7)
    elif kind == "regions":
        coarse = rng.normal(size=(classes, 3, 3)) * 5
        logits = interpolate(coarse, (height, width)).numpy() + rng.normal(size=shape) * 0.1
    elif kind == "ties":
        logits = rng.integers(-1, 2, shape)
    elif kind == "constant":
        logits = np.broadcast_to(rng.integers(0, 2, (classes, 1, 1)), shape)
    elif kind == "checkerboard":
        board = np.indices((height, width)).sum(0) % 2
        logits = np.stack([np.where(board == k % 2, 1.0 + k // 2 % 2, -1.0) for k in range(classes)])
    elif kind == "ulps":  # classes that differ by a few units in the last place
        start = np.float32(rng.normal() * 100)
        logits = start + np.spacing(start) * rng.integers(-3, 4, shape)
    else:
        logits = rng.normal(size=(1, height, width)) * 1e-42 * rng.integers(0, 3, shape)  # "subnormal"
    return np.asarray(logits, np.float32)


KINDS = ("noise", "regions", "ties", "constant", "checkerboard", "ulps", "subnormal")


def cases(count: int, seed: int = 0) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
    """Random logits of every kind and size, one-pixel maps among them, and any target size."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = (int(rng.choice([1, 2, 3, 7, 16, 24])) for _ in range(2))
        logits = random_logits(rng, KINDS[i % len(KINDS)], (int(rng.choice([1, 2, 3, 5, 19])), height, width))
        scales = rng.choice([0.3, 0.5, 1.0, 1.37, 2.0, 4.0, 7.9, 8.0], 2)
        yield logits, (max(1, round(height * scales[0])), max(1, round(width * scales[1])))


@BOTH
def test_equals_torch_up_to_rounding_of_near_ties(upsample: Upsample) -> None:
    agree = total = 0
    for logits, size in cases(280):
        mask = upsample(logits, size)
        values = interpolate(logits, size).numpy()
        assert mask.shape == size
        assert mask.dtype == np.uint8
        chosen = np.take_along_axis(values, mask[None].astype(np.int64), axis=0)[0]
        rounding = 1e-6 * np.abs(logits).max() + 1e-40
        np.testing.assert_array_less(values.max(0) - chosen, rounding)
        single = interpolate(logits, size, torch.float32).argmax(0).numpy()
        gap = np.diff(np.sort(values, axis=0)[-2:], axis=0)[0] if len(logits) > 1 else np.ones(size)
        clear = gap > rounding
        np.testing.assert_array_equal(mask[clear], single[clear])
        agree, total = agree + int(clear.sum()), total + clear.size
    assert agree > total / 4  # the comparison above was of something


def test_kernel_is_bit_for_bit_the_dense_computation() -> None:
    assert postprocess._kernels() is not None
    for logits, size in cases(420, seed=1):
        np.testing.assert_array_equal(upsample_argmax(logits, size), upsample_argmax_numpy(logits, size))


@BOTH
def test_lowest_id_wins_exact_ties(upsample: Upsample) -> None:
    rng = np.random.default_rng(2)
    for _ in range(150):  # small integers and scales by powers of two: all sums are exact
        shape = (int(rng.integers(2, 7)), int(rng.integers(1, 9)), int(rng.integers(1, 9)))
        logits = rng.integers(0, 3, shape).astype(np.float32)
        size = (shape[1] * int(rng.choice([1, 2, 4, 8])), shape[2] * int(rng.choice([1, 2, 4, 8])))
        np.testing.assert_array_equal(upsample(logits, size), interpolate(logits, size).argmax(0).numpy())


@BOTH
def test_class_that_wins_at_no_corner_can_win_between(upsample: Upsample) -> None:
    logits = np.array([[[10.0, 0.0]], [[8.0, 8.0]], [[0.0, 10.0]], [[7.0, 7.0]]], np.float32)
    assert upsample(logits, (1, 16))[0].tolist() == [0] * 6 + [1] * 4 + [2] * 6


@BOTH
def test_higher_id_that_ties_at_one_corner_does_not_hide_the_lower(upsample: Upsample) -> None:
    logits = np.array([[[1.0, 0.0]], [[1.0, 1.0]]], np.float32)  # equal on the clamped left edge: id 0 there
    assert upsample(logits, (1, 8))[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


@BOTH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(upsample: Upsample, bad: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        logits = rng.normal(size=(4, 5, 6)).astype(np.float32)
        logits[rng.random(logits.shape) < 0.1] = bad
        mask = upsample(logits, (23, 31))
        values = interpolate(logits, (23, 31)).numpy()
        usable = np.where(np.isnan(values), -np.inf, values)
        chosen = np.take_along_axis(usable, mask[None].astype(np.int64), axis=0)[0]
        finite = np.isfinite(usable.max(0))
        np.testing.assert_allclose(chosen[finite], usable.max(0)[finite], atol=1e-5)
        np.testing.assert_array_equal(mask[usable.max(0) == -np.inf], 0)
        np.testing.assert_array_equal(mask, upsample_argmax_numpy(logits, (23, 31)))
        np.testing.assert_array_equal(upsample(logits, (5, 6)), np.nan_to_num(logits, nan=-np.inf).argmax(0))


@BOTH
def test_masked_out_class_costs_nothing_else(upsample: Upsample) -> None:
    logits = np.random.default_rng(4).normal(size=(5, 6, 7)).astype(np.float32)
    masked = logits.copy()
    masked[2] = -np.inf
    logits[2] = -1e30
    np.testing.assert_array_equal(upsample(masked, (48, 56)), upsample(logits, (48, 56)))


@BOTH
def test_types_layouts_and_many_classes(upsample: Upsample) -> None:
    rng = np.random.default_rng(5)
    half = rng.normal(size=(6, 9, 8)).astype(np.float16)
    np.testing.assert_array_equal(upsample(half, (70, 64)), upsample(half.astype(np.float32), (70, 64)))
    turned = np.ascontiguousarray(half.astype(np.float32).transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_array_equal(upsample(turned, (70, 64)), upsample(half, (70, 64)))
    many = rng.normal(size=(300, 2, 3)).astype(np.float32)
    many[299] += 20
    mask = upsample(many, (8, 9))
    assert mask.dtype == np.uint16
    assert (mask == 299).all()
    assert upsample(many[:256], (8, 9)).dtype == np.uint8
    assert upsample(np.zeros((65535, 1, 1), np.float32), (2, 2)).tolist() == [[0, 0], [0, 0]]


@BOTH
@pytest.mark.parametrize(
    ("logits", "size", "message"),
    [
        (np.zeros((4, 4), np.float32), (8, 8), r"float32 \(4, 4\)"),
        (np.zeros((2, 4, 4), np.int64), (8, 8), "int64"),
        (np.zeros((0, 4, 4), np.float32), (8, 8), r"\(0, 4, 4\)"),
        (np.zeros((65536, 1, 1), np.float32), (1, 1), "65536 classes"),
        (np.zeros((2, 4, 4), np.float32), (0, 8), "0x8"),
    ],
)
def test_refuses(upsample: Upsample, logits: NDArray[Any], size: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upsample(logits, size)


@pytest.fixture
def fresh_kernels() -> Iterator[None]:
    postprocess._kernels.cache_clear()
    yield
    postprocess._kernels.cache_clear()


def test_works_without_numba(fresh_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(6).normal(size=(3, 4, 5)).astype(np.float32)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert postprocess._kernels() is None
    np.testing.assert_array_equal(upsample_argmax(logits, (32, 40)), upsample_argmax_numpy(logits, (32, 40)))


def test_works_where_no_folder_can_hold_the_cache(fresh_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = numba.njit

    def njit(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available for file")
        return plain(**options)

    monkeypatch.setattr(numba, "njit", njit)
    logits = np.random.default_rng(7).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(upsample_argmax(logits, (32, 40)), upsample_argmax_numpy(logits, (32, 40)))
