"""The few calls of NVIDIA's driver that running an engine takes, by ctypes: nothing beside the driver is needed.

Source of names and signatures: ``cuda.h`` of CUDA 13, https://docs.nvidia.com/cuda/cuda-driver-api/
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from numpy.typing import NDArray

from ...core.errors import first_line

LIBRARY = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING


class DriverError(RuntimeError):
    """The driver is not there, or one of its calls failed."""


class Driver:
    """One GPU and one stream of work on it.

    Args:
        gpu: number of the GPU, from 0.

    Raises:
        DriverError: there is no driver or no such GPU.
    """

    def __init__(self, gpu: int = 0) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DriverError(f"no NVIDIA driver: {first_line(error)}") from error
        self._call("cuInit", c_uint(0))
        device, name = c_int(), ctypes.create_string_buffer(256)
        self._call("cuDeviceGet", byref(device), c_int(gpu))
        self._call("cuDeviceGetName", name, c_int(len(name)), device)
        self.name = name.value.decode(errors="replace")
        self._context, self._stream = c_void_p(), c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), device)
        self.enter()
        self._call("cuStreamCreate", byref(self._stream), c_uint(_NON_BLOCKING))

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return self._stream.value or 0

    def enter(self) -> None:
        """Make the GPU the one of this thread, which need not be the one that opened it."""
        self._call("cuCtxSetCurrent", self._context)

    def upload(self, memory: Memory, values: NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU, in its turn; it must not change before :meth:`wait`."""
        source, size = c_void_p(values.ctypes.data), c_size_t(values.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", c_uint64(memory.reserve(values.nbytes)), source, size, self._stream)

    def download(self, memory: Memory, values: NDArray[Any]) -> None:
        """Fill a contiguous array from the GPU, in its turn; it is full after :meth:`wait`."""
        target, size = c_void_p(values.ctypes.data), c_size_t(values.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", target, c_uint64(memory.reserve(values.nbytes)), size, self._stream)

    def wait(self) -> None:
        """Wait until all work of the stream is done."""
        self._call("cuStreamSynchronize", self._stream)

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the GPU."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._library.cuMemFree_v2(c_uint64(address))  # at the program's end it may be gone already, which is as well

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            text = c_char_p()
            self._library.cuGetErrorString(c_int(code), byref(text))
            reason = (text.value or b"unknown error").decode(errors="replace")
            raise DriverError(f"{name}: {reason} ({code})")


class Memory:
    """A piece of GPU memory that grows as needed and is given back with its owner."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._size = 0
        self._address = 0
        self._release: Callable[[], object] = lambda: None

    def reserve(self, size: int) -> int:
        """Return the address of at least `size` bytes; what was in a smaller piece is lost."""
        if size > self._size:
            self._release()
            self._size = 0  # stays so if there is not enough
            self._address = self._driver.allocate(size)
            self._size = size
            self._release = weakref.finalize(self, self._driver.free, self._address)
        return self._address
