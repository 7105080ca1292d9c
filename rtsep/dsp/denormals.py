"""Denormal numbers off, for the calling thread.

A recurrent net that fades to silence ends in denormals, on which a CPU computes a hundred times slower. ONNX Runtime
switches them off only in the thread that opened the first session and in threads that it started later, so compiled
code has to do it in its own thread.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_X86_FTZ_DAZ = 0x8040
_ARM_FZ = 1 << 24


@intrinsic
def flush_denormals(typingctx):
    """Treat denormals as zero from now on in this thread; about 5 ns [compiled code of any thread].

    Nothing on other CPUs than x86 and ARM64.
    """

    def codegen(context, builder, signature, args):
        triple = builder.module.triple
        if triple.startswith("x86_64"):
            _x86(builder)
        elif triple.startswith(("aarch64", "arm64")):
            _arm(builder)
        return context.get_dummy_value()

    return types.void(), codegen


def _x86(builder) -> None:
    i32 = ir.IntType(32)
    access = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
    slot = cgutils.alloca_once(builder, i32)
    pointer = builder.bitcast(slot, ir.IntType(8).as_pointer())
    builder.call(cgutils.get_or_insert_function(builder.module, access, "llvm.x86.sse.stmxcsr"), [pointer])
    builder.store(builder.or_(builder.load(slot), ir.Constant(i32, _X86_FTZ_DAZ)), slot)
    builder.call(cgutils.get_or_insert_function(builder.module, access, "llvm.x86.sse.ldmxcsr"), [pointer])


def _arm(builder) -> None:
    i64 = ir.IntType(64)
    get = cgutils.get_or_insert_function(builder.module, ir.FunctionType(i64, []), "llvm.aarch64.get.fpcr")
    put = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [i64]), "llvm.aarch64.set.fpcr")
    builder.call(put, [builder.or_(builder.call(get, []), ir.Constant(i64, _ARM_FZ))])
