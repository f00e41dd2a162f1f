"""A model of an amplifier: one long recording, truncated backpropagation through time, then sample by sample.

    pip install ./python[torch]
    python python/examples/amplifier.py                           # a minute on two cores

The recording is made here: plucked strings, and what a distorting amplifier with a slow power supply makes of them. The model is an LSTM
of 24 units. It learns in windows of 256 samples, with its state carried from window to window.
"""

import math
import time

import numpy as np
import torch
from rnnc.torch import Recurrent, Stream, detach

RATE = 16_000
NETWORK = """
network amplifier {
    input x : vector(1)
    h = lstm(x; 24)
    y = dense(h; 1) + x
    output y
}
"""


def strings(seconds: float, generator: torch.Generator) -> torch.Tensor:
    """Notes that begin anew every quarter of a second."""
    length = RATE // 4
    time_of_note = torch.arange(length) / RATE
    notes = []
    for _ in range(int(4 * seconds)):
        pitch = 82 * 2 ** (torch.randint(36, (), generator=generator).item() / 12)
        loudness = 0.2 + 0.8 * torch.rand((), generator=generator)
        note = sum(torch.sin(2 * math.pi * k * pitch * time_of_note) / k**1.5 for k in range(1, 6))
        notes.append(loudness * 0.5 * note * torch.exp(-6 * time_of_note))
    return torch.cat(notes)


def amplify(x: np.ndarray) -> np.ndarray:
    """The amplifier to be learned: its supply sags as it is loaded, and it distorts."""
    y, supply, low = np.zeros_like(x), 1.0, 0.0
    for t, sample in enumerate(x):
        out = supply * math.tanh(3 * sample + 0.3)
        supply += 0.01 * (1.0 - 0.5 * abs(out) - supply)
        low += 0.2 * (out - low)
        y[t] = low
    return y


def main(seconds: float = 40) -> float:
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(2)
    sound = strings(24, generator)
    wanted = torch.from_numpy(amplify(sound.numpy().astype(np.float64))).float()
    split = 20 * RATE
    rnn = Recurrent(NETWORK)
    # 16 streams of the recording side by side, 256 samples at a time.
    stream = Stream(sound[:split, None], wanted[:split, None], streams=16, frames=256)
    optimizer = torch.optim.Adam(rnn.parameters(), lr=5e-3)
    begun, passes = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds:
        state, errors = None, []
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - now / seconds) + 1e-4
        for x, target, _ in stream:
            y, state = rnn(x, state=detach(state))
            loss = (y - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            errors.append(loss.item())
        passes += 1
        if passes % 10 == 1:
            print(f"pass {passes}: error {np.mean(errors) / wanted.square().mean().item():.5f} of the signal's power")
    # As an effect runs it: sample by sample, on sound that it has not seen.
    session = rnn.session()
    x, target = sound[split:].numpy()[:, None], wanted[split:].numpy()
    begun = time.perf_counter()
    y = np.array([session.step(sample)[0] for sample in x])
    took = (time.perf_counter() - begun) / len(x)
    error = float(np.mean((y - target) ** 2) / np.mean(target**2))
    print(f"{passes} passes; on unseen sound the error is {error:.5f} of the signal's power; {took * 1e6:.1f} us a sample")
    return error


if __name__ == "__main__":
    main()
