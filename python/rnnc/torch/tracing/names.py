"""The names that the user's own code gives to values: `c = f * c + i * g` makes a `c`."""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import re
import textwrap
from typing import Any

from .errors import Frame, frames

RESERVED = {"cell", "network", "input", "output", "return", "start", "reversed"}
FUNCTIONS = set(
    "max min sigmoid tanh relu leaky_relu elu softplus softsign gelu silu exp log sqrt abs square sin cos "
    "hard_sigmoid hard_tanh softmax log_softmax layer_norm rms_norm sum mean concat slice broadcast stop_gradient "
    "dropout dense diag param t".split()
)
_PREVIOUS = re.compile(r"^(prev|previous|last|old|b)_|_(prev|previous|last|old|tm1|t_1|0|t|in)$|(?<=[a-z])(0|prev)$")
_GENERIC = {"state", "states", "hidden", "hx", "carry", "args", "memory"}


def identifier(name: str) -> str:
    """A name that the language takes."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_") or "z"
    if name[0].isdigit():
        name = "n" + name
    return name + "_" if name in RESERVED or name in FUNCTIONS else name


def state_name(name: str) -> str:
    """`h_prev`, `prev_h` and `h0` are the state `h`."""
    bare = _PREVIOUS.sub("", name)
    return identifier(bare or name)


@functools.lru_cache(maxsize=256)
def _statements(file: str) -> dict[int, ast.stmt]:
    """The innermost statement of each line of a file."""
    import linecache

    found: dict[int, ast.stmt] = {}
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return found
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)):
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                found[line] = node
    return found


def _target(statement: ast.stmt | None) -> ast.expr | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        return statement.targets[0]
    if isinstance(statement, (ast.AugAssign, ast.AnnAssign)):
        return statement.target
    return None


def _variable(target: ast.expr | None) -> str | None:
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute):
        return target.attr
    return None


class Names:
    """Names of the nodes of one graph."""

    def __init__(self, nodes: list[Any]):
        self.nodes = [n for n in nodes if n.op == "call_function"]
        self.position = {n: i for i, n in enumerate(self.nodes)}
        self.frames: dict[Any, list[Frame]] = {n: frames(n) for n in self.nodes}

    def _prefixes(self, node: Any, depth: int) -> tuple:
        """What a node's calls have in common up to a depth: lines of statements, not of expressions."""
        keys = []
        for frame in self.frames[node][: depth + 1]:
            statement = _statements(frame.file).get(frame.line)
            keys.append((frame.file, statement.lineno if statement else frame.line, frame.function))
        return tuple(keys)

    def belongs_to(self, node: Any, other: Any) -> None:
        """Of a node that was put into the graph for the sake of another: it stands on the same line."""
        self.position[node], self.frames[node] = self.position[other], self.frames[other]

    def of(self, node: Any) -> str | None:
        """The variable that the node's value is assigned to."""
        stack = self.frames.get(node, [])
        for depth in range(len(stack) - 1, -1, -1):
            if not stack[depth].is_users:
                continue
            statement = _statements(stack[depth].file).get(stack[depth].line)
            target = _target(statement)
            here = self._prefixes(node, depth)
            if node.target is operator.getitem and isinstance(target, (ast.Tuple, ast.List)):
                index = node.args[1]
                rest = self.nodes[self.position[node] + 1 :]
                if isinstance(index, int) and index < len(target.elts) and self._only_items_follow(rest, here, depth):
                    return _variable(target.elts[index])
                return None
            if self._follows(node, here, depth):
                return None
            name = _variable(target)
            if name is not None:
                return name
            if not isinstance(statement, ast.Return):
                return None
        return None

    def _follows(self, node: Any, here: tuple, depth: int) -> bool:
        """Whether the next node belongs to the same statement."""
        position = self.position[node] + 1
        return position < len(self.nodes) and self._prefixes(self.nodes[position], depth) == here

    def _only_items_follow(self, rest: list[Any], here: tuple, depth: int) -> bool:
        for node in rest:
            if self._prefixes(node, depth) != here:
                return True
            if node.target is not operator.getitem:
                return False
        return True


def module_path(node: Any) -> str:
    """The path of the submodule that a node was computed in, `cell.W`."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return re.sub(r"^(L__self__\.?)?module\.?", "", path)


def unpacked(function: Any, argument: str, count: int) -> list[str] | None:
    """The names in `h, c = state` in the text of a function whose argument is `state`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _variable(node.value) == argument:
            target = _target(node)
            if isinstance(target, (ast.Tuple, ast.List)) and len(target.elts) == count:
                names = [_variable(e) for e in target.elts]
                if all(names) and "_" not in names:
                    return [str(n) for n in names]
    return None


def default_state_names(arguments: list[str], count: int) -> list[str]:
    """Names of states, from the names of the arguments that brought them."""
    if len(arguments) == count and not (set(arguments) & _GENERIC):
        return [state_name(a) for a in arguments]
    return ["h"] if count == 1 else ["h", "c"] if count == 2 else [f"s{i + 1}" for i in range(count)]


def unique(name: str, taken: set[str]) -> str:
    """The name, or with the first number that is free."""
    result, number = name, 2
    while result in taken:
        result, number = f"{name}_{number}", number + 1
    taken.add(result)
    return result
