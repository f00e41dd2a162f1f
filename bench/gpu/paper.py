"""The experiment of Hwang & Sung (2015): what the analysis of the graph gives with one stream, and what more streams give.
A peephole LSTM of some layers, as rnnc runs it, and the same kernels frame by frame (the forward pass alone: errors do
not go back from window to window)."""

import cases
import timing


def run(part, rnnc, options):
    timing.run(part, rnnc, options, cases.paper(options))
