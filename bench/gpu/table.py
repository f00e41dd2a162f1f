"""Makes Markdown tables of the results of run.py.

    python bench/gpu/table.py bench/results/h200 [--part peers]
"""

import argparse
import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # for what the CPU's measurements use too

from common import number, table

PRECISIONS = ["f32", "tf32", "bf16", "fp16"]


def both(row):
    """Forward / forward + backward."""
    if row is None:
        return "-"
    return " / ".join(number(row[name]["median"]) for name in ("forward", "train") if name in row)


def ratio(peer, own):
    if peer is None or own is None:
        return "-"
    return " / ".join(f"{peer[name]['median'] / own[name]['median']:.1f}" for name in ("forward", "train"))


def suite(rows):
    return table(["command", "passed", "seconds"], [[f"`{r['command']}`", r["passed"], r["seconds"]] for r in rows])


def prepare(rows):
    return table(["networks compiled", "side by side", "slowest, s"],
                 [[r["networks"], r["workers"], r["slowest_s"]] for r in rows])


def correctness(rows):
    programs = sorted({(r["program"], r["precision"]) for r in rows})
    cases = list(dict.fromkeys((r["cell"], r["size"], r["streams"]) for r in rows))
    found = {(r["cell"], r["size"], r["streams"], r["program"], r["precision"]): r["error"] for r in rows}
    errors = [[*case, *(f"{found[(*case, *p)]:.1e}" if (*case, *p) in found else "-" for p in programs)] for case in cases]
    return "Largest relative error of a gradient, against float64.\n\n" + table(
        ["cell", "units", "streams", *(f"{program}, {precision}" for program, precision in programs)], errors)


def synchronization(rows):
    return table(["an empty frame", "blocks", "us"], [[r["variant"], r["blocks"], number(r["us"])] for r in rows])


def peers(rows):
    found = {(r["program"], r["cell"], r["size"], r["streams"], r["precision"]): r for r in rows}
    texts = []
    for cell in dict.fromkeys(r["cell"] for r in rows):
        cases = sorted({(r["size"], r["streams"]) for r in rows if r["cell"] == cell})
        loop = any(r["program"] == "torch loop" and r["cell"] == cell for r in rows)
        others = [("torch loop", "f32")] if loop else [("torch", precision) for precision in PRECISIONS]
        own = [precision for precision in PRECISIONS if any(key[0] == "rnnc" and key[4] == precision for key in found)]
        lines = []
        for size, streams in cases:
            def of(program, precision):
                return found.get((program, cell, size, streams, precision))
            lines.append([size, streams, *(both(of("rnnc", p)) for p in own), *(both(of(*other)) for other in others),
                          ratio(of(*others[0]), of("rnnc", "f32"))])
        names = [f"rnnc {p}" for p in own] + [f"{'PyTorch' if p == 'torch' else 'PyTorch loop'} {q}" for p, q in others]
        texts.append(f"{cell}: microseconds per frame of all streams, forward / forward + backward.\n\n" + table(
            ["units", "streams", *names, f"{names[len(own)]} / rnnc f32"], lines))
    return "\n\n".join(texts)


def paper(rows):
    found = {(r["layers"], r["size"], r["streams"], r["schedule"]): r for r in rows}
    lines = []
    for layers, size, streams in dict.fromkeys(key[:3] for key in found):
        window, frame = (found.get((layers, size, streams, schedule)) for schedule in ("window", "frame"))
        single = found.get((layers, size, 1, "frame"))

        def rate(row):
            return streams / row["forward"]["median"] if row else None
        gain = f"{rate(window) * single['forward']['median']:.1f}" if window and single else "-"
        lines.append([layers, size, streams, both(frame), both(window), gain])
    head = ["layers", "units", "streams", "frame by frame, forward", "windows, forward / forward + backward",
            "frames a second, over one stream frame by frame"]
    return "Peephole LSTM: microseconds per frame of all streams.\n\n" + table(head, lines)


def training(rows):
    return table(["settings", "", "after updates", "seconds", "bits per symbol", "frames a second"],
                 [[r["settings"], r["kind"], r["update"], number(r["seconds"]), number(r.get("bits_per_symbol"), 4),
                   number(r.get("frames_per_second"))] for r in rows])


TABLES = {"prepare": prepare, "suite": suite, "correctness": correctness, "synchronization": synchronization,
          "peers": peers, "paper": paper, "training": training}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path, help="the output directory of run.py")
    parser.add_argument("--part", choices=TABLES, help="one part alone")
    options = parser.parse_args()
    for name, make in TABLES.items():
        path = options.directory / f"{name}.json"
        if options.part not in (None, name) or not path.is_file():
            continue
        found = json.loads(path.read_text())
        facts = found["machine"]
        print(f"### {name}\n\n{facts['gpu'] or facts['processor']}, {facts['rnnc']}, PyTorch {facts['torch']}"
              f", cuDNN {facts.get('cudnn')}.\n" + ("\nA rehearsal: its times mean nothing.\n" if facts["rehearsal"] else ""))
        if found["results"]:
            print(make(found["results"]) + "\n")
        for problem in found["wrong"]:
            print(f"Wrong: {problem}\n")
        if found["left_out"]:
            print(f"{len(found['left_out'])} left out: {found['left_out'][0]['what']}: {found['left_out'][0]['why']}, ..\n")


if __name__ == "__main__":
    main()
