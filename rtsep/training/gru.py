"""A GRU over long sequences that trains fast on one CPU thread.

torch's own adds up the gradient of the weights at each of a thousand steps. Here only what truly depends on the step
before is done step by step (four operations on the way back); the rest are single operations over all frames.
The cell is torch's (`torch.nn.GRU`, one layer), with the same weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Recurrence(torch.autograd.Function):
    """What depends on the step before: h_t of r, z and n of x_t and h_(t-1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, start: Tensor) -> Tensor:  # type: ignore[override]
        """States (T, B, H) of products of the input x (T, B, 3 H), recurrent weight (3 H, H) and bias (3 H).

        `start` is (H) or (B, H).
        """
        t, b, size = x.shape
        h = size // 3
        states = x.new_empty(t + 1, b, h)
        states[0] = start
        gates, recurrent = x.new_empty(t, b, 2 * h), x.new_empty(t, b, size)
        new = x.new_empty(t, b, h)
        turned = weight.t().contiguous()
        rows = zip(
            states.unbind(0),
            states[1:].unbind(0),
            recurrent.unbind(0),
            recurrent[..., : 2 * h].unbind(0),
            recurrent[..., 2 * h :].unbind(0),
            x[..., : 2 * h].unbind(0),
            x[..., 2 * h :].unbind(0),
            gates.unbind(0),
            gates[..., :h].unbind(0),
            gates[..., h:].unbind(0),
            new.unbind(0),
            strict=False,
        )
        for before, after, product, product_rz, product_n, x_rz, x_n, rz, r, z, n in rows:
            torch.addmm(bias, before, turned, out=product)
            torch.add(x_rz, product_rz, out=rz).sigmoid_()
            torch.addcmul(x_n, r, product_n, out=n).tanh_()
            torch.lerp(n, before, z, out=after)
        ctx.save_for_backward(weight, states, gates, recurrent, new)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
        """Gradients of x, weight and bias; the start is taken as given."""
        weight, states, gates, recurrent, new = ctx.saved_tensors
        t, b, h = new.shape
        r, z = gates[..., :h], gates[..., h:]
        into_n = (1 - z) * (1 - new * new)
        into_r = into_n * recurrent[..., 2 * h :] * r * (1 - r)
        into_z = (states[:-1] - new) * z * (1 - z)
        factor = torch.stack([into_r, into_z, into_n * r], 2)  # (T, B, 3, H): of the recurrent products
        total = grad.contiguous().clone()
        through = torch.empty_like(factor)
        flat = through.view(t, b, 3 * h)
        keep = torch.empty_like(z[0])
        rows = zip(total.unbind(0), factor.unbind(0), through.unbind(0), flat.unbind(0), z.unbind(0), strict=True)
        previous = [None, *total.unbind(0)[:-1]]
        for (now, f, out, out_flat, stay), before in zip(reversed(list(rows)), reversed(previous), strict=True):
            torch.mul(now[:, None], f, out=out)
            if before is not None:
                torch.mul(now, stay, out=keep)
                before.add_(keep).addmm_(out_flat, weight)
        grad_weight = flat.reshape(t * b, -1).t() @ states[:-1].reshape(t * b, h)
        grad_bias = flat.sum((0, 1))
        grad_x = torch.cat([flat[..., : 2 * h], total * into_n], -1)
        return grad_x, grad_weight, grad_bias, None


def run(layer: nn.GRU, x: Tensor, start: Tensor | None = None) -> Tensor:
    """States (T, B, H) of a one-layer GRU for the inputs (T, B, C), from `start` (H) or (B, H), or zeros.

    The recurrence is in the precision of the weights, also under autocast: the state must keep small changes.
    """
    wide = layer.weight_hh_l0.dtype
    if start is None:
        start = layer.weight_hh_l0.new_zeros(layer.hidden_size)
    if x.is_cuda or not torch.is_grad_enabled():
        with torch.autocast(x.device.type, enabled=False):
            return layer(x.to(wide), start.expand(1, x.shape[1], -1).contiguous())[0]
    products = nn.functional.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).to(wide)
    with torch.autocast(x.device.type, enabled=False):
        return _Recurrence.apply(products, layer.weight_hh_l0, layer.bias_hh_l0, start)  # type: ignore[no-untyped-call, no-any-return]
