"""A network of the language is a module whose values and gradients are those of eager PyTorch."""

import pytest
import rnnc
import torch
from conftest import LEAKY, close, leaky
from rnnc.torch import Recurrent, detach


def module(**kwargs):
    return Recurrent(LEAKY, state=["h", "c"], **kwargs)


def named(rnn):
    return {name: weight.detach().clone().requires_grad_() for name, weight in rnn.weights.items()}


@pytest.mark.parametrize("frames", [1, 2, 17])
@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_values_and_all_gradients_are_those_of_eager_pytorch(frames, given, reset):
    rnn = module()
    torch.nn.init.normal_(rnn.weights["c.start"])
    x = torch.randn(frames, 4, 5, requires_grad=True)
    state = (torch.randn(2, 4, 7, requires_grad=True), torch.randn(4, 7, requires_grad=True)) if given else None
    resets = torch.rand(frames, 4) < 0.3 if reset else None
    weights = named(rnn)

    def gradients(run, parameters):
        y, after = run()
        generator = torch.Generator().manual_seed(3)
        loss = sum((v * torch.randn(v.shape, generator=generator)).sum() for v in (y, *after))
        return (y, *after), torch.autograd.grad(loss, [x, *(state or ()), *parameters], allow_unused=True)

    values, found = gradients(lambda: rnn(x, state=state, resets=resets), list(rnn.weights.values()))
    expected, wanted = gradients(lambda: leaky(weights, x, state, resets), list(weights.values()))
    close(values, expected)
    wanted = [torch.zeros_like(one) if other is None else other for one, other in zip(found, wanted)]
    close(found, wanted)


def test_a_sequence_in_windows_is_the_sequence_in_one():
    rnn = module()
    x = torch.randn(12, 3, 5)
    whole, after = rnn(x)
    parts, state = [], None
    for window in x.split([5, 1, 4, 2]):
        y, state = rnn(window, state=state)
        parts.append(y)
    close(torch.cat(parts), whole)
    close(state, after)
    torch.cat(parts).sum().backward()
    found = [p.grad.clone() for p in rnn.parameters()]
    rnn.zero_grad()
    whole.sum().backward()
    close(found, [p.grad for p in rnn.parameters()])


def test_errors_end_where_the_state_is_detached():
    rnn = module()
    x = torch.randn(3, 2, 5, requires_grad=True)
    _, state = rnn(x)
    y, _ = rnn(torch.randn(3, 2, 5), state=detach(state))
    y.sum().backward()
    assert x.grad is None
    assert all(one.grad_fn is None for one in detach(state))


def test_the_initial_state_can_be_learned():
    rnn = module()
    initial = [one.requires_grad_() for one in rnn.initial_state(2)]
    y, _ = rnn(torch.randn(6, 2, 5), state=initial)
    y.sum().backward()
    assert all(one.grad.abs().sum() > 0 for one in initial)


def test_one_stream_needs_no_dimension_and_the_batch_may_come_first():
    rnn, x = module(), torch.randn(6, 2, 5)
    y, (h, c) = rnn(x)
    alone, (h0, c0) = rnn(x[:, 0])
    close((alone, h0, c0), (y[:, 0], h[:, 0], c[0]))
    again, _ = rnn(x[3:, 0], state=rnn(x[:3, 0])[1])
    close(again, y[3:, 0])
    first = module(batch_first=True)
    first.load_state_dict(rnn.state_dict())
    resets = torch.rand(2, 6) < 0.5
    close(first(x.transpose(0, 1), resets=resets)[0].transpose(0, 1), rnn(x, resets=resets.T)[0])


def test_inputs_may_lie_in_memory_as_they_like():
    rnn, x = module(), torch.randn(2, 6, 10)
    y, _ = rnn(x.transpose(0, 1)[..., ::2])
    close(y, rnn(x.transpose(0, 1)[..., ::2].contiguous())[0])
    y.sum().backward()  # the gradient of a sum has strides of 0
    expanded = torch.randn(5).expand(6, 2, 5)
    close(rnn(expanded)[0], rnn(expanded.contiguous())[0])


def test_symbols_and_several_inputs_and_outputs():
    rnn = Recurrent("""network two {
        input s : symbol(9)
        input x : vector(3)
        h = tanh(dense(s, x, h[t-1]; 4))
        y = dense(h; 2)
        output y, h
    }""")
    s, x = torch.randint(9, (5, 2)), torch.randn(5, 2, 3, requires_grad=True)
    (y, h), (last,) = rnn(s, x)
    assert y.shape == (5, 2, 2) and h.shape == (5, 2, 4)
    close(h[-1], last)
    w = rnn.weights
    first = torch.tanh(w["h.W.s"].T[s[0]] + x[0] @ w["h.W.x"].T + w["h.bias"])
    close(h[0], first)
    (y.sum() + h.sum()).backward()
    assert x.grad.abs().sum() > 0
    close(rnn(s.int(), x)[0], (y, h))
    with pytest.raises(rnnc.Error, match="symbol"):
        rnn(s + 100, x)


def test_a_network_that_looks_ahead_takes_whole_sequences_and_has_no_state():
    rnn = Recurrent("""network both {
        input x : vector(3)
        h = concat(elman(x; 4), reversed elman(x; 4))
        output h
    }""")
    x = torch.randn(5, 2, 3)
    y, state = rnn(x)
    assert state == () and y.shape == (5, 2, 8)
    y.sum().backward()
    turned = y.detach().flip(0)
    assert not torch.allclose(turned, y)
    with pytest.raises(rnnc.Error, match="looks ahead"):
        Recurrent(rnn.text, state=["h"])


def test_every_cell_of_the_library_runs_and_has_gradients():
    more = {"lstm_projected": {"m": 3}, "scrn": {"m": 3}, "lru": {"m": 3}, "clockwork": {}}
    for cell in rnnc.cells():
        rnn = Recurrent(cell.name, inputs=8, **{"n": 8, **more.get(cell.name, {})})
        x = torch.randn(9, 2, 8, requires_grad=True)
        y, state = rnn(x)
        assert y.isfinite().all(), cell.name
        y2, _ = rnn(x, state=state)
        y2.square().sum().backward()
        assert x.grad.abs().sum() > 0, cell.name
        assert all(p.grad is not None and p.grad.isfinite().all() for p in rnn.parameters()), cell.name


def test_weights_have_the_languages_names_with_slashes_for_dots():
    rnn = module()
    assert list(rnn.state_dict()) == [name.replace(".", "/") for name in rnn.weights]
    assert "h/diag/h[t-1]" in rnn.state_dict()
    assert rnn.weights["h.W.x"] is getattr(rnn, "h/W/x")
    assert all(isinstance(p, torch.nn.Parameter) for p in rnn.parameters())


def test_initial_weights_are_drawn_from_pytorchs_generator():
    torch.manual_seed(5)
    one = module()
    torch.manual_seed(5)
    two, three = module(), module()
    close(list(one.parameters()), list(two.parameters()))
    assert not torch.equal(one.weights["h.W.x"], three.weights["h.W.x"])
    # As the text says: uniform within 1 / sqrt(fan-in) by default, biases 0.
    assert one.weights["h.W.x"].abs().max() <= 5**-0.5
    assert one.weights["h.bias"].abs().max() == 0


def test_weights_go_through_files_of_rnnc(tmp_path):
    rnn, other = module(), module()
    rnn.save_weights(tmp_path / "w.safetensors")
    other.load_weights(tmp_path / "w.safetensors")
    close(list(other.parameters()), list(rnn.parameters()))
    with pytest.raises(rnnc.Error, match="h.W.x"):
        Recurrent("gru", inputs=3, n=4).load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda rnn: rnn(torch.randn(5, 2, 4)), r"input `x` has shape \[5, 2, 4\]; the network takes \[5, 2, 5\]"),
        (lambda rnn: rnn(torch.randn(5)), "input `x` has shape"),
        (lambda rnn: rnn(torch.randn(0, 2, 5)), "nothing to run"),
        (lambda rnn: rnn(torch.randn(5, 0, 5)), "nothing to run"),
        (lambda rnn: rnn(torch.randn(5, 2, 5).double()), "float64.*float32"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), torch.randn(5, 2, 5)), "takes the inputs"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), state=(torch.randn(2, 2, 7),)), "the state is .* 1 tensors came"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), state=(None, None)), "state `h` is None; give a tensor for each"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), state=(torch.randn(2, 2, 7), torch.randn(2, 7).numpy())), "state `c` is a ndarray"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), state={"h": torch.randn(2, 2, 7)}), "the dict that came has"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), state=3), "state is a int"),
        (lambda rnn: rnn(torch.randn(5, 2, 5).to_sparse()), "input `x` has the layout"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), resets=[True] * 5), "resets is a list"),
        (lambda rnn: Recurrent("network n { h = tanh(param(3) + h[t-1])  output h }")(torch.randn(5, 2, 5)), "takes the inputs"),
        (lambda rnn: Recurrent(LEAKY, threads=-1), "threads is -1"),
        (lambda rnn: Recurrent(None), "a NoneType came"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), state=(torch.randn(2, 7), torch.randn(2, 7))), "state `h` has shape"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), resets=torch.zeros(5, 2)), "resets are torch.float32"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), resets=torch.zeros(2, 5, dtype=torch.bool)), "resets have shape"),
        (lambda rnn: rnn(torch.randn(5, 2, 5), resets=torch.zeros(5, dtype=torch.bool)), "resets have shape"),
        (lambda rnn: rnn([1, 2]), "input `x` is a list"),
        (lambda rnn: Recurrent("no_such_cell"), "is no cell of the library"),
        (lambda rnn: Recurrent("gru"), "needs the sizes of its inputs"),
        (lambda rnn: Recurrent("gru", inputs=3, m=4), "m"),
        (lambda rnn: Recurrent(LEAKY, n=4), "goes with the name of a library cell"),
        (lambda rnn: Recurrent("network n { input x : vector(3) y = x[t-1 output y }"), "network:1"),
        (lambda rnn: Recurrent(LEAKY, state=["h", "d"]), "no layer `d`"),
        (lambda rnn: Recurrent(LEAKY, state=["h"]), "`c` is read with a delay"),
        (lambda rnn: Recurrent(LEAKY, precision="f16"), "there is no precision `f16`"),
    ],
)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(rnnc.Error, match=words):
        call(module())


def test_another_device_is_refused_by_name():
    with pytest.raises(rnnc.Error, match="input `x` is on mps:0; rnnc.torch runs on the CPU and on CUDA devices"):
        # A tensor that says it is elsewhere, since there may be no such device here.
        x = torch.randn(5, 2, 5)
        from rnnc.torch import operators

        class Elsewhere(torch.Tensor):
            device = torch.device("mps:0")

        operators._check_device("input `x`", x.as_subclass(Elsewhere))


def test_a_plan_is_told_and_drawn():
    rnn = module()
    assert "loop" in rnn.explain() or "scan" in rnn.explain()
    assert len(rnn.explain(verbose=True)) > len(rnn.explain())
    assert rnn.plan()._repr_svg_().lstrip().startswith("<")
    assert rnn.svg() == rnn.plan().svg()
    assert "leaky" in repr(rnn) and "state (h: 2 x 7, c: 7)" in repr(rnn)


def test_a_path_is_read(tmp_path):
    path = tmp_path / "leaky.rnn"
    path.write_text(LEAKY)
    for source in (path, str(path)):
        assert Recurrent(source).text == LEAKY
    with pytest.raises(FileNotFoundError):
        Recurrent("missing.rnn")
    path.write_bytes(b"\xff\xfe{")
    with pytest.raises(rnnc.Error, match="not a text"):
        Recurrent(path)


def test_state_that_only_dead_equations_read_deeper_is_as_deep_as_it_is_used():
    rnn = Recurrent("network n { input x : vector(3)  h = tanh(dense(x, h[t-1]; 4))  unused = tanh(h[t-3])  output h }")
    y, (h,) = rnn(torch.randn(5, 2, 3))
    assert h.shape == (2, 4)
    torch.testing.assert_close(h, y[-1])


def test_numbers_whose_sign_is_still_to_be_taken_have_it():
    rnn = Recurrent("network n { input x : vector(3)  h = tanh(dense(x, h[t-1]; 4))  output h }")
    x = torch.randn(5, 2, 3)

    def gradients(x, weight):
        rnn.zero_grad()
        y, _ = rnn(x)
        (y * weight).sum().backward()
        return [parameter.grad.clone() for parameter in rnn.parameters()]

    weight = torch.randn(5, 2, 4)
    negative = [torch.complex(torch.zeros_like(one), -one).conj().imag for one in (x, weight)]
    assert all(one.is_neg() for one in negative)
    for found, right in zip(gradients(*negative), gradients(x, weight)):
        torch.testing.assert_close(found, right)
    # Errors too: those of `conj` come back with their sign to be taken.
    rnn.zero_grad()
    y, _ = rnn(x)
    (torch.complex(torch.zeros_like(y), y).conj().imag * weight).sum().backward()
    found = [parameter.grad.clone() for parameter in rnn.parameters()]
    for found, right in zip(found, gradients(x, -weight)):
        torch.testing.assert_close(found, right)


def test_resets_elsewhere_are_refused_with_gradients_and_without():
    rnn = Recurrent("network n { input x : vector(3)  h = tanh(dense(x, h[t-1]; 4))  output h }")
    resets = torch.zeros(5, 2, dtype=torch.bool, device="meta")
    for mode in (torch.enable_grad, torch.no_grad):
        with mode(), pytest.raises(rnnc.Error, match="resets are on meta, and weight `h.W.x` on cpu"):
            rnn(torch.randn(5, 2, 3), resets=resets)


def test_dropout_in_double_precision_is_refused_in_plain_words():
    text = "network n { input x : vector(3)  y = dropout(x; 0.5)  output y }"
    rnn = Recurrent(text, precision="f64")
    with pytest.raises(rnnc.Error, match="call `eval\\(\\)` first"):
        rnn(torch.randn(5, 2, 3, dtype=torch.float64))
    rnn.eval()(torch.randn(5, 2, 3, dtype=torch.float64))


def test_a_state_may_come_by_name():
    rnn, x = module(), torch.randn(3, 4, 5)
    h, c = torch.randn(2, 4, 7), torch.randn(4, 7)
    close(rnn(x, state={"c": c, "h": h}), rnn(x, state=(h, c)))


def test_torch_jit_is_refused():
    with pytest.warns(Warning), pytest.raises(rnnc.Error, match="use torch.compile"):
        torch.jit.script(module())
