"""The networks in PyTorch: its own layers, and a loop of its operations for what it has no layer for."""

import torch

import networks

LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
GATES = {"lstm": "ifzo", "gru": "rzm", "rnn": "h"}


class Peer:
    def __init__(self, threads):
        torch.set_num_threads(threads)
        self.versions = {"torch": torch.__version__, "torch instructions": torch.backends.cpu.get_cpu_capability()}

    def prepare(self, cell, size, layers, weights, x, d_output):
        """What runs the network forward, and forward and backward; the latter gives the outputs and the gradient of x."""
        made = layer(cell, size, layers, weights) if cell in LAYERS else Loop(cell, size, layers, weights)
        x = torch.tensor(x, requires_grad=True)
        d_output = torch.tensor(d_output)
        parameters = list(made.parameters())

        def forward():
            # Gradients are recorded, as in the forward half of training.
            return made(x)[0]

        def train():
            x.grad = None
            for parameter in parameters:
                parameter.grad = None
            output = forward()
            output.backward(d_output)
            return output.detach().numpy(), x.grad.numpy()
        return forward, train


def layer(cell, size, layers, weights):
    made = LAYERS[cell](size, size, num_layers=layers)
    with torch.no_grad():
        for place, name in enumerate(networks.names(layers)):
            def stacked(suffix):
                return torch.cat([torch.as_tensor(weights[f"{name}.{gate}.{suffix}"]) for gate in GATES[cell]])
            getattr(made, f"weight_ih_l{place}").copy_(stacked("W.x"))
            if cell == "gru":
                # The reset gate multiplies a dense of its own, bias included.
                hidden = [weights[f"{name}.{gate}.W.h[t-1]"] for gate in "rz"] + [weights[f"{name}.m.W2.h[t-1]"]]
                second = torch.zeros(3 * size)
                second[2 * size:] = torch.as_tensor(weights[f"{name}.m.bias2"])
            else:
                hidden = [weights[f"{name}.{gate}.W.h[t-1]"] for gate in GATES[cell]]
                second = torch.zeros(len(hidden) * size)
            getattr(made, f"weight_hh_l{place}").copy_(torch.cat([torch.as_tensor(w) for w in hidden]))
            getattr(made, f"bias_ih_l{place}").copy_(stacked("bias"))
            getattr(made, f"bias_hh_l{place}").copy_(second)
    return made


class Loop(torch.nn.Module):
    """A peephole LSTM frame by frame, as somebody would write it who cares: the gates' products are one, and those of the
    inputs go over all frames."""

    def __init__(self, cell, size, layers, weights):
        super().__init__()
        if cell != "lstm_peephole" or layers != 1:
            raise ValueError(f"there is no loop for {layers} of {cell}")
        self.size = size

        def stacked(suffix):
            return torch.nn.Parameter(torch.cat([torch.as_tensor(weights[f"h.{gate}.{suffix}"]) for gate in "ifzo"]))

        def peephole(gate, of):
            return torch.nn.Parameter(torch.as_tensor(weights[f"h.{gate}.diag.{of}"]))
        self.inner, self.outer, self.bias = stacked("W.h[t-1]"), stacked("W.x"), stacked("bias")
        self.i, self.f, self.o = peephole("i", "c[t-1]"), peephole("f", "c[t-1]"), peephole("o", "c")

    def forward(self, x):
        inputs = torch.nn.functional.linear(x, self.outer, self.bias)
        inner = self.inner.T
        h = c = x.new_zeros(x.shape[1], self.size)
        outputs = []
        for frame in inputs.unbind(0):
            i, f, z, o = torch.addmm(frame, h, inner).chunk(4, 1)
            c = torch.sigmoid(f + self.f * c) * c + torch.sigmoid(i + self.i * c) * torch.tanh(z)
            h = torch.sigmoid(o + self.o * c) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs), None


def finish(_):
    """Nothing is under way when a call returns."""
