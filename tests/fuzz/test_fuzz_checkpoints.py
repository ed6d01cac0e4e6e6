"""Weights files, training states and run folders of any content: what they hold, or one line; nothing is executed."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzzing import Edit, answer, edits, fuzzed, json_values, listing, mutated, tampered, tree_changes
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes

from featherseg.core.errors import CheckpointError, FeathersegError
from featherseg.core.recipes import config_from_dict
from featherseg.core.types import ClassSet
from featherseg.models.checkpoint import (
    HEADER,
    Checkpoint,
    load_checkpoint,
    load_state,
    save_checkpoint,
    save_state,
)
from featherseg.models.factory import create_model
from featherseg.training.results import read_run, results_markdown
from featherseg.training.run_folder import RunFolder
from featherseg.training.run_log import read_log
from featherseg.training.teacher import Teacher
from featherseg.training.teacher_cache import CachedTeacher

CLASSES = ClassSet(("sky", "road", "car"))
STATE = {"epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(4.0)}}, "groups": [{"lr": 0.1}]}, "best": None}


class Parts:
    """A small network's files, whole, and their description."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        model = create_model("fastsegnet", 3, width=0.5)
        checkpoint = Checkpoint(model, CLASSES, {"epoch": 3, "dataset": "folder"})
        self.folder = folder
        self.files = {
            suffix: save_checkpoint(folder / f"whole{suffix}", checkpoint).read_bytes()
            for suffix in (".safetensors", ".pth")
        }
        self.state = save_state(folder / "whole.state.safetensors", STATE).read_bytes()
        self.weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        size = int.from_bytes(self.files[".safetensors"][:8], "little")
        self.header: dict[str, Any] = json.loads(
            json.loads(self.files[".safetensors"][8 : 8 + size])["__metadata__"][HEADER]
        )

    def load(self, suffix: str, content: bytes) -> Any:
        """Return what all that takes such a file makes of it: a checkpoint or a refusal."""
        path = self.folder / f"a{suffix}"
        path.write_bytes(content)
        found = answer(load_checkpoint, path)
        assert isinstance(found, Checkpoint | CheckpointError)
        assert path.read_bytes() == content
        if isinstance(found, Checkpoint):
            assert all(tensor.device.type == "cpu" for tensor in found.model.state_dict().values())
            assert len(found.classes) == found.model.num_classes
            assert all(map(math.isfinite, found.model.input_spec.mean))
        return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("weights"))


def test_whole_ones_are_read(parts: Parts) -> None:
    for suffix, content in parts.files.items():
        assert isinstance(parts.load(suffix, content), Checkpoint)


@fuzzed(60)
@given(suffix=st.sampled_from([".safetensors", ".pth"]), changes=edits(3), whole=st.booleans())
def test_damaged_files(parts: Parts, suffix: str, changes: list[Edit], whole: bool) -> None:
    """Anywhere, or in the first hundredth and the last, where the structure stands."""
    content = parts.files[suffix]
    if whole:
        parts.load(suffix, mutated(content, changes))
        return
    cut = len(content) // 100
    parts.load(suffix, mutated(content[:cut], changes) + content[cut:-cut] + mutated(content[-cut:], changes))


@fuzzed(60)
@given(changes=tree_changes())
def test_descriptions_of_any_content(parts: Parts, changes: list[tuple[float, Any]]) -> None:
    try:
        text = json.dumps(tampered(parts.header, changes))
    except ValueError:
        return
    parts.load(".safetensors", safetensors_bytes(parts.weights, {HEADER: text}))


@fuzzed(60)
@given(changes=tree_changes())
def test_tensor_tables_of_any_content(parts: Parts, changes: list[tuple[float, Any]]) -> None:
    content = parts.files[".safetensors"]
    size = int.from_bytes(content[:8], "little")
    table = dict(list(json.loads(content[8 : 8 + size]).items())[:8])  # a few, so that the changes meet them
    try:
        head = json.dumps(tampered(table, changes)).encode(errors="surrogatepass")
    except ValueError:
        return
    parts.load(".safetensors", len(head).to_bytes(8, "little") + head + content[8 + size :])


def repacked(content: bytes, change: Callable[[str, bytes], bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", packing) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))
    return stream.getvalue()


@fuzzed(80)
@given(changes=edits(4))
def test_damaged_pickles(parts: Parts, changes: list[Edit]) -> None:
    """The archive is whole, what it says is not."""
    parts.load(
        ".pth",
        repacked(parts.files[".pth"], lambda name, data: mutated(data, changes) if name.endswith(".pkl") else data),
    )


@fuzzed(60)
@given(value=json_values(10), tensors=st.booleans())
def test_pickles_of_any_values(parts: Parts, value: Any, tensors: bool) -> None:
    """What is pickled is harmless, but not what a checkpoint holds."""
    tree = {HEADER: json.dumps(parts.header), "weights": value} if tensors else value
    stream = io.BytesIO()
    try:
        torch.save(tree, stream)
    except (UnicodeEncodeError, pickle.PicklingError):
        return
    parts.load(".pth", stream.getvalue())


@fuzzed(100)
@given(changes=edits(4), description=st.none() | json_values(12))
def test_states_of_any_content(parts: Parts, changes: list[Edit], description: Any) -> None:
    path = parts.folder / "state.safetensors"
    if description is None:
        path.write_bytes(mutated(parts.state, changes))
    else:
        try:
            text = json.dumps({"dict": [["a", description], ["b", {"list": [description]}]]})
        except ValueError:
            return
        path.write_bytes(safetensors_bytes({"0": torch.zeros(2)}, {HEADER: text}))
    found = answer(load_state, path)
    assert not isinstance(found, FeathersegError) or isinstance(found, CheckpointError)


class Question(torch.nn.Module):
    """A teacher of one value."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, :, ::8, ::8]


@fuzzed(60)
@given(changes=edits(3))
def test_damaged_answers_of_a_teacher_are_asked_for_again(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Edit]
) -> None:
    folder = tmp_path_factory.mktemp("answers")
    teacher = CachedTeacher(Teacher(Question(), CLASSES), folder)
    image = torch.rand(1, 3, 64, 64)
    first = teacher(image)["out"]
    [file] = [path for path in folder.rglob("*") if path.is_file()]
    whole = file.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    # Values are not checked, and a damaged name or shape must not pass for an answer.
    file.write_bytes(mutated(whole[: 8 + size], changes) + whole[8 + size :])
    again = answer(teacher, image)
    assert set(again) == {"out"}
    assert again["out"].shape == first.shape
    shutil.rmtree(folder)


RUN = {
    "config.toml": 'name = "a"\n[data]\nname = "camvid"\n',
    "env.json": json.dumps({"versions": {"torch": "2"}, "gpu": None, "cpu": "x", "threads": 2}),
    "log.jsonl": "".join(
        json.dumps({"epoch": e, "loss": 1.0, "lr": 0.1, "seconds": 2.0, "images_per_second": 9.0, "miou": e / 9}) + "\n"
        for e in (1, 2, 3)
    ),
    "result.json": json.dumps(
        {
            "protocol": {"dataset": "camvid", "split": "val", "images": 3, "resolution": "original"},
            "miou": 0.5,
            "boundary_f1": 0.4,
            "iou": [0.5, None, 0.5],
            "boundary_f1_per_class": [0.4, None, 0.4],
            "classes": {"names": ["a", "b", "c"]},
            "params": 1000,
            "gmacs": 1.5,
            "best_epoch": 3,
            "epochs": 3,
        }
    ),
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def read_everything(folder: Path, files: dict[str, bytes]) -> list[Any]:
    """Return what all readers of a run folder make of these files."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    before = listing(folder)
    found = [
        answer(read_run, folder),
        answer(results_markdown, [folder]),
        answer(read_log, folder),
        answer(lambda: RunFolder(folder).config),
    ]
    assert listing(folder) == before
    return found


def test_a_whole_run_folder_is_read(run_folder: Path) -> None:
    found = read_everything(run_folder, {name: text.encode() for name, text in RUN.items()})
    assert not any(isinstance(each, FeathersegError) for each in found)
    assert "50.0" in found[1]
    del found


@fuzzed(200)
@given(name=st.sampled_from(sorted(RUN)), changes=edits(4))
def test_damaged_files_of_a_run(run_folder: Path, name: str, changes: list[Edit]) -> None:
    files = {each: text.encode() for each, text in RUN.items()}
    files[name] = mutated(files[name], changes)
    read_everything(run_folder, files)


@fuzzed(250)
@given(
    name=st.sampled_from(["env.json", "result.json", "log.jsonl"]),
    changes=tree_changes(),
    finished=st.booleans(),
)
def test_files_of_a_run_of_any_content(
    run_folder: Path, name: str, changes: list[tuple[float, Any]], finished: bool
) -> None:
    files = dict(RUN)
    try:
        if name == "log.jsonl":
            rows = tampered([json.loads(line) for line in RUN[name].splitlines()], changes)
            files[name] = (
                "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else json.dumps(rows)
            )
        else:
            files[name] = json.dumps(tampered(json.loads(RUN[name]), changes))
    except ValueError:
        return
    if not finished:
        del files["result.json"]
    read_everything(run_folder, {each: text.encode() for each, text in files.items()})


@fuzzed(60)
@given(value=json_values(8))
def test_options_that_no_builder_takes(value: Any) -> None:
    """A recipe's options go to builders as they are."""
    name = "fastsegnet"
    assume(len(repr(value)) < 500)  # builders show the whole value
    try:
        config = config_from_dict({"model": {"name": name, "options": {"width": copy.deepcopy(value)}}})
    except FeathersegError:
        return
    with torch.device("meta"):  # widths of any size, without their memory
        answer(create_model, name, 3, **config.model.options)
