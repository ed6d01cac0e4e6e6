"""Near duplicates are judged against how alike a set is in itself."""

from __future__ import annotations

import cv2
import numpy as np

from featherseg.doctor.near_duplicates import (
    THUMB_DISTANCE,
    difference_hash,
    near,
    recordings,
    thumbnail,
    unusual_distance,
)

SIZE = 96


def retina(seed: int) -> np.ndarray:
    """A disc of about one colour with a bright spot on one of two sides, and dark vessels from there."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    away = np.hypot(y - SIZE / 2, x - SIZE / 2)
    base = np.array([190, 90, 40]) * rng.uniform(0.85, 1.15) * rng.uniform(0.9, 1.1, 3)
    picture = base * (1 - 0.4 * (away / 45) ** 2)[..., None]
    spot = np.array([30 if seed % 2 else 66, 48]) + rng.normal(0, 3, 2)
    near_spot = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 50)
    picture += near_spot[..., None] * np.array([60, 80, 50])
    for _ in range(12):
        turns = rng.uniform(0, 6.3) + np.cumsum(rng.normal(0, 0.25, 18))
        line = spot + 3 * np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)
        cv2.polylines(picture, [line.astype(np.int32)], False, tuple((base * 0.5).tolist()), 1)
    picture[away > 45] = 0
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def facts(pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([difference_hash(p) for p in pictures], np.uint64), np.stack([thumbnail(p) for p in pictures])


def test_only_copies_are_found_among_retinas() -> None:
    pictures = [retina(i) for i in range(30)]
    pictures.append(cv2.imdecode(cv2.imencode(".jpg", pictures[3], [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 1))
    pictures.append(cv2.resize(cv2.resize(pictures[5], (75, 75)), (SIZE, SIZE)))
    hashes, thumbs = facts(pictures)
    limit = unusual_distance(thumbs, [str(i) for i in range(len(pictures))])
    assert near(hashes, thumbs, hashes, thumbs, earlier=True, limit=limit) == {30: 3, 31: 5}
    assert len(near(hashes, thumbs, hashes, thumbs, earlier=True)) > 10  # as if they were street scenes
    assert recordings([f"Image_{i:02d}" for i in range(len(pictures))], hashes) == []


def test_pictures_that_differ_leave_the_limit_where_it_is() -> None:
    thumbs = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 3)).astype(np.uint8)
    assert unusual_distance(thumbs, [str(i) for i in range(40)]) == THUMB_DISTANCE
    assert unusual_distance(thumbs[:4], list("abcd")) == THUMB_DISTANCE  # too few to tell
    assert unusual_distance(thumbs[:0], []) == THUMB_DISTANCE


def test_slices_of_one_volume_say_nothing_of_unrelated_pictures() -> None:
    """Of groups whose pictures are alike, those of other groups are the measure."""
    centres = np.random.default_rng(0).integers(20, 235, (6, 1, 8, 8, 3))
    thumbs = (
        (centres + np.random.default_rng(1).integers(-2, 3, (6, 20, 8, 8, 3))).reshape(-1, 8, 8, 3).astype(np.uint8)
    )
    groups = [str(i // 20) for i in range(120)]
    assert unusual_distance(thumbs, groups) == THUMB_DISTANCE
