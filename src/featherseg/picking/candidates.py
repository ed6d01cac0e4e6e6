"""What there is to choose from: networks at several widths and sizes, in each precision of each engine here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..core.errors import ConfigError, did_you_mean
from ..core.types import InputSpec
from ..evaluation.environment import environment_facts
from ..models.factory import list_models, models
from ..runtime.engines import ANY, Engine, engines_of
from ..runtime.sessions.base import sessions

SCALES = (1.0, 0.75, 0.5)
"""Sizes of the network's input, as shares of the pictures' own."""
LARGEST_SCALE = 4.0
VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "fastsegnet": ({}, {"stride": 4}, {"stride": 2}, {"width": 0.75}, {"width": 0.5}),
    "ddrnet": ({}, {"size": "23"}),
    "pidnet": ({}, {"size": "m"}),
    "espnetv2_edge": ({}, {"scale": 1.0}),
}
"""Options that make others of a network; one that is not named here is as its builder has it. Wider backbones of STDC
and PP-LiteSeg are left out: each is slower than the usual one by half, and no score of theirs was measured here."""
WEIGHTS = ("fp32", "int8")
"""What weights are stored in: the exported file as it is, or quantised."""
NOT_TRIED = {
    "torch": "needs torch on the device, and its programs were never quicker than the exported file; time the pick's "
    "own with featherseg bench",
    "tensorrt": "building an engine takes minutes for each candidate; build and time the pick's own with featherseg "
    "export --to tensorrt",
}
"""Why engines that would run here are left out."""


@dataclass(frozen=True)
class Variant:
    """A network with options.

    Args:
        network: registered name.
        options: of its builder, where they are not the usual ones.
    """

    network: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return " ".join([self.network, *(f"{key}={value}" for key, value in self.options.items())])

    @property
    def slug(self) -> str:
        """What its files are called."""
        return "_".join([self.network, *(f"{key}{value}" for key, value in self.options.items())])


@dataclass(frozen=True)
class Net:
    """A network at a size: what is trained, and stored and run in several ways.

    Args:
        variant: the network.
        scale: of its input, as a share of the pictures' own size.
    """

    variant: Variant
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.variant} at {share_text(self.scale)}"

    @property
    def slug(self) -> str:
        """What its files are called."""
        return f"{self.variant.slug}_at{round(100 * self.scale)}"

    def long_side(self, frame: tuple[int, int]) -> int | None:
        """Return how long the longer side of its input is for frames of a (height, width); None: as long as theirs."""
        return None if self.scale == 1 else max(round(max(frame) * self.scale), 1)

    def size(self, frame: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) at which it sees frames of a (height, width)."""
        return InputSpec(long_side=self.long_side(frame)).size(frame)


@dataclass(frozen=True)
class Way:
    """How a network is stored and run.

    Args:
        weights: one of :data:`WEIGHTS`.
        engine: what runs it, and what it computes floats in.
    """

    weights: str
    engine: Engine

    def __str__(self) -> str:
        return f"{self.precision} {self.engine}" if self.engine.precision is None else f"{self.weights} {self.engine}"

    @property
    def precision(self) -> str:
        """What most of the network is computed in."""
        return "int8" if self.weights == "int8" else self.engine.precision or "fp32"

    @property
    def flavour(self) -> str:
        """The engine that a quantised file is made for."""
        return "openvino" if self.engine.backend == "openvino" else "onnxruntime"

    @property
    def file_kind(self) -> str:
        """What tells its file from the network's others: ``"fp32"``, or int8 with its flavour."""
        return self.weights if self.weights == "fp32" else f"int8_{self.flavour}"


@dataclass(frozen=True)
class Candidate:
    """A network at a size, and how it is run."""

    net: Net
    way: Way

    def __str__(self) -> str:
        return f"{self.net}, {self.way}"

    @property
    def key(self) -> str:
        """A text that tells it from all others, in files."""
        return f"{self.net.slug}/{self.way.weights}/{self.way.engine.backend}/{self.way.engine.precision or 'own'}"


def share_text(scale: float) -> str:
    """Return a share of the pictures' size as people say it.

    >>> share_text(1.0), share_text(0.75), share_text(0.4)
    ('full size', '3/4', '0.4')
    """
    if scale == 1:
        return "full size"
    ratio = Fraction(scale).limit_denominator(8)
    return f"{ratio.numerator}/{ratio.denominator}" if abs(float(ratio) - scale) < 1e-6 else f"{scale:g}"


def variants(networks: Sequence[str] = ()) -> list[Variant]:
    """Return all registered networks with their variants, or those that are named.

    Raises:
        ConfigError: one is not registered.
    """
    known = list_models()
    chosen = []
    for name in networks or known:
        spelled = models.spelled(name) or name
        if spelled not in known:
            raise ConfigError(f"--networks names {name!r}; {did_you_mean(name, known)}")
        chosen.append(spelled)
    return [Variant(name, options) for name in dict.fromkeys(chosen) for options in VARIANTS.get(name, ({},))]


def nets(chosen: Sequence[Variant], scales: Sequence[float] = SCALES) -> list[Net]:
    """Return each size of each variant, the largest size of all of them first.

    Raises:
        ConfigError: there is no size, or one is out of range.
    """
    if not scales or not all(0 < scale <= LARGEST_SCALE for scale in scales):
        raise ConfigError(
            f"--scales are {', '.join(f'{scale:g}' for scale in scales) or 'none'}; give shares of the pictures' size "
            f"over 0, up to {LARGEST_SCALE:g}, such as 1,0.75,0.5"
        )
    order = sorted(set(scales), reverse=True)
    return [Net(variant, scale) for scale, variant in itertools.product(order, chosen)]


def ways_here() -> tuple[list[Way], dict[str, str]]:
    """Return the ways in which networks run on this machine, and why each other engine does not, by its name."""
    ways, missing = [], {}
    states = environment_facts()["engines"]
    for backend in sessions:
        state = states[backend]
        if state.startswith("no: "):
            missing[backend] = state.removeprefix("no: ")
        elif backend in NOT_TRIED or ".onnx" not in sessions.get(backend).suffixes:
            missing[backend] = NOT_TRIED.get(backend, "reads no ONNX file, which candidates are")
        else:
            engines = [engine for engine in engines_of("any.onnx", ANY) if engine.backend == backend]
            ways += [Way(weights, engine) for weights in WEIGHTS for engine in engines]
    return ways, missing


def candidates(chosen: Sequence[Net], ways: Sequence[Way]) -> list[Candidate]:
    """Return each network at each size in each way."""
    return [Candidate(net, way) for net in chosen for way in ways]
