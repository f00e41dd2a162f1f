"""The programs that are timed, each behind the same two questions: what does this point take, and what does it compute."""

import json
import os
import pathlib
import selectors
import subprocess
import sys

import networks
from common import times_of

SERVE = pathlib.Path(__file__).with_name("serve.py")


class Point:
    """A network, the streams and the frames."""

    def __init__(self, cell, layers, size, streams, frames):
        self.cell, self.layers, self.size, self.streams, self.frames = cell, layers, size, streams, frames

    def __str__(self):
        return f"{self.cell} {self.layers}x{self.size} B={self.streams} T={self.frames}"

    def row(self):
        return dict(vars(self))

    def flops(self):
        """Of forward and backward, roughly, for no more than to know how long a call takes."""
        matrices = {"lstm": 8, "lstm_peephole": 8, "lstm_layer_norm": 8, "gru": 6, "rnn": 2, "tandem": 7, "fading": 3, "scan": 0.1}
        return 6 * self.size ** 2 * matrices.get(self.cell, 3) * self.layers * self.streams * self.frames

    def calls(self):
        """Calls that a timing takes at least: fewer where they are long."""
        seconds = self.flops() / 1e11
        return 10 if seconds < 0.01 else 3 if seconds < 1 else 1


class Rnnc:
    """A process for each question: it starts in some milliseconds."""

    name = "rnnc"

    def __init__(self, command, folder, threads):
        self.command, self.folder, self.threads = command, folder, threads
        self.machine = folder / "machine.json"

    def network(self, point):
        """The text and the initial weights, in files."""
        path = self.folder / f"{point.cell}_{point.size}x{point.layers}.rnn"
        weights = path.with_suffix(".safetensors")
        if not weights.exists():
            path.write_text(networks.text(point.cell, point.size, point.layers))
            subprocess.run([self.command.path, "init", path, "--output", weights], check=True, capture_output=True)
        return path, weights

    def bench(self, point, *options, timeout, known=True, threads=None):
        """Beside the bound of the machine as it was measured before, or else as it is found to be now."""
        path, _ = self.network(point)
        options = [*options, *(["--machine", self.machine] if known else [])]
        return self.command.bench(path, point.streams, point.frames, "--threads", threads or self.threads, *options, timeout=timeout)

    def measure_machine(self, times):
        """Its speeds, the best of several measurements: what else ran meanwhile is no limit."""
        point, machines = Point("rnn", 1, 16, 1, 16), []
        for _ in range(times):
            options = ["--seconds", 0, "--calls", 1]
            machines.append(self.bench(point, *options, known=False, timeout=60)["machine"])
        best = machines[0]
        for machine in machines[1:]:
            for name in ("product_gflops", "packed_product_gflops"):
                best[name] = max(best[name], machine[name])
            for name in ("read_gb_s", "copy_gb_s"):
                best[name] = [max(a, b) for a, b in zip(best[name], machine[name])]
        self.machine.write_text(json.dumps(best))
        return best

    def time(self, point, passes, seconds, timeout):
        line = self.bench(point, "--seconds", seconds, "--calls", point.calls(), known=False, timeout=timeout)
        return times_of(line) | {"line": line}

    def run(self, point, weights, data, output, timeout):
        path, _ = self.network(point)
        files = ["--weights", weights, "--input", data, "--output"]
        threads = ["--threads", self.threads]
        import numpy as np
        self.command.run("run", path, *files, output, *threads, timeout=timeout)
        h = np.load(output)["h"]
        self.command.run("grad", path, *files, output, *threads, timeout=timeout)
        return h, np.load(output)["d_x"]


class Peer:
    """A process that stays. One that does not answer is ended, and begun anew when it is next asked."""

    def __init__(self, name, module, threads, rnnc):
        self.name, self.module, self.threads, self.rnnc = name, module, threads, rnnc
        self.process = None
        self.versions = self.ask(120, ask="hello")

    def ask(self, timeout, **question):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([sys.executable, SERVE, self.module, str(self.threads)], text=True,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # an ended process has an end of file for an answer
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                self.end()
                raise RuntimeError(f"{self.name} did not answer within {timeout:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            code, self.process = self.process.returncode, None
            raise RuntimeError(f"{self.name} ended, with code {code}")
        found = json.loads(line)
        if "error" in found:
            raise RuntimeError(f"{self.name}: {found['error']}")
        return found

    def time(self, point, passes, seconds, timeout):
        _, weights = self.rnnc.network(point)
        return self.ask(timeout, ask="time", weights=str(weights), passes=passes, seconds=seconds,
                        calls=min(point.calls(), self.most_calls(point)), **point.row())

    def most_calls(self, point):
        """A loop of operations takes some ten times as long as what is compiled."""
        return 1 if point.cell == "lstm_peephole" and self.module == "in_torch" and point.streams > 1 else 10

    def run(self, point, weights, data, output, timeout):
        import numpy as np
        self.ask(timeout, ask="run", weights=str(weights), data=str(data), output=str(output), **point.row())
        found = np.load(output)
        return found["h"], found["d_x"]

    def seconds(self):
        """Time of processors that it took so far."""
        if self.process is None:
            return 0.0
        # What follows the name, which may have spaces: state, .., and as 12th and 13th user and system.
        words = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
