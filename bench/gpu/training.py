"""A model of text, trained for some seconds: `rnnc train`, ended as Ctrl-C ends it."""

import json
import signal
import subprocess
import tomllib

from common import rounded


def run(part, rnnc, options):
    seconds = min(options.training_seconds, part.budget.left() - 15)
    if seconds < 2:
        return part.skip(str(options.training), "no time was left")
    config = tomllib.loads(options.training.read_text())
    metrics = options.training.parent / config["run"]["directory"] / "metrics.jsonl"
    command = [str(rnnc.path), "train", str(options.training), "--executor", rnnc.executor]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=part.budget.left() + 15)
        except subprocess.TimeoutExpired:
            process.kill()
            return part.fail(str(options.training), "it did not end")
    if process.returncode:
        return part.fail(str(options.training), out[-2000:])
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for kind in ("training", "validation", "test"):
        last = [line for line in lines if line["kind"] == kind][-1:]
        for line in last:
            row = {key: rounded(line[key]) for key in ("seconds", "bits_per_symbol", "loss", "frames_per_second")
                   if key in line}
            part.add(settings=str(options.training), kind=kind, update=line["update"], **row)
