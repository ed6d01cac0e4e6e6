"""What a pick found out, put together from its study's folder: the same whoever asks, finished or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.files import write_atomically
from ..core.machine import machine_facts
from .candidates import Candidate
from .choice import Choice
from .finals import Judged
from .plan import Plan
from .screening import Screened, Screening
from .study import Study

FORMAT = "featherseg pick report"
FORMAT_VERSION = 1
STATES = {
    "complete": "finished",
    "interrupted": "interrupted: this is what was known then",
    "nothing": "nothing is in time",
}


@dataclass
class Known:
    """All that is known by now; what is not is left out.

    Args:
        study: whose folder holds it.
        frame: (height, width) of the pictures.
        images: numbers of training and validation images.
        classes: names.
        missing: why engines are not here, by name.
        device: what times are of, for people.
        facts: of the machine or device.
    """

    study: Study
    frame: tuple[int, int] = (0, 0)
    images: tuple[int, int] = (0, 0)
    classes: tuple[str, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    device: str = "this machine"
    facts: dict[str, Any] = field(default_factory=machine_facts)
    screening: Screening | None = None
    plan: Plan | None = None
    starts: dict[str, str] = field(default_factory=dict)
    judged: list[Judged] = field(default_factory=list)
    choice: Choice | None = None
    notes: list[str] = field(default_factory=list)
    state: str = "interrupted"


def build_report(known: Known) -> dict[str, Any]:
    """Return the report as JSON types."""
    study = known.study
    judged = [_judged(each) for each in known.judged]
    choice = known.choice
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": known.state,
        "question": study.question.to_dict(),
        "limit": study.question.limit,
        "seconds": round(study.clock.spent(), 1),
        "data": {
            "root": study.question.data,
            "images": known.images[0],
            "val_images": known.images[1],
            "classes": list(known.classes),
            "size": list(known.frame),
        },
        "device": known.device,
        "machine": known.facts,
        "no_engine": known.missing,
        "candidates": [_screened(each, known) for each in known.screening.results] if known.screening else [],
        "trained": _trained(known),
        "left_out": dict(known.plan.left_out) if known.plan else {},
        "judged": judged,
        "choice": {
            "pick": choice.pick.candidate.key if choice and choice.pick else None,
            "name": str(choice.pick.candidate) if choice and choice.pick else None,
            "runner_up": choice.runner_up.candidate.key if choice and choice.runner_up else None,
            "ties": [each.candidate.key for each in choice.ties] if choice else [],
            "reasons": list(choice.reasons) if choice else [],
        },
        "notes": [*known.notes, *(known.screening.notes if known.screening else ())],
    }


def write_report(report: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.json`` into a folder."""
    text = json.dumps(dict(report), indent=1, allow_nan=False)
    return write_atomically(folder / "report.json", lambda file: file.write(text.encode()))


def _named(candidate: Candidate, frame: tuple[int, int]) -> dict[str, Any]:
    return {
        "key": candidate.key,
        "name": str(candidate),
        "net": candidate.net.slug,
        "net_name": str(candidate.net),
        "network": candidate.net.variant.network,
        "options": dict(candidate.net.variant.options),
        "scale": candidate.net.scale,
        "size": list(candidate.net.size(frame)) if min(frame) else None,
        "way": str(candidate.way),
        "weights": candidate.way.weights,
        "precision": candidate.way.precision,
        "engine": str(candidate.way.engine),
    }


def _screened(result: Screened, known: Known) -> dict[str, Any]:
    limit = known.study.question.limit_ms
    if result.timing is None:
        verdict = "predicted" if result.predicted_ms is not None else "not timed"
    else:
        verdict = "in time" if result.fits(limit) else "on the edge" if result.near(limit) else "too slow"
    row = _named(result.candidate, known.frame) | result.to_dict() | {"verdict": verdict}
    del row["candidate"]
    return row


def _judged(judged: Judged) -> dict[str, Any]:
    return judged.to_dict() | {
        "name": str(judged.candidate),
        "net": judged.candidate.net.slug,
        "way": str(judged.candidate.way),
        "precision": judged.candidate.way.precision,
    }


def _trained(known: Known) -> list[dict[str, Any]]:
    """Return the networks that were trained, the best first."""
    rows = []
    dropped = known.study.dropped()
    for slug, trial in known.study.trials().items():
        rungs = [trial.user_attrs["rungs"][key] | {"rung": int(key)} for key in sorted(trial.user_attrs["rungs"])]
        rows.append(
            {
                "net": slug,
                "name": trial.user_attrs["name"],
                "start": known.starts.get(slug, ""),
                "rungs": rungs,
                "dropped": dropped.get(slug),
            }
        )
    return sorted(rows, key=lambda row: (-len(row["rungs"]), -_last_miou(row["rungs"])))


def _last_miou(rungs: Sequence[Mapping[str, Any]]) -> float:
    return next((rung["miou"] for rung in reversed(rungs) if rung.get("miou") is not None), -1.0)
