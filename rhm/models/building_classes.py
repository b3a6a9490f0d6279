"""The outputs of a network, and what they say of each pixel.

A network without learned separation has one output, the logit of building. One that separates
buildings has an output for each class, and exactly one class applies to each pixel: the outputs are
the logits of a softmax. The classes are those of the winners of SpaceNet's building challenges, as
``ramp`` draws them:

    background  everything else
    building    the inside of a building
    boundary    the outermost pixels of a building, also where it touches another one
    contact     background between two near buildings

The number of outputs is that of the classes in the model's description, and nothing else says it.
``ModelSpec.classes`` names the outputs. From them come the *maps*, probabilities that are not
exclusive: the first is that a pixel is part of a building, with its boundary, and this is what
thresholds, expected IoU, masks and scores refer to.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = ("background", "building", "boundary", "contact")
"""Names of the classes, in the order of their numbers."""

BACKGROUND, BUILDING, BOUNDARY, CONTACT = range(len(CLASSES))

SEPARATIONS: dict[str, tuple[str, ...]] = {
    "none": ("building",),
    "boundary": CLASSES[:CONTACT],
    "contact": CLASSES,
}
"""How buildings are separated, by the names that configurations use: the classes of a network."""

_INSIDE = (BUILDING, BOUNDARY)


def separation_of(classes: tuple[str, ...]) -> str | None:
    """Return the name of the separation that has these classes, or None if there is none."""
    return next((name for name, each in SEPARATIONS.items() if each == classes), None)


def maps_of(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the maps of a network with these classes: building, then the others."""
    return ("building", *classes[BOUNDARY:])


def building_logits(logits: "Tensor") -> "Tensor":
    """Return the logits of building, (N, 1, H, W), of a network's outputs (N, K, H, W).

    A single output is returned unchanged.
    """
    if logits.shape[1] == 1:
        return logits
    inside = logits[:, list(_INSIDE)].logsumexp(dim=1, keepdim=True)
    outside = [BACKGROUND, *range(CONTACT, logits.shape[1])]
    return inside - logits[:, outside].logsumexp(dim=1, keepdim=True)


def class_probabilities(logits: "Tensor") -> "Tensor":
    """Return the probabilities of a network's classes, (N, K, H, W), of its logits (N, K, H, W)."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def probability_maps(logits: "Tensor") -> "Tensor":
    """Return the maps (N, M, H, W) of a network's outputs (N, K, H, W): see ``maps_of``."""
    probabilities = class_probabilities(logits)
    if logits.shape[1] == 1:
        return probabilities
    # Not at the top: descriptions of models are read without PyTorch, which takes seconds to load.
    import torch

    building = probabilities[:, list(_INSIDE)].sum(dim=1, keepdim=True)
    return torch.cat([building, probabilities[:, BOUNDARY:]], dim=1)


def building_truth(target: "Tensor") -> "Tensor":
    """Return the truth of a network's building probability, of the same shape and dtype.

    Args:
        target: integers: classes, or 1 on buildings and 0 elsewhere; ``IGNORE`` stays.

    Returns:
        1 on buildings with their boundary, 0 elsewhere, and ``IGNORE``.
    """
    return target.masked_fill(target == BOUNDARY, BUILDING).masked_fill(target == CONTACT, 0)
