"""Where a network comes from: a text, a file, or a cell of the library."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from . import _native


class Cell(NamedTuple):
    """A cell that comes with the language."""

    name: str
    summary: str
    citation: str
    text: str


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


_CELL = re.compile(r"^cell +(?P<name>\w+)\((?P<inputs>[^;)]*)(?:;(?P<options>[^)]*))?\)", re.MULTILINE)
_RETURN = re.compile(r"^ *return +(\w+)", re.MULTILINE)


def _of_cell(name: str, inputs: int | Sequence[int] | None, options: dict[str, object]) -> Source:
    texts = {cell.name: cell.text for cell in cells()}
    if name not in texts:
        known = ", ".join(texts)
        raise _native.Error(
            f"`{name}` is no cell of the library, no text of a network (these have braces), and no path (these end with .rnn); "
            f"cells: {known}"
        )
    # A file of the library may have cells that its own cell calls: that one has the file's name.
    signatures = {match["name"]: match for match in _CELL.finditer(texts[name])}
    signature = signatures[name]
    arguments = [argument.strip() for argument in signature["inputs"].split(",")]
    if inputs is None:
        raise _native.Error(f"cell `{name}` needs the sizes of its inputs: `inputs=40`, or one for each of {arguments}")
    sizes = [inputs] if isinstance(inputs, int) else list(inputs)
    if len(sizes) != len(arguments):
        raise _native.Error(f"cell `{name}` has the inputs {arguments}, and got {len(sizes)} sizes")
    result = _RETURN.search(texts[name], signature.end())
    output = result.group(1) if result else "y"
    if output in arguments:
        output = "y"
    given = ", ".join(f"{option} = {_written(value)}" for option, value in options.items())
    lines = [f"network {name}_network {{"]
    lines += [f"    input {argument} : vector({size})" for argument, size in zip(arguments, sizes)]
    lines += [f"    {output} = {name}({', '.join(arguments)}{'; ' if given else ''}{given})", f"    output {output}", "}"]
    return Source("\n".join(lines) + "\n", f"cell {name}")


def _written(value: object) -> str:
    return "none" if value is None else str(value)
