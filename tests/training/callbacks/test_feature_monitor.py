"""What is recorded of features in training: the same numbers as from the model afterwards."""

from collections.abc import Callable

import numpy as np
import pandas
import pytest
import torch
from torch.nn import functional

from rhm.analysis.collapse import collapse
from rhm.analysis.feature_grid import labels_on_grid
from rhm.analysis.moments import ClassMoments
from rhm.analysis.separation import separation
from rhm.analysis.taps import Taps, stages
from rhm.data.labels import IGNORE
from rhm.models.heads import classifier_rows
from rhm.models.model_file import load_model
from rhm.training.callbacks.feature_monitor import AnalysisConfig
from rhm.training.config import RunConfig
from rhm.training.datamodule import ChipDataModule
from rhm.training.fitting import fit
from rhm.training.imagery import gather
from rhm.training.run import Run

Make = Callable[..., RunConfig]


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_a_run_records_what_its_features_do(tiny: Make, head: str) -> None:
    analysis = {"every": 2, "chips": 64, "cells": 10**6, "purity": 0.9}
    # Of random features the class means nearly agree, and what is between them is rounding.
    pretrained = {"encoder": "tf_efficientnet_lite0", "weights": "bundled"}
    config = tiny(head, analysis=analysis, model={"head": head} | pretrained)
    run = fit(config)
    metrics = pandas.read_csv(run.folder / "metrics.csv")
    recorded = metrics.dropna(subset=["nc1"])
    assert len(recorded) == 1
    # The last validation is of the weights that the last checkpoint holds.
    state = torch.load(run.last, weights_only=True)["state_dict"]
    model = load_model(run.model)
    weights = {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
    model.load_state_dict(weights)
    loader = ChipDataModule(config, gather(config), model.spec).val_dataloader()
    moments, classified = ClassMoments(2, 16), ClassMoments(2, 16)
    with torch.no_grad(), Taps(model.network, ["decoder"]) as taps:
        for batch in loader:
            model(batch["image"])
            rows = taps.features["decoder"].permute(0, 2, 3, 1).reshape(-1, 16)
            mask = batch["mask"][:, 0]
            labels = labels_on_grid(mask, (64, 64), 2, ignore_index=IGNORE).reshape(-1)
            moments.update(rows, labels, ignore_index=IGNORE)
            # A cosine head ignores the length of its features.
            seen = functional.normalize(rows, dim=1) if head == "cosine" else rows
            classified.update(seen, labels, ignore_index=IGNORE)
    found = separation(moments, weighting="classes")
    metric = collapse(classified, classifier_rows(model.network))
    row = recorded.iloc[0]
    assert row["compression/decoder"] == pytest.approx(found.compression, rel=1e-4)
    assert row["discrimination/decoder"] == pytest.approx(found.discrimination, rel=1e-3, abs=1e-6)
    assert row["nc1"] == pytest.approx(metric.nc1, rel=1e-3)
    assert row["nc3"] == pytest.approx(metric.nc3, rel=1e-3)
    assert row["self_duality"] == pytest.approx(metric.self_duality, rel=1e-3)
    assert np.isfinite(row["compression/encoder[1]"])
    assert not any(module._forward_hooks for module in model.modules())
    # The columns are in the order of computation, in which the page shows them.
    columns = metrics.columns[metrics.columns.str.startswith("compression/")]
    watched = list(columns.str.removeprefix("compression/"))
    assert watched == [name for name in stages(model.network) if name in watched]


def test_looking_at_features_does_not_change_the_weights(
    tiny: Make, stored: Callable[..., Run]
) -> None:
    watched = fit(tiny("watched", analysis={"every": 1, "chips": 4}))
    one, other = (load_model(run.model) for run in (stored(), watched))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_an_encoder_that_begins_at_a_quarter_is_watched_too(tiny: Make) -> None:
    model = {"encoder": "test_convnext", "weights": "none"}
    run = fit(tiny(model=model, analysis={"every": 2, "purity": 0.6}))
    columns = set(pandas.read_csv(run.folder / "metrics.csv").columns)
    assert {"nc1", "compression/encoder[2]", "compression/decoder"} <= columns
    assert "compression/encoder[1]" not in columns


@pytest.mark.parametrize("values", [{"every": -1}, {"chips": 0}, {"cells": 0}, {"purity": 0.5}])
def test_what_cannot_be_recorded_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"at least|purity"):
        AnalysisConfig(**values)  # type: ignore[arg-type]
