"""How compiled code reaches memory by address, and C functions by name.

Code compiled by Numba runs without the interpreter and its lock, so audio callbacks and the worker are written in it.
This module gives them three things that Numba itself lacks: C functions that survive the compilation cache, arrays
seen through a bare address, and atomic loads and stores. [any thread; nothing here allocates or waits]
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def external(library: ctypes.CDLL, name: str, signature: Any) -> Any:
    """C function `name` of `library` as something that compiled code can call.

    The address is registered under its name, so that code from Numba's cache finds it in the next process too.

    Parameters
    ----------
    library : ctypes.CDLL
        Library that exports the function, itself or through a library that it depends on.
    name : str
        Symbol.
    signature : numba signature
        Such as ``types.int32(types.intp)``; pointers are ``intp``.

    Raises
    ------
    AttributeError
        If the library has no such symbol.
    """
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    llvm.add_symbol(name, address)
    return types.ExternalFunction(name, signature)


@intrinsic
def float_pointer(typingctx, address):
    """``float *`` of an address: ``carray(float_pointer(a), shape)`` is the array that lies there."""
    return types.CPointer(types.float32)(types.intp), _int_to_pointer


@intrinsic
def complex_pointer(typingctx, address):
    """``float complex *`` of an address."""
    return types.CPointer(types.complex64)(types.intp), _int_to_pointer


@intrinsic
def double_pointer(typingctx, address):
    """``double *`` of an address."""
    return types.CPointer(types.float64)(types.intp), _int_to_pointer


@intrinsic
def int_pointer(typingctx, address):
    """``int64_t *`` of an address."""
    return types.CPointer(types.int64)(types.intp), _int_to_pointer


def _int_to_pointer(context, builder, signature, args):
    return builder.inttoptr(args[0], context.get_value_type(signature.return_type))


@intrinsic
def call(typingctx, function, first, second, third):
    """Call the C function at address `function` with three pointers; what it returns, a word or a pointer, as int64."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        target = builder.inttoptr(args[0], ir.FunctionType(word, [word] * 3).as_pointer())
        return builder.call(target, args[1:])

    return types.int64(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def call_with_five(typingctx, function, first, second, third, fourth, fifth):
    """`call` of a function with five parameters."""

    def codegen(context, builder, signature, args):
        word = ir.IntType(64)
        target = builder.inttoptr(args[0], ir.FunctionType(word, [word] * 5).as_pointer())
        return builder.call(target, args[1:])

    return types.int64(*[types.intp] * 6), codegen


@intrinsic
def address_of(typingctx, pointer):
    """Address of a ``void *`` that a C caller handed over, as an integer."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.intp(pointer), codegen


def _element(context, builder, array_type, array, index):
    """Pointer to element `index` of a one-dimensional int64 array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def load_acquire(typingctx, array, index):
    """``array[index]`` of an int64 array; what the other thread wrote before its `store_release` is seen after it."""

    def codegen(context, builder, signature, args):
        return builder.load_atomic(_element(context, builder, signature.args[0], *args), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def store_release(typingctx, array, index, value):
    """``array[index] = value`` of an int64 array, after everything that this thread wrote before it."""

    def codegen(context, builder, signature, args):
        target = _element(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], target, "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen
