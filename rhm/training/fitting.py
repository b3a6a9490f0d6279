"""Training: from a configuration to a model file."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Protocol

import lightning
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar
from torch import Tensor, nn

import rhm
from rhm.adapters import attachment_of
from rhm.adapters.gradient import LossOf
from rhm.augmentation.mixstyle import MixStyle
from rhm.data.catalog import Tile
from rhm.data.chips import TargetSample
from rhm.documents import parse_yaml
from rhm.errors import ConfigError, ModelFileError
from rhm.files import atomic_path, write_text
from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.building_classes import SEPARATIONS
from rhm.models.encoders.encoder_weights import check_weights, input_statistics
from rhm.models.model_file import save_model
from rhm.models.score_calibration import ScoreCalibration
from rhm.models.spec import ModelSpec
from rhm.training.adaptation import adapt_network, trained_table
from rhm.training.base_model import base_model, check_base, remember_base, with_base
from rhm.training.callbacks.checkpoints import AtomicCheckpointIO, CheckpointWriter
from rhm.training.callbacks.cost_recorder import CostRecorder
from rhm.training.callbacks.feature_monitor import FeatureMonitor
from rhm.training.callbacks.patience import Patience
from rhm.training.callbacks.time_left import TimeLeft
from rhm.training.callbacks.trackers import all_loggers
from rhm.training.callbacks.update_recorder import UpdateRecorder
from rhm.training.callbacks.weight_average import WeightAverage
from rhm.training.config import RunConfig, read_config
from rhm.training.configs.trainer_config import SELECT
from rhm.training.datamodule import ChipDataModule
from rhm.training.devices import (
    check_number_of_gpus,
    check_one_chip,
    deterministic,
    synchronized_batch_norm,
)
from rhm.training.imagery import Material, gather
from rhm.training.losses import loss_of
from rhm.training.module import SegmentationModule, freeze_batch_norm
from rhm.training.results.card import model_card
from rhm.training.results.finishing import finish
from rhm.training.run import Run
from rhm.training.unlabelled.batch_statistics import measure_statistics, set_statistics
from rhm.training.unlabelled.target_config import ADABN, MEASURED, METHODS, THRESHOLD

_LOG = logging.getLogger(__name__)


class Calibrate(Protocol):
    """Function that calibrates the scores of a model's footprints on labelled images."""

    def __call__(self, model: SegmentationModel, tiles: Sequence[Tile]) -> ScoreCalibration | None:
        """Return the calibration, or None if the images show too few footprints."""


def fit(
    config: RunConfig | str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: bool = False,
    calibrate: Calibrate | None = None,
) -> Run:
    """Train a model.

    All results are written to the folder of the run. With ``resume``, an interrupted run continues
    from its last checkpoint, and ends with the same weights as an uninterrupted run.

    Args:
        config: configuration, or path of its YAML file.
        resume: whether to continue the run of this name.
        progress: whether to show a progress bar.
        calibrate: function that calibrates the scores of footprints on the validation images, such
            as ``rhm.evaluation.footprint_precision.calibrate_scores``; by default, the score of a
            footprint is its mean probability.

    Returns:
        The folder of the run.

    Raises:
        ConfigError: the configuration does not fit the data, or a run of this name exists (with
            ``resume``: does not exist, or was started with other imagery), or another process is
            training it, or training diverged or ran out of memory, or all checkpoints are damaged.
        CatalogError: the catalog has no images to train on.
        BankError: the bank cannot be read or does not fit the imagery.
        OutputError: the disk is full.
    """
    if not isinstance(config, RunConfig):
        config = read_config(config)
    # Lightning's hints on devices and loggers concern developers of a training loop, not users.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, verbose=False)
    config = with_base(config)
    if resume:
        run = Run.resume(config)
        check_base(run)
        if run.model.is_file():
            return run
    else:
        Run.refuse_existing(config)
        config.refuse_unused()
    if config.adapter.base is None:
        check_weights(config.model.encoder, config.model.weights)
    material = _gathered(config, resume=resume)
    model = build_model(config, material)
    chips = ChipDataModule(config, material, model.spec)
    loss = loss_of(config.loss, model.spec.classes)
    if config.adapter.base is not None:
        losses_of = partial(_target_losses, config, loss, chips)
        adapt_network(
            model,
            config.adapter,
            loss,
            chips.first_batches,
            seed=config.seed,
            losses_of=losses_of if config.target.source_free else None,
            keep_head=METHODS[config.target.method].keeps_head,
        )
    _check_batch(model, config)
    labelled = bool(material.val)
    validated = labelled or config.trainer.select == "expected-iou"
    trainer = _trainer(config, validated=validated, labelled=labelled, progress=progress)
    run = Run(config.folder)
    with run.locked() if trainer.is_global_zero else nullcontext():
        if trainer.is_global_zero:
            _prepare(run, model, config, None if resume else material)
        with _mistakes_of_users():
            if config.target.method == ADABN:
                model.to(trainer.strategy.root_device)
                set_statistics(model, measure_statistics(model, chips.target_dataloader()))
            elif config.target.method != THRESHOLD:
                _train(model, loss, chips, trainer, run if resume else None)
        if trainer.is_global_zero:
            with _mistakes_of_users():
                val = chips.labelled_dataloader() if material.val else None
                scored = partial(calibrate, tiles=material.val) if calibrate else None
                target = chips.target_dataloader() if config.target.source_free else None
                device = trainer.strategy.root_device
                scores = finish(run, model, config, val, target, calibrate=scored, device=device)
            card = model_card(model.spec, config, material, scores)
            write_text(run.folder / "card.md", card)
            # Last, because a run that has a model is finished.
            save_model(model, run.model)
    return run


def _gathered(config: RunConfig, *, resume: bool) -> Material:
    """Return the imagery of a run, which does not change while it is interrupted."""
    material = gather(config)
    if resume:
        Run(config.folder).check_data(material.digest())
    return material


def _train(
    model: SegmentationModel,
    loss: nn.Module,
    chips: ChipDataModule,
    trainer: lightning.Trainer,
    resumed: Run | None,
) -> None:
    """Train a network, or continue from the newest checkpoint of a run that is resumed."""
    config = chips.config
    module = SegmentationModule(
        model,
        loss,
        config.optimizer,
        freeze_batch_norm=config.model.batch_norm == "frozen",
        seed=config.seed,
        target=config.target,
    )
    if module.method is not None:
        module.method.prepare(model, chips.first_target_batches)
    checkpoint = None if resumed is None else resumed.last_checkpoint(module.state_dict())
    synchronized = synchronized_batch_norm(model) if _synchronizes(config) else nullcontext()
    augment, bands = config.augment, model.spec.bands
    stages, alpha = augment.mixstyle_stages, augment.mixstyle_alpha
    styles = MixStyle(model.encoder, stages, p=augment.mixstyle, alpha=alpha, bands=bands)
    with synchronized, styles, deterministic(), warnings.catch_warnings():
        # Lightning's advice on the number of workers concerns developers, too.
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, datamodule=chips, ckpt_path=checkpoint, weights_only=True)


def _target_losses(
    config: RunConfig, loss: nn.Module, chips: ChipDataModule, count: int
) -> list[LossOf]:
    """Return the losses of the first batches of unlabelled chips, as functions of a network."""

    def loss_of(batch: TargetSample) -> LossOf:
        def value(model: nn.Module) -> Tensor:
            if not isinstance(model, SegmentationModel):
                raise TypeError(f"expected a SegmentationModel, got {type(model).__name__}")
            method = config.target.build(model, loss)
            if method is None:
                raise ValueError("a method without a loss has no gradient")
            method.prepare(model, chips.first_target_batches)
            return method.train().step(model, batch).loss

        return value

    return [loss_of(batch) for batch in chips.first_target_batches(count)]


def _prepare(
    run: Run, model: SegmentationModel, config: RunConfig, material: Material | None
) -> None:
    """Create the folder of a new run, and what its first attempt may have been too short for."""
    if material is not None:
        Run.begin(config).remember_data(material.digest())
    if attachment_of(model) is not None:
        remember_base(run, model)
        with atomic_path(run.folder / "trained.csv") as temporary:
            trained_table(model).to_csv(temporary, index=False)


@contextmanager
def _mistakes_of_users() -> Iterator[None]:
    """Raise as errors of this package, or as interrupts, what Lightning and torch report."""
    try:
        yield
    except SystemExit as error:
        # Lightning turns an interrupt and SIGTERM into SystemExit (with code 1 and without).
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        # The SIGTERM of a job scheduler also reaches the loader's workers, often first.
        if "is killed by signal: Terminated" in str(error):
            raise KeyboardInterrupt from error
        if isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error):
            raise ConfigError(
                "training needs more memory than there is: lower trainer.batch_size or "
                "data.chip_px, or raise trainer.accumulate"
            ) from error
        raise


def fit_once(
    config: RunConfig, *, progress: bool = False, calibrate: Calibrate | None = None
) -> Run:
    """Train a model if it is not finished yet: start or resume the run, or return it as it is.

    Raises:
        ConfigError: as for ``fit``, or the run of this name was started with other settings.
    """
    config = with_base(config)
    started = Run(config.folder).is_begun
    run = Run.resume(config) if started else Run(config.folder)
    if started:
        check_base(run)
    if run.model.is_file():
        return run
    return fit(config, resume=started, progress=progress, calibrate=calibrate)


def build_model(config: RunConfig, material: Material) -> SegmentationModel:
    """Build the network with its description; for an adaptation, load the base model.

    Raises:
        ConfigError: the network cannot be built, or the encoder's weights are missing or do not
            fit.
        ModelFileError: the base model cannot be read.
    """
    if config.adapter.base is not None:
        return base_model(config, material)
    bands = material.train[0].bands
    mean, std = input_statistics(config.model.encoder, bands, config.model.weights)
    spec = ModelSpec(
        architecture=config.model.architecture,
        encoder=config.model.encoder,
        bands=bands,
        classes=SEPARATIONS[config.model.separation],
        mean=mean,
        std=std,
        scalings=material.scalings,
        gsd_m=config.data.gsd_m or material.gsd_m,
        standardize=config.model.standardize,
        head=config.model.head,
        method=_method(config),
        sources=material.sources,
        source_histograms=material.unit_histograms(),
        training_images=len(material.train),
        split_hash=material.catalog.split_hash(),
        source_splits=material.catalog.split_hashes(material.sources),
        seed=config.seed,
        licence=config.data.licence,
        rhm_version=rhm.__version__,
    )
    try:
        model = SegmentationModel(
            spec,
            temperature=config.model.temperature,
            learn_temperature=config.model.learn_temperature,
        )
    except ModelFileError as error:
        raise ConfigError(f"model: {error}") from error
    loaded = load_encoder_weights(model, config.model.weights)
    if loaded is not None:
        _LOG.log(logging.INFO if loaded.complete else logging.WARNING, "%s", loaded)
    if config.model.batch_norm == "frozen":
        freeze_batch_norm(model)
    return model.to(memory_format=torch.channels_last)


def _method(config: RunConfig) -> str:
    """Return the name under which a report compares the run with others."""
    standardized = [] if config.model.standardize == "none" else [config.model.standardize]
    return ", ".join([*standardized, *config.augment.names, *config.target.names]) or "none"


def _check_batch(model: SegmentationModel, config: RunConfig) -> None:
    """Check that batch normalisation gets more than one value per channel and step."""
    adapts = config.adapter.base is not None
    norm = config.adapter.batch_norm if adapts else config.model.batch_norm
    if config.trainer.chips_at_once > 1 or norm == "frozen" or config.target.method in MEASURED:
        return
    frozen = f"{'adapter' if adapts else 'model'}.batch_norm=frozen"
    check_one_chip(model.spec, config.data.chip_px, frozen=frozen)


def _trainer(
    config: RunConfig, *, validated: bool, labelled: bool, progress: bool
) -> lightning.Trainer:
    run = Run(config.folder)
    settings = config.trainer
    check_number_of_gpus(settings.accelerator, settings.devices)
    monitor = SELECT[settings.select]
    callbacks: list[Callback] = []
    told = _LOG.warning if settings.is_main_process else _LOG.debug
    if settings.patience and not validated:
        told("trainer.patience does nothing: there are no validation images")
    if config.analysis.every and not labelled:
        told("analysis.every does nothing: there are no labelled validation images")
    if settings.patience and validated:
        callbacks.append(Patience(monitor, settings.patience))
    callbacks += [
        CheckpointWriter(run.last, run.best, monitor=monitor if validated else None),
        LearningRateMonitor("step"),
        CostRecorder(run.folder / "logs" / f"attempt_{run.next_attempt()}", settings.batch_size),
    ]
    if config.adapter.base is not None and config.adapter.update() is not None:
        callbacks.append(UpdateRecorder(run.updates))
    if config.analysis.every and labelled:
        callbacks.append(FeatureMonitor(config.analysis, seed=config.seed))
    if settings.average:
        # After what looks at a validated network, because it takes the mean out again.
        callbacks.append(WeightAverage(settings.steps, settings.average, settings.epoch_steps))
    callbacks.append(RichProgressBar() if progress else TimeLeft())
    trainer = lightning.Trainer(
        max_epochs=settings.steps // settings.epoch_steps,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=config.optimizer.clip_norm or None,
        precision=settings.precision,  # type: ignore[arg-type]
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy="ddp" if settings.devices * settings.num_nodes > 1 else "auto",
        use_distributed_sampler=False,
        log_every_n_steps=min(10, settings.epoch_steps),
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        logger=all_loggers(
            settings.trackers,
            run.folder,
            run.next_attempt(),
            parse_yaml(config.to_yaml()) if settings.trackers else {},
        ),
        plugins=[AtomicCheckpointIO()],
        callbacks=callbacks,
    )
    if trainer.precision != settings.precision:
        told(
            "trainer.precision is %s on this device, not %s", trainer.precision, settings.precision
        )
    return trainer


def _synchronizes(config: RunConfig) -> bool:
    # PyTorch synchronizes batch norms between GPUs only.
    settings = config.trainer
    on_gpu = settings.accelerator != "cpu" and torch.cuda.is_available()
    return on_gpu and settings.devices * settings.num_nodes > 1
