"""All cells of the library at large sizes, a few frames of them: `rnnc check` compares values, all gradients and the state
with the reference executor's. Several side by side, since the reference is slow."""

import concurrent.futures
import os
import pathlib
import re
import tempfile
import time

from common import counted, rounded

WORST = re.compile(r"against reference: ok \((\d+) arrays; largest relative difference (\S+), (.*)\)")
FRAMES = 6
# These have a second size.
TWO_SIZES = re.compile(r"\(x; n, m")


def run(part, rnnc, options):
    names = [line.split()[0] for line in rnnc.run("cells", executor=None, timeout=20).splitlines() if re.match(r"\w", line)]
    jobs = [(name, size, streams) for size in options.large_sizes for name in names for streams in options.large_streams]
    with tempfile.TemporaryDirectory() as folder:
        def one(job):
            name, size, streams = job
            if part.budget.left() < 10:
                return job, None, None, None
            text = rnnc.run("cells", name, executor=None, timeout=20)
            sizes = f"{size}, {size}" if TWO_SIZES.search(text) else size
            path = pathlib.Path(folder) / f"{name}-{size}-{streams}.rnn"
            path.write_text(f"network n {{\n    input x : vector({size})\n    h = {name}(x; {sizes})\n    output h\n}}\n")
            begun = time.monotonic()
            try:
                out = rnnc.run("check", path, "--no-differences", "--streams", streams, "--frames", FRAMES,
                               timeout=part.budget.left())
            except RuntimeError as error:
                return job, None, str(error), None
            return job, out, None, time.monotonic() - begun

        with concurrent.futures.ThreadPoolExecutor(max(1, min(12, os.cpu_count() or 1))) as pool:
            for job, out, problem, seconds in pool.map(one, jobs):
                keep(part, job, out, problem, seconds)


def keep(part, job, out, problem, seconds):
    name, size, streams = job
    what = f"{name} {size}, {counted(streams, 'stream')}"
    if problem:
        return part.fail(what, problem)
    if out is None:
        return part.skip(what, "no time was left")
    found = WORST.search(out)
    if not found:
        return part.fail(what, f"`rnnc check` said: {out[-1000:]}")
    arrays, error, of = found.groups()
    part.add(f"{what}: {error}, of {of}", what=what, cell=name, size=size, streams=streams, frames=FRAMES, arrays=int(arrays),
             error=float(error), of=of, seconds=rounded(seconds))
