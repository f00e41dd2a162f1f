"""Sequences side by side without padding, and long recordings as windows, give what each sequence alone gives."""

import pytest
import rnnc
import torch
from conftest import LEAKY, close
from rnnc.torch import Recurrent, Stream, detach, pack, unpack
from torch.utils.data import DataLoader


def module():
    rnn = Recurrent(LEAKY, state=["h", "c"])
    torch.nn.init.normal_(rnn.weights["c.start"])
    return rnn


def test_packed_sequences_give_what_each_alone_gives():
    rnn = module()
    sequences = [torch.randn(length, 5, requires_grad=True) for length in (3, 11, 1, 7, 4, 4)]
    leaves = [*sequences, *rnn.parameters()]
    packed = pack(sequences, streams=2)
    assert packed.values.shape[0] < 20  # 30 frames in two streams
    assert packed.mask.sum() == 30 and packed.resets.sum() >= 6
    y, _ = rnn(packed.values, resets=packed.resets)
    outputs = unpack(packed, y)
    expected = [rnn(sequence)[0] for sequence in sequences]
    close(outputs, expected)
    found = torch.autograd.grad(sum(one.square().sum() for one in outputs), leaves)
    close(found, torch.autograd.grad(sum(one.square().sum() for one in expected), leaves))


def test_targets_are_laid_out_like_their_sequences():
    sequences = [torch.randn(length, 5) for length in (3, 1, 2)]
    targets = [torch.full((length,), place) for place, length in enumerate((3, 1, 2))]
    packed = pack(sequences, streams=2)
    laid = packed.pack(targets, padding=-1)
    assert torch.equal(laid != -1, packed.mask)
    close(packed.unpack(laid), targets)
    with pytest.raises(rnnc.Error, match="cannot lie like those"):
        packed.pack(targets[:2])
    with pytest.raises(rnnc.Error, match="the streams are"):
        packed.unpack(torch.zeros(9, 9))


def test_more_streams_than_sequences():
    packed = pack([torch.ones(3, 5)], streams=2)
    assert packed.values.shape == (3, 2, 5) and packed.mask.sum() == 3
    for wrong in (lambda: pack([], 2), lambda: pack([torch.ones(0, 5)], 2), lambda: pack([torch.ones(3, 5)], 0)):
        with pytest.raises(rnnc.Error):
            wrong()


def test_a_stream_goes_along_a_recording():
    rnn = module()
    x, target = torch.randn(43, 5), torch.arange(43)
    stream = Stream(x, target, streams=3, frames=6)
    assert len(stream) == 3
    state, ys, targets = None, [], []
    for window, numbers, resets in stream:
        y, state = rnn(window, state=detach(state), resets=resets)
        ys.append(y)
        targets.append(numbers)
    ys, targets = torch.cat(ys), torch.cat(targets)
    assert torch.equal(targets.T.reshape(-1), torch.arange(42))
    for b in range(3):
        close(ys[:, b], rnn(x[14 * b : 14 * (b + 1)])[0])


def test_recordings_end_to_end_begin_anew():
    rnn, x = module(), torch.randn(20, 5)
    ((window, resets),) = Stream(x, streams=1, frames=64, starts=[0, 8])
    y, _ = rnn(window, resets=resets)
    close(y[:, 0], torch.cat([rnn(x[:8])[0], rnn(x[8:])[0]]))


def test_a_data_loader_takes_a_stream_with_one_worker():
    stream = Stream(torch.randn(40, 5), streams=2, frames=8)
    found = list(DataLoader(stream, batch_size=None, num_workers=1))
    close([w for w, _ in found], [w for w, _ in stream])
    with pytest.raises(rnnc.Error, match="at most one worker"):
        list(DataLoader(stream, batch_size=None, num_workers=2))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda: Stream(streams=1, frames=1), "at least one tensor"),
        (lambda: Stream(torch.ones(4), torch.ones(5), streams=1, frames=1), "go along with each other"),
        (lambda: Stream(torch.ones(4), streams=5, frames=1), "too few for 5 streams"),
        (lambda: Stream(torch.ones(4), streams=1, frames=0), "at least 1 stream and 1 frame"),
        (lambda: Stream(torch.ones(4), streams=1, frames=1, starts=[4]), "cannot begin at frame 4"),
    ],
)
def test_what_is_no_stream_is_said(wrong, words):
    with pytest.raises(rnnc.Error, match=words):
        wrong()


def test_detach_keeps_the_form():
    t = torch.ones(2, requires_grad=True) * 2
    state = {"a": (t, [t]), "b": None}
    found = detach(state)
    assert found["b"] is None and isinstance(found["a"][1], list) and not found["a"][0].requires_grad
