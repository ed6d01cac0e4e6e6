"""Everything a run can be told, as frozen structures that know their ranges; :mod:`.recipes` reads and writes them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from .text_files import shortened

# The upper bounds only keep out TOML's inf, and numbers that no counter or generator of random numbers holds.
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e30)]
NotNegative = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Decay = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Pictures = Annotated[int, msgspec.Meta(ge=0, le=16)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Magnification = Annotated[float, msgspec.Meta(ge=1 / 64, le=64)]
Processes = Annotated[int, msgspec.Meta(ge=0, le=256)]
Name = Annotated[str, msgspec.Meta(max_length=200)]
Source = Annotated[str, msgspec.Meta(min_length=1)]
Size = tuple[Count, Count]

REST = "rest"
"""What ``data.unlabelled`` calls the training images that do not count as labelled."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the sections: immutable, strict about keys."""


class ModelConfig(Section, frozen=True):
    """Which network, the options its builder takes (``width``, ``encoder``, ``encoder_weights``, …), and its start.

    ``init`` is a run folder or weights file of the same network whose weights are trained on, or the data of published
    ones, such as ``cityscapes``; of other classes all but the heads is kept, and in these the classes of the same name.
    Of several, which have to be of the same classes, the mean of the weights is the start.
    ``init_classes`` says which of its classes each of ours starts from where names differ, several by their mean.
    ``long_side`` is how long, in pixels, the longer side of an image is to be when the network sees it, in training (at
    scale 1) as after it; 0 takes images as they are. Small objects in small images gain by being enlarged.
    """

    name: str = "fastsegnet"
    options: dict[str, Any] = {}
    init: str | tuple[Source, ...] = ""
    init_classes: dict[str, str | tuple[str, ...]] = {}
    long_side: Annotated[int, msgspec.Meta(ge=0, le=1 << 14)] = 0

    def __post_init__(self) -> None:
        _refuse_control_characters(init=" ".join(self.starts))
        _refuse_reserved(self.options, {"name": "model.name", "num_classes": "the dataset's classes"})

    @property
    def starts(self) -> tuple[str, ...]:
        """What ``init`` names, one by one; empty where training begins anew."""
        return _listed(self.init)


class DataConfig(Section, frozen=True):
    """Where images and masks come from, and how they reach the network.

    ``options`` are the dataset builder's own. ``classes`` merges, renames, drops or ignores classes: a key for each new
    class with the names and mask values that it takes in, and ``ignore``. ``crops`` is how many samples an epoch
    takes of each image, for few or large ones. ``cache`` keeps decoded images in memory (uint8), so that each file is
    decoded once.
    ``labelled`` is which of the training images count as labelled: a share such as ``"1/8"`` or a number of them, drawn
    by the run's seed, or a text file with the name of an image on each line; all where empty. ``unlabelled`` is a
    folder of further images, or ``"rest"`` for the training images that do not count as labelled: see ``[selftrain]``.
    """

    name: str = "folder"
    root: str = ""
    train_split: str = "train"
    val_split: str = "val"
    options: dict[str, Any] = {}
    classes: dict[str, str | int | tuple[str | int, ...]] = {}
    labelled: str | int | float = ""
    unlabelled: str = ""
    batch_size: Count = 8
    crops: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    workers: Processes = 2
    cache: bool = True

    def __post_init__(self) -> None:
        _refuse_control_characters(root=self.root, unlabelled=self.unlabelled, labelled=str(self.labelled))
        splits = "data.train_split and data.val_split"
        reserved = {"name": "data.name", "root": "data.root", "split": splits, "class_map": "[data.classes]"}
        _refuse_reserved(self.options, reserved)
        share, number = _share_or_number(self.labelled)
        if (share is not None and not 0 < share <= 1) or number == 0:
            raise ValueError(f"labelled is {self.labelled!r}; give a share such as 1/8, a number of images, or a file")

    def labelled_number(self, total: int) -> int | None:
        """Return how many of so many training images count as labelled; None where a file lists them."""
        if self.labelled == "":
            return total
        share, number = _share_or_number(self.labelled)
        return number if share is None else max(round(share * total), 1)


class AugmentConfig(Section, frozen=True):
    """Random changes of training samples; ``crop`` is (height, width) of what the network sees.

    ``scale`` is the range (smallest, largest) of magnification, from the size at which the network wants images.
    ``flip`` and ``blur`` are the shares of samples that are. ``class_balance`` is the share of crops that hold a pixel
    of a class drawn uniformly from those in the image, instead of being placed uniformly. ``jitter`` scales brightness,
    contrast, saturation (±) and hue (± a tenth of it). ``mosaic`` is the share of samples put together from crops of
    four images, ``cutmix`` the share into which a rectangle of another image's crop is put, ``copy_paste`` the share
    onto which an object of another image is pasted, its class drawn inversely to how frequent it is.
    ``on_device`` is whether flip, jitter and blur are made by the device that trains instead of the workers; "auto"
    is yes on a GPU. The samples are the same but for rounding.
    """

    crop: Size = (360, 480)
    scale: tuple[Magnification, Magnification] = (0.5, 2.0)
    flip: Share = 0.5
    jitter: Share = 0.3
    blur: Share = 0.1
    class_balance: Share = 0.0
    mosaic: Share = 0.0
    cutmix: Share = 0.0
    copy_paste: Share = 0.0
    on_device: Literal["auto", "yes", "no"] = "auto"

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError("the smallest scale comes first: scale = [0.5, 2.0]")


class LossConfig(Section, frozen=True):
    """Loss terms per output: each ``{name = …, weight = 1.0, …}`` with the loss's own options.

    ``class_weights`` are "none", "auto" (square root of inverse frequency in the training masks, mean 1 over
    pixels) or one number per class; they go to each loss that takes them.
    """

    out: tuple[dict[str, Any], ...] = msgspec.field(default_factory=lambda: ({"name": "cross_entropy"},))
    aux: tuple[dict[str, Any], ...] = msgspec.field(default_factory=lambda: ({"name": "cross_entropy"},))
    aux_weight: NotNegative = 0.4
    class_weights: Literal["none", "auto"] | list[Positive] = "none"

    def __post_init__(self) -> None:
        _check_terms("out", self.out)
        _check_terms("aux", self.aux)


class DistillConfig(Section, frozen=True):
    """A teacher, or several, to learn from besides the masks; none by default.

    ``teacher`` is a run folder, a weights file, published weights such as ``fddwnet:cityscapes``, or a network of
    torchvision's such as ``torchvision:fcn_resnet50``; of several the logits are averaged. ``classes`` says which of
    the teacher's classes each of ours is where names differ, several for the probability of any of them.
    ``losses`` are ``{name = …, weight = 1.0, decay = false, use_ignored = false, …}`` each, with the loss's own
    options: ``decay`` lets the weight fall linearly to 0 at the end, ``use_ignored`` takes in unlabelled pixels.
    ``cache`` is a folder for what the teacher says, which other runs over the same samples then find there.
    """

    teacher: str | tuple[Source, ...] = ""
    classes: dict[str, str | tuple[str, ...]] = {}
    cache: str = ""
    losses: tuple[dict[str, Any], ...] = msgspec.field(default_factory=lambda: ({"name": "cwd", "weight": 3.0},))

    def __post_init__(self) -> None:
        _refuse_control_characters(teacher=" ".join(self.teachers))
        _check_terms("losses", self.losses)

    @property
    def teachers(self) -> tuple[str, ...]:
        """What ``teacher`` names, one by one; empty where there is none."""
        return _listed(self.teacher)


class SelfTrainConfig(Section, frozen=True):
    """What is learnt from images without labels, ``data.unlabelled``: as many in each batch as labelled ones.

    A teacher sees each crop as it is, and the student the same crop strongly changed; where the teacher's class has a
    probability of ``threshold`` or more, it is the student's target. ``teacher`` is a run folder, a weights file or the
    like, as of ``[distill]``; empty: the student's own averaged weights (``train.ema``). ``weight`` is the factor of
    this loss, which grows to it linearly over ``ramp``, a share of the training. ``jitter`` and ``blur`` are as in
    ``[augment]``, of the student's crops; ``cutmix`` is the share of them into which a rectangle of another one is put.
    """

    teacher: str = ""
    threshold: Decay = 0.9
    weight: NotNegative = 1.0
    ramp: Share = 0.1
    jitter: Share = 0.5
    blur: Share = 0.5
    cutmix: Share = 0.5

    def __post_init__(self) -> None:
        _refuse_control_characters(teacher=self.teacher)


class OptimConfig(Section, frozen=True):
    """Optimiser and schedule. ``lr`` is the peak rate; ``encoder_lr`` the encoder's, the same where left out.

    ``momentum`` is SGD's (with Nesterov's step), or AdamW's β₁. ``warmup`` is a share of all steps; ``clip_norm`` 0
    does not clip; ``accumulate`` batches make one step.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 3e-3
    encoder_lr: Positive | None = None
    weight_decay: NotNegative = 1e-2
    momentum: Decay = 0.9
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    warmup: Share = 0.05
    clip_norm: NotNegative = 5.0
    accumulate: Count = 1


class TrainConfig(Section, frozen=True):
    """How long and on what. ``precision`` "auto" is bf16 where it is fast (CPU with AVX-512 BF16 or AMX, GPU).

    ``ema`` is the decay of the averaged weights, which are what is evaluated and kept; 0 averages nothing.
    ``start_share`` of the weights that the run started from is kept in those that are evaluated and kept, which makes a
    fine-tuned network better at what its training does not show.
    ``minutes`` is how long the run may take, scores included: after each epoch ``epochs`` are planned anew where they
    would take longer, or clearly less; 0 trains as many as ``epochs`` says.
    ``patience`` is how many evaluations without a better one end the training; 0 goes on to the last epoch.
    ``pictures`` of the validation split are drawn into the run folder at each best epoch; 0 draws none.
    ``sync_batchnorm`` shares the statistics of batch norm among processes; "auto" does so on GPUs.
    """

    epochs: Count = 40
    minutes: NotNegative = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "auto"
    channels_last: bool = True
    ema: Decay = 0.999
    start_share: Decay = 0.0
    eval_every: Count = 1
    patience: Whole = 0
    tensorboard: bool = False
    pictures: Pictures = 4
    sync_batchnorm: Literal["auto", "on", "off"] = "auto"


class ToleranceConfig(Section, frozen=True):
    """Limits of a verification, see :class:`featherseg.exporting.verify.Tolerance`; what is left out stays as it is."""

    max_logit_error: NotNegative | None = None
    min_agreement: Share | None = None
    max_miou_drop: Share | None = None
    max_confidence_error: Share | None = None


class ShipConfig(Section, frozen=True):
    """What is made of a trained run on its way to a folder of files.

    ``to`` names targets. ``prune`` is the share of channels to remove, 0 for none; the pruned network is trained for
    ``finetune_epochs`` with the run as its teacher, and dropped again where it loses more than ``max_drop`` of mIoU
    (0–1) by then. ``int8`` adds a quantised file for each target that knows it, calibrated on ``calibration`` training
    images, with the most damaging layers left in fp32 until the drop is within ``max_drop``. ``tolerances`` are limits
    by precision ("fp32", "fp16", "int8"). ``threads`` 0 are all that the process may use. ``pictures`` are how many of
    the worst images the report shows; with 0 none of the data goes along, and the golden image is a made-up one.

    Example:
        >>> featherseg.ShipConfig(to=("onnx", "openvino"), int8=True).max_drop
        0.01
    """

    to: tuple[str, ...] = ("onnx",)
    int8: bool = False
    prune: Decay = 0.0
    finetune_epochs: Count = 15
    max_drop: Share = 0.01
    calibration: Annotated[int, msgspec.Meta(ge=4, le=2**31 - 1)] = 48
    tolerances: dict[Literal["fp32", "fp16", "int8"], ToleranceConfig] = {}
    threads: Whole = 0
    pictures: Whole = 3


class Config(Section, frozen=True):
    """A whole run.

    Example:
        >>> featherseg.Config(name="mine").train.epochs > 0
        True
    """

    name: Name = "run"
    seed: Whole = 0
    out: str = "runs"
    # Made anew for each run: frozen sections still hold dictionaries, which runs must not share.
    model: ModelConfig = msgspec.field(default_factory=ModelConfig)
    data: DataConfig = msgspec.field(default_factory=DataConfig)
    augment: AugmentConfig = msgspec.field(default_factory=AugmentConfig)
    loss: LossConfig = msgspec.field(default_factory=LossConfig)
    distill: DistillConfig = msgspec.field(default_factory=DistillConfig)
    selftrain: SelfTrainConfig = msgspec.field(default_factory=SelfTrainConfig)
    optim: OptimConfig = msgspec.field(default_factory=OptimConfig)
    train: TrainConfig = msgspec.field(default_factory=TrainConfig)
    ship: ShipConfig = msgspec.field(default_factory=ShipConfig)


def _listed(sources: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the sources of a setting that takes one or several; an empty text is none."""
    return ((sources,) if sources else ()) if isinstance(sources, str) else sources


def _share_or_number(labelled: str | int | float) -> tuple[float | None, int | None]:
    """Return the share that a setting says, ``"1/8"`` or ``0.125``, or else the number; neither where it is a file."""
    text = str(labelled)
    if re.fullmatch(r"-?[0-9]{1,9}", text):
        return None, max(int(text), 0)
    if found := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text):
        return int(found[1]) / max(int(found[2]), 1e-9), None
    if isinstance(labelled, float) or re.fullmatch(r"[0-9]*\.[0-9]+", text):
        return float(labelled), None
    return None, None


def _refuse_reserved(options: dict[str, Any], reserved: dict[str, str]) -> None:
    """Refuse options that the builders get from elsewhere; msgspec names the place of the error."""
    for key in options:
        if key in reserved:
            raise ValueError(f"option {key!r} is not given here but by {reserved[key]}")


def _refuse_control_characters(**settings: str) -> None:
    """Refuse paths in which TOML took a backslash for the start of a tab or line break."""
    for name, text in settings.items():
        if any(ord(letter) < 32 for letter in text):
            raise ValueError(
                f"{name} is {shortened(repr(text))}, with a tab or line break in it; write Windows paths between "
                "single quotes"
            )


def _check_terms(place: str, terms: tuple[dict[str, Any], ...]) -> None:
    """Refuse loss terms whose name or weight is of another kind; the losses look at the rest."""
    for term in terms:
        name, weight = term.get("name", ""), term.get("weight", 1.0)
        if not isinstance(name, str):
            raise ValueError(f"a term of {place} has the name {shortened(repr(name))}; give a text")
        if type(weight) not in (int, float) or not abs(weight) <= 1e30:
            raise ValueError(f"a term of {place} has the weight {shortened(repr(weight))}; give a number")
