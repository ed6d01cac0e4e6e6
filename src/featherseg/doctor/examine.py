"""Examining a dataset: every pair is looked at once, in parallel, and what is wrong is told, not raised."""

from __future__ import annotations

import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import ConfigError, DataError
from ..core.machine import available_threads
from ..core.order import spread
from ..core.progress import OnProgress, no_progress
from ..data.detail import KeptDetail
from .classes import understand
from .fineness import judge_detail
from .judge import judge_images, judge_labels, judge_twins
from .layout import Layout
from .listing import list_pairs
from .meaning import Meaning, parse_classes
from .pairing import Pair, printable
from .probe import Facts, Size, probe
from .rules import SEVERITIES, Finding

A = TypeVar("A")
B = TypeVar("B")

STRIDE = 8
"""Of fastsegnet, jetnet and lednet."""
WINDOW = 4
"""Pairs that are begun for each thread: enough that none waits, few enough that memory does not grow with the set."""


@dataclass(frozen=True, eq=False)
class Examination:
    """What the doctor found.

    Args:
        layout: kind, root and pairs.
        meaning: how the masks are to be read; None where that cannot be known.
        findings: the most severe first.
        pixels: of each class, by split.
        sizes: images by height and width.
        facts: of the pairs that were looked at.
        spare: places in `facts` of copies that are better left out.
        seconds: it took.
        sampled: not all pairs were looked at.
        detail: what the classes keep at strides; None where that was not measured.
    """

    layout: Layout
    meaning: Meaning | None
    findings: tuple[Finding, ...]
    pixels: dict[str, tuple[int, ...]]
    sizes: dict[Size, int]
    facts: tuple[Facts, ...]
    spare: frozenset[int]
    seconds: float
    sampled: bool = False
    detail: KeptDetail | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing but notes was found."""
        return all(finding.severity == "note" for finding in self.findings)

    def count(self, severity: str) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def summary(self) -> str:
        """Return one line: what was examined, and how many findings of each severity there are."""
        splits = Counter(pair.split for pair in self.layout.pairs)
        parts = ", ".join(f"{count} {printable(split)}" for split, count in splits.items()) or "no pairs"
        found = ", ".join(_plural(self.count(severity), severity) for severity in SEVERITIES)
        looked = f"; {len(self.facts)} of them looked at" if self.sampled else ""
        return f"{printable(str(self.layout.root))}: {self.layout.kind}, {parts}{looked}; {found}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report, of JSON types only."""
        names = self.meaning.classes.names if self.meaning else ()
        return {
            "root": printable(str(self.layout.root)),
            "kind": self.layout.kind,
            "notes": list(self.layout.notes),
            "splits": dict(Counter(printable(pair.split) for pair in self.layout.pairs)),
            "classes": list(names),
            "pixels": {split: dict(zip(names, counts, strict=True)) for split, counts in self.pixels.items()},
            "sizes": {f"{height}x{width}": count for (height, width), count in self.sizes.items()},
            "sampled": self.sampled,
            "looked_at": len(self.facts),
            "seconds": round(self.seconds, 3),
            "detail": self.detail.to_dict() if self.detail else None,
            "clean": self.clean,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def examine(
    root: str | Path,
    kind: str | None = None,
    classes: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    stride: int = STRIDE,
    progress: OnProgress = no_progress,
) -> Examination:
    """Look at every file of a dataset and say what is wrong with it.

    Memory holds a few pictures at a time, and about 3 kB for each pair.

    Args:
        root: folder of the data; a leading ``~`` is expanded.
        kind: as in the registry of datasets, but for ``synthetic``; inferred from the layout where None.
        classes: class file (.toml, .json), or names with commas between them, in place of what the folder says.
        options: of the loader's, such as which files are ``masks``.
        stride: of the network that classes are to suit.
        progress: called with the numbers of pairs done and of all.

    Raises:
        ConfigError: an argument is out of range.
        UndecidedError: the folder has several sets of masks.
        DataError: the folder cannot be read, or its kind not be inferred.
    """
    if stride < 1:
        raise ConfigError(f"stride is {stride}; give 1 or more")
    layout = _listed(root, kind, classes, options)
    start = time.perf_counter()
    return _examined(layout, layout.pairs, start, progress, stride=stride)


def quick_check(
    root: str | Path,
    kind: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    sample: int = 48,
    seconds: float = 1.5,
) -> Examination:
    """Look at a sample of a dataset, for a word before a training.

    All names are matched; of the pairs, those spread evenly are looked at until the time is up. Classes that do not
    occur in the sample, classes that are thin and pictures that look alike are not judged.

    Args:
        root: folder of the data.
        kind: of dataset; inferred where None.
        options: of the loader's, such as which files are ``masks``.
        sample: pairs to look at, at most.
        seconds: after which no further pair is begun.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the folder cannot be read, or its kind not be inferred.
    """
    if sample < 1:
        raise ConfigError(f"sample is {sample}; look at 1 pair at least")
    start = time.perf_counter()
    layout = _listed(root, kind, None, options)
    pairs = [layout.pairs[place] for place in spread(len(layout.pairs), sample)]
    return _examined(layout, pairs, start, no_progress, seconds=seconds)


def _listed(
    root: str | Path, kind: str | None, classes: str | None, options: Mapping[str, Any] | None = None
) -> Layout:
    given = parse_classes(classes) if classes else None
    try:
        return list_pairs(Path(root).expanduser(), kind, given, options)
    except OSError as error:
        where = printable(str(error.filename or root))
        raise DataError(f"{where} cannot be read ({error.strerror}); check the path and its rights") from error


def _examined(
    layout: Layout,
    pairs: Sequence[Pair],
    start: float,
    progress: OnProgress,
    *,
    stride: int | None = None,
    seconds: float = float("inf"),
) -> Examination:
    """Judge what was looked at; a sample without a stride, for which much is not judged."""
    whole = stride is not None
    facts = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged metadata: what matters becomes a finding
        for f in in_parallel(probe, pairs, lambda: time.perf_counter() - start > seconds):
            facts.append(f)
            progress(len(facts), len(pairs))
    findings, root = replace(layout.findings), layout.root
    judge_images(facts, root, findings)
    meaning = understand(facts, layout.given, root, findings)
    pixels = judge_labels(facts, meaning, root, findings, whole=whole) if meaning else {}
    detail = judge_detail(facts, meaning, stride, findings) if meaning and stride is not None else None
    spare = judge_twins(facts, root, findings) if whole else set[int]()
    sizes = Counter(f.image.size for f in facts if f.image.trouble is None)
    return Examination(
        layout,
        meaning,
        findings.listed(),
        {split: tuple(int(c) for c in counts) for split, counts in pixels.items()},
        dict(sizes.most_common()),
        tuple(facts),
        frozenset(spare),
        time.perf_counter() - start,
        sampled=len(facts) < len(layout.pairs),
        detail=detail,
    )


def in_parallel(work: Callable[[A], B], items: Iterable[A], stop: Callable[[], bool] = lambda: False) -> Iterator[B]:
    """Yield the results of `work` in the items' order; threads suffice, since decoders let others run.

    Args:
        work: what is done with each.
        items: the arguments.
        stop: asked before each item is begun.
    """
    threads = available_threads()
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="doctor") as pool:
        try:
            for item in items:
                if stop():
                    break
                waiting.append(pool.submit(work, item))
                if len(waiting) >= WINDOW * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
