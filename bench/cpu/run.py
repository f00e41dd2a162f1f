"""Measures rnnc on this machine's CPU, beside PyTorch and JAX with --peers. `bench/run` starts it. The parts, in order:

    peers    single layers and stacks, forward, and forward + backward with the gradients of weights and inputs
    paper    a peephole LSTM, as planned and frame by frame, over streams
    scaling  windows of up to 65,536 frames: time and memory; latencies of a session
    cores    numbers of threads, up to all: what they gain, and what the plan predicts

All programs run on the same cores with as many threads, one at a time. Each part writes PART.json into the output directory
as it goes, and tables and plots are made of all of them. Exit code 1 if something is wrong: programs that compute
different things, a measurement that failed.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import cores
import paper
import peers
import scaling
import workers
from common import Budget, Machine, Part, Rnnc, processor, rounded

# What each part gets of the time, beside the others; what one leaves is for those after it.
PARTS = {"peers": (peers.run, 20), "paper": (paper.run, 6), "scaling": (scaling.run, 2), "cores": (cores.run, 2)}

MODULES = {"torch": "in_torch", "jax": "in_jax"}


def arguments(allowed):
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="beside PyTorch and JAX, in a virtual environment of their own")
    parser.add_argument("--quick", action="store_true", help="a small part of it, in about three minutes")
    parser.add_argument("--minutes", type=float, help="time for all [30; 3.5 with --quick]; what does not fit is left out")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX",
                        help="points whose name has it, such as `lstm 1x256 B=4 T=256`, `paper ..`, `scaling ..`, `session ..`, `cores ..`")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, by commas; all by default")
    parser.add_argument("--threads", type=int, default=len(allowed), help="threads, each on a core of its own [all cores]")
    parser.add_argument("--rounds", type=int, help="rounds at most [5; 3 with --quick]")
    parser.add_argument("--seconds", type=float, help="time of a timing, at least [0.3; 0.08 with --quick]")
    parser.add_argument("--rnnc", type=pathlib.Path, help="the command; built by default")
    parser.add_argument("--output", type=pathlib.Path, help="directory [bench/results/PROCESSOR-THREADS; bench/results/quick]")
    options = parser.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if not 0 < options.threads <= len(allowed):
        parser.error(f"there are {len(allowed)} cores for the threads")
    for name, quick, full in (("minutes", 3.5, 30), ("rounds", 3, 5), ("seconds", 0.08, 0.3)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    if options.output is None:
        slug = re.sub("[^a-z0-9]+", "-", (processor() or "cpu").lower()).strip("-")
        options.output = HERE.parent / "results" / ("quick" if options.quick else f"{slug}-{options.threads}")
    return options


def built():
    """The command, of this commit."""
    print("building rnnc", flush=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "rnnc", "--bin", "rnnc"], check=True,
                   cwd=HERE.parent.parent)
    target = os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target")
    return pathlib.Path(target) / "release" / "rnnc"


class Others:
    """How many cores programs keep busy that are not of this run."""

    def __init__(self):
        self.begun, self.before = time.monotonic(), self.ticks()

    @staticmethod
    def ticks():
        """Of all programs: user, nice, system; and interrupts."""
        words = pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:8]
        return sum(map(int, words[:3] + words[5:])) / os.sysconf("SC_CLK_TCK")

    def cores(self, peers):
        """Since the beginning. Of processes that have ended the system knows the times, the peers are asked for."""
        own = sum(os.times()[:4]) + sum(peer.seconds() for peer in peers)
        return rounded(max(self.ticks() - self.before - own, 0.0) / (time.monotonic() - self.begun))


def main():
    allowed = sorted(os.sched_getaffinity(0))
    options = arguments(allowed)
    path = options.rnnc or built()
    options.output.mkdir(parents=True, exist_ok=True)
    # Of this process and all that it starts.
    os.sched_setaffinity(0, allowed[:options.threads])
    begun = Others()
    command = Rnnc(path, "cpu")
    machine = Machine(command, False)
    machine.facts |= {"threads": options.threads, "quick": options.quick}
    budget, wrong = Budget(options.minutes * 60), []
    with tempfile.TemporaryDirectory() as folder:
        options.folder = pathlib.Path(folder)
        rnnc = workers.Rnnc(command, options.folder, options.threads)
        machine.facts["speeds"] = rnnc.measure_machine(3 if options.quick else 10)
        others = {}
        try:
            if options.peers:
                others = {name: workers.Peer(name, module, options.threads, rnnc) for name, module in MODULES.items()}
                for peer in others.values():
                    machine.facts |= peer.versions
            print(machine, flush=True)
            names = options.parts.split(",")
            for place, name in enumerate(names):
                run, share = PARTS[name]
                share /= sum(PARTS[later][1] for later in names[place:])
                part = Part(name, options, machine, Budget(share * budget.left()))
                print(f"\n== {name}: at most {part.budget.left():.0f} s", flush=True)
                try:
                    run(part, rnnc, others, options)
                except Exception as error:  # one part's end is not the others'
                    part.fail(name, f"{type(error).__name__}: {error}")
                machine.facts["busy_cores"] = begun.cores(others.values())
                part.save()
                wrong += part.wrong
                print(f"-- {name}: {rounded(part.budget.spent())} s, {len(part.rows)} results, "
                      f"{len(part.skipped)} left out, {len(part.wrong)} wrong", flush=True)
        finally:
            for peer in others.values():
                peer.end()
    subprocess.run([sys.executable, HERE.parent / "table.py", "--write", options.output], check=True)
    subprocess.run([sys.executable, HERE / "plots.py", options.output], check=True)
    print(f"\nresults are in {options.output}")
    if wrong:
        print("\nwrong:\n" + "\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
