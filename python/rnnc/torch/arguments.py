"""What callers hand in, checked before anything runs: each error says which argument it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from torch import Tensor
from torch.utils import _pytree as pytree

from .. import _native


def check_threads(threads: Any) -> None:
    """Refuses a number of threads that is none."""
    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise _native.Error(f"threads is {threads!r}; it is a number of 1 or more, or None for torch.get_num_threads()")


def check_tensor(what: str, value: Any) -> None:
    """Refuses what is no tensor, or one that does not lie in memory number by number."""
    if not isinstance(value, Tensor):
        raise _native.Error(f"{what} is a {type(value).__name__}; expected a tensor")
    if value.is_sparse or value.is_mkldnn:
        raise _native.Error(f"{what} has the layout {value.layout}; the network reads dense tensors: call .to_dense()")


def state_tensors(state: Any, names: Sequence[str]) -> list[Tensor] | None:
    """The tensors of a state: a tensor, a nest of them in the network's order, or a dict of them by name."""
    if state is None:
        return None
    if isinstance(state, Mapping):
        if set(state) != set(names):
            raise _native.Error(f"the state is {list(names)}; the dict that came has {list(state)}")
        state = [state[name] for name in names]
    if not isinstance(state, (Tensor, tuple, list)):
        raise _native.Error(f"state is a {type(state).__name__}; expected {_expected(names)}")
    leaves = list(state) if type(state) is tuple else pytree.tree_leaves(state)
    if any(isinstance(leaf, (tuple, list, dict)) for leaf in leaves):
        leaves = pytree.tree_leaves(leaves)
    if len(leaves) != len(names):
        raise _native.Error(f"the state is {list(names)}; {len(leaves)} tensors came")
    for name, leaf in zip(names, leaves):
        if leaf is None:
            raise _native.Error(f"state `{name}` is None; give {_expected(names)}, or state=None for a beginning")
        check_tensor(f"state `{name}`", leaf)
    return leaves


def check_resets(resets: Any) -> None:
    """Refuses what is no tensor."""
    if resets is not None:
        check_tensor("resets", resets)


def _expected(names: Sequence[str]) -> str:
    return f"a tensor for each of {list(names)}" if len(names) > 1 else f"the tensor of `{names[0]}`" if names else "none"


class NotScriptable:
    """A module that `torch.jit.script` is told of."""

    def __prepare_scriptable__(self) -> NoReturn:
        raise _native.Error("torch.jit does not go through rnnc's modules: use torch.compile, or torch.export")
