"""What tests share: sentences about rnnc.torch, checked against eager PyTorch."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


LEAKY = """
network leaky {
    input x : vector(5)
    h = tanh(dense(x; 7) + diag(h[t-1]))
    c = 0.9 * c[t-1] + h * h[t-2]
    start c = learned
    y = dense(h, c; 3)
    output y
}
"""


def leaky(weights, x, state=None, resets=None):
    """The same in eager PyTorch: output and state (h of two frames, c)."""
    streams = x.shape[1]
    start = weights["c.start"].expand(streams, 7)
    if state is None:
        older = newer = torch.zeros(streams, 7)
        c = start
    else:
        (older, newer), c = state[0].unbind(0), state[1]
    ys = []
    for t in range(len(x)):
        if resets is not None:
            begins = resets[t].unsqueeze(-1)
            newer, older = newer.masked_fill(begins, 0), older.masked_fill(begins, 0)
            c = torch.where(begins, start, c)
        h = torch.tanh(x[t] @ weights["h.W.x"].T + weights["h.bias"] + weights["h.diag.h[t-1]"] * newer)
        c = 0.9 * c + h * older
        newer, older = h, newer
        ys.append(h @ weights["y.W.h"].T + c @ weights["y.W.c"].T + weights["y.bias"])
    return torch.stack(ys), (torch.stack([older, newer]), c)


def close(a, b, tolerance=1e-5):
    """Whether two nests of tensors agree to so much of the largest number."""
    if isinstance(a, torch.Tensor):
        assert a.shape == b.shape, (a.shape, b.shape)
        assert a.dtype == b.dtype
        scale = max(1.0, b.detach().abs().max().item()) if b.numel() else 1.0
        error = (a.detach() - b.detach()).abs().max().item() if b.numel() else 0.0
        assert error <= tolerance * scale, f"off by {error} of {scale}"
        return
    assert len(a) == len(b)
    for one, other in zip(a, b):
        close(one, other, tolerance)
