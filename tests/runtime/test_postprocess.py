from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from conftest import python
from featherseg.core.errors import ConfigError
from featherseg.runtime import postprocess
from featherseg.runtime.postprocess import kernels, upsample_argmax, upsample_argmax_numpy

Upsample = Callable[..., NDArray[Any]]
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
    for logits, size in cases(1400):
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


@pytest.fixture(autouse=True, scope="module")
def _compiled() -> None:
    """Else the first tests of a fresh clone would be of NumPy's masks."""
    assert kernels(None) is not None


def test_kernel_is_bit_for_bit_the_dense_computation() -> None:
    rng = np.random.default_rng(1)
    for logits, size in cases(1400, seed=1):
        extent = None
        if rng.random() < 0.4:
            extent = (logits.shape[1] * (1 - rng.random()), logits.shape[2] * (1 - rng.random()))
        expected = upsample_argmax_numpy(logits, size, extent=extent)
        np.testing.assert_array_equal(upsample_argmax(logits, size, extent=extent), expected)


@BOTH
def test_extent_covers_a_part_of_the_logits(upsample: Upsample) -> None:
    rng = np.random.default_rng(8)
    for logits, _ in cases(210, seed=2):
        # In quarters of a logit, each of them 2 rows or columns high: torch can upsample all, to be cut off after.
        extent = tuple(int(rng.integers(1, 4 * side + 1)) / 4 for side in logits.shape[1:])
        size = round(8 * extent[0]), round(8 * extent[1])
        inside = logits[:, : math.ceil(extent[0]), : math.ceil(extent[1])]
        short = [(0, whole - part) for whole, part in zip(logits.shape, inside.shape, strict=True)]
        whole = interpolate(np.pad(inside, short, mode="edge"), (8 * logits.shape[1], 8 * logits.shape[2])).numpy()
        values = whole[:, : size[0], : size[1]]
        spoilt = logits.copy()
        spoilt[-1, inside.shape[1] :] = spoilt[-1, :, inside.shape[2] :] = 1e9  # padding that would win
        mask = upsample(spoilt, size, extent=extent)
        chosen = np.take_along_axis(values, mask[None].astype(np.int64), axis=0)[0]
        np.testing.assert_array_less(values.max(0) - chosen, 1e-6 * np.abs(inside).max() + 1e-40)


def test_whole_extent_is_no_extent() -> None:
    for logits, size in cases(70, seed=3):
        expected = upsample_argmax(logits, size)
        np.testing.assert_array_equal(
            upsample_argmax(logits, size, extent=(logits.shape[1], logits.shape[2])), expected
        )


@pytest.mark.parametrize("threads", [2, 3, 8, 40])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    for logits, size in cases(140, seed=threads):
        np.testing.assert_array_equal(upsample_argmax(logits, size, threads=threads), upsample_argmax(logits, size))


def test_threads_after_a_fork() -> None:
    code = """
import os, sys, numpy as np
from featherseg.runtime.postprocess import upsample_argmax
logits = np.random.default_rng(0).normal(size=(5, 32, 32)).astype(np.float32)
expected = upsample_argmax(logits, (256, 256), threads=3)
child = os.fork()
same = np.array_equal(expected, upsample_argmax(logits, (256, 256), threads=3))
if child == 0:
    os._exit(0 if same else 1)
print(same and os.waitpid(child, 0)[1] == 0)
"""
    if not hasattr(os, "fork"):
        pytest.skip("needs a system that forks")
    # Python warns of every fork beside threads; here it is the point.
    assert python("import warnings\nwarnings.simplefilter('ignore', DeprecationWarning)" + code).strip() == "True"


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
    last = np.ascontiguousarray(half.transpose(1, 2, 0))
    np.testing.assert_array_equal(upsample(last, (70, 64), layout="hwc"), upsample(half, (70, 64)))
    fixed = half.astype(np.float32)
    fixed.flags.writeable = False
    np.testing.assert_array_equal(upsample(fixed, (70, 64)), upsample(half, (70, 64)))
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
        (np.zeros((2, 4, 4), ">f4"), (8, 8), "give float32"),
    ],
)
def test_refuses(upsample: Upsample, logits: NDArray[Any], size: tuple[int, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upsample(logits, size)


@BOTH
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "nchw"}, 'did you mean "chw"'),
        ({"extent": (0, 4)}, r"extent is \(0, 4\)"),
        ({"extent": (4, 4.5)}, r"at most \(4, 4\)"),
        ({"extent": (float("nan"), 1)}, "extent is"),
    ],
)
def test_refuses_options(upsample: Upsample, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upsample(np.zeros((2, 4, 4), np.float32), (8, 8), **options)


def test_refuses_no_thread() -> None:
    with pytest.raises(ConfigError, match="threads is 0"):
        upsample_argmax(np.zeros((2, 4, 4), np.float32), (8, 8), threads=0)


RUN = """
import sys
import numpy as np
from featherseg.runtime.draw import overlay
from featherseg.runtime.postprocess import kernels, upsample_argmax, upsample_argmax_numpy
from featherseg.core.types import ClassSet
kernels(None)
rng = np.random.default_rng(6)
for size in (32, 40), (4, 5):
    logits = rng.normal(size=(3, 4, 5)).astype(np.float32)
    mask = upsample_argmax(logits, size)
    assert np.array_equal(mask, upsample_argmax_numpy(logits, size))
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    print(overlay(image, mask, ClassSet(("a", "b"))).tobytes().hex())
print(kernels() is None, file=sys.stderr)
"""


def test_masks_do_not_wait_for_kernels_that_are_being_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    module = kernels(None)

    def compile_all() -> None:
        assert done.wait(30)

    monkeypatch.setattr(postprocess, "_loaders", [])
    monkeypatch.setattr(module, "compile_all", compile_all)
    logits = np.random.default_rng(7).normal(size=(5, 6, 7)).astype(np.float32)
    meanwhile = [upsample_argmax(logits, (40, 50)) for _ in range(3)]
    assert kernels() is None
    assert len(postprocess._loaders) == 1
    done.set()
    assert kernels(None) is module
    assert all(np.array_equal(mask, upsample_argmax(logits, (40, 50))) for mask in meanwhile)


FORK = """
import os
import threading
import warnings
from featherseg.runtime import postprocess, upsample_kernels
warnings.simplefilter("ignore")  # Python's own, of forking beside threads
stop = threading.Event()
honest, upsample_kernels.compile_all = upsample_kernels.compile_all, stop.wait
assert postprocess.kernels() is None
child = os.fork()
if child == 0:
    upsample_kernels.compile_all = honest
    os._exit(0 if postprocess.kernels(None) is upsample_kernels else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_process_brings_kernels_of_its_own() -> None:
    assert python(FORK) == "0\n"


def test_works_without_numba() -> None:
    assert python("import sys\nsys.modules['numba'] = None\n" + RUN + "assert kernels() is None") == python(RUN)


@pytest.mark.slow  # kernels are compiled anew, some seconds each time
@pytest.mark.parametrize("how", ["nowhere", "unwritable", "damaged"])
def test_works_with_any_state_of_the_cache(how: str, tmp_path: Path) -> None:
    """No folder takes the cache; writing fails (a full disk); files are empty (power that went)."""
    break_it = {
        "nowhere": "caching.CacheImpl._locator_classes = []",
        "unwritable": "caching.IndexDataCacheFile.save = lambda *_: open('/nowhere/at/all', 'w')",
        "damaged": "",
    }[how]
    prefix = f"import os\nos.environ['NUMBA_CACHE_DIR'] = {str(tmp_path)!r}\nfrom numba.core import caching\n"
    if how == "damaged":
        python(prefix + RUN)
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files
        for path in files:
            path.write_bytes(b"")
    assert python(prefix + break_it + "\n" + RUN) == python(RUN)
    assert how != "damaged" or all(not path.stat().st_size for path in files)
