"""rnnc beside PyTorch, on one layer: LSTM and GRU of cuDNN in four precisions, and a loop of PyTorch's operations for the
peephole LSTM. Forward as in training, and forward + backward with the gradients of weights and input; data on the
device; microseconds per frame of all streams."""

import pathlib
import tempfile
import time

import networks
from common import spread, times_of

PRECISIONS = ["f32", "tf32", "bf16", "fp16"]
LOOP_SIZE, LOOP_FRAMES, LOOP_STREAMS, LOOP_REPEATS = 512, 128, [1, 16], 5


def run(part, rnnc, options):
    ours(part, rnnc, options)
    try:
        import torch
    except ImportError:
        return part.skip("PyTorch", "it is not installed")
    device = "cuda" if rnnc.executor == "cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        return part.skip("PyTorch", "it sees no GPU")
    loops(part, torch, device, options)
    layers(part, torch, device, options)


def ours(part, rnnc, options):
    loop_size = LOOP_SIZE if rnnc.executor == "cuda" else options.sizes[0]
    networks_ = [(cell, size, options.streams) for size in options.sizes for cell in ("lstm", "gru")]
    with tempfile.TemporaryDirectory() as folder:
        for cell, size, streams in [*networks_, ("lstm_peephole", loop_size, LOOP_STREAMS)]:
            path = pathlib.Path(folder) / "net.rnn"
            path.write_text(networks.text(cell, size))
            for count in streams:
                for precision in PRECISIONS[:3] if rnnc.executor == "cuda" else PRECISIONS[:1]:
                    what = f"rnnc {cell} {size}, {count} streams, {precision}"
                    if not part.has_time(what, 2):
                        continue
                    try:
                        line = rnnc.bench(path, count, options.frames, "--seconds", options.seconds, "--precision",
                                          precision, timeout=part.budget.left())
                    except RuntimeError as error:
                        part.fail(what, error)
                        continue
                    part.add(program="rnnc", cell=cell, size=size, streams=count, frames=options.frames,
                             precision=precision, timed=line["timed"], **times_of(line))


def layers(part, torch, device, options):
    """PyTorch's own, size by size; cuDNN on a GPU."""
    precisions = PRECISIONS if device == "cuda" else PRECISIONS[:1]
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    for size in options.sizes:
        for precision in precisions:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            for cell in ("lstm", "gru"):
                for count in options.streams:
                    what = f"torch {cell} {size}, {count} streams, {precision}"
                    if not part.has_time(what, 2):
                        continue
                    kind = types.get(precision, torch.float32)
                    layer = networks.layer(torch, cell, size).to(device, kind)
                    found = timed(torch, device, lambda x: layer(x)[0], layer.parameters(), size, count,
                                  options.frames, kind, options.seconds)
                    part.add(program="torch", cell=cell, size=size, streams=count, frames=options.frames,
                             precision=precision, timed=device if device == "cpu" else "device", **found)


def loops(part, torch, device, options):
    """The peephole LSTM as a loop over frames, operation by operation."""
    import numpy as np
    size = LOOP_SIZE if device == "cuda" else options.sizes[0]
    frames = min(LOOP_FRAMES, options.frames)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    arrays = networks.weights("lstm_peephole", size, np.random.default_rng(1))
    w = {name: torch.tensor(array, device=device, requires_grad=True) for name, array in arrays.items()}
    for count in LOOP_STREAMS:
        if part.has_time(f"a PyTorch loop, {count} streams", 5):
            found = timed(torch, device, lambda x: networks.equations(torch, "lstm_peephole", w, x), w.values(), size,
                          count, frames, torch.float32, 0.0, LOOP_REPEATS)
            part.add(program="torch loop", cell="lstm_peephole", size=size, streams=count, frames=frames,
                     precision="f32", timed=device if device == "cpu" else "device", **found)


def timed(torch, device, forward, parameters, size, streams, frames, kind, seconds, repeats=10):
    """Microseconds per frame of the forward pass as in training, and of forward + backward."""
    x = torch.randn(frames, streams, size, device=device, dtype=kind, requires_grad=True)
    d_output = torch.randn(frames, streams, size, device=device, dtype=kind)
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
