"""The end of a run: the best checkpoint, its threshold, and its metrics."""

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from rhm.adapters import attachment_of, merge
from rhm.adapters.spectra import save_snapshot, take_snapshot
from rhm.analysis.taps import stages
from rhm.data.chips import Chip, UnlabelledChip
from rhm.data.labels import IGNORE
from rhm.errors import AnalysisError
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import building_logits, building_truth
from rhm.models.expected_iou import ExpectedIoU
from rhm.models.model_file import save_adapted
from rhm.models.score_calibration import ScoreCalibration
from rhm.training.callbacks.checkpoints import read_first
from rhm.training.callbacks.run_cost import collect_cost
from rhm.training.callbacks.update_recorder import FINAL
from rhm.training.config import RunConfig
from rhm.training.configs.trainer_config import SELECT
from rhm.training.devices import deterministic
from rhm.training.metrics import CalibrationBins
from rhm.training.run import Run
from rhm.training.unlabelled.target_config import THRESHOLD

_LOG = logging.getLogger(__name__)

_CPU = torch.device("cpu")

_Found = TypeVar("_Found")


def finish(
    run: Run,
    model: SegmentationModel,
    config: RunConfig,
    val: DataLoader[Chip] | None,
    target: DataLoader[UnlabelledChip] | None = None,
    *,
    calibrate: Callable[[SegmentationModel], ScoreCalibration | None] | None = None,
    device: torch.device,
) -> dict[str, float]:
    """Load the best checkpoint, choose the threshold, calibrate scores, and write the metrics.

    Without a best one, because there are no validation images, none of them shows a building or the
    file is damaged, it is the last. An adapted model is written as an adapter, too, and merged with
    its base.

    Args:
        run: folder of the run.
        model: network after the last training step, changed in place.
        config: configuration of the run.
        val: validation chips.
        target: unlabelled chips of the place that a model was adapted to without labels, on which
            its threshold is chosen, unless the configuration gives one.
        calibrate: function that calibrates the scores of footprints.
        device: device to predict on; from a CUDA device, the model comes back to the CPU.

    Returns:
        The validation scores of the checkpoint, by name; empty if there are none.

    Raises:
        ConfigError: all checkpoints are damaged.
    """
    step, is_best = _take_checkpoint(run, model, scored=val is not None)
    # Without validation chips, the IoU that the base expects at home is what an adapted model is
    # compared with elsewhere.
    threshold, expected = config.model.threshold, model.spec.expected_iou
    if val is not None:
        bins = measured_on(device, model, partial(calibration, chips=val))
        if threshold is None:
            threshold = choose_threshold(bins, default=model.spec.threshold)
        expected = bins.expected_iou(threshold)
    elif target is not None and threshold is None:
        threshold = measured_on(device, model, partial(threshold_of_target, chips=target))
    _LOG.info("the model is that of step %d; expected IoU on validation: %s", step, expected)
    # The calibration of a base belongs to its weights.
    same_weights = config.target.method == THRESHOLD
    model.spec = replace(
        model.spec,
        threshold=model.spec.threshold if threshold is None else threshold,
        expected_iou=expected,
        score_calibration=model.spec.score_calibration if same_weights else None,
    )
    if calibrate is not None and not same_weights:
        scores = measured_on(device, model.eval(), calibrate)
        model.spec = replace(model.spec, score_calibration=scores)
        if scores is None:
            _LOG.warning(
                "too few labelled buildings are left for validation: the scores of footprints are "
                "mean probabilities, not precisions"
            )
    if attachment_of(model) is not None:
        if config.adapter.method != "full":
            save_adapted(model, run.adapter)
        if config.adapter.update() is not None:
            save_snapshot(take_snapshot(model, step), run.updates / FINAL)
        merge(model)
    run.collect_metrics(_watched(model) if config.analysis.every else ())
    collect_cost(run.folder)
    return run.best_scores(SELECT[config.trainer.select], step=None if is_best else step)


def _watched(model: SegmentationModel) -> tuple[str, ...]:
    """Return the stages whose features are recorded, in order; none if they cannot be told."""
    try:
        return stages(model.network, bands=model.spec.bands)
    except AnalysisError:  # then none was recorded, which a warning told
        return ()


def _take_checkpoint(run: Run, model: SegmentationModel, *, scored: bool) -> tuple[int, bool]:
    """Load the best checkpoint, or the last one if none was better than another.

    The last one has what the network itself may lack: the mean of its weights over the steps, if
    the run was interrupted after the last of them.

    Returns:
        The step of the checkpoint, 0 if nothing was trained, and whether no other was better.
    """
    checkpoint = read_first((run.best, run.last), model.state_dict(), prefix="model.")
    if checkpoint is None:
        return 0, True
    if scored and not run.best.is_file():
        _LOG.warning("no validation chip shows a building: the last checkpoint is kept")
    model.load_state_dict(checkpoint.state)
    return checkpoint.step, checkpoint.path == run.best or not run.best.is_file()


def measured_on(
    device: torch.device, model: SegmentationModel, measure: Callable[[SegmentationModel], _Found]
) -> _Found:
    """Return what a function finds out with a model, on a CUDA device if that has the memory.

    A run whose training has succeeded is not to fail for lack of the device's memory: the CPU takes
    over.

    Args:
        device: device to compute on, deterministically; if it is no CUDA device, the model stays
            where it is.
        model: network; it leaves a CUDA device for the CPU afterwards.
        measure: function of the network, which may be called twice.

    Returns:
        What the function returns. Errors other than a lack of memory are raised as they are.
    """
    if device.type == "cuda":
        try:
            with deterministic():
                return measure(model.to(device))
        except RuntimeError as error:
            if not _is_lack_of_memory(error):
                raise
            _LOG.warning("%s has too little memory: calibrating the model on the CPU", device)
        finally:
            model.to(_CPU)
    return measure(model)


def _is_lack_of_memory(error: RuntimeError) -> bool:
    # cuBLAS and cuDNN have errors of their own: CUBLAS_STATUS_ALLOC_FAILED, for instance.
    return isinstance(error, torch.cuda.OutOfMemoryError) or "ALLOC_FAILED" in str(error)


def choose_threshold(bins: CalibrationBins, *, default: float) -> float:
    """Return the threshold that gives the best IoU, or a default if no chip shows a building."""
    best = bins.best_threshold()
    return default if math.isnan(best) else best


def threshold_of_target(model: SegmentationModel, chips: DataLoader[UnlabelledChip]) -> float:
    """Return the threshold with the highest expected IoU over unlabelled chips.

    It is that of the model if its probabilities imply too few buildings to choose by.
    """
    device = next(model.parameters()).device
    counted = ExpectedIoU(model.spec.threshold)
    model.eval()
    with torch.inference_mode():
        for chip in chips:
            logits = building_logits(model(chip["image"].to(device)))
            counted.add(logits.float().sigmoid().cpu().numpy(), chip["valid"].numpy())
    found = counted.implied_threshold()
    if found is None:
        _LOG.warning(
            "the unlabelled images show too few buildings to choose a threshold by: it stays %.3g",
            model.spec.threshold,
        )
        return model.spec.threshold
    return found


def calibration(model: SegmentationModel, chips: DataLoader[Chip]) -> CalibrationBins:
    """Return the calibration of a model on labelled chips, in 200 bins of probability."""
    device = next(model.parameters()).device
    nothing = np.zeros(0)
    bins = CalibrationBins.of(nothing, nothing, bins=200)
    model.eval()
    with torch.inference_mode():
        for chip in chips:
            logits = building_logits(model(chip["image"].to(device)))
            probability = logits.sigmoid().cpu().numpy()
            truth = building_truth(chip["mask"]).numpy()
            bins += CalibrationBins.of(probability, truth == 1, truth != IGNORE, bins=200)
    return bins
