"""Times PyTorch's own recurrent layers on this machine's CPU, as the yardstick for `rnnc bench`.

Prints one JSON object a line, with the fields of `rnnc bench --format json` and the layer's name and sizes:
microseconds per frame step (all streams together) of the forward pass, and of forward + backward with weight and
input gradients, no update. On a machine that does other work too, read the low quantile.

    python bench/pytorch_rnn.py --layers LSTM,GRU,RNN --sizes 128,256,512 --streams 1,4 --frames 256 --threads 2
"""

import argparse
import json
import statistics
import sys
import time

import torch


def quantile(values, share):
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))]


def measure(action, seconds):
    """Times `action` again and again; the times, in microseconds."""
    for _ in range(3):
        action()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        action()
        times.append((time.perf_counter() - start) * 1e6)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="LSTM,GRU,RNN", help="classes of torch.nn, by commas")
    parser.add_argument("--sizes", default="128,256,512", help="units, by commas; the input has as many")
    parser.add_argument("--streams", default="1,4", help="batch sizes, by commas")
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each measurement")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
          file=sys.stderr)
    for name in options.layers.split(","):
        for size in map(int, options.sizes.split(",")):
            layer = getattr(torch.nn, name)(size, size)
            for streams in map(int, options.streams.split(",")):
                x = torch.randn(options.frames, streams, size, requires_grad=True)
                d_output = torch.randn(options.frames, streams, size)

                def forward():
                    # Gradients are recorded, as in the forward half of training.
                    return layer(x)[0]

                def train():
                    x.grad = None
                    layer.zero_grad(set_to_none=True)
                    forward().backward(d_output)

                result = {"layer": name, "size": size, "streams": streams, "frames": options.frames,
                          "threads": options.threads, "executor": f"torch {torch.__version__}"}
                for key, action in (("forward", forward), ("train", train)):
                    times = [t / options.frames for t in measure(action, options.seconds)]
                    result[f"{key}_us_per_step"] = round(statistics.median(times), 3)
                    result[f"{key}_us_per_step_low"] = round(quantile(times, 0.1), 3)
                    result[f"{key}_us_per_step_high"] = round(quantile(times, 0.9), 3)
                print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
