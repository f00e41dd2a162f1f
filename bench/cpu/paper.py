"""The experiment of Hwang & Sung (2015): a peephole LSTM of some layers, its forward pass as planned, all frames of a window
at hand, and frame by frame, with the same kernels, where only parallel streams help. Neither saves anything for a backward
pass."""

import statistics

from common import rounded
from peers import over
from workers import Point


def points(options):
    """Layers, sizes and streams."""
    if options.quick:
        return [(layers, 256, streams) for layers in (1, 2) for streams in (1, 4, 16, 64)]
    return [(layers, size, streams) for layers in (1, 2, 3) for size in (256, 512) for streams in (1, 2, 4, 8, 16, 32, 64)]


def run(part, rnnc, _, options):
    wanted = [Point("lstm_peephole", layers, size, streams, 256) for layers, size, streams in points(options)]
    wanted = [point for point in wanted if options.only.search(f"paper {point}")]
    for place, point in enumerate(wanted):
        end = part.budget.left() * (1 - 4 / (len(wanted) - place))  # of the budget, no more than four shares
        found = {"window": [], "frame": []}
        for turn in range(options.rounds):
            if turn > 1 and part.budget.left() < end or turn > 0 and part.budget.left() < 1:
                break
            if not part.has_time(f"paper {point}", 1):
                break
            try:
                for schedule, times in found.items():
                    line = rnnc.bench(point, "--schedule", schedule, "--inference", "--seconds", options.seconds,
                                      "--calls", point.calls(), timeout=60 + part.budget.left())
                    times.append(line["forward_us_per_step"])
            except RuntimeError as error:
                part.fail(str(point), error)
                break
        rounds = min(len(times) for times in found.values())
        if rounds:
            gain = [frame / window for frame, window in zip(found["frame"], found["window"])]
            rates = {f"{schedule}_frames_per_second": rounded(1e6 * point.streams / statistics.median(times))
                     for schedule, times in found.items()}
            part.add(**point.row(), inference=True, rounds=rounds, window=over(found["window"]), frame=over(found["frame"]), **rates,
                     ratio=over(gain), say=f"{point}: {over(gain)['median']} times as many frames a second as frame by frame")
