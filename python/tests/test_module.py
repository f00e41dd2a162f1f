"""A module of rnnc.torch behaves as modules of PyTorch do."""

import copy
import gc
import io
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading

import pytest
import rnnc
import torch
from conftest import LEAKY, close, leaky
from rnnc.torch import LSTM, Recurrent, programs
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset


def module(**kwargs):
    return Recurrent(LEAKY, state=["h", "c"], **kwargs)


def gradients(rnn, x, run=None):
    rnn.zero_grad()
    y, state = (run or rnn)(x)
    (y.square().sum() + state[1].sum()).backward()
    return [y, *[p.grad.clone() for p in rnn.parameters()]]


# Transforms


def test_torch_compile_goes_through_it_in_one_graph():
    rnn = module()

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = rnn, torch.nn.Linear(3, 2)

        def forward(self, x, state=None, resets=None):
            y, state = self.rnn(x * 2, state=state, resets=resets)
            return self.head(torch.relu(y)), state

    model = Model()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for frames in (6, 9, 7):
        x = torch.randn(frames, 2, 5)
        resets = torch.rand(frames, 2) < 0.3
        expected, found = gradients(model, x, lambda x: model(x, None, resets)), gradients(model, x, lambda x: compiled(x, None, resets))
        close(found, expected)
    with torch.no_grad():
        _, state = model(x)
        close(compiled(x, state), model(x, state))


def test_inductor_compiles_around_it():
    rnn, x = module(), torch.randn(6, 2, 5)

    @torch.compile(fullgraph=True)
    def run(x):
        y, state = rnn(torch.sin(x))
        return torch.cos(y), state

    close(gradients(rnn, x, run), gradients(rnn, x, lambda x: (lambda y, s: (torch.cos(y), s))(*rnn(torch.sin(x)))))


def test_torch_export_takes_a_model_with_it():
    rnn, x = module(), torch.randn(6, 2, 5)
    with torch.no_grad():
        program = torch.export.export(rnn.eval(), (x,))
        close(program.module()(x), rnn(x))


def test_opcheck_passes():
    rnn, x = module(), torch.randn(6, 2, 5)
    weights = [p.detach() for p in rnn.parameters()]
    state = [torch.randn(2, 2, 7), torch.randn(2, 7)]
    resets = torch.rand(6, 2) < 0.3
    network = rnn._signature.description
    some = ("test_schema", "test_faketensor", "test_autograd_registration")
    # A tape's unused numbers differ from call to call, and only the others are compared.
    for gradient, tests in ((False, (*some, "test_aot_dispatch_dynamic")), (True, some)):
        arguments = (network, [x], weights, state, resets, None, 1, gradient)
        torch.library.opcheck(torch.ops.rnnc.forward.default, arguments, test_utils=tests)
    y, h, c, tape = torch.ops.rnnc.forward(*arguments)
    arguments = (network, weights, resets, tape, [torch.ones_like(y)], [None, torch.ones_like(c)], 6, 2, 1, False,
                 [True] * (1 + len(weights) + 2))  # fmt: skip
    torch.library.opcheck(torch.ops.rnnc.backward.default, arguments, test_utils=(*some, "test_aot_dispatch_dynamic"))


@pytest.mark.parametrize("given", [False, True])
def test_gradients_are_those_of_differences(given):
    rnn = module(precision="f64")
    torch.nn.init.normal_(rnn.weights["c.start"])
    x, state = torch.randn(4, 2, 5).double(), (torch.randn(2, 2, 7).double(), torch.randn(2, 7).double())
    tensors = [x, *(state if given else ()), *[p.detach() for p in rnn.parameters()]]
    tensors = [t.clone().requires_grad_() for t in tensors]
    names = [name.replace(".", "/") for name in rnn.weights]
    resets = torch.tensor([[0, 0], [0, 0], [1, 0], [0, 0]], dtype=torch.bool)

    def run(x, *more):
        state, weights = (more[:2], more[2:]) if given else (None, more)
        y, after = torch.func.functional_call(rnn, dict(zip(names, weights)), (x,), {"state": state, "resets": resets})
        return (y, *after)

    torch.autograd.gradcheck(run, tensors)


def test_functional_calls_and_gradients():
    rnn, x = module(), torch.randn(6, 2, 5)
    parameters = {name: p.detach() for name, p in rnn.named_parameters()}

    def loss(parameters, x):
        y, state = torch.func.functional_call(rnn, parameters, (x,))
        return y.square().sum() + state[1].sum()

    _, *expected = gradients(rnn, x)
    close(list(torch.func.grad(loss)(parameters, x).values()), expected)
    close(list(torch.func.vjp(loss, parameters, x)[1](torch.tensor(1.0))[0].values()), expected)


def test_vmap_over_inputs_and_gradients_of_each_sample():
    rnn = module()
    x = torch.randn(3, 6, 2, 5)
    many = torch.vmap(lambda x: rnn(x)[0])(x)
    close(many, torch.stack([rnn(one)[0] for one in x]))
    close(torch.vmap(lambda x: rnn(x)[0], in_dims=2, out_dims=1)(x.movedim(0, 2)), many.movedim(0, 1))
    parameters = {name: p.detach() for name, p in rnn.named_parameters()}

    def loss(parameters, x):
        return torch.func.functional_call(rnn, parameters, (x,))[0].square().sum()

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for place, one in enumerate(x):
        close([g[place] for g in each.values()], list(torch.func.grad(loss)(parameters, one).values()))
    all_ = torch.func.grad(lambda p: torch.vmap(lambda x: loss(p, x))(x).sum())(parameters)
    close(list(all_.values()), [g.sum(0) for g in each.values()])


def test_vmap_over_weights_makes_an_ensemble():
    rnns, x = [module() for _ in range(3)], torch.randn(6, 2, 5)
    stacked, _ = torch.func.stack_module_state(rnns)
    run = lambda p, x: torch.func.functional_call(rnns[0], p, (x,))[0]  # noqa: E731
    close(torch.vmap(run, in_dims=(0, None))(stacked, x), torch.stack([rnn(x)[0] for rnn in rnns]))


def test_a_second_backward_pass_is_refused():
    rnn, x = module(), torch.randn(6, 2, 5, requires_grad=True)
    weights = list(rnn.parameters())

    def penalty(loss, of, by):
        found = torch.autograd.grad(loss, of, create_graph=True)
        torch.autograd.grad(sum(one.square().sum() for one in found), by)

    # Also where the errors that come in are constants, and where only weights or states have gradients.
    for second in (
        lambda: penalty(rnn(x)[0].square().sum(), [x], [x]),
        lambda: penalty(rnn(x)[0].sum(), [x], [x]),
        lambda: penalty(rnn(x)[0].sum(), [x], weights),
        lambda: penalty(rnn(x.detach())[0].sum(), weights, weights),
        lambda: penalty(rnn(x)[1][0].sum(), [x], weights),
        lambda: torch.autograd.functional.hessian(lambda x: rnn(x)[0].sum(), x.detach()),
        lambda: torch.func.jacrev(torch.func.jacrev(lambda x: rnn(x)[0].sum()))(x.detach()),
        lambda: torch.func.grad(lambda x: torch.func.grad(lambda x: rnn(x)[0].sum())(x).sum())(x.detach()),
    ):
        with pytest.raises(RuntimeError, match="second derivative"):
            second()
    # First ones are fine, of which a graph was asked or not.
    one, two = (torch.autograd.grad(rnn(x)[0].sum(), [x, *weights], create_graph=create) for create in (False, True))
    close(one, two)
    # The same graph twice is fine.
    y, _ = rnn(x)
    one = torch.autograd.grad(y.sum(), x, retain_graph=True)
    close(torch.autograd.grad(y.sum(), x), one)


def test_forward_mode_is_refused():
    rnn, x = module(), torch.randn(6, 2, 5)
    with pytest.raises((RuntimeError, NotImplementedError), match="jvp|forward"):
        torch.func.jvp(lambda x: rnn(x)[0], (x,), (x,))


def test_autocast_casts_at_the_border():
    rnn, x = module(), torch.randn(6, 2, 5)
    head = torch.nn.Linear(5, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        into = head(x)
        assert into.dtype == torch.bfloat16
        y, state = rnn(into)
    assert y.dtype == state[0].dtype == torch.float32
    y.sum().backward()
    assert head.weight.grad.abs().sum() > 0
    close(y, rnn(into.float())[0])


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_again_what_they_did(reentrant):
    rnn = dropping()
    x = torch.randn(6, 2, 5, requires_grad=True)
    torch.manual_seed(7)
    y = rnn(x)[0]
    expected = torch.autograd.grad(y.sum(), x)
    torch.manual_seed(7)
    z = checkpoint(lambda x: rnn(x)[0], x, use_reentrant=reentrant)
    close(z, y)
    z.sum().backward()
    close([x.grad], expected)


# Dropout


def dropping():
    return Recurrent("""network dropping {
        input x : vector(5)
        h = tanh(dense(dropout(x; 0.5), h[t-1]; 64))
        output h
    }""")


def test_dropout_is_on_in_training_and_the_seed_decides():
    rnn, x = dropping(), torch.ones(6, 2, 5)
    torch.manual_seed(3)
    one = rnn(x)[0]
    torch.manual_seed(3)
    close(rnn(x)[0], one)
    assert not torch.allclose(rnn(x)[0], one)
    rnn.eval()
    close(rnn(x)[0], rnn(x)[0])
    state = torch.get_rng_state()
    rnn(x)
    module()(x)
    rnn.train()
    # Without dropout, nothing is drawn.
    again = module()
    assert torch.equal(torch.get_rng_state(), state) is False  # module() drew its weights
    state = torch.get_rng_state()
    again(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_are_of_the_dropout_that_was_drawn():
    rnn = dropping()
    x = torch.randn(1, 1, 5, requires_grad=True)
    y, _ = rnn(x)
    (d,) = torch.autograd.grad(y.sum(), x)
    w = rnn.weights["h.W.1"] if "h.W.1" in rnn.weights else next(iter(rnn.weights.values()))
    full = (1 - y.detach() ** 2).reshape(1, -1) @ w.detach()
    kept = d.reshape(-1) != 0
    close(d.reshape(-1)[kept], 2 * full.reshape(-1)[kept], 1e-4)


# Grad modes and memory


def test_without_gradients_nothing_is_kept():
    rnn, x = module(), torch.randn(6, 2, 5)
    compiled = []
    original = programs.Program.compiled

    def spy(self, streams, frames, gradients, *more):
        compiled.append(gradients)
        return original(self, streams, frames, gradients, *more)

    programs.Program.compiled = spy
    try:
        with torch.no_grad():
            y, state = rnn(x)
        with torch.inference_mode():
            rnn(x)
        frozen = module().requires_grad_(False)
        frozen(x)
        assert compiled == [False] * 3
        rnn(x)
        assert compiled[-1]
    finally:
        programs.Program.compiled = original
    assert y.grad_fn is None and state[0].grad_fn is None
    close(y, rnn(x)[0])


def test_frozen_parameters_get_no_gradient_and_the_others_theirs():
    rnn, x = module(), torch.randn(6, 2, 5)
    expected = dict(zip(rnn.weights, gradients(rnn, x)[1:]))
    rnn.zero_grad()
    rnn.weights["h.W.x"].requires_grad_(False)
    y, state = rnn(x)
    (y.square().sum() + state[1].sum()).backward()
    for name, weight in rnn.weights.items():
        if name == "h.W.x":
            assert weight.grad is None
        else:
            close(weight.grad, expected[name])


def test_ten_thousand_calls_leak_nothing():
    import resource

    rnn = module(threads=1)
    x = torch.randn(4, 2, 5)

    def calls(count):
        for _ in range(count):
            y, state = rnn(x)
            y.sum().backward()
            rnn.zero_grad()
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = calls(2000)
    assert calls(8000) - before < 4000  # kB


def test_compiled_programs_are_bounded_and_told_of(caplog):
    rnn = Recurrent(LEAKY.replace("0.9", "0.91"), state=["h", "c"])
    with caplog.at_level(logging.INFO, "rnnc.torch"):
        for streams in range(1, programs.MOST_COMPILED + 9):
            rnn(torch.randn(2, streams, 5))
    program = rnn._program
    assert len(program._recent) == programs.MOST_COMPILED
    told = [record for record in caplog.records if record.levelno == logging.INFO]
    assert "compiled for 1 streams" in told[0].getMessage()
    assert len([r for r in caplog.records if r.levelno == logging.WARNING]) == 1
    # An old tape goes back although its program was dropped.
    x = torch.randn(2, 1, 5, requires_grad=True)
    y, _ = rnn(x)
    for streams in range(2, programs.MOST_COMPILED + 9):
        rnn(torch.randn(2, streams, 5))
    (found,) = torch.autograd.grad(y.sum(), x)
    close(found, torch.autograd.grad(rnn(x)[0].sum(), x)[0])


def test_windows_are_rounded_up_by_an_eighth_at_most():
    for frames in range(1, 5000):
        window = programs.window_of(frames)
        assert frames <= window <= max(16, frames * 9 / 8)
    assert len({programs.window_of(frames) for frames in range(1, 4097)}) == 1 + 8 * 8


# Copies and files


def test_copies_and_pickles():
    rnn, x = module(), torch.randn(6, 2, 5)
    expected = gradients(rnn, x)
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        close(gradients(other, x), expected)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        assert not torch.allclose(other(x)[0], expected[0])
    file = io.BytesIO()
    torch.save(rnn.state_dict(), file)
    file.seek(0)
    other = module()
    other.load_state_dict(torch.load(file))
    close(gradients(other, x), expected)


def test_a_module_that_is_moved_to_half_is_refused_and_back_works():
    rnn, x = module(), torch.randn(6, 2, 5)
    y = rnn(x)[0]
    rnn.to("cpu", torch.float64)
    with pytest.raises(rnnc.Error, match="weight `h.W.x` is torch.float64"):
        rnn(x)
    close(rnn.to(torch.float32)(x)[0], y)


def test_the_meta_device_gives_shapes():
    with torch.device("meta"):
        rnn = LSTM(5, 7)
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        y, _ = LSTM(5, 7)(torch.randn(6, 2, 5))
        assert y.shape == (6, 2, 7)
    assert rnn.weight_ih_l0.device.type == "meta"


@pytest.mark.skipif(torch.cuda.is_available(), reason="not run: there is a CUDA device")
def test_a_gpu_that_is_not_there_is_missed_in_words():
    with pytest.raises(rnnc.Error, match="NVIDIA driver"):
        module()._program.compiled(2, 6, True, False, 1, gpu=0)


def test_what_the_engine_is_handed_without_pytorchs_c_functions_gives_the_same():
    # As with PyTorch before 2.10.
    script = """
import torch
exchange = torch.Tensor.__dlpack_c_exchange_api__
del torch.Tensor.__dlpack_c_exchange_api__
from rnnc.torch import LSTM, arrays
assert isinstance(arrays.array(torch.zeros(2)), tuple)
ours, theirs = LSTM(5, 7), torch.nn.LSTM(5, 7)
theirs.load_state_dict(ours.state_dict())
x = torch.randn(9, 3, 5, requires_grad=True)
found, wanted = (torch.autograd.grad(one(x)[0].square().sum(), [x, *one.parameters()]) for one in (ours, theirs))
for a, b in zip(found, wanted):
    torch.testing.assert_close(a, b)
y = ours(-x.detach())[0]
torch.testing.assert_close(ours(torch.complex(x, x).conj().imag.detach())[0], y)
"""
    if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
        subprocess.run([sys.executable, "-c", script], check=True)


# Threads and processes


def test_many_threads_call_at_a_time():
    rnn = module()
    inputs = [torch.randn(5 + place, 2, 5) for place in range(8)]
    expected = [torch.autograd.grad(rnn(x)[0].sum(), list(rnn.parameters())) for x in inputs]
    found = [None] * len(inputs)

    def work(place):
        for _ in range(20):
            found[place] = torch.autograd.grad(rnn(inputs[place])[0].sum(), list(rnn.parameters()))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(found, expected)


class Featured(Dataset):
    """A data set whose items are computed by a module."""

    def __init__(self, rnn):
        self.rnn = rnn

    def __len__(self):
        return 8

    def __getitem__(self, place):
        with torch.no_grad():
            return self.rnn(torch.full((6, 1, 5), place / 8))[0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_data_loaders_workers_run_it(method):
    rnn = module()
    data = Featured(rnn)
    expected = torch.stack([data[place] for place in range(8)])  # this process has run it before
    loader = DataLoader(data, batch_size=8, num_workers=2, multiprocessing_context=method, timeout=120)
    (found,) = [batch for batch in loader]
    close(found, expected)


DISTRIBUTED = """
import os, sys, torch, torch.distributed as dist
from rnnc.torch import Recurrent
rank = int(sys.argv[1])
dist.init_process_group("gloo", rank=rank, world_size=2)
torch.manual_seed(rank)
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = Recurrent("gru", inputs=5, n=7, threads=1)
        self.head = torch.nn.Linear(7, 1)
    def forward(self, x, state):
        y, state = self.rnn(x, state=state)
        return self.head(y), state
model = torch.nn.parallel.DistributedDataParallel(Model())
torch.manual_seed(9)
data = torch.randn(2, 3, 6, 4, 5)  # windows of two ranks
state = None
for window in data[rank]:
    model.zero_grad()
    y, state = model(window, state)
    y.square().mean().backward()
    state = tuple(one.detach() for one in state)
found = [p.grad.clone() for p in model.parameters()]
alone, total = model.module, None
for other in range(2):
    state = None
    for window in data[other]:
        alone.zero_grad()
        y, state = alone(window, state)
        y.square().mean().backward()
        state = tuple(one.detach() for one in state)
    g = [p.grad.clone() / 2 for p in alone.parameters()]
    total = g if total is None else [a + b for a, b in zip(total, g)]
for a, b in zip(found, total):
    assert torch.allclose(a, b, atol=1e-6), (a - b).abs().max()
dist.destroy_process_group()
"""


SHARDED = """
import sys, torch, torch.distributed as dist
import rnnc.torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
rank = int(sys.argv[1])
dist.init_process_group("gloo", rank=rank, world_size=2)
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = rnnc.torch.LSTM(5, 6, threads=1)
        self.second = rnnc.torch.Recurrent("gru", inputs=6, n=7, threads=1)
        self.third = rnnc.torch.compile(torch.nn.GRUCell(7, 8), [7], [8], threads=1)
    def forward(self, x):
        return self.third(self.second(self.first(x)[0])[0])[0]
def made():
    torch.manual_seed(0)
    return Model()
model, alone = made(), made()
for part in (model.first, model.second, model.third, model):
    fully_shard(part, mesh=init_device_mesh("cpu", (2,)))
assert all(p.to_local().shape[0] < p.shape[0] for p in model.parameters() if p.shape[0] > 1)
torch.manual_seed(9)
x = torch.randn(6, 4, 5)
ours, whole = torch.optim.SGD(model.parameters(), 0.5), torch.optim.SGD(alone.parameters(), 0.5)
for _ in range(3):
    ours.zero_grad(), whole.zero_grad()
    model(x[:, 2 * rank : 2 * rank + 2]).square().mean().backward()
    alone(x).square().mean().backward()
    ours.step(), whole.step()
for a, b in zip(model.parameters(), alone.parameters(), strict=True):
    assert torch.allclose(a.full_tensor(), b, atol=1e-6)
dist.destroy_process_group()
"""


@pytest.mark.parametrize("program", [DISTRIBUTED, SHARDED], ids=["DistributedDataParallel", "fully_shard"])
def test_two_processes_share_gradients(program):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(rank)], env=environment, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
