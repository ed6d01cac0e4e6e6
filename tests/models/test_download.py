"""Fetching from a server that breaks off, redirects, lies, or has another file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from featherseg.core.errors import DownloadError
from featherseg.core.lock import folder_lock
from featherseg.models.download import download
from file_server import Served, serving

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def fetch(served: Served, path: Path) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    download(served.url, path, size=len(CONTENT), sha256=DIGEST, progress=lambda *counts: seen.append(counts))
    return seen


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_once(tmp_path: Path) -> None:
    with serving(Served(CONTENT, redirect=True)) as served:
        seen = fetch(served, tmp_path / "weights" / "a.pth")
        assert (tmp_path / "weights" / "a.pth").read_bytes() == CONTENT
        assert names(tmp_path / "weights") == ["a.pth"]
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert fetch(served, tmp_path / "weights" / "a.pth") == []
        assert len(served.asked) == 2  # the redirect, and the file


@pytest.mark.parametrize("ranges", [True, False])
def test_what_broke_off_is_gone_on_with_or_begun_anew(tmp_path: Path, ranges: bool) -> None:
    with serving(Served(CONTENT, cut=100_000, ranges=ranges)) as served:
        with pytest.raises(DownloadError, match="cannot be fetched"):
            fetch(served, tmp_path / "a.pth")
        assert names(tmp_path) == ["a.pth.part"]
        seen = fetch(served, tmp_path / "a.pth")
        assert served.asked[-1] == f"bytes={100_000}-"
        assert (seen[0][0] > 100_000) is ranges
    assert (tmp_path / "a.pth").read_bytes() == CONTENT
    assert names(tmp_path) == ["a.pth"]


def test_another_file_is_not_kept(tmp_path: Path) -> None:
    with (
        serving(Served(CONTENT[::-1])) as served,
        pytest.raises(DownloadError, match=r"another file than the pinned one .* nothing was kept"),
    ):
        fetch(served, tmp_path / "a.pth")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (Served(CONTENT + b"more"), "more than the 512000 bytes"),
        (Served(CONTENT[:1000], length=1000), "broke off after 1000 of 512000 bytes"),
        (Served(CONTENT, length=len(CONTENT) + 9, cut=len(CONTENT) - 5), "cannot be fetched"),
        (Served(CONTENT, status=404), "HTTP status 404"),
        (Served(CONTENT, status=503), "HTTP status 503"),
    ],
)
def test_what_cannot_be_had_is_one_line(tmp_path: Path, served: Served, words: str) -> None:
    with serving(served), pytest.raises(DownloadError, match=words) as caught:
        fetch(served, tmp_path / "a.pth")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "a.pth") in str(caught.value)  # where to put it by hand
    assert not (tmp_path / "a.pth").exists()


def test_offline_one_line_names_address_and_place(tmp_path: Path) -> None:
    with serving(Served(CONTENT)) as served:
        pass
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        fetch(served, tmp_path / "a.pth")
    assert served.url in str(caught.value)
    assert "FEATHERSEG_WEIGHTS" in str(caught.value)


def test_only_https(tmp_path: Path) -> None:
    for url in ("http://example.org/a.pth", "file:///etc/passwd"):
        with pytest.raises(DownloadError, match="no https address"):
            download(url, tmp_path / "a.pth", size=1, sha256=DIGEST)


def test_two_at_once(tmp_path: Path) -> None:
    with (
        serving(Served(CONTENT)) as served,
        folder_lock(tmp_path / "weights"),
        pytest.raises(DownloadError, match="another process fetches files"),
    ):
        fetch(served, tmp_path / "weights" / "a.pth")
