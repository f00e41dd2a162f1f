"""A model of text, trained for some seconds by `rnnc train`: what it reached, and when."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import tomllib

from common import rounded

POINTS = 100
KEPT = ("seconds", "bits_per_symbol", "loss", "frames_per_second")


def run(part, rnnc, options):
    seconds = min(options.training_seconds, part.budget.left() - 15)
    if seconds < 2:
        return part.skip(str(options.training), "no time was left")
    with tempfile.TemporaryDirectory() as folder:
        # The settings as they are, but for the time; the files that they name lie beside them.
        copy = pathlib.Path(folder) / "training"
        shutil.copytree(options.training.parent, copy, ignore=shutil.ignore_patterns("run"))
        settings = copy / options.training.name
        text, count = re.subn(r"(?m)^minutes *=.*$", f"minutes = {seconds / 60}", settings.read_text())
        if count != 1:
            return part.fail(str(options.training), "it does not say `minutes`")
        settings.write_text(text)
        directory = tomllib.loads(text)["run"]["directory"]
        problem = train(part, rnnc, settings, seconds)
        if problem:
            return part.fail(str(options.training), problem)
        lines = [json.loads(line) for line in (copy / directory / "metrics.jsonl").read_text().splitlines()]
    for kind in ("training", "validation", "test"):
        points = [line for line in lines if line["kind"] == kind]
        kept = thinned(points)
        if kind == "validation" and points:
            # Later ones may be worse.
            best = min(points, key=lambda line: line["loss"])
            kept = sorted({line["update"]: line for line in [*kept, best]}.values(), key=lambda line: line["update"])
        for line in kept:
            row = {key: rounded(line[key]) for key in KEPT if key in line}
            part.rows.append({"what": f"{kind}, update {line['update']}", "settings": str(options.training), "kind": kind,
                              "update": line["update"], **row})
        if kept:
            print(f"  {part.rows[-1]}", flush=True)


def thinned(points):
    """Some of them, evenly, the last one among them."""
    step = max(1, -(-len(points) // POINTS))
    return points[::-1][::step][::-1]


def train(part, rnnc, settings, seconds):
    """What went wrong, if anything did. It ends by itself; if not, as Ctrl-C ends it."""
    command = [str(rnnc.path), "train", str(settings), "--executor", rnnc.executor]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out, _ = process.communicate(timeout=seconds + 10)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        try:
            out, _ = process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            return "it did not end"
    return out[-2000:] if process.returncode else None
