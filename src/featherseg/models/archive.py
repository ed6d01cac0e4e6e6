"""What a ``.pth`` file may hold before torch reads it.

torch's restricted loader executes nothing, but it believes what a file says of itself: a file of a hundred bytes that
asks for ``bytearray(10**12)`` gets it, and one of a megabyte of compressed zeros becomes a gigabyte. The files that
:func:`featherseg.models.checkpoint.save_checkpoint` writes need neither, so both are refused here, before.
"""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path

MAX_PICKLE_BYTES = 16 << 20
"""Of the description of all tensors, which has about 200 bytes each."""
MAX_ENTRIES = 20_000

_GLOBALS = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"})
_STORAGES = frozenset(
    f"torch {kind}Storage"
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
)
# Those that name something to be called, other than GLOBAL, or reserve memory for more than is there.
_OPCODES = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "BYTEARRAY8"})


def check_archive(path: Path) -> None:
    """Refuse a ``.pth`` file that is more than tensors and plain values, each as large as it says. Nothing is loaded.

    Raises:
        ValueError: always one line.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries, path.stat().st_size)
            pickled = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
            if len(pickled) != 1 or pickled[0].file_size > MAX_PICKLE_BYTES:
                raise ValueError("it is no weights file of torch's")
            content = archive.read(pickled[0])
    except (OSError, ValueError):
        raise
    except Exception as error:  # zip files fail in many ways
        raise ValueError(str(error) or type(error).__name__) from error
    _check_pickle(content)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"it has {len(entries)} parts, too many to be real")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("it is compressed, which weights files of torch's are not")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ValueError("it has two parts of one name")
    if sum(entry.file_size for entry in entries) > size:  # parts that overlap
        raise ValueError("its parts are larger than itself")


def _check_pickle(content: bytes) -> None:
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL" and argument not in _GLOBALS | _STORAGES:
                raise ValueError(f"it names {str(argument)[:80]!r}, which weights have no need of")
            if opcode.name in _OPCODES:
                raise ValueError(f"it uses {opcode.name}, which weights have no need of")
    except (OverflowError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
