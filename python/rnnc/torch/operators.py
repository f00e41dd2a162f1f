"""The two operators of PyTorch that run a network forward and back, and what makes them differentiable.

``rnnc::forward`` and ``rnnc::backward`` are functions of tensors: all memory is theirs (`torch.empty`), the network travels as a string,
and what the backward call reads of the forward call, the tape, is a tensor among the results. Autograd stands around them
(`_Call`). A second backward pass is refused rather than wrong (`_Once`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from .. import _native
from .arrays import are_plain, array, arrays, gpu_of, run
from .programs import Program, Signature

Tensors = Sequence[torch.Tensor]

_library = torch.library.Library("rnnc", "DEF")
_tags = (torch.Tag.pt2_compliant_tag,)
_library.define(
    "forward(str network, Tensor[] inputs, Tensor[] weights, Tensor[] state, Tensor? resets, Tensor? seed, int threads, "
    "bool gradients) -> Tensor[]",
    tags=_tags,
)
_library.define(
    "backward(str network, Tensor[] weights, Tensor? resets, Tensor tape, Tensor?[] d_outputs, Tensor?[] d_state, SymInt frames, "
    "SymInt streams, int threads, bool dropout, bool[] wanted) -> Tensor[]",
    tags=_tags,
)


def _results(signature: Signature, like: torch.Tensor, frames: Any, streams: Any) -> list[torch.Tensor]:
    """Room for outputs and state."""
    device = like.device
    outputs = [
        torch.empty((frames, streams, size), dtype=signature.dtype, device=device) for _, size in signature.outputs
    ]
    state = [
        torch.empty(
            signature.state_shape(place, streams), dtype=torch.int64 if symbols else signature.dtype, device=device
        )
        for place, (_, _, _, symbols) in enumerate(signature.state)
    ]
    return outputs + state


def _forward(
    network: str,
    inputs: Tensors,
    weights: Tensors,
    state: Tensors,
    resets: torch.Tensor | None,
    seed: torch.Tensor | None,
    threads: int,
    gradients: bool,
) -> list[torch.Tensor]:
    program = Program.of(network)
    split = len(program.signature.outputs)
    try:
        frames, streams = inputs[0].shape[:2]
        gpu = gpu_of(inputs[0])
        compiled = program.compiled(streams, frames, gradients, seed is not None, threads, gpu)
        results = _results(program.signature, inputs[0], frames, streams)
        tape = inputs[0].new_empty(compiled.tape_len, dtype=torch.float32) if gradients else None
        run(
            compiled.forward,
            gpu,
            frames,
            arrays(weights),
            arrays(inputs),
            None if resets is None else array(resets),
            arrays(state) if state else None,
            0 if seed is None or seed.is_cuda else int(seed.item()),
            arrays(results[:split]),
            arrays(results[split:]),
            None if tape is None else array(tape),
            seed.data_ptr() if seed is not None and seed.is_cuda and gpu is not None else None,
        )
    except (_native.Error, KeyError, IndexError, ValueError):
        # The engine has refused something; here is more to say of tensors.
        _check(program.signature, inputs, weights, state, resets)
        raise
    return results if tape is None else [*results, tape]


def _backward(
    network: str,
    weights: Tensors,
    resets: torch.Tensor | None,
    tape: torch.Tensor,
    d_outputs: Sequence[torch.Tensor | None],
    d_state: Sequence[torch.Tensor | None],
    frames: int,
    streams: int,
    threads: int,
    dropout: bool,
    wanted: Sequence[bool],
) -> list[torch.Tensor]:
    program = Program.of(network)
    gpu = gpu_of(tape)
    compiled = program.compiled(streams, frames, True, dropout, threads, gpu)
    gradients = _gradients(program.signature, tape, frames, streams, wanted)
    rest = iter(gradients)
    placed = arrays([next(rest) if want else None for want in wanted])
    first = len(program.signature.inputs)
    second = first + len(program.signature.weights)
    run(
        compiled.backward,
        gpu,
        frames,
        arrays(weights),
        None if resets is None else array(resets),
        array(tape),
        arrays(d_outputs),
        arrays(d_state),
        placed[first:second],
        placed[:first],
        placed[second:],
    )
    return gradients


def _gradients(
    signature: Signature, like: torch.Tensor, frames: Any, streams: Any, wanted: Sequence[bool]
) -> list[torch.Tensor]:
    """Room for the gradients that are wanted: of inputs, weights and state, in this order."""
    shapes: list[tuple[Any, ...]] = [(frames, streams, size) for _, size, _ in signature.inputs]
    shapes += [tuple(shape) for _, shape in signature.weights]
    shapes += [signature.state_shape(place, streams) for place in range(len(wanted) - len(shapes))]
    device = like.device
    return [
        torch.empty(shape, dtype=signature.dtype, device=device) for shape, want in zip(shapes, wanted) if want
    ]


def _fake_forward(
    network: str,
    inputs: Tensors,
    weights: Tensors,
    state: Tensors,
    resets: torch.Tensor | None,
    seed: torch.Tensor | None,
    threads: int,
    gradients: bool,
) -> list[torch.Tensor]:
    program = Program.of(network)
    _check(program.signature, inputs, weights, state, resets)
    frames, streams = inputs[0].shape[:2]
    results = _results(program.signature, inputs[0], frames, streams)
    if not gradients:
        return results
    try:
        # A compiled graph may be kept on disk, and a tape's length is that of this machine and version.
        length: Any = torch.library.get_ctx().new_dynamic_size(min=0)
    except DynamicOutputShapeException:
        length = program.compiled(streams, frames, True, seed is not None, threads, gpu_of(inputs[0])).tape_len
    return [*results, inputs[0].new_empty((length,), dtype=torch.float32)]


def _fake_backward(
    network: str,
    weights: Tensors,
    resets: torch.Tensor | None,
    tape: torch.Tensor,
    d_outputs: Sequence[torch.Tensor | None],
    d_state: Sequence[torch.Tensor | None],
    frames: Any,
    streams: Any,
    threads: int,
    dropout: bool,
    wanted: Sequence[bool],
) -> list[torch.Tensor]:
    return _gradients(Program.of(network).signature, tape, frames, streams, wanted)


def _elsewhere(*arguments: Any) -> list[torch.Tensor]:
    tensors = [one for some in arguments for one in (some if isinstance(some, (list, tuple)) else [some])]
    for tensor in tensors:
        if isinstance(tensor, torch.Tensor):
            _check_device("a tensor", tensor)
    raise _native.Error("rnnc.torch runs on the CPU and on CUDA devices")


# Of other devices, for which there is nothing of their own.
_library.impl("forward", _elsewhere, "CompositeExplicitAutograd")
_library.impl("backward", _elsewhere, "CompositeExplicitAutograd")
for _device in ("CPU", "CUDA"):
    _library.impl("forward", _forward, _device)
    _library.impl("backward", _backward, _device)
torch.library.register_fake("rnnc::forward", _fake_forward, lib=_library)
torch.library.register_fake("rnnc::backward", _fake_backward, lib=_library)


def _one_by_one(operator: Any) -> Any:
    """How an operator goes with `torch.vmap`: one call for each entry of the dimension, one after the other. A dimension of vmap
    is not one of streams, since each entry may ask for gradients of weights of its own."""

    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        def entry(argument: Any, dims: Any, place: int) -> Any:
            if isinstance(argument, (list, tuple)):
                dims = dims if isinstance(dims, (list, tuple)) else [dims] * len(argument)
                return [entry(one, dim, place) for one, dim in zip(argument, dims)]
            return argument if dims is None else argument.select(dims, place)

        calls = [
            operator(*(entry(argument, dims, place) for argument, dims in zip(arguments, in_dims)))
            for place in range(info.batch_size)
        ]
        results = [torch.stack(one) for one in zip(*calls)]
        return results, [0] * len(results)

    return vmap


torch.library.register_vmap("rnnc::forward", _one_by_one(torch.ops.rnnc.forward), lib=_library)
torch.library.register_vmap("rnnc::backward", _one_by_one(torch.ops.rnnc.backward), lib=_library)


def _is_plain(tensors: list[torch.Tensor | None]) -> bool:
    """Whether nothing looks at operators, and all tensors are just that: then the operators' functions are called as they are, which
    takes a third of the time."""
    try:
        return (
            not torch.compiler.is_compiling()
            and not torch._C._are_functorch_transforms_active()
            and torch._C._len_torch_dispatch_stack() == 0
            and torch._C._get_tracing_state() is None
            and not torch._C._autograd._profiler_enabled()
            and are_plain(tensors)
        )
    except AttributeError:
        # A PyTorch that has these otherwise: the dispatcher knows.
        return False


class _Call(torch.autograd.Function):
    """A forward call that can be differentiated once."""

    generate_vmap_rule = True

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        signature: Signature,
        threads: int,
        resets: torch.Tensor | None,
        seed: torch.Tensor | None,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        first = len(signature.inputs)
        second = first + len(signature.weights)
        forward = _forward if _is_plain([*tensors, resets, seed]) else torch.ops.rnnc.forward
        return tuple(
            forward(
                signature.description,
                list(tensors[:first]),
                list(tensors[first:second]),
                list(tensors[second:]),
                resets,
                seed,
                threads,
                True,
            )
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        signature, threads, resets, seed, *tensors = inputs
        tape = output[-1]
        split = len(signature.outputs)
        symbols = [output[split + place] for place, (_, _, _, symbols) in enumerate(signature.state) if symbols]
        # The tape is differentiable in name: by it a backward call knows all that the forward call depends on (`_Once`).
        ctx.mark_non_differentiable(*symbols)
        ctx.set_materialize_grads(False)
        ctx.signature, ctx.threads, ctx.dropout = signature, threads, seed is not None
        ctx.frames, ctx.streams = tensors[0].shape[0], tensors[0].shape[1]
        if not torch.compiler.is_compiling() and isinstance(ctx.frames, int) and isinstance(ctx.streams, int):
            program = signature.program
            ctx.kept = program, program.compiled(ctx.streams, ctx.frames, True, ctx.dropout, threads, gpu_of(tape))
        first = len(signature.inputs)
        ctx.save_for_backward(resets, tape, *tensors[first : first + len(signature.weights)])

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        resets, tape, *weights = ctx.saved_tensors
        split = len(ctx.signature.outputs)
        given = gradients[:-1]
        wanted = list(ctx.needs_input_grad[4:])
        backward = _backward if _is_plain([*given, tape, resets, *weights]) else torch.ops.rnnc.backward
        with torch.no_grad():
            found = backward(
                ctx.signature.description,
                weights,
                resets,
                tape,
                list(given[:split]),
                list(given[split:]),
                ctx.frames,
                ctx.streams,
                ctx.threads,
                ctx.dropout,
                wanted,
            )
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            read = [tape, *(one for one in given if one is not None)]
            found = _Once.apply(ctx.signature.name, len(found), *found, *read)
        rest = iter(found)
        return (None,) * 4 + tuple(next(rest) if want else None for want in wanted)


class _Once(torch.autograd.Function):
    """Gradients, as they are, of which none can be taken again: `found`, and behind them what they depend on.

    Without it they would be constants to a second backward pass, and its result wrong without a word. (`once_differentiable` marks
    gradients only where the errors that came in have gradients, which those of a sum have not.)
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        name: str, count: int, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return tuple(one.view_as(one) for one in tensors[:count])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
        ctx.name = inputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise RuntimeError(
            f"a second derivative was asked of network `{ctx.name}`: rnnc differentiates once. Gradient penalties and Hessians need the cell "
            "in plain PyTorch"
        )


class _PlainCall(torch.autograd.Function):
    """The same of tensors that are just numbers, where nothing looks at operators: what is for those is left out, and PyTorch does less around
    it, so that a call takes half the time."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, signature: Signature, threads: int, resets: torch.Tensor | None, seed: torch.Tensor | None, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        first = len(signature.inputs)
        second = first + len(signature.weights)
        inputs, weights, state = tensors[:first], tensors[first:second], tensors[second:]
        results = tuple(_forward(signature.description, inputs, weights, state, resets, seed, threads, True))
        _Call.setup_context(ctx, (signature, threads, resets, seed, *tensors), results)
        return results

    backward = _Call.backward


def call(
    signature: Signature,
    inputs: Tensors,
    weights: Tensors,
    state: Tensors | None,
    resets: torch.Tensor | None,
    dropout: bool,
    threads: int | None,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Runs a network: inputs [T, B, N], or symbols [T, B]; state [B, N] or [depth, B, N]; resets [T, B]. Outputs, and the state behind
    the last frame."""
    inputs, weights, state = list(inputs), list(weights), list(state or ())
    if torch.is_autocast_enabled(inputs[0].device.type if inputs else "cpu"):
        inputs, weights, state = ([_single(one) for one in some] for some in (inputs, weights, state))
    _count(signature, inputs, state)
    seed = None
    if dropout and signature.has_dropout and signature.dtype is torch.float64:
        raise _native.Error(
            f'network `{signature.name}` has dropout, which precision="f64" does not draw: it is for checking; call `eval()` first'
        )
    if dropout and signature.has_dropout:
        # Of PyTorch's generator: `torch.manual_seed` decides, and checkpoints draw the same again.
        seed = torch.randint(2**62, (), dtype=torch.int64, device=_where_to_draw(inputs[0]))
    threads = _threads() if threads is None else threads
    plain = _is_plain([*inputs, *weights, *state, resets])
    if not plain:
        _check_devices(signature, inputs, weights, state, resets)
    if _wants_gradients(inputs, weights, state):
        # `Function.apply` asks whether functorch looks on, which it does not.
        apply = super(torch.autograd.Function, _PlainCall).apply if plain else _Call.apply
        results = apply(signature, threads, resets, seed, *inputs, *weights, *state)[:-1]
    else:
        forward = _forward if plain else torch.ops.rnnc.forward
        results = forward(signature.description, inputs, weights, state, resets, seed, threads, False)
    split = len(signature.outputs)
    return list(results[:split]), list(results[split:])


def _where_to_draw(like: torch.Tensor) -> torch.device:
    """Where a seed is drawn. On the CPU, so that the masks are the same on all devices; on the GPU, if that must not wait for the host: in a
    CUDA graph, of which each replay draws another, and in compiled code, which may become one."""
    if like.is_cuda and (torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing()):
        return like.device
    return torch.device("cpu")


class _Known:
    threads = torch.get_num_threads()


def _threads() -> int:
    """How many threads PyTorch uses. Compiled code takes those of the call before, since `torch.compile` cannot ask."""
    if not torch.compiler.is_compiling():
        _Known.threads = torch.get_num_threads()
    return _Known.threads


def _single(tensor: torch.Tensor) -> torch.Tensor:
    """As autocast's operators in single precision take it."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _wants_gradients(*tensors: Tensors) -> bool:
    if not torch.is_grad_enabled():
        return False
    if any(tensor.requires_grad for some in tensors for tensor in some):
        return True
    # Inside, a transform's tensors do not say of an outer one's gradients.
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def _count(signature: Signature, inputs: Tensors, state: Tensors) -> None:
    """Refuses lists that are not as long as the network's."""
    if len(inputs) != len(signature.inputs):
        names = [name for name, _, _ in signature.inputs]
        raise _native.Error(f"network `{signature.name}` takes the inputs {names}; {len(inputs)} tensors came")
    if not inputs:
        raise _native.Error(f"network `{signature.name}` has no inputs, so that nothing says how many frames to run")
    if state and len(state) != len(signature.state):
        names = [name for name, _, _, _ in signature.state]
        raise _native.Error(f"the state of network `{signature.name}` is {names}; {len(state)} tensors came")


def _check(
    signature: Signature, inputs: Tensors, weights: Tensors, state: Tensors, resets: torch.Tensor | None
) -> None:
    """Refuses what the network does not take, by its name."""
    _check_devices(signature, inputs, weights, state, resets)
    if inputs[0].dim() < 2:
        name, size, symbols = signature.inputs[0]
        expected = "[T, B]" if symbols else f"[T, B, {size}]"
        raise _native.Error(f"input `{name}` has shape {list(inputs[0].shape)}; the network takes {expected}")
    frames, streams = inputs[0].shape[0], inputs[0].shape[1]
    if frames == 0 or streams == 0:
        raise _native.Error(f"input `{signature.inputs[0][0]}` has shape {list(inputs[0].shape)}: there is nothing to run")
    for (name, size, symbols), tensor in zip(signature.inputs, inputs):
        _check_one(signature, f"input `{name}`", tensor, (frames, streams) if symbols else (frames, streams, size), symbols)
    for (name, shape), tensor in zip(signature.weights, weights):
        _check_one(signature, f"weight `{name}`", tensor, tuple(shape), False)
    for place, ((name, _, _, symbols), tensor) in enumerate(zip(signature.state, state)):
        _check_one(signature, f"state `{name}`", tensor, signature.state_shape(place, streams), symbols)
    if resets is not None:
        if resets.dtype not in (torch.bool, torch.uint8):
            raise _native.Error(f"resets are {resets.dtype}; they are taken as torch.bool")
        if tuple(resets.shape) != (frames, streams):
            raise _native.Error(f"resets have shape {list(resets.shape)}; [T, B] is [{frames}, {streams}] here")


def _check_one(signature: Signature, what: str, tensor: torch.Tensor, shape: tuple[Any, ...], symbols: bool) -> None:
    if symbols:
        if tensor.dtype not in (torch.int64, torch.int32):
            raise _native.Error(f"{what} is {tensor.dtype}; it takes symbols, torch.int64 or torch.int32")
    elif tensor.dtype != signature.dtype:
        advice = "convert it by .float(), or run under torch.autocast"
        if signature.dtype == torch.float64:
            advice = "convert it by .double()"
        raise _native.Error(f"{what} is {tensor.dtype}; network `{signature.name}` computes in {signature.dtype}: {advice}")
    if tuple(tensor.shape) != shape:
        raise _native.Error(f"{what} has shape {list(tensor.shape)}; the network takes {list(shape)}")


def _check_devices(
    signature: Signature, inputs: Tensors, weights: Tensors, state: Tensors, resets: torch.Tensor | None
) -> None:
    """Refuses tensors that are not all on one device, and devices that nothing runs on."""
    named = [(f"weight `{name}`", tensor) for (name, _), tensor in zip(signature.weights, weights)]
    named += [(f"input `{name}`", tensor) for (name, _, _), tensor in zip(signature.inputs, inputs)]
    named += [(f"state `{name}`", tensor) for (name, *_), tensor in zip(signature.state, state)]
    named += [("resets", resets)] if resets is not None else []
    for what, tensor in named:
        _check_device(what, tensor)
        if tensor.device != named[0][1].device:
            raise _native.Error(
                f"{what} {'are' if what == 'resets' else 'is'} on {tensor.device}, and {named[0][0]} on {named[0][1].device}; a call of network `{signature.name}` runs on one "
                f"device: move the module and its tensors by .to({str(tensor.device)!r}) or .to({str(named[0][1].device)!r})"
            )


def _check_device(what: str, tensor: torch.Tensor) -> None:
    if tensor.device.type not in ("cpu", "cuda", "meta"):
        raise _native.Error(
            f"{what} is on {tensor.device}; rnnc.torch runs on the CPU and on CUDA devices: move the module and its tensors by .to(..)"
        )
