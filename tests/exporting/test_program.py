"""Programs of torch.export: any size, nothing of this machine in them, and what they say of themselves."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from export_fixtures import CLASSES, FixedPlace, images_of, torch_mask
from featherseg.core.errors import ArtifactError, ConfigError
from featherseg.core.types import ClassSet
from featherseg.exporting import program as module
from featherseg.exporting.program import export_program, write_program_artifact
from featherseg.models.base import SegmentationModel
from featherseg.models.session import describe
from featherseg.runtime.artifact import Artifact, read_artifact
from featherseg.runtime.segmenter import Segmenter
from featherseg.runtime.sessions.base import Session, open_session


@pytest.fixture(scope="module")
def program(model: SegmentationModel, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_program(model, tmp_path_factory.mktemp("program") / "tiny.pt2", artifact)


def logits_of(model: SegmentationModel, images: np.ndarray) -> np.ndarray:
    normal = torch.from_numpy(np.stack([model.input_spec.normalize(image) for image in images]))
    with torch.no_grad():
        return model.outputs(normal)["out"].numpy()


def test_program_equals_network_at_any_batch_and_size(model: SegmentationModel, program: Path) -> None:
    session = open_session(program)
    assert isinstance(session, Session)
    assert (session.name, session.size) == ("torch", None)
    assert f"threads: {torch.get_num_threads()}, fp32, torch {torch.__version__}" in session.device
    for batch, size in [(1, (64, 64)), (3, (64, 201)), (2, (131, 77))]:
        images = images_of(*size, batch=batch)
        expected = logits_of(model, images)
        np.testing.assert_allclose(session.run(images), expected, atol=2e-5 * np.abs(expected).max())
    images.flags.writeable = False
    turned = images[:, :, ::-1]
    np.testing.assert_allclose(session.run(turned), logits_of(model, turned), atol=1e-4)
    frame = images_of(40, 150)[0]
    assert Segmenter(program).segment(frame).shape == (40, 150)


def test_sizes_below_the_smallest_are_one_line(program: Path) -> None:
    with pytest.raises(ArtifactError, match=r"torch cannot run the file on images \(1, 40, 64, 3\)") as caught:
        open_session(program).run(images_of(40, 64))
    assert "\n" not in str(caught.value)


def test_file_is_small_and_names_nothing_of_this_machine(model: SegmentationModel, program: Path) -> None:
    assert [p.name for p in program.parent.iterdir()] == ["tiny.pt2"]
    with zipfile.ZipFile(program) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            for private in (b".py", b"site-packages", str(Path.cwd()).encode(), b"stack_trace"):
                assert private not in content, name
    example = 2 * 256 * 256 * 3
    assert program.stat().st_size < example, "the example image is in it"


def test_what_it_says_of_itself(program: Path, artifact: Artifact, tmp_path: Path) -> None:
    assert read_artifact(program) == artifact
    path = Path(shutil.copy(program, tmp_path / "renamed.pt2"))
    stamped = replace(artifact, verification={"agreement": 0.25}, classes=ClassSet(("Straße", "b", "c", "d")))
    for said in (stamped, artifact):
        write_program_artifact(path, said)
        assert read_artifact(path) == said
    assert [p.name for p in tmp_path.iterdir()] == ["renamed.pt2"]
    images = images_of(64, 96)
    np.testing.assert_array_equal(open_session(path).run(images), open_session(program).run(images))
    extra = {"featherseg": ""}
    torch.export.load(path, extra_files=extra)
    assert extra["featherseg"] == artifact.to_metadata()["featherseg"]
    path.write_bytes(b"no archive")
    with pytest.raises(ArtifactError, match=r"renamed\.pt2: it is not a whole \.pt2"):
        write_program_artifact(path, artifact)
    assert path.read_bytes() == b"no archive"


def test_network_is_left_as_it_is(model: SegmentationModel, artifact: Artifact, tmp_path: Path) -> None:
    net = copy.deepcopy(model).train()
    net.stem.eval()
    modes = [part.training for part in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    path = export_program(net, tmp_path / "a.pt2", artifact)
    assert [part.training for part in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    images = images_of(64, 96)
    np.testing.assert_allclose(open_session(path).run(images), logits_of(model, images), atol=1e-4)


def test_mask_output(model: SegmentationModel, artifact: Artifact, tmp_path: Path) -> None:
    path = export_program(model, tmp_path / "mask.pt2", replace(artifact, output="mask"))
    images = images_of(77, 133, batch=2)
    with torch.inference_mode():
        masks = torch.export.load(path).module()(torch.from_numpy(images))
    assert masks.dtype == torch.uint8
    for image, mask in zip(images, masks.numpy(), strict=True):
        assert (mask == torch_mask(model, image)).mean() > 0.999
    with pytest.raises(ArtifactError, match="gives a mask"):
        open_session(path)


def test_network_of_a_fixed_size_is_refused(tmp_path: Path) -> None:
    net, old = FixedPlace(), tmp_path / "a.pt2"
    old.write_bytes(b"earlier")
    with pytest.raises(ArtifactError, match="FixedPlace cannot be exported for any size") as caught:
        export_program(net, old, describe(net, CLASSES))
    assert "\n" not in str(caught.value)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.pt2", b"earlier")]


def test_wrong_arguments(
    model: SegmentationModel, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"ends in \.pt2, not '\.pt'"):
        export_program(model, tmp_path / "a.pt", artifact)
    with pytest.raises(ConfigError, match="stride"):
        export_program(model, tmp_path / "a.pt2", replace(artifact, stride=4))
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match=r"compiling needs a C\+\+ compiler"):
        export_program(model, tmp_path / "a.pt2", artifact, compiled=True)
    assert list(tmp_path.iterdir()) == []


def test_damaged_program(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    whole = program.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"whole \.pt2"):
        open_session(path)
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = b"{}" if entry.filename.endswith("models/model.json") else old.read(entry)
            new.writestr(entry.filename, content)
    with pytest.raises(ArtifactError, match=r"a\.pt2: torch refuses it") as caught:
        open_session(path)
    assert "\n" not in str(caught.value)


def test_reading_what_it_says_needs_no_torch(program: Path) -> None:
    code = (
        "import sys; from featherseg.runtime.artifact import read_artifact\n"
        f"assert read_artifact({str(program)!r}).stride == 8\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_threads(program: Path) -> None:
    before = torch.get_num_threads()
    try:
        assert "threads: 2, fp32" in open_session(program, threads=2).device
        assert torch.get_num_threads() == 2
        with pytest.raises(ConfigError, match="threads is 0"):
            open_session(program, threads=0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("c++") is None, reason="AOTInductor needs a C++ compiler")
def test_compiled(
    model: SegmentationModel, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    path = export_program(model, tmp_path / "new" / "fast.pt2", artifact, compiled=True)
    assert [p.name for p in path.parent.iterdir()] == ["fast.pt2"]
    for verification in ({"agreement": 0.5}, {}):
        write_program_artifact(path, replace(artifact, verification=verification))
        assert read_artifact(path).verification == verification
    session = open_session(path)
    assert "compiled" in session.device
    for batch, size in [(1, (64, 64)), (2, (131, 77))]:
        images = images_of(*size, batch=batch)
        expected = logits_of(model, images)
        np.testing.assert_allclose(session.run(images), expected, atol=2e-5 * np.abs(expected).max())
