"""A discriminator in training, and what it says of a generator's maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.learn.methods.generative import DISCRIMINATORS, RELATIVISTIC
from irst_stream.learn.training.settings import MethodTraining
from irst_stream.optics import FineGrid

__all__ = ["Adversary"]

RATE = 1e-4  # Adam's, constant


class Adversary:
    """A discriminator that takes one step for each of the generator's.

    relativistic: each map's logit is compared with the mean logit of the other kind, and both kinds teach both networks.
    """

    def __init__(self, network: nn.Module, *, relativistic: bool) -> None:
        self.network, self.relativistic = network.train(), relativistic
        self.optimizer = torch.optim.Adam(network.parameters(), lr=RATE)

    @classmethod
    def of(cls, settings: MethodTraining, device: torch.device) -> Adversary:
        """The discriminator of the settings' method."""
        grid = FineGrid(settings.division, (settings.patch, settings.patch))
        network = DISCRIMINATORS[settings.method](grid, settings.adversary_width).to(device)
        return cls(network, relativistic=settings.method in RELATIVISTIC)

    def step(self, maps: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Learn from maps and labels (B, H, W) in units of light.

        Returns "verdict", the generator's loss, which its gradient flows through, and "adversary", the discriminator's.
        """
        self.optimizer.zero_grad(set_to_none=True)
        own = self._loss(self.network(label), self.network(maps.detach()), target=1.0)
        own.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.network.requires_grad_(False)
        verdict = self._loss(self.network(label).detach(), self.network(maps), target=0.0)
        self.network.requires_grad_(True)
        return {"verdict": verdict, "adversary": own.detach()}

    def _loss(self, real: Tensor, fake: Tensor, target: float) -> Tensor:
        """Cross-entropy of the logits; target: what real maps are to be called, 1, or 0 for the generator's own loss."""
        if self.relativistic:
            real, fake = real - fake.mean(), fake - real.mean()
            return (_entropy(real, target) + _entropy(fake, 1 - target)) / 2
        return _entropy(fake, 1 - target) + (_entropy(real, target) if target else 0)

    def state_dict(self) -> dict[str, Any]:
        """The network's and the optimiser's state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, kept: dict[str, Any]) -> None:
        """Take up a kept state."""
        self.network.load_state_dict(kept["network"])
        self.optimizer.load_state_dict(kept["optimizer"])


def _entropy(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
