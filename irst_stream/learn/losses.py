"""What training minimises. Light is in shares of a scale, positions are in px."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from irst_stream.unmix.engine import LOG_SD

__all__ = ["Targets", "by_cell", "by_mixture", "map_error"]

LOG_2PI = math.log(2 * math.pi)


class Targets(NamedTuple):
    """The truth of B windows' centre frames, K places each.

    xy (B, K, 2) px of the patch; amplitude (B, K) DN; exists (B, K) bool; label (B, H, W) DN, amplitudes in their cells.
    """

    xy: Tensor
    amplitude: Tensor
    exists: Tensor
    label: Tensor


def map_error(fine_map: Tensor, label: Tensor, scale: Tensor) -> Tensor:
    """The mean squared error of maps (B, H, W) DN to their labels, in shares of the scale (B, 1, 1) DN."""
    return F.mse_loss(fine_map.float() / scale, label / scale)


def by_mixture(raw: Tensor, scale: Tensor, targets: Targets, centres: Tensor) -> Tensor:
    """The alternative, after DECODE: how likely the number of targets is, and each target under all cells' claims together.

    A target may be claimed by any cell near it, so cells need not agree on who has it before they say where it is.
    Raw claims (B, 7, H, W); centres (H, W, 2), x, y of the cells, px.
    """
    claim = _claims(raw, centres)
    log_presence = F.logsigmoid(claim[:, :, 0])
    presence = log_presence.exp()
    number = targets.exists.sum(1)
    spread = (presence * (1 - presence)).sum(1) + 1e-2
    miscount = (presence.sum(1) - number) ** 2 / (2 * spread) + 0.5 * torch.log(spread)
    weight = log_presence - presence.sum(1, keepdim=True).log()
    shares = weight[:, None] + _log_likelihood(claim, targets, scale)  # (B, K, cells)
    missed = -torch.logsumexp(shares, dim=2)
    return (miscount + (missed * targets.exists).sum(1)).mean()


def by_cell(raw: Tensor, scale: Tensor, targets: Targets, centres: Tensor) -> Tensor:
    """The default: cross-entropy of presence in each cell, and each target under the claim of its own cell.

    Arguments as those of by_mixture.
    """
    claim = _claims(raw, centres)
    away = targets.xy[:, :, None] - centres.flatten(0, 1)
    own = away.square().sum(-1).argmin(2)  # (B, K)
    held = torch.zeros_like(claim[:, :, 0])
    held.scatter_add_(1, own, targets.exists.to(held))
    presence = F.binary_cross_entropy_with_logits(claim[:, :, 0], held.clamp(max=1), reduction="none").sum(1)
    likelihood = _log_likelihood(claim, targets, scale).gather(2, own[:, :, None])[:, :, 0]
    return (presence - (likelihood * targets.exists).sum(1)).mean()


def _claims(raw: Tensor, centres: Tensor) -> Tensor:
    """(B, cells, 7): raw claims by cell, x and y as places in the patch."""
    flat = raw.float().flatten(2).movedim(1, 2)
    return torch.cat([flat[..., :1], flat[..., 1:3] + centres.flatten(0, 1), flat[..., 3:]], dim=2)


def _log_likelihood(claim: Tensor, targets: Targets, scale: Tensor) -> Tensor:
    """(B, K, cells): of each target under each cell's Gaussian of place and brightness."""
    light = targets.amplitude / scale.flatten(1)
    truth = torch.cat([targets.xy, light[..., None]], dim=2)  # (B, K, 3)
    log_sd = claim[:, None, :, [3, 4, 6]].clamp(*LOG_SD)
    away = (truth[:, :, None] - claim[:, None, :, [1, 2, 5]]) * torch.exp(-log_sd)
    return -(0.5 * away.square() + log_sd + 0.5 * LOG_2PI).sum(-1)
