#!/usr/bin/env python3
"""Times modules of rnnc.torch beside the same cells in PyTorch: what a call costs the host, and how long windows take.

    python bench/python/modules.py --device cpu --threads 1
    python bench/python/modules.py --device cuda --output results.json

Needs PyTorch, rnnc, and torchrecurrent (for two of its cells; they are left out without it). Programs take turns; times are medians and
quartiles, in microseconds. Peers, each at its best:

- eager: `torch.nn.LSTM` (cuDNN on a GPU), or a Python loop over the steps of a cell;
- compiled: that loop over steps which `torch.compile` has compiled (it would unroll a loop over all frames, and compile for minutes);
- graph of one of these: captured as a CUDA graph and replayed (of the eager one, or of the compiled one if there is one).

Of rnnc, the module is called as it is, and also captured as a CUDA graph.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time

import torch

import rnnc.torch as rt

try:
    import torchrecurrent
except ImportError:
    torchrecurrent = None


class Peephole(torch.nn.Module):
    """An LSTM whose gates see its cells."""

    def __init__(self, i, n):
        super().__init__()
        self.W = torch.nn.Linear(i + n, 4 * n)
        self.p = torch.nn.Parameter(torch.randn(3, n) / n**0.5)

    def forward(self, x, h, c):
        i, f, g, o = self.W(torch.cat([x, h], -1)).chunk(4, -1)
        new = (f + self.p[0] * c).sigmoid() * c + (i + self.p[1] * c).sigmoid() * g.tanh()
        h = (o + self.p[2] * new).sigmoid() * new.tanh()
        return h, (h, new)


class LayerNormLSTM(torch.nn.Module):
    """An LSTM with layer norms, of the gates and of the cells."""

    def __init__(self, i, n):
        super().__init__()
        self.W = torch.nn.Linear(i + n, 4 * n)
        self.gates, self.cells = torch.nn.LayerNorm(4 * n), torch.nn.LayerNorm(n)

    def forward(self, x, h, c):
        i, f, g, o = self.gates(self.W(torch.cat([x, h], -1))).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * self.cells(c).tanh()
        return h, (h, c)


class Published(torch.nn.Module):
    """A cell of torchrecurrent as one step."""

    def __init__(self, name, i, n):
        super().__init__()
        self.cell = getattr(torchrecurrent, name)(i, n)
        self.states = 2 if self.cell.uses_double_state() else 1

    def forward(self, x, *state):
        after = self.cell(x, state if self.states == 2 else state[0])
        after = after if isinstance(after, tuple) else (after,)
        return after[0], after


CELLS = {"peephole LSTM": (Peephole, 2), "layer-norm LSTM": (LayerNormLSTM, 2)}
if torchrecurrent is not None:
    CELLS |= {
        "LEM (torchrecurrent)": (lambda i, n: Published("LEMCell", i, n), 2),
        "MGU (torchrecurrent)": (lambda i, n: Published("MGUCell", i, n), 1),
    }


class Loop(torch.nn.Module):
    """A cell over all frames, step by step."""

    def __init__(self, cell, states, units, compiled):
        super().__init__()
        self.cell, self.states, self.units = cell, states, units
        self.step = torch.compile(cell, dynamic=False) if compiled else cell

    def forward(self, x):
        state = (x.new_zeros(x.shape[1], self.units),) * self.states
        ys = []
        for frame in x.unbind(0):
            y, state = self.step(frame, *state)
            ys.append(y)
        return torch.stack(ys), state


def settle(device):
    if device == "cuda":
        torch.cuda.synchronize()


def training(module, x):
    """A forward call and its backward call."""
    y, _ = module(x)
    y.backward(training.ones[y.shape])
    for parameter in module.parameters():
        parameter.grad = None
    x.grad = None


class Ones(dict):
    def __missing__(self, shape):
        self[shape] = torch.ones(shape, device=Ones.device)
        return self[shape]


training.ones = Ones()


def inference(module, x):
    with torch.no_grad():
        module(x)


def captured(run, module, x):
    """The same, captured as a CUDA graph: gradients stay in the graph's memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run(module, x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(module, x)
    return graph.replay


def timed(programs, device, seconds):
    """Of each program the times of its calls, in microseconds; the programs take turns."""
    counts, times = {}, {name: [] for name in programs}
    for name, run in programs.items():
        run()
        settle(device)
        begun = time.perf_counter()
        run()
        settle(device)
        once = time.perf_counter() - begun
        counts[name] = max(1, int(0.004 / max(once, 1e-7)))
    turns, ends = 0, time.perf_counter() + seconds * len(programs)
    while turns < 5 or time.perf_counter() < ends:
        turns += 1
        for name, run in programs.items():
            settle(device)
            begun = time.perf_counter()
            for _ in range(counts[name]):
                run()
            settle(device)
            times[name].append((time.perf_counter() - begun) / counts[name] * 1e6)
    return {name: summary(of) for name, of in times.items()}


def summary(times):
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return {"median": round(median, 2), "quartiles": [round(low, 2), round(high, 2)], "turns": len(times)}


def overhead(options):
    """Networks so small that a call's time is its overhead: 4 units, 1 stream, 1 frame."""
    x = torch.randn(1, 1, 4, device=options.device)
    small = {
        "rnnc LSTM": rt.LSTM(4, 4),
        "rnnc Recurrent": rt.Recurrent("lstm", inputs=4, n=4),
        "torch.nn.LSTM": torch.nn.LSTM(4, 4),
    }
    found = {}
    for name, run in (("forward", inference), ("forward + backward", training)):
        programs = {}
        for module, made in small.items():
            made.to(options.device)
            programs[module] = lambda run=run, made=made: run(made, x)
        found[name] = timed(programs, options.device, options.seconds)
        # What the host does for a call, when it need not wait for the device.
        if options.device == "cuda":
            found[f"{name}, host"] = {module: told(program) for module, program in programs.items()}
    return found


def told(program, calls=20, turns=50):
    times = []
    for _ in range(turns):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(calls):
            program()
        times.append((time.perf_counter() - begun) / calls * 1e6)
    return summary(times)


def contenders(name, units, device):
    """Modules of a cell, with the same weights. Those of PyTorch by what is done with them."""
    torch.manual_seed(1)
    if name == "LSTM":
        ours, theirs = rt.LSTM(units, units).to(device), torch.nn.LSTM(units, units).to(device)
        theirs.load_state_dict(ours.state_dict())
        return ours, {"eager": theirs}
    make, states = CELLS[name]
    cell = make(units, units).to(device)
    ours = rt.compile(cell, inputs=[units], state=[units] * states).to(device)
    return ours, {"eager": Loop(cell, states, units, False), "compiled": Loop(cell, states, units, True)}


def compare(options, name, streams):
    """Times of a window, after values and gradients were compared."""
    device, frames, units = options.device, options.frames, options.units
    ours, theirs = contenders(name, units, device)
    x = torch.randn(frames, streams, units, device=device)
    row = {"cell": name, "streams": streams, "frames": frames, "units": units}
    begun = time.perf_counter()
    with torch.no_grad():
        mine = ours(x)[0]
        settle(device)
        row["seconds to compile"] = {"rnnc forward": round(time.perf_counter() - begun, 3)}
        right = theirs["eager"](x)[0]
    row["difference"] = (mine - right).abs().max().item()
    if row["difference"] > 1e-4:
        raise SystemExit(f"{name}: rnnc differs by {row['difference']}")
    for timing, run in (("forward", inference), ("train", training)):
        begun = time.perf_counter()
        run(ours, x)
        settle(device)
        row["seconds to compile"].setdefault(f"rnnc {timing}", round(time.perf_counter() - begun, 3))
        programs = {"rnnc": lambda: run(ours, x)}
        for kind, module in theirs.items():
            begun = time.perf_counter()
            try:
                run(module, x)
                settle(device)
            except Exception as error:  # noqa: BLE001  a peer that fails has no row
                print(f"{name}, {kind}: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            row["seconds to compile"][f"{kind} {timing}"] = round(time.perf_counter() - begun, 3)
            programs[kind] = lambda module=module: run(module, x)
        if device == "cuda":
            # Of PyTorch the last, which is the fastest.
            modules = {"rnnc": ours, **theirs}
            for kind in ("rnnc", list(programs)[-1]):
                try:
                    programs[f"graph of {kind}"] = captured(run, modules[kind], x)
                except Exception as error:  # noqa: BLE001
                    print(f"{name}, graph of {kind}: {str(error).splitlines()[0]}", file=sys.stderr)
        row[timing] = timed(programs, device, options.seconds)
    return row


def table(rows):
    """Markdown: microseconds a window, and how often rnnc's time goes into the best of PyTorch's."""
    for timing in ("forward", "train"):
        kinds = list(dict.fromkeys(kind for row in rows for kind in row[timing]))
        print(f"\n{timing}, us a window of {rows[0]['frames']} frames, {rows[0]['units']} units\n")
        print("| cell | B | " + " | ".join(kinds) + " | best of PyTorch / best of rnnc |")
        print("| --- " * (len(kinds) + 3) + "|")
        for row in rows:
            medians = {kind: found["median"] for kind, found in row[timing].items()}
            ours = min(us for kind, us in medians.items() if "rnnc" in kind)
            best = min(us for kind, us in medians.items() if "rnnc" not in kind)
            told = [f"{medians[kind]:.0f}" if kind in medians else "" for kind in kinds]
            print(f"| {row['cell']} | {row['streams']} | " + " | ".join(told) + f" | {best / ours:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch and rnnc, on the CPU")
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--streams", default="1,16,64")
    parser.add_argument("--cells", default=",".join(["LSTM", *CELLS]))
    parser.add_argument("--seconds", type=float, default=0.3, help="of measuring, for each program and row")
    parser.add_argument("--part", choices=("overhead", "speed", "both"), default="both")
    parser.add_argument("--output", help="where the results go, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Both compute in single precision.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch._dynamo.config.recompile_limit = 64
    Ones.device = options.device
    chip = torch.cuda.get_device_name() if options.device == "cuda" else f"{platform.processor()}, {options.threads} threads"
    results = {"torch": torch.__version__, "device": chip, "rows": []}
    try:
        if options.part != "speed":
            results["overhead"] = overhead(options)
            for timing, found in results["overhead"].items():
                print(f"a call, {timing}: " + ", ".join(f"{name} {of['median']} us {of['quartiles']}" for name, of in found.items()))
        if options.part != "overhead":
            for name in options.cells.split(","):
                for streams in map(int, options.streams.split(",")):
                    row = compare(options, name, streams)
                    results["rows"].append(row)
                    medians = {timing: {kind: of["median"] for kind, of in row[timing].items()} for timing in ("forward", "train")}
                    print(f"{name}, B = {streams}: {medians}, compiled in {row['seconds to compile']}", file=sys.stderr, flush=True)
                    gc.collect()
            table(results["rows"])
    finally:
        if options.output:
            with open(options.output, "w") as file:
                json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
