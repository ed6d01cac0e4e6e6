"""How the kernels of this package are compiled, by numba. Importing it takes a third of a second.

Each kernel gives up Python's lock while it runs, and is compiled for C-ordered, writable arrays of one type: its
callers bring others into that form, since compiling for a second kind takes a second.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def helper(function: Function) -> Function:
    """Compile a function that only kernels call; it becomes part of them."""
    return cast(Function, numba.njit(nogil=True)(function))


def kernel(function: Function) -> Function:
    """Compile a function at its first call; the machine code is kept on disk for the next process.

    It lies beside the function's file, or in the user's cache folder, or where the variable NUMBA_CACHE_DIR says. Where
    none can be written, or the disk is full, or what is there is damaged, this process compiles for itself.
    """
    return _on_disk(function, {})


def loose_kernel(function: Function) -> Function:
    """The same for sums that may be rounded once where IEEE 754 rounds twice, which processors do faster (FMA)."""
    return _on_disk(function, {"fastmath": {"contract"}})


def loose_helper(function: Function) -> Function:
    """Compile a part of a :func:`loose_kernel`."""
    return cast(Function, numba.njit(nogil=True, fastmath={"contract"})(function))


def _on_disk(function: Function, options: dict[str, Any]) -> Function:
    compiled = chosen = numba.njit(nogil=True, **options)(function)
    with suppress(RuntimeError):  # numba's word for no folder
        chosen = numba.njit(cache=True, nogil=True, **options)(function)

    @wraps(function)
    def call(*args: Any) -> None:
        nonlocal chosen
        try:
            chosen(*args)
        except Exception:  # no kernel raises; reading and writing files does, and unpickling raises anything
            chosen = compiled
            chosen(*args)

    return cast(Function, call)
