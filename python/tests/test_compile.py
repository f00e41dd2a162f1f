"""A cell of one's own, one step in PyTorch, is compiled: what `compile` adds to the trace (tests/test_trace.py)."""

import copy
import pickle

import pytest
import rnnc
import rnnc.torch
import torch
from conftest import close
from torch import nn


class Cell(nn.Module):
    """Weights normed, two states, dropout, an input of two dimensions."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.W = nn.utils.parametrizations.weight_norm(nn.Linear(6 + 4, 8))
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("mask", torch.tensor([1.0, 0.0, 1.0, 1.0]))
        self.drop = nn.Dropout(dropout)

    def forward(self, x, h, c):
        a, b = self.W(torch.cat([self.drop(x).flatten(1), h], -1)).chunk(2, -1)
        c = torch.sigmoid(a) * c + nn.functional.softplus(self.scale) * torch.tanh(b) * self.mask
        h = torch.tanh(c)
        return h.view(-1, 2, 2), (h, c)


def make(dropout=0.0, **kwargs):
    return rnnc.torch.compile(Cell(dropout), [torch.Size([2, 3])], [4, 4], **kwargs)


def eager(cell, x, state=None, resets=None):
    h, c = state or (torch.zeros(x.shape[1], 4), torch.zeros(x.shape[1], 4))
    ys = []
    for t in range(len(x)):
        if resets is not None:
            h, c = (s.masked_fill(resets[t].unsqueeze(-1), 0) for s in (h, c))
        y, (h, c) = cell(x[t], h, c)
        ys.append(y)
    return torch.stack(ys), (h, c)


def gradients(run, leaves):
    y, state = run()
    generator = torch.Generator().manual_seed(3)
    values = [y, *state]
    loss = sum((v * torch.randn(v.shape, generator=generator)).sum() for v in values)
    return values, torch.autograd.grad(loss, leaves)


def test_values_and_gradients_are_those_of_the_steps():
    rnn = make()
    x = torch.randn(9, 3, 2, 3, requires_grad=True)
    for given in (False, True):
        state = tuple(torch.randn(3, 4, requires_grad=True) for _ in range(2)) if given else None
        resets = torch.rand(9, 3) < 0.3
        leaves = [x, *(state or ()), *rnn.module.parameters()]
        found = gradients(lambda: rnn(x, state, resets=resets), leaves)
        close(found, gradients(lambda: eager(rnn.module, x, state, resets), leaves))


def test_parameters_stay_the_cells_own():
    cell = Cell()
    rnn = rnnc.torch.compile(cell, [torch.Size([2, 3])], [4, 4])
    assert {id(p) for p in rnn.parameters()} == {id(p) for p in cell.parameters()}
    assert list(rnn.state_dict()) == [f"module.{name}" for name in cell.state_dict()]
    x = torch.randn(9, 3, 2, 3)
    with torch.no_grad():
        cell.scale.add_(1)
        cell.mask.fill_(1)
    close(rnn(x), eager(cell, x))


def test_the_batch_may_come_first_and_one_stream_needs_none():
    rnn, first = make(), make(batch_first=True)
    first.load_state_dict(rnn.state_dict())
    x = torch.randn(9, 3, 2, 3)
    y, state = rnn(x)
    found, after = first(x.transpose(0, 1))
    close([found.transpose(0, 1), *after], [y, *state])
    alone, after = rnn(x[:, 0])
    close([alone, *after], [y[:, 0], *(one[0] for one in state)])


def test_dropout_is_on_in_training_only():
    rnn, x = make(0.5), torch.ones(9, 3, 2, 3)
    assert "dropout" in rnn.text
    assert not torch.allclose(rnn(x)[0], rnn(x)[0])
    torch.manual_seed(3)
    y = rnn(x)[0]
    torch.manual_seed(3)
    close(rnn(x)[0], y)
    rnn.eval()
    close(rnn(x), eager(rnn.module, x))


def test_it_is_a_module_like_others():
    rnn, x = make(), torch.randn(9, 3, 2, 3)
    leaves = list(rnn.parameters())
    expected = gradients(lambda: rnn(x), leaves)
    compiled = torch.compile(rnn, fullgraph=True, backend="aot_eager")
    close(gradients(lambda: compiled(x), leaves), expected)
    other = copy.deepcopy(rnn)
    close(gradients(lambda: other(x), list(other.parameters())), expected)
    given = {name: p.detach() for name, p in rnn.named_parameters()}

    def loss(given):
        return torch.func.functional_call(rnn, given, (x,))[0].square().sum()

    close(list(torch.func.grad(loss)(given).values()), list(torch.autograd.grad(rnn(x)[0].square().sum(), leaves)))


def test_it_goes_through_pickles():
    # Not of parametrized cells, which PyTorch does not pickle.
    rnn, x = rnnc.torch.compile(nn.LSTMCell(5, 6), [5], [6, 6]), torch.randn(9, 3, 5)
    other = pickle.loads(pickle.dumps(rnn))
    close(other(x), rnn(x))


def test_a_session_and_files_have_the_cells_weights(tmp_path):
    rnn, x = make(), torch.randn(9, 1, 2, 3)
    y = rnn(x)[0].detach().flatten(1).numpy()
    session = rnn.session()
    assert abs(session.run(x.flatten(2).numpy()[:, 0]) - y).max() < 1e-6
    rnn.save_weights(tmp_path / "w.safetensors")
    (tmp_path / "cell.rnn").write_text(rnn.text)
    session = rnnc.Session(tmp_path / "cell.rnn", tmp_path / "w.safetensors")
    assert abs(session.run(x.flatten(2).numpy()[:, 0]) - y).max() < 1e-6


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda rnn: rnn(torch.randn(9, 3, 2, 4)), "input `x` has shape"),
        (lambda rnn: rnn(torch.randn(9, 3, 2, 3), (torch.randn(3, 4),)), "the state is"),
        (lambda rnn: rnn(torch.randn(9, 3, 2, 3), (torch.randn(3, 4), torch.randn(3, 5))), "state `c` has shape"),
        (lambda rnn: rnnc.torch.compile(Cell(), [5], [4, 4]), "traced|size|shape"),
    ],
)
def test_what_is_wrong_is_said(wrong, words):
    with pytest.raises((rnnc.Error, rnnc.torch.TraceError), match=words):
        wrong(make())
