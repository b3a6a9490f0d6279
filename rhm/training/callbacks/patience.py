"""Early stopping that an interrupted run takes up again."""

import math

import lightning
from lightning.pytorch.callbacks import EarlyStopping


class Patience(EarlyStopping):
    """Ends training when the validation score has not risen for a number of validations.

    It must stand before the callback that writes checkpoints, which are to contain its count.

    Args:
        monitor: name of the validation score, of which more is better.
        validations: number of validations without improvement after which training ends.
    """

    def __init__(self, monitor: str, validations: int) -> None:
        # By default, Lightning counts at the end of an epoch, and once more when a run is resumed,
        # where there is no score yet.
        super().__init__(
            monitor,
            mode="max",
            patience=validations,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Compare the score with the best one; it is no number where no chip shows a building."""
        if not math.isnan(float(trainer.callback_metrics[self.monitor])):
            super().on_validation_end(trainer, pl_module)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """End the training of a run that had already ended when it was interrupted."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
