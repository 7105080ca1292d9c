"""A GRU along the bands of one frame, upwards and downwards, with its numbers in the processor's registers and cache.

The nets of the live family spend nearly half of their time in a few dozen steps of 32 units. ONNX Runtime's own GRU
calls a general matrix product for each of them; here the sizes are known while the code is compiled.
[any thread; nothing here allocates or waits]

Method: Cho and others, Learning phrase representations using RNN encoder-decoder, 2014, in the form of the ONNX
operator GRU with ``linear_before_reset``.

Shapes: K bands, I inputs, U units; gates in the operator's order: update, reset, new.
"""

# mypy: disable-error-code="no-untyped-def, misc"

from __future__ import annotations

from numba import carray, cfunc, njit, types

from rtsep.dsp.activations import sigmoid, tanh
from rtsep.native import call, call_with_five, float_pointer, int_pointer

#: Units each way.
UNITS = 32
#: Inputs are taken so many at a time.
STRIDE = 4
_GATES, _WIDTH = 3 * UNITS, 6 * UNITS

# Words of a kernel: ONNX Runtime's functions, two places that they write to, sizes, addresses of arrays, and the shape
# of the output.
GET_INPUT, GET_OUTPUT, GET_DATA, VALUE, DATA, BANDS, INPUTS, INTO, INTO_BIAS, THROUGH, THROUGH_BIAS = range(11)
PRODUCTS, GATES, STATE, SHAPE = range(11, 15)
WORDS = SHAPE + 4

_FAST = {"contract", "reassoc", "arcp", "nsz"}  # a NaN stays one


_MATRIX, _VECTOR = types.float32[:, ::1], types.float32[::1]


@njit(types.void(_MATRIX, _MATRIX, _VECTOR, _MATRIX), fastmath=_FAST, error_model="numpy", nogil=True, cache=True)
def project(inputs, weight, bias, products):
    """``inputs @ weight + bias``: (K, I), (I, 6 U), (6 U,) to (K, 6 U), four bands and four inputs at a time."""
    bands, size = inputs.shape
    for k in range(bands):
        for j in range(_WIDTH):
            products[k, j] = bias[j]
    whole = bands // STRIDE * STRIDE
    for k in range(0, whole, STRIDE):
        pa, pb, pc, pd = products[k], products[k + 1], products[k + 2], products[k + 3]
        for i in range(0, size, STRIDE):
            a0, a1, a2, a3 = inputs[k, i], inputs[k, i + 1], inputs[k, i + 2], inputs[k, i + 3]
            b0, b1, b2, b3 = inputs[k + 1, i], inputs[k + 1, i + 1], inputs[k + 1, i + 2], inputs[k + 1, i + 3]
            c0, c1, c2, c3 = inputs[k + 2, i], inputs[k + 2, i + 1], inputs[k + 2, i + 2], inputs[k + 2, i + 3]
            d0, d1, d2, d3 = inputs[k + 3, i], inputs[k + 3, i + 1], inputs[k + 3, i + 2], inputs[k + 3, i + 3]
            for j in range(_WIDTH):
                w0, w1, w2, w3 = weight[i, j], weight[i + 1, j], weight[i + 2, j], weight[i + 3, j]
                pa[j] += a0 * w0 + a1 * w1 + a2 * w2 + a3 * w3
                pb[j] += b0 * w0 + b1 * w1 + b2 * w2 + b3 * w3
                pc[j] += c0 * w0 + c1 * w1 + c2 * w2 + c3 * w3
                pd[j] += d0 * w0 + d1 * w1 + d2 * w2 + d3 * w3
    for k in range(whole, bands):
        row = products[k]
        for i in range(0, size, STRIDE):
            a0, a1, a2, a3 = inputs[k, i], inputs[k, i + 1], inputs[k, i + 2], inputs[k, i + 3]
            for j in range(_WIDTH):
                row[j] += a0 * weight[i, j] + a1 * weight[i + 1, j] + a2 * weight[i + 2, j] + a3 * weight[i + 3, j]


@njit(
    types.void(_MATRIX, types.float32[:, :, ::1], _MATRIX, _MATRIX, _MATRIX, types.float32[:, :, ::1]),
    fastmath=_FAST,
    error_model="numpy",
    nogil=True,
    cache=True,
)
def along(products, weight, bias, gates, state, out):
    """Both ways from products (K, 6 U), with weight (2, U, 3 U) and bias (2, 3 U) of the states, to out (K, 2, U).

    `gates` (2, 3 U) and `state` (2, U) are memory to work in; every call begins with a state of zeros.
    """
    bands = products.shape[0]
    state[:] = 0.0
    for step in range(bands):
        for way in range(2):
            k = step if way == 0 else bands - 1 - step
            g, h, w, b = gates[way], state[way], weight[way], bias[way]
            p, o = products[k, _GATES * way : _GATES * way + _GATES], out[k, way]
            for j in range(_GATES):
                g[j] = b[j]
            for i in range(0, UNITS, 8):
                a0, a1, a2, a3, a4, a5, a6, a7 = (
                    h[i],
                    h[i + 1],
                    h[i + 2],
                    h[i + 3],
                    h[i + 4],
                    h[i + 5],
                    h[i + 6],
                    h[i + 7],
                )
                for j in range(_GATES):
                    g[j] += (
                        (a0 * w[i, j] + a1 * w[i + 1, j] + a2 * w[i + 2, j] + a3 * w[i + 3, j])
                        + (a4 * w[i + 4, j] + a5 * w[i + 5, j] + a6 * w[i + 6, j] + a7 * w[i + 7, j])
                    )  # fmt: skip
            for j in range(2 * UNITS):
                g[j] = sigmoid(p[j] + g[j])
            for u in range(UNITS):
                new = tanh(p[2 * UNITS + u] + g[UNITS + u] * g[2 * UNITS + u])
                after = new + g[u] * (h[u] - new)
                h[u] = after
                o[u] = after


@cfunc(types.int64(types.intp, types.intp), cache=True)
def compute(kernel, context):
    """``KernelComputeV2`` of the operator: 0, or the address of an `OrtStatus` [the thread that runs the net]."""
    words = carray(int_pointer(kernel), WORDS)
    value, data = kernel + 8 * VALUE, kernel + 8 * DATA
    status = call(words[GET_INPUT], context, 0, value)
    if status == 0:
        status = call(words[GET_DATA], words[VALUE], data, 0)
    if status != 0:
        return status
    bands, size = words[BANDS], words[INPUTS]
    inputs = carray(float_pointer(words[DATA]), (bands, size))
    products = carray(float_pointer(words[PRODUCTS]), (bands, _WIDTH))
    project(
        inputs,
        carray(float_pointer(words[INTO]), (size, _WIDTH)),
        carray(float_pointer(words[INTO_BIAS]), (_WIDTH,)),
        products,
    )
    status = call_with_five(words[GET_OUTPUT], context, 0, kernel + 8 * SHAPE, 4, value)
    if status == 0:
        status = call(words[GET_DATA], words[VALUE], data, 0)
    if status != 0:
        return status
    along(
        products,
        carray(float_pointer(words[THROUGH]), (2, UNITS, _GATES)),
        carray(float_pointer(words[THROUGH_BIAS]), (2, _GATES)),
        carray(float_pointer(words[GATES]), (2, _GATES)),
        carray(float_pointer(words[STATE]), (2, UNITS)),
        carray(float_pointer(words[DATA]), (bands, 2, UNITS)),
    )
    return 0
