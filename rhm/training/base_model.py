"""The finished model that an adaptation starts from."""

from dataclasses import replace
from typing import Any

import torch

import rhm
from rhm.adapters.adapter_file import base_hash
from rhm.errors import ConfigError
from rhm.files import write_text
from rhm.models.build import ModelConfig, SegmentationModel
from rhm.models.building_classes import separation_of
from rhm.models.model_file import load_model
from rhm.models.spec import load_spec
from rhm.training.config import RunConfig, parse_config
from rhm.training.imagery import Material
from rhm.training.run import Run
from rhm.training.unlabelled.target_config import MEASURED

_LICENCES_APART = "; "


def with_base(config: RunConfig) -> RunConfig:
    """Return a configuration completed with the settings that its base model determines.

    A configuration without a base model is returned unchanged.

    Raises:
        ConfigError: the section ``model`` describes another network, or has settings that apply
            only to new models.
        ModelFileError: the base model cannot be read.
    """
    if config.adapter.base is None:
        return config
    spec, plain = load_spec(config.adapter.base), ModelConfig()
    decided: dict[str, Any] = {
        "architecture": spec.architecture,
        "encoder": spec.encoder,
        "standardize": spec.standardize,
        "head": spec.head,
        "separation": separation_of(spec.classes) or "none",
        "weights": "none",
    }
    for key, value in decided.items():
        given = getattr(config.model, key)
        if given not in (value, getattr(plain, key)):
            raise ConfigError(f"model.{key} is {given}, but adapter.base has {value}: leave it out")
    for key in ("temperature", "learn_temperature", "batch_norm"):
        if getattr(config.model, key) != getattr(plain, key):
            raise ConfigError(
                f"model.{key} applies only to new models: leave it out if adapter.base is set"
            )
    adapter = config.adapter
    if config.target.method in MEASURED:
        # They train nothing, whatever the method of the adapter.
        adapter = replace(adapter, method="batch-norm", batch_norm="statistics", trained=None)
    sections = {
        "model": replace(config.model, **decided),
        "adapter": adapter,
        "data": replace(config.data, gsd_m=config.data.gsd_m or spec.gsd_m),
    }
    return parse_config({**dict(config), **sections})


def base_model(config: RunConfig, material: Material) -> SegmentationModel:
    """Load the model that a run adapts, with the description of the adapted model.

    Raises:
        ModelFileError: the model cannot be read.
    """
    model = load_model(str(config.adapter.base))
    spec = model.spec
    model.spec = replace(
        spec,
        scalings=dict(material.scalings),
        gsd_m=config.data.gsd_m or material.gsd_m,
        method=", ".join([spec.method, *_added(config)]),
        sources=tuple(dict.fromkeys([*spec.sources, *material.sources])),
        source_histograms={**spec.source_histograms, **material.unit_histograms()},
        training_images=spec.training_images + len(material.train),
        # Images without labels are no training images, and their catalog no other splits.
        split_hash=material.catalog.split_hash() if material.train else spec.split_hash,
        source_splits={**spec.source_splits, **material.catalog.split_hashes(material.sources)},
        seed=config.seed,
        licence=_licences(spec.licence, config.data.licence),
        rhm_version=rhm.__version__,
    )
    return model.train().to(memory_format=torch.channels_last)


def _licences(of_base: str, given: str) -> str:
    """Return the licences of the imagery of a base model and of that of its adaptation."""
    if not given:
        return of_base
    known = (of_base or "unknown").split(_LICENCES_APART)
    return _LICENCES_APART.join(dict.fromkeys([*known, given]))


def _added(config: RunConfig) -> list[str]:
    """Return what an adaptation adds to the name of the method in reports."""
    trained = [] if config.target.method in MEASURED else [config.adapter.method]
    return [*trained, *config.augment.names, *config.target.names]


def remember_base(run: Run, model: SegmentationModel) -> None:
    """Write a hash of the base model's weights to the folder of a run.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(run.base, base_hash(model) + "\n")


def check_base(run: Run) -> None:
    """Check that the base model has not changed since the run was started.

    Raises:
        ConfigError: the base is now another model.
        ModelFileError: the base model cannot be read.
    """
    base = run.config.adapter.base
    if base is None or not run.base.is_file():
        return
    if run.base.read_text(encoding="ascii", errors="replace").strip() != base_hash(
        load_model(base)
    ):
        raise ConfigError(
            f"{base} is no longer the model that {run.folder} was started with: restore that "
            "model, or choose another name"
        )
