"""Cells of PyTorch, traced: values and gradients are those of the cell itself, run frame by frame by PyTorch."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
import torchrecurrent
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from rnnc.torch.compiled import Compiled
from rnnc.torch.trace import TraceError, Traced, trace
from rnnc.torch.tracing.step import prepare
from tracing_cells import CELLS, Case

FRAMES, STREAMS = 9, 3


def _published(name: str) -> Case:
    """A cell of the package torchrecurrent, with 5 inputs (6 where it asks for as many as units) and 6 units."""
    cell = getattr(torchrecurrent, name)
    inputs = 6 if name == "IntersectionRNNCell" else 5
    units: Any = [6, 6] if cell(6, 6).uses_double_state() else [6]
    # Two cells of it keep the last input as state.
    state = {"TGRUCell": [6, 5], "TLSTMCell": [6, 5]}.get(name, units)
    return Case(lambda: cell(inputs, 6), [inputs], state)


PUBLISHED = sorted(n for n in torchrecurrent.__all__ if n.endswith("Cell"))
CASES: dict[str, Any] = {**CELLS, **{f"torchrecurrent.{n}": n for n in PUBLISHED}}


def _case(name: str) -> Case:
    found = CASES[name]
    return _published(found) if isinstance(found, str) else found


def _tensors(traced: Traced, cell: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs [T, B, ..] and an initial state [B, ..]."""
    draw = torch.Generator().manual_seed(1)
    inputs = [
        torch.randint(0, 3, (FRAMES, STREAMS), generator=draw)
        if port.symbols
        else torch.randn(FRAMES, STREAMS, *port.shape, generator=draw).requires_grad_()
        for port in traced.inputs
    ]
    state = [(torch.randn(STREAMS, *port.shape, generator=draw) * 0.3).requires_grad_() for port in traced.state]
    return inputs, state


def _by_pytorch(cell: nn.Module, case: Case, inputs: list[Tensor], state: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The cell itself, frame by frame."""
    call = prepare(cell, case.inputs, case.state, case.options.get("step")).call
    outputs: list[list[Tensor]] = []
    for frame in range(FRAMES):
        # Cells may write in place: they get copies.
        result = call(*[x[frame].clone() for x in inputs], *[s.clone() for s in state])
        cut = len(result) - len(state)
        outputs.append(list(result[:cut]))
        state = list(result[cut:])
    return [torch.stack(column) for column in zip(*outputs)], state


def _loss(outputs: list[Tensor], state: list[Tensor]) -> Tensor:
    draw = torch.Generator().manual_seed(2)
    terms = [(t * torch.randn(t.shape, generator=draw, dtype=torch.float32).to(t.dtype)).sum() for t in (*outputs, *state)]
    return torch.stack(terms).sum()


def _near(found: Tensor | None, wanted: Tensor | None, what: str) -> None:
    if wanted is None:
        assert found is None or not found.any(), f"{what} has no gradient in PyTorch"
        return
    assert found is not None, f"{what} has no gradient"
    scale = max(1.0, wanted.abs().max().item())
    difference = (found.to(torch.float64) - wanted).abs().max().item()
    assert difference <= 1e-5 * scale, f"{what} differs by {difference}, of {scale}"


@pytest.mark.parametrize("name", CASES)
def test_a_cell_and_its_trace_agree_in_values_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    case = _case(name)
    cell = case.make().eval()
    for parameter in cell.parameters():
        if not parameter.any():
            nn.init.uniform_(parameter, -0.2, 0.2)
    compiled = Compiled(cell, case.inputs, case.state, False, "f32", None, case.options)
    traced = compiled._step().traced
    inputs, state = _tensors(traced, cell)
    leaves = [t for t in (*inputs, *state, *cell.parameters()) if t.requires_grad]
    found = compiled(*inputs, state=pytree.tree_unflatten(state, traced.state_tree) if state else None)
    outputs, after = (pytree.tree_leaves(f) for f in found)
    gradients = torch.autograd.grad(_loss(outputs, after), leaves, allow_unused=True)

    double = copy.deepcopy(cell).double()
    inputs, state = ([t.detach().double().requires_grad_() if t.is_floating_point() else t for t in ts] for ts in (inputs, state))
    truth, last = _by_pytorch(double, case, inputs, state)
    leaves = [t for t in (*inputs, *state, *double.parameters()) if t.requires_grad]
    wanted = torch.autograd.grad(_loss(truth, last), leaves, allow_unused=True)
    for index, pair in enumerate(zip(outputs, truth, strict=True)):
        _near(*pair, f"output {index + 1}")
    for index, pair in enumerate(zip(after, last, strict=True)):
        _near(*pair, f"state {index + 1}")
    for index, pair in enumerate(zip(gradients, wanted, strict=True)):
        _near(*pair, f"the gradient of tensor {index + 1}")


def test_all_published_cells_are_traced() -> None:
    assert len(PUBLISHED) >= 40


def test_the_text_has_the_users_names() -> None:
    case = CELLS["OneMatrixLSTM"]
    assert trace(case.make(), case.inputs, case.state).text == inspect.cleandoc("""
        network OneMatrixLSTM {
            input x : vector(5)
            W = dense(concat(x, h[t-1]); 24)
            f = slice(W; 6, 12)
            i = slice(W; 0, 6)
            g = slice(W; 12, 18)
            c = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
            o = slice(W; 18, 24)
            h = sigmoid(o) * tanh(c)
            output h
        }
    """) + "\n"


def test_a_sum_of_products_with_matrices_is_one_dense() -> None:
    traced = trace(nn.LSTMCell(5, 6), [5], [6, 6])
    assert "dense(x, h[t-1]; 24)" in traced.text
    weights = traced.weights(nn.LSTMCell(5, 6))
    assert sorted(tuple(w.shape) for w in weights.values()) == [(24,), (24, 5), (24, 6)]


def test_weights_are_views_where_they_can_be() -> None:
    cell = CELLS["OneMatrixLSTM"].make()
    weights = trace(cell, [5], [6, 6]).weights(cell)
    assert {w.data_ptr() for w in weights.values()} == {p.data_ptr() for p in cell.parameters()}


def test_a_traced_cell_takes_the_weights_of_another_module_of_its_kind() -> None:
    a, b = nn.GRUCell(5, 6), nn.GRUCell(5, 6)
    traced = trace(a, [5], [6])
    assert all(torch.equal(w, v) for w, v in zip(traced.weights(b).values(), trace(b, [5], [6]).weights(b).values(), strict=True))


def test_dropout_is_there_in_training_alone() -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.25)

        def forward(self, x: Tensor, h: Tensor) -> Any:
            h = self.drop(x) + 0.5 * h
            return h, h

    assert "dropout(x; 0.25)" in trace(Drops().train(), [4], [4]).text
    assert "dropout" not in trace(Drops().eval(), [4], [4]).text


def test_tracing_changes_nothing_of_the_module() -> None:
    cell = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    before = copy.deepcopy(cell.state_dict())
    draws = torch.random.get_rng_state()
    with pytest.raises(TraceError):
        trace(cell, [4])
    assert torch.equal(torch.random.get_rng_state(), draws)
    assert all(torch.equal(v, before[k]) for k, v in cell.state_dict().items())


def _refused(step: Any, inputs: Any = (4,), state: Any = (4,), module: nn.Module | None = None) -> str:
    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

    with pytest.raises(TraceError) as error:
        trace(Step(), list(inputs), list(state), step=lambda m, *a: step(m, *a))
    return str(error.value)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


def _if(m: Any, x: Tensor, h: Tensor) -> Any:
    if x.sum() > 0:
        h = h + x
    return h, h


def _no_grad(m: Any, x: Tensor, h: Tensor) -> Any:
    with torch.no_grad():
        y = x * 2
    return y + h, h


REFUSED: dict[str, tuple[Any, list[str]]] = {
    "erfinv": (lambda m, x, h: (torch.erfinv(x), h), ["aten.erfinv", "[B, 4]", "test_trace.py"]),
    "an if": (_if, ["depends on values", "if x.sum() > 0", "torch.where"]),
    "no_grad": (_no_grad, ["torch.no_grad", "y = x * 2", ".detach()"]),
    "noise": (lambda m, x, h: (x + torch.randn_like(x), h), ["random", "input"]),
    "noise without a tensor": (lambda m, x, h: (x + torch.rand(4), h), ["random"]),
    "an autograd function": (lambda m, x, h: (Straight.apply(x), h), ["Straight", "gradient"]),
    "bounds the wrong way round": (lambda m, x, h: (x.clamp(1, -1), h), ["aten.clamp", "no numbers between"]),
    "the batch's mean": (lambda m, x, h: (x - x.mean(0), h), ["streams of the batch"]),
    "streams in turn": (lambda m, x, h: (x + h.flip(0), h), ["streams of the batch"]),
    "streams by number": (lambda m, x, h: (x * torch.arange(x.size(0)).float()[:, None], h), ["stream to stream"]),
    "a batch that is not first": (lambda m, x, h: (x.t(), h), ["first dimension is not the batch"]),
    "a convolution": (lambda m, x, h: (torch.conv1d(x[:, None], torch.ones(1, 1, 2)), h), ["convolution"]),
    "a power": (lambda m, x, h: (x**0.3, h), ["power of 0.3", "exp"]),
    "a sort": (lambda m, x, h: (x.sort(-1).values, h), ["aten.sort"]),
    "infinity": (lambda m, x, h: (x + float("inf"), h), ["inf"]),
    "sizes that do not fit": (lambda m, x, h: (x @ torch.ones(3, 4), h), ["x [B, 4], h [B, 4]", "Do the sizes"]),
    "a state of another size": (lambda m, x, h: (x, h[:, :2]), ["state `h`", "[B, 4]", "[B, 2]"]),
    "too few results": (lambda m, x, h: None, ["returned 0 tensors"]),
    "whole numbers": (lambda m, x, h: (x, x.long()), ["no tensor of floats"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_expressed_is_refused_with_reason_and_line(name: str) -> None:
    step, words = REFUSED[name]
    message = _refused(step)
    for word in words:
        assert word in message, message


INF, NAN = float("inf"), float("nan")
EDGES = [-INF, -100.0, -6.0, -3.0, -1.0, -0.5, -1e-4, -1e-30, 0.0, 1e-30, 1e-4, 0.5, 1.0, 2.5, 3.0, 6.0, 30.0, INF, NAN]
TIES = [-1.0, 0.0, 0.0, 1.0, 1.0, 1.0]

EDGE_FUNCTIONS: dict[str, tuple[Any, list[float]]] = {
    "clamp": (lambda x: x.clamp(-1, 1), EDGES),
    "clamp from below": (lambda x: x.clamp(min=0), EDGES),
    "clamp from above": (lambda x: x.clamp(max=0.5), EDGES),
    "clamp without bounds": (lambda x: x.clamp(-INF, INF) * 2, EDGES[1:-2]),
    "clamp by a tensor": (lambda x: x.clamp(torch.zeros_like(x), torch.ones_like(x)), EDGES),
    "clamp_min": (lambda x: x.clamp_min(-1), EDGES),
    "hardtanh": (lambda x: F.hardtanh(x), EDGES),
    "hardtanh of other bounds": (lambda x: F.hardtanh(x, -3, 0.5), EDGES),
    "relu6": (lambda x: F.relu6(x), EDGES),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), EDGES),
    "elu": (lambda x: F.elu(x, 2.0), EDGES),
    "selu": (lambda x: F.selu(x), EDGES),
    "expm1": (lambda x: x.expm1(), [-100.0, -10.0, -1.0, 0.0, 1e-7, 1e-3, 1.0, 30.0]),
    "log1p": (lambda x: x.log1p(), [-1.0, -0.999, -1e-7, 1e-7, 1e-3, 1.0, 1e30, INF, NAN]),
    "sinh": (lambda x: x.sinh(), [-80.0, -1e-5, 1e-5, 1e-2, 1.0, 80.0, NAN]),
    "cosh": (lambda x: x.cosh(), [-80.0, -1e-2, 1.0, 80.0, NAN]),
    "atan": (lambda x: x.atan(), EDGES),
    "erf": (lambda x: x.erf(), EDGES),
    "steps": (lambda x: x.floor() + 2 * x.round() + 3 * x.ceil() + 4 * x.trunc() + 5 * x.sign() + x, [-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.0, -3.0]),
    "frac": (lambda x: x.frac(), [-2.5, 0.25, 3.0]),
    "remainder": (lambda x: torch.remainder(x, 2.5), [-7.0, -2.5, -1.0, 0.0, 1.0, 2.5, 7.0]),
    "remainder of tensors": (lambda x: torch.remainder(*x.chunk(2, -1)), [5.5, -5.5, 5.5, -5.5, 2.0, 2.0, -2.0, -2.0]),
    "where": (lambda x: torch.where(x > 0, 2 * x, -x), EDGES),
    "where of what is infinite elsewhere": (lambda x: torch.where(x <= 0, 0.0, x.log()), [-1.0, 0.5, 2.0]),
    "where of equal numbers": (lambda x: torch.where(x > 1, x, torch.ones_like(x) * x.sum(-1, keepdim=True)), TIES),
    "comparisons as numbers": (lambda x: (x > 0).float() * x + (x == 1) * 3.0 + (x != x).float() + (x >= -1) + (x < 3) * (x <= 0.5), EDGES[1:-2]),
    "and, or, not": (lambda x: torch.where((x > 0) & (x < 2) | ~(x > -1) ^ (x == -6), x, 7.0), EDGES),
    "logical functions": (lambda x: torch.where(torch.logical_and(x, x < 2) + torch.logical_not(x), x, 7.0), EDGES[:-1]),
    "masked_fill": (lambda x: x.masked_fill(x < 0, -5.0), EDGES),
    "isnan": (lambda x: torch.where(x.isnan(), 0.0, x), EDGES),
    "the root of nothing": (lambda x: F.relu(x) ** 0.5, [-1.0, 0.0, 4.0]),
    "a power of 1.5": (lambda x: F.relu(x) ** 1.5, [-1.0, 0.0, 4.0]),
    "a power of -1.5": (lambda x: x**-1.5, [0.0, 0.25, 4.0, INF]),
    "the root of an absolute value": (lambda x: F.relu(x).sqrt() + F.hardtanh(x, 0, 3).sqrt(), [-1.0, 0.0, 2.0, 4.0]),
    "std": (lambda x: x.std(-1), [1.0, 1.0, 1.0]),
    "norm": (lambda x: x.norm(dim=-1), [0.0, 0.0, 0.0]),
    "maximum": (lambda x: torch.maximum(*x.chunk(2, -1)), [0.0, 1.0, 2.0, 1.0, 1.0, 1.0]),
    "fmax": (lambda x: torch.fmax(*x.chunk(2, -1)), [0.0, 1.0, NAN, 1.0, 1.0, 1.0, 1.0, NAN]),
    "amax": (lambda x: x.amax(-1), TIES),
    "amin": (lambda x: x.amin(-1), [0.0, 0.0, 2.0, 0.0, -INF, 5.0][:4]),
    "amax of two": (lambda x: x.amax(-1), [1.0, 1.0]),
    "amax of infinities": (lambda x: x.amax(-1), [-INF, 3.0, 3.0, -INF]),
    "max": (lambda x: x.max(-1).values, TIES),
    "max of NaN": (lambda x: x.max(-1).values, [1.0, NAN, 2.0]),
    "min": (lambda x: x.min(-1).values, [2.0, 0.0, 0.0]),
    "logaddexp": (lambda x: torch.logaddexp(*x.chunk(2, -1)), [100.0, -50.0, 1.0, 1.0, -INF, -100.0, 50.0, 1.0, 1.000001, 0.0]),
    "logsumexp": (lambda x: x.logsumexp(-1), [-80.0, 80.0, -INF, 79.0]),
    "softplus of logsumexp": (lambda x: x.logsumexp(-1), [-1000.0, 1e-6]),
}


@pytest.mark.parametrize("name", EDGE_FUNCTIONS)
def test_kinks_infinities_and_small_numbers_are_as_in_pytorch(name: str) -> None:
    function, numbers = EDGE_FUNCTIONS[name]

    def step(module: nn.Module, x: Tensor, h: Tensor) -> Any:
        return function(x), h

    x = torch.tensor(numbers, requires_grad=True)
    module = nn.Module()
    compiled = Compiled(module, [len(numbers)], [1], False, "f32", None, {"step": step}).eval()
    found = pytree.tree_leaves(compiled(x[None, None], state=torch.zeros(1, 1)))[0]
    double = x.detach().double().requires_grad_()
    wanted = function(double[None])
    torch.testing.assert_close(found[0].double(), wanted, rtol=2e-6, atol=1e-37, equal_nan=True)
    (slope,) = torch.autograd.grad(found.sum(), x)
    (truth,) = torch.autograd.grad(wanted.sum(), double)
    # Of NaN, PyTorch has derivatives of 0, of 1 and NaN.
    known = slice(0) if "NaN" in name else ~x.isnan()
    torch.testing.assert_close(slope[known].double(), truth[known], rtol=2e-6, atol=1e-37, equal_nan=True)


def test_a_changing_buffer_is_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Tensor, h: Tensor) -> Any:
            self.count += 1
            return x + self.count, h

    cell = Counts()
    with pytest.raises(TraceError, match="count, a buffer"):
        trace(cell, [4], [4])
    assert cell.count.item() == 0


@pytest.mark.parametrize(
    ("inputs", "state", "words"),
    [
        ([6], [6, 6], "x \\[B, 6\\]"),
        ([5], [6], "the step fails|returned"),
        ([5], [6, 5], "the step fails"),
        ([5], [6, 6, 6], "the step fails|returned"),
        ([], [6, 6], "names no input"),
        ([0], [6, 6], "1 or more"),
        ([5, 5, 5], [6, 6], "was given 3 inputs"),
        (["words"], [6, 6], "expected a size"),
    ],
)
def test_sizes_that_do_not_fit_are_said_in_words(inputs: Any, state: Any, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        trace(nn.LSTMCell(5, 6), inputs, state)


@pytest.mark.parametrize(
    "step",
    [
        lambda cell, x, h: x / x.shape[0] + h,
        lambda cell, x, h: x + h * len(h) ** 0.5,
        lambda cell, x, h: x + h + cell.bias * x.size(0),
        lambda cell, x, h: x + (h if x.shape[0] > 4 else -h),
    ],
)
def test_a_step_that_computes_with_the_number_of_streams_is_refused(step: Any) -> None:
    cell = nn.Module()
    cell.bias = nn.Parameter(torch.ones(4))

    def called(module: nn.Module, x: Tensor, h: Tensor) -> Any:
        h = step(module, x, h)
        return h, h

    with pytest.raises(TraceError, match="number of streams"):
        trace(cell, [4], [4], step=called)


def test_a_step_that_does_something_else_for_large_batches_is_refused() -> None:
    words = _refused(lambda m, x, h: (x, h + (2 * x if x.shape[0] > 8 else x)))
    assert "number of streams" in words


def test_a_dropout_of_what_was_expanded_draws_for_each_number() -> None:
    text = trace(nn.Dropout(0.5), [1], [6], step=lambda m, x, h: (m(x.expand(-1, 6)) + h,) * 2).text
    assert "dropout(broadcast(x; 6); 0.5)" in text


@pytest.mark.parametrize(("options", "words"), [({"scale_grad_by_freq": True}, "counts"), ({"sparse": True}, "sparse"), ({"max_norm": 1.0}, "renorm")])
def test_an_embedding_with_a_gradient_of_its_own_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(TraceError, match=words):
        trace(nn.Embedding(7, 4, **options), ["symbol"], [4], step=lambda m, x, h: (m(x) + h,) * 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_step_that_rounds_to_half_precision_is_refused(dtype: torch.dtype) -> None:
    def step(cell: nn.Module, x: Tensor, h: Tensor) -> Any:
        h = x + h.to(dtype).float()
        return h, h

    with pytest.raises(TraceError, match="rounds to torch"):
        trace(nn.Module(), [4], [4], step=step)


def test_a_parameter_that_is_expanded_and_then_computed_with_is_one_for_all_streams() -> None:
    class Expands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor, h: Tensor) -> Any:
            # The last bits of these differ with their place in memory.
            h = torch.tanh(x + nn.functional.softplus(self.scale.expand_as(x)).clamp(0, 6).frac() * h)
            return h, h

    assert "network Expands" in trace(Expands(), [4], [4]).text
