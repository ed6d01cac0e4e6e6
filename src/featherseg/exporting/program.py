"""Programs of torch.export: the network as a graph that PyTorch runs without its code."""

from __future__ import annotations

import copy
import os
import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from ..core.errors import ArtifactError, ConfigError, first_line, require
from ..core.files import write_atomically
from ..core.staging import staged
from ..core.types import MIN_SIZE
from ..models.base import SegmentationModel
from ..models.session import check_artifact
from ..runtime.artifact import Artifact
from ..runtime.containers import METADATA_KEY, is_metadata_entry, metadata_entry
from ..runtime.postprocess import await_kernels
from .onnx import Deployed

EXAMPLE_SIZE = (256, 256)
COMPILERS = ("c++", "g++", "clang++", "cl")


def export_program(model: SegmentationModel, path: str | Path, artifact: Artifact, *, compiled: bool = False) -> Path:
    """Write `model` as a ``.pt2`` file, for any batch, height and width from ``MIN_SIZE``.

    It takes and gives what the ONNX file does: uint8 RGB (B, H, W, 3) in, logits at the network's stride (or a mask)
    out. The network itself is left as it is. What is written is not proven yet.

    Args:
        model: the network; a copy, on the CPU, in fp32 and eval mode, is exported.
        path: file to write, ending in ``.pt2``; it appears whole or not at all.
        artifact: what the file shall say of itself; see :func:`featherseg.models.session.describe`.
        compiled: whether AOTInductor shall turn the program into machine code for processors like this one, which
            takes a C++ compiler and a minute or more, and runs faster.

    Returns:
        `path`.

    Raises:
        ConfigError: an argument is out of range, the artifact is not this network's, or there is no compiler.
        ArtifactError: torch cannot export or compile the network for any size.
    """
    path = Path(path)
    if path.suffix.lower() != ".pt2":
        raise ConfigError(f"{path}: a program of torch.export ends in .pt2, not {path.suffix!r}; rename it")
    check_artifact(model, artifact)
    known = (os.environ.get("CXX", ""), *COMPILERS)
    if compiled and not any(shutil.which(compiler) for compiler in known if compiler):
        raise ConfigError(f"compiling needs a C++ compiler ({', '.join(COMPILERS)}); install one, or leave it out")
    net = Deployed(copy.deepcopy(model).to("cpu", torch.float32).eval(), artifact.output).eval()
    program = _trace(net)
    with staged(path) as temporary:
        if compiled:
            _compile(program, temporary)
        else:
            program.example_inputs = None  # larger than a small network
            torch.export.save(program, temporary)
        write_program_artifact(temporary, artifact)
    return path


def write_program_artifact(path: str | Path, artifact: Artifact) -> None:
    """Replace what the ``.pt2`` file at `path` says of itself; all else in it is copied as it is.

    Raises:
        ArtifactError: it is no whole ``.pt2`` file.
    """
    path = Path(path)
    text = artifact.to_metadata()[METADATA_KEY]

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as new:
            entries = [entry for entry in old.infolist() if not is_metadata_entry(entry.filename)]
            for entry in entries:
                new.writestr(entry.filename, old.read(entry))
            new.writestr(metadata_entry(entries[0].filename.partition("/")[0]), text)

    try:
        write_atomically(path, write)
    except (zipfile.BadZipFile, IndexError) as error:
        raise ArtifactError(f"{path}: it is not a whole .pt2 file ({error}); copy or export it again") from error


def _trace(net: Deployed) -> torch.export.ExportedProgram:
    # A batch of two, since torch takes a one for a constant.
    example = torch.zeros((2, *EXAMPLE_SIZE, 3), dtype=torch.uint8)
    height, width = (torch.export.Dim(name, min=MIN_SIZE) for name in ("height", "width"))
    await_kernels()
    shapes = {"image": {0: torch.export.Dim("batch"), 1: height, 2: width}}
    try:
        with torch.inference_mode(False), torch.no_grad():
            program = torch.export.export(net, (example,), dynamic_shapes=shapes)
    except Exception as error:  # torch wraps whatever went wrong in the network in errors of several families
        name = type(net.model).__name__
        raise ArtifactError(
            f"{name} cannot be exported for any size ({first_line(error)}); see that its code has no fixed sizes"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _compile(program: torch.export.ExportedProgram, path: Path) -> None:
    inductor = require("torch._inductor", "train", "Compiling")
    try:
        with torch.no_grad():
            inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # of torch, or the compiler's
        raise ArtifactError(f"AOTInductor cannot compile it ({first_line(error)}); export it without") from error
