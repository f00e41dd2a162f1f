"""The executor suite on the GPU."""

import shutil
import subprocess

from common import rounded


def run(part, rnnc, options):
    if options.suite:
        command = [str(options.suite.resolve()), "--ignored"]
    elif shutil.which("cargo"):
        command = ["cargo", "test", "--release", "-p", "rnnc-cuda", "--test", "device", "--", "--ignored"]
    else:
        return part.skip("the suite", "neither --suite nor cargo is there")
    if rnnc.executor != "cuda":
        return part.skip("the suite", "no GPU is used")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=part.budget.left())
    except subprocess.TimeoutExpired:
        return part.fail("the suite", f"stopped after {part.budget.seconds:.0f} s")
    results = [line for line in done.stdout.splitlines() if line.startswith("test ")]
    part.add(what="the suite", command=" ".join(command), passed=done.returncode == 0, seconds=rounded(part.budget.spent()),
             results=results)
    if done.returncode:
        part.fail("the suite", (done.stdout + done.stderr)[-4000:])
