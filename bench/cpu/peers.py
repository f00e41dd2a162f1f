"""rnnc beside its peers, point by point: in every round, one after the other is timed, in turn the first; what counts are
medians over the rounds, and ratios within a round, which what else the machine does changes least."""

import statistics

from common import Budget, rounded
from workers import Point

# The most that outputs and gradients of two programs may differ, in shares of the largest number.
TOLERANCE = 2e-4

STREAMS, SIZES = [1, 4, 16, 64], [64, 128, 256, 512, 1024]
FEW_STREAMS, FEW_SIZES = [1, 4, 16], [128, 256, 512]


def grid(quick):
    """Points, each with the peers that it is timed beside."""
    def of(cells, layers, sizes, streams, *peers, frames=256):
        return [(Point(cell, count, size, number, frames), peers)
                for cell in cells for count in layers for size in sizes for number in streams]
    loops = ["lstm_layer_norm", "fading", "tandem"]
    scans = ["scan", "sru", "mingru", "lru"]
    if quick:
        return [*of(["lstm"], [1], [128, 256, 512], [1, 4, 16], "torch"), *of(["lstm"], [2], [256], [1, 16], "torch"),
                *of(["gru", "rnn"], [1], [256], [1, 4], "torch"),
                *of(["lstm_peephole"], [1], [256], [1], "torch", "jax"), *of(["lstm_peephole"], [1], [256], [4], "jax"),
                *of(loops, [1], [256], [1, 4]), *of(scans[:3], [1], [256], [1], "jax", frames=16384)]
    few = FEW_SIZES, FEW_STREAMS
    all_ = SIZES, STREAMS

    def lstm(point):
        return ("torch", "jax") if point.size in FEW_SIZES and point.streams in FEW_STREAMS else ("torch",)

    def peephole(point):
        # The loop takes seconds a call, and streams do not change what it shows.
        return ("jax", "torch") if point.streams in (1, 16) else ("jax",)
    return [*((point, lstm(point)) for point, _ in of(["lstm"], [1], *all_)), *of(["lstm"], [2], *all_, "torch"),
            *of(["gru", "rnn"], [1], *few, "torch"),
            *((point, peephole(point)) for point, _ in of(["lstm_peephole"], [1], *few)),
            *of(loops, [1], [256, 512], FEW_STREAMS), *of(scans, [1], [256], [1, 16], "jax", frames=16384)]


def run(part, rnnc, peers, options):
    points = [(point, [name for name in names if name in peers]) for point, names in grid(options.quick)]
    points = [(point, names) for point, names in points if options.only.search(str(point))]
    # What takes long comes last, with the time that the others left.
    points.sort(key=lambda entry: entry[0].flops() * (5 if entry[0].cell == "lstm_peephole" else 1))
    wrong = check(part, rnnc, peers, points, options)
    for place, (point, names) in enumerate(points):
        names = [name for name in names if (point.cell, name) not in wrong]
        # Of the time that is left, up to four times an equal share: most points need less than theirs.
        share = Budget(4 * part.budget.left() / (len(points) - place))
        if part.has_time(str(point), 3 + 4 * point.flops() / 1e11):
            measure(part, rnnc, [peers[name] for name in names], point, share, options)


def check(part, rnnc, peers, points, options):
    """Whether all compute the same, with the same weights: outputs, and gradients of inputs. Which do not."""
    wrong = set()
    cases = dict.fromkeys((point.cell, point.layers, tuple(names)) for point, names in points if names)
    for cell, layers, names in cases:
        import numpy as np

        import networks
        random = np.random.default_rng(1)
        point = Point(cell, layers, 24, 3, 11)
        _, initial = rnnc.network(point)
        # Away from zero, which initial biases are.
        weights, data, output = (options.folder / name for name in ("check.safetensors", "check.npz", "output.npz"))
        networks.write_weights(weights, {name: array + random.uniform(-0.1, 0.1, array.shape).astype(np.float32)
                                         for name, array in networks.read_weights(initial).items()})
        shape = (point.frames, point.streams, point.size)
        np.savez(data, **{name: random.uniform(-1, 1, shape).astype(np.float32) for name in ("x", "d_h")})
        try:
            own = rnnc.run(point, weights, data, output, 60)
        except RuntimeError as error:
            part.fail(f"check of {point}", error)
            continue
        for name in names:
            try:
                theirs = peers[name].run(point, weights, data, output, 120)
            except RuntimeError as error:
                part.fail(f"check of {point}", error)
                wrong.add((cell, name))
                continue
            error = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(own, theirs))
            if not error <= TOLERANCE:
                part.fail(f"check of {point}", f"{name} computes something else: {error:.1e} off")
                wrong.add((cell, name))
    if cases and not wrong:
        print(f"  {len(cases)} networks checked: all programs compute the same", flush=True)
    return wrong


def measure(part, rnnc, peers, point, share, options):
    programs, found, lines = [rnnc, *peers], {}, []
    for turn in range(options.rounds):
        # The share ends it after two rounds, or after one that took all of the share and more.
        if turn > 0 and (part.budget.left() <= 0 or share.left() <= 0 and (turn > 1 or share.spent() > 2 * share.seconds)):
            break
        for place in range(len(programs)):
            program = programs[(turn + place) % len(programs)]
            if found.get(program.name) is None and turn > 0:
                continue
            try:
                times = program.time(point, ["forward", "train"], options.seconds, 60 + part.budget.left())
            except RuntimeError as error:
                part.fail(str(point), error)
                found[program.name] = None
                continue
            if program is rnnc:
                lines.append(times.pop("line"))
            found.setdefault(program.name, []).append(times)
        if not found.get("rnnc"):
            return
    rows = {name: rounds for name, rounds in found.items() if rounds}
    part.add(**result(point, rows, lines), say=said(point, rows))


def result(point, found, lines):
    """Medians and extremes over the rounds, and the ratios within them; fractions of the bound, too, are of the machine as
    it was found in the same round."""
    row = point.row() | {"rounds": len(found["rnnc"])}
    for name, rounds in found.items():
        row[name] = {kind: over([turn[kind]["median"] for turn in rounds]) for kind in ("forward", "train")}
        if name != "rnnc":
            row[name]["ratio"] = {kind: over(ratios(found, name, kind)) for kind in ("forward", "train")}
    for prefix in ("forward_", ""):
        for key in ("flops", "bytes"):
            row[prefix + key] = rounded(lines[0][prefix + key])
        for key in ("bound_us_per_step", "fraction_of_bound"):
            row[prefix + key] = over([line[prefix + key] for line in lines])
    row["product_gflops"] = over([line["machine"]["product_gflops"] for line in lines])
    return row


def ratios(found, name, kind):
    """How many times as long the peer takes, round by round."""
    return [theirs[kind]["median"] / own[kind]["median"] for own, theirs in zip(found["rnnc"], found[name])]


def over(values):
    return {"median": rounded(statistics.median(values)), "low": rounded(min(values)), "high": rounded(max(values))}


def said(point, found):
    texts = [f"{point}: rnnc {over([t['train']['median'] for t in found['rnnc']])['median']} us"]
    texts += [f"{name} {over(ratios(found, name, 'train'))['median']} times as long" for name in found if name != "rnnc"]
    return f"{', '.join(texts)}; {len(found['rnnc'])} rounds"
