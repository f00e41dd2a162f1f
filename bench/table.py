"""Makes tables of what bench/run measured: DIRECTORY/tables.md, and the parts of docs/performance.md and README.md.

    python3 bench/table.py --write bench/results/DIRECTORY     tables.md of that directory
    python3 bench/table.py --publish bench/results/DIRECTORY   that, and the pages' parts, from now on of that directory
    python3 bench/table.py --check                             whether the pages and all tables.md agree with the results

Needs nothing but Python 3.
"""

import argparse
import json
import math
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent))

from common import number, table
from pages import PERFORMANCE, README, ROOT, Section, outdated, wrapped

CELLS = ["lstm", "gru", "rnn", "lstm_peephole", "lstm_layer_norm", "fading", "tandem", "scan", "sru", "mingru", "lru"]
PEERS = {"torch": "PyTorch", "jax": "JAX"}


def cell_name(row):
    return row["cell"] if row["layers"] == 1 else f"{row['cell']}, {row['layers']} layers"


def spread(found, digits=3):
    return f"{number(found['median'], digits)} ({number(found['low'], digits)} .. {number(found['high'], digits)})"


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


class Results:
    """A directory of bench/run's."""

    def __init__(self, directory):
        self.directory = directory
        parts = {}
        for name in ("peers", "paper", "scaling", "cores"):
            path = directory / f"{name}.json"
            if path.is_file():
                parts[name] = json.loads(path.read_text())
        if not parts:
            raise SystemExit(f"there are no results in {directory}")
        self.parts = parts
        self.facts = [part["machine"] for part in parts.values()][-1]

    def rows(self, part):
        def place(row):
            cell = row["cell"]
            return CELLS.index(cell) if cell in CELLS else len(CELLS), cell, row["layers"], row["size"], row["streams"], row["frames"]
        return sorted(self.parts.get(part, {}).get("results", []), key=place)

    def machine(self):
        """What was measured, on what."""
        facts = self.facts
        peers = [f"{name} {facts[key]}" for name, key in (("PyTorch", "torch"), ("JAX", "jax"))
                 if facts.get(key) and self.rows("peers")]
        texts = [f"{facts['processor']}, {facts['threads']} of {facts['cores']} cores, {facts['threads']} threads", facts["rnnc"],
                 f"commit {facts['commit']}", *peers]
        return "; ".join(texts) + "."

    def speeds(self):
        """What the bound is made of."""
        speeds = self.facts["speeds"]

        def curve(name):
            points = dict(speeds[name])
            return ", ".join(f"{points[1 << bits]:.0f}" for bits in (15, 19, 22, 25) if 1 << bits in points)
        return (f"All threads together: products {speeds['product_gflops']:.0f} GFLOP/s, packed products of few rows "
                f"{speeds['packed_product_gflops']:.0f}; GB/s of 32 KiB, 512 KiB, 4 MiB and 32 MiB a thread: reading "
                f"{curve('read_gb_s')}, copying {curve('copy_gb_s')}: the best of some measurements at the start. {self.rounds()}")

    def rounds(self):
        """What the machine did in the rounds, each with what else ran on it or on what it shares."""
        products = sorted(r["product_gflops"]["median"] for r in self.rows("peers"))
        if not products:
            return ""
        lows, highs = ([r["product_gflops"][end] for r in self.rows("peers")] for end in ("low", "high"))
        return (f"Measured anew in each round, the products' speed was {min(lows):.0f} to {max(highs):.0f} GFLOP/s, "
                f"{products[len(products) // 2]:.0f} in the median; fractions of the bound are of the round's own.")

    def remarks(self):
        texts = []
        if self.facts.get("quick"):
            texts.append("A quick run: few rounds, short timings.")
        if self.facts["busy_cores"] > 0.1:
            texts.append(f"Other programs ran on the machine meanwhile, and kept {self.facts['busy_cores']:.1f} cores busy. "
                         "Ratios within rounds suffer least from that, times more.")
        for name, part in self.parts.items():
            texts += [f"Wrong: {problem}" for problem in part["wrong"]]
            if part["left_out"]:
                first = part["left_out"][0]
                texts.append(f"{len(part['left_out'])} of {name} left out, such as {first['what']}: {first['why']}.")
        return texts

    def ratios(self):
        """How many times as long PyTorch takes for one layer of LSTM: sizes over streams."""
        return self.lstm_grid(lambda row: f"{row['torch']['ratio']['train']['median']:.2f}")

    def grid(self):
        """One layer of LSTM beside PyTorch's, times and ratios: sizes over streams."""
        def entry(row):
            own, theirs = (number(row[name]["train"]["median"]) for name in ("rnnc", "torch"))
            return f"{own} / {theirs}: **{row['torch']['ratio']['train']['median']:.2f}**"
        return self.lstm_grid(entry)

    def lstm_grid(self, entry):
        """A table of one layer of LSTM, where PyTorch was measured too: sizes over streams."""
        rows = {(r["size"], r["streams"]): r for r in self.rows("peers")
                if r["cell"] == "lstm" and r["layers"] == 1 and "torch" in r}
        if not rows:
            return None
        sizes, streams = (sorted({key[place] for key in rows}) for place in (0, 1))
        head = ["units", *("1 stream" if count == 1 else f"{count} streams" for count in streams)]
        return table(head, [[size, *(entry(rows[(size, count)]) if (size, count) in rows else "-" for count in streams)]
                            for size in sizes])

    def summary(self):
        """Over all points of a cell."""
        groups = {}
        for row in self.rows("peers"):
            for name in PEERS:
                if name in row:
                    groups.setdefault((cell_name(row), row["frames"], name), []).append(row)

        def line(key, rows):
            cell, frames, name = key
            ratios = {kind: [r[name]["ratio"][kind]["median"] for r in rows] for kind in ("forward", "train")}
            train = ratios["train"]
            return [cell, f"{PEERS[name]}{self.kind(rows[0], name)}", frames, len(rows), f"{geometric_mean(ratios['forward']):.2f}",
                    f"{geometric_mean(train):.2f}", f"{min(train):.2f} .. {max(train):.2f}"]
        head = ["cell", "beside", "frames", "points", "forward", "forward + backward", "lowest .. highest"]
        return table(head, [line(*group) for group in groups.items()]) if groups else None

    @staticmethod
    def kind(row, name):
        if name == "jax":
            return ", associative scan" if row["cell"] in ("scan", "sru", "mingru", "lru") else ", scan"
        return ", eager" if row["cell"] == "lstm_peephole" else ""

    def bounds(self):
        """Fractions of the bound, of the size that most cells have."""
        rows = [r for r in self.rows("peers") if r["size"] == 256]
        streams = sorted({r["streams"] for r in rows})
        found = {(cell_name(r), r["streams"]): r["fraction_of_bound"]["median"] for r in rows}
        lines = [[cell, *(number(found.get((cell, count)), 2) for count in streams)] for cell in dict.fromkeys(c for c, _ in found)]
        head = ["cell", *("1 stream" if count == 1 else f"{count} streams" for count in streams)]
        return table(head, lines) if rows else None

    def points(self):
        """All of them."""
        names = [name for name in PEERS if any(name in r for r in self.rows("peers"))]
        lines = []
        for r in self.rows("peers"):
            def times(name):
                return " / ".join(spread(r[name][kind]) for kind in ("forward", "train")) if name in r else "-"

            def ratio(name):
                return " / ".join(spread(r[name]["ratio"][kind]) for kind in ("forward", "train")) if name in r else "-"
            bound = " / ".join(number(r[f"{prefix}fraction_of_bound"]["median"], 2) for prefix in ("forward_", ""))
            lines.append([cell_name(r), r["size"], r["streams"], r["frames"], r["rounds"], times("rnnc"), bound,
                          *(text for name in names for text in (times(name), ratio(name)))])
        head = ["cell", "units", "streams", "frames", "rounds", "rnnc", "of the bound",
                *(text for name in names for text in (PEERS[name], f"{PEERS[name]} / rnnc"))]
        return table(head, lines) if lines else None

    def paper(self):
        lines = [[r["layers"], r["size"], r["streams"], number(r["frame_frames_per_second"]),
                  number(r["window_frames_per_second"]), spread(r["ratio"])] for r in self.rows("paper")]
        head = ["layers", "units", "streams", "frame by frame, frames/s", "as planned, frames/s", "ratio"]
        return table(head, lines) if lines else None

    def saving(self):
        """What the passes of the paper's experiment do not do, if so."""
        return " with nothing saved for a backward pass" if any(r.get("inference") for r in self.rows("paper")) else ""

    def gains(self):
        """The paper's experiment, for the page: ratios over streams."""
        rows = {(r["layers"], r["size"], r["streams"]): r["ratio"]["median"] for r in self.rows("paper")}
        streams = sorted({key[2] for key in rows})
        kinds = sorted({key[:2] for key in rows})
        lines = [[f"{layers} of {size}", *(number(rows.get((layers, size, count)), 2) for count in streams)] for layers, size in kinds]
        head = ["layers", *("1 stream" if count == 1 else f"{count} streams" for count in streams)]
        return table(head, lines) if rows else None

    def windows(self):
        lines = [[r["frames"], number(r["train_us_per_step"]), *(mebibytes(r[f"memory_{kind}"]) for kind in ("planned", "measured")),
                  number(r["memory_ratio"])] for r in self.rows("scaling") if r["kind"] == "window"]
        return table(["frames", "us per frame", "memory planned", "memory taken", "ratio"], lines) if lines else None

    def cores(self):
        """Networks over numbers of threads: what those gain, and what the plan predicts."""
        rows = {(cell_name(r), r["size"], r["streams"], r["frames"], r["threads"]): r for r in self.rows("cores")}
        counts = sorted({key[-1] for key in rows} - {1})

        def entry(key, count):
            row = rows.get((*key, count))
            return f"{number(row['gain']['median'], 2)} / {number(row['predicted_gain'], 2)}" if row else "-"
        lines = [[*key, number(rows[(*key, 1)]["train_us_per_step"]), *(entry(key, count) for count in counts)]
                 for key in dict.fromkeys(key[:-1] for key in rows)]
        head = ["cell", "units", "streams", "frames", "us, 1 thread", *(f"{count} threads" for count in counts)]
        return table(head, lines) if counts else None

    def latencies(self):
        lines = [[cell_name(r), r["size"], r["timed_frames"], *(number(r["latency_us"][key]) for key in ("p50", "p90", "p99", "p999", "max"))]
                 for r in self.rows("scaling") if r["kind"] == "session"]
        return table(["cell", "units", "frames", "p50", "p90", "p99", "p99.9", "longest"], lines) if lines else None

    def tables(self):
        """tables.md"""
        sections = [
            ("Points", "Microseconds per frame of all streams, forward / forward and backward with the gradients of weights and inputs: "
             "medians over rounds (lowest .. highest). Ratios and fractions of the bound are taken within rounds.", self.points()),
            ("Cells", "How many times as long as rnnc the others take: geometric means over the points of a cell.", self.summary()),
            ("Fractions of the bound", "Forward and backward, 256 units. `rnnc bench --help` says what the bound is.", self.bounds()),
            ("Streams and schedules", f"A peephole LSTM, forward{self.saving()}, 256 frames: frame by frame, and as planned.", self.paper()),
            ("Long windows", "One LSTM layer of 256 units, one stream, forward and backward.", self.windows()),
            ("Sessions", "Frame by frame, one stream: microseconds from inputs in to outputs out.", self.latencies()),
            ("Threads", "How many times as fast as with one thread, forward and backward: measured / predicted by `rnnc plan`.",
             self.cores()),
        ]
        texts = [f"# On a CPU\n\n{self.machine()}", self.speeds(), *self.remarks()]
        texts += [f"## {title}\n\n{text}\n\n{found}" for title, text, found in sections if found]
        return "\n\n".join(texts) + "\n"

    def short(self):
        """The README's part."""
        found = self.ratios()
        if found is None:
            return "No results beside PyTorch's are there.\n"
        return f"{found}\n\n{wrapped(f'On {self.machine()}')}\n"

    def page(self):
        """The part of docs/performance.md."""
        where = self.directory.relative_to(ROOT).as_posix()
        sections = [
            ("One LSTM layer, with as many inputs as units, in windows of 256 frames, forward and backward with the gradients of weights "
             "and inputs, single precision: microseconds per frame of all streams of rnnc / of `torch.nn.LSTM`, and how many times as "
             "long PyTorch takes:", self.grid()),
            ("All cells measured, how many times as long as rnnc the others take (geometric means over sizes and streams):",
             self.summary()),
            ("Of the least time that the plan's work could take on this machine (`rnnc bench --help` says what that is), forward and "
             "backward, 256 units (`fading` and `tandem` are cells of no library; `scan` is a recurrence without products, so "
             "its bound is the bandwidth of copying):", self.bounds()),
            (f"A peephole LSTM, forward{self.saving()}, 256 frames at hand: how many times as many frames a second as the same "
             "kernels frame by frame:",
             self.gains()),
            ("One LSTM layer of 256 units, one stream, in longer windows:", self.windows()),
            ("Inference frame by frame in a session, one stream, microseconds:", self.latencies()),
        ]
        texts = [f"{wrapped(text)}\n\n{found}" for text, found in sections if found]
        texts.append(f"On {self.machine()} Medians of rounds in which the programs take turns on the same cores"
                     f"{', by `bench/run --peers`' if self.facts.get('torch') else ''}; all points, with spreads, are in "
                     f"[{where}](../{where}/tables.md).")
        texts[-1] = wrapped(texts[-1])
        return "\n\n".join([*texts, *map(wrapped, self.remarks())]) + "\n"


def mebibytes(count):
    return "-" if count is None else f"{number(count / 2 ** 20)} MiB"


SECTIONS = [
    Section(PERFORMANCE, "CPU", "bench/table.py", lambda directory: Results(directory).page()),
    Section(README, "CPU", "bench/table.py", lambda directory: Results(directory).short()),
]


def check():
    """The files that are not what the results make of them."""
    return [wrong for section in SECTIONS for wrong in section.wrong()] + outdated(True, lambda directory: Results(directory).tables())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=pathlib.Path, metavar="DIRECTORY")
    what.add_argument("--publish", type=pathlib.Path, metavar="DIRECTORY")
    what.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        wrong = check()
        print("\n".join(wrong) or "tables and results agree")
        sys.exit(1 if wrong else 0)
    directory = (options.write or options.publish).resolve()
    results = Results(directory)
    (directory / "tables.md").write_text(results.tables())
    if options.publish:
        for section in SECTIONS:
            section.write(directory)


if __name__ == "__main__":
    main()
