"""What is measured, part by part: for those who compile it before, time it, and compare it with its equations."""

import dataclasses

import networks
from common import counted

LOOP_STREAMS = [1, 16]
CUSTOM = ["lstm_peephole", "lstm_sliced", "lstm_layer_norm", "slstm", "cascade"]
SCANS = ["scan", "sru", "mingru", "lru"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Layers of a cell, and how they run."""
    cell: str
    size: int
    streams: int
    frames: int
    layers: int = 1
    precision: str = "f32"
    schedule: str = "window"

    def text(self):
        return networks.text(self.cell, self.size, self.layers)

    def facts(self, program):
        """For a row of a program's."""
        return {"what": f"{program} {self}", **dataclasses.asdict(self)}

    def __str__(self):
        layers = f"{self.layers} x " if self.layers > 1 else ""
        texts = [f"{self.cell} {layers}{self.size}", counted(self.streams, "stream")]
        texts += [f"{self.frames} frames"] if self.cell in SCANS else []
        texts += [self.precision] if self.precision != "f32" else []
        texts += ["frame by frame"] if self.schedule == "frame" else []
        return ", ".join(texts)


def peers(options):
    layers = [Case(cell, size, streams, options.frames, precision=precision) for size in options.sizes
              for cell in ("lstm", "gru") for streams in options.streams for precision in options.precisions]
    return loops(options) + layers


def loops(options):
    """What PyTorch has no layer for: of one size, if it is among the chosen."""
    return [Case("lstm_peephole", size, streams, options.frames, precision=precision) for size in options.sizes
            if size == options.loop_size for streams in LOOP_STREAMS for precision in options.precisions]


def cells(options):
    """Cells whose products are an LSTM's, beside an LSTM."""
    precisions = [p for p in options.precisions if p != "tf32"]
    return [Case(cell, size, streams, options.frames, precision=precision) for size in options.cell_sizes
            for precision in precisions for streams in LOOP_STREAMS for cell in ("lstm", *CUSTOM)]


def paper(options):
    """What matters most comes first, should time run out."""
    return [Case("lstm_peephole", size, streams, options.frames, layers, schedule=schedule)
            for layers in options.paper_layers for size in reversed(options.paper_sizes)
            for schedule in ("window", "frame") for streams in options.paper_streams]


def scans(options):
    return [Case(cell, options.scan_size, streams, options.scan_frames) for cell in SCANS for streams in LOOP_STREAMS]


def sanitized(_):
    """A loop in a cluster, one in a block, one of slices, one with vector functions, and a scan; few frames, since tools
    slow them down."""
    chosen = (("lstm", 256), ("gru", 72), ("lstm_sliced", 256), ("lstm_layer_norm", 128), ("sru", 128))
    return [Case(cell, size, streams, 8) for cell, size in chosen for streams in LOOP_STREAMS]


TIMED = {"peers": peers, "cells": cells, "paper": paper, "scans": scans}
COMPILED = TIMED | {"sanitizer": sanitized}


def chosen(parts, options):
    """The cases of the chosen ones of these parts; of all, if there are no other parts than those that ask."""
    asked = set(options.parts.split(",")) - {"prepare", "correctness"}
    names = [name for name in parts if name in asked or not asked]
    return list(dict.fromkeys(case for name in names for case in parts[name](options)))


def grouped(cases, field):
    """Lists of cases that differ in one field alone."""
    groups = {}
    for case in cases:
        groups.setdefault(dataclasses.replace(case, **{field: None}), []).append(case)
    return list(groups.values())
