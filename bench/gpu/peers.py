"""rnnc beside PyTorch, on one layer: LSTM and GRU of cuDNN in four precisions, and a loop of PyTorch's operations for the
peephole LSTM. Forward as in training, and forward + backward with the gradients of weights and input; data on the
device; microseconds per frame of all streams."""

import dataclasses
import pathlib
import tempfile
import time

import cases
import equations
import fused
import networks
import timing
from common import spread

PRECISIONS = ["f32", "tf32", "bf16", "fp16"]
LOOP_FRAMES, LOOP_REPEATS = 128, 5


def run(part, rnnc, options):
    timing.run(part, rnnc, options, cases.peers(options))
    if found := pytorch(part, rnnc):
        layers(part, *found, options)
        loops(part, rnnc, *found, options)
        fused.run(part, *found, options, timed)


def pytorch(part, rnnc):
    """The module, and the device that it is to use; nothing, if it is not there, which is noted."""
    try:
        import torch
    except ImportError:
        return part.skip("PyTorch", "it is not installed")
    device = "cuda" if rnnc.executor == "cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return part.skip("PyTorch", "it sees no GPU")
    return torch, device


def allow(torch, precision):
    """Of products of f32; and the type of numbers."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def layers(part, torch, device, options):
    """PyTorch's own, size by size; cuDNN on a GPU."""
    precisions = PRECISIONS if device == "cuda" else PRECISIONS[:1]
    for case in (cases.Case(cell, size, streams, options.frames, precision=precision) for size in options.sizes
                 for precision in precisions for cell in ("lstm", "gru") for streams in options.streams):
        if not part.has_time(f"torch {case}", 2):
            continue
        kind = allow(torch, case.precision)
        layer = networks.layer(torch, case.cell, case.size).to(device, kind)
        found = timed(torch, device, lambda x: layer(x)[0], layer.parameters(), *inputs(torch, device, case, kind),
                      case.frames, options.seconds)
        keep(part, "torch", device, case, found)


def loops(part, rnnc, torch, device, options):
    """The peephole LSTM as a loop over frames, operation by operation."""
    for case in cases.loops(options):
        case = dataclasses.replace(case, frames=min(LOOP_FRAMES, case.frames))
        if not part.has_time(f"torch loop {case}", 5):
            continue
        kind = allow(torch, case.precision)
        w = {name: torch.tensor(array, device=device, dtype=kind, requires_grad=True)
             for name, array in initial_weights(rnnc, case).items()}
        found = timed(torch, device, lambda x: equations.network(torch, case.cell, case.layers, w, x), w.values(),
                      *inputs(torch, device, case, kind), case.frames, 0.0, LOOP_REPEATS)
        keep(part, "torch loop", device, case, found)


def keep(part, program, device, case, found):
    part.add(f"{program} {case}: {' / '.join(str(times['median']) for times in found.values())} us", program=program,
             **case.facts(program), timed="device" if device == "cuda" else "host", **found)


def initial_weights(rnnc, case):
    """As rnnc draws them."""
    with tempfile.TemporaryDirectory() as folder:
        net, weights = (pathlib.Path(folder) / name for name in ("net.rnn", "w.safetensors"))
        net.write_text(case.text())
        rnnc.run("init", net, "--output", weights, executor=None, timeout=60)
        return networks.read_weights(weights)


def inputs(torch, device, case, kind):
    """And gradients of the outputs."""
    shape = (case.frames, case.streams, case.size)
    return [torch.randn(*shape, device=device, dtype=kind) for _ in range(2)]


def timed(torch, device, forward, parameters, x, d_output, frames, seconds, repeats=10):
    """Microseconds per frame of the forward pass as in training, and of forward + backward."""
    x.requires_grad_()
    parameters = list(parameters)

    def train():
        x.grad = None
        for parameter in parameters:
            parameter.grad = None
        forward(x).backward(d_output)

    found = {}
    for name, action in (("forward", lambda: forward(x)), ("train", train)):
        clock = Clock(torch, device)
        for _ in range(3):
            clock(action)
        times, end = [], time.monotonic() + seconds
        while len(times) < repeats or time.monotonic() < end:
            times.append(clock(action) / frames)
        found[name] = spread(times)
    return found


class Clock:
    """Microseconds of an action: by events of the GPU, or by the host's clock where there is none."""

    def __init__(self, torch, device):
        self.torch, self.gpu = torch, device == "cuda"

    def __call__(self, action):
        if not self.gpu:
            begun = time.perf_counter()
            action()
            return (time.perf_counter() - begun) * 1e6
        begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        kept = action()  # freed after the end, not within
        end.record()
        end.synchronize()
        del kept
        return begin.elapsed_time(end) * 1e3
