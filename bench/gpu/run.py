"""Answers the questions that only a GPU can answer, in about ten minutes: is it right, what does waiting cost, how fast
is it beside PyTorch, what do streams and schedules change, how fast does it train.

    python bench/gpu/run.py --rnnc target/release/rnnc --output results

Needs the command `rnnc`, Python 3.11 with NumPy and PyTorch, and a GPU; nvcc for the synchronization part, matplotlib
for plots. What is missing is said, and the rest runs. Each part writes PART.json into the output directory as it goes;
`bench/gpu/table.py` makes tables of them. The parts, in order:

    prepare          compiles the kernels of all that is timed, side by side, into rnnc's cache
    suite            the executor suite on the GPU
    correctness      gradients of single layers, of the sizes that are timed, against their equations in float64
    synchronization  an empty frame of a persistent loop: block, clusters, grid
    peers            LSTM and GRU layers beside PyTorch's (cuDNN), a peephole LSTM beside a PyTorch loop
    paper            a peephole LSTM: streams, layers, window by window and frame by frame
    training         a model of text, trained for some seconds

Exit code 1 if something is wrong: a suite that fails, a gradient that is off, a measurement that stopped. With
--rehearse, all parts run on the CPU at toy sizes: their times mean nothing.
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # for what the CPU's measurements use too

import correctness
import paper
import peers
import plots
import suite
import synchronization
import training
from common import Budget, Machine, Part, Rnnc, rounded
from prepare import prepare

# What each part gets of the time, beside the others; what one leaves is for those after it.
PARTS = {
    "prepare": 120, "suite": 120, "correctness": 80, "synchronization": 20, "peers": 220, "paper": 150, "training": 70,
}


def numbers(text):
    return [int(number) for number in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rnnc", type=pathlib.Path, required=True, help="the command")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="directory for JSON and plots")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, by commas; all by default")
    parser.add_argument("--minutes", type=float, default=9.5, help="time for all; what does not fit is left out and named")
    parser.add_argument("--suite", type=pathlib.Path, help="the suite's test program; without it, `cargo test` runs it")
    parser.add_argument("--frames", type=int, default=1024, help="frames of a window")
    parser.add_argument("--sizes", type=numbers, default=[256, 512, 768, 1024], help="units of LSTM and GRU layers")
    parser.add_argument("--streams", type=numbers, default=[1, 4, 16, 64], help="streams of LSTM and GRU layers")
    parser.add_argument("--seconds", type=float, default=0.2, help="time of one measurement, at least 10 calls")
    parser.add_argument("--paper-sizes", type=numbers, default=[256, 512])
    parser.add_argument("--paper-layers", type=numbers, default=[1, 2, 3])
    parser.add_argument("--paper-streams", type=numbers, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--training", type=pathlib.Path, default="examples/source-code/train.toml", help="its settings")
    parser.add_argument("--training-seconds", type=float, default=30)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy sizes")
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not options.rnnc.is_file():
        parser.error(f"there is no {options.rnnc}")
    if options.rehearse:
        options.frames, options.sizes, options.streams, options.seconds = 24, [16, 24], [1, 3], 0.0
        options.paper_sizes, options.paper_layers, options.paper_streams = [16], [1, 2], [1, 2]
        options.training_seconds = min(options.training_seconds, 5)
    return options


def main():
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    rnnc = Rnnc(options.rnnc, "cpu" if options.rehearse else "cuda")
    machine = Machine(rnnc, options.rehearse)
    print(machine, flush=True)
    runs = {
        "prepare": prepare, "suite": suite.run, "correctness": correctness.run, "synchronization": synchronization.run,
        "peers": peers.run, "paper": paper.run, "training": training.run,
    }
    budget, wrong = Budget(options.minutes * 60), []
    names = options.parts.split(",")
    for place, name in enumerate(names):
        share = PARTS[name] / sum(PARTS[later] for later in names[place:])
        part = Part(name, options, machine, Budget(share * budget.left()))
        print(f"\n== {name}: at most {part.budget.left():.0f} s", flush=True)
        try:
            runs[name](part, rnnc, options)
        except Exception as error:  # one part's end is not the others'
            part.fail(name, error)
        part.save()
        wrong += part.wrong
        print(f"-- {name}: {rounded(part.budget.spent())} s, {len(part.rows)} results, "
              f"{len(part.skipped)} left out, {len(part.wrong)} wrong", flush=True)
    plots.run(options.output)
    if wrong:
        print("\nwrong:\n" + "\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
