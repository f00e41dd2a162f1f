"""The parts of pages that are made of results: they stand between marks that name the results and the program. And the tables that
stand beside results."""

import json
import pathlib
import re
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PERFORMANCE = ROOT / "docs/performance.md"


def wrapped(text):
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def outdated(of_a_cpu, make):
    """The tables.md beside results, those of CPUs or of GPUs, that are not what `make` makes of their directory."""
    wrong = []
    for path in sorted(ROOT.glob("bench/results/*/tables.md")):
        part = json.loads(next(path.parent.glob("*.json")).read_text())
        # The bound of a CPU is of speeds measured before all else.
        if ("speeds" in part["machine"]) == of_a_cpu and path.read_text() != make(path.parent):
            wrong.append(f"{path.relative_to(ROOT)}: differs from the results beside it")
    return wrong


class Section:
    """A part of a page. `make` gives its text of a directory of results."""

    def __init__(self, page, name, program, make):
        self.page, self.name, self.program, self.make = page, name, program, make
        self.begin = re.compile(rf"<!-- {name}: made of (\S+) by {re.escape(program)} -->\n")
        self.end = f"<!-- end of {name} -->\n"

    def replaced(self, text, directory):
        """The page with this part anew."""
        begin = self.begin.search(text)
        if begin is None or self.end not in text[begin.end():]:
            raise SystemExit(f"{self.page.relative_to(ROOT)} has no part for the tables of {self.name}")
        rest = text[begin.end():].split(self.end, 1)[1]
        where = directory.relative_to(ROOT).as_posix()
        mark = f"<!-- {self.name}: made of {where} by {self.program} -->\n"
        return f"{text[:begin.start()]}{mark}{self.make(directory)}{self.end}{rest}"

    def write(self, directory):
        self.page.write_text(self.replaced(self.page.read_text(), directory))

    def wrong(self):
        """What is wrong with it, if it is not what the results make of it."""
        text = self.page.read_text()
        name = self.page.relative_to(ROOT)
        begin = self.begin.search(text)
        if begin and begin[1] == "none":
            return []  # written by hand, before there were results
        if begin is None or not (ROOT / begin[1]).is_dir():
            return [f"{name}: the results of its part for {self.name} are not there"]
        if self.replaced(text, ROOT / begin[1]) != text:
            return [f"{name}: differs from {begin[1]}; `python3 {self.program} --publish {begin[1]}` mends it"]
        return []
