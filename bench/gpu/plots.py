"""Plots of the results, where matplotlib is installed: peers.svg, paper.svg and training.svg.

    python bench/gpu/plots.py bench/results/h200
"""

import json
import pathlib
import sys


def run(folder):
    try:
        import matplotlib
    except ImportError:
        return print("\nno plots: matplotlib is not installed")
    matplotlib.use("Agg")
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "rnnc"
    import matplotlib.pyplot as pyplot
    for name, plot in (("peers", peers), ("paper", paper), ("training", training)):
        path = folder / f"{name}.json"
        rows = json.loads(path.read_text())["results"] if path.is_file() else []
        if rows:
            figure = plot(pyplot, rows)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)


def peers(pyplot, rows):
    """Microseconds per frame over streams: a panel for each cell and size, a line for each program."""
    rows = [r for r in rows if r["program"] in ("rnnc", "torch") and r["cell"] != "lstm_peephole"]
    cells = list(dict.fromkeys(r["cell"] for r in rows)) or [""]
    sizes = sorted({r["size"] for r in rows}) or [0]
    figure, panels = pyplot.subplots(len(cells), len(sizes), figsize=(4 * len(sizes), 3.6 * len(cells)), squeeze=False,
                                     layout="constrained")
    for cell, line in zip(cells, panels):
        for size, panel in zip(sizes, line):
            for program, precision in dict.fromkeys((r["program"], r["precision"]) for r in rows):
                points = sorted((r["streams"], r["train"]["median"]) for r in rows if "train" in r and
                                (r["cell"], r["size"], r["program"], r["precision"]) == (cell, size, program, precision))
                style = "-o" if program == "rnnc" else "--."
                panel.plot(*zip(*points), style, label=f"{program} {precision}") if points else None
            panel.set(title=f"{cell}, {size} units", xscale="log", yscale="log", xlabel="streams",
                      ylabel="us per frame, forward + backward")
            panel.set_xscale("log", base=2)
    panels[0][0].legend(fontsize="small")
    return figure


def paper(pyplot, rows):
    """How many times as many frames a second as one stream frame by frame, over streams."""
    kinds = sorted({(r["layers"], r["size"]) for r in rows})
    figure, panels = pyplot.subplots(1, len(kinds), figsize=(4 * len(kinds), 3.6), squeeze=False, layout="constrained")
    for (layers, size), panel in zip(kinds, panels[0]):
        own = [r for r in rows if (r["layers"], r["size"]) == (layers, size)]
        single = [r["forward"]["median"] for r in own if r["schedule"] == "frame" and r["streams"] == 1]
        for schedule, label in (("window", "windows"), ("frame", "frame by frame")):
            points = sorted((r["streams"], single[0] * r["streams"] / r["forward"]["median"])
                            for r in own if single and r["schedule"] == schedule)
            panel.plot(*zip(*points), "-o", label=label) if points else None
        panel.set(title=f"peephole LSTM, {layers} x {size}", yscale="log", xlabel="streams",
                  ylabel="frames a second, relative")
        panel.set_xscale("log", base=2)
    panels[0][0].legend(fontsize="small")
    return figure


def training(pyplot, rows):
    """Bits per symbol over time."""
    figure, panel = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for kind, style in (("training", "-"), ("validation", "-o"), ("test", "s")):
        points = [(r["seconds"], r["bits_per_symbol"]) for r in rows if r["kind"] == kind and "bits_per_symbol" in r]
        panel.plot(*zip(*points), style, label=kind, markersize=3) if points else None
    panel.set(title=rows[0]["settings"], xlabel="seconds", ylabel="bits per symbol")
    panel.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip())
    run(pathlib.Path(sys.argv[1]))
