"""Compiles the kernels of everything that is measured, several networks side by side, so that no measurement waits."""

import concurrent.futures
import os
import pathlib
import tempfile
import time

import cases
from common import rounded


def prepare(part, rnnc, options):
    if rnnc.executor != "cuda":
        return part.skip("kernels", "no GPU is used")
    with tempfile.TemporaryDirectory() as folder:
        def one(place, case):
            if part.budget.left() < 1:
                return case, None, "no time was left"
            path = pathlib.Path(folder) / f"{place}.rnn"
            path.write_text(case.text())
            begun = time.monotonic()
            try:
                rnnc.run("bench", path, "--streams", case.streams, "--frames", case.frames, "--schedule", case.schedule,
                         "--precision", case.precision, "--prepare", timeout=part.budget.left())
            except RuntimeError as error:
                return case, None, str(error)
            return case, time.monotonic() - begun, None

        # The dearest first. Each holds a network's memory on the GPU while it compiles.
        all_cases = sorted(cases.chosen(cases.COMPILED, options), key=lambda case: -case.size * case.layers)
        workers = max(1, min(12, os.cpu_count() or 1))
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            done = list(pool.map(one, range(len(all_cases)), all_cases))
    times = [seconds for _, seconds, _ in done if seconds is not None]
    for case, seconds, problem in done:
        if seconds is None:
            part.skip(f"kernels of {case}", problem)
    if times:
        part.add(what=f"kernels of {options.parts}, {options.sizes} units", networks=len(times), workers=workers,
                 slowest_s=rounded(max(times)), all_s=rounded(sum(times)))
