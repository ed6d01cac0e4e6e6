"""Files from strangers: nothing in them is executed, and nothing they claim is believed with memory or time."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import featherseg
from conftest import Ended, Trained
from featherseg.core.errors import ArtifactError, CheckpointError, FeathersegError
from featherseg.core.images import read_image
from featherseg.core.types import ClassSet
from featherseg.evaluation.opening import open_segmenter
from featherseg.facades import RealtimeSegmentation
from featherseg.models.archive import check_archive
from featherseg.models.checkpoint import HEADER, Checkpoint, load_checkpoint, load_state, save_checkpoint
from featherseg.models.factory import create_model
from featherseg.runtime.artifact import read_artifact
from featherseg.runtime.sessions.base import open_session
from featherseg.training.teacher import load_teacher

SOURCES = sorted(Path(featherseg.__file__).parent.rglob("*.py"))
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
"""Of builtins, that is by these bare names: ``model.eval()`` and ``torch.compile`` are something else."""


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keyword(call: ast.Call, name: str) -> Any:
    return next((each.value.value for each in call.keywords if each.arg == name and _constant(each.value)), None)  # type: ignore[attr-defined]


def _constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant)


def unsafe(source: str) -> list[str]:
    """Return what in a module's text can execute what is in a file."""
    tree = ast.parse(source)
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        origin = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in (*names, *origin) if name.split(".")[0] in UNSAFE_MODULES]
    for name, call in calls(tree):
        last = name.rpartition(".")[2]
        risky = (
            name in UNSAFE_CALLS
            or (name == "torch.load" and keyword(call, "weights_only") is not True)
            or (last == "get_state_dict" and keyword(call, "weights_only") is not True)
            or name in ("torch.hub.load", "os.system", "os.popen")
            or last in ("load_state_dict_from_url", "add_safe_globals")
            or keyword(call, "allow_pickle") is True
            or keyword(call, "trust_remote_code") is True
            or keyword(call, "shell") is True
        )
        found += [name] if risky else []
    return found


def test_the_library_has_nothing_that_executes_files() -> None:
    assert len(SOURCES) > 80
    found = {path.name: unsafe(path.read_text(encoding="utf-8")) for path in SOURCES}
    # Ray's workers are this call's own processes, and what they are sent never comes from a file.
    assert {name: what for name, what in found.items() if what} == {"cluster.py": ["pickle"]}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "import os; os.system('ls')",
        "eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "torch.serialization.add_safe_globals([set])",
    ],
)
def test_the_search_finds_what_does(source: str) -> None:
    assert unsafe(source)
    assert not unsafe("import json; model.eval(); torch.load(path, weights_only=True); torch.compile(f)")


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def evil_pickle(marker: Path, protocol: int) -> bytes:
    return pickle.dumps({HEADER: "{}", "weights": Evil(marker)}, protocol=protocol)


def evil_archive(marker: Path, protocol: int, root: str = "archive") -> bytes:
    """A zip as torch writes it, and with the names that programs of torch.export have."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("data.pkl", "weights/model.pt", "data/weights/model.pt", "extra/featherseg", "models/model.json"):
            archive.writestr(f"{root}/{name}", evil_pickle(marker, protocol))
        archive.writestr(f"{root}/version", "3")
        archive.writestr(f"{root}/byteorder", "little")
        archive.writestr(f"{root}/archive_format", "pt2")
    return stream.getvalue()


def test_the_trap_would_spring(tmp_path: Path) -> None:
    pickle.loads(evil_pickle(tmp_path / "marker", 2))
    assert (tmp_path / "marker").is_dir()


READERS: dict[str, Callable[[Path], object]] = {
    "load_checkpoint": load_checkpoint,
    "load_state": load_state,
    "load_teacher": load_teacher,
    "open_segmenter": open_segmenter,
    "open_session": open_session,
    "read_artifact": read_artifact,
    "facade": lambda path: RealtimeSegmentation(model_path=str(path)),
    "encoder_weights": lambda path: create_model("fastsegnet", 3, encoder_weights=str(path)),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.pt2", "w.safetensors", "w.onnx", "run"])
def test_a_malicious_pickle_is_refused_everywhere(tmp_path: Path, name: str, protocol: int) -> None:
    for content in (evil_pickle(tmp_path / "marker", protocol), evil_archive(tmp_path / "marker", protocol)):
        path = tmp_path / name
        if name == "run":
            path.mkdir(exist_ok=True)
            (path / "config.toml").write_text("")
            for file in ("best.safetensors", "last.safetensors", "state.safetensors"):
                (path / file).write_bytes(content)
        else:
            path.write_bytes(content)
        for reader in READERS.values():
            with pytest.raises(FeathersegError) as caught:
                reader(path)
            assert "\n" not in str(caught.value)
        assert not (tmp_path / "marker").exists()


def test_a_malicious_pickle_on_the_command_line(run: Callable[..., Ended], tmp_path: Path) -> None:
    for name in ("w.pth", "w.pt2"):
        (tmp_path / name).write_bytes(evil_archive(tmp_path / "marker", 2))
        assert run("predict", tmp_path / name, tmp_path).refused()
        assert run("eval", tmp_path / name).refused()
    words = ("train", "data.name=synthetic", "data.cache=false", f"out={tmp_path / 'runs'}", "data.workers=0")
    for setting in ("distill.teacher", "model.init"):
        assert run(
            *words, f"{setting}={tmp_path / 'w.pth'}", "data.options={count=4, val_count=2}", "--quiet"
        ).refused()
    assert not (tmp_path / "marker").exists()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole ``.pth``, to be bent."""
    torch.manual_seed(0)
    checkpoint = Checkpoint(create_model("jetnet", 3), ClassSet(("a", "b", "c")), {})
    return save_checkpoint(tmp_path_factory.mktemp("good") / "good.pth", checkpoint)


def bent(good: Path, path: Path, pickled: Callable[[bytes], bytes], packing: int = zipfile.ZIP_STORED) -> Path:
    """Rewrite a ``.pth`` with another pickle, or another packing."""
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w", packing) as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, pickled(data) if entry.filename.endswith("/data.pkl") else data)
    return path


def test_a_whole_archive_passes(good: Path) -> None:
    check_archive(good)
    load_checkpoint(good)


class Hoard:
    """What torch's loader allows, and what takes 64 GB."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (64 << 30,)


def test_an_archive_that_asks_for_memory_is_refused(good: Path, tmp_path: Path) -> None:
    hoard = pickle.dumps({HEADER: "{}", "weights": {"a": Hoard()}}, protocol=2)
    with pytest.raises(CheckpointError, match=r"'(builtins|__builtin__) bytearray'"):
        load_checkpoint(bent(good, tmp_path / "hoard.pth", lambda _: hoard))
    with pytest.raises(CheckpointError, match="compressed"):
        load_checkpoint(bent(good, tmp_path / "packed.pth", lambda data: data, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(bent(good, tmp_path / "twice.pth", lambda data: data), "a") as archive:
        name = archive.namelist()[0]
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(name, b"")
    with pytest.raises(CheckpointError, match="two parts of one name"):
        load_checkpoint(tmp_path / "twice.pth")


def test_a_view_that_claims_more_than_there_is(good: Path, tmp_path: Path) -> None:
    """A terabyte in a few bytes: all its values are one."""
    header = torch.load(good, weights_only=True)[HEADER]
    weights = {"stem.0.0.weight": torch.zeros(1).expand(1 << 38)}
    torch.save({HEADER: header, "weights": weights}, tmp_path / "view.pth")
    with pytest.raises(CheckpointError, match="no named tensors"):
        load_checkpoint(tmp_path / "view.pth")


def test_a_description_fetches_nothing(good: Path, tmp_path: Path) -> None:
    loaded = torch.load(good, weights_only=True)
    for option in ("encoder_weights", "pretrained"):
        header = json.loads(loaded[HEADER]) | {"network": "fastsegnet", "options": {option: "imagenet"}}
        torch.save({HEADER: json.dumps(header), "weights": loaded["weights"]}, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="would fetch other weights"):
            load_checkpoint(tmp_path / "a.pth")


BOMBS = """
import json, resource, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from featherseg.models.checkpoint import load_checkpoint
from featherseg.core.errors import FeathersegError
from featherseg.core.images import read_ids, read_image
from featherseg.models.factory import list_models
from featherseg.runtime.artifact import read_artifact
from featherseg.data.class_files import read_classes
from featherseg.core.recipes import load_config
readers = {".pth": load_checkpoint, ".safetensors": load_checkpoint, ".png": read_image, ".toml": load_config,
           ".json": read_classes, ".tif": read_ids}
list_models()
limit = resource.getrlimit(resource.RLIMIT_AS)[1]
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), limit))
for path in map(Path, sys.argv[1:]):
    start = time.monotonic()
    try:
        readers.get(path.suffix, read_artifact)(path)
        said = "took it"
    except FeathersegError as error:
        said = str(error)
    print(json.dumps([path.name, said, time.monotonic() - start]), flush=True)
"""
"""Reads files, with half a gigabyte over what importing takes; more is a MemoryError, and a traceback."""


def laughs() -> bytes:
    """A kilobyte of XML that stands for three gigabytes."""
    entities = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(9))
    return f'<?xml version="1.0"?><!DOCTYPE n [<!ENTITY e0 "lol">{entities}]><net><a>&e9;</a></net>'.encode()


def packed(method: int, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("m/extra/featherseg", content)
    return stream.getvalue()


def weights_of(table: dict[str, Any]) -> bytes:
    head = json.dumps(table).encode()
    return len(head).to_bytes(8, "little") + head


def described(network: str, options: dict[str, Any], tensor: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "network": network,
        "num_classes": 3,
        "options": options,
        "classes": {"names": ["a", "b", "c"]},
        "input_spec": {"mean": [0, 0, 0], "std": [1, 1, 1]},
        "training": {},
    }
    return {"__metadata__": {HEADER: json.dumps(facts)}, "w": tensor}


@pytest.mark.slow
def test_bombs_are_refused_without_their_memory(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("limits a process's memory as Linux does")
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    huge = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    zeros = bytes(100 << 20)
    files = {
        "claims.safetensors": weights_of(described("jetnet", {}, huge)),
        "head.safetensors": (1 << 40).to_bytes(8, "little") + b"{}",
        "wide.safetensors": weights_of(described("fastsegnet", {"width": 5000.0}, one)) + bytes(4),
        "endless.safetensors": weights_of(described("fastsegnet", {"width": 1e300}, one)) + bytes(4),
        "channels.safetensors": weights_of(described("lednet", {"in_channels": 10**12}, one)) + bytes(4),
        "encoder.safetensors": weights_of(described("resnet_unet", {"encoder": "convnext_xxlarge"}, one)) + bytes(4),
        "deep.safetensors": weights_of({"__metadata__": {HEADER: "[" * 200_000}, "w": one}) + bytes(4),
        "laughs.xml": laughs(),
        "tag.xml": b"<net " + b"".join(b'a%d="" ' % i for i in range(100_000)) + b"/>",
        "nested.xml": b"<net>" * 100_000,
        "deflated.pt2": packed(zipfile.ZIP_DEFLATED, zeros),
        "bz2.pt2": packed(zipfile.ZIP_BZIP2, zeros),
        "lzma.pt2": packed(zipfile.ZIP_LZMA, zeros[: 8 << 20]),
        "long.onnx": b"\x72" + b"\xff" * 8 + b"\x7f" + b"x" * 100,
        "fields.onnx": b"\x08\x01" * 3_000_000,
        "deep.json": b"[" * 5_000_000,
        "names.json": json.dumps({"names": [str(i) for i in range(30_000)] + ["0"]}).encode(),
        "deep.toml": b"a = " + b"[" * 5_000_000,
        "dotted.toml": b".".join([b"a"] * 60_000) + b" = 1",
        "wide.png": _png(50_000, 50_000),
        "claim.tif": b"II*\0\x08\0\0\0\x01\0\0\x01\x04\0\xff\xff\xff\x7f\0\0\0\0",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    sparse = {
        "sparse.safetensors": files["claims.safetensors"],
        "large.toml": b"#",
        "large.json": b"[",
        "large.xml": b"<",
    }
    for name, content in sparse.items():  # 4 TB each, on no disk
        with (tmp_path / name).open("wb") as stream:
            stream.write(content)
            stream.truncate(len(content) + (1 << 42))
    files |= sparse
    command = [sys.executable, "-W", "ignore", "-c", BOMBS, *(str(tmp_path / name) for name in files)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert ended.returncode == 0, ended.stdout[-500:] + ended.stderr[-3000:]
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(rows) == len(files)
    for name, said, seconds in rows:
        assert said != "took it", name
        assert len(said.splitlines()) == 1, name
        assert "MemoryError" not in said, name
        assert seconds < 30, f"{name} took {seconds:.1f} s"


def _png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")


def test_pictures_in_formats_that_start_programs_are_refused(tmp_path: Path) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(touched) (w) file closefile\n"
    for name in ("a.png", "a.eps"):
        (tmp_path / name).write_bytes(script)
        with pytest.raises(FeathersegError, match="cannot be read as an image"):
            read_image(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.eps", "a.png"]


def test_a_run_folder_of_a_stranger_names_no_other_files(trained: Trained, tmp_path: Path) -> None:
    """What a folder says of itself is data: names with paths in them lead nowhere."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in ("config.toml", "classes.json", "env.json", "log.jsonl", "best.safetensors"):
        (folder / file).write_bytes((trained.run / file).read_bytes())
    text = (folder / "config.toml").read_text().replace('name = "tiny"', 'name = "../../outside"', 1)
    (folder / "config.toml").write_text(text)
    load_checkpoint(folder)
    assert not (tmp_path.parent / "outside").exists()


def test_metadata_with_half_a_character_or_a_zero_byte(tmp_path: Path) -> None:
    for text in ('{"network": "\\ud83d"}', '{"network": "a\\u0000b"}'):
        (tmp_path / "a.engine").write_bytes(b"")
        companion = f'{{"featherseg": {text}, "sha256": "", "built_with": ""}}'
        (tmp_path / "a.engine.json").write_text(companion)
        with pytest.raises(ArtifactError, match=r"half a character|zero byte"):
            read_artifact(tmp_path / "a.engine")
