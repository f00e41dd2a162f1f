"""The experiment of Hwang & Sung (2015): what the analysis of the graph gives with one stream, and what more streams give.
A peephole LSTM of some layers, as rnnc runs it, and the same kernels frame by frame (the forward pass alone: errors do
not go back from window to window)."""

import pathlib
import tempfile

import networks
from common import times_of


def run(part, rnnc, options):
    with tempfile.TemporaryDirectory() as folder:
        # What matters most comes first, should time run out.
        for layers in options.paper_layers:
            for size in reversed(options.paper_sizes):
                path = pathlib.Path(folder) / "net.rnn"
                path.write_text(networks.text("lstm_peephole", size, layers))
                for schedule in ("window", "frame"):
                    for streams in options.paper_streams:
                        what = f"{layers} x {size}, {streams} streams, {schedule}"
                        if not part.has_time(what, 2):
                            continue
                        try:
                            line = rnnc.bench(path, streams, options.frames, "--schedule", schedule, "--seconds",
                                              options.seconds, timeout=part.budget.left())
                        except RuntimeError as error:
                            part.fail(what, error)
                            continue
                        part.add(layers=layers, size=size, streams=streams, schedule=schedule, frames=options.frames,
                                 timed=line["timed"], **times_of(line))
