"""Recurrent cells as people write them, for the tests of tracing: what each takes is in `CELLS`."""

from __future__ import annotations

import math
from typing import Any, Callable, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Case(NamedTuple):
    """A cell, and what it is traced with."""

    make: Callable[[], nn.Module]
    inputs: Any
    state: Any
    options: dict[str, Any] = {}


CELLS: dict[str, Case] = {}


def case(inputs: Any, state: Any, *arguments: Any, **options: Any) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def enter(cell: type[nn.Module]) -> type[nn.Module]:
        CELLS[cell.__name__] = Case(lambda: cell(*arguments), inputs, state, options)
        return cell

    return enter


CELLS["nn.LSTMCell"] = Case(lambda: nn.LSTMCell(5, 6), [5], [6, 6])
CELLS["nn.LSTMCell without bias"] = Case(lambda: nn.LSTMCell(5, 6, bias=False), [5], [6, 6])
CELLS["nn.GRUCell"] = Case(lambda: nn.GRUCell(5, 6), [5], [6])
CELLS["nn.RNNCell"] = Case(lambda: nn.RNNCell(5, 6), [5], 6)
CELLS["nn.RNNCell with relu"] = Case(lambda: nn.RNNCell(5, 6, nonlinearity="relu"), [5], [6])


@case([5], [6, 6], 5, 6)
class OneMatrixLSTM(nn.Module):
    def __init__(self, i: int, n: int):
        super().__init__()
        self.W = nn.Linear(i + n, 4 * n)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
        i, f, g, o = self.W(torch.cat([x, h], -1)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return h, (h, c)


@case([5], [6, 6])
class PeepholeLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x2h, self.h2h = nn.Linear(5, 24), nn.Linear(6, 24, bias=False)
        self.peep = nn.Parameter(torch.randn(3, 6) * 0.3)

    def forward(self, x: Tensor, h_prev: Tensor, c_prev: Tensor) -> Any:
        gates = self.x2h(x) + self.h2h(h_prev)
        i, f, g, o = gates.split(6, dim=1)
        i = torch.sigmoid(i + self.peep[0] * c_prev)
        f = torch.sigmoid(f + self.peep[1] * c_prev)
        c = f * c_prev + i * torch.tanh(g)
        o = torch.sigmoid(o + self.peep[2] * c)
        h = o * torch.tanh(c)
        return h, h, c


@case([5], [(6, 6)])
class LayerNormLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(5, 24, bias=False), nn.Linear(6, 24, bias=False)
        self.ln_x, self.ln_h, self.ln_c = nn.LayerNorm(24), nn.LayerNorm(24), nn.LayerNorm(6, eps=1e-3)

    def forward(self, x: Tensor, hc: Any) -> Any:
        h, c = hc
        i, f, g, o = torch.chunk(self.ln_x(self.ih(x)) + self.ln_h(self.hh(h)), 4, dim=1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.ln_c(c))
        return h, (h, c)


@case([5], [6])
class IndRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(5, 6)
        self.u = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return F.relu(self.w(x) + self.u * h)


@case([5], [6])
class MinGRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_hidden_and_gate = nn.Linear(5, 12, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        hidden, gate = self.to_hidden_and_gate(x).chunk(2, dim=-1)
        hidden = torch.where(hidden >= 0, hidden + 0.5, hidden.sigmoid()) if False else F.softplus(hidden)
        return (h := torch.lerp(h, hidden, gate.sigmoid())), h


@case([6], [6])
class SRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Linear(6, 18)
        self.v = nn.Parameter(torch.randn(2, 6))

    def forward(self, x: Tensor, c: Tensor) -> Any:
        z, f, r = self.W(x).view(-1, 3, 6).unbind(1)
        f = torch.sigmoid(f + self.v[0] * c)
        r = torch.sigmoid(r + self.v[1] * c)
        c = f * c + (1 - f) * z
        return r * c + (1 - r) * x, c


@case([5], [6, 6])
class MultiplicativeLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mx, self.mh = nn.Linear(5, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.x, self.m = nn.Linear(5, 24), nn.Linear(6, 24)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
        m = self.mx(x) * self.mh(h)
        i, f, o, u = (self.x(x) + self.m(m)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * u.tanh()
        return c.tanh() * o.sigmoid(), (c.tanh() * o.sigmoid(), c)


@case([5], [6])
class JANET(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(11, 6), nn.Linear(11, 6)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        kept, candidate = self.parts(torch.hstack((x, h)))
        return kept(0.0) * h + (1 - kept(1.0)) * candidate

    def parts(self, z: Tensor) -> Any:
        """Not all of a step stands in its `forward`."""
        s = self.f(z)
        return lambda beta: torch.sigmoid(s - beta), torch.tanh(self.g(z))


@case([4], torch.Size([3, 4]))
class FastWeights(nn.Module):
    """An outer product a frame, with the delta rule."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x: Tensor, S: Tensor) -> Any:
        q, k = F.softmax(self.q(x), -1), F.normalize(self.k(x), dim=-1)
        old = torch.einsum("bvk,bk->bv", S, k)
        S = S + torch.einsum("bv,bk->bvk", torch.sigmoid(self.b(x)) * (self.v(x) - old), k)
        return torch.bmm(S, q.unsqueeze(-1)).squeeze(-1), S


@case([6], [6])
class RGLRU(nn.Module):
    """Griffin's, whose gates are block diagonal."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 3, 6) * 0.5)
        self.b = nn.Parameter(torch.zeros(2, 6))
        self.a = nn.Parameter(torch.rand(6) + 0.5)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        blocks = x.view(x.shape[0], 2, 3)
        gates = torch.einsum("bhi,hij->bhj", blocks, self.w) + self.b
        r, i = torch.sigmoid(gates).chunk(2, -1)
        log_a = -8.0 * r.reshape(x.shape[0], 6) * F.softplus(self.a)
        a = torch.exp(log_a)
        h = a * h + torch.sqrt(1 - torch.exp(2 * log_a)) * (i.flatten(1) * x)
        return h, h


@case([5], {"h": 6, "c": 6, "n": 6, "m": 6})
class SLSTM(nn.Module):
    """Exponential gates with a stabilizer, heads in the recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Linear(5, 24)
        self.R = nn.Parameter(torch.randn(2, 3, 12) * 0.3)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor) -> Any:
        B = x.size(0)
        rec = torch.bmm(h.view(B, 2, 3).transpose(0, 1), self.R).transpose(0, 1)
        gates = self.W(x) + rec.reshape(B, 2, 4, 3).transpose(1, 2).reshape(B, 24)
        z, i, f, o = gates.chunk(4, 1)
        m_new = torch.maximum(f + m, i)
        i_, f_ = torch.exp(i - m_new), torch.exp(f + m - m_new)
        c = f_ * c + i_ * torch.tanh(z)
        n = f_ * n + i_
        h = torch.sigmoid(o) * c / n
        return h, (h, c, n, m_new)


@case([5], [6, (6, 6)])
class Nested(nn.Module):
    """A cell of cells, with a nested state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.lstm = nn.GRUCell(5, 6), OneMatrixLSTM(6, 6)
        self.mlp = nn.Sequential(nn.Linear(12, 7), nn.GELU(), nn.LayerNorm(7), nn.Dropout(0.3), nn.Linear(7, 3))

    def forward(self, x: Tensor, a: Tensor, hc: Any) -> Any:
        a = self.gru(x, a)
        y, hc = self.lstm(a, *hc)
        return self.mlp(torch.cat((y, a), 1)), (a, hc)


@case([5], [5])
class Tied(nn.Module):
    """One matrix for both, and its transpose for the output."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 5)
        self.b = nn.Linear(5, 5, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.a(x) + self.b(h))
        return h @ self.a.weight, h


@case([5], [6])
class WeightNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
        self.h = nn.utils.parametrizations.orthogonal(nn.Linear(6, 6, bias=False))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.x(x) + self.h(h))


@case([5], [5, 6])
class RemembersInput(nn.Module):
    """One of its states is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(10, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor, last: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.w(torch.cat([x, last], 1)) + self.u(h))
        return h, (x, h)


@case([5], [6, 6])
class TwoStatesAreOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(17, 6)

    def forward(self, x: Tensor, a: Tensor, b: Tensor) -> Any:
        h = self.w(torch.cat([x, a, b], 1)).tanh()
        return h * 2, (h, h)


@case([3], torch.Size([4, 3]))
class ShiftRegister(nn.Module):
    """A convolution over time, of a buffer of four frames."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(12, 5)

    def forward(self, x: Tensor, buffer: Tensor) -> Any:
        buffer = torch.cat([buffer[:, 1:], x.unsqueeze(1)], dim=1)
        return self.w(buffer.flatten(1)), buffer


@case([3], [3, 3])
class TwoFramesAgo(nn.Module):
    def forward(self, x: Tensor, a: Tensor, b: Tensor) -> Any:
        return x - b, (x, a)


@case([5], [6])
class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(5, 6)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        y = h * 0.5
        y += self.w(x)
        y[:, :2] = 0.25
        y[:, 2:4] *= 3
        y.tanh_()
        return y, y


@case([5], [6])
class Functional(nn.Module):
    """Functions that the language has by another name, or as a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(11, 6)
        self.slope = nn.Parameter(torch.tensor([0.3]))

    def forward(self, x: Tensor, h: Tensor) -> Any:
        z = self.w(torch.cat([x, h], -1))
        y = F.leaky_relu(z, 0.2) + F.elu(z, 0.7) - F.prelu(z, self.slope) + F.softsign(z) + F.silu(z) + F.mish(z)
        y = y + F.gelu(z, approximate="tanh") + F.hardtanh(z, -0.5, 2) + F.hardswish(z) + F.selu(z) + F.celu(z, 2.0)
        y = y + F.softplus(z, beta=2) + F.logsigmoid(z) + F.relu6(4 * z) + F.tanhshrink(z)
        y = y + z**2 - z**3 / 7 + (z * z + 1) ** -0.5 + torch.rsqrt(z.square() + 2) + 2**z + torch.expm1(z) + torch.log1p(z * z)
        y = y + torch.sin(z) * torch.cos(z) + z.abs().sqrt() + z.clamp(min=0) + z.clamp(-0.3, 0.4) + torch.where(z > 0, z, 0.1 * z)
        y = y + torch.where(z > h, z, h) + torch.where(z < 0, z, torch.zeros_like(z)) + torch.where(z > 0, z, 0.0)
        y = y + torch.addcmul(z, h, z, value=0.5) + torch.sigmoid(-z) + F.glu(torch.cat([z, h], -1), -1) + torch.logaddexp(z, h)
        y = y + z.logsumexp(-1, keepdim=True) + F.log_softmax(z, -1) + z.norm(dim=-1, keepdim=True) + z.std(-1, keepdim=True)
        y = y + z.var(-1, unbiased=False, keepdim=True) + z.cumsum(-1) + z.amax(-1, keepdim=True) + z.flip(-1) + z.roll(1, -1)
        return y, torch.tanh(y * 0.1)


@case([5], [6, 6])
class Spikes(nn.Module):
    """Leaky integrators that fire, are reset, and rest for a while; and what else goes in steps."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(11, 6)
        self.threshold = nn.Parameter(torch.full((6,), 0.4))

    def forward(self, x: Tensor, v: Tensor, rest: Tensor) -> Any:
        z = self.w(torch.cat([x, v], -1))
        v = torch.where(rest > 0, 0.5 * v, 0.9 * v + z)
        fired = v > self.threshold
        rest = torch.where(fired, torch.full_like(rest, 2.0), (rest - 1).clamp(min=0))
        v = v.masked_fill(fired & ~(z > 2), -0.25) - 0.1 * fired * v
        y = fired.float() * z + torch.remainder(3 * v, 1.0) + torch.where(z.round() == 0, z.erf(), z.atan()) * (z != v)
        return y, (v, rest)


@case([6], torch.Size([2, 3]))
class Grouped(nn.Module):
    """Normalizations of parts, and sums over any dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.GroupNorm(2, 6)
        self.r, self.ln = nn.RMSNorm(3), nn.LayerNorm((2, 3))
        self.plain = nn.LayerNorm(3, elementwise_affine=False)

    def forward(self, x: Tensor, S: Tensor) -> Any:
        z = self.g(x).view(-1, 2, 3)
        a = self.r(z) + self.ln(S) * self.plain(z)
        y = a.softmax(1) + a.softmax(2) + a.mean(1, keepdim=True) + a.sum((1, 2), keepdim=True)
        y = y + a.transpose(1, 2).reshape(-1, 2, 3) + torch.stack([a[:, 1], a[:, 0]], 1) * a.sum(2, keepdim=True)
        return y, torch.tanh(y / 5)


@case([6], torch.Size([2, 3]))
class Attention(nn.Module):
    """Attention of slots over each other, and over the input."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(3, 3), nn.Linear(3, 6)
        self.inp = nn.Linear(6, 3)

    def forward(self, x: Tensor, slots: Tensor) -> Any:
        everything = torch.cat([slots, self.inp(x)[:, None]], 1)
        k, v = self.kv(everything).chunk(2, -1)
        scores = self.q(slots) @ k.transpose(1, 2) / math.sqrt(3)
        slots = slots + torch.softmax(scores, -1) @ v
        return slots.flatten(1), slots.tanh()


@case([5], [6])
class LearnedConstants(nn.Module):
    """Computed with parameters alone: PyTorch does that."""

    def __init__(self) -> None:
        super().__init__()
        self.log_tau = nn.Parameter(torch.zeros(6))
        self.gain = nn.Parameter(torch.tensor(1.5))
        self.W = nn.Parameter(torch.randn(6, 6) * 0.3)
        self.w_in = nn.Parameter(torch.randn(5, 6))
        self.register_buffer("mask", (torch.rand(6, 6) > 0.5).float())
        self.register_buffer("eye", torch.eye(6), persistent=False)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        tau = F.softplus(self.log_tau) + 1
        W = self.W * self.mask - self.eye * 0.1 - torch.triu(self.W).t() * 0.1
        bias = self.log_tau.expand(x.size(0), -1).sigmoid()
        h = h + (-h + self.gain * torch.tanh(h @ W + x @ self.w_in + bias)) / tau
        return h[:, ::2], h


@case(["symbol"], [6])
class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.c = nn.Embedding(3, 4), nn.GRUCell(7, 6)

    def forward(self, s: Tensor, h: Tensor) -> Any:
        h = self.c(torch.cat([self.e(s), F.one_hot(s, 3).float()], -1), h)
        return h, h


@case({"x": 4, "u": 3}, [5], 2)
class SeveralInputsAndOutputs(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.f = nn.Bilinear(4, 3, 5)
        self.g = nn.ModuleList([nn.Linear(5, outputs) for _ in range(2)])

    def forward(self, x: Tensor, u: Tensor, h: Tensor) -> Any:
        h = torch.tanh(self.f(x, u) + 0.5 * h)
        return {"a": self.g[0](h), "b": [self.g[1](h), h]}, h


@case([5], [6], step=lambda module, x, h: tuple(reversed(module.advance(h, x))))
class OtherMethod(nn.Module):
    """Its step is no `forward`, and returns the state first."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(11, 6)

    def advance(self, h: Tensor, x: Tensor) -> Any:
        h = torch.tanh(self.w(torch.cat([h, x], 1)))
        return h, h * h


@case([5], [4, 4, 4])
class Deep(nn.Module):
    """Layers in a loop, as a list."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(5, 4), nn.GRUCell(4, 4), nn.GRUCell(4, 4)])

    def forward(self, x: Tensor, *states: Tensor) -> Any:
        new = []
        for cell, h in zip(self.cells, states):
            x = cell(x, h)
            new.append(x)
        return x, new


@case([5], [torch.Size([2, 4])])
class StackedState(nn.Module):
    """All layers' states in one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.GRUCell(5, 4), nn.GRUCell(4, 4)])

    def forward(self, x: Tensor, h: Tensor) -> Any:
        first = self.cells[0](x, h[:, 0])
        second = self.cells[1](first, h[:, 1])
        return second, torch.stack([first, second], 1)


@case([5], [6])
class Unstopped(nn.Module):
    """Some of its gradient is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(5, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        gate = torch.sigmoid(self.u(h.detach()))
        return gate * h, gate * h + torch.tanh(self.w(x))


@case([4], [6, 6])
class Complex(nn.Module):
    """A complex diagonal as pairs of floats: an LRU."""

    def __init__(self) -> None:
        super().__init__()
        self.nu, self.theta = nn.Parameter(torch.rand(6) - 1), nn.Parameter(torch.rand(6) * 3)
        self.B, self.C = nn.Linear(4, 12, bias=False), nn.Linear(12, 4)

    def forward(self, x: Tensor, re: Tensor, im: Tensor) -> Any:
        size = torch.exp(-torch.exp(self.nu))
        cos, sin = size * torch.cos(self.theta), size * torch.sin(self.theta)
        u, v = self.B(x).chunk(2, -1)
        re, im = cos * re - sin * im + u, sin * re + cos * im + v
        return self.C(torch.cat([re, im], -1)), (re, im)


@case([5], [6])
class NothingButState(nn.Module):
    """The output is last frame's state."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(5, 6)

    def forward(self, x: Tensor, h: Tensor) -> Any:
        return h, h * 0.5 + self.w(x)


@case([4], [])
class NoState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.w(x).softmax(-1)


@case([4], [4, 3])
class BatchNormed(nn.Module):
    """In evaluation, a BatchNorm is a formula. One state never changes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.w = nn.Linear(7, 4)
        self.eval()
        self.norm.running_mean.uniform_()

    def forward(self, x: Tensor, h: Tensor, context: Tensor) -> Any:
        h = torch.tanh(self.norm(self.w(torch.cat([h, context], 1))) + x)
        return h, (h, context + 0.1)
