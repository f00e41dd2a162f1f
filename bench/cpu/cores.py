"""More cores: how many times as fast a network is with so many threads as with one, and what the plan predicts of that."""

import json
import statistics

from common import rounded
from peers import over
from workers import Point


def points(options):
    """A network, as many streams, and all frames of a window."""
    if options.quick:
        return [Point("lstm", 1, 256, 1, 256), Point("lstm", 1, 256, 16, 256)]
    return [*(Point("lstm", 1, size, streams, 256) for size in (256, 512, 1024) for streams in (1, 4, 16)),
            Point("gru", 1, 512, 1, 256), Point("lstm", 2, 512, 1, 256), Point("mingru", 1, 256, 1, 16384)]


def run(part, rnnc, _, options):
    counts = sorted({1, options.threads, *(1 << bits for bits in range(1, 10) if 1 << bits < options.threads)})
    for point in points(options):
        if options.only.search(f"cores {point}") and part.has_time(f"cores {point}", 2):
            try:
                measure(part, rnnc, options, point, counts)
            except RuntimeError as error:
                part.fail(str(point), error)


def measure(part, rnnc, options, point, counts):
    """All numbers of threads in turn, round by round."""
    network, _ = rnnc.network(point)
    times = {count: [] for count in counts}
    for turn in range(options.rounds):
        if turn > 0 and part.budget.left() < 2:
            break
        for count, found in times.items():
            line = rnnc.bench(point, "--no-bound", "--seconds", options.seconds, "--calls", point.calls(), known=False, threads=count,
                              timeout=60 + part.budget.left())
            found.append(line["train_us_per_step"])
    predictions = {count: predicted(rnnc, network, point, count) for count in counts}
    for count in counts:
        gains = [one / more for one, more in zip(times[1], times[count])]
        part.add(**point.row(), threads=count, rounds=len(gains), train_us_per_step=rounded(statistics.median(times[count])),
                 gain=over(gains), predicted_gain=rounded(predictions[1] / predictions[count]),
                 say=f"{point}, {count} threads: {over(gains)['median']} times as fast as one, "
                     f"predicted {rounded(predictions[1] / predictions[count])}")


def predicted(rnnc, network, point, threads):
    """Microseconds of a frame, forward and backward with the gradients of inputs."""
    plan = rnnc.command.run("plan", network, "--streams", point.streams, "--frames", point.frames, "--threads", threads,
                            "--input-gradients", "--format", "json", timeout=60)
    return sum(single["schedule"]["predicted_us"]["all"] for single in json.loads(plan)["passes"])
