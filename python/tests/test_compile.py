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


class Zoneout(nn.Module):
    """Another step in training than in evaluation."""

    def __init__(self):
        super().__init__()
        self.cell, self.drop = nn.GRUCell(3, 4), nn.Dropout(0.5)

    def forward(self, x, h):
        new = self.cell(self.drop(x), h)
        keep = nn.functional.dropout(torch.ones_like(h), 0.3) * 0.7 if self.training else 0.7
        h = h + keep * (new - h)
        return h, h


def frame_by_frame(cell, x):
    h, ys = torch.zeros(x.shape[1], 4), []
    for frame in x:
        y, h = cell(frame, h)
        ys.append(y)
    return torch.stack(ys), (h,)


def test_training_and_evaluation_have_the_steps_that_they_have_in_pytorch():
    rnn, x = rnnc.torch.compile(Zoneout(), [3], [4]), torch.randn(9, 2, 3)
    assert rnn.text.count("dropout(") == 2 and not torch.equal(rnn(x)[0], rnn(x)[0])
    through = torch.compile(rnn, fullgraph=True, backend="aot_eager")
    through(x)
    rnn.eval()
    assert "dropout" not in rnn.text
    expected = frame_by_frame(rnn.module, x)
    for one in (rnn, through, copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        close(one(x), expected)
    # A cell that was compiled in evaluation is trained with its dropout.
    rnn = rnnc.torch.compile(rnn.module, [3], [4])
    assert not rnn.training and "dropout" not in rnn.text
    rnn.train()
    assert rnn.text.count("dropout(") == 2
    # A session is for use, in whichever mode the module is.
    session = rnn.session(streams=2)
    assert abs(session.run(x.numpy()) - expected[0].detach().numpy()).max() < 1e-6
    assert rnn.module.training and rnn.module.drop.training


def test_a_part_that_was_frozen_stays_so():
    cell = Zoneout()
    cell.drop.eval()
    rnn = rnnc.torch.compile(cell, [3], [4])
    assert cell.training and not cell.drop.training and rnn.text.count("dropout(") == 1
    cell.drop.train()
    assert rnn.text.count("dropout(") == 2


def test_dropout_that_is_on_in_evaluation_is_on():
    class Always(nn.Module):
        def forward(self, x, h):
            h = nn.functional.dropout(x, 0.5, True) + 0.5 * h
            return h, h

    rnn = rnnc.torch.compile(Always(), [4], [4]).eval()
    assert (rnn(torch.ones(9, 3, 4))[0] == 0).any()


def test_a_mode_that_cannot_be_traced_is_refused_when_it_is_run():
    rnn, x = rnnc.torch.compile(nn.BatchNorm1d(4).eval(), [4], [4], step=lambda m, x, h: (m(x) + h,) * 2), torch.randn(5, 3, 4)
    rnn(x)
    rnn.train()
    with pytest.raises(rnnc.torch.TraceError, match="in training, the step changes"):
        rnn(x)
    rnn.eval()(x)


def test_the_row_of_the_padding_gets_no_gradient():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, 4, padding_idx=2)
            nn.init.normal_(self.words.weight)

        def forward(self, x, h):
            h = torch.tanh(self.words(x) + 0.5 * h)
            return h, h

    rnn, x = rnnc.torch.compile(Words(), ["symbol"], [4]), torch.randint(0, 7, (30, 2))
    weight = rnn.module.words.weight
    found = torch.autograd.grad(rnn(x)[0].square().sum(), weight)
    expected = torch.autograd.grad(frame_by_frame(rnn.module, x)[0].square().sum(), weight)
    close(found, expected)
    assert not found[0][2].any() and found[0][3].any()


def test_what_the_text_takes_for_granted_is_looked_at():
    class Chooses(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mask", torch.tensor([True, False, True, True]))
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight

        def forward(self, x, h):
            h = torch.where(self.mask, self.one(x), self.two(h))
            return h, h

    rnn, x = rnnc.torch.compile(Chooses(), [4], [4]), torch.randn(5, 3, 4)
    y = rnn(x)[0]
    rnn.module.load_state_dict(rnn.module.state_dict())
    close(rnn(x)[0], y)
    close(copy.deepcopy(rnn)(x)[0], y)
    with torch.no_grad():
        rnn.module.mask[1] = True
    with pytest.raises(rnnc.torch.TraceError, match="buffer `mask` is another"):
        rnn(x)
    rnn.module.mask = torch.tensor([True, False, True, True])
    close(rnn(x)[0], y)
    rnn.module.two.weight = nn.Parameter(torch.ones(4, 4))
    with pytest.raises(rnnc.torch.TraceError, match="were one parameter"):
        rnn(x)


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
