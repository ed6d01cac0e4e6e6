"""Where each kind of exported file keeps what it says of itself: one JSON text under one key.

ONNX files have it among their metadata, OpenVINO's ``.xml`` in its runtime information, torch's ``.pt2`` among its
extra files. Formats that cannot carry it, such as TensorRT's engines, have a companion: ``model.engine.json`` beside
``model.engine``. Each is read with the standard library alone and without the weights, so that looking at a file costs
no session and needs no engine, and with limits on all that a hostile file could make large.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO
from xml.parsers import expat

from ..core.errors import ArtifactError
from ..core.files import sha256, write_atomically

METADATA_KEY = "featherseg"
MAX_METADATA_BYTES = 1 << 20
"""Real metadata is a few kB; more than this is a damaged or hostile file, and is not read."""
WEIGHTS_KEY = f"{METADATA_KEY}_weights"
"""Runtime information of an ``.xml`` that holds the SHA-256 of its ``.bin``, for the two are easily mixed up."""

REMEDY = "export it again with featherseg"

_METADATA_FIELD = 14  # ModelProto.metadata_props, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_MAX_FIELDS = 10_000  # of a ModelProto; real ones have about ten, and one for each function
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf wire types
_MAX_XML_BYTES = 64 << 20  # of an .xml, which holds no weights; real ones have about one MB
_XML_CHUNK = 4 << 20  # expat reads a tag that goes over several chunks anew with each: many small ones take hours
_MAX_XML_DEPTH = 100
_EXTRA_FILE = f"extra/{METADATA_KEY}"  # in a .pt2, below its root folder
_COMPILED = "data/aotinductor/"


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata entries of the exported file at `path`; ours, if it is there, is :data:`METADATA_KEY`.

    Raises:
        ArtifactError: the file is damaged, or of another format than its suffix says.
        OSError: it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        with path.open("rb") as stream:
            return _read_onnx(stream, path.stat().st_size)
    if suffix == ".xml":
        return openvino_info(path)
    if suffix == ".pt2":
        return _read_program(path)
    return {METADATA_KEY: json.dumps(read_companion(path)[METADATA_KEY], ensure_ascii=False)}


def fingerprint(path: Path) -> str:
    """Return what tells apart what files compute: SHA-256 of all their bytes, of ONNX files without what they say.

    Raises:
        ArtifactError: the file is damaged.
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    if path.suffix.lower() != ".onnx":
        for part in file_parts(path):
            digest.update(part.read_bytes())
        return digest.hexdigest()
    size = path.stat().st_size
    with path.open("rb") as stream:
        while stream.tell() < size:
            number, wire, length = _next_field(stream)
            value = stream.read(length) if wire == _BYTES else b""
            if number != _METADATA_FIELD:
                digest.update(f"{number}:{len(value)}:".encode())
                digest.update(value)
    return digest.hexdigest()


def companion_path(path: Path) -> Path:
    """Return the file that says what `path` is, where `path` itself cannot."""
    return path.with_name(f"{path.name}.json")


def file_parts(path: Path) -> list[Path]:
    """Return an exported file and those that it needs beside it."""
    beside = [companion_path(path), *([path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [])]
    return [path, *(each for each in beside if each.is_file())]


def possible_parts(path: Path) -> list[Path]:
    """Return the files that exporting to `path` may write."""
    beside = {".xml": [path.with_suffix(".bin")], ".engine": [companion_path(path)]}
    return [path, *beside.get(path.suffix.lower(), [])]


def write_companion(path: Path, text: str, built_with: str) -> Path:
    """Write the companion of the finished file at `path`.

    Args:
        path: the file.
        text: the JSON text that it shall say of itself.
        built_with: package and version that can read the file, and its precision.
    """
    content = {METADATA_KEY: json.loads(text), "sha256": sha256(path), "built_with": built_with}
    encoded = json.dumps(content, indent=1, ensure_ascii=False).encode()
    return write_atomically(companion_path(path), lambda file: file.write(encoded))


def read_companion(path: Path) -> dict[str, Any]:
    """Return the companion of `path`: an object :data:`METADATA_KEY`, and the texts ``sha256`` and ``built_with``.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    companion = companion_path(path)
    if not companion.is_file():
        raise ArtifactError(
            f"{companion.name} is not beside it, so its classes are unknown; copy it along, or {REMEDY}"
        )
    with companion.open("rb") as stream:
        content = stream.read(2 * MAX_METADATA_BYTES + 1)
    if len(content) > 2 * MAX_METADATA_BYTES:
        raise ArtifactError(f"{companion.name} has over {2 * MAX_METADATA_BYTES} bytes, too many to be real; {REMEDY}")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{companion.name} is not JSON ({error}); {REMEDY}") from error
    kinds = {METADATA_KEY: dict, "sha256": str, "built_with": str}
    if not isinstance(found, dict) or not all(isinstance(found.get(key), kind) for key, kind in kinds.items()):
        raise ArtifactError(f"{companion.name} does not hold {', '.join(kinds)}; {REMEDY}")
    return found


def openvino_info(path: Path) -> dict[str, str]:
    """Return the entries of a model's runtime information in an OpenVINO ``.xml``: those that have one value each."""
    if path.stat().st_size > _MAX_XML_BYTES:
        raise ArtifactError(f"it has over {_MAX_XML_BYTES >> 20} MB, too many for an OpenVINO .xml; {REMEDY}")
    found: dict[str, str] = {}
    place: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        place.append(name)
        if place[0] != "net" or len(place) > _MAX_XML_DEPTH:
            raise ArtifactError(f"it is XML, but no OpenVINO model; {REMEDY}")
        if len(place) == 3 and place[1] == "rt_info" and "value" in attributes:
            found[name] = attributes["value"]

    def end(_: str) -> None:
        place.pop()

    def doctype(*_: Any) -> None:  # where entities are declared, with which a small file can fill the memory
        raise ArtifactError(f"it has a document type, which no OpenVINO model has; {REMEDY}")

    parser = expat.ParserCreate("utf-8")  # whatever the file says: of other encodings Python makes other errors
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, doctype
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_XML_CHUNK):
                parser.Parse(chunk)
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ArtifactError(f"it is not a whole OpenVINO .xml file ({error}); copy or export it again") from error
    return found


def program_entry(name: str) -> str:
    """Return the name of a ``.pt2``'s entry below its root folder, which is called as the file once was."""
    return name.partition("/")[2]


def is_metadata_entry(name: str) -> bool:
    """Return whether a ``.pt2``'s entry is the one that says what the file is."""
    return program_entry(name) == _EXTRA_FILE


def metadata_entry(root: str) -> str:
    """Return the full name of that entry in a ``.pt2`` whose root folder is `root`."""
    return f"{root}/{_EXTRA_FILE}"


def is_compiled(path: Path) -> bool:
    """Return whether a ``.pt2`` holds machine code by AOTInductor, not a program of torch.export."""
    with zipfile.ZipFile(path) as archive:
        return any(program_entry(name).startswith(_COMPILED) for name in archive.namelist())


def _read_program(path: Path) -> dict[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next((info for info in archive.infolist() if is_metadata_entry(info.filename)), None)
            if entry is None:
                return {}
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Of the others, Python unpacks as much as there is, however little is asked for.
                raise ArtifactError(f"its metadata is packed in a way that torch knows not; {REMEDY}")
            with archive.open(entry) as stream:  # its size is the file's own word, so it is not relied on
                content = stream.read(MAX_METADATA_BYTES + 1)
            if len(content) > MAX_METADATA_BYTES:
                raise ArtifactError(f"its metadata has over {MAX_METADATA_BYTES} bytes, too many to be real; {REMEDY}")
            return {METADATA_KEY: content.decode()}
    except UnicodeDecodeError as error:
        raise ArtifactError(f"its metadata is not UTF-8 text; {REMEDY}") from error
    except (ArtifactError, OSError):
        raise
    except Exception as error:  # zip files fail in many ways: BadZipFile, zlib.error, struct.error, EOFError, …
        reason = str(error) or type(error).__name__
        raise ArtifactError(f"it is not a whole .pt2 file ({reason}); copy or export it again") from error


def _read_onnx(stream: BinaryIO, size: int) -> dict[str, str]:
    """Walk the top-level fields of an ONNX ModelProto and collect metadata_props; all else is skipped, unread."""
    found: dict[str, str] = {}
    total = 0
    for _ in range(_MAX_FIELDS):
        if stream.tell() >= size:
            return found
        number, wire, length = _next_field(stream)
        if wire != _BYTES:
            continue
        if stream.tell() + length > size:
            raise ArtifactError("it is not a whole ONNX file (cut off, or another format); copy or export it again")
        if number != _METADATA_FIELD:
            stream.seek(length, os.SEEK_CUR)
            continue
        total += length
        if total > MAX_METADATA_BYTES:
            raise ArtifactError(f"its metadata has {total} bytes, too many to be real; {REMEDY}")
        entry = _read_entry(stream, stream.tell() + length)
        found[entry.get(1, "")] = entry.get(2, "")
    raise ArtifactError(f"it has more than {_MAX_FIELDS} parts, too many to be real; {REMEDY}")


def _read_entry(stream: BinaryIO, end: int) -> dict[int, str]:
    """Read one StringStringEntryProto up to `end`: {1: key, 2: value}."""
    entry: dict[int, str] = {}
    while stream.tell() < end:
        number, wire, length = _next_field(stream)
        if wire != _BYTES or stream.tell() + length > end:
            raise ArtifactError(f"its metadata is damaged; {REMEDY}")
        try:
            entry[number] = stream.read(length).decode()
        except UnicodeDecodeError as error:
            raise ArtifactError(f"its metadata is not UTF-8 text; {REMEDY}") from error
    return entry


def _next_field(stream: BinaryIO) -> tuple[int, int, int]:
    """Read a field's number, wire type and, of length-delimited ones, length; values of the others are skipped."""
    tag = _varint(stream)
    number, wire = tag >> 3, tag & 7
    if wire == _BYTES:
        return number, wire, _varint(stream)
    if wire == _VARINT:
        _varint(stream)
    elif wire in (_FIXED64, _FIXED32):
        stream.seek(8 if wire == _FIXED64 else 4, os.SEEK_CUR)
    else:
        raise ArtifactError("it is not an ONNX file; give the .onnx file that `featherseg export` wrote")
    return number, wire, 0


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):  # 64 bits take ten bytes at most
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ArtifactError("it is not a whole ONNX file (cut off, or another format); copy or export it again")
