"""Early stopping that an interrupted run takes up again."""

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
        # where there is no score yet. A score is no number where no chip shows a building.
        super().__init__(
            monitor,
            mode="max",
            patience=validations,
            check_finite=False,
            check_on_train_epoch_end=False,
        )

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """End the training of a run that had already ended when it was interrupted."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
