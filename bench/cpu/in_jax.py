"""The networks in JAX, compiled as a whole: LSTMs as a scan over frames, elementwise recurrences as an associative scan."""

import jax
import jax.numpy as jnp

import networks

# Also where there is a GPU.
jax.config.update("jax_platforms", "cpu")


class Peer:
    def __init__(self, threads):
        # XLA takes as many threads as the process may use; there is no other way to tell it.
        self.versions = {"jax": jax.__version__}

    def prepare(self, cell, size, layers, weights, x, d_output):
        """What runs the network forward, and forward and backward; the latter gives the outputs and the gradient of x."""
        run = CELLS[cell]
        parameters = [PARAMETERS[cell](weights, name) for name in networks.names(layers)]

        def network(parameters, x):
            for layer in parameters:
                x = run(layer, x)
            return x

        @jax.jit
        def gradients(parameters, x, d_output):
            output, back = jax.vjp(network, parameters, x)
            return output, back(d_output)
        forward = jax.jit(network)
        parameters, x, d_output = jax.device_put((parameters, jnp.asarray(x), jnp.asarray(d_output)))

        def train():
            output, (_, d_x) = gradients(parameters, x, d_output)
            return output, d_x
        return lambda: forward(parameters, x), train


def finish(result):
    jax.block_until_ready(result)


def gates(names):
    """The gates' weights side by side."""
    def parameters(w, name):
        found = {suffix: jnp.concatenate([w[f"{name}.{gate}.{suffix}"] for gate in names])
                 for suffix in ("W.x", "W.h[t-1]", "bias")}
        peepholes = ("i.diag.c[t-1]", "f.diag.c[t-1]", "o.diag.c")
        return found | {p: jnp.asarray(w[f"{name}.{p}"]) for p in peepholes if f"{name}.{p}" in w}
    return parameters


def lstm(p, x):
    """With peepholes where there are weights for them."""
    inputs = x @ p["W.x"].T + p["bias"]
    inner, zero = p["W.h[t-1]"].T, jnp.zeros((x.shape[1], x.shape[2]), x.dtype)

    def step(state, inputs):
        h, c = state
        i, f, z, o = jnp.split(inputs + h @ inner, 4, axis=1)
        if "o.diag.c" in p:
            i, f = i + p["i.diag.c[t-1]"] * c, f + p["f.diag.c[t-1]"] * c
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(z)
        if "o.diag.c" in p:
            o = o + p["o.diag.c"] * c
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h
    return jax.lax.scan(step, (zero, zero), inputs)[1]


def affine(a, b):
    """s(t) = a(t) s(t-1) + b(t), over all frames."""
    return jax.lax.associative_scan(lambda l, r: (l[0] * r[0], r[0] * l[1] + r[1]), (a, b))[1]


def scan(_, x):
    return affine(x, x)


def sru(p, x):
    z, f, r = x @ p["z.W.x"].T, jax.nn.sigmoid(dense(p, "f", x)), jax.nn.sigmoid(dense(p, "r", x))
    return r * jnp.tanh(affine(f, (1 - f) * z)) + (1 - r) * x


def mingru(p, x):
    z = jax.nn.sigmoid(dense(p, "z", x))
    return affine(1 - z, z * dense(p, "m", x))


def lru(p, x):
    decay = jnp.exp(-jnp.exp(p["nu.param"] - 2.5))
    inputs = jnp.sqrt(1 - decay ** 2) * (x @ p["s.W.x"].T)
    s = affine(jnp.broadcast_to(decay, inputs.shape), inputs)
    return s @ p["y.W.s"].T + x @ p["y.W.x"].T


def dense(p, gate, x):
    return x @ p[f"{gate}.W.x"].T + p[f"{gate}.bias"]


def own(w, name):
    """All weights of a layer, by what follows its name."""
    return {key.removeprefix(f"{name}."): jnp.asarray(value) for key, value in w.items() if key.startswith(f"{name}.")}


CELLS = {"lstm": lstm, "lstm_peephole": lstm, "sru": sru, "mingru": mingru, "lru": lru, "scan": scan}
PARAMETERS = {"lstm": gates("ifzo"), "lstm_peephole": gates("ifzo"), "sru": own, "mingru": own, "lru": own, "scan": own}
