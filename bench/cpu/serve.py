"""A peer in a process of its own, which stays: it answers one question a line, in JSON, and starts and compiles but once.

    python bench/cpu/serve.py in_torch THREADS
"""

import importlib
import json
import os
import pathlib
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import networks
from common import spread


class Server:
    def __init__(self, module, threads):
        self.module = importlib.import_module(module)
        self.peer = self.module.Peer(threads)
        # The last point asked for: its weights, data and compiled functions.
        self.point, self.actions = None, None

    def answer(self, ask, **question):
        return {"hello": self.hello, "time": self.time, "run": self.run}[ask](**question)

    def hello(self):
        return self.peer.versions

    def run(self, weights, data, output, **point):
        """Runs a network over arrays: the outputs, and the gradient of the inputs."""
        import numpy as np
        arrays = np.load(data)
        _, train = self.peer.prepare(point["cell"], point["size"], point["layers"], networks.read_weights(weights),
                                     arrays["x"], arrays["d_h"])
        h, d_x = train()
        np.savez(output, h=np.asarray(h), d_x=np.asarray(d_x))
        return {}

    def time(self, weights, passes, seconds, calls, **point):
        """Microseconds per frame of all streams."""
        if self.point != (weights, point):
            # Frees the last one's memory first.
            self.point = self.actions = None
            self.actions = dict(zip(("forward", "train"), self.prepare(weights, **point)))
            self.point = (weights, point)
        return {name: spread(self.clock(self.actions[name], seconds, calls, point["frames"])) for name in passes}

    def prepare(self, weights, cell, size, layers, streams, frames):
        import numpy as np
        random = np.random.default_rng(1)
        x, d_output = (random.uniform(-1, 1, (frames, streams, size)).astype(np.float32) for _ in range(2))
        actions = self.peer.prepare(cell, size, layers, networks.read_weights(weights), x, d_output)
        for action in actions:
            self.module.finish(action())
        return actions

    def clock(self, action, seconds, calls, frames):
        for _ in range(min(3, calls - 1)):
            self.module.finish(action())
        times, end = [], time.monotonic() + seconds
        while len(times) < calls or time.monotonic() < end:
            begun = time.perf_counter()
            self.module.finish(action())
            times.append((time.perf_counter() - begun) * 1e6 / frames)
        return times


def main():
    # What libraries print is not to be read as an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server = Server(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        try:
            found = server.answer(**json.loads(line))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
