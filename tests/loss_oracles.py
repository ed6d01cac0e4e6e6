"""What losses are compared with: a few lines of NumPy, on maps of five classes."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor

CLASSES = 5
WEIGHTS = [0.5, 1.0, 2.0, 0.0, 3.0]


def numpy_pixels(logits: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return softmax probabilities (N, C), true-class probabilities (N,) and targets (N,) of the valid pixels."""
    rows = logits.double().numpy().transpose(0, 2, 3, 1).reshape(-1, logits.shape[1])
    ids = target.numpy().ravel()
    rows, ids = rows[ids != 255], ids[ids != 255]
    probs = np.exp(rows - rows.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    return probs, probs[np.arange(len(ids)), ids], ids


def border_oracle(target: np.ndarray, width: int) -> np.ndarray:
    near = np.zeros(target.shape, bool)
    for y, x in np.ndindex(target.shape):
        window = target[max(y - width, 0) : y + width + 1, max(x - width, 0) : x + width + 1]
        near[y, x] = target[y, x] != 255 and ((window != target[y, x]) & (window != 255)).any()
    return near


def resized(logits: Tensor, target: Tensor) -> Tensor:
    return F.interpolate(logits.float(), size=target.shape[-2:], mode="bilinear", align_corners=False)
