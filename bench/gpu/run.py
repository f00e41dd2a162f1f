r"""Answers the questions that only a GPU can answer: is it right, what does waiting cost, how fast is it beside PyTorch and
beside what its plan predicts, what do streams and schedules change, how fast does it train.

    python bench/gpu/run.py --rnnc target/release/rnnc --output results

Needs the command `rnnc`, Python 3.11 with NumPy and PyTorch, and a GPU; nvcc for the synchronization part,
compute-sanitizer for its part, matplotlib for plots. What is missing is said, and the rest runs. Each part writes
PART.json into the output directory as it goes; `bench/gpu/table.py` makes tables of them. The parts, in order:

    prepare          compiles the kernels of all that is measured, side by side, into rnnc's cache
    suite            the executor suite on the GPU
    large            all cells of the library at large sizes, a few frames, against the reference executor
    sanitizer        compute-sanitizer over some networks: memory, races, barriers
    synchronization  an empty frame of a persistent loop: block, clusters, grid
    correctness      gradients of what is timed, against their equations in float64
    peers            LSTM and GRU layers beside PyTorch's (cuDNN), a peephole LSTM beside a PyTorch loop
    cells            custom cells beside an LSTM that has as many products
    scans            recurrences that run as scans, beside the bound
    paper            a peephole LSTM: streams, layers, window by window and frame by frame
    training         a model of text, trained for some seconds

`prepare` and `correctness` take what the other chosen parts time. A part that was measured before on the same machine, by
the same rnnc, into the same directory, keeps what is not measured again; `bench/gpu/merge.py` puts directories together.
So all of it can be had in pieces. These took less than ten minutes each on an H200 with 16 cores; COMMON stands for
`--rnnc target/release/rnnc --output results`, and PROGRAM is the suite's test program, which
`cargo test --release -p rnnc-cuda --test device --no-run` names:

    run.py COMMON --parts prepare,correctness,peers,cells --sizes 768,1024 --cell-sizes 1024             6 minutes
    run.py COMMON --parts prepare,correctness,peers,cells,scans --sizes 256,512 --cell-sizes 512         7 minutes
    run.py COMMON --parts prepare,suite,large,sanitizer,synchronization,training --suite PROGRAM \
        --training-seconds 180                                                                           6 minutes
    run.py COMMON --parts prepare,correctness,paper                                                      5 minutes

Exit code 1 if something is wrong: a suite that fails, a gradient that is off, a measurement that stopped. With
--rehearse, all parts run on the CPU at toy sizes: their times mean nothing, and predictions are those of an H200.
"""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # for what the CPU's measurements use too

import cells
import correctness
import large
import paper
import peers
import plots
import sanitizer
import scans
import suite
import synchronization
import training
from common import Budget, Machine, Rnnc, rounded
from merge import Different, JoinedPart
from prepare import prepare

# What runs a part, and the seconds that it gets, beside the others; what one leaves is for those after it.
PARTS = {
    "prepare": (prepare, 90), "suite": (suite.run, 160), "large": (large.run, 120), "sanitizer": (sanitizer.run, 200),
    "synchronization": (synchronization.run, 20), "correctness": (correctness.run, 160), "peers": (peers.run, 240),
    "cells": (cells.run, 90), "scans": (scans.run, 60), "paper": (paper.run, 200), "training": (training.run, 70),
}


def numbers(text):
    return [int(number) for number in text.split(",")]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rnnc", type=pathlib.Path, required=True, help="the command `rnnc`")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="directory of the results")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, by commas; all by default")
    parser.add_argument("--minutes", type=float, default=9.5, help="time for all; what does not fit is left out and named")
    parser.add_argument("--suite", type=pathlib.Path, help="the suite's test program; without it, `cargo test` runs it")
    parser.add_argument("--frames", type=int, default=1024, help="frames of a window")
    parser.add_argument("--sizes", type=numbers, default=[256, 512, 768, 1024], help="units of LSTM and GRU layers")
    parser.add_argument("--streams", type=numbers, default=[1, 4, 16, 64], help="streams of LSTM and GRU layers")
    parser.add_argument("--seconds", type=float, default=0.2, help="time of one measurement, at least 10 calls")
    parser.add_argument("--cell-sizes", type=numbers, default=[512, 1024], help="units of custom cells")
    parser.add_argument("--paper-sizes", type=numbers, default=[256, 512])
    parser.add_argument("--paper-layers", type=numbers, default=[1, 2, 3])
    parser.add_argument("--paper-streams", type=numbers, default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--training", type=pathlib.Path, default="examples/source-code/train.toml", help="its settings")
    parser.add_argument("--training-seconds", type=float, default=60)
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy sizes")
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not options.rnnc.is_file():
        parser.error(f"there is no {options.rnnc}")
    options.loop_size, options.scan_size, options.scan_frames = 512, 256, 16384
    options.large_sizes, options.large_streams = [768, 1024], [1, 5]
    options.precisions = ["f32", "tf32", "bf16"]
    if options.rehearse:
        options.frames, options.sizes, options.streams, options.seconds = 24, [16, 24], [1, 3], 0.0
        options.cell_sizes, options.precisions = [16], ["f32"]
        options.large_sizes, options.large_streams = [16], [2]
        options.paper_sizes, options.paper_layers, options.paper_streams = [16], [1, 2], [1, 2]
        options.loop_size, options.scan_size, options.scan_frames = 16, 16, 64
        options.training_seconds = min(options.training_seconds, 3)
    return options


def main():
    options = arguments()
    options.output.mkdir(parents=True, exist_ok=True)
    rnnc = Rnnc(options.rnnc, "cpu" if options.rehearse else "cuda")
    machine = Machine(rnnc, options.rehearse)
    # Named, it need not be asked.
    rnnc.planned_device = "h200" if options.rehearse or "H200" in (machine.facts["gpu"] or "") else None
    print(machine, flush=True)
    budget, wrong = Budget(options.minutes * 60), []
    names = options.parts.split(",")
    try:
        parts = [JoinedPart(name, options, machine, budget) for name in names]
    except Different as error:
        sys.exit(str(error))
    for place, (name, part) in enumerate(zip(names, parts)):
        seconds = {later: options.training_seconds + 30 if later == "training" else PARTS[later][1] for later in names[place:]}
        part.budget = Budget(seconds[name] / sum(seconds.values()) * budget.left())
        print(f"\n== {name}: at most {part.budget.left():.0f} s", flush=True)
        try:
            PARTS[name][0](part, rnnc, options)
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
