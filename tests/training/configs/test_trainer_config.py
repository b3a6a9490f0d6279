"""The section ``trainer``; how it is read and refused as a whole is tested with ``RunConfig``."""

import pytest

from rhm.training.configs.trainer_config import TrainerConfig


@pytest.mark.parametrize(
    ("settings", "chips"),
    [
        ({"batch_size": 8}, 8),
        ({"batch_size": 8, "accumulate": 4}, 2),
        ({"batch_size": 8, "devices": 2, "num_nodes": 2, "accumulate": 2}, 1),
    ],
)
def test_a_batch_is_dealt_to_devices_and_steps(settings: dict[str, int], chips: int) -> None:
    assert TrainerConfig(**settings).chips_at_once == chips  # type: ignore[arg-type]


def test_a_short_run_is_validated_once_at_its_end() -> None:
    assert TrainerConfig(steps=100, validate_every=250).epoch_steps == 100
    assert TrainerConfig(steps=500, validate_every=250).epoch_steps == 250


@pytest.mark.parametrize("name", ["precision", "accelerator", "select"])
def test_unknown_names_are_told_with_the_choice(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown {name}: choose"):
        TrainerConfig(**{name: "mine"})  # type: ignore[arg-type]
