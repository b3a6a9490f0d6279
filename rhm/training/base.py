"""The finished model that a run begins with."""

from dataclasses import replace
from typing import Any

import torch

import rhm
from rhm.errors import ConfigError
from rhm.models.build import ModelConfig, SegmentationModel
from rhm.models.file import load_model, load_spec
from rhm.training.config import RunConfig, parse_config
from rhm.training.material import Material


def with_base(config: RunConfig) -> RunConfig:
    """Return a configuration with what the model that it adapts decides; others as they are.

    Raises:
        ConfigError: the section ``model`` speaks of another network.
        ModelFileError: there is no such model.
    """
    if config.adapter.base is None:
        return config
    spec, plain = load_spec(config.adapter.base), ModelConfig()
    decided: dict[str, Any] = {
        "architecture": spec.architecture,
        "encoder": spec.encoder,
        "standardize": spec.standardize,
        "head": spec.head,
        "weights": "none",
    }
    for key, value in decided.items():
        given = getattr(config.model, key)
        if given not in (value, getattr(plain, key)):
            raise ConfigError(
                f"model.{key} is {given}, and that of adapter.base is {value}: leave it out"
            )
    sections = {
        "model": replace(config.model, **decided),
        "data": replace(config.data, gsd_m=config.data.gsd_m or spec.gsd_m),
    }
    return parse_config({**dict(config), **sections})


def base_model(config: RunConfig, material: Material) -> SegmentationModel:
    """Return the model that a run adapts, described as what it becomes.

    Raises:
        ConfigError: the images have another number of bands.
        ModelFileError: there is no such model.
    """
    model = load_model(str(config.adapter.base))
    spec, bands = model.spec, material.train[0].bands
    if bands != spec.bands:
        raise ConfigError(
            f"the training images have {bands} bands, and adapter.base takes {spec.bands}"
        )
    domains = [tile.domain for tile in material.train]
    model.spec = replace(
        spec,
        scalings=dict(material.scalings),
        gsd_m=config.data.gsd_m,
        method=f"{spec.method}, {config.adapter.method}",
        sources=tuple(dict.fromkeys([*spec.sources, *domains])),
        source_histograms={**spec.source_histograms, **material.unit_histograms()},
        training_images=spec.training_images + len(material.train),
        split_hash=material.catalog.split_hash(),
        seed=config.seed,
        rhm_version=rhm.__version__,
    )
    return model.train().to(memory_format=torch.channels_last)
