from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featherseg.core import errors
from featherseg.core.errors import FeathersegError, MissingExtraError, did_you_mean, first_line, require


def test_every_error_is_a_user_error_with_its_exit_code() -> None:
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, FeathersegError)]
    assert len(kinds) == 13
    assert {e.__name__: e.exit_code for e in kinds if e.exit_code != 2} == {"VerificationError": 1}


def test_did_you_mean_always_helps() -> None:
    assert did_you_mean("lerning_rate", ["learning_rate", "momentum"]) == 'did you mean "learning_rate"?'
    assert did_you_mean("zzz", {"b": 1, "a": 2}) == "known: a, b"


def test_a_missing_extra_is_one_sentence_with_the_command() -> None:
    with pytest.raises(MissingExtraError) as info:
        require("no_such_module_of_ours", "train", "Training")
    assert str(info.value).startswith('Training needs: pip install "featherseg[train]"')
    assert "\n" not in str(info.value)
    assert isinstance(info.value, ImportError)


def test_an_import_that_fails_in_many_lines_is_still_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_native.py").write_text("raise ImportError('libx.so missing\\nsecond line')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError) as info:
        require("broken_native", "video", "Reading videos")
    assert str(info.value) == 'Reading videos needs: pip install "featherseg[video]" (libx.so missing)'


def test_require_returns_the_module() -> None:
    assert require("json", "train", "Training").dumps([1]) == "[1]"


@pytest.mark.parametrize(
    ("error", "line"), [(ValueError("a\nb"), "a"), (ValueError("\n  b"), "b"), (EOFError(), "EOFError")]
)
def test_first_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_evaluation_and_data_need_no_torch() -> None:
    code = "import sys, featherseg.evaluation.scores, featherseg.data.transforms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
