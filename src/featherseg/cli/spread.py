"""What the commands do that share their work among processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ConfigError

if TYPE_CHECKING:
    from ..data.datasets import SegmentationDataset
    from ..evaluation.result import EvalResult


def need_ray(options: Mapping[str, object], words: Sequence[str] = ()) -> None:
    """Refuse, where ``--ray`` is not given, what works with it alone.

    Args:
        options: values that were given, None where they were not.
        words: paths that must be no addresses.

    Raises:
        ConfigError: something was given that needs it.
    """
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} goes with --ray; add that, or leave it out")
    if address := next((word for word in words if "://" in word), None):
        raise ConfigError(f"{address} is an address of files that are not here; add --ray to read and write those")


def segment_many(model: Path, sources: Sequence[str], out: str, *, json: bool = False, **options: Any) -> None:
    """Segment pictures with :func:`featherseg.batch.segment_dataset`, and print what became of them.

    Args:
        model: see there; so are `sources`, `out` and `options`.
        sources: of the pictures.
        out: folder or address.
        json: print JSON instead of a table.
        options: of that function.
    """
    from ..core.formatting import percent
    from ..core.progress import counting
    from ..scaling.segmenting import segment_dataset
    from .tables import print_json, print_table, print_text

    with counting("predict") as progress:
        result = segment_dataset(model, sources, out, progress=progress, **options)
    if json:
        told = {"images": result.done + result.failed, "failed": result.failed, "kept": result.kept}
        means = {"coverage": result.coverage, "confidence": result.confidence}
        print_json(told | means | {"masks": result.masks, "index": result.index})
        return
    rows = [(name, f"{percent(share)} %") for name, share in sorted(result.coverage.items(), key=lambda kv: -kv[1])]
    print_table(f"{result.done} images", ("class", "share of pixels"), rows)
    if result.confidence is not None:
        print_text(f"mean confidence {percent(result.confidence)} %")
    if result.failed:
        print_text(f"{result.failed} images could not be segmented, such as {result.first_error}")
    print_text(f"masks in {result.masks}, index in {result.index}")


def evaluate_many(model: str, dataset: SegmentationDataset, **options: Any) -> EvalResult:
    """Return what :func:`featherseg.batch.evaluate_dataset` does, whose arguments these are."""
    from ..scaling.evaluating import evaluate_dataset

    return evaluate_dataset(model, dataset, **options)
