"""What a GPU's results come to: tables and sentences, for docs/performance.md among others."""

import collections
import json
import math

from common import counted, number, table
from pages import ROOT, wrapped

PRECISIONS = ["f32", "tf32", "bf16", "fp16"]
KINDS = ["forward", "train"]
NAMES = {"lstm": "LSTM", "gru": "GRU", "lstm_peephole": "peephole LSTM", "lstm_layer_norm": "layer-norm LSTM",
         "lstm_sliced": "sliced LSTM", "slstm": "sLSTM",
         "sru": "SRU", "mingru": "minGRU", "lru": "LRU", "tf32": "TF32"}
IN_WORDS = {"forward": "forward", "train": "forward and backward"}
# Of cuDNN's precisions, those that rnnc's stand beside.
BESIDE = [("f32", "f32"), ("tf32", "tf32"), ("bf16", "bf16"), ("bf16", "fp16")]


def named(name):
    return NAMES.get(name, name)


def both(row):
    """Forward / forward + backward."""
    return " / ".join(number(row[kind]["median"]) for kind in KINDS if kind in row) if row else "-"


def listed(texts):
    texts = list(texts)
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def by_case(rows):
    return {(r["program"], r["precision"], r["cell"], r["size"], r["streams"]): r for r in rows}


def layers(rows):
    """LSTM and GRU, rnnc and PyTorch."""
    found = by_case(r for r in rows if r["cell"] in ("lstm", "gru"))
    columns = [(program, precision) for precision in PRECISIONS for program in ("rnnc", "torch", "flashrnn")
               if any(key[:2] == (program, precision) for key in found)]
    cases = sorted({key[2:] for key in found}, key=lambda case: (case[0] != "lstm", case))
    titles = {"rnnc": "rnnc", "torch": "cuDNN", "flashrnn": "FlashRNN, no input product,"}
    head = ["cell", "units", "streams", *(f"{titles[program]} {named(precision)}" for program, precision in columns)]
    return table(head, [[named(case[0]), *case[1:], *(both(found.get((*column, *case))) for column in columns)] for case in cases])


def loops(rows):
    """The peephole LSTM, and PyTorch's operations."""
    found = by_case(r for r in rows if r["cell"] == "lstm_peephole")
    columns = [(program, precision) for precision in PRECISIONS for program in ("rnnc", "torch loop")
               if any(key[:2] == (program, precision) for key in found)]
    cases = sorted({key[3:] for key in found})
    head = ["units", "streams", *(f"{'loop' if program == 'torch loop' else program} {named(precision)}" for program, precision in columns)]
    lines = [[*case, *(both(found.get((*column, "lstm_peephole", *case))) for column in columns)] for case in cases]
    return table(head, lines) if lines else None


def against_cudnn(rows):
    """Where cuDNN is faster."""
    found, faster, count = by_case(rows), [], 0
    for key, own in found.items():
        if key[0] != "rnnc":
            continue
        for _, other in (pair for pair in BESIDE if pair[0] == key[1]):
            peer = found.get(("torch", other, *key[2:]))
            for kind in KINDS if peer else []:
                count += 1
                if peer[kind]["median"] < own[kind]["median"]:
                    faster.append(f"{named(key[2])} of {key[3]} units, {counted(key[4], 'stream')}, {IN_WORDS[kind]}: "
                                  f"{number(peer[kind]['median'])} in {named(other)}, rnnc {number(own[kind]['median'])} in {named(key[1])}")
    if not count:
        return None
    text = (f"Of {count} times of cuDNN's, bf16 and fp16 both beside rnnc's bf16, {len(faster) or 'none'} "
            f"{'is' if len(faster) < 2 else 'are'} shorter than rnnc's")
    return text + (f": {'; '.join(faster)}." if faster else ".")


def predictions(rows):
    """How far the plan's predictions are off."""
    ratios = sorted(r["predicted"][kind] / r[kind]["median"] for r in rows if "predicted" in r for kind in KINDS)
    if not ratios:
        return None
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return (f"What `rnnc plan` predicts of these is {ratios[0]:.2f} to {ratios[-1]:.2f} of what was measured, {mean:.2f} in the geometric mean of "
            f"{len(ratios)} times.")


def bounds(rows):
    """What part of the least possible time is reached. Older results do not say it."""
    fractions = sorted(fraction for r in rows for fraction in r.get("fraction_of_bound", {}).values())
    if not fractions:
        return None
    return (f"Of the bound that `rnnc bench` gives, these are {fractions[0]:.2f} to {fractions[-1]:.2f}, "
            f"{fractions[len(fractions) // 2]:.2f} in the median.")


def cells(rows):
    """Custom cells over an LSTM."""
    found = by_case(rows)
    columns = sorted({(key[1], key[4]) for key in found}, key=lambda column: (PRECISIONS.index(column[0]), column[1]))

    def entry(precision, streams, cell, size):
        own, lstm = (found.get(("rnnc", precision, name, size, streams)) for name in (cell, "lstm"))
        if not own or not lstm or cell == "lstm":
            return both(own)
        ratios = " / ".join(f"{own[kind]['median'] / lstm[kind]['median']:.2f}" for kind in KINDS)
        return f"{both(own)}: **{ratios}**"
    cases = sorted(dict.fromkeys(key[2:4] for key in found), key=lambda case: case[1])
    head = ["cell", "units", *(f"{named(precision)}, {counted(streams, 'stream')}" for precision, streams in columns)]
    return table(head, [[named(case[0]), case[1], *(entry(*column, *case) for column in columns)] for case in cases])


def scans(rows):
    def fractions(row):
        found = row.get("fraction_of_bound")
        return " / ".join(number(found[kind], 2) for kind in KINDS if kind in found) if found else "-"
    timed = [r for r in rows if r["program"] == "rnnc"]
    return table(["cell", "units", "streams", "frames", "us", "of the bound"],
                 [[named(r["cell"]), r["size"], r["streams"], r["frames"], both(r), fractions(r)] for r in timed])


def paper(rows):
    """Frame by frame / as planned, forward."""
    found = {(r["layers"], r["size"], r["streams"], r["schedule"]): r["forward"]["median"] for r in rows}
    streams = sorted({key[2] for key in found})

    def entry(*case):
        frame, window = (found.get((*case, schedule)) for schedule in ("frame", "window"))
        ratio = f": **{frame / window:.1f}**" if frame and window else ""
        return f"{number(frame)} / {number(window)}{ratio}"
    lines = [[f"{layers} of {size}", *(entry(layers, size, count) for count in streams)]
             for layers, size in sorted({key[:2] for key in found})]
    return table(["layers", *(counted(count, "stream") for count in streams)], lines)


def training(rows):
    points = [r for r in rows if r["kind"] == "validation" and "bits_per_symbol" in r]
    last = [r for r in rows if r["kind"] == "training"][-1:]
    if not points or not last:
        return None
    best = min(points, key=lambda r: r["bits_per_symbol"])
    said = f"{best['bits_per_symbol']:.2f} bits per character on its validation text"
    text = (f"The example's model of text, trained for {number(last[0]['seconds'])} s at {number(last[0]['frames_per_second'] / 1e6)} "
            "million frames a second, ")
    if len(points) == 1:
        return text + f"then had {said}."
    return text + f"came down to {said}, after {number(best['seconds'])} s, and ended at {points[-1]['bits_per_symbol']:.2f}."


def correctness(rows):
    """Errors over all networks, as a sentence."""
    texts = []
    for program, whose in (("rnnc", ""), ("torch", "cuDNN's ")):
        errors = {p: [r["error"] for r in rows if (r["program"], r["precision"]) == (program, p)] for p in PRECISIONS}
        texts += [f"{whose}in {named(p)} within {max(found):.1e} ({counted(len(found), 'network')})" for p, found in errors.items() if found]
    cases = listed(dict.fromkeys(f"{named(r['cell'])}s" for r in rows))
    sizes = listed(str(size) for size in sorted({r["size"] for r in rows}))
    layers = max(r.get("layers", 1) for r in rows)
    stacked = f" and up to {layers} layers" if layers > 1 else ""
    # What an older commit was compared of says so.
    older = listed(f"{count} of these are of commit {commit}" for commit, count in
                   collections.Counter(r["commit"] for r in rows if "commit" in r).items())
    return (f"Gradients of {cases} with {sizes} units{stacked}, against those of their equations in float64, relative to the norm of an "
            f"array: {'; '.join(texts + [older] if older else texts)}.")


def suite(rows):
    row = rows[-1]
    return f"The executor suite {'passes' if row['passed'] else 'fails'} on it ({row['cases']} cases)."


def large(rows):
    """Differences from the reference executor."""
    cells = len({r["cell"] for r in rows})
    sizes, streams = (listed(str(value) for value in sorted({r[key] for r in rows})) for key in ("size", "streams"))
    return (f"{counted(cells, 'cell')} of the library with {sizes} units and {streams} streams agree with the reference executor, "
            f"gradients and states included, within {max(r['error'] for r in rows):.1e} of an array's largest number "
            f"({counted(len(rows), 'network')}, {counted(rows[0]['frames'], 'frame')}).")


def sanitizer(rows):
    tools = listed(dict.fromkeys(r["tool"] for r in rows))
    networks = listed(dict.fromkeys(f"{named(r['cell'])} {r['size']}" for r in rows))
    streams = listed(str(count) for count in sorted({r["streams"] for r in rows}))
    clean = sum(r["clean"] for r in rows)
    result = "find nothing" if clean == len(rows) else f"find nothing in {clean} of {len(rows)} runs"
    return f"compute-sanitizer's {tools} {result} in layers of {networks} with {streams} streams."


class Results:
    """A directory of run.py's."""

    def __init__(self, directory):
        self.directory = directory
        self.parts = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))}

    def of(self, part, make):
        found = self.parts.get(part, {}).get("results")
        return make(found) if found else None

    def machine(self):
        facts = self.parts["peers"]["machine"]
        gpu, driver = facts["gpu"].split(", ")
        cudnn = facts["cudnn"]
        versions = f"PyTorch {facts['torch']}, cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}, CUDA {facts['cuda']}"
        return f"{gpu}, driver {driver}, {versions}; {facts['rnnc']}, {self.commits()}"

    def commits(self):
        """That of most parts shown, and what parts are of others."""
        parts = {}
        for name in sorted(set(self.parts) & SHOWN):
            parts.setdefault(self.parts[name]["machine"]["commit"], []).append(name)
        (most, _), *others = sorted(parts.items(), key=lambda entry: -len(entry[1]))
        but = listed(f"{listed(WHAT.get(name, name) for name in names)} of {commit}" for commit, names in others)
        return f"commit {most}" + (f" ({but})" if but else "")

    def remarks(self):
        texts = []
        for name in sorted(set(self.parts) & SHOWN):
            texts += [f"Wrong: {problem}" for problem in self.parts[name]["wrong"]]
            # What is not installed was not meant to be measured.
            missed = [entry for entry in self.parts[name]["left_out"] if entry["why"] == "no time was left"]
            if missed:
                texts.append(f"Time was left for all of {name} but {counted(len(missed), 'point')}.")
        return texts


TITLES = {
    "peers": "One layer, with as many inputs as units, in windows of 1024 frames, with the data on the device: microseconds per "
             "frame of all streams, forward as in training / forward and backward with the gradients of weights and inputs:",
    "cells": "Cells whose products are as many as an LSTM's, the same times: **of an LSTM's** (`cascade` is of no library, nor is the "
             "sliced LSTM, whose gates are slices of one layer; sLSTM, as the others, in one head):",
    "scans": "Recurrences that run as scans, in f32, the same times, and the parts that they are of a bound: products at the rate "
             "of a large one, and what is touched in memory at the rate of a copy, both measured in the same run:",
    "paper": "The paper's question: a peephole LSTM forward, in f32, frame by frame / by rnnc's plan, and **their ratio**:",
}


# Parts, in a sentence.
WHAT = {"peers": "layers beside PyTorch's", "cells": "custom cells", "paper": "the paper's question"}

SHOWN = {"suite", "large", "sanitizer", "correctness", "training", *TITLES}


def page(directory):
    """The part of docs/performance.md."""
    found = Results(directory)
    where = directory.relative_to(ROOT).as_posix()
    right = [found.of("suite", suite), found.of("large", large), found.of("sanitizer", sanitizer), found.of("correctness", correctness)]
    texts = [f"On {found.machine()}. {' '.join(filter(None, right))}"]
    for name, makers in (("peers", [layers, against_cudnn, predictions, bounds]), ("cells", [cells, predictions, bounds]), ("scans", [scans]), ("paper", [paper])):
        made = [text for text in (found.of(name, make) for make in makers) if text]
        texts += [TITLES[name], *made] if made else []
        if name == "peers" and (peephole := found.of(name, loops)):
            texts += ["A peephole LSTM, beside a loop of PyTorch's operations over the frames:", peephole]
    texts += filter(None, [found.of("training", training)])
    texts.append(f"Medians, rnnc and PyTorch the one after the other, by `bench/gpu/run.py`; `bench/gpu/table.py {where}` prints all "
                 "points, with spreads.")
    texts += found.remarks()
    return "\n\n".join(text if text.startswith("|") else wrapped(text) for text in texts) + "\n"
