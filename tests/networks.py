"""Networks for tests: random, but with alignment and time that matter."""

import torch

from irst_stream.learn.network import DeRefNet


def random_network(seed, dtype=torch.float32):
    torch.manual_seed(seed)
    made = DeRefNet().to(dtype).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "conv_offset" in name or name.endswith("slope"):
                parameter.normal_(0, 0.05)
    return made
