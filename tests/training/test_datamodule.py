"""The chips of a run; laws: one seed gives one sequence, and validation covers images once."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rhm.data.labels import Label
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import build_model
from rhm.training.imagery import gather

Make = Callable[..., RunConfig]


def module_of(config: RunConfig) -> ChipDataModule:
    material = gather(config)
    return ChipDataModule(config, material, build_model(config, material).spec)


def test_the_same_seed_gives_the_same_chips(tiny: Make) -> None:
    first, again, other = (
        list(module_of(tiny(seed=seed)).train_dataloader()) for seed in (1, 1, 2)
    )
    assert len(first) == 2  # an epoch ends with a validation, every two steps
    for one, two, three in zip(first, again, other, strict=True):
        assert one["image"].shape == (4, 3, 64, 64)
        assert torch.equal(one["image"], two["image"])
        assert torch.equal(one["mask"], two["mask"])
        assert not torch.equal(one["image"], three["image"])


def test_accumulated_batches_are_parts_of_the_same_global_ones(tiny: Make) -> None:
    whole = list(module_of(tiny()).train_dataloader())
    parts = list(module_of(tiny(trainer={"accumulate": 2})).train_dataloader())
    assert len(parts) == 2 * len(whole)
    joined = torch.cat([batch["image"] for batch in parts])
    assert torch.equal(joined, torch.cat([batch["image"] for batch in whole]))


def test_the_first_batches_are_those_that_training_sees_first(tiny: Make) -> None:
    module = module_of(tiny())
    for one, other in zip(module.first_batches(2), module.train_dataloader(), strict=True):
        assert torch.equal(one["image"], other["image"])


def test_validation_shows_every_pixel_of_every_image_once(tiny: Make) -> None:
    module = module_of(tiny(data={"chip_px": 32}))
    masks = torch.cat([batch["mask"] for batch in module.val_dataloader()])
    expected = 0
    for tile in module.material.val:
        assert tile.label is not None
        with tile.open() as raster, Label(tile.label, raster) as label:
            expected += int((label.read() == 1).sum())
    assert int((masks == 1).sum()) == expected
    assert int((masks != 255).sum()) == len(module.material.val) * 96 * 96


@pytest.mark.parametrize("sampling", ["uniform", "domain", "distance"])
def test_matched_chips_are_not_the_plain_ones(tiny: Make, sampling: str) -> None:
    augment = {"colour": "rhm", "bank": "sources", "p": 1.0, "sampling": sampling}
    matched = next(iter(module_of(tiny(augment=augment)).train_dataloader()))
    plain = next(iter(module_of(tiny()).train_dataloader()))
    assert torch.equal(matched["mask"], plain["mask"])
    assert not torch.equal(matched["image"], plain["image"])
    assert np.isfinite(matched["image"].numpy()).all()
