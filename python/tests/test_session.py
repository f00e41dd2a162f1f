"""A session gives, frame by frame, what the module gives over all frames."""

import numpy as np
import pytest
import rnnc
import torch
from conftest import LEAKY
from rnnc.torch import Recurrent


def module():
    return Recurrent(LEAKY, state=["h", "c"])


def test_a_session_of_a_module_runs_frame_by_frame():
    rnn, x = module(), torch.randn(9, 2, 5)
    resets = torch.rand(9, 2) < 0.3
    expected = rnn(x, resets=resets)[0].detach().numpy()
    session = rnn.session(streams=2)
    steps = np.stack([session.step(frame.numpy(), resets=reset.numpy()) for frame, reset in zip(x, resets)])
    np.testing.assert_allclose(steps, expected, atol=1e-6)
    session.reset()
    blocks = rnn.session(streams=2, block=4)
    both = np.concatenate([blocks.run(x[:5].numpy(), resets=resets[:5].numpy()), blocks.run(x[5:].numpy(), resets=resets[5:].numpy())])
    np.testing.assert_allclose(both, expected, atol=1e-6)


def test_one_stream_needs_no_dimension():
    rnn, x = module(), torch.randn(9, 5)
    expected = rnn(x)[0].detach().numpy()
    session = rnn.session()
    np.testing.assert_allclose(np.stack([session.step(frame.numpy()) for frame in x]), expected, atol=1e-6)
    session.reset()
    np.testing.assert_allclose(session.run(x.numpy().astype(np.float64)), expected, atol=1e-6)


def test_a_session_goes_on_from_a_state():
    session, x = module().session(), np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    session.run(x[:3])
    state = session.state()
    one = session.run(x[3:])
    session.reset()
    assert not np.allclose(session.run(x[3:]), one)
    session.set_state(state)
    np.testing.assert_array_equal(session.run(x[3:]), one)


def test_results_are_the_callers():
    session = module().session()
    one = session.step(np.ones(5))
    kept = one.copy()
    session.step(np.ones(5))
    np.testing.assert_array_equal(one, kept)


def test_a_session_of_files(tmp_path):
    rnn = module()
    (tmp_path / "leaky.rnn").write_text(LEAKY)
    rnn.save_weights(tmp_path / "w.safetensors")
    session = rnnc.Session(tmp_path / "leaky.rnn", tmp_path / "w.safetensors")
    x = np.ones((4, 5), np.float32)
    np.testing.assert_array_equal(session.run(x), rnn.session().run(x))


def test_symbols():
    session = rnnc.Session(
        "network n { input s : symbol(3)  y = dense(s; 2, bias = none)  output y }",
        {"y.W.s": np.arange(6).reshape(2, 3)},
    )
    np.testing.assert_array_equal(session.step(2), [2, 5])
    np.testing.assert_array_equal(session.run([0, -1, 1]), [[0, 3], [0, 0], [1, 4]])
    with pytest.raises(rnnc.Error, match="symbol"):
        session.step(3)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda s: s.step(np.ones(4)), r"input `x` has shape \[4\]; the session takes \[5\]"),
        (lambda s: s.step(np.ones((2, 5))), "the session takes"),
        (lambda s: s.step(), "takes the inputs"),
        (lambda s: s.run(np.ones((0, 5))), "at least one frame"),
        (lambda s: s.step(np.ones(5), resets=[True, False]), "resets have shape"),
        (lambda s: rnnc.Session(LEAKY, {}), "missing"),
        (lambda s: rnnc.Session("network n { input x : vector(2)  y = x[t+1]  output y }", {}), "looks ahead"),
        (lambda s: rnnc.Session(LEAKY, "missing.safetensors"), "missing.safetensors"),
    ],
)
def test_what_is_wrong_is_said(wrong, words):
    with pytest.raises(rnnc.Error, match=words):
        wrong(module().session())


def test_a_plan_needs_no_pytorch():
    plan = rnnc.plan("gru", inputs=40, n=256, streams=4)
    assert "4 streams" in str(plan)
    assert {cell.name for cell in rnnc.cells()} >= {"gru", "lstm"}
