"""What it costs blocks to wait for each other: synchronization.cu, compiled by nvcc."""

import json
import pathlib
import shutil
import subprocess
import tempfile

SOURCE = pathlib.Path(__file__).with_name("synchronization.cu")


def run(part, rnnc, options):
    if rnnc.executor != "cuda":
        return part.skip(SOURCE.name, "no GPU is used")
    if not shutil.which("nvcc"):
        return part.skip(SOURCE.name, "there is no nvcc")
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "synchronization"
        subprocess.run(["nvcc", "-O3", "-std=c++17", "-arch=native", "-o", program, SOURCE], check=True,
                       timeout=part.budget.left() + 60)
        out = subprocess.run([program], capture_output=True, text=True, timeout=60)
    if out.returncode:
        part.fail(SOURCE.name, out.stderr or out.stdout)
    for line in out.stdout.splitlines():
        row = json.loads(line)
        part.add(what=f"{row['variant']}, {row['blocks']} blocks", **row)
