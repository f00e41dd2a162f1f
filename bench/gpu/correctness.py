"""Gradients of the layers that are timed, against their equations in float64: rnnc's, and for comparison PyTorch's.

The error of an array is the norm of the difference over the norm of the truth; a row has the largest of all gradients,
of weights and input. Gradients depend on every value of the forward pass."""

import pathlib
import tempfile

import numpy as np

import networks
from common import rounded

# Of f32 rounding over a thousand frames, with much room; of TF32's.
MOST = {"f32": 1e-4, "tf32": 1e-2}


def run(part, rnnc, options):
    import torch
    device = "cuda" if rnnc.executor == "cuda" else "cpu"
    largest = sorted(options.sizes)[-2:]
    streams = [b for b in (1, 16) if b in options.streams] or options.streams[:1]
    peephole = [512] if device == "cuda" else largest[:1]
    for cell, sizes in (("lstm", largest), ("gru", largest), ("lstm_peephole", peephole)):
        for size in sizes:
            for count in streams:
                what = f"{cell} {size}, {count} streams"
                if part.has_time(what, 5):
                    try:
                        one(part, rnnc, torch, device, cell, size, count, options.frames)
                    except RuntimeError as error:
                        part.fail(what, error)


def one(part, rnnc, torch, device, cell, size, streams, frames):
    random = np.random.default_rng(1)
    w = networks.weights(cell, size, random)
    x = random.standard_normal((frames, streams, size), np.float32)
    d_h = random.standard_normal((frames, streams, size), np.float32)
    truth = true_gradients(torch, device, cell, w, x, d_h)

    def errors(found):
        return {name: norm_ratio(np.asarray(found[name], np.float64), true) for name, true in truth.items()}

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "net.rnn").write_text(networks.text(cell, size))
        networks.write_weights(folder / "w.safetensors", w)
        np.savez(folder / "in.npz", x=x, d_h=d_h)
        for precision in MOST if rnnc.executor == "cuda" else ["f32"]:
            rnnc.run("grad", folder / "net.rnn", "--weights", folder / "w.safetensors", "--input", folder / "in.npz",
                     "--output", folder / "out.npz", "--precision", precision, timeout=part.budget.left())
            with np.load(folder / "out.npz") as found:
                worst, error = max(errors(found).items(), key=lambda item: item[1])
            row(part, "rnnc", precision, cell, size, streams, worst, error)
    if cell != "lstm_peephole":
        for precision in MOST if device == "cuda" else ["f32"]:
            found = peer_gradients(torch, device, precision, cell, size, w, x, d_h)
            worst, error = max(errors(found).items(), key=lambda item: item[1])
            row(part, "torch", precision, cell, size, streams, worst, error)


def row(part, program, precision, cell, size, streams, worst, error):
    # A NaN is within nothing.
    agrees = bool(error <= MOST[precision])
    part.add(program=program, precision=precision, cell=cell, size=size, streams=streams, error=rounded(error),
             of=worst, agrees=agrees)
    if not agrees and program == "rnnc":
        part.fail(f"{cell} {size}, {streams} streams, {precision}", f"{worst} is off by {error:.1e}")


def norm_ratio(found, true):
    if found.shape != true.shape:
        raise RuntimeError(f"an array of shape {found.shape} should be {true.shape}")
    return float(np.linalg.norm(found - true) / max(np.linalg.norm(true), 1e-30))


def true_gradients(torch, device, cell, w, x, d_h):
    def tensor(array):
        return torch.tensor(array, dtype=torch.float64, device=device, requires_grad=True)
    w, x = {name: tensor(array) for name, array in w.items()}, tensor(x)
    networks.equations(torch, cell, w, x).backward(torch.tensor(d_h, dtype=torch.float64, device=device))
    found = {name: v.grad.cpu().numpy() for name, v in w.items()}
    return found | {"d_x": x.grad.cpu().numpy()}


def peer_gradients(torch, device, precision, cell, size, w, x, d_h):
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    made = networks.layer(torch, cell, size, w).to(device)
    x = torch.tensor(x, device=device, requires_grad=True)
    made(x)[0].backward(torch.tensor(d_h, device=device))
    found = {name: v.cpu().numpy() for name, v in networks.layer_gradients(cell, made).items()}
    return found | {"d_x": x.grad.cpu().numpy()}
