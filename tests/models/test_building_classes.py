"""Outputs of networks with classes: probabilities of a softmax, and what follows from them."""

import pytest
import torch

from rhm.data.labels import IGNORE
from rhm.models.building_classes import (
    BOUNDARY,
    SEPARATIONS,
    building_logits,
    building_truth,
    class_probabilities,
    maps_of,
    probability_maps,
    separation_of,
)


def logits_of(name: str) -> torch.Tensor:
    outputs = len(SEPARATIONS[name])
    return 5.0 * torch.randn(2, outputs, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SEPARATIONS)
def test_the_building_probability_is_that_of_inside_and_boundary(name: str) -> None:
    logits = logits_of(name)
    maps = probability_maps(logits)
    assert maps.shape[1] == len(maps_of(SEPARATIONS[name]))
    torch.testing.assert_close(building_logits(logits).sigmoid(), maps[:, :1])
    if name == "none":
        assert torch.equal(maps, logits.sigmoid())
        return
    classes = class_probabilities(logits)
    torch.testing.assert_close(classes.sum(dim=1), torch.ones(2, 4, 6))
    torch.testing.assert_close(maps[:, 0], classes[:, 1] + classes[:, 2])
    assert torch.equal(maps[:, 1:], classes[:, BOUNDARY:])


def test_a_single_output_is_the_logit_of_building_itself() -> None:
    logits = logits_of("none")
    assert building_logits(logits) is logits


def test_separations_are_known_by_their_classes() -> None:
    for name, classes in SEPARATIONS.items():
        assert separation_of(classes) == name
    assert separation_of(("water",)) is None
    assert maps_of(SEPARATIONS["contact"]) == ("building", "boundary", "contact")


def test_the_truth_of_building_includes_the_boundary_and_not_the_contact() -> None:
    classes = torch.tensor([0, 1, 2, 3, IGNORE])
    assert building_truth(classes).tolist() == [0, 1, 1, 0, IGNORE]
    assert building_truth(torch.tensor([0, 1, IGNORE])).tolist() == [0, 1, IGNORE]
