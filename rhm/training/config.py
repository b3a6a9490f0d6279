"""The configuration of a run: one YAML file, every mistake in it reported at once.

The sections belong to the rooms they configure; here they are put together, read and checked.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rhm.augmentation.augment_config import AugmentConfig
from rhm.data.chips import DataConfig
from rhm.errors import ConfigError
from rhm.models.build import ModelConfig
from rhm.training.adaptation import AdapterConfig
from rhm.training.callbacks.feature_monitor import AnalysisConfig
from rhm.training.losses import LossConfig
from rhm.training.module import OptimizerConfig

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Arithmetic by the name that a configuration and Lightning give it."""

ACCELERATORS = ("auto", "cpu", "gpu")
"""What to train on, by the name that a configuration and Lightning give it."""


@dataclass(frozen=True)
class TrainerConfig:
    """How long, on what, and how often to look.

    Attributes:
        steps: optimiser steps.
        batch_size: chips per optimiser step, over all devices and accumulated batches.
        accumulate: batches whose gradients make one step.
        validate_every: steps between validations and checkpoints; divides ``steps``.
        patience: validations without improvement after which training stops; 0 never stops.
        precision: one of ``PRECISIONS``.
        accelerator: one of ``ACCELERATORS``.
        devices: processes on this machine, each on one device.
        num_nodes: machines.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    steps: int = 2000
    batch_size: int = 8
    accumulate: int = 1
    validate_every: int = 250
    patience: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision: choose {', '.join(PRECISIONS)}")
        if self.accelerator not in ACCELERATORS:
            raise ValueError(f"unknown accelerator: choose {', '.join(ACCELERATORS)}")
        if self.patience < 0:
            raise ValueError("patience is at least 0")
        for name in ("steps", "batch_size", "accumulate", "validate_every", "devices", "num_nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")
        if self.steps % self.epoch_steps:
            raise ValueError("steps is a multiple of validate_every")
        if self.batch_size % (self.devices * self.num_nodes * self.accumulate):
            raise ValueError("batch_size is a multiple of devices x num_nodes x accumulate")

    @property
    def epoch_steps(self) -> int:
        """Steps between validations."""
        return min(self.steps, self.validate_every)


class RunConfig(BaseModel):
    """Everything that decides a run.

    Attributes:
        name: of the run, and of its folder.
        output: folder in which runs lie.
        seed: of weights, samples and augmentations.
        data: chips.
        model: network.
        adapter: a finished model to start from, and what of it is trained.
        augment: augmentation.
        loss: loss.
        optimizer: optimiser.
        trainer: loop.
        analysis: what is recorded of the network's features on the way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w][\w.+-]*$")
    output: str = "runs"
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    adapter: AdapterConfig = Field(default_factory=AdapterConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)
    analysis: AnalysisConfig = Field(default_factory=AnalysisConfig)

    @model_validator(mode="after")
    def _check_colour(self) -> Self:
        if self.model.standardize != "none" and self.augment.colour != "none":
            raise ValueError(
                "model.standardize undoes what augment.colour varies: choose one of the two"
            )
        if self.model.standardize != "none" and self.augment.mixing:
            raise ValueError(
                "model.standardize brings each image to one appearance, and "
                f"augment.geometry.{self.augment.mixing[0]} mixes images: choose one of the two"
            )
        return self

    @model_validator(mode="after")
    def _check_adapter(self) -> Self:
        if self.adapter.base is None and self.adapter != AdapterConfig():
            raise ValueError("adapter.base is missing: the model to be adapted")
        return self

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.output) / self.name

    def to_yaml(self) -> str:
        """Return the configuration as YAML that ``read_config`` reads back."""
        sections = {
            name: asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
            for name, value in self
        }
        return yaml.safe_dump(_plain(sections), sort_keys=False)


def read_config(
    path: str | os.PathLike[str], overrides: Iterable[str] = (), **values: Any
) -> RunConfig:
    """Read a configuration; a bank turns on histogram matching where no colour is chosen.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` texts, each value read as YAML; the last one wins.
        values: further settings by dotted name with ``__`` for the dot; None is no setting.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong; all of them are named.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"no configuration at {path}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} cannot be read as YAML: {reason}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a mapping of settings")
    put_settings(tree, overrides)
    for name, value in values.items():
        if value is not None:
            _put(tree, name.replace("__", "."), value)
    return parse_config(tree, origin=str(path))


def put_settings(tree: dict[str, Any], overrides: Iterable[str]) -> None:
    """Put ``section.key=value`` texts into a tree of settings; the last one wins.

    Raises:
        ConfigError: a text is none, or its value is no YAML.
    """
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set wants section.key=value, got '{override}'")
        try:
            _put(tree, name.strip(), yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {name}: '{text}' is not a YAML value") from error


def parse_config(tree: Mapping[str, Any], *, origin: str = "configuration") -> RunConfig:
    """Check a tree of settings; a bank turns on histogram matching where no colour is chosen.

    Raises:
        ConfigError: names every wrong key and value, with its path.
    """
    augment = tree.get("augment")
    if isinstance(augment, Mapping) and augment.get("bank"):
        tree = {**tree, "augment": {"colour": "rhm", **augment}}
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        found = "; ".join(_sentence(dict(each)) for each in error.errors())
        raise ConfigError(f"{origin}: {found}") from error


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    if not all((*sections, key)):
        raise ConfigError(f"--set wants section.key=value, got '{name}='")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {name}: '{section}' is not a section")
        tree = inner
    tree[key] = value


def _sentence(problem: dict[str, Any]) -> str:
    path = [str(part) for part in problem["loc"]]
    if not path:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = ".".join(path)
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(path[-1], _known(path[:-1]), n=1)
        hint = f", did you mean '{near[0]}'?" if near else ""
        return f"{name}: unknown key{hint}"
    if problem["type"].startswith("missing"):
        return f"{name}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message[0].lower()}{message[1:]}"


def _known(path: list[str]) -> list[str]:
    if not path:
        return list(RunConfig.model_fields)
    section = RunConfig.model_fields.get(path[0])
    kind = section.annotation if section else None
    return [each.name for each in dataclass_fields(kind)] if kind and is_dataclass(kind) else []


def _plain(value: Any) -> Any:
    """Return the value with tuples as lists, as YAML has them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value
