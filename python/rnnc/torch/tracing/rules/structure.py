"""Operations that move numbers about: views, slices, concatenations. They compute nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..values import Const, Data, Num
from . import MOVES, RULES, SHAPED, rule
from .elementwise import compare


@rule("clone", "contiguous", "alias", "lift_fresh_copy", "lift_fresh", "alias_copy", table=MOVES)
def _same(array: np.ndarray, **_: Any) -> np.ndarray:
    return array


@rule("view.default", "_unsafe_view", "reshape", "view_copy.default", "_reshape_alias", table=MOVES)
def _view(array: np.ndarray, shape: list[int], *_: Any) -> np.ndarray:
    return array.reshape([int(s) for s in shape])


@rule("permute", table=MOVES)
def _permute(array: np.ndarray, dims: list[int]) -> np.ndarray:
    return array.transpose(dims)


@rule("transpose.int", "swapaxes", table=MOVES)
def _transpose(array: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.swapaxes(array, a, b)


@rule("t", "numpy_T", table=MOVES)
def _t(array: np.ndarray) -> np.ndarray:
    return array.T


@rule("mT", table=MOVES)
def _matrix_t(array: np.ndarray) -> np.ndarray:
    return np.swapaxes(array, -1, -2)


@rule("unsqueeze", table=MOVES)
def _unsqueeze(array: np.ndarray, dim: int) -> np.ndarray:
    return np.expand_dims(array, dim)


@rule("squeeze.default", "squeeze.dim", "squeeze.dims", table=MOVES)
def _squeeze(array: np.ndarray, dims: Any = None) -> np.ndarray:
    wanted = range(array.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = tuple(d % array.ndim for d in wanted if array.ndim and array.shape[d] == 1)
    return array.squeeze(axes)


@rule("expand", table=MOVES)
def _expand(array: np.ndarray, shape: list[int], **_: Any) -> np.ndarray:
    lead = len(shape) - array.ndim
    full = [array.shape[i - lead] if s == -1 else s for i, s in enumerate(shape)]
    return np.broadcast_to(array, full)


@rule("expand_as", table=MOVES)
def _expand_as(array: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.broadcast_to(array, other.shape)


@rule("repeat", table=MOVES)
def _repeat(array: np.ndarray, repeats: list[int]) -> np.ndarray:
    return np.tile(array.reshape((1,) * (len(repeats) - array.ndim) + array.shape), repeats)


@rule("select.int", table=MOVES)
def _select(array: np.ndarray, dim: int, index: int) -> np.ndarray:
    return array.take(index, axis=dim)


def _range(array: np.ndarray, dim: int, start: Any, end: Any, step: int) -> tuple[slice, ...]:
    where = [slice(None)] * array.ndim
    where[dim] = slice(start, end, step)
    return tuple(where)


@rule("slice.Tensor", table=MOVES)
def _slice(array: np.ndarray, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> np.ndarray:
    return array[_range(array, dim, start, end, step)]


@rule("narrow.default", table=MOVES)
def _narrow(array: np.ndarray, dim: int, start: int, length: int) -> np.ndarray:
    return array.take(range(start, start + length), axis=dim)


@rule("split_with_sizes", table=MOVES)
def _split(array: np.ndarray, sizes: list[int], dim: int = 0) -> list[np.ndarray]:
    return np.split(array, np.cumsum(sizes)[:-1], axis=dim)


@rule("split.Tensor", table=MOVES)
def _split_each(array: np.ndarray, size: int, dim: int = 0) -> list[np.ndarray]:
    return np.split(array, range(size, array.shape[dim], size), axis=dim)


@rule("chunk", table=MOVES)
def _chunk(array: np.ndarray, chunks: int, dim: int = 0) -> list[np.ndarray]:
    return _split_each(array, -(-array.shape[dim] // chunks), dim)


@rule("unbind.int", table=MOVES)
def _unbind(array: np.ndarray, dim: int = 0) -> list[np.ndarray]:
    return [array.take(i, axis=dim) for i in range(array.shape[dim])]


@rule("flip", table=MOVES)
def _flip(array: np.ndarray, dims: list[int]) -> np.ndarray:
    return np.flip(array, dims)


@rule("roll", table=MOVES)
def _roll(array: np.ndarray, shifts: Any, dims: Any = ()) -> np.ndarray:
    return np.roll(array, shifts, axis=tuple(dims) if dims else None)


@rule("diagonal", table=MOVES)
def _diagonal(array: np.ndarray, offset: int = 0, dim1: int = 0, dim2: int = 1) -> np.ndarray:
    return array.diagonal(offset, dim1, dim2)


@rule("unfold", table=MOVES)
def _unfold(array: np.ndarray, dim: int, size: int, step: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(array, size, axis=dim)
    return windows[_range(windows, dim % array.ndim, None, None, step)]




# With an index that is known while tracing.


def _known(trace: Any, node: Any, index: Any) -> np.ndarray | None:
    if index is None:
        return None
    if isinstance(index, Const) and index.source.constant:
        value = index.source.value.reshape(-1).cpu().numpy()[index.array]
        return value.nonzero()[0] if value.dtype == bool and value.ndim == 1 else value
    raise trace.refuse(node, "what is read depends on values of the step", "Read parts of a tensor by numbers that are known beforehand.")


@rule("index_select")
def _index_select(trace: Any, node: Any, data: Any, dim: int, index: Any) -> Any:
    return data.like(data.array.take(_known(trace, node, index), axis=dim))


@rule("gather")
def _gather(trace: Any, node: Any, data: Any, dim: int, index: Any, **_: Any) -> Any:
    return data.like(np.take_along_axis(data.array, _known(trace, node, index), axis=dim))


@rule("index.Tensor")
def _index(trace: Any, node: Any, data: Any, indices: list[Any]) -> Any:
    if isinstance(data, Const) and len(indices) == 1 and isinstance(indices[0], Data):
        return RULES[torch.ops.aten.embedding.default](trace, node, data, indices[0])
    known = tuple(slice(None) if i is None else _known(trace, node, i) for i in indices)
    return data.like(data.array[known])


# Several tensors become one.


@rule("cat.default", "concat.default", "concatenate.default")
def _cat(trace: Any, node: Any, tensors: list[Any], dim: int = 0) -> Any:
    tensors = [t for t in tensors if t.shape != (0,)]
    return Data(np.concatenate([t.array for t in trace.unify(node, tensors)], axis=dim))


@rule("stack.default")
def _stack(trace: Any, node: Any, tensors: list[Any], dim: int = 0) -> Any:
    return Data(np.stack([t.array for t in trace.unify(node, tensors)], axis=dim))


@rule("slice_scatter")
def _slice_scatter(trace: Any, node: Any, data: Any, part: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    data, part = trace.unify(node, [data, part])
    array = data.array.copy()
    array[_range(array, dim, start, end, step)] = part.array
    return Data(array)


@rule("select_scatter")
def _select_scatter(trace: Any, node: Any, data: Any, part: Any, dim: int, index: int) -> Any:
    data, part = trace.unify(node, [data, part.like(np.expand_dims(part.array, dim))])
    array = data.array.copy()
    index %= array.shape[dim]
    array[_range(array, dim, index, index + 1, 1)] = part.array
    return Data(array)


@rule("copy")
def _copy(trace: Any, node: Any, data: Any, part: Any, *_: Any) -> Any:
    if isinstance(part, (int, float)):
        part = trace.constant(torch.full(data.shape, float(part)))
    return part.like(np.broadcast_to(part.array, data.shape))


@rule("constant_pad_nd")
def _pad(trace: Any, node: Any, data: Any, pad: list[int], value: float = 0) -> Any:
    for i in range(len(pad) // 2):
        axis = data.array.ndim - 1 - i
        before, after = pad[2 * i], pad[2 * i + 1]
        data = data.like(data.array[_range(data.array, axis, max(-before, 0), data.array.shape[axis] - max(-after, 0), 1)])
        pieces = [data]
        for width, place in ((before, 0), (after, None)):
            if width > 0:
                shape = list(data.shape)
                shape[axis] = width
                filler = trace.constant(torch.full(shape, float(value)))
                pieces.insert(0 if place == 0 else len(pieces), filler)
        data = Data(np.concatenate([t.array for t in trace.unify(node, pieces)], axis=axis))
    return data


def _masked(trace: Any, node: Any, data: Any, keep: np.ndarray) -> Any:
    data, zeros = trace.unify(node, [data, trace.constant(torch.zeros(data.shape))])
    return Data(np.where(keep, data.array, zeros.array))


@rule("tril")
def _tril(trace: Any, node: Any, data: Any, diagonal: int = 0) -> Any:
    return _masked(trace, node, data, np.tril(np.ones(data.shape, bool), diagonal))


@rule("triu")
def _triu(trace: Any, node: Any, data: Any, diagonal: int = 0) -> Any:
    return _masked(trace, node, data, np.triu(np.ones(data.shape, bool), diagonal))


# Types.


@rule("_to_copy", "to.dtype", "to.dtype_layout", "type_as")
def _to(trace: Any, node: Any, data: Any, *_: Any, dtype: Any = None, **__: Any) -> Any:
    result = node.meta["val"].dtype
    if result == torch.bool:
        return trace.unitwise(node, lambda a: compare("!=", a, Num(0.0)), data)
    if not result.is_floating_point:
        raise trace.refuse(node, f"it makes numbers of type {result}", "Compute in floats; whole numbers can be inputs, for an embedding.")
    if result in (torch.float16, torch.bfloat16):
        raise trace.refuse(node, f"it rounds to {result}", "Leave it out: what runs computes in single precision (`precision=` lets products round).")
    return data


# Tensors of which only the shape is read.


@rule("full_like", "zeros_like", "ones_like", "new_zeros", "new_ones", "new_full", "empty_like", "new_empty", table=SHAPED)
def _filled(value: torch.Tensor, node: Any) -> torch.Tensor:
    name = node.target._schema.name
    fill = node.args[2 if "new_full" in name else 1] if "full" in name else 1 if "ones" in name else 0
    return torch.full(value.shape, fill, dtype=value.dtype, device=value.device)
