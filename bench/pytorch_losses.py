"""Trains the network of a train.toml in PyTorch, to show that the losses are the same, update by update.

The same model (LSTM layers and a linear layer over bytes), data order, initial weights (a file made by `rnnc init`),
optimizer and truncation. Writes the losses as JSON.

    rnnc init network.rnn --seed 1 --output weights.safetensors
    python bench/pytorch_losses.py train.toml weights.safetensors --updates 20 --output losses.json

The test of rnnc-train compares with the losses of crates/rnnc-train/tests/pytorch_losses/, made this way.
"""

import argparse
import json
import pathlib
import re
import sys
import tomllib

import numpy as np
import torch
from safetensors.torch import load_file

GATES = "ifzo"  # PyTorch stacks its gates in this order, under the names i, f, g, o.
NO_SYMBOL = -100  # what torch.nn.functional.cross_entropy skips


class Network(torch.nn.Module):
    """LSTM layers h1, h2, .. and a linear layer y, with the weights of a file of rnnc's."""

    def __init__(self, weights):
        super().__init__()
        names = {name.split(".")[0] for name in weights if re.fullmatch(r".*\.i\.W\.x", name)}
        names = sorted(names, key=lambda name: int(re.sub(r"\D", "", name)))
        self.layers = torch.nn.ModuleList()
        used = set()

        def take(name):
            used.add(name)
            return weights[name]

        for name in names:
            stacked = {
                part: torch.cat([take(f"{name}.{gate}.{part}") for gate in GATES])
                for part in ("W.x", "W.h[t-1]", "bias")
            }
            size = stacked["W.h[t-1]"].shape[1]
            layer = torch.nn.LSTM(stacked["W.x"].shape[1], size)
            with torch.no_grad():
                layer.weight_ih_l0.copy_(stacked["W.x"])
                layer.weight_hh_l0.copy_(stacked["W.h[t-1]"])
                layer.bias_ih_l0.copy_(stacked["bias"])
                # rnnc has one bias per gate; the second of PyTorch's would double its steps.
                layer.bias_hh_l0.zero_()
            layer.bias_hh_l0.requires_grad_(False)
            self.layers.append(layer)
        matrix = take(f"y.W.{names[-1]}")
        self.output = torch.nn.Linear(matrix.shape[1], matrix.shape[0])
        with torch.no_grad():
            self.output.weight.copy_(matrix)
            self.output.bias.copy_(take("y.bias"))
        left = set(weights) - used
        if left:
            raise SystemExit(f"this script knows LSTM layers h1, h2, .. and a dense layer y; what are {sorted(left)}?")

    def start(self, streams):
        zeros = [torch.zeros(1, streams, layer.hidden_size) for layer in self.layers]
        return [(zero, zero) for zero in zeros]

    def forward(self, symbols, resets, state):
        """Logits of a window [T, B], and the state after it. A reset frame begins from zeros."""
        frames = symbols.shape[0]
        cuts = sorted({0, frames, *(t for t in range(frames) if resets[t].any())})
        logits = []
        for begin, end in zip(cuts, cuts[1:]):
            keep = (~resets[begin]).to(torch.float32)[None, :, None]
            x = torch.nn.functional.one_hot(symbols[begin:end], self.layers[0].input_size).to(torch.float32)
            for i, layer in enumerate(self.layers):
                h, c = state[i]
                x, state[i] = layer(x, (h * keep, c * keep))
            logits.append(self.output(x))
        return torch.cat(logits), state


class Line:
    """The training part of the text, laid end to end; stream b begins b/B of the way along it."""

    def __init__(self, config, base):
        data = config["data"]
        files = []
        for pattern in data["files"]:
            found = sorted(base.glob(pattern)) if set("*?[") & set(pattern) else [base / pattern]
            files += [path for path in found if path.is_file() and path not in files]
        texts = [text for text in (path.read_bytes() for path in files) if text]
        symbols = np.frombuffer(b"".join(texts), dtype=np.uint8).astype(np.int64)
        begins = np.cumsum([0] + [len(text) for text in texts])[:-1]
        # The last parts are for validation and test.
        end = len(symbols)
        end -= int(len(symbols) * data.get("test", 0.0))
        end -= int(len(symbols) * data.get("validation", 0.0))
        self.symbols = symbols[:end]
        self.resets = np.zeros(end, dtype=bool)
        self.resets[begins[begins < end]] = True
        # The target is the next byte of the same file.
        last = np.append(self.resets[1:], True)
        self.targets = np.where(last, NO_SYMBOL, np.append(self.symbols[1:], 0))

    def window(self, position, frames, streams):
        """Symbols, targets and resets, [T, B] each."""
        length = len(self.symbols)
        begin = np.array([b * length // streams for b in range(streams)])
        places = (begin[None, :] + position + np.arange(frames)[:, None]) % length
        return [torch.from_numpy(array[places]) for array in (self.symbols, self.targets, self.resets)]


def clip(parameters, most):
    """Scales the gradients so that their norm over all weights is at most `most`."""
    norm = torch.sqrt(sum((p.grad.double() ** 2).sum() for p in parameters))
    if norm > most:
        for p in parameters:
            p.grad.mul_(most / norm)


def losses(config, base, weights, updates):
    training = config["training"]
    streams, step = training["streams"], training["window"]
    if training.get("step", step) != step:
        raise SystemExit("PyTorch has no BPTT(h; h') with h' < h: leave out `training.step`")
    if training.get("warmup") or training.get("decay", "constant") != "constant":
        raise SystemExit("this script keeps the learning rate constant: leave out `warmup` and `decay`")
    line = Line(config, base)
    network = Network(weights)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(
        parameters, lr=training["learning_rate"], betas=tuple(training.get("betas", (0.9, 0.999))),
        eps=training.get("epsilon", 1e-8),
    )
    state, found = network.start(streams), []
    for update in range(updates):
        symbols, targets, resets = line.window(update * step, step, streams)
        state = [(h.detach(), c.detach()) for h, c in state]
        logits, state = network(symbols, resets, state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_SYMBOL)
        optimizer.zero_grad()
        loss.backward()
        if training.get("clip_norm"):
            clip(parameters, training["clip_norm"])
        optimizer.step()
        found.append(loss.item())
        print(f"update {update + 1}: loss {loss.item():.7f}", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path, help="train.toml")
    parser.add_argument("weights", help="initial weights, of `rnnc init`")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    options = parser.parse_args()
    config = tomllib.loads(options.config.read_text())
    found = losses(config, options.config.parent, load_file(options.weights), options.updates)
    result = {"made_with": {"torch": torch.__version__}, "losses": found}
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
