"""Where a network comes from: a text, a file, or a cell of the library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from . import _native


class Cell(NamedTuple):
    """A cell that comes with the language."""

    name: str
    summary: str
    citation: str
    text: str
    #: What its inputs, and the values that it returns, are called in it.
    inputs: list[str]
    returns: list[str]


def cells() -> list[Cell]:
    """All cells of the library."""
    return [Cell(*cell) for cell in _native.cells()]


class Source(NamedTuple):
    """A text, and what messages call it."""

    text: str
    file_name: str


def read(
    source: str | os.PathLike[str], inputs: int | Sequence[int] | None = None, options: dict[str, object] | None = None
) -> Source:
    """The text of a network: of a text itself (it has a brace), of a file (a path, or a name that ends with ``.rnn``), or of a cell
    of the library by its name, with the sizes of its inputs and its options."""
    options = options or {}
    if not isinstance(source, (str, os.PathLike)):
        raise _native.Error(f"a network is a text, a path or the name of a library cell; a {type(source).__name__} came")
    if isinstance(source, os.PathLike) or (source.endswith(".rnn") and "{" not in source):
        _no_options(source, inputs, options)
        path = os.fspath(source)
        try:
            with open(path, encoding="utf-8") as file:
                return Source(file.read(), path)
        except UnicodeDecodeError as error:
            raise _native.Error(f"{path} is not a text: {error}") from None
    if "{" in source:
        _no_options("a text", inputs, options)
        return Source(source, "network")
    return _of_cell(source, inputs, options)


def _no_options(what: object, inputs: object, options: dict[str, object]) -> None:
    given = [*(["inputs"] if inputs is not None else []), *options]
    if given:
        raise _native.Error(
            f"`{given[0]}` goes with the name of a library cell; {what} says all that there is to say of a network"
        )


def _of_cell(name: str, inputs: int | Sequence[int] | None, options: dict[str, object]) -> Source:
    library = {cell.name: cell for cell in cells()}
    if name not in library:
        known = ", ".join(library)
        raise _native.Error(
            f"`{name}` is no cell of the library, no text of a network (these have braces), and no path (these end with .rnn); "
            f"cells: {known}"
        )
    arguments = library[name].inputs
    if inputs is None:
        raise _native.Error(f"cell `{name}` needs the sizes of its inputs: `inputs=40`, or one for each of {arguments}")
    sizes = [inputs] if isinstance(inputs, int) else list(inputs)
    if len(sizes) != len(arguments):
        raise _native.Error(f"cell `{name}` has the inputs {arguments}, and got {len(sizes)} sizes")
    # The network's output is called as in the cell.
    output = next((one for one in library[name].returns[:1] if one not in arguments), "y")
    given = ", ".join(f"{option} = {_written(value)}" for option, value in options.items())
    lines = [f"network {name}_network {{"]
    lines += [f"    input {argument} : vector({size})" for argument, size in zip(arguments, sizes)]
    lines += [f"    {output} = {name}({', '.join(arguments)}{'; ' if given else ''}{given})", f"    output {output}", "}"]
    return Source("\n".join(lines) + "\n", f"cell {name}")


def _written(value: object) -> str:
    return "none" if value is None else str(value)
