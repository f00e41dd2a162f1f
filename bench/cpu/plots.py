"""Plots of a directory of results, where matplotlib is installed: peers.svg and paper.svg.

    bench/.venv/bin/python bench/cpu/plots.py bench/results/DIRECTORY
"""

import json
import pathlib
import sys


def main():
    folder = pathlib.Path(sys.argv[1])
    try:
        import matplotlib
    except ImportError:
        return print("no plots: matplotlib is not installed")
    matplotlib.use("Agg")
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "rnnc"
    import matplotlib.pyplot as pyplot
    for name, plot in (("peers", peers), ("paper", paper)):
        path = folder / f"{name}.json"
        rows = json.loads(path.read_text())["results"] if path.is_file() else []
        if rows:
            figure = plot(pyplot, rows)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)


def panels(pyplot, kinds, columns=3):
    lines = -(-len(kinds) // columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4.2 * columns, 3.4 * lines), squeeze=False, layout="constrained")
    flat = list(axes.flat)
    for unused in flat[len(kinds):]:
        unused.set_visible(False)
    return figure, zip(kinds, flat)


def peers(pyplot, rows):
    """How many times as long as rnnc the others take: a panel for each cell, a line for each program and number of streams."""
    kinds = list(dict.fromkeys((r["cell"], r["layers"], r["frames"]) for r in rows if "torch" in r or "jax" in r))
    figure, cells = panels(pyplot, kinds) if kinds else (pyplot.figure(), [])
    for (cell, layers, frames), panel in cells:
        own = [r for r in rows if (r["cell"], r["layers"], r["frames"]) == (cell, layers, frames)]
        for name, style in (("torch", "-o"), ("jax", "--s")):
            for place, streams in enumerate(sorted({r["streams"] for r in own})):
                points = sorted((r["size"], r[name]["ratio"]["train"]) for r in own if r["streams"] == streams and name in r)
                if points:
                    middle = [ratio["median"] for _, ratio in points]
                    errors = [[ratio["median"] - ratio["low"] for _, ratio in points],
                              [ratio["high"] - ratio["median"] for _, ratio in points]]
                    panel.errorbar([size for size, _ in points], middle, yerr=errors, fmt=style, color=f"C{place}",
                                   markersize=4, linewidth=1, label=f"{name}, B={streams}")
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set(title=f"{cell}, {layers} layer{'s' * (layers > 1)}, T={frames}", xlabel="units", ylabel="time of peer / of rnnc",
                  xscale="log", yscale="log")
        plain(panel, {r["size"] for r in own})
        panel.legend(fontsize="x-small")
    return figure


def plain(panel, places):
    """Numbers without powers, and marks where there are points."""
    from matplotlib.ticker import FuncFormatter, NullFormatter
    panel.set_xscale("log", base=2)
    panel.set_xticks(sorted(places), [str(place) for place in sorted(places)])
    panel.minorticks_on()
    panel.xaxis.set_minor_formatter(NullFormatter())
    low, high = panel.get_ylim()
    written = FuncFormatter(lambda value, _: f"{value:g}")
    panel.yaxis.set_major_formatter(written)
    panel.yaxis.set_minor_formatter(written if high / low < 10 else NullFormatter())
    panel.tick_params(axis="y", which="both", labelsize="x-small")


def paper(pyplot, rows):
    """Frames a second over streams, as planned and frame by frame."""
    figure, kinds = panels(pyplot, sorted({(r["layers"], r["size"]) for r in rows}))
    for (layers, size), panel in kinds:
        own = sorted((r for r in rows if (r["layers"], r["size"]) == (layers, size)), key=lambda r: r["streams"])
        for schedule, label in (("window", "as planned"), ("frame", "frame by frame")):
            panel.plot([r["streams"] for r in own], [r[f"{schedule}_frames_per_second"] for r in own], "-o", label=label)
        panel.set(title=f"peephole LSTM, {layers} x {size}, forward", xlabel="streams", ylabel="frames a second", yscale="log")
        plain(panel, {r["streams"] for r in own})
        panel.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    main()
