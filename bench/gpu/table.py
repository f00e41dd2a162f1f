"""Makes Markdown tables of the results of run.py, and the part of docs/performance.md.

    python3 bench/gpu/table.py bench/results/h200 [--part peers]       prints them
    python3 bench/gpu/table.py --publish bench/results/h200            the page's part, from now on of that directory
    python3 bench/gpu/table.py --check                                 whether the page and all tables.md agree with the results

Needs nothing but Python 3.
"""

import argparse
import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # for what the CPU's measurements use too

import summary
from common import counted, number, table
from pages import PERFORMANCE, Section, outdated
from summary import both

SECTION = Section(PERFORMANCE, "GPU", "bench/gpu/table.py", summary.page)


def suite(rows):
    return table(["command", "processes", "passed", "cases", "seconds"],
                 [[f"`{r['command']}`", r["processes"], r["passed"], r["cases"], r["seconds"]] for r in rows])


def large(rows):
    return summary.large(rows) + "\n\n" + table(
        ["cell", "units", "streams", "frames", "arrays", "largest relative difference", "of"],
        [[r["cell"], r["size"], r["streams"], r["frames"], r["arrays"], f"{r['error']:.1e}", f"`{r['of']}`"] for r in rows])


def prepare(rows):
    return table(["networks compiled", "side by side", "slowest, s", "all one by one, s"],
                 [[r["networks"], r["workers"], r["slowest_s"], r["all_s"]] for r in rows])


def sanitizer(rows):
    return table(["tool", "network", "streams", "problems", "exit status", "seconds"],
                 [[r["tool"], f"{r['cell']} {r['size']}", r["streams"], r["problems"], r["exit_status"], r["seconds"]] for r in rows])


def correctness(rows):
    programs = sorted({(r["program"], r["precision"]) for r in rows})

    def case(r):
        return r["cell"], r.get("layers", 1), r["size"], r["streams"], r.get("frames", 1024)
    found = {(case(r), r["program"], r["precision"]): r["error"] for r in rows}
    errors = [[*key, *(f"{found[(key, *p)]:.1e}" if (key, *p) in found else "-" for p in programs)]
              for key in dict.fromkeys(map(case, rows))]
    return "Largest relative error of a gradient, against float64.\n\n" + table(
        ["cell", "layers", "units", "streams", "frames", *(f"{program}, {precision}" for program, precision in programs)], errors)


def synchronization(rows):
    return table(["an empty frame", "blocks", "us"], [[r["variant"], r["blocks"], number(r["us"])] for r in rows])


def points(rows):
    """Everything that was timed, beside what was predicted."""
    def line(r):
        spread = [f"{number(r[kind]['low'])} .. {number(r[kind]['high'])}" if kind in r else "-" for kind in ("forward", "train")]
        predicted = r.get("predicted")
        ratio = " / ".join(f"{predicted[kind] / r[kind]['median']:.2f}" for kind in ("forward", "train")) if predicted else "-"
        return [r["program"], r["cell"], r.get("layers", 1), r["size"], r["streams"], r["frames"], r["precision"], r.get("schedule", "window"),
                both(r), " / ".join(spread), " / ".join(number(value) for value in predicted.values()) if predicted else "-", ratio]
    head = ["program", "cell", "layers", "units", "streams", "frames", "precision", "by", "us", "low .. high", "predicted",
            "predicted / measured"]
    return table(head, [line(r) for r in rows])


def peers(rows):
    parts = [summary.layers(rows), summary.loops(rows), summary.against_cudnn(rows), summary.predictions(rows), summary.bounds(rows),
             points(rows)]
    return "\n\n".join(part for part in parts if part)


def cells(rows):
    return "\n\n".join(filter(None, [summary.cells(rows), summary.bounds(rows), points(rows)]))


def scans(rows):
    # Of older results, whose bound was made of PyTorch's speeds.
    rates = [f"{r['what']}: {number(r['per_second'] / 1e12)}e12 a second" for r in rows if r["program"] == "torch"]
    return "\n\n".join([*rates, summary.scans(rows), points([r for r in rows if r["program"] == "rnnc"])])


def paper(rows):
    # Those of older results do not say it.
    defaults = {"program": "rnnc", "cell": "lstm_peephole", "precision": "f32"}
    return "\n\n".join([summary.paper(rows), points([defaults | r for r in rows])])


def training(rows):
    # A run that ends before its first validation has nothing to sum up.
    return "\n\n".join(filter(None, [summary.training(rows), table(
        ["", "after updates", "seconds", "bits per symbol", "frames a second"],
        [[r["kind"], r["update"], number(r["seconds"]), number(r.get("bits_per_symbol"), 4), number(r.get("frames_per_second"))]
         for r in rows])]))


TABLES = {"prepare": prepare, "suite": suite, "large": large, "sanitizer": sanitizer, "correctness": correctness,
          "synchronization": synchronization, "peers": peers, "cells": cells, "scans": scans, "paper": paper, "training": training}


def tables(directory, part=None):
    """In Markdown."""
    texts = []
    for name, make in TABLES.items():
        path = directory / f"{name}.json"
        if part not in (None, name) or not path.is_file():
            continue
        found = json.loads(path.read_text())
        facts = found["machine"]
        texts.append(f"### {name}\n\n{facts['gpu'] or facts['processor']}, {facts['rnnc']}, commit {facts['commit']}, PyTorch {facts['torch']}"
                     f", cuDNN {facts.get('cudnn')}.\n" + ("\nA rehearsal: its times mean nothing.\n" if facts["rehearsal"] else ""))
        if found["results"]:
            texts.append(make(found["results"]) + "\n")
        texts += [f"Wrong: {problem}\n" for problem in found["wrong"]]
        if found["left_out"]:
            first = found["left_out"][0]
            texts.append(f"{counted(len(found['left_out']), 'thing')} left out, such as {first['what']}: {first['why']}.\n")
    return "".join(f"{text}\n" for text in texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, nargs="?", help="the output directory of run.py")
    parser.add_argument("--part", choices=TABLES, help="one part alone")
    parser.add_argument("--publish", type=pathlib.Path, metavar="DIRECTORY", help="write the page's part")
    parser.add_argument("--check", action="store_true", help="compare the page's part with the results that it names")
    options = parser.parse_args()
    if bool(options.directory) + bool(options.publish) + options.check != 1:
        parser.error("name a directory, or --publish DIRECTORY, or --check")
    if options.part and not options.directory:
        parser.error("--part goes with a directory to print")
    if options.check:
        wrong = SECTION.wrong() + outdated(False, tables)
        print("\n".join(wrong) or "the GPU's tables and results agree")
        sys.exit(1 if wrong else 0)
    if options.publish:
        SECTION.write(options.publish.resolve())
    else:
        print(tables(options.directory, options.part), end="")


if __name__ == "__main__":
    main()
