"""One step of a recurrent cell as a function of tensors: how a module is called, and what it gives back."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import torch
from torch.utils import _pytree as pytree

from . import names as naming
from .errors import TraceError, exception_frame, shape_in_words


@dataclass
class Port:
    """An input, an output or a state."""

    name: str
    shape: tuple[int, ...]
    """That of one stream in one frame, without the batch."""
    symbols: bool = False
    """Whether it is a whole number, for a look-up."""

    @property
    def size(self) -> int:
        return torch.Size(self.shape).numel()


def is_leaf(spec: Any) -> bool:
    return isinstance(spec, (int, str, torch.Size, torch.Tensor)) or spec is None


def shape_of(spec: Any, what: str) -> tuple[tuple[int, ...], bool]:
    """The shape of one stream that a spec says, and whether it is of symbols."""
    if isinstance(spec, bool) or spec is None:
        raise TraceError(f"{what} is {spec!r}; expected a size, such as 256")
    if isinstance(spec, int):
        if spec < 1:
            raise TraceError(f"{what} has size {spec}; sizes are 1 or more")
        return (spec,), False
    if isinstance(spec, str):
        if spec != "symbol" and not spec.startswith("symbol("):
            raise TraceError(f"{what} is {spec!r}; expected a size, torch.Size, an example tensor [B, ..] or 'symbol'")
        return (), True
    if isinstance(spec, torch.Size):
        return tuple(spec), False
    if isinstance(spec, torch.Tensor):
        if spec.dim() == 0 or (spec.dim() == 1 and spec.is_floating_point()):
            raise TraceError(f"{what} is an example of shape {list(spec.shape)}; expected [B, ..], the batch first")
        return tuple(spec.shape[1:]), not spec.is_floating_point()
    raise TraceError(f"{what} is {spec!r}; expected a size, torch.Size, an example tensor [B, ..] or 'symbol'")


class Call(torch.nn.Module):
    """Calls a module's step with tensors in a row, and gives back its outputs and its new state in a row."""

    def __init__(self, module: torch.nn.Module, inputs: int, state: pytree.TreeSpec, packed: bool, step: Callable[..., Any] | None):
        super().__init__()
        self.module = module
        self.inputs = inputs
        self.state = state
        self.packed = packed
        self.step = step
        self.found: Any = None

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = pytree.tree_unflatten(list(tensors[self.inputs :]), self.state)
        arguments = list(tensors[: self.inputs]) + ([tuple(state)] if self.packed else list(state))
        result = self.module(*arguments) if self.step is None else self.step(self.module, *arguments)
        outputs, new, self.found = self.parted(result)
        return (*outputs, *new)

    def parted(self, result: Any) -> tuple[list[torch.Tensor], list[torch.Tensor], Any]:
        """Outputs and new state in what a step returned, and the form of the outputs."""
        count = self.state.num_leaves

        def tensors(value: Any) -> list[Any]:
            return [v for v in pytree.tree_leaves(value) if v is not None]

        def is_state(value: Any) -> bool:
            return len(tensors(value)) == count and all(isinstance(v, torch.Tensor) for v in tensors(value))

        pair = isinstance(result, (tuple, list)) and len(result) == 2
        if pair and count and is_state(result[1]) and (count > 1 or len(tensors(result[0])) >= 1):
            return tensors(result[0]), tensors(result[1]), pytree.tree_structure(result[0])
        if count and is_state(result):
            new = tensors(result)
            return [new[0]], new, pytree.tree_structure(new[0])
        everything = tensors(result)
        if isinstance(result, (tuple, list)) and len(everything) > count:
            cut = len(everything) - count
            form = result[0] if cut == 1 else tuple(result[: len(result) - count])
            return everything[:cut], everything[cut:], pytree.tree_structure(form)
        if count == 0:
            return everything, [], pytree.tree_structure(result)
        kinds = f"{len(everything)} tensor{'s' if len(everything) != 1 else ''}"
        raise TraceError(
            f"the step returned {kinds}, where {count} tensor{'s' if count > 1 else ''} of state were expected "
            "after the output.\n  It can return (output, state), (output, *state), or the state alone, whose first "
            "tensor is then the output. For another form, give step=lambda module, x, *state: (output, state)."
        )


@dataclass
class Prepared:
    """A module's step, ready to be exported."""

    call: Call
    inputs: list[Port]
    state: list[Port]
    examples: list[torch.Tensor]
    streams: int


def _named(spec: Any, what: str) -> tuple[list[Any], list[str] | None]:
    if isinstance(spec, dict):
        return list(spec.values()), [str(k) for k in spec]
    if is_leaf(spec):
        return [spec], None
    if not isinstance(spec, Sequence):
        raise TraceError(f"{what}={spec!r}; expected a list of sizes, such as {what}=[256]")
    return list(spec), None


def _parameters(module: torch.nn.Module, step: Callable[..., Any] | None) -> tuple[list[inspect.Parameter], bool]:
    """The positional arguments of the step, and whether it takes any number of them."""
    function = step if step is not None else module.forward
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return [], True
    if step is not None:
        found = found[1:]
    every = any(p.kind is p.VAR_POSITIONAL for p in found)
    return [p for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)], every


def prepare(
    module: torch.nn.Module, inputs: Any, state: Any, step: Callable[..., Any] | None, other_streams: bool = False
) -> Prepared:
    """Finds out how the module is called, and checks by a call that the sizes fit. `other_streams`: for another B."""
    input_specs, input_names = _named(inputs, "inputs")
    state_specs, state_names = _named(state, "state")
    if not input_specs:
        raise TraceError("inputs=[] names no input; a step reads one at least")
    parameters, every = _parameters(module, step)
    required = [p for p in parameters if p.default is p.empty]
    given = len(input_specs) + len(state_specs)
    packed = not every and len(parameters) < given and len(parameters) == len(input_specs) + 1
    expected = len(input_specs) + (1 if packed else len(state_specs))
    if not every and (len(parameters) < expected or len(required) > expected):
        takes = ", ".join(p.name for p in parameters)
        raise TraceError(
            f"the step of {type(module).__name__} takes ({takes}), and was given {len(input_specs)} input"
            f"{'s' if len(input_specs) != 1 else ''} and {len(state_specs)} state{'s' if len(state_specs) != 1 else ''}.\n"
            "  It is called as step(*inputs, *state), or step(*inputs, (state, ..)) where it takes one argument for the state. "
            "For another form, give step=lambda module, x, *state: (output, state)."
        )
    leaves, tree = pytree.tree_flatten(state_specs, is_leaf=is_leaf)
    names = [p.name for p in parameters]
    if input_names is None:
        own = names[: len(input_specs)] if len(names) >= len(input_specs) else []
        input_names = own or (["x"] if len(input_specs) == 1 else [f"x{i + 1}" for i in range(len(input_specs))])
        input_names = ["x" if n in ("input", "inp", "inputs") and len(input_specs) == 1 else n for n in input_names]
    if state_names is None or len(state_names) != len(leaves):
        arguments = names[len(input_specs) :][: 1 if packed else len(state_specs)]
        if len(arguments) == 1 and len(leaves) > 1:
            arguments = naming.unpacked(step or type(module).forward, arguments[0], len(leaves)) or []
        state_names = naming.default_state_names(arguments, len(leaves))
    taken: set[str] = set()
    state_names = [naming.unique(naming.identifier(n), taken) for n in state_names]
    input_names = [naming.unique(naming.identifier(n), taken) for n in input_names]
    input_ports = [Port(n, *shape_of(s, f"input `{n}`")) for n, s in zip(input_names, input_specs)]
    state_ports = [Port(n, *shape_of(s, f"state `{n}`")) for n, s in zip(state_names, leaves)]
    for port in state_ports:
        if port.symbols:
            raise TraceError(f"state `{port.name}` is of whole numbers; state is of floats")
    tensors = [t for t in (*module.parameters(), *module.buffers())]
    floats = [t for t in tensors if t.is_floating_point()]
    device = floats[0].device if floats else torch.device("cpu")
    dtype = floats[0].dtype if floats else torch.get_default_dtype()
    lengths = {d for t in tensors for d in t.shape} | {d for p in (*input_ports, *state_ports) for d in p.shape}
    primes = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83)
    free = [p for p in primes if p not in lengths] + [79, 83]
    # The other B is large, for the sake of steps that do something else for large batches.
    streams = next((p for p in free if p > 30), free[1]) if other_streams else free[0]
    random = torch.Generator().manual_seed(0)
    examples = [
        torch.zeros((streams, *p.shape), dtype=torch.int64, device=device)
        if p.symbols
        else (torch.rand((streams, *p.shape), generator=random, dtype=dtype) * 0.1).to(device)
        for p in (*input_ports, *state_ports)
    ]
    call = Call(module, len(input_ports), tree, packed, step)
    # Submodules keep theirs: a frozen one may be in evaluation alone.
    call.training = module.training
    prepared = Prepared(call, input_ports, state_ports, examples, streams)
    _check(prepared)
    return prepared


def _check(prepared: Prepared) -> None:
    """Runs the step once, with buffers that are copies."""
    ports = (*prepared.inputs, *prepared.state)
    given = ", ".join(f"{p.name} {shape_in_words((prepared.streams, *p.shape), prepared.streams)}" for p in ports)
    buffers = {name: b.detach().clone() for name, b in prepared.call.named_buffers()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            result = torch.func.functional_call(prepared.call, buffers, tuple(e.clone() for e in prepared.examples))
    except TraceError:
        raise
    except Exception as error:
        frame = exception_frame(error)
        raise TraceError(
            f"the step fails on {given} (B = {prepared.streams}): {str(error).strip().splitlines()[0] if str(error) else type(error).__name__}\n"
            + (f"  at {frame}\n" if frame else "")
            + "  Do the sizes of inputs= and state= fit the module?"
        ) from error
    outputs = len(result) - len(prepared.state)
    for index, (port, new) in enumerate(zip(prepared.state, result[outputs:])):
        if tuple(new.shape) != (prepared.streams, *port.shape):
            before, after = (shape_in_words(s, prepared.streams) for s in ((prepared.streams, *port.shape), new.shape))
            raise TraceError(
                f"state `{port.name}` (number {index + 1}) is {before} when it comes in, and {after} when it goes out.\n"
                "  Give the sizes in the order in which the step takes and returns them."
            )
    for value in result:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise TraceError("the step returns a value that is no tensor of floats; outputs and state are of floats")
