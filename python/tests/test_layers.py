"""LSTM, GRU and RNN are those of torch.nn: arguments, state_dict, values and all gradients."""

import itertools

import pytest
import rnnc.torch
import torch
from conftest import close
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

KINDS = {"LSTM": {}, "GRU": {}, "RNN": {}, "RNN relu": {"nonlinearity": "relu"}}
FORMS = {
    "one layer": {},
    "three layers": {"num_layers": 3},
    "no bias": {"bias": False, "num_layers": 2},
    "batch first": {"batch_first": True},
    "both ways": {"bidirectional": True},
    "two layers both ways, batch first": {"bidirectional": True, "num_layers": 2, "batch_first": True},
    "projected": {"proj_size": 3},
    "two layers projected both ways": {"proj_size": 3, "num_layers": 2, "bidirectional": True},
}
GRID = [
    pytest.param(kind, {**more, **form}, id=f"{kind}, {name}")
    for (kind, more), (name, form) in itertools.product(KINDS.items(), FORMS.items())
    if "proj_size" not in form or kind == "LSTM"
]

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


def pair(kind, arguments, **more):
    """rnnc's and PyTorch's, with the same weights."""
    name = kind.split()[0]
    ours = getattr(rnnc.torch, name)(5, 7, **arguments, **more)
    theirs = getattr(torch.nn, name)(5, 7, **arguments)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def initial(module, streams):
    directions = 2 if module.bidirectional else 1
    h = torch.randn(module.num_layers * directions, streams, module.proj_size or 7, requires_grad=True)
    if module.mode != "LSTM":
        return h, [h]
    c = torch.randn(module.num_layers * directions, streams, 7, requires_grad=True)
    return (h, c), [h, c]


def run(module, x, state, leaves):
    """All results, and the gradients of some function of all of them."""
    y, after = module(x) if state is None else module(x, state)
    values = [y.data if isinstance(y, PackedSequence) else y, *([after] if isinstance(after, torch.Tensor) else after)]
    generator = torch.Generator().manual_seed(3)
    loss = sum((value * torch.randn(value.shape, generator=generator)).sum() for value in values)
    return y, values, torch.autograd.grad(loss, [*leaves, *module.parameters()])


@pytest.mark.parametrize("kind, arguments", GRID)
def test_values_and_gradients_are_those_of_torch_nn(kind, arguments):
    ours, theirs = pair(kind, arguments)
    x = torch.randn(*((3, 9, 5) if ours.batch_first else (9, 3, 5)), requires_grad=True)
    for given in (False, True):
        state, leaves = initial(ours, 3) if given else (None, [])
        _, values, gradients = run(ours, x, state, [x, *leaves])
        _, expected, wanted = run(theirs, x, state, [x, *leaves])
        close(values, expected)
        close(gradients, wanted)
    alone = torch.randn(9, 5, requires_grad=True)
    state, leaves = initial(ours, 1)
    state = tuple(one[:, 0] for one in state) if isinstance(state, tuple) else state[:, 0]
    for given in (None, state):
        close(run(ours, alone, given, [alone])[1:], run(theirs, alone, given, [alone])[1:])


@pytest.mark.parametrize("kind, arguments", GRID)
@pytest.mark.parametrize("order", ["longest first", "any order"])
def test_packed_sequences_go_in_and_come_out(kind, arguments, order):
    ours, theirs = pair(kind, arguments)
    lengths = [9, 4, 4, 1] if order == "longest first" else [4, 1, 9, 4]
    sequences = [torch.randn(length, 5, requires_grad=True) for length in lengths]
    for given in (False, True):
        state, leaves = initial(ours, 4) if given else (None, [])
        leaves = [*sequences, *leaves]
        packed = lambda: pack_sequence(sequences, enforce_sorted=order == "longest first")  # noqa: E731
        y, values, gradients = run(ours, packed(), state, leaves)
        z, expected, wanted = run(theirs, packed(), state, leaves)
        close(values, expected)
        close(gradients, wanted)
        assert torch.equal(y.batch_sizes, z.batch_sizes)
        close(pad_packed_sequence(y)[0], pad_packed_sequence(z)[0])


def test_padding_changes_nothing():
    ours, theirs = pair("GRU", {"bidirectional": True})
    padded = torch.full((6, 2, 5), float("nan"))
    padded[:, 0], padded[:3, 1] = torch.randn(6, 5), torch.randn(3, 5)
    packed = pack_padded_sequence(padded, torch.tensor([6, 3]))
    close(ours(packed)[0].data, theirs(packed)[0].data)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_dropout_between_layers_is_on_in_training_only(bidirectional):
    ours, theirs = pair("LSTM", {"num_layers": 2, "dropout": 0.5, "bidirectional": bidirectional})
    x = torch.randn(9, 3, 5)
    torch.manual_seed(4)
    one = ours(x)[0]
    torch.manual_seed(4)
    close(ours(x)[0], one)
    assert not torch.allclose(ours(x)[0], one)
    ours.eval(), theirs.eval()
    close(ours(x)[0], theirs(x)[0])
    # On average, it is what it is without.
    ours.train()
    with torch.no_grad():
        many = ours(x[:2].repeat(1, 1000, 1))[0].view(2, 1000, 3, -1)
        theirs.train()
        expected = theirs(x[:2].repeat(1, 1000, 1))[0].view(2, 1000, 3, -1)
    close(many.mean(1), expected.mean(1), 0.02)
    close(many.std(1), expected.std(1), 0.02)


def test_dropout_that_is_changed_later_counts():
    ours, _ = pair("GRU", {"num_layers": 2, "dropout": 0.5})
    ours.dropout = 0.0
    x = torch.randn(9, 3, 5)
    close(ours(x)[0], ours(x)[0])


def test_initial_weights_are_those_of_torch_nn():
    torch.manual_seed(5)
    ours = rnnc.torch.LSTM(5, 7, num_layers=2, proj_size=3, bidirectional=True)
    torch.manual_seed(5)
    theirs = torch.nn.LSTM(5, 7, num_layers=2, proj_size=3, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    close(list(ours.parameters()), list(theirs.parameters()))
    assert repr(ours) == repr(theirs)


def test_it_takes_the_place_of_torch_nns_in_a_model():
    class Tagger(torch.nn.Module):
        def __init__(self, library):
            super().__init__()
            self.embedding = torch.nn.Embedding(11, 5)
            self.rnn = library.LSTM(5, 7, 2, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(14, 3)

        def forward(self, words):
            return self.head(self.rnn(self.embedding(words))[0])

    ours, theirs = Tagger(rnnc.torch), Tagger(torch.nn)
    theirs.load_state_dict(ours.state_dict())
    words = torch.randint(11, (4, 8))
    for model in (ours, theirs):
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(5):
            optimizer.zero_grad()
            model(words).square().sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    close(list(ours.parameters()), list(theirs.parameters()), 1e-4)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_torch_compile_goes_through_it(bidirectional):
    ours, theirs = pair("LSTM", {"num_layers": 2, "bidirectional": bidirectional})
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    x = torch.randn(9, 3, 5, requires_grad=True)
    close(run(compiled, x, None, [x])[1:], run(theirs, x, None, [x])[1:])


def test_functional_calls_use_the_weights_they_are_given():
    ours, theirs = pair("GRU", {})
    x = torch.randn(9, 3, 5)
    given = {name: torch.randn_like(p) for name, p in ours.named_parameters()}
    close(torch.func.functional_call(ours, given, (x,)), torch.func.functional_call(theirs, given, (x,)))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (lambda m: m(torch.randn(9, 3, 4)), "input.size.-1. must be equal to input_size. Expected 5, got 4"),
        (lambda m: m(torch.randn(5)), "Expected input to be 2D or 3D"),
        (lambda m: m(torch.randn(9, 3, 5), (torch.randn(1, 2, 7), torch.randn(1, 3, 7))), r"Expected hx\[0\] size"),
        (lambda m: m(torch.randn(9, 3, 5), (torch.randn(1, 3, 7), torch.randn(1, 3, 8))), r"Expected hx\[1\] size"),
        (lambda m: m(torch.randn(9, 3, 5).double()), "float64"),
        (lambda m: rnnc.torch.GRU(5, 7, proj_size=3), "proj_size"),
        (lambda m: rnnc.torch.LSTM(5, 7, proj_size=7), "proj_size"),
        (lambda m: rnnc.torch.LSTM(5, 0), "hidden_size"),
        (lambda m: rnnc.torch.RNN(5, 7, nonlinearity="sigmoid"), "nonlinearity"),
        (lambda m: rnnc.torch.LSTM(5, 7, 2, dropout=1.0), "dropout = 1"),
    ],
)
def test_what_is_wrong_is_said_as_torch_nn_says_it(arguments, words):
    with pytest.raises((ValueError, RuntimeError), match=words):
        arguments(rnnc.torch.LSTM(5, 7))
