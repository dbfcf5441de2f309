"""Training losses. Amplitudes are in units of a light scale, positions in px."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the customary name

from irst_stream.unmix.engine import LOG_SD

__all__ = ["Targets", "cell_loss", "map_loss", "mixture_loss"]

LOG_2PI = math.log(2 * math.pi)


class Targets(NamedTuple):
    """The truth of B windows' centre frames, with up to K targets each.

    xy (B, K, 2) px of the patch; amplitude (B, K) DN; exists (B, K) bool; label (B, H, W) DN: the fine map with each
    target's amplitude in its cell.
    """

    xy: Tensor
    amplitude: Tensor
    exists: Tensor
    label: Tensor


def map_loss(fine_map: Tensor, label: Tensor, scale: Tensor) -> Tensor:
    """Mean squared error of maps (B, H, W) DN against labels (B, H, W) DN, in units of the scale (B, 1, 1) DN."""
    return F.mse_loss(fine_map.float() / scale, label / scale)


def mixture_loss(raw: Tensor, scale: Tensor, targets: Targets, centres: Tensor) -> Tensor:
    """Negative log-likelihood, after DECODE, of the number of targets and of each target under all cells' mixture.

    The alternative to cell_loss: any cell near a target may claim it, so cells need not agree on which one does.
    raw (B, 7, H, W): the head's output; scale (B, 1, 1, 1) DN; centres (H, W, 2): x, y of the cells, px.
    """
    claim = _claims_by_cell(raw, centres)
    log_presence = F.logsigmoid(claim[:, :, 0])
    presence = log_presence.exp()
    count = targets.exists.sum(1)
    variance = (presence * (1 - presence)).sum(1) + 1e-2
    count_loss = (presence.sum(1) - count) ** 2 / (2 * variance) + 0.5 * torch.log(variance)
    log_weight = log_presence - presence.sum(1, keepdim=True).log()
    log_terms = log_weight[:, None] + _log_likelihood(claim, targets, scale)  # (B, K, cells)
    target_loss = -torch.logsumexp(log_terms, dim=2)
    return (count_loss + (target_loss * targets.exists).sum(1)).mean()


def cell_loss(raw: Tensor, scale: Tensor, targets: Targets, centres: Tensor) -> Tensor:
    """Cross-entropy of presence in each cell, plus the negative log-likelihood of each target under its own cell's claim.

    The default loss. Arguments as in mixture_loss.
    """
    claim = _claims_by_cell(raw, centres)
    offset = targets.xy[:, :, None] - centres.flatten(0, 1)
    own = offset.square().sum(-1).argmin(2)  # (B, K)
    occupied = torch.zeros_like(claim[:, :, 0])
    occupied.scatter_add_(1, own, targets.exists.to(occupied))
    presence_loss = F.binary_cross_entropy_with_logits(claim[:, :, 0], occupied.clamp(max=1), reduction="none").sum(1)
    log_likelihood = _log_likelihood(claim, targets, scale).gather(2, own[:, :, None])[:, :, 0]
    return (presence_loss - (log_likelihood * targets.exists).sum(1)).mean()


def _claims_by_cell(raw: Tensor, centres: Tensor) -> Tensor:
    """(B, cells, 7): raw claims by cell, with x and y as positions in the patch, px."""
    flat = raw.float().flatten(2).movedim(1, 2)
    return torch.cat([flat[..., :1], flat[..., 1:3] + centres.flatten(0, 1), flat[..., 3:]], dim=2)


def _log_likelihood(claim: Tensor, targets: Targets, scale: Tensor) -> Tensor:
    """(B, K, cells): the log-likelihood of each target under each cell's Gaussian of position and amplitude."""
    light = targets.amplitude / scale.flatten(1)
    truth = torch.cat([targets.xy, light[..., None]], dim=2)  # (B, K, 3)
    log_sd = claim[:, None, :, [3, 4, 6]].clamp(*LOG_SD)
    residual = (truth[:, :, None] - claim[:, None, :, [1, 2, 5]]) * torch.exp(-log_sd)
    return -(0.5 * residual.square() + log_sd + 0.5 * LOG_2PI).sum(-1)
