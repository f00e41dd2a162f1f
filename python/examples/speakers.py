"""Which of nine speakers says a vowel: a cell of one's own on sequences of different lengths, packed into streams without padding.

    pip install ./python[torch] && pip install --no-deps aeon     # aeon's wheel has the data
    python python/examples/speakers.py                            # a minute on two cores

The data are the Japanese Vowels of M. Kudo, J. Toyama & M. Shimbo (1999): 12 numbers a frame, 7 to 29 frames a vowel.
"""

import importlib.util
import pathlib
import sys
import time

import torch
from rnnc.torch import Recurrent, pack

# A gated cell with two speeds, as equations: the whole definition.
NETWORK = """
cell two_speeds(x; n) {
    keep = sigmoid(dense(x, fast[t-1]; n, bias = 1))
    fast = keep * fast[t-1] + (1 - keep) * tanh(dense(x, fast[t-1], slow[t-1]; n))
    slow = 0.95 * slow[t-1] + 0.05 * fast
    h = concat(fast, slow)
    return h
}

network speakers {
    input x : vector(12)
    h = two_speeds(dropout(x; 0.1); 96)
    y = dense(layer_norm(h); 9)
    output y
}
"""


def load(part: str) -> tuple[list[torch.Tensor], list[int]]:
    found = importlib.util.find_spec("aeon")
    if found is None or not found.submodule_search_locations:
        sys.exit("this example reads data of the package aeon: pip install --no-deps aeon")
    path = pathlib.Path(found.submodule_search_locations[0]) / f"datasets/data/JapaneseVowels/JapaneseVowels_{part}.ts"
    lines = [line for line in path.read_text().splitlines() if line and line[0] not in "@#"]
    sequences, speakers = [], []
    for line in lines:
        *dimensions, speaker = line.split(":")
        numbers = [[float(number) for number in dimension.split(",")] for dimension in dimensions]
        sequences.append(torch.tensor(numbers).T)  # [T, 12]
        speakers.append(int(speaker) - 1)
    return sequences, speakers


def main(seconds: float = 40) -> float:
    torch.manual_seed(1)
    rnn = Recurrent(NETWORK)
    print(rnn)
    print(rnn.explain(streams=16, frames=64))
    sequences, speakers = load("TRAIN")
    mean, deviation = torch.cat(sequences).mean(0), torch.cat(sequences).std(0)
    optimizer = torch.optim.AdamW(rnn.parameters(), lr=3e-3, weight_decay=1e-2)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=-1)
    begun, epoch = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        order = torch.randperm(len(sequences)).tolist()
        total = 0.0
        for chosen in (order[place : place + 90] for place in range(0, len(order), 90)):
            packed = pack([(sequences[i] - mean) / deviation for i in chosen], streams=16)
            # In each frame of a vowel, its speaker; -1 where there is no vowel.
            target = packed.pack([torch.full((len(sequences[i]),), speakers[i]) for i in chosen], padding=-1)
            y, _ = rnn(packed.values, resets=packed.resets)
            loss = loss_of(y.flatten(0, 1), target.flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(rnn.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        epoch += 1
        if epoch % 50 == 0:
            print(f"epoch {epoch}: loss {total / 3:.3f}")
    rnn.eval()
    sequences, speakers = load("TEST")
    with torch.no_grad():
        packed = pack([(sequence - mean) / deviation for sequence in sequences], streams=16)
        y, _ = rnn(packed.values, resets=packed.resets)
        found = [one.log_softmax(-1).sum(0).argmax().item() for one in packed.unpack(y)]
    right = sum(a == b for a, b in zip(found, speakers)) / len(speakers)
    print(f"{epoch} epochs; {right:.1%} of {len(speakers)} vowels of the test set are given to their speaker")
    return right


if __name__ == "__main__":
    main()
