"""The halves of a block of the path by bands (`rtsep.training.nets.bands`), fast to train on one CPU thread.

Step by step, such a block spends its time on reading and writing maps of many megabytes. Here a few frames, or a few
bands, go through a whole half at once and stay in the processor's cache; nothing is kept for the way back but the
input, and what it needs is computed anew (Chen and others, Training deep nets with sublinear memory cost, 2016).

Shapes: T frames, B sequences, K bands, W numbers a band, H units each way, S numbers remembered; f frames in a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from rtsep.dsp.activations import sigmoid, tanh

FRAMES = 16  # that go along the bands together
COLUMNS = 4  # bands that go through time together
EPSILON = 1e-5  # torch's, of a layer normalisation

# mypy: disable-error-code="no-untyped-def, misc, no-untyped-call"


@njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _both_ways(products, weight, bias, states, gates):
    """GRU upwards and downwards: products (K, f, 6 H) of inputs; weight (2, H, 3 H) and bias (2, 3 H) of the states.

    Fills states (K, f, 2 H) and gates (4, K, f, 2 H): r, z, n, and the product that r lets through.
    """
    bands, frames = products.shape[:2]
    units = weight.shape[1]
    h, q = np.empty((frames, units), np.float32), np.empty((frames, 3 * units), np.float32)
    for way in range(2):
        h[:] = 0.0
        of, at = 3 * units * way, units * way
        for step in range(bands):
            k = step if way == 0 else bands - 1 - step
            np.dot(h, weight[way], q)
            for i in range(frames):
                p, w, now, b = products[k, i], q[i], h[i], bias[way]
                s = states[k, i]
                r_out, z_out, n_out, q_out = gates[0, k, i], gates[1, k, i], gates[2, k, i], gates[3, k, i]
                for u in range(units):
                    r = sigmoid(p[of + u] + w[u] + b[u])
                    z = sigmoid(p[of + units + u] + w[units + u] + b[units + u])
                    passed = w[2 * units + u] + b[2 * units + u]
                    n = tanh(p[of + 2 * units + u] + r * passed)
                    after = n + z * (now[u] - n)
                    now[u] = after
                    s[at + u] = after
                    r_out[at + u], z_out[at + u], n_out[at + u], q_out[at + u] = r, z, n, passed


@njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _both_back(grad, weight, states, gates, into, through, before):
    """The way back of `_both_ways` from grad (K, f, 2 H) with weight (2, 3 H, H).

    Fills the gradients `into` (K, f, 6 H) of the products of inputs and `through` (2, K, f, 3 H) of those of states,
    and the states `before` (2, K, f, H) each step.
    """
    bands, frames = grad.shape[:2]
    units = weight.shape[2]
    carry, more = np.empty((frames, units), np.float32), np.empty((frames, units), np.float32)
    one = np.float32(1.0)
    for way in range(2):
        carry[:] = 0.0
        of, at = 3 * units * way, units * way
        for step in range(bands - 1, -1, -1):
            k = step if way == 0 else bands - 1 - step
            last = k - 1 if way == 0 else k + 1
            before[way, k] = 0.0
            if step:
                before[way, k] = states[last, :, at : at + units]
            c, b, n_h = carry, before[way, k], through[way, k, :, 2 * units :]
            g, r, z = grad[k, :, at : at + units], gates[0, k, :, at : at + units], gates[1, k, :, at : at + units]
            n, q, x = gates[2, k, :, at : at + units], gates[3, k, :, at : at + units], into[k, :, of : of + 3 * units]
            x_r, x_z, x_n = x[:, :units], x[:, units : 2 * units], x[:, 2 * units :]
            for i in range(frames):  # short loops: with all in one the compiler finds no vectors
                for u in range(units):
                    c[i, u] += g[i, u]
                for u in range(units):
                    x_n[i, u] = c[i, u] * (one - z[i, u]) * (one - n[i, u] * n[i, u])
                for u in range(units):
                    x_z[i, u] = c[i, u] * (b[i, u] - n[i, u]) * z[i, u] * (one - z[i, u])
                for u in range(units):
                    x_r[i, u] = x_n[i, u] * q[i, u] * r[i, u] * (one - r[i, u])
                for u in range(units):
                    n_h[i, u] = x_n[i, u] * r[i, u]
                for u in range(units):
                    c[i, u] *= z[i, u]
            through[way, k, :, : 2 * units] = x[:, : 2 * units]
            if step:
                np.dot(through[way, k], weight[way], more)
                carry += more


@njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _means(values, start, states):
    """Gated running means: values (T, n, 2 S) become gates and new values; states (T + 1, n, S) begin with `start`."""
    size = start.shape[1]
    states[0] = start
    for t in range(len(values)):
        for i in range(values.shape[1]):
            gate, new = values[t, i, :size], values[t, i, size:]
            before, after = states[t, i], states[t + 1, i]
            for u in range(size):
                gate[u] = sigmoid(gate[u])
            for u in range(size):
                new[u] = tanh(new[u])
            for u in range(size):
                after[u] = new[u] + gate[u] * (before[u] - new[u])


@njit(cache=True, fastmath=True, nogil=True, error_model="numpy")
def _means_back(grad, values, states):
    """The way back of `_means`: grad (T, n, S) of the states; values (T, n, 2 S) become their gradients."""
    size = states.shape[2]
    one = np.float32(1.0)
    carry = np.zeros(states.shape[1:], np.float32)
    for t in range(len(values) - 1, -1, -1):
        for i in range(values.shape[1]):
            v, g, before, c = values[t, i], grad[t, i], states[t, i], carry[i]
            for u in range(size):
                z, n, total = v[u], v[size + u], g[u] + c[u]
                kept = total * z
                c[u] = kept
                v[u] = (before[u] - n) * kept * (one - z)
                v[size + u] = (one - z) * total * (one - n * n)


def _array(x: Tensor) -> NDArray[np.float32]:
    return x.numpy()  # type: ignore[no-any-return]


class _Tile:
    """Room for the frames of one tile on their way along the bands."""

    def __init__(self, bands: int, frames: int, units: int) -> None:
        self.states = torch.empty(bands, frames, 2 * units)
        self.gates = torch.empty(4, bands, frames, 2 * units)
        self.into = torch.empty(bands, frames, 6 * units)
        self.through = torch.empty(2, bands, frames, 3 * units)
        self.before = torch.empty(2, bands, frames, units)


class _Along(torch.autograd.Function):
    """Frames (M, K, W), then weights as `along` gathers them; adds what a GRU finds each way along the bands."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:  # type: ignore[override]
        """Frames of the same shape."""
        ctx.save_for_backward(x, *weights)
        gain, seen, bias, kept, kept_bias, joined, joined_bias = weights
        (m, k, w), units = x.shape, kept.shape[2]
        out, turned = torch.empty_like(x), _array(kept.transpose(1, 2).contiguous())
        for at in range(0, m, FRAMES):
            part = x[at : at + FRAMES]
            tile = _Tile(k, len(part), units)
            rows = part.transpose(0, 1).reshape(-1, w)
            y = torch.native_layer_norm(rows, (w,), gain, None, EPSILON)[0]
            products = torch.addmm(bias, y, seen.t()).view(k, len(part), -1)
            _both_ways(_array(products), turned, _array(kept_bias), _array(tile.states), _array(tile.gates))
            found = torch.addmm(joined_bias, tile.states.view(-1, 2 * units), joined.t())
            torch.add(part, found.view(k, len(part), w).transpose(0, 1), out=out[at : at + FRAMES])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Gradients of the frames and of all weights."""
        x, *weights = ctx.saved_tensors
        gain, seen, bias, kept, kept_bias, joined, _ = weights
        (_, k, w), units = x.shape, kept.shape[2]
        turned, dx = _array(kept.transpose(1, 2).contiguous()), torch.empty_like(x)
        d_gain, d_seen, d_bias, d_kept, d_kept_bias, d_joined, d_joined_bias = (torch.zeros_like(p) for p in weights)
        for at in range(0, len(x), FRAMES):
            part, g = x[at : at + FRAMES], grad[at : at + FRAMES]
            tile, f = _Tile(k, len(part), units), len(part)
            rows = part.transpose(0, 1).reshape(-1, w)
            y, mean, inverse = torch.native_layer_norm(rows, (w,), gain, None, EPSILON)
            products = torch.addmm(bias, y, seen.t()).view(k, f, -1)
            _both_ways(_array(products), turned, _array(kept_bias), _array(tile.states), _array(tile.gates))
            turn = g.transpose(0, 1).reshape(-1, w)
            d_joined.addmm_(turn.t(), tile.states.view(-1, 2 * units))
            d_joined_bias += turn.sum(0)
            d_states = (turn @ joined).view(k, f, -1)
            _both_back(
                *(_array(t) for t in (d_states, kept, tile.states, tile.gates, tile.into, tile.through, tile.before))
            )
            into = tile.into.view(k * f, -1)
            for way in range(2):
                through = tile.through[way].view(k * f, -1)
                d_kept[way].addmm_(through.t(), tile.before[way].view(k * f, -1))
                d_kept_bias[way] += through.sum(0)
            d_seen.addmm_(into.t(), y)
            d_bias += into.sum(0)
            d_rows, d_part, _ = torch.ops.aten.native_layer_norm_backward(
                into @ seen, rows, (w,), mean, inverse, gain, None, (True, True, False)
            )
            d_gain += d_part
            torch.add(g, d_rows.view(k, f, w).transpose(0, 1), out=dx[at : at + FRAMES])
        return dx, d_gain, d_seen, d_bias, d_kept, d_kept_bias, d_joined, d_joined_bias


class _Remembered(torch.autograd.Function):
    """Bands (T, N, W), the memory before (N, S), weights as `remembered` gathers them; adds what the memory tells."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, start: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Bands of the same shape and the memory after."""
        ctx.save_for_backward(x, start, *weights)
        gain, slow, bias, known, known_bias = weights
        (t, n, w), size = x.shape, start.shape[1]
        out, end = torch.empty_like(x), torch.empty_like(start)
        for at in range(0, n, COLUMNS):
            cut = slice(at, min(at + COLUMNS, n))
            rows = x[:, cut].reshape(-1, w)
            values, states = _states(rows, start[cut], gain, slow, bias, t)[2:]
            torch.add(
                x[:, cut], torch.addmm(known_bias, states[1:].view(-1, size), known.t()).view(t, -1, w), out=out[:, cut]
            )
            end[cut] = states[-1]
        ctx.mark_non_differentiable(end)
        return out, end

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Gradients of the bands and of all weights; the start is taken as given."""
        x, start, *weights = ctx.saved_tensors
        gain, slow, bias, known, _ = weights
        (t, n, w), size = x.shape, start.shape[1]
        dx = torch.empty_like(x)
        d_gain, d_slow, d_bias, d_known, d_known_bias = (torch.zeros_like(p) for p in weights)
        for at in range(0, n, COLUMNS):
            cut = slice(at, min(at + COLUMNS, n))
            rows = x[:, cut].reshape(-1, w)
            y, norm, values, states = _states(rows, start[cut], gain, slow, bias, t)
            g = grad[:, cut].reshape(-1, w)
            d_known.addmm_(g.t(), states[1:].view(-1, size))
            d_known_bias += g.sum(0)
            _means_back(_array((g @ known).view(t, -1, size)), _array(values), _array(states))
            turned = values.view(-1, 2 * size)
            d_slow.addmm_(turned.t(), y)
            d_bias += turned.sum(0)
            d_rows, d_part, _ = torch.ops.aten.native_layer_norm_backward(
                turned @ slow, rows, (w,), *norm, gain, None, (True, True, False)
            )
            d_gain += d_part
            dx[:, cut] = (g + d_rows).view(t, -1, w)
        return dx, None, d_gain, d_slow, d_bias, d_known, d_known_bias


def _states(
    rows: Tensor, start: Tensor, gain: Tensor, slow: Tensor, bias: Tensor, frames: int
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor, Tensor]:
    """Of bands (T n, W): normalised, by what; gates and new values (T, n, 2 S), states (T + 1, n, S)."""
    y, mean, inverse = torch.native_layer_norm(rows, rows.shape[1:], gain, None, EPSILON)
    values = torch.addmm(bias, y, slow.t()).view(frames, len(start), -1)
    states = torch.empty(frames + 1, *start.shape)
    _means(_array(values), _array(start), _array(states))
    return y, (mean, inverse), values, states


def along(x: Tensor, norm: nn.LayerNorm, ways: tuple[nn.GRU, nn.GRU], joined: nn.Linear) -> Tensor:
    """Bands x (T, B, K, W) float32 and what a GRU upwards and one downwards find in them."""
    seen, bias, kept, kept_bias = (
        [getattr(way, f"{name}_l0") for way in ways] for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
    )
    frames = x.contiguous().flatten(0, 1)
    weights = (torch.cat(seen), torch.cat(bias), torch.stack(kept), torch.stack(kept_bias))
    return _Along.apply(frames, norm.weight, *weights, joined.weight, joined.bias).view(x.shape)  # type: ignore[no-any-return]


def remembered(
    x: Tensor, start: Tensor, norm: nn.LayerNorm, slow: nn.Linear, known: nn.Linear
) -> tuple[Tensor, Tensor]:
    """Bands x (T, B, K, W) float32 and what their memory (B, K, S) tells; the memory after them."""
    first = start.detach().float().expand(x.shape[1], x.shape[2], -1).flatten(0, 1).contiguous()
    weights = (norm.weight, slow.weight, slow.bias, known.weight, known.bias)
    out, end = _Remembered.apply(x.contiguous().flatten(1, 2), first, *weights)
    return out.view(x.shape), end.view(x.shape[1], x.shape[2], -1)
