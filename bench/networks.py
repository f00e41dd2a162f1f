"""The networks that are measured: as texts of the language, as weights in files, and as PyTorch's own layers."""

import json
import pathlib

# What the library calls them, if otherwise.
CELLS = {"gru": "gru_reset_after", "rnn": "elman"}

# Cells that no library has: for what a compiler does with a user's own.
OWN = {
    "fading": """cell fading(x; n) {
    keep = sigmoid(dense(x; n) + diag(h[t-1]))
    h = keep * h[t-1] + (1 - keep) * tanh(dense(x, h[t-2]; n))
    return h
}
""",
    # Nothing but values that come and go: how much of the machine's bandwidth an elementwise recurrence reaches.
    "scan": """cell scan(x; n) {
    h = x * h[t-1] + x
    return h
}
""",
    # Four products with the input and four with the state, as an LSTM has.
    "cascade": """cell cascade(x; n) {
    a = sigmoid(dense(x, h[t-1]; n))
    b = sigmoid(dense(x, h[t-1]; n))
    o = sigmoid(dense(x, h[t-1]; n))
    z = tanh(dense(x, h[t-1]; n))
    fast = a * fast[t-1] + (1 - a) * z
    slow = b * slow[t-1] + (1 - b) * fast
    h = o * tanh(fast - slow)
    return h
}
""",
    # An LSTM whose four gates are one layer, which others read in slices.
    "lstm_sliced": """cell lstm_sliced(x; n) {
    sums = dense(x, h[t-1]; 4 * n)
    f = sigmoid(slice(sums; 0, n))
    i = sigmoid(slice(sums; n, 2 * n))
    o = sigmoid(slice(sums; 2 * n, 3 * n))
    z = tanh(slice(sums; 3 * n, 4 * n))
    c = f * c[t-1] + i * z
    h = o * tanh(c)
    return h
}
""",
    "tandem": """cell tandem(x; n) {
    g = sigmoid(dense(x, s[t-1]; n))
    m = tanh(dense(x, s[t-1]; n) * dense(x; n))
    s = s[t-1] + g * (m - s[t-1])
    y = s * silu(dense(x, y[t-1]; n))
    return y
}
""",
}


def text(cell, size, layers=1):
    """A network of some layers; the input has as many numbers as a layer has units."""
    lines = [f"{OWN.get(cell, '')}network {cell}_{size}x{layers} {{", f"    input x : vector({size})"]
    # The LRU stands between two matrices, and has as many units as outputs.
    sizes = f"{size}, {size}" if cell == "lru" else size
    for before, name in zip(["x", *names(layers)], names(layers)):
        lines.append(f"    {name} = {CELLS.get(cell, cell)}({before}; {sizes})")
    return "\n".join([*lines, "    output h", "}", ""])


def names(layers):
    """The layers, the last one without a number."""
    return [*(f"h{layer}" for layer in range(1, layers)), "h"]


def gates(cell):
    """Of the layers that PyTorch has, in its order."""
    return "rzm" if cell == "gru" else "ifzo"


def layer(torch, cell, size, w=None):
    """PyTorch's own layer, with these weights if there are any."""
    made = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](size, size)
    if w is not None:
        import numpy as np

        def stacked(name, default=None):
            return torch.cat([torch.as_tensor(w.get(f"h.{g}.{name}", default)) for g in gates(cell)])
        zeros = np.zeros(size, np.float32)
        with torch.no_grad():
            made.weight_ih_l0.copy_(stacked("W.x"))
            made.weight_hh_l0.copy_(stacked("W.h[t-1]", w.get("h.m.W2.h[t-1]")))
            made.bias_ih_l0.copy_(stacked("bias"))
            made.bias_hh_l0.copy_(torch.cat([torch.as_tensor(w.get(f"h.{g}.bias2", zeros)) for g in gates(cell)]))
    return made


def layer_gradients(cell, made):
    """The gradients of PyTorch's layer, by rnnc's names."""
    count, found = len(gates(cell)), {}
    parts = {name: getattr(made, f"{name}_l0").grad.chunk(count) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    for place, gate in enumerate(gates(cell)):
        second = "2" if cell == "gru" and gate == "m" else ""
        found[f"h.{gate}.W.x"] = parts["weight_ih"][place]
        found[f"h.{gate}.W{second}.h[t-1]"] = parts["weight_hh"][place]
        found[f"h.{gate}.bias"] = parts["bias_ih"][place]
        if second:
            found[f"h.{gate}.bias2"] = parts["bias_hh"][place]
    return found


def read_weights(path):
    """Arrays by name, of such a file with 32-bit numbers."""
    import numpy as np
    content = pathlib.Path(path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8:8 + length])
    head.pop("__metadata__", None)

    def array(entry):
        begin, end = entry["data_offsets"]
        return np.frombuffer(content[8 + length + begin:8 + length + end], "<f4").reshape(entry["shape"]).copy()
    return {name: array(entry) for name, entry in head.items()}


def write_weights(path, arrays):
    """A safetensors file: a length, a header in JSON, the numbers."""
    import numpy as np
    header, offset = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, "<f4").tobytes())
