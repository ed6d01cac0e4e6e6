"""The words for what weights are stored and layers are computed in: the same in every file, table, option and key.

featherseg 0.1.0 had several for one thing: ``f32``, ``float32`` and ``float``. Its files are still read, by
:func:`parse_precision` and :func:`renamed_keys`; arguments and options take today's words alone
(:func:`check_precision`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .errors import ConfigError, did_you_mean

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
OLDER_WORDS = {
    "f32": "fp32",
    "float32": "fp32",
    "float": "fp32",
    "f16": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
}
"""Today's word by an older one, or by what other programs call it."""
OLDER_KEYS = {
    "float_iou": "fp32_iou",
    "miou_float": "miou_fp32",
    "float_layers": "fp32_layers",
    "float_bytes": "fp32_bytes",
    "float_latency_ms": "fp32_latency_ms",
}
"""Today's key by an older one: of ``report.json``, and of what an int8 file says of its quantisation."""


def parse_precision(word: str) -> str:
    """Return today's word for a precision that a file names, maybe by an older word.

    >>> parse_precision("f32")
    'fp32'

    Raises:
        ConfigError: it names none.
    """
    return check_precision(OLDER_WORDS.get(word, word))


def check_precision(word: str, known: Iterable[str] = PRECISIONS) -> str:
    """Return `word` if it is one of `known`; of an older word for one of them, the error names today's.

    Raises:
        ConfigError: it is none of them.
    """
    known = tuple(known)
    if word not in known:
        today = OLDER_WORDS.get(word)
        if today is None:
            hint = did_you_mean(word, known)
        else:  # the word that looks most like it may be another precision's
            hint = f'did you mean "{today}"?' if today in known else f"known: {', '.join(known)}"
        raise ConfigError(f"precision is {word!r}; {hint}")
    return word


def renamed_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file of ours holds, with today's keys for older ones; of the outermost level alone."""
    return {OLDER_KEYS.get(key, key): value for key, value in data.items()}
