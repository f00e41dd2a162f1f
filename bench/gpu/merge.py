"""Puts results of several runs together, part by part: those of the same machine and the same rnnc.

    python bench/gpu/merge.py INTO FROM [FROM ..]

What was measured again counts anew. Needs nothing but Python 3.
"""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))  # for what the CPU's measurements use too

from common import Part

# A run of these is a whole.
WHOLE = {"training"}


def of_same_machine(one, other):
    """Whether two runs can stand in one table. The checkout's commit may change while the binary does not."""
    def facts(results):
        return {name: value for name, value in results["machine"].items() if name != "commit"}
    return facts(one) == facts(other)


def merged(old, new):
    """The results of a part, of two runs on the same machine."""
    if new["part"] in WHOLE:
        return new
    done = {row["what"] for row in new["results"]}
    known = {row["what"] for row in old["results"]}
    again = done | {entry["what"] for entry in new["left_out"]}

    def is_of(problem, names):
        return any(problem.startswith(f"{new['part']}: {name}: ") for name in names)
    return new | {
        "seconds": float(f"{old['seconds'] + new['seconds']:.4g}"),
        "results": [row for row in old["results"] if row["what"] not in done] + new["results"],
        "left_out": [entry for entry in old["left_out"] if entry["what"] not in again]
        + [entry for entry in new["left_out"] if entry["what"] not in known],
        "wrong": [problem for problem in old["wrong"] if not is_of(problem, done) and problem not in new["wrong"]]
        + new["wrong"],
    }


class Different(Exception):
    """Results of another machine or version."""


def joined(path, new):
    """New results of a part, with those that its file has already, if there is one."""
    if not path.is_file():
        return new
    old = json.loads(path.read_text())
    if not of_same_machine(old, new):
        raise Different(f"{path} is of another machine or version:\n{old['machine']}\n{new['machine']}")
    return merged(old, new)


class JoinedPart(Part):
    """A part whose results join those of earlier runs in the same directory."""

    def __init__(self, name, options, machine, budget):
        super().__init__(name, options, machine, budget)
        # Fails here, before anything is measured.
        joined(self.path, super().contents())
        self.earlier = self.path.read_text() if self.path.is_file() else None

    def contents(self):
        new = super().contents()
        return merged(json.loads(self.earlier), new) if self.earlier else new


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__.strip())
    into, *others = map(pathlib.Path, sys.argv[1:])
    into.mkdir(parents=True, exist_ok=True)
    for folder in others:
        paths = sorted(folder.glob("*.json"))
        if not paths:
            sys.exit(f"there are no results in {folder}")
        for path in paths:
            target = into / path.name
            try:
                text = json.dumps(joined(target, json.loads(path.read_text())), indent=1)
            except Different as error:
                sys.exit(str(error))
            target.write_text(text + "\n")


if __name__ == "__main__":
    main()
