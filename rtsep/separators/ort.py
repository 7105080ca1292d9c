"""ONNX Runtime's C library, which comes with its Python package, opened and called without that package.

A net that is run through it needs no interpreter: compiled code calls `RUN` by its address. And the package's own
module, which holds the same library a second time, is not loaded at all. [main thread but for `Library.message`]

Source: ``onnxruntime_c_api.h`` of ONNX Runtime. `OrtApi` is an array of functions that only ever grows at its end.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from rtsep.errors import first_line

#: Names of the library on Linux, macOS and Windows, in the package's folder ``capi``.
_PATTERNS = ("libonnxruntime.so*", "libonnxruntime.*dylib", "onnxruntime.dll")
#: `ORT_API_VERSION` of the oldest release that rtsep runs with.
_VERSION = 18
#: Place of a function in `OrtApi`, and its parameters; all but the releases return a status.
_FUNCTIONS: dict[str, tuple[int, tuple[Any, ...]]] = {
    "CreateEnv": (3, (c_int, c_char_p, c_void_p)),
    "CreateSessionFromArray": (8, (c_void_p, c_char_p, c_size_t, c_void_p, c_void_p)),
    "CreateSessionOptions": (10, (c_void_p,)),
    "SetSessionExecutionMode": (13, (c_void_p, c_int)),
    "SetSessionLogSeverityLevel": (22, (c_void_p, c_int)),
    "SetSessionGraphOptimizationLevel": (23, (c_void_p, c_int)),
    "SetIntraOpNumThreads": (24, (c_void_p, c_int)),
    "SetInterOpNumThreads": (25, (c_void_p, c_int)),
    "CreateCustomOpDomain": (26, (c_char_p, c_void_p)),
    "CustomOpDomain_Add": (27, (c_void_p, c_void_p)),
    "AddCustomOpDomain": (28, (c_void_p, c_void_p)),
    "SessionGetInputCount": (30, (c_void_p, c_void_p)),
    "SessionGetOutputCount": (31, (c_void_p, c_void_p)),
    "SessionGetInputTypeInfo": (33, (c_void_p, c_size_t, c_void_p)),
    "SessionGetOutputTypeInfo": (34, (c_void_p, c_size_t, c_void_p)),
    "SessionGetInputName": (36, (c_void_p, c_size_t, c_void_p, c_void_p)),
    "SessionGetOutputName": (37, (c_void_p, c_size_t, c_void_p, c_void_p)),
    "CreateTensorWithDataAsOrtValue": (49, (c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_int, c_void_p)),
    "GetTensorMutableData": (51, (c_void_p, c_void_p)),
    "CastTypeInfoToTensorInfo": (55, (c_void_p, c_void_p)),
    "GetTensorElementType": (60, (c_void_p, c_void_p)),
    "GetDimensionsCount": (61, (c_void_p, c_void_p)),
    "GetDimensions": (62, (c_void_p, c_void_p, c_size_t)),
    "GetSymbolicDimensions": (63, (c_void_p, c_void_p, c_size_t)),
    "CreateCpuMemoryInfo": (69, (c_int, c_int, c_void_p)),
    "AllocatorFree": (76, (c_void_p, c_void_p)),
    "GetAllocatorWithDefaultOptions": (78, (c_void_p,)),
    "KernelInfoGetAttribute_float": (85, (c_void_p, c_char_p, c_void_p)),
    "KernelInfoGetAttribute_int64": (86, (c_void_p, c_char_p, c_void_p)),
    "KernelInfoGetAttribute_string": (87, (c_void_p, c_char_p, c_void_p, c_void_p)),
    "KernelContext_GetInput": (90, (c_void_p, c_size_t, c_void_p)),
    "KernelContext_GetOutput": (91, (c_void_p, c_size_t, c_void_p, c_size_t, c_void_p)),
    "GetAvailableProviders": (125, (c_void_p, c_void_p)),
    "ReleaseAvailableProviders": (126, (c_void_p, c_int)),
    "AddSessionConfigEntry": (130, (c_void_p, c_char_p, c_char_p)),
    "CreateIoBinding": (134, (c_void_p, c_void_p)),
    "BindInput": (136, (c_void_p, c_char_p, c_void_p)),
    "BindOutput": (137, (c_void_p, c_char_p, c_void_p)),
    "KernelInfo_GetInputTypeInfo": (234, (c_void_p, c_size_t, c_void_p)),
    "KernelInfoGetConstantInput_tensor": (249, (c_void_p, c_size_t, c_void_p, c_void_p)),
}
_RELEASES = {"Status": 93, "Session": 95, "Value": 96, "TypeInfo": 98, "SessionOptions": 100, "IoBinding": 135}
_CREATE_STATUS, _ERROR_MESSAGE, _RUN_WITH_BINDING = 0, 2, 133
#: Names of `ONNXTensorElementDataType`, as the Python package has them.
_TYPES = (
    "undefined",
    "float",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "double",
)
#: Of elements, and of what is logged.
FLOAT, FATAL = 1, 4
_ARENA, _DEFAULT_MEMORY, _FAIL = 1, 0, 1


class Library:
    """ONNX Runtime's functions.

    Parameters
    ----------
    path : Path
        The library.

    Raises
    ------
    OSError, AttributeError
        If it cannot be loaded, is another library, or is older than 1.18.
    """

    def __init__(self, path: Path) -> None:
        base = ctypes.CDLL(str(path)).OrtGetApiBase
        base.restype = POINTER(c_void_p)
        get_api, get_version = base()[:2]
        api = ctypes.CFUNCTYPE(POINTER(c_void_p), ctypes.c_uint32)(get_api)(_VERSION)
        if not api:
            raise OSError(f"{path} is older than 1.{_VERSION}")
        #: Such as ``"1.20.1"``.
        self.version: str = ctypes.CFUNCTYPE(c_char_p)(get_version)().decode()
        #: Address of ``OrtStatus *RunWithBinding(session, run options or 0, binding)``.
        self.run: int = api[_RUN_WITH_BINDING]
        self._api = api
        self._status = ctypes.CFUNCTYPE(c_void_p, c_int, c_char_p)(api[_CREATE_STATUS])
        self._message = ctypes.CFUNCTYPE(c_char_p, c_void_p)(api[_ERROR_MESSAGE])
        self._functions = {
            name: ctypes.CFUNCTYPE(c_void_p, *kinds)(api[index]) for name, (index, kinds) in _FUNCTIONS.items()
        }
        self._releases = {name: ctypes.CFUNCTYPE(None, c_void_p)(api[index]) for name, index in _RELEASES.items()}
        self.environment = self.make("CreateEnv", FATAL, b"rtsep")
        self.allocator = self.make("GetAllocatorWithDefaultOptions")
        self.memory = self.make("CreateCpuMemoryInfo", _ARENA, _DEFAULT_MEMORY)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function; `RuntimeError` with ONNX Runtime's own words if it fails."""
        status = self._functions[name](*arguments)
        if status:
            raise RuntimeError(self.message(status))

    def get(self, kind: Any, name: str, *arguments: Any) -> Any:
        """Call a function that writes a value of type `kind` through its last parameter."""
        found = kind()
        self.call(name, *arguments, ctypes.byref(found))
        return found.value

    def make(self, name: str, *arguments: Any) -> int:
        """Call a function that gives an object."""
        return self.get(c_void_p, name, *arguments) or 0

    def release(self, kind: str, thing: int) -> None:
        """Free an object of kind ``"Value"``, ``"Session"`` and so on."""
        self._releases[kind](thing)

    def address(self, name: str) -> int:
        """Address of a function, for compiled code."""
        return int(self._api[_FUNCTIONS[name][0]])

    def status(self, text: str) -> int:
        """A new `OrtStatus` that says so; ONNX Runtime, to which it is handed, frees it."""
        return int(self._status(_FAIL, text.encode()))

    def message(self, status: int) -> str:
        """What a status says, in one line; the status is freed [any thread]."""
        text = self._message(status).decode(errors="replace")
        self.release("Status", status)
        return first_line(text) or "no reason given"

    def tensor_type(self, info: int) -> tuple[str, tuple[int | str | None, ...]]:
        """Type and shape of an `OrtTypeInfo`; a size that is not fixed is its name."""
        info = self.make("CastTypeInfoToTensorInfo", info)
        if not info:
            return "value other than a tensor", ()
        element = self.get(c_int, "GetTensorElementType", info)
        rank = self.get(c_size_t, "GetDimensionsCount", info)
        sizes, names = (c_int64 * rank)(), (c_char_p * rank)()
        self.call("GetDimensions", info, sizes, rank)
        self.call("GetSymbolicDimensions", info, names, rank)
        shape = (
            size if size >= 0 else (name.decode() if name else None) for size, name in zip(sizes, names, strict=True)
        )
        return f"tensor({_TYPES[element] if element < len(_TYPES) else element})", tuple(shape)

    def providers(self) -> list[str]:
        """Names of what nets can run on, such as ``CUDAExecutionProvider``."""
        names, count = POINTER(c_char_p)(), c_int()
        self.call("GetAvailableProviders", ctypes.byref(names), ctypes.byref(count))
        found = [name.decode() for name in names[: count.value] if name]
        self.call("ReleaseAvailableProviders", names, count)
        return found


@functools.cache
def library() -> Library | None:
    """The C library of the installed onnxruntime package; None if there is none that can be used."""
    package = importlib.util.find_spec("onnxruntime")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "capi"
    for path in (path for pattern in _PATTERNS for path in sorted(folder.glob(pattern))):
        try:
            return Library(path)
        except (OSError, AttributeError):
            continue
    return None
