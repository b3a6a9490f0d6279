"""The recorder counts the chips that the network saw, however a step is cut up."""

import warnings
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from rhm.training.callbacks.cost_recorder import CostRecorder
from rhm.training.callbacks.run_cost import read_cost
from rhm.training.config import RunConfig
from rhm.training.fitting import fit

Make = Callable[..., RunConfig]


class Counting(lightning.LightningModule):
    """Fits a line, and counts the chips that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen = 0

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        self.seen += len(batch[0])
        loss: torch.Tensor = (self.layer(batch[0]) ** 2).mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_images_are_those_that_training_saw(tmp_path: Path, accumulate: int) -> None:
    batch_size, epochs, steps = 8, 2, 3
    chips = TensorDataset(torch.ones(steps * batch_size, 1))
    module = Counting()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        callbacks=[CostRecorder(tmp_path, batch_size)],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, DataLoader(chips, batch_size=batch_size // accumulate))
    cost = read_cost(tmp_path)
    assert cost is not None
    assert cost.steps == epochs * steps
    assert cost.images == module.seen == epochs * steps * batch_size
    assert (cost.device, cost.devices, cost.device_memory_mb) == ("CPU", 1, None)


def test_a_run_that_accumulates_batches_counts_each_chip_once(tiny: Make) -> None:
    config = tiny("halves", trainer={"accumulate": 2})
    cost = read_cost(fit(config).folder)
    assert cost is not None
    assert cost.steps == config.trainer.steps
    assert cost.images == config.trainer.steps * config.trainer.batch_size
