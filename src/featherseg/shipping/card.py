"""The text of a model folder's ``README.md``: what the model is, how good, by which rules, and how to run it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from ..core import formatting
from ..runtime.artifact import Artifact
from .report.figures import ShippedFile, ShipReport

MAX_FILES = 4
"""Files that have a column of IoU by class; the report has all."""

_PICTURES = "Pictures in the reports and golden.png may be of this data; the same terms then hold for them."


def model_card(
    artifact: Artifact,
    report: ShipReport,
    main: str,
    *,
    data: str,
    terms: str,
    folders: Mapping[str, str] | None = None,
) -> str:
    """Return a Markdown page.

    Args:
        artifact: what the main file says of itself.
        report: the figures.
        main: name of the main ONNX file.
        data: what the model was trained on, a few formatting.
        terms: the data's terms of use, as its owners word them.
        folders: what each folder that goes along is, by name.
    """
    sections = [
        f"# {_plain(report.name)}\n\n{_about(artifact, report)}",
        f"## Files\n\n{_files(report)}\n{_folders(folders or {})}{_protocol(report)}",
        f"## Run it\n\n{_run(artifact, main)}",
        f"## Classes\n\n{_classes(artifact, report)}",
        f"## Data and its terms\n\n{_plain(data)}\n\n{_quote(terms)}\n\n{_PICTURES}",
        f"## Limits\n\n{_limits(report)}",
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _about(artifact: Artifact, report: ShipReport) -> str:
    given = [f"{key} {value}" for key, value in artifact.training.items() if isinstance(value, str | int | float)]
    return (
        f"A network that gives each pixel of an image one of {len(artifact.classes)} classes. It is "
        f"{_plain(artifact.network)} with {artifact.params / 1e6:.2f} M parameters and gives logits at "
        f"1/{artifact.stride} of the image's size. Written by featherseg {_plain(artifact.version)}, "
        f"{_plain(report.created)}. Training: {_plain(', '.join(given) or 'not stated')}.\n\n"
        "All figures, the way here and the worst images: [report.html](report.html); for programs: "
        "[report.json](report.json)."
    )


def _files(report: ShipReport) -> str:
    head = ("file", "target", "precision", "size", "mIoU", "boundary F1", "agreement", "p50 ms", "p99 ms", "verdict")
    rows = [
        (
            f"`{file.name}`",
            _plain(file.target),
            _plain(file.precision),
            formatting.size(file.bytes),
            formatting.percent(file.miou),
            formatting.percent(file.boundary_f1),
            formatting.share(file.agreement),
            formatting.fixed(file.latency("total", "p50"), 1),
            formatting.fixed(file.latency("total", "p99"), 1),
            _verdict(file),
        )
        for file in report.files
    ]
    base = report.baseline
    rows.append(
        (
            f"({_plain(base.name)}, the fp32 baseline)",
            *("", ""),
            formatting.size(base.bytes),
            formatting.percent(base.miou),
            formatting.percent(base.boundary_f1),
            "",
            formatting.fixed(base.latency_p50_ms, 1),
            *("", ""),
        )
    )
    return _table(head, rows)


def _folders(folders: Mapping[str, str]) -> str:
    lines = "".join(f"- `{name}/`: {_plain(says)}\n" for name, says in folders.items())
    return f"{lines}\n" if lines else ""


def _verdict(file: ShippedFile) -> str:
    if not file.passed:
        return f"failed, not in this folder: {_plain('; '.join(file.failures))}"
    return "passed, but slower than fp32: not recommended" if file.slower else "passed"


def _protocol(report: ShipReport) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in report.hardware.items())
    sessions = dict.fromkeys(f"{file.session}; {file.timing}".strip("; ") for file in report.files)
    ran = "".join(f"- {_plain(text)}\n" for text in sessions if text)
    return (
        f"Scores: {_plain(report.dataset)}, {report.images} images; {_plain(report.protocol)}. Agreement: pixels "
        "with the fp32 network's class. Latency: the whole path from frame to mask. Measured with "
        f"{_plain(machine or 'hardware that was not named')}. The files ran on:\n\n{ran}"
    )


def _run(artifact: Artifact, main: str) -> str:
    stride = artifact.stride
    return (
        "`run.py` needs onnxruntime and NumPy, and Pillow for images of your own. It is there to be read and copied; "
        "featherseg's own runtime gives the same masks faster.\n\n"
        "```\n"
        "sha256sum -c SHA256SUMS            # all files are as they were shipped\n"
        "python run.py --check              # and give the golden image its golden mask here too\n"
        f"python run.py {main} photo.jpg mask.png\n"
        "```\n\n"
        "Input `image`: uint8 (B, H, W, 3), RGB, any H and W from 64; normalisation is inside the file. Output "
        f"`logits`: float32 (B, {len(artifact.classes)}, ⌈H/{stride}⌉, ⌈W/{stride}⌉). The mask is the arg max of the "
        "logits upsampled bilinearly to the image's size (half-pixel centres). `labels.json` holds the classes."
    )


def _classes(artifact: Artifact, report: ShipReport) -> str:
    classes = artifact.classes
    shown = report.files[:MAX_FILES]
    head = ("id", "class", "colour", "fp32 IoU", *(f"`{file.name}`" for file in shown))
    rows = [
        (
            str(i),
            _plain(name),
            "`#{:02x}{:02x}{:02x}`".format(*classes.colors[i]),
            formatting.percent(report.fp32_iou.get(name, math.nan)),
            *(formatting.percent(file.iou.get(name, math.nan)) for file in shown),
        )
        for i, name in enumerate(classes.names)
    ]
    ignored = (
        f"\nIoU in percent; {formatting.DASH}: the class does not occur. {classes.ignore_index} in a mask is no class."
    )
    return _table(head, rows) + ignored


def _limits(report: ShipReport) -> str:
    rows = [
        f"Scores hold for {_plain(report.dataset)} and images like those. Other cameras, places, weather or seasons "
        "may give much worse masks: measure on labelled images of your own before you rely on them.",
        "Latencies hold for the hardware, threads, sizes and versions named above, and for nothing else.",
        "Each pixel gets one of the classes, also where none of them is, and without a word about how sure that is.",
        "Not made or tested for uses in which a wrong mask can harm somebody.",
    ]
    unseen = [name for name, iou in report.fp32_iou.items() if math.isnan(iou)]
    if unseen:
        rows.append(f"Not measured, for they do not occur in the test data: {_plain(', '.join(unseen))}.")
    return "".join(f"- {row}\n" for row in rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ("---",) * len(head), *rows))


def _plain(text: str) -> str:
    """Return a text as one line that Markdown shows as it is, whatever it holds."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", " ".join(text.split()))


def _quote(text: str) -> str:
    return "\n".join(f"> {_plain(line)}".rstrip() for line in text.strip().splitlines())
