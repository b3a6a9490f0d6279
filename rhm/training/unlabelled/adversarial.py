"""Adversarial adaptation in output space: predictions are not to give the domain away."""

import copy
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rhm.data.chips import TargetSample
from rhm.data.labels import IGNORE
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits
from rhm.training.unlabelled.target_method import OWN, TargetMethod, TargetStep, run_both

_BETAS = (0.9, 0.99)
_SLOPE = 0.2


class AdversarialOutputs(TargetMethod):
    """Trains the network so that a discriminator takes its target outputs for source outputs.

    Tsai, Hung, Schulter, Sohn, Yang, Chandraker, "Learning to adapt structured output space for
    semantic segmentation" (AdaptSegNet), CVPR 2018, with one discriminator on the final maps. The
    discriminator has its own Adam, whose state is part of the module's state. As in the authors'
    program, both networks learn from the same outputs, the discriminator from detached ones.

    Args:
        classes: number of channels of the maps that it sees.
        width: channels of the discriminator's first layer.
        learning_rate: learning rate of the discriminator.
        statistics: one of ``target_method.STATISTICS``.
    """

    def __init__(
        self, classes: int, *, width: int, learning_rate: float, statistics: str = OWN
    ) -> None:
        super().__init__()
        self._statistics = statistics
        self.discriminator = discriminator(classes, width)
        self._optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=learning_rate, betas=_BETAS
        )
        self._stored: dict[str, Any] | None = None
        self._maps: list[tuple[Tensor, Tensor]] = []

    def step(self, model: SegmentationModel, batch: TargetSample) -> TargetStep:
        """Return the logits of the labelled chips and how well the unlabelled ones are told."""
        target = batch["target"]
        images = batch["image"], target["image"]
        labelled, unlabelled = run_both(model, *images, self._statistics)
        if labelled is None:
            raise ValueError("there are no labelled chips to tell the unlabelled ones from")
        # Nodata has no output that could look like another domain's. What one chip of a pair lacks
        # is hidden in both, or the shape of nodata would give the domain away.
        known = target["valid"] & (batch["mask"] != IGNORE)
        ours = building_logits(labelled).sigmoid() * known
        theirs = unlabelled.sigmoid() * known
        self._maps.append((ours.detach(), theirs.detach()))
        self.discriminator.requires_grad_(False)
        loss = _told(self.discriminator(theirs), from_source=True)
        self.discriminator.requires_grad_(True)
        return TargetStep(labelled, loss)

    def after_batch(self, model: SegmentationModel, *, stepped: bool) -> None:
        """Train the discriminator with the outputs of the batches of an optimiser step."""
        if not stepped:
            return
        self._take_up_state()
        self._optimizer.zero_grad()
        with torch.enable_grad(), torch.autocast(self._device.type, enabled=False):
            for ours, theirs in self._maps:
                errors = _told(self.discriminator(ours), from_source=True)
                errors = errors + _told(self.discriminator(theirs), from_source=False)
                torch.autograd.backward(0.5 * errors / len(self._maps))
        self._optimizer.step()
        self._maps.clear()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of the discriminator's optimiser."""
        self._take_up_state()
        return self._optimizer.state_dict()

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up the state of the discriminator's optimiser when it is next needed."""
        # Only then are the weights on the device that the state has to be moved to.
        self._stored = copy.deepcopy(dict(state))

    def _take_up_state(self) -> None:
        if self._stored is not None:
            self._optimizer.load_state_dict(self._stored)
            self._stored = None

    @property
    def _device(self) -> torch.device:
        return next(self.discriminator.parameters()).device


def discriminator(classes: int, width: int) -> nn.Sequential:
    """Return the fully convolutional discriminator of AdaptSegNet.

    Args:
        classes: number of channels of the maps.
        width: channels of the first of five layers; the next three double it.

    Returns:
        Network from maps (N, classes, H, W) of at least 32 pixels to logits (N, 1, H/32, W/32):
        positive where it takes them for source.
    """
    widths = [classes, width, 2 * width, 4 * width, 8 * width]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
    layers.append(nn.Conv2d(widths[-1], 1, 4, stride=2, padding=1))
    return nn.Sequential(*layers)


def _told(logits: Tensor, *, from_source: bool) -> Tensor:
    """Return the cross-entropy of taking maps for one domain."""
    truth = torch.full_like(logits, float(from_source))
    return functional.binary_cross_entropy_with_logits(logits, truth)
