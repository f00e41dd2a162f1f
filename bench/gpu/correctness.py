"""Gradients of what is timed, against their equations in float64: rnnc's, and for comparison PyTorch's layers'.

The error of an array is the norm of the difference over the norm of the truth, or over a hundredth of the largest
norm, where that is more: some gradients are 0 but for rounding, such as that of the bias of sLSTM's input gate. A row
has the largest of all gradients, of weights and input. Gradients depend on every value of the forward pass. What is
timed frame by frame is not compared here: it has the same kernels, and windows of one frame are the suite's."""

import math
import pathlib
import tempfile

import cases
import equations
import networks
import peers
from common import rounded

# Of f32 rounding over a thousand frames, with much room; of products of operands rounded to TF32 and bf16.
MOST = {"f32": 1e-4, "tf32": 1e-2, "bf16": 5e-2}


def run(part, rnnc, options):
    found = peers.pytorch(part, rnnc)
    if not found:
        return
    try:
        import numpy
    except ImportError:
        return part.skip("NumPy", "it is not installed")
    timed = [case for case in cases.chosen(cases.TIMED, options) if case.schedule == "window"]
    for group in cases.grouped(timed, "precision"):
        what = f"rnnc {group[0]}"
        if part.has_time(what, 5):
            try:
                one(part, rnnc, numpy, *found, group)
            except (RuntimeError, KeyError) as error:
                part.fail(what, error)


def one(part, rnnc, numpy, torch, device, group):
    """Cases that differ in precision alone."""
    case, random = group[0], numpy.random.default_rng(1)
    # Away from zero, which initial biases are.
    w = {name: array if array.ndim > 1 else array + away(random, case.size, array.shape).astype(numpy.float32)
         for name, array in peers.initial_weights(rnnc, case).items()}
    # With gains of 1, sums of the state that are normalized make chaos: after a thousand frames, nothing is left of what
    # the same equations give in f64 and in f32.
    w = {name: array / 2 if name.endswith(".gain") else array for name, array in w.items()}
    x, d_h = (random.standard_normal((case.frames, case.streams, case.size), numpy.float32) for _ in range(2))
    truth = true_gradients(torch, device, case, w, x, d_h)
    if device == "cuda":
        torch.cuda.empty_cache()  # for rnnc
    least = max(true.norm().item() for true in truth.values()) / 100

    def keep(program, case, found):
        worst, error = max(((name, ratio(torch, found[name], true, least)) for name, true in truth.items()),
                           # A NaN is worse than all.
                           key=lambda item: math.inf if math.isnan(item[1]) else item[1])
        agrees = error <= MOST[case.precision]
        part.add(f"{program} {case}: {error:.1e}, of {worst}", program=program, **case.facts(program), error=rounded(error),
                 of=worst, agrees=agrees)
        if not agrees and program == "rnnc":
            part.fail(f"rnnc {case}", f"{worst} is off by {error:.1e}")

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "net.rnn").write_text(case.text())
        networks.write_weights(folder / "w.safetensors", w)
        numpy.savez(folder / "in.npz", x=x, d_h=d_h)
        for case in group:
            rnnc.run("grad", folder / "net.rnn", "--weights", folder / "w.safetensors", "--input", folder / "in.npz",
                     "--output", folder / "out.npz", "--precision", case.precision, timeout=part.budget.left())
            with numpy.load(folder / "out.npz") as found:
                keep("rnnc", case, found)
    for case in group:
        if case.cell in ("lstm", "gru") and case.layers == 1:
            keep("torch", case, peer_gradients(torch, device, case, w, x, d_h))


def away(random, size, shape):
    most = 1 / math.sqrt(size)
    return random.uniform(-most, most, shape)


def ratio(torch, found, true, least):
    found = torch.as_tensor(found, device=true.device).double()
    if found.shape != true.shape:
        raise RuntimeError(f"an array of shape {tuple(found.shape)} should be {tuple(true.shape)}")
    return ((found - true).norm() / true.norm().clamp(min=least)).item()


def true_gradients(torch, device, case, w, x, d_h):
    def tensor(array):
        return torch.tensor(array, dtype=torch.float64, device=device, requires_grad=True)
    w, x = {name: tensor(array) for name, array in w.items()}, tensor(x)
    outputs = equations.network(torch, case.cell, case.layers, w, x)
    outputs.backward(torch.tensor(d_h, dtype=torch.float64, device=device))
    return {name: v.grad for name, v in w.items()} | {"d_x": x.grad}


def peer_gradients(torch, device, case, w, x, d_h):
    kind = peers.allow(torch, case.precision)
    made = networks.layer(torch, case.cell, case.size, w).to(device, kind)
    x = torch.tensor(x, device=device, dtype=kind, requires_grad=True)
    made(x)[0].backward(torch.tensor(d_h, device=device, dtype=kind))
    return networks.layer_gradients(case.cell, made) | {"d_x": x.grad}
