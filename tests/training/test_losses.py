"""Losses against oracles of a few lines of NumPy, and against the traps: half precision, ignored crops, extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featherseg.core.errors import ConfigError
from featherseg.training.loss_terms import AtFullSize, WeightedSum, at_any_size, build_loss
from featherseg.training.losses import BoundaryLoss, CrossEntropyLoss, DiceLoss, FocalLoss, OHEMLoss, losses
from loss_oracles import CLASSES, WEIGHTS, border_oracle, numpy_pixels, resized


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Logits (2, 5, 9, 7) and a target with ids 0–3 (4 is absent) and ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, CLASSES, 9, 7, generator=generator)
    target = torch.randint(0, CLASSES - 1, (2, 9, 7), generator=generator)
    target[:, :2] = 255
    return logits, target


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(batch, weights, smoothing):
    logits, target = batch
    loss = CrossEntropyLoss(weights, label_smoothing=smoothing)(logits, target)
    factors = torch.tensor(weights) if weights else None
    expected = F.cross_entropy(logits, target, weight=factors, ignore_index=255, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_focal_oracle(batch, gamma, weights):
    _, true, ids = numpy_pixels(*batch)
    w = np.ones(len(ids)) if weights is None else np.array(weights)[ids]
    expected = (w * (1 - true) ** gamma * -np.log(true)).sum() / w.sum()
    assert FocalLoss(gamma, weights)(*batch).item() == pytest.approx(expected, rel=1e-5)


def test_focal_without_focus_is_cross_entropy(batch):
    torch.testing.assert_close(FocalLoss(0.0, WEIGHTS)(*batch), CrossEntropyLoss(WEIGHTS)(*batch))


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_dice_oracle(batch, smooth):
    probs, _, ids = numpy_pixels(*batch)
    terms = []
    for c in np.unique(ids):
        overlap = probs[ids == c, c].sum()
        terms.append(1 - (2 * overlap + smooth) / (probs[:, c].sum() + (ids == c).sum() + smooth))
    assert len(terms) == CLASSES - 1
    assert DiceLoss(smooth)(*batch).item() == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("thresh", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("min_kept", [0, 1, 20, 10**6])
def test_ohem_oracle(batch, thresh, min_kept):
    _, true, _ = numpy_pixels(*batch)
    order = np.sort(true)
    count = min(max((true < thresh).sum(), min_kept), len(true))
    assert OHEMLoss(thresh, min_kept)(*batch).item() == pytest.approx(-np.log(order[:count]).mean(), rel=1e-5)


def test_ohem_ignored_pixels_never_fill_up_the_hardest():
    logits, target = torch.zeros(1, 2, 4, 4), torch.full((1, 4, 4), 255)
    logits[:, 0] = 20.0
    target[0, 0, 0] = 0  # one very easy pixel that counts, and min_kept asks for 8
    target[0, 0, 1] = 1  # and one that is wrong
    loss = OHEMLoss(0.7, min_kept=8)(logits, target)
    assert loss.item() == pytest.approx(10.0, rel=1e-5)


def test_ohem_weights_do_not_choose(batch):
    _, true, ids = numpy_pixels(*batch)
    hard = true < 0.3
    w = np.array(WEIGHTS)[ids[hard]]
    expected = (w * -np.log(true[hard])).sum() / w.sum()
    assert OHEMLoss(0.3, 0, class_weights=WEIGHTS)(*batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_boundary_oracle(width):
    rng = np.random.default_rng(3)
    target = np.kron(rng.choice([0, 1, 3, 255], (4, 5)), np.ones((5, 5), np.int64))
    near = border_oracle(target, width)
    assert 0 < near.sum() < (target != 255).sum()
    loss = BoundaryLoss(width=width, boost=3.0)
    batch = torch.from_numpy(target)[None]
    np.testing.assert_array_equal(loss.near_border(batch)[0].numpy(), near)
    logits = torch.randn(1, 4, *target.shape)
    _, true, _ = numpy_pixels(logits, batch)
    w = np.where(near, 3.0, 1.0)[target != 255]
    assert loss(logits, batch).item() == pytest.approx((w * -np.log(true)).sum() / w.sum(), rel=1e-5)


def test_boundary_of_an_ignored_area_is_none():
    target = torch.zeros(1, 12, 12, dtype=torch.int64)
    target[:, 4:8] = 255
    assert not BoundaryLoss(width=2).near_border(target).any()
    target[:, 8:] = 1  # two classes, 4 ignored rows between them
    assert not BoundaryLoss(width=4).near_border(target).any()
    assert BoundaryLoss(width=5).near_border(target).sum() == 2 * 12


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("size", [(6, 6), (48, 45)])
def test_all_ignored_is_zero_with_zero_gradient(name, size):
    logits = torch.randn(2, CLASSES, 6, 6, requires_grad=True)
    loss = losses.create(name)(logits, torch.full((2, *size), 255))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_gradients_are_finite_on_extreme_logits(name, scale, dtype):
    generator = torch.Generator().manual_seed(1)
    signs = torch.randint(0, 2, (2, CLASSES, 8, 8), generator=generator) * 2.0 - 1
    logits = (signs * scale).to(dtype).requires_grad_()
    target = torch.randint(0, CLASSES, (2, 8, 8), generator=generator)
    target[0, 0] = 255
    options = {"gamma": 0.5} if name == "focal" else {"smooth": 0.0} if name == "dice" else {}
    loss = losses.create(name, **options)(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert loss.item() > 0
    assert torch.isfinite(logits.grad).all()


def test_a_certain_pixel_has_a_finite_focal_gradient():
    logits = torch.tensor([200.0, -200.0]).view(1, 2, 1, 1).requires_grad_()
    FocalLoss(0.5)(logits, torch.zeros(1, 1, 1, dtype=torch.int64)).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_logits_under_autocast_are_computed_in_float32(batch, name, dtype):
    logits, target = batch[0].to(dtype), batch[1]
    loss = losses.create(name)
    with torch.autocast("cpu", dtype=dtype):
        value = loss(logits, target)
    torch.testing.assert_close(value, loss(logits.float(), target), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", losses.names())
def test_ignored_pixels_have_no_gradient_and_no_influence(batch, name):
    logits, target = batch
    loss = losses.create(name, **({"min_kept": 10} if name == "ohem" else {}))
    changed = logits.clone()
    changed[:, :, :2] = 50 * torch.randn(2, CLASSES, 2, 7)
    changed.requires_grad_()
    value = loss(changed, target)
    value.backward()
    torch.testing.assert_close(value.detach(), loss(logits, target))
    assert not changed.grad[:, :, :2].any()
    assert changed.grad[:, :, 2:].any()


def test_another_ignore_index(batch):
    logits, target = batch
    for name in losses:
        moved = torch.where(target == 255, 77, target)
        torch.testing.assert_close(
            losses.create(name, ignore_index=77)(logits, moved), losses.create(name)(logits, target)
        )


def test_weighted_sum_and_its_factors(batch):
    loss = WeightedSum([(0.5, CrossEntropyLoss()), (2.0, DiceLoss())])
    torch.testing.assert_close(loss(*batch), 0.5 * CrossEntropyLoss()(*batch) + 2.0 * DiceLoss()(*batch))


def test_build_loss(batch):
    terms = [
        {"name": "cross_entropy", "label_smoothing": 0.1},
        {"name": "dice", "weight": 0.4, "smooth": 0.5},
        {"name": "ohem", "weight": 0.2, "min_kept": 5, "class_weights": [1.0] * CLASSES},
    ]
    loss = build_loss(terms, class_weights=WEIGHTS)
    expected = (
        CrossEntropyLoss(WEIGHTS, 0.1)(*batch) + 0.4 * DiceLoss(0.5)(*batch) + 0.2 * OHEMLoss(0.7, 5)(*batch)
    )  # a term's own class weights go before the general ones
    torch.testing.assert_close(loss(*batch), expected)
    assert terms[1] == {"name": "dice", "weight": 0.4, "smooth": 0.5}
    assert not loss.state_dict()


def test_build_loss_hands_on_the_ignore_index(batch):
    logits, target = batch
    moved = torch.where(target == 255, 0, target)
    torch.testing.assert_close(
        build_loss([{"name": "cross_entropy"}], ignore_index=0)(logits, moved),
        F.cross_entropy(logits, moved, ignore_index=0),
    )


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        ([], None, "at least one term"),
        ([{"weight": 1.0}], None, "has no name"),
        ([{"name": "cros_entropy"}], None, 'did you mean "cross_entropy"'),
        ([{"name": "focal", "gama": 1.0}], None, 'did you mean "gamma"'),
        ([{"name": "dice"}], [1.0, 2.0], "no loss of dice takes them"),
        ([{"name": "cross_entropy"}], [1.0, -2.0], ">= 0"),
        ([{"name": "cross_entropy"}], [0.0, 0.0], "not all 0"),
        ([{"name": "cross_entropy", "label_smoothing": 1.5}], None, "label_smoothing is 1.5"),
        ([{"name": "focal", "gamma": -1}], None, "gamma is -1"),
        ([{"name": "dice", "smooth": -1}], None, "smooth is -1"),
        ([{"name": "ohem", "thresh": 0.0}], None, "thresh is 0.0"),
        ([{"name": "ohem", "min_kept": -1}], None, "min_kept is -1"),
        ([{"name": "boundary", "width": 0}], None, "width is 0"),
        ([{"name": "boundary", "boost": 0.5}], None, "boost is 0.5"),
        ([{"name": "dice", "weight": float("nan")}], None, "weight nan"),
    ],
)
def test_mistakes_are_refused(terms, weights, message):
    with pytest.raises(ConfigError, match=message):
        build_loss(terms, class_weights=weights)


@pytest.mark.parametrize("name", [*losses.names(), "own"])
@pytest.mark.parametrize(
    ("logits", "target"),
    [((1, 3, 4, 4), (2, 8, 8)), ((1, 3, 4, 4), (1, 1, 8, 8)), ((3, 4, 4), (3, 4, 4)), ((1, 3, 4, 4), (1, 0, 8))],
)
def test_shapes_are_compared(name, logits, target):
    loss = AtFullSize(nn.CrossEntropyLoss()) if name == "own" else losses.create(name)
    with pytest.raises(ConfigError, match=r"a loss needs \(B, C, h, w\) and \(B, H, W\)"):
        loss(torch.zeros(logits), torch.zeros(target, dtype=torch.int64))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "ohem", "boundary"])
def test_class_weights_need_one_a_class(batch, name):
    with pytest.raises(ConfigError, match=r"class_weights are \(2,\) for 5 classes"):
        losses.create(name, class_weights=[1.0, 2.0])(*batch)


def test_at_full_size_serves_a_loss_of_full_size_logits(batch):
    _, target = batch
    small = torch.randn(2, CLASSES, 3, 2, dtype=torch.bfloat16)
    own = nn.CrossEntropyLoss(ignore_index=255)
    torch.testing.assert_close(AtFullSize(own)(small, target), own(resized(small, target), target))
    torch.testing.assert_close(AtFullSize(own)(*batch), own(*batch))


def test_only_losses_known_to_take_any_size_stay_as_they_are():
    class Sharper(CrossEntropyLoss):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return super().forward(2 * logits.softmax(1), target)

    known = [*(losses.create(name) for name in losses), AtFullSize(nn.CrossEntropyLoss())]
    assert all(at_any_size(loss) is loss for loss in [*known, WeightedSum([(1.0, loss) for loss in known])])
    mixed = WeightedSum([(1.0, DiceLoss()), (0.5, nn.CrossEntropyLoss(ignore_index=255))])
    logits, target = torch.randn(2, CLASSES, 4, 3), torch.randint(0, CLASSES, (2, 16, 12))
    for own in (nn.CrossEntropyLoss(), Sharper(), mixed):
        wrapped = at_any_size(own)
        assert isinstance(wrapped, AtFullSize)
        torch.testing.assert_close(wrapped(logits, target), own(resized(logits, target), target))
