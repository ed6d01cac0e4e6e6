"""Shares of classes before and after labels are written anew, and masks that are resized."""

from __future__ import annotations

import numpy as np
import pytest

from featherseg.core.errors import DataError
from featherseg.data.mask_resize import resize_mask
from featherseg.data.shares import Account, check_shares, count_classes, outline_share

NAMES = ("road", "sky", "pole")


def account(source: list[int], written: list[int], nameless: int = 0, slack: float = 0.0) -> Account:
    sizes = sum(source) + nameless, 1000
    return Account(np.array(source), nameless, sizes[0], np.array(written), sizes[1], slack)


def test_equal_shares_pass() -> None:
    check_shares([account([600, 300, 100], [600, 300, 100]), account([1000, 0, 0], [1000, 0, 0])], NAMES)


def test_a_class_that_is_gone() -> None:
    with pytest.raises(DataError, match="class 'pole' would be gone: of its 100 pixels none is left"):
        check_shares([account([600, 300, 100], [700, 300, 0], slack=1.0)], NAMES)


def test_a_share_that_moves_by_one_pixel_too_many() -> None:
    check_shares([account([600, 300, 100], [610, 290, 100], slack=0.01)], NAMES)
    with pytest.raises(DataError, match="class 'road' would have"):
        check_shares([account([600, 300, 100], [601, 299, 100])], NAMES)
    with pytest.raises(DataError, match="class 'road' would have"):
        check_shares([account([600, 300, 100], [611, 289, 100], slack=0.01)], NAMES)


def test_values_without_a_name() -> None:
    clean = account([1000, 0, 0], [1000, 0, 0])
    check_shares([account([900, 0, 0], [900, 0, 0], 100), *[clean] * 9], NAMES)  # one mask of ten
    with pytest.raises(DataError, match=r"10\.0 % of the pixels hold values that are no class"):
        check_shares([account([900, 0, 0], [900, 0, 0], 100)] * 4, NAMES)


def wires(height: int, width: int) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 1
    mask[:, 3::40] = 2
    mask[-4:] = 255
    return mask


@pytest.mark.parametrize("size", [(48, 60), (30, 30), (100, 50), (50, 100), (7, 5), (240, 300), (97, 131)])
def test_resizing_keeps_every_class_and_its_share(size: tuple[int, int]) -> None:
    mask = wires(96, 120)
    resized, _ = resize_mask(mask, size)
    assert resized.shape == size
    slack = outline_share(mask, size, 3)
    before, after = (count_classes(part, 3) / part.size for part in (mask, resized))
    assert (after > 0).all()
    assert (np.abs(before - after) <= slack).all()
    assert set(np.unique(resized)) <= {0, 1, 2, 255}


def test_thin_classes_are_named_and_others_stay_as_the_nearest_pixel_has_them() -> None:
    mask = wires(96, 120)
    resized, kept = resize_mask(mask, (24, 30))
    assert kept == (2,)
    assert (resized == 2).mean() == pytest.approx((mask == 2).mean(), rel=0.1)
    mask[:, 3::40] = mask[:, 4::40]
    plain, none = resize_mask(mask, (24, 30))
    assert none == ()
    assert (plain == mask[2::4, 2::4]).mean() > 0.95
