"""On a GPU, a module is what it is on the CPU, and what torch.nn's is there."""

import copy
import gc
import pickle
import threading

import pytest
import rnnc
import rnnc.torch
import torch
from conftest import LEAKY, close
from rnnc.torch import LSTM, Recurrent, programs
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: no CUDA device")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """PyTorch's own products, to which ours are compared, in single precision."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def module(**kwargs):
    return Recurrent(LEAKY, state=["h", "c"], **kwargs)


def on_host(nest):
    if isinstance(nest, torch.Tensor):
        return nest.cpu()
    return [on_host(one) for one in nest]


def results(rnn, device, x, state=None, resets=None, run=None):
    """Outputs, state, and all gradients, of a module on that device."""
    rnn = rnn.to(device)
    rnn.zero_grad()
    given = None if state is None else tuple(one.detach().to(device).requires_grad_() for one in state)
    x = x.detach().to(device).requires_grad_()
    resets = None if resets is None else resets.to(device)
    y, after = (run or rnn)(x, state=given, resets=resets)
    assert y.device == x.device and all(one.device == x.device for one in after)
    (y.square().sum() + sum((one * one.sin()).sum() for one in after)).backward()
    leaves = [x, *(given or ()), *rnn.parameters()]
    assert all(leaf.grad.device == leaf.device for leaf in leaves)
    found = [y, *after, *[leaf.grad for leaf in leaves]]
    return on_host([one.detach().clone() for one in found])


def same(rnn, *arguments, tolerance=1e-5):
    close(results(rnn, "cuda", *arguments), results(rnn, "cpu", *arguments), tolerance)


def batch(frames=9, streams=3, resets=True):
    state = (torch.randn(2, streams, 7), torch.randn(streams, 7))
    return torch.randn(frames, streams, 5), state, torch.rand(frames, streams) < 0.3 if resets else None


# Values


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("resets", [False, True])
def test_values_and_gradients_are_those_of_the_cpu(given, resets):
    x, state, begins = batch(resets=resets)
    same(module(), x, state if given else None, begins)


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 40])
def test_windows_of_any_length(frames):
    # Shorter and longer than the first one that is compiled.
    rnn = module()
    for length in (16, frames):
        x, state, begins = batch(length)
        same(rnn, x, state, begins)


LAYERS = {
    "LSTM": {},
    "GRU": {"num_layers": 2},
    "RNN": {"nonlinearity": "relu", "batch_first": True},
    "LSTM both ways": {"bidirectional": True, "num_layers": 2},
    "LSTM projected": {"proj_size": 3},
}


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_are_those_of_torch_nn(kind):
    name = kind.split()[0]
    ours = getattr(rnnc.torch, name)(5, 7, **LAYERS[kind]).cuda()
    theirs = getattr(torch.nn, name)(5, 7, **LAYERS[kind]).cuda()
    theirs.load_state_dict(ours.state_dict())
    padded = torch.randn(9, 3, 5, device="cuda").transpose(0, 1) if ours.batch_first else torch.randn(9, 3, 5, device="cuda")
    packed = pack_sequence([torch.randn(length, 5, device="cuda") for length in (4, 9, 1)], enforce_sorted=False)
    for x in (padded, packed):
        found = []
        for layer in (ours, theirs):
            y, after = layer(x)
            values = [getattr(y, "data", y) if x is packed else y, *([after] if isinstance(after, torch.Tensor) else after)]
            loss = sum((value * value.cos()).sum() for value in values)
            found.append([*values, *torch.autograd.grad(loss, list(layer.parameters()))])
        close(*found)


class Peephole(torch.nn.Module):
    """A cell of one's own."""

    def __init__(self, i, n):
        super().__init__()
        self.W = torch.nn.Linear(i + n, 4 * n)
        self.p = torch.nn.Parameter(torch.randn(3, n) / 4)

    def forward(self, x, h, c):
        i, f, g, o = self.W(torch.cat([x, h], -1)).chunk(4, -1)
        new = (f + self.p[0] * c).sigmoid() * c + (i + self.p[1] * c).sigmoid() * g.tanh()
        h = (o + self.p[2] * new).sigmoid() * new.tanh()
        return h, (h, new)


def test_a_cell_of_ones_own_is_the_loop_over_its_steps():
    cell = Peephole(5, 7).cuda()
    rnn = rnnc.torch.compile(cell, inputs=[5], state=[7, 7])
    x = torch.randn(9, 3, 5, device="cuda", requires_grad=True)

    def loop(x):
        h = c = torch.zeros(3, 7, device="cuda")
        ys = []
        for frame in x:
            y, (h, c) = cell(frame, h, c)
            ys.append(y)
        return torch.stack(ys), (h, c)

    found = []
    for run in (rnn, loop):
        y, (h, c) = run(x)
        found.append([y, h, c, *torch.autograd.grad((y * y).sum() + c.sum(), [x, *cell.parameters()])])
    close(*found)


def test_symbols_go_in():
    rnn = Recurrent("network words { input w : symbol(11)  h = tanh(dense(w, h[t-1]; 7))  output h }").cuda()
    w = torch.randint(11, (9, 3), device="cuda")
    y = rnn(w)[0]
    close(y.cpu(), rnn.cpu()(w.cpu())[0])
    rnn.cuda()
    rnn(torch.full((9, 3), 11, device="cuda"))
    torch.cuda.synchronize()
    with pytest.raises(rnnc.Error, match="`w` had a symbol beyond the last in an earlier call: there are 11"):
        rnn(w)
    close(rnn(w)[0], y)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precision_says_how_coarsely_products_round(precision):
    torch.manual_seed(5)
    exact = Recurrent("lstm", inputs=64, n=64).cuda()
    coarse = Recurrent("lstm", inputs=64, n=64, precision=precision).cuda()
    coarse.load_state_dict(exact.state_dict())
    x = torch.randn(20, 16, 64, device="cuda")
    close(coarse(x)[0], exact(x)[0], 0.05)
    with pytest.raises(rnnc.Error, match="precision `f64` runs on the CPU only"):
        module(precision="f64").cuda()(torch.randn(3, 2, 5, device="cuda").double())


def test_the_same_call_gives_the_same_bits():
    rnn, (x, state, begins) = LSTM(32, 64, num_layers=2).cuda(), batch()
    x = torch.randn(50, 16, 32, device="cuda")
    calls = []
    for _ in range(3):
        y, _ = rnn(x)
        calls.append([y, *torch.autograd.grad(y.square().sum(), list(rnn.parameters()))])
    for call in calls[1:]:
        assert all(torch.equal(a, b) for a, b in zip(call, calls[0]))


# Dropout

DROPPING = """network dropping {
    input x : vector(5)
    h = tanh(dense(dropout(x; 0.5), h[t-1]; 64))
    output h
}"""


def test_dropout_is_that_of_the_cpu_for_the_same_seed():
    rnn, x = Recurrent(DROPPING), torch.randn(9, 3, 5)
    found = []
    for device in ("cuda", "cpu"):
        torch.manual_seed(3)
        found.append(results(rnn, device, x))
    close(*found)
    torch.manual_seed(4)
    assert not torch.allclose(results(rnn, "cpu", x)[0], found[0][0])


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_compute_again_what_they_did(reentrant):
    rnn = Recurrent(DROPPING).cuda()
    x = torch.randn(6, 2, 5, device="cuda", requires_grad=True)
    torch.manual_seed(7)
    y = rnn(x)[0]
    expected = torch.autograd.grad(y.sum(), x)
    torch.manual_seed(7)
    z = checkpoint(lambda x: rnn(x)[0], x, use_reentrant=reentrant)
    close(z, y)
    z.sum().backward()
    close([x.grad], expected)


# Streams, threads, graphs


def test_a_stream_beside_the_default_one():
    rnn, (x, state, begins) = module(), batch()
    expected = results(rnn, "cpu", x, state, begins)
    rnn.cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)  # whoever does not wait in this stream's order comes too early
        found = results(rnn, "cuda", x, state, begins)
    stream.synchronize()
    close(found, expected)


def test_several_modules_in_several_streams():
    rnns = [LSTM(5, 40 + place).cuda() for place in range(6)]
    x = torch.randn(30, 3, 5, device="cuda")
    expected = [rnn(x)[0] for rnn in rnns]
    streams = [torch.cuda.Stream() for _ in rnns]
    for _ in range(5):
        found = []
        for rnn, stream in zip(rnns, streams):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                found.append(rnn(x)[0])
        for stream in streams:
            torch.cuda.current_stream().wait_stream(stream)
        close(found, expected)


def test_threads_call_at_a_time():
    rnn = module().cuda()
    inputs = [torch.randn(5 + place, 2, 5, device="cuda") for place in range(2)]
    expected = [torch.autograd.grad(rnn(x)[0].sum(), list(rnn.parameters())) for x in inputs]
    found = [None] * len(inputs)

    def work(place):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(20):
                found[place] = torch.autograd.grad(rnn(inputs[place])[0].sum(), list(rnn.parameters()))
            torch.cuda.current_stream().synchronize()

    torch.cuda.synchronize()
    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(found, expected)


def test_a_training_step_is_captured_into_a_cuda_graph():
    def train(captured):
        torch.manual_seed(1)
        rnn = LSTM(5, 32).cuda()
        head = torch.nn.Linear(32, 1).cuda()
        parameters = [*rnn.parameters(), *head.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        x, target = torch.zeros(20, 4, 5, device="cuda"), torch.zeros(20, 4, 1, device="cuda")
        data = torch.randn(6, 20, 4, 5, device="cuda")

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss = (head(rnn(x)[0]) - target).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                loss = step()
        losses = []
        for one in data:
            x.copy_(one)
            target.copy_(one[..., :1].cumsum(0).tanh())
            if captured:
                graph.replay()
            else:
                loss = step()
            losses.append(loss.item())
        return torch.tensor(losses), [p.detach().clone() for p in parameters]

    close(train(True), train(False))


def test_a_graph_outlives_what_it_was_captured_of(monkeypatch):
    monkeypatch.setattr(programs, "MOST_COMPILED", 1)
    rnn, x = LSTM(5, 7).cuda(), torch.randn(9, 3, 5, device="cuda")
    with torch.no_grad():
        expected = rnn(x)[0]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = rnn(x)[0]
        for streams in (4, 5):
            rnn(torch.randn(1, streams, 5, device="cuda"))
        del rnn
    gc.collect()
    y.zero_()
    graph.replay()
    close(y, expected)


def test_what_is_captured_was_called_before():
    rnn, x = LSTM(5, 7).cuda(), torch.randn(9, 3, 5, device="cuda")
    with pytest.raises(rnnc.Error, match="call it once before"), torch.no_grad(), torch.cuda.graph(torch.cuda.CUDAGraph()):
        rnn(x)
    assert rnn(x)[0].isfinite().all()


def test_each_replay_of_a_graph_draws_its_own_dropout():
    rnn, x = Recurrent(DROPPING).cuda(), torch.ones(9, 3, 5, device="cuda")
    with torch.no_grad():
        rnn(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = rnn(x)[0]
    found = []
    for _ in range(3):
        graph.replay()
        found.append(y.clone())
    assert not torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


# As a module


def test_to_the_device_and_back():
    rnn, (x, _, _) = module(), batch()
    keys = list(rnn.state_dict())
    y = rnn(x)[0]
    for to in (lambda: rnn.cuda(), lambda: rnn.to("cuda:0"), lambda: rnn.to(torch.device("cuda"))):
        moved = to()
        assert list(moved.state_dict()) == keys
        close(moved(x.cuda())[0].cpu(), y)
        assert all(one.is_cuda for one in moved.initial_state(3))
        close(moved.cpu()(x)[0], y)
    rnn.cuda()
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        close(other(x.cuda())[0].cpu(), y)
    lstm, plain = LSTM(5, 7).cuda(), torch.nn.LSTM(5, 7)
    plain.load_state_dict(lstm.state_dict())
    lstm.load_state_dict(plain.state_dict())
    session = rnn.session()
    close(torch.from_numpy(session.run(x[:, 0].numpy())), y[:, 0])


def test_tensors_on_two_devices_are_refused_with_what_is_where():
    rnn, (x, state, begins) = module().cuda(), batch()
    with pytest.raises(rnnc.Error, match="input `x` is on cpu, and weight `.*` on cuda:0"):
        rnn(x)
    with pytest.raises(rnnc.Error, match="state `h` is on cpu, and weight `.*` on cuda:0"):
        rnn(x.cuda(), state=state)
    with pytest.raises(rnnc.Error, match="resets is on cpu|resets are on cpu"):
        rnn(x.cuda(), resets=begins)
    with pytest.raises(rnnc.Error, match="input `x` is on cuda:0, and weight `.*` on cpu"):
        rnn.cpu()(x.cuda())
    # Nothing is left behind.
    same(rnn, x, state, begins)


def test_autocast_casts_at_the_border():
    rnn, head = module().cuda(), torch.nn.Linear(5, 5).cuda()
    x = torch.randn(6, 2, 5, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        into = head(x)
        assert into.dtype == torch.bfloat16
        y, state = rnn(into)
    assert y.dtype == state[0].dtype == torch.float32
    y.sum().backward()
    assert head.weight.grad.abs().sum() > 0
    close(y, rnn(into.float())[0])


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_torch_compile_goes_through_it_in_one_graph(backend):
    rnn, (x, state, begins) = module().cuda(), batch()

    @torch.compile(fullgraph=True, backend=backend)
    def run(x, state, resets):
        y, after = rnn(torch.sin(x), state=state, resets=resets)
        return torch.cos(y), after

    def plain(x, state, resets):
        y, after = rnn(torch.sin(x), state=state, resets=resets)
        return torch.cos(y), after

    for frames in (6, 9):
        x, state, begins = batch(frames)
        close(results(rnn, "cuda", x, state, begins, run), results(rnn, "cuda", x, state, begins, plain))


def test_opcheck_passes():
    rnn = module().cuda()
    x = torch.randn(6, 2, 5, device="cuda")
    weights = [p.detach() for p in rnn.parameters()]
    state = [torch.randn(2, 2, 7, device="cuda"), torch.randn(2, 7, device="cuda")]
    resets = torch.rand(6, 2, device="cuda") < 0.3
    network = rnn._signature.description
    some = ("test_schema", "test_faketensor", "test_autograd_registration")
    for gradient, tests in ((False, (*some, "test_aot_dispatch_dynamic")), (True, some)):
        arguments = (network, [x], weights, state, resets, None, 1, gradient)
        torch.library.opcheck(torch.ops.rnnc.forward.default, arguments, test_utils=tests)
    y, h, c, tape = torch.ops.rnnc.forward(*arguments)
    arguments = (network, weights, resets, tape, [torch.ones_like(y)], [None, torch.ones_like(c)], 6, 2, 1, False,
                 [True] * (1 + len(weights) + 2))  # fmt: skip
    torch.library.opcheck(torch.ops.rnnc.backward.default, arguments, test_utils=(*some, "test_aot_dispatch_dynamic"))


def test_functional_calls_and_vmap():
    rnn = module().cuda()
    parameters = {name: p.detach() for name, p in rnn.named_parameters()}
    x = torch.randn(3, 6, 2, 5, device="cuda")

    def loss(parameters, x):
        return torch.func.functional_call(rnn, parameters, (x,))[0].square().sum()

    each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for place, one in enumerate(x):
        close([g[place] for g in each.values()], list(torch.func.grad(loss)(parameters, one).values()))


# Memory


def test_ten_thousand_calls_leak_nothing():
    rnn, x = module().cuda(), torch.randn(4, 2, 5, device="cuda")

    def calls(count):
        for _ in range(count):
            y, state = rnn(x)
            y.sum().backward()
            rnn.zero_grad()
        gc.collect()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[0]

    allocated, free = calls(100)
    after = calls(9900)
    assert after[0] == allocated
    assert after[1] >= free - (1 << 20)


def test_a_full_gpu_makes_pytorch_give_back_what_it_keeps():
    x = torch.randn(4, 2, 5, device="cuda")
    free, _ = torch.cuda.mem_get_info()
    kept = torch.empty(free - (24 << 20), dtype=torch.uint8, device="cuda")
    del kept  # to PyTorch's cache
    y = module().cuda()(x)[0]
    assert y.isfinite().all()
