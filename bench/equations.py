"""The measured layers in PyTorch, frame by frame, as their equations stand in the cell library. Weights are tensors by
rnnc's names. Gates that read the same are one product, and products with the input go over all frames."""

import networks


def network(torch, cell, layers, w, x):
    """The outputs of some layers, one above the other."""
    for name in networks.names(layers):
        prefix = name + "."
        x = CELLS[cell](torch, {key.removeprefix(prefix): v for key, v in w.items() if key.startswith(prefix)}, x)
    return x


def stacked(torch, w, x, gates, inner="W.h[t-1]"):
    """Of some gates: their sums over the inputs, biases included, and their weights of the state."""
    outer, bias = (torch.cat([w[f"{gate}.{name}"] for gate in gates]) for name in ("W.x", "bias"))
    return x @ outer.T + bias, torch.cat([w[f"{gate}.{inner}"] for gate in gates]).T


def zeros(x, size, count):
    return [x.new_zeros(x.shape[1], size) for _ in range(count)]


def lstm(torch, w, x):
    inputs, inner = stacked(torch, w, x, "ifzo")
    h, c = zeros(x, len(inner), 2)
    outputs = []
    for frame in inputs.unbind(0):
        i, f, z, o = (frame + h @ inner).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def lstm_peephole(torch, w, x):
    inputs, inner = stacked(torch, w, x, "ifzo")
    h, c = zeros(x, len(inner), 2)
    outputs = []
    for frame in inputs.unbind(0):
        i, f, z, o = (frame + h @ inner).chunk(4, 1)
        i, f = i + w["i.diag.c[t-1]"] * c, f + w["f.diag.c[t-1]"] * c
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        h = torch.sigmoid(o + w["o.diag.c"] * c) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def lstm_sliced(torch, w, x):
    inputs, inner = stacked(torch, w, x, ["sums"])
    h, c = zeros(x, inner.shape[0], 2)
    outputs = []
    for frame in inputs.unbind(0):
        f, i, o, z = (frame + h @ inner).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def lstm_layer_norm(torch, w, x):
    def norm(v, name):
        return torch.nn.functional.layer_norm(v, v.shape[-1:], w[f"{name}.gain"], w[f"{name}.bias"], 1e-5)
    inputs = norm(x @ w["sums.W2.x"].T, "sums.layer_norm2") + w["sums.param"]
    inner = w["sums.W.h[t-1]"].T
    h, c = zeros(x, len(inner), 2)
    outputs = []
    for frame in inputs.unbind(0):
        f, i, o, z = (norm(h @ inner, "sums.layer_norm") + frame).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        h = torch.sigmoid(o) * torch.tanh(norm(c, "h.layer_norm"))
        outputs.append(h)
    return torch.stack(outputs)


def slstm(torch, w, x):
    inputs, inner = stacked(torch, w, x, "ifzo", "W2.h[t-1]")
    h, c, m, normalizer = zeros(x, len(inner), 4)
    outputs = []
    for frame in inputs.unbind(0):
        i, f, z, o = (frame + h @ inner).chunk(4, 1)
        before, m = m, torch.maximum(f + m, i)
        i, f = torch.exp(i - m), torch.exp(f + before - m)
        c = f * c + i * torch.tanh(z)
        normalizer = f * normalizer + i
        h = torch.sigmoid(o) * (c / normalizer)
        outputs.append(h)
    return torch.stack(outputs)


def cascade(torch, w, x):
    inputs, inner = stacked(torch, w, x, "aboz")
    h, fast, slow = zeros(x, len(inner), 3)
    outputs = []
    for frame in inputs.unbind(0):
        a, b, o, z = (frame + h @ inner).chunk(4, 1)
        a, b = torch.sigmoid(a), torch.sigmoid(b)
        fast = a * fast + (1 - a) * torch.tanh(z)
        slow = b * slow + (1 - b) * fast
        h = torch.sigmoid(o) * torch.tanh(fast - slow)
        outputs.append(h)
    return torch.stack(outputs)


def gru(torch, w, x):
    outer, bias = (torch.cat([w[f"{gate}.{name}"] for gate in "rzm"]) for name in ("W.x", "bias"))
    inner = torch.cat([w["r.W.h[t-1]"], w["z.W.h[t-1]"], w["m.W2.h[t-1]"]]).T
    h, = zeros(x, len(inner), 1)
    outputs = []
    for frame in (x @ outer.T + bias).unbind(0):
        (r, z, m), (hr, hz, hm) = frame.chunk(3, 1), (h @ inner).chunk(3, 1)
        m = torch.tanh(m + torch.sigmoid(r + hr) * (hm + w["m.bias2"]))
        z = torch.sigmoid(z + hz)
        h = z * h + (1 - z) * m
        outputs.append(h)
    return torch.stack(outputs)


def recurrence(torch, keep, new):
    """s = keep * s[t-1] + new"""
    s = new.new_zeros(new.shape[1:])
    outputs = []
    for a, b in zip(keep.unbind(0), new.unbind(0)):
        s = a * s + b
        outputs.append(s)
    return torch.stack(outputs)


def sru(torch, w, x):
    f, r = (torch.sigmoid(x @ w[f"{gate}.W.x"].T + w[f"{gate}.bias"]) for gate in "fr")
    c = recurrence(torch, f, (1 - f) * (x @ w["z.W.x"].T))
    return r * torch.tanh(c) + (1 - r) * x


def mingru(torch, w, x):
    z, m = (x @ w[f"{name}.W.x"].T + w[f"{name}.bias"] for name in "zm")
    z = torch.sigmoid(z)
    return recurrence(torch, 1 - z, z * m)


def lru(torch, w, x):
    keep = torch.exp(-torch.exp(w["nu.param"] - 2.5))
    new = torch.sqrt(1 - keep * keep) * (x @ w["s.W.x"].T)
    return recurrence(torch, keep.expand_as(new), new) @ w["y.W.s"].T + x @ w["y.W.x"].T


def scan(torch, _, x):
    return recurrence(torch, x, x)


CELLS = {cell.__name__: cell for cell in (
    lstm, lstm_peephole, lstm_sliced, lstm_layer_norm, slstm, cascade, gru, sru, mingru, lru, scan)}
