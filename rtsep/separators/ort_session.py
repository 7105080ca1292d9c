"""A net in ONNX Runtime's C library: opened, described, and bound to the memory of its tensors. [main thread]"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from ctypes import c_int64, c_size_t
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtsep.separators.ort import FATAL, FLOAT, Library
from rtsep.separators.ort_gru import Operator, operator

_SEQUENTIAL, _ALL_OPTIMISATIONS = 0, 99
#: Settings of a session, for the Python package too.
CONFIG = {
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
    # Heeded on the first session of the process alone, and for threads started after it; see also dsp/denormals.py.
    "session.set_denormal_as_zero": "1",
}


class Tensor(NamedTuple):
    """Input or output of a net, as the Python package describes it."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


class Session:
    """A net opened on the CPU for one thread; freed with the object.

    Parameters
    ----------
    library : Library
        ONNX Runtime.
    data : bytes
        The net's file.

    Raises
    ------
    RuntimeError
        If ONNX Runtime refuses it.
    """

    def __init__(self, library: Library, data: bytes) -> None:
        self.library = library
        # Nodes that name functions for their gates cannot be told apart from those that do not.
        own = operator(library) if b"GRU" in data and b"activations" not in data else None
        #: Address of the `OrtSession`.
        self.address = 0 if own is None else self._opened(data, own.domain)
        if not self.address:
            self.address = self._opened(data)
        self._owned: list[tuple[str, int]] = [("Session", self.address)]
        weakref.finalize(self, _release, library, self._owned, own).atexit = False

    def _opened(self, data: bytes, domain: int = 0) -> int:
        """A new session; with `domain`, operators of our own, 0 if they do not suit the net."""
        library = self.library
        options = library.make("CreateSessionOptions")
        try:
            library.call("SetIntraOpNumThreads", options, 1)
            library.call("SetInterOpNumThreads", options, 1)
            library.call("SetSessionExecutionMode", options, _SEQUENTIAL)
            library.call("SetSessionGraphOptimizationLevel", options, _ALL_OPTIMISATIONS)
            library.call("SetSessionLogSeverityLevel", options, FATAL)
            for key, value in CONFIG.items():
                library.call("AddSessionConfigEntry", options, key.encode(), value.encode())
            if domain:
                library.call("AddCustomOpDomain", options, domain)
            return library.make("CreateSessionFromArray", library.environment, data, len(data), options)
        except RuntimeError:
            if domain:
                return 0
            raise
        finally:
            library.release("SessionOptions", options)

    def get_inputs(self) -> list[Tensor]:
        """Inputs of the net."""
        return self._tensors("Input")

    def get_outputs(self) -> list[Tensor]:
        """Outputs of the net."""
        return self._tensors("Output")

    def _tensors(self, side: str) -> list[Tensor]:
        library, found = self.library, []
        for index in range(library.get(c_size_t, f"SessionGet{side}Count", self.address)):
            text = library.make(f"SessionGet{side}Name", self.address, index, library.allocator)
            name = ctypes.string_at(text).decode()
            library.call("AllocatorFree", library.allocator, text)
            info = library.make(f"SessionGet{side}TypeInfo", self.address, index)
            found.append(Tensor(name, *library.tensor_type(info)))
            library.release("TypeInfo", info)
        return found

    def tensor(self, array: NDArray[np.float32]) -> int:
        """Address of an `OrtValue` that shares the memory of `array`, which the caller keeps."""
        shape = (c_int64 * array.ndim)(*array.shape)
        made = self.library.make(
            "CreateTensorWithDataAsOrtValue",
            self.library.memory,
            array.ctypes.data,
            array.nbytes,
            shape,
            array.ndim,
            FLOAT,
        )
        self._owned.append(("Value", made))
        return made

    def bind(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> int:
        """Address of an `OrtIoBinding` of all inputs and outputs to values made by `tensor`."""
        made = self.library.make("CreateIoBinding", self.address)
        self._owned.append(("IoBinding", made))
        for function, values in (("BindInput", inputs), ("BindOutput", outputs)):
            for name, value in values.items():
                self.library.call(function, made, name.encode(), value)
        return made


def _release(library: Library, owned: list[tuple[str, int]], _: Operator | None) -> None:
    for kind, thing in reversed(owned):
        library.release(kind, thing)
