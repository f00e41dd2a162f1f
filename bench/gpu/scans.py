"""Recurrences that run as scans, over long windows, beside a bound: their products over all frames at the rate of a large
one, and every byte that the plan's stages touch at the rate of a copy, both measured here with PyTorch."""

import pathlib
import tempfile

import cases
import peers
import timing
from common import rounded

COPIED = 2 ** 28
PRODUCT = 8192


def run(part, rnnc, options):
    rates = machine(part, rnnc, options)
    timing.run(part, rnnc, options, cases.scans(options))
    if not rates:
        return
    timed = {(row["cell"], row["streams"]): row for row in part.rows if row.get("program") == "rnnc"}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "net.rnn"
        for case in cases.scans(options):
            if (case.cell, case.streams) not in timed:
                continue
            path.write_text(case.text())
            row = timed[case.cell, case.streams]
            bounds = [bound(found, case.frames, *rates) for found in timing.explained(rnnc, path, case)["passes"]]
            row["bound"] = {"forward": rounded(bounds[0]), "train": rounded(sum(bounds))}
            row["fraction_of_bound"] = {kind: rounded(row["bound"][kind] / row[kind]["median"]) for kind in row["bound"]}
            print(f"  {case}: of the bound {row['fraction_of_bound']}", flush=True)
    part.save()


def bound(found, frames, product_flops, copied_bytes):
    """Microseconds per frame of a pass at these rates a second."""
    work = sum(stage["product_flops"] / product_flops + stage["bytes"] / copied_bytes for stage in found["stages"])
    return work / frames * 1e6


def machine(part, rnnc, options):
    """Floating-point operations of products and bytes of copies, a second; bytes count as they are read and written."""
    found = peers.pytorch(part, rnnc)
    if not found:
        return None
    torch, device = found
    peers.allow(torch, "f32")
    copied, product = (COPIED, PRODUCT) if device == "cuda" else (2 ** 20, 256)
    one = torch.ones(copied, device=device)
    other, left = torch.empty_like(one), torch.ones(product, product, device=device)
    clock, rates = peers.Clock(torch, device), []
    for name, work, action in (("product", 2 * product ** 3, lambda: left @ left),
                               ("copy", 2 * 4 * copied, lambda: other.copy_(one))):
        for _ in range(3):
            clock(action)
        rates.append(work / min(clock(action) for _ in range(10)) * 1e6)
        part.add(what=name, program="torch", per_second=rounded(rates[-1]))
    return rates
