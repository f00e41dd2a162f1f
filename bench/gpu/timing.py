"""rnnc's times of cases, beside the bound, and the times that its plan predicts for them."""

import json
import pathlib
import tempfile

from cases import grouped
from common import fractions_of, rounded, times_of

# Of a case: four measurements, and its share of starting the program.
LEAST_SECONDS = 1.5


def run(part, rnnc, options, cases):
    """Keeps a row for each case."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # One process for those that differ in streams alone.
        for group in grouped(cases, "streams"):
            (folder / "net.rnn").write_text(group[0].text())
            try:
                together(part, rnnc, folder, group, options.seconds)
            except RuntimeError as error:
                if len(group) == 1:
                    part.fail(f"rnnc {group[0]}", error)
                    continue
                for case in group:  # which of them is it?
                    try:
                        together(part, rnnc, folder, [case], options.seconds)
                    except RuntimeError as error:
                        part.fail(f"rnnc {case}", error)


def together(part, rnnc, folder, group, seconds):
    cases = [case for case in group if part.has_time(f"rnnc {case}", LEAST_SECONDS * len(group))]
    if not cases:
        return
    first, path = cases[0], folder / "net.rnn"
    # Measured once for each precision of products.
    machine = folder / f"machine-{first.precision}.json"
    out = rnnc.run("bench", path, "--streams", ",".join(str(case.streams) for case in cases), "--frames", first.frames,
                   "--schedule", first.schedule, "--precision", first.precision, "--seconds", seconds,
                   "--format", "json", *(["--machine", machine] if machine.is_file() else []), timeout=part.budget.left())
    lines = [json.loads(line) for line in out.splitlines()]
    machine.write_text(json.dumps(lines[0]["machine"]))
    for case, line in zip(cases, lines, strict=True):
        # Of frame after frame, it leaves out what matters: the time between kernels.
        predicted = predict(rnnc, path, case) if case.schedule == "window" else {}
        times = times_of(line)
        told = " / ".join(str(times[name]["median"]) for name in ("forward", "train") if name in times)
        say = f"rnnc {case}: {told} us"
        if predicted:
            say += f", predicted {predicted['predicted']['forward']} / {predicted['predicted']['train']}"
        fractions = fractions_of(line)
        bound = {"fraction_of_bound": fractions} if fractions else {}
        part.add(say, program="rnnc", **case.facts("rnnc"), timed=line["timed"], **times, **bound, **predicted)


def predict(rnnc, path, case):
    """Microseconds per frame."""
    passes = explained(rnnc, path, case)["passes"]
    times = [found["predicted_us"] for found in passes]
    return {"predicted": {"forward": rounded(times[0]), "train": rounded(sum(times))}}


def explained(rnnc, path, case):
    """The plan of a case on the GPU; of a rehearsal, on a GPU that is not there."""
    device = ["--device", rnnc.planned_device] if rnnc.planned_device else []
    out = rnnc.run("plan", path, "--streams", case.streams, "--frames", case.frames, "--precision", case.precision,
                   "--input-gradients", *device, "--format", "json", executor="cuda", timeout=60)
    return json.loads(out)
