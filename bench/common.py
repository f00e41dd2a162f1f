"""What all parts use: results as JSON, time that runs out, the machine, and the command `rnnc`."""

import hashlib
import json
import os
import pathlib
import platform
import subprocess
import time


def rounded(value):
    """Four significant digits: more than any time here repeats to."""
    return float(f"{value:.4g}")


def spread(times):
    """The median, and the quantiles at 10 and 90 percent, as `rnnc bench` has them."""
    ordered = sorted(times)
    return {name: rounded(ordered[int(share * (len(ordered) - 1))])
            for name, share in (("median", 0.5), ("low", 0.1), ("high", 0.9))}


class Budget:
    def __init__(self, seconds):
        self.begun, self.seconds = time.monotonic(), seconds

    def spent(self):
        return time.monotonic() - self.begun

    def left(self):
        return max(self.seconds - self.spent(), 0.0)


class Machine:
    """Names and versions."""

    def __init__(self, rnnc, rehearsal):
        self.facts = {"rehearsal": rehearsal, "processor": processor(), "cores": os.cpu_count(),
                      "python": platform.python_version(), "rnnc": first_line([rnnc.path, "--version"]),
                      "binary": hashlib.sha256(rnnc.path.read_bytes()).hexdigest()[:12],
                      "commit": first_line(["git", "describe", "--always", "--dirty"])}
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        self.facts["gpu"] = first_line(query)
        try:
            import torch
            self.facts["torch"], self.facts["cuda"] = torch.__version__, torch.version.cuda
            self.facts["cudnn"] = torch.backends.cudnn.version() if torch.cuda.is_available() else None
        except ImportError:
            self.facts["torch"] = None

    def __str__(self):
        return ", ".join(f"{name} {value}" for name, value in self.facts.items())


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def first_line(command):
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return found.strip().splitlines()[0] if found.strip() else None
    except (OSError, subprocess.SubprocessError):
        return None


class Part:
    """A part's results: rows, what was left out and why, what was wrong. On disk after every row."""

    def __init__(self, name, options, machine, budget):
        self.name, self.budget, self.machine = name, budget, machine
        self.path = options.output / f"{name}.json"
        self.rows, self.skipped, self.wrong = [], [], []

    def add(self, say=None, **row):
        """Keeps a row, and says it, or `say` instead."""
        self.rows.append(row)
        print("  " + (say or ", ".join(f"{key} {value}" for key, value in row.items())), flush=True)
        self.save()

    def skip(self, what, why):
        self.skipped.append({"what": what, "why": why})
        print(f"  {what}: left out: {why}", flush=True)

    def fail(self, what, error):
        self.wrong.append(f"{self.name}: {what}: {error}")
        print(f"  {what}: WRONG: {error}", flush=True)

    def has_time(self, what, seconds=1.0):
        """Whether there is time for one thing more; if not, that is noted."""
        if self.budget.left() >= seconds:
            return True
        self.skip(what, "no time was left")
        return False

    def contents(self):
        return {
            "part": self.name, "machine": self.machine.facts, "seconds": rounded(self.budget.spent()),
            "results": self.rows, "left_out": self.skipped, "wrong": self.wrong,
        }

    def save(self):
        text = json.dumps(self.contents(), indent=1)
        unfinished = self.path.with_suffix(".unfinished")
        unfinished.write_text(text + "\n")
        unfinished.rename(self.path)


class Rnnc:
    """The command."""

    def __init__(self, path, executor):
        self.path, self.executor = path.resolve(), executor

    def run(self, *arguments, timeout, executor="its own"):
        """What it prints. `executor` is another one, or None, for what has none."""
        executor = self.executor if executor == "its own" else executor
        command = [str(self.path), *map(str, arguments), *(["--executor", executor] if executor else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=max(timeout, 1.0))
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"stopped after {timeout:.0f} s: {' '.join(command)}") from None
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{(done.stderr or done.stdout).strip()[-2000:]}")
        return done.stdout

    def bench(self, network, streams, frames, *options, timeout):
        """Microseconds per frame of one number of streams."""
        out = self.run("bench", network, "--streams", streams, "--frames", frames, "--format", "json", *options,
                       timeout=timeout)
        return json.loads(out)


def table(head, rows):
    """In Markdown."""
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def number(value, digits=3):
    """So many significant digits, without an exponent where that is shorter."""
    if value is None:
        return "-"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text


def counted(count, noun):
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"


def fractions_of(line):
    """What a line of `rnnc bench` says of the bound, under the names of this script."""
    keys = {"forward": "forward_fraction_of_bound", "train": "fraction_of_bound"}
    return {name: line[key] for name, key in keys.items() if f"{name}_us_per_step" in line and line.get(key) is not None}


def times_of(line):
    """The fields of a line of `rnnc bench` that are times, under the names of this script."""
    found = {}
    for name in ("forward", "train", "host_forward", "host_train"):
        key = f"{name}_us_per_step"
        if key in line:
            found[name] = {kind: rounded(line[key + suffix]) for kind, suffix in
                           (("median", ""), ("low", "_low"), ("high", "_high"))}
    return found
