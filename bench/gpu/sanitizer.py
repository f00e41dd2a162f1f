"""Whether NVIDIA's compute-sanitizer finds anything in the kernels: accesses out of bounds or of what was never written
to, races in shared memory, barriers that not all threads reach."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import cases
from common import rounded

TOOLS = ["memcheck", "racecheck", "synccheck"]
PROGRAM = "compute-sanitizer"
PLACES = ["/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin"]
# Each tool says how many problems it found, in a line of its own.
SUMMARY = re.compile(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (\d+)", re.MULTILINE)
FAILED = 86


def run(part, rnnc, options):
    if rnnc.executor != "cuda":
        return part.skip(PROGRAM, "no GPU is used")
    program = shutil.which(PROGRAM) or next(filter(None, (shutil.which(PROGRAM, path=place) for place in PLACES)), None)
    if program is None:
        return part.skip(PROGRAM, "it is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path, machine = (pathlib.Path(folder) / name for name in ("net.rnn", "machine.json"))
        for case in cases.sanitized(options):
            path.write_text(case.text())
            if not machine.is_file():
                found = rnnc.bench(path, case.streams, case.frames, "--seconds", 0, timeout=part.budget.left())
                machine.write_text(json.dumps(found["machine"]))
            for tool in TOOLS:
                what = f"{tool} of {case}"
                if part.has_time(what, 10):
                    one(part, program, rnnc, tool, path, machine, case, what)


def one(part, program, rnnc, tool, path, machine, case, what):
    # Without the machine's speeds, large products are timed for them, which takes racecheck many minutes.
    command = [program, "--tool", tool, "--error-exitcode", str(FAILED), str(rnnc.path), "bench", str(path), "--executor", "cuda",
               "--streams", str(case.streams), "--frames", str(case.frames), "--seconds", "0", "--calls", "1",
               "--machine", str(machine)]
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        out, _ = process.communicate(timeout=part.budget.left())
    except subprocess.TimeoutExpired:
        # The program that is watched too: it would go on, on the GPU of the parts that follow.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return part.skip(what, "no time was left")
    found = [int(count) for count in SUMMARY.findall(out)]
    clean = process.returncode == 0 and bool(found) and not any(found)
    part.add(what=what, tool=tool, cell=case.cell, size=case.size, streams=case.streams, frames=case.frames,
             exit_status=process.returncode, problems=sum(found) if found else None, clean=clean,
             seconds=rounded(time.monotonic() - begun))
    if not clean:
        part.fail(what, out[-2000:])
