"""The executor suite on the GPU, in several processes: most of its time goes into compiling kernels."""

import os
import re
import shutil
import subprocess

from common import rounded

MOST_PROCESSES = 8
COUNT = re.compile(r"(\d+) cases agree")


def run(part, rnnc, options):
    if options.suite:
        command = [str(options.suite.resolve()), "--ignored", "--nocapture"]
    elif shutil.which("cargo"):
        command = ["cargo", "test", "--release", "-p", "rnnc-cuda", "--test", "device", "--", "--ignored", "--nocapture"]
    else:
        return part.skip("the suite", "neither --suite nor cargo is there")
    if rnnc.executor != "cuda":
        return part.skip("the suite", "no GPU is used")
    count = max(1, min(MOST_PROCESSES, os.cpu_count() or 1))
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  env=os.environ | {"RNNC_PART": f"{place}/{count}"}) for place in range(count)]
    outs = []
    try:
        for process in processes:
            outs.append(process.communicate(timeout=part.budget.left())[0])
    except subprocess.TimeoutExpired:
        return part.fail("the suite", f"stopped after {part.budget.seconds:.0f} s")
    finally:
        for process in processes:
            process.kill()
    passed = not any(process.returncode for process in processes)
    cases = sum(int(number) for out in outs for number in COUNT.findall(out))
    part.add(what="the suite", command=" ".join(command), processes=count, passed=passed, cases=cases,
             seconds=rounded(part.budget.spent()))
    for process, out in zip(processes, outs):
        if process.returncode:
            part.fail("the suite", out[-4000:])
    if passed and not cases:
        part.fail("the suite", f"it ran no case: {outs[0][-1000:]}")
