"""Cells of the library and of no library, beside an LSTM: the products of all of them are an LSTM's, so that what
they take more is the price of their being custom."""

import cases
import timing


def run(part, rnnc, options):
    timing.run(part, rnnc, options, cases.cells(options))
