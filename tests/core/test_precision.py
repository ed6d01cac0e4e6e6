from __future__ import annotations

import pytest

from featherseg.core.errors import ConfigError
from featherseg.core.precision import OLDER_WORDS, PRECISIONS, check_precision, parse_precision, renamed_keys


@pytest.mark.parametrize(
    ("word", "today"),
    [("f32", "fp32"), ("float32", "fp32"), ("float", "fp32"), ("f16", "fp16"), ("float16", "fp16")],
)
def test_files_may_hold_older_words_and_arguments_may_not(word: str, today: str) -> None:
    assert parse_precision(word) == today
    with pytest.raises(ConfigError, match=f'^precision is {word!r}; did you mean "{today}"\\?$'):
        check_precision(word)


@pytest.mark.parametrize("word", PRECISIONS)
def test_todays_words_stay(word: str) -> None:
    assert parse_precision(word) == check_precision(word) == word
    assert word not in OLDER_WORDS


def test_other_words_are_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match='did you mean "fp32"'):
        parse_precision("fp23")
    with pytest.raises(ConfigError, match=r"precision is 'f16'; known: fp32, bf16$"):
        check_precision("f16", ("fp32", "bf16"))


def test_older_keys_become_todays() -> None:
    assert renamed_keys({"miou_float": 0.5, "miou": 0.4}) == {"miou_fp32": 0.5, "miou": 0.4}
