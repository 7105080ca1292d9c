"""`rtsep.separators.gru` in the place of ONNX Runtime's operator GRU, for the nodes that it can do.

ONNX Runtime lets an operator be given anew by name; the net's file says nothing of it, and stays what every other
program can run. Nodes of other sizes or kinds are refused while the session opens: `Session` then leaves them all to
ONNX Runtime. [main thread, but for `compute`]

Source: ``OrtCustomOp`` of ``onnxruntime_c_api.h``.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import CFUNCTYPE, c_float, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtsep.separators import gru
from rtsep.separators.ort import FLOAT, Library

_INPUTS, _LATEST = 4, 2**31 - 1
_NUMBER, _OF_INPUT = CFUNCTYPE(c_int, c_void_p), CFUNCTYPE(c_int, c_void_p, c_size_t)
_SIZE, _TEXT = CFUNCTYPE(c_size_t, c_void_p), CFUNCTYPE(c_void_p, c_void_p)
_CREATE = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_void_p, ctypes.POINTER(c_void_p))
_DESTROY = CFUNCTYPE(None, c_void_p)


class _Operator(ctypes.Structure):
    """`OrtCustomOp` of version 18; what is not set here is a null pointer."""

    _fields_ = (
        ("version", ctypes.c_uint32),
        ("CreateKernel", c_void_p),
        ("GetName", _TEXT),
        ("GetExecutionProviderType", _TEXT),
        ("GetInputType", _OF_INPUT),
        ("GetInputTypeCount", _SIZE),
        ("GetOutputType", _OF_INPUT),
        ("GetOutputTypeCount", _SIZE),
        ("KernelCompute", c_void_p),
        ("KernelDestroy", _DESTROY),
        ("GetInputCharacteristic", _OF_INPUT),
        ("GetOutputCharacteristic", _OF_INPUT),
        ("GetInputMemoryType", _OF_INPUT),
        ("GetVariadicInputMinArity", _NUMBER),
        ("GetVariadicInputHomogeneity", _NUMBER),
        ("GetVariadicOutputMinArity", _NUMBER),
        ("GetVariadicOutputHomogeneity", _NUMBER),
        ("CreateKernelV2", _CREATE),
        ("KernelComputeV2", c_void_p),
        ("InferOutputShapeFn", c_void_p),
        ("GetStartVersion", _NUMBER),
        ("GetEndVersion", _NUMBER),
        ("GetMayInplace", c_void_p),
        ("ReleaseMayInplace", c_void_p),
        ("GetAliasMap", c_void_p),
        ("ReleaseAliasMap", c_void_p),
    )


class Operator:
    """The operator GRU of a library; it and its kernels live as long as the library does.

    Parameters
    ----------
    library : Library
        ONNX Runtime.

    Raises
    ------
    RuntimeError
        If ONNX Runtime has no place for it.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._kernels: dict[int, list[NDArray[Any]]] = {}
        self._name = ctypes.create_string_buffer(b"GRU")
        one, zero = _NUMBER(lambda _: 1), _OF_INPUT(lambda _, __: 0)
        as_float = _OF_INPUT(lambda _, __: FLOAT)
        self._struct = _Operator(
            version=18,
            GetName=_TEXT(lambda _: ctypes.addressof(self._name)),
            GetExecutionProviderType=_TEXT(lambda _: None),
            GetInputType=as_float,
            GetInputTypeCount=_SIZE(lambda _: _INPUTS),
            GetOutputType=as_float,
            GetOutputTypeCount=_SIZE(lambda _: 1),
            KernelDestroy=_DESTROY(self._destroy),
            GetInputCharacteristic=zero,  # required
            GetOutputCharacteristic=zero,
            GetInputMemoryType=zero,
            GetVariadicInputMinArity=one,
            GetVariadicInputHomogeneity=one,
            GetVariadicOutputMinArity=one,
            GetVariadicOutputHomogeneity=one,
            CreateKernelV2=_CREATE(self._create),
            KernelComputeV2=gru.compute.address,
            GetStartVersion=one,
            GetEndVersion=_NUMBER(lambda _: _LATEST),
        )
        #: Address of the `OrtCustomOpDomain` for the options of a session.
        self.domain = library.make("CreateCustomOpDomain", b"")
        library.call("CustomOpDomain_Add", self.domain, ctypes.addressof(self._struct))

    def _create(self, _: int, __: int, info: int, kernel: Any) -> int:
        """``CreateKernelV2``: the kernel of a node, or a status that says why there is none."""
        try:
            words, arrays = self._kernel(info)
        except Exception as error:  # nothing may leave a function that C has called
            return self._library.status(str(error))
        address = words.ctypes.data
        self._kernels[address] = [words, *arrays]
        kernel[0] = address
        return 0

    def _destroy(self, kernel: int) -> None:
        self._kernels.pop(kernel, None)

    def _kernel(self, info: int) -> tuple[NDArray[np.int64], list[NDArray[np.float32]]]:
        library = self._library
        direction, size = ctypes.create_string_buffer(16), c_size_t(16)
        library.call("KernelInfoGetAttribute_string", info, b"direction", direction, ctypes.byref(size))
        units = library.get(c_int64, "KernelInfoGetAttribute_int64", info, b"hidden_size")
        late = library.get(c_int64, "KernelInfoGetAttribute_int64", info, b"linear_before_reset")
        if direction.value != b"bidirectional" or units != gru.UNITS or late != 1 or self._is_clipped(info):
            raise ValueError("a GRU of another kind")
        shapes = [self._shape(info, index) for index in range(_INPUTS)]
        bands, inputs = shapes[0][0], shapes[0][-1]
        wanted = [(bands, 1, inputs), (2, 3 * units, inputs), (2, 3 * units, units), (2, 6 * units)]
        if not isinstance(bands, int) or not isinstance(inputs, int) or inputs % gru.STRIDE or shapes != wanted:
            raise ValueError(f"a GRU of other sizes: {shapes}")
        into, through, bias = (self._constant(info, index, shapes[index]) for index in range(1, _INPUTS))
        arrays = [
            np.ascontiguousarray(into.reshape(-1, inputs).T),
            np.ascontiguousarray(bias[:, : 3 * units].reshape(-1)),
            np.ascontiguousarray(through.transpose(0, 2, 1)),
            np.ascontiguousarray(bias[:, 3 * units :]),
            *(np.zeros(shape, np.float32) for shape in ((bands, 6 * units), (2, 3 * units), (2, units))),
        ]
        words = np.zeros(gru.WORDS, np.int64)
        for place, name in (
            (gru.GET_INPUT, "KernelContext_GetInput"),
            (gru.GET_OUTPUT, "KernelContext_GetOutput"),
            (gru.GET_DATA, "GetTensorMutableData"),
        ):
            words[place] = library.address(name)
        words[[gru.BANDS, gru.INPUTS]] = bands, inputs
        places = (gru.INTO, gru.INTO_BIAS, gru.THROUGH, gru.THROUGH_BIAS, gru.PRODUCTS, gru.GATES, gru.STATE)
        words[list(places)] = [array.ctypes.data for array in arrays]
        words[gru.SHAPE :] = bands, 2, 1, units
        return words, arrays

    def _is_clipped(self, info: int) -> bool:
        try:
            self._library.get(c_float, "KernelInfoGetAttribute_float", info, b"clip")
        except RuntimeError:
            return False
        return True

    def _shape(self, info: int, index: int) -> tuple[int | str | None, ...]:
        found = self._library.make("KernelInfo_GetInputTypeInfo", info, index)
        _, shape = self._library.tensor_type(found)
        self._library.release("TypeInfo", found)
        return shape

    def _constant(self, info: int, index: int, shape: tuple[Any, ...]) -> NDArray[np.float32]:
        """A copy of a weight."""
        is_constant = c_int()
        value = self._library.make("KernelInfoGetConstantInput_tensor", info, index, ctypes.byref(is_constant))
        if not is_constant.value or not value:
            raise ValueError(f"input {index} of a GRU is not constant")
        data = self._library.make("GetTensorMutableData", value)
        count = int(np.prod(shape))
        return np.ctypeslib.as_array((c_float * count).from_address(data)).reshape(shape).copy()


@functools.cache
def operator(library: Library) -> Operator | None:
    """The operator of a library; None where ONNX Runtime does not take it."""
    try:
        return Operator(library)
    except RuntimeError:
        return None
