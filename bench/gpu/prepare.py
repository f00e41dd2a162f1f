"""Compiles the kernels of everything that is timed, several networks side by side, so that no measurement waits for it."""

import concurrent.futures
import os
import tempfile
import pathlib
import time

import networks
from common import rounded


def jobs(options):
    """(cell, size, layers, streams, schedule, frames), the dearest first."""
    parts = options.parts.split(",")
    found = set()
    if "peers" in parts or "correctness" in parts:
        for cell in ("lstm", "gru"):
            found |= {(cell, size, 1, streams, "window", options.frames)
                      for size in options.sizes for streams in options.streams}
        found |= {("lstm_peephole", 512, 1, streams, "window", options.frames) for streams in (1, 16)}
    if "paper" in parts:
        for schedule in ("window", "frame"):
            found |= {("lstm_peephole", size, layers, streams, schedule, options.frames)
                      for size in options.paper_sizes for layers in options.paper_layers
                      for streams in options.paper_streams}
    return sorted(found, key=lambda job: (-job[1] * job[2], job))


def prepare(part, rnnc, options):
    if rnnc.executor != "cuda":
        return part.skip("kernels", "no GPU is used")
    with tempfile.TemporaryDirectory() as folder:
        def one(job):
            cell, size, layers, streams, schedule, frames = job
            if part.budget.left() < 1:
                return job, None, "no time was left"
            path = pathlib.Path(folder) / ("-".join(map(str, job)) + ".rnn")
            path.write_text(networks.text(cell, size, layers))
            begun = time.monotonic()
            try:
                rnnc.run("bench", path, "--streams", streams, "--frames", frames, "--schedule", schedule, "--prepare",
                         timeout=part.budget.left())
            except RuntimeError as error:
                return job, None, str(error)
            return job, time.monotonic() - begun, None

        # Each holds a network's memory on the GPU while it compiles.
        workers = max(1, min(12, os.cpu_count() or 1))
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            done = list(pool.map(one, jobs(options)))
    times = [seconds for _, seconds, _ in done if seconds is not None]
    for job, seconds, problem in done:
        if seconds is None:
            part.skip(" ".join(map(str, job)), problem)
    if times:
        part.add(networks=len(times), workers=workers, slowest_s=rounded(max(times)), all_s=rounded(sum(times)))
