"""Recurrences that run as scans, over long windows: beside the bound, these say how near to the device's bandwidth they run."""

import cases
import timing


def run(part, rnnc, options):
    timing.run(part, rnnc, options, cases.scans(options))
