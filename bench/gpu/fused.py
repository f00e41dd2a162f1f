"""FlashRNN's fused kernel for LSTMs, in bf16, where it can be imported. Its inputs are sums of products that are there
already, so its times lack the input's product, which rnnc's and PyTorch's have."""

import math

from cases import Case

# It has not been run with this script so far: as it stands, it does not build with CUDA 13.


def run(part, torch, device, options, timed):
    if device != "cuda":
        return part.skip("FlashRNN", "no GPU is used")
    try:
        from flashrnn import flashrnn
    except Exception as error:  # it compiles parts of itself, which may fail in many ways
        return part.skip("FlashRNN", f"it cannot be imported: {type(error).__name__}: {error}"[:300])
    for size in options.sizes:
        for streams in options.streams:
            case = Case("lstm", size, streams, options.frames, precision="bf16")
            if not part.has_time(f"FlashRNN {case}", 5):
                continue
            try:
                found = one(torch, flashrnn, timed, case, options.seconds)
            except Exception as error:
                part.skip(f"FlashRNN {case}", f"{type(error).__name__}: {error}"[:300])
                continue
            part.add(program="flashrnn", **case.facts("FlashRNN"), timed="device", **found)


def one(torch, flashrnn, timed, case, seconds):
    def random(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)
    # Gates, heads, units; one head is a full matrix.
    weights = (random(4, 1, case.size, case.size) / math.sqrt(case.size)).requires_grad_()
    bias = random(4, 1, case.size).requires_grad_()

    def forward(x):
        return flashrnn(x, weights, bias, function="lstm", backend="cuda_fused")[0][0]
    return timed(torch, "cuda", forward, [weights, bias], random(case.streams, case.frames, 4, 1, case.size),
                 random(case.streams, case.frames, 1, case.size), case.frames, seconds)
