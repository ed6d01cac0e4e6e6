"""Cross-entropy of upsampled logits that never exist: the full-size tensor is made and used up tile by tile.

A network ends in logits at its stride; the loss is defined at the mask's size. Upsampling first and calling
``cross_entropy`` holds several tensors of B·C·H·W values at once, often the largest of a training step. Here a tile of
the output is upsampled, turned into its losses and, at once, into its gradient with respect to the logits at the
network's stride, and its memory is used again for the next. What is left are the low-resolution gradient and one value
a pixel, and since a tile fits the processor's cache, it is quicker too.

Bilinear interpolation is separable: a tile is ``R · X · Cᵀ`` where X is the small patch of logits around it and each
row of R and C holds the two weights of one output row or column. Its transpose, which gradients need, is
``Rᵀ · G · C``. Both are small dense matrix products, exact for any scale, and tiles keep them small: a tile of 112
pixels at stride 8 draws on 16 rows of logits.

Arithmetic and results are float32 whatever the logits' precision and autocast (float64 for float64 logits), pixels of
`ignore_index` take no part, and where no pixel counts the loss is exactly 0 and so is its gradient. Other target
values than class ids fail inside torch. The host never waits for the device. On CUDA the products follow the process's
setting for TF32, which torch leaves off.

The modules of :mod:`featherseg.training.losses` are built on these functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..core.errors import ConfigError
from ..core.types import IGNORE_INDEX

CPU_TILE_VALUES = 1 << 18
"""Values in a tile on a CPU: 1 MiB of float32, about a core's L2 cache. Half and twice as many are as quick."""
GPU_TILE_VALUES = 1 << 24
"""Values in a tile on other devices: 64 MiB, so that each kernel's work hides the cost of its launch."""


def upsampled_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    tile: int | None = None,
) -> Tensor:
    """Return the cross-entropy of logits that are upsampled bilinearly to the size of the target.

    It equals ``cross_entropy(interpolate(logits.float(), target.shape[-2:], mode="bilinear"), target, …)``, but 0 for
    NaN where no pixel counts. The gradient is computed in the forward pass already, so that each tile is visited once.

    Args:
        logits: float (B, C, h, w), at the network's stride.
        target: int64 (B, H, W), class ids and `ignore_index`.
        class_weights: float (C,), one factor ≥ 0 per class; the mean is then weighted.
        label_smoothing: share (0–1) of the target's probability that is spread evenly over all classes.
        ignore_index: target value that takes no part.
        tile: side in pixels of the tiles; by default what suits the device.

    Raises:
        ConfigError: shapes that do not fit, or a share or tile out of range.
    """
    check_shapes(logits, target, class_weights)
    _check_tile(tile)
    if not 0.0 <= label_smoothing <= 1.0:
        raise ConfigError(f"label_smoothing is {label_smoothing}; give a share of 0 to 1")
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    loss: Tensor = _MeanLoss.apply(logits, target, class_weights, label_smoothing, ignore_index, tile, with_gradient)
    return loss


def upsampled_pixel_losses(
    logits: Tensor, target: Tensor, *, ignore_index: int = IGNORE_INDEX, tile: int | None = None
) -> Tensor:
    """Return −log p(true class) of each pixel, float32 (B, H, W), of bilinearly upsampled logits; 0 where ignored.

    It equals ``cross_entropy(interpolate(logits.float(), …), target, reduction="none")`` and can be differentiated:
    the backward pass visits the tiles again, with the gradient of each pixel's loss as its weight. Losses that choose
    or weigh pixels by their own losses (OHEM, focal, boundary) are a few operations on the result.

    Args:
        logits: float (B, C, h, w), at the network's stride.
        target: int64 (B, H, W), class ids and `ignore_index`.
        ignore_index: target value that takes no part.
        tile: side in pixels of the tiles; by default what suits the device.

    Raises:
        ConfigError: shapes that do not fit, or a tile below 1.
    """
    check_shapes(logits, target)
    _check_tile(tile)
    losses: Tensor = _PixelLosses.apply(logits, target, ignore_index, tile)
    return losses


class _Span(NamedTuple):
    """A run of output rows or columns, and what it is interpolated from.

    Attributes:
        pixels: the output indices.
        source: the indices of the logits that they draw on.
        matrix: (len(pixels), len(source)), two weights per row that add up to 1.
    """

    pixels: slice
    source: slice
    matrix: Tensor


def _spans(length: int, source_length: int, tile: int, like: Tensor) -> list[_Span]:
    """Cut an axis of `length` pixels into even runs of at most `tile`, with their interpolation matrices."""
    # As torch does with align_corners=False, and in the same precision: pixel centres, clamped at both ends.
    scale = source_length / length
    runs = -(-length // tile)
    spans = []
    for run in range(runs):
        pixels = slice(run * length // runs, (run + 1) * length // runs)
        first, last = (min(max(scale * (i + 0.5) - 0.5, 0), source_length - 1) for i in (pixels.start, pixels.stop - 1))
        source = slice(int(first), math.ceil(last) + 1)
        # Made on the device, since after a copy from the host that would wait for it.
        steps = torch.arange(pixels.start, pixels.stop, dtype=like.dtype, device=like.device)
        position = (scale * (steps + 0.5) - 0.5).clamp(0, source_length - 1)
        places = torch.arange(source.start, source.stop, dtype=like.dtype, device=like.device)
        spans.append(_Span(pixels, source, (1 - (position.unsqueeze(1) - places).abs()).clamp(min=0)))
    return spans


class _Tile(NamedTuple):
    """A rectangle of output pixels in some images of the batch; `same_size` logits need no interpolation."""

    images: slice
    rows: _Span
    columns: _Span
    same_size: bool

    @property
    def pixels(self) -> tuple[slice, slice, slice]:
        """Return the tile's place in a map (B, H, W)."""
        return self.images, self.rows.pixels, self.columns.pixels

    @property
    def _patch(self) -> tuple[slice, slice, slice, slice]:
        return self.images, slice(None), self.rows.source, self.columns.source

    def shifted_logits(self, logits: Tensor) -> Tensor:
        """Return the tile (b, C, rows, columns) of the upsampled logits, less the largest of each pixel.

        The softmax does not see the shift, and its exponentials cannot overflow.
        """
        patch = logits[self._patch].to(self.rows.matrix.dtype)
        if self.same_size:
            return patch - patch.amax(1, keepdim=True)
        values = self.rows.matrix @ (patch @ self.columns.matrix.T)
        return values.sub_(values.amax(1, keepdim=True))

    def add_gradient(self, gradient: Tensor, of_tile: Tensor) -> None:
        """Add to `gradient` (B, C, h, w) what a gradient with respect to the tile means for the logits."""
        if not self.same_size:
            of_tile = (self.rows.matrix.T @ of_tile) @ self.columns.matrix
        gradient[self._patch] += of_tile


def _tiles(logits: Tensor, target: Tensor, tile: int | None) -> Iterator[_Tile]:
    """Yield tiles that cover a batch upsampled to the target's size; images smaller than a tile share one."""
    batch, classes, *source_size = logits.shape
    size = target.shape[1:]
    if tile is None:
        values = CPU_TILE_VALUES if logits.device.type == "cpu" else GPU_TILE_VALUES
        tile = max(math.isqrt(values // classes), 1)
    like = logits.new_empty((), dtype=_precision(logits))
    rows, columns = (_spans(n, source, tile, like) for n, source in zip(size, source_size, strict=True))
    together = max(tile * tile // (size[0] * size[1]), 1)
    for first in range(0, batch, together):
        for row in rows:
            for column in columns:
                yield _Tile(slice(first, min(first + together, batch)), row, column, size == logits.shape[2:])


class _MeanLoss(Function):
    """Weighted mean of the cross-entropy; the gradient is ready when the forward pass ends."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        class_weights: Tensor | None,
        smoothing: float,
        ignore_index: int,
        tile: int | None,
        with_gradient: bool,
    ) -> Tensor:
        gradient = _zero_gradient(logits)
        factors = None if class_weights is None else class_weights.to(gradient.dtype)
        # What smoothing adds to (1 − smoothing) · one-hot: its share of every class, times the class's own factor.
        spread = (gradient.new_ones(logits.shape[1]) if factors is None else factors) * (smoothing / logits.shape[1])
        sums, counts = [], []
        with torch.autocast(logits.device.type, enabled=False):
            for part in _tiles(logits, target, tile):
                ids, valid, weights = _examine(target[part.pixels], factors, ignore_index, gradient.dtype)
                counts.append(weights.sum())
                values = part.shifted_logits(logits)
                slope = weights = weights * (1 - smoothing) if smoothing else weights
                if smoothing:
                    slope = weights + valid * spread.sum()
                    spread_logits = (spread @ values.flatten(2)).view_as(valid) * valid
                    sums.append(-spread_logits.sum())
                true, total = _exponentials(values, ids)
                sums.append((slope * total.log() - weights * true).sum())
                if with_gradient:
                    _to_gradient(values, ids, true, slope / total, weights)
                    if smoothing:
                        values.addcmul_(valid.unsqueeze(1).to(values.dtype), spread.view(1, -1, 1, 1), value=-1)
                    part.add_gradient(gradient, values)
        count = torch.stack(counts).sum()
        count = torch.where(count > 0, count, 1.0)
        ctx.save_for_backward(gradient.div_(count))
        ctx.dtype = logits.dtype
        return torch.stack(sums).sum() / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        # Scaled before it is cast: a gradient scaler's factor keeps small fp16 gradients from becoming 0.
        return (gradient * grad_loss).to(ctx.dtype), None, None, None, None, None, None


class _PixelLosses(Function):
    """Cross-entropy of each pixel; the backward pass upsamples again rather than keep what the forward pass made."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, ignore_index: int, tile: int | None) -> Tensor:
        ctx.save_for_backward(logits, target)
        ctx.ignore_index, ctx.tile = ignore_index, tile
        losses = torch.empty(target.shape, dtype=_precision(logits), device=logits.device)
        with torch.autocast(logits.device.type, enabled=False):
            for part in _tiles(logits, target, tile):
                ids, valid, _ = _examine(target[part.pixels], None, ignore_index, losses.dtype)
                true, total = _exponentials(part.shifted_logits(logits), ids)
                losses[part.pixels] = (total.log() - true) * valid
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        logits, target = ctx.saved_tensors
        gradient = _zero_gradient(logits)
        with torch.autocast(logits.device.type, enabled=False):
            for part in _tiles(logits, target, ctx.tile):
                ids, _, weights = _examine(target[part.pixels], None, ctx.ignore_index, gradient.dtype)
                weights *= grad_losses[part.pixels]
                values = part.shifted_logits(logits)
                true, total = _exponentials(values, ids)
                _to_gradient(values, ids, true, weights / total, weights)
                part.add_gradient(gradient, values)
        return gradient.to(logits.dtype), None, None, None


def _exponentials(values: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Replace logits (b, C, rows, columns) by their exponentials; return the logits of `ids` and the sums over C."""
    true = values.gather(1, ids.unsqueeze(1)).squeeze(1)
    return true, values.exp_().sum(1)


def _to_gradient(values: Tensor, ids: Tensor, true: Tensor, slope: Tensor, weights: Tensor) -> None:
    """Turn exponentials, in place, into slope · values − weights · one-hot(ids), given the logits of `ids`."""
    values *= slope.unsqueeze(1)
    # Written rather than added: adding by index is not deterministic on CUDA.
    values.scatter_(1, ids.unsqueeze(1), (slope * true.exp() - weights).unsqueeze(1))


def _examine(
    target: Tensor, class_weights: Tensor | None, ignore_index: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Return class ids (0 where ignored), which pixels count, and their weights (0 where ignored)."""
    valid = target != ignore_index
    ids = torch.where(valid, target, 0)
    return ids, valid, valid.to(dtype) if class_weights is None else class_weights[ids] * valid


def _precision(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _zero_gradient(logits: Tensor) -> Tensor:
    return torch.zeros(logits.shape, dtype=_precision(logits), device=logits.device)


def check_shapes(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> None:
    """Refuse logits, targets and class weights that do not go together, as a :class:`ConfigError`."""
    if logits.ndim != 4 or target.ndim != 3 or len(logits) != len(target) or not logits.numel() * target.numel():
        raise ConfigError(
            f"logits are {tuple(logits.shape)} and target is {tuple(target.shape)}; "
            "a loss needs (B, C, h, w) and (B, H, W), none of them empty"
        )
    if class_weights is not None and class_weights.shape != logits.shape[1:2]:
        raise ConfigError(
            f"class_weights are {tuple(class_weights.shape)} for {logits.shape[1]} classes; give one per class"
        )


def _check_tile(tile: int | None) -> None:
    if tile is not None and tile < 1:
        raise ConfigError(f"tile is {tile}; give a side of at least 1 pixel, or None")
