"""Sequences of any length side by side without padding, and long recordings as windows."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from .. import _native


@dataclass(frozen=True)
class Packed:
    """Sequences that lie end to end in streams: see `pack`."""

    #: [T, B, ..]
    values: Tensor
    #: [T, B] bool: this frame begins a sequence.
    resets: Tensor
    #: [T, B] bool: this frame is one of a sequence. Only behind a stream's last sequence there are others.
    mask: Tensor
    #: Of each sequence, in the order in which they came: its stream, its first frame, its length.
    places: tuple[tuple[int, int, int], ...]

    def pack(self, sequences: Sequence[Tensor], padding: float = 0) -> Tensor:
        """Lays other sequences, such as targets, out in the same way: [T, B, ..]. Frames behind the last get `padding`."""
        found = [len(sequence) for sequence in sequences]
        expected = [length for _, _, length in self.places]
        if found != expected:
            raise _native.Error(f"sequences of {found} frames cannot lie like those of {expected}")
        first = sequences[0]
        kept = self.resets.shape
        laid = first.new_full((*kept, *first.shape[1:]), padding)
        # Of gradients: a copy in place into a tensor of its own.
        for (stream, begin, length), sequence in zip(self.places, sequences):
            laid[begin : begin + length, stream] = sequence
        return laid

    def unpack(self, values: Tensor) -> list[Tensor]:
        """The sequences of an output [T, B, M], each [T_i, M], in the order in which they came to `pack`."""
        if values.shape[:2] != self.resets.shape:
            raise _native.Error(f"values have shape {list(values.shape)}; the streams are {list(self.resets.shape)}")
        return [values[begin : begin + length, stream] for stream, begin, length in self.places]


def pack(sequences: Sequence[Tensor], streams: int) -> Packed:
    """Lays sequences of any lengths, each [T_i, N] (or symbols [T_i]), end to end into `streams` streams of about the same length::

        packed = rnnc.torch.pack(sequences, streams=16)
        y, _ = rnn(packed.values, resets=packed.resets)
        outputs = packed.unpack(y)

    Longest first, each goes to the stream that is shortest so far. All of a sequence is in one stream, and `resets` begins its state anew."""
    sequences = list(sequences)
    lengths = [len(sequence) for sequence in sequences]
    if not sequences or min(lengths) == 0:
        raise _native.Error("to pack, there must be at least one sequence, and none may be empty")
    first = sequences[0]
    for place, sequence in enumerate(sequences):
        if sequence.shape[1:] != first.shape[1:] or sequence.dtype != first.dtype:
            raise _native.Error(
                f"sequences of one kind lie side by side: the first is {list(first.shape)} of {first.dtype}, number {place + 1} "
                f"{list(sequence.shape)} of {sequence.dtype}"
            )
    if streams < 1:
        raise _native.Error(f"sequences cannot be packed into {streams} streams")
    shortest = [(0, stream) for stream in range(streams)]
    places: list[tuple[int, int, int]] = [(0, 0, 0)] * len(sequences)
    for place in sorted(range(len(sequences)), key=lambda place: -lengths[place]):
        begin, stream = heapq.heappop(shortest)
        places[place] = (stream, begin, lengths[place])
        heapq.heappush(shortest, (begin + lengths[place], stream))
    frames = max(length for length, _ in shortest)
    device = sequences[0].device
    mask = torch.zeros(frames, streams, dtype=torch.bool, device=device)
    resets = torch.zeros(frames, streams, dtype=torch.bool, device=device)
    for stream, begin, length in places:
        mask[begin : begin + length, stream] = True
        resets[begin, stream] = True
    for length, stream in shortest:
        if length < frames:
            resets[length, stream] = True
    layout = Packed(resets, resets, mask, tuple(places))
    return Packed(layout.pack(sequences), resets, mask, tuple(places))


def unpack(packed: Packed, values: Tensor) -> list[Tensor]:
    """The sequences of an output [T, B, M] of packed ones: `packed.unpack(values)`."""
    return packed.unpack(values)


class Stream(IterableDataset[tuple[Tensor, ...]]):
    """Long recordings as streams and windows, for truncated backpropagation through time.

    ``tensors`` go along with each other frame by frame: inputs and targets, [T, ..] each. ``streams`` streams, B, run through them side by side;
    stream b begins b/B of the way along. Each window is ``(*tensors, resets)``: [frames, B, ..] of each, and [frames, B] bool, true where a recording
    begins (``starts``: the numbers of these frames, if several recordings lie end to end). The last window of a pass may be shorter; what B does not
    divide is left out at the end::

        state = None
        for x, target, resets in rnnc.torch.Stream(x, target, streams=16, frames=128):
            y, state = rnn(x, state=rnnc.torch.detach(state), resets=resets)
            loss(y, target).backward()
            ...

    A pass begins with the first window: set ``state = None`` there. In a `DataLoader`, ``batch_size=None`` and at most one worker.
    """

    def __init__(self, *tensors: Tensor, streams: int, frames: int, starts: Sequence[int] = ()) -> None:
        if not tensors:
            raise _native.Error("a stream needs at least one tensor")
        lengths = [len(tensor) for tensor in tensors]
        if len(set(lengths)) > 1:
            raise _native.Error(f"the tensors of a stream have {lengths} frames: they must go along with each other")
        if streams < 1 or frames < 1:
            raise _native.Error(f"a stream needs at least 1 stream and 1 frame, not {streams} and {frames}")
        if lengths[0] < streams:
            raise _native.Error(f"{lengths[0]} frames are too few for {streams} streams")
        outside = [start for start in starts if not 0 <= start < lengths[0]]
        if outside:
            raise _native.Error(f"a recording cannot begin at frame {outside[0]} of {lengths[0]}")
        self.streams, self.frames = streams, frames
        #: Frames of each stream.
        self.length = lengths[0] // streams
        begins = torch.zeros(lengths[0], dtype=torch.bool, device=tensors[0].device)
        begins[list(starts)] = True
        whole = self.length * streams
        # [L, B, ..] without a copy: stream b is the b-th piece.
        self._tensors = [
            tensor[:whole].view(streams, self.length, *tensor.shape[1:]).transpose(0, 1)
            if tensor.is_contiguous()
            else tensor[:whole].reshape(streams, self.length, *tensor.shape[1:]).transpose(0, 1)
            for tensor in (*tensors, begins)
        ]

    def __len__(self) -> int:
        """How many windows a pass has."""
        return -(-self.length // self.frames)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        worker: Any = get_worker_info()
        if worker is not None and worker.num_workers > 1:
            raise _native.Error("the windows of a stream come in order: use at most one worker")
        for begin in range(0, self.length, self.frames):
            yield tuple(tensor[begin : begin + self.frames] for tensor in self._tensors)
