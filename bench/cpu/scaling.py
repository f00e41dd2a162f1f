"""Longer windows: time in proportion to frames, memory as planned. And inference frame by frame, as a distribution."""

from common import rounded
from workers import Point


def run(part, rnnc, _, options):
    for frames in [256, 4096, 16384] if options.quick else [256, 1024, 4096, 16384, 65536]:
        point = Point("lstm", 1, 256, 1, frames)
        if not options.only.search(f"scaling {point}") or not part.has_time(f"scaling {point}", 2):
            continue
        try:
            line = rnnc.bench(point, "--seconds", options.seconds, "--calls", max(point.calls(), 2),
                              timeout=60 + part.budget.left())
        except RuntimeError as error:
            part.fail(str(point), error)
            continue
        memory = {key: line.get(key) for key in ("memory_planned", "memory_measured")}
        ratio = rounded(memory["memory_measured"] / memory["memory_planned"]) if memory["memory_measured"] else None
        part.add(kind="window", **point.row(), train_us_per_step=line["train_us_per_step"], **memory, memory_ratio=ratio,
                 say=f"{point}: {line['train_us_per_step']} us a frame, {ratio} of the memory planned")
    for cell, layers, size in [("lstm", 1, 256), ("lstm", 2, 512), ("gru", 1, 256), ("mingru", 1, 256)]:
        point = Point(cell, layers, size, 1, 256)
        if not options.only.search(f"session {point}") or not part.has_time(f"session {point}", 2):
            continue
        try:
            line = rnnc.bench(point, "--schedule", "session", "--seconds", 5 * options.seconds,
                              timeout=60 + part.budget.left())
        except RuntimeError as error:
            part.fail(str(point), error)
            continue
        part.add(kind="session", **point.row(), timed_frames=line["frames"], latency_us=line["latency_us"],
                 fraction_of_bound=line["fraction_of_bound"], say=f"session {point}: {line['latency_us']}")
