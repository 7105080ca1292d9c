"""What JACK's own threads run: compiled callbacks on one array of words, which never meet the interpreter's lock."""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from llvmlite import ir
from numba import carray, cfunc, types
from numba.extending import intrinsic

from rtsep.io.tick import CONTEXT_SIZE, FREEWHEEL, tick
from rtsep.native import float_pointer, int_pointer, load_acquire, store_release

# Words of the array that the callbacks share with the driver. IN and OUT take two words each: addresses of ports, or 0.
CONTEXT, GET_BUFFER, IN, OUT = 0, 1, 2, 4
CYCLES, FRAMES, XRUNS, DOWN, BLOCKSIZE, SAMPLERATE, FREEWHEELING = range(8, 15)
WORDS = 16


@intrinsic
def port_buffer(typingctx, function, port, frames):
    """``jack_port_get_buffer`` called by its address, so that this module loads without libjack."""

    def codegen(context, builder, signature, args):
        word, count = ir.IntType(64), ir.IntType(32)
        target = builder.inttoptr(args[0], ir.FunctionType(word, [word, count]).as_pointer())
        return builder.call(target, [args[1], builder.trunc(args[2], count)])

    return types.intp(types.intp, types.intp, types.int64), codegen


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def on_process(frames, arg):
    """One cycle: port buffers by address, then the tick; silence while there is no stream [audio thread]."""
    state = carray(int_pointer(arg), WORDS)
    count = types.int64(frames)
    in0 = port_buffer(state[GET_BUFFER], state[IN], count) if state[IN] != 0 else 0
    in1 = port_buffer(state[GET_BUFFER], state[IN + 1], count) if state[IN + 1] != 0 else 0
    out0 = port_buffer(state[GET_BUFFER], state[OUT], count) if state[OUT] != 0 else 0
    out1 = port_buffer(state[GET_BUFFER], state[OUT + 1], count) if state[OUT + 1] != 0 else 0
    context = load_acquire(state, CONTEXT)
    if context != 0:
        tick(context, in0, in1, 1, out0, out1, 1, count)
    else:
        if out0 != 0:
            carray(float_pointer(out0), count)[:] = 0.0
        if out1 != 0:
            carray(float_pointer(out1), count)[:] = 0.0
    state[FRAMES] = count
    store_release(state, CYCLES, state[CYCLES] + 1)
    return 0


@cfunc(types.int32(types.intp), cache=True)
def on_xrun(arg):
    """Count a late or lost cycle."""
    state = carray(int_pointer(arg), WORDS)
    store_release(state, XRUNS, state[XRUNS] + 1)
    return 0


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def on_blocksize(frames, arg):
    """Note the new period."""
    store_release(carray(int_pointer(arg), WORDS), BLOCKSIZE, types.int64(frames))
    return 0


@cfunc(types.int32(types.uint32, types.intp), cache=True)
def on_samplerate(rate, arg):
    """Note the new rate."""
    store_release(carray(int_pointer(arg), WORDS), SAMPLERATE, types.int64(rate))
    return 0


@cfunc(types.void(types.int32, types.intp), cache=True)
def on_freewheel(starting, arg):
    """Tell the stream that cycles come as fast as they are done, or no longer."""
    state = carray(int_pointer(arg), WORDS)
    context = load_acquire(state, CONTEXT)
    if context != 0:
        store_release(carray(int_pointer(context), CONTEXT_SIZE), FREEWHEEL, types.int64(starting))
    store_release(state, FREEWHEELING, types.int64(starting))


@cfunc(types.void(types.int32, types.intp, types.intp), cache=True)
def on_shutdown(code, reason, arg):
    """Note that the server has gone."""
    store_release(carray(int_pointer(arg), WORDS), DOWN, types.int64(1))


@cfunc(types.void(types.intp), cache=True)
def ignore_message(text):
    """Libjack prints each failed attempt to the terminal; what matters comes back as an error code."""
