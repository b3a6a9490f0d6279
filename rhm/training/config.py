"""The configuration of a run: one YAML file, whose mistakes are all reported at once.

Each section is defined next to the code that it configures. This module combines the sections, and
reads and checks the file.
"""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rhm.augmentation.augment_config import AugmentConfig, with_recipe
from rhm.data.chips import DataConfig
from rhm.documents import parse_yaml, read_text
from rhm.errors import ConfigError, one_line
from rhm.models.build import ModelConfig
from rhm.training.adaptation import AdapterConfig
from rhm.training.callbacks.feature_monitor import AnalysisConfig
from rhm.training.configs.named_configs import config_file
from rhm.training.configs.trainer_config import TrainerConfig
from rhm.training.configs.unused_settings import unused_settings
from rhm.training.losses import LossConfig
from rhm.training.module import OptimizerConfig
from rhm.training.unlabelled.target_config import MEASURED, METHODS, TargetConfig
from rhm.training.unlabelled.target_method import SHARED

LONGEST_NAME = 200
"""Length of the longest name of a run in bytes. File systems allow 255, some for suffixes."""


class RunConfig(BaseModel):
    """All settings of a run.

    Attributes:
        name: name of the run and of its folder.
        output: folder that contains the runs.
        seed: seed of the initial weights, the samples and the augmentations.
        data: catalog and chips.
        model: network.
        adapter: finished model to adapt, and which of its parameters are trained.
        augment: colour augmentation.
        target: unlabelled imagery of the target domain, and the method that learns from it.
        loss: loss function.
        optimizer: optimiser and learning rate schedule.
        trainer: training loop.
        analysis: statistics of the network's features that are recorded during training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w][\w.+-]*$")
    output: str = "runs"
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    data: DataConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    adapter: AdapterConfig = Field(default_factory=AdapterConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    target: TargetConfig = Field(default_factory=TargetConfig)
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
            raise ValueError("adapter.base is missing: name the model to adapt")
        trains_nothing = self.adapter.method == "batch-norm" and (
            self.adapter.batch_norm == "statistics"
        )
        if trains_nothing and self.target.method not in MEASURED:
            raise ValueError(
                "adapter.batch_norm statistics trains nothing with adapter.method batch-norm: use "
                "affine"
            )
        return self

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        processes = self.trainer.devices * self.trainer.num_nodes
        if self.target.method != "none" and processes > 1:
            raise ValueError(
                f"target.method {self.target.method} works with one process: set trainer.devices "
                "and trainer.num_nodes to 1"
            )
        if self.trainer.select == "expected-iou" and not self.target.domains:
            raise ValueError("trainer.select expected-iou needs target.domains")
        if self.target.source_free and self.adapter.base is None:
            raise ValueError("target.source_free adapts a finished model: give adapter.base")
        if self.target.source_free and self.data.sources:
            raise ValueError(
                "target.source_free trains without labelled images: leave out data.sources"
            )
        return self

    def refuse_unused(self) -> None:
        """Check that every setting changes something; runs of earlier versions may not be so.

        Raises:
            ConfigError: a setting changes nothing.
        """
        if unused := next(unused_settings(self), None):
            raise ConfigError(f"{unused}: it changes nothing here, so leave it out")
        augment, target = self.augment, self.target
        if augment.mixstyle and not augment.mixstyle_stages:
            raise ConfigError("augment.mixstyle needs stages of the encoder: give mixstyle_stages")
        both = target.statistics_used == SHARED and not target.source_free
        if augment.mixstyle and self.trainer.chips_at_once * (1 + both) == 1:
            raise ConfigError(
                "augment.mixstyle mixes chips, and the network sees one chip at once: raise "
                "trainer.batch_size, or lower trainer.accumulate"
            )
        if target.source_free and (unused := self._unused_augmentation()):
            raise ConfigError(
                f"{unused} changes nothing with target.source_free and target.method "
                f"{target.method}: leave it out"
            )

    def _unused_augmentation(self) -> str:
        """Return an augmentation that unlabelled chips do not get; empty if they get all."""
        augment, method = self.augment, self.target.method
        if augment.colour != "none" and not METHODS[method].strong:
            return f"augment.colour {augment.colour}"
        measured = method in MEASURED
        unused = augment.unusual_geometry if measured else augment.mixing
        if unused:
            return f"augment.geometry.{unused[0].removeprefix('no ')}"
        return "augment.mixstyle" if augment.mixstyle and measured else ""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
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
    """Read a configuration file; a bank without ``augment.colour`` turns on the recipe.

    Args:
        path: YAML file, or the name of a configuration that comes with rhm.
        overrides: settings as ``section.key=value``, whose values are read as YAML; if a key
            occurs more than once, the last value counts.
        values: further settings by dotted name, with ``__`` in place of the dot; None leaves a
            setting as it is.

    Raises:
        ConfigError: the file cannot be read, or some keys or values are invalid; the message
            names all of them.
    """
    given, path = path, config_file(path)
    overrides = list(overrides)
    try:
        tree = parse_yaml(read_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {one_line(error)}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} is not a mapping of settings: write lines 'key: value'")
    put_settings(tree, overrides)
    for name, value in values.items():
        if value is not None:
            _put(tree, name.replace("__", "."), value)
    # A configuration that comes with rhm is known by its name.
    origin = os.fspath(given)
    return parse_config(tree, origin=f"{origin} with --set" if overrides else origin)


def put_settings(tree: dict[str, Any], overrides: Iterable[str]) -> None:
    """Insert settings of the form ``section.key=value`` into a tree; the last value counts.

    Raises:
        ConfigError: an override has another form, or its value is not valid YAML.
    """
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"--set needs section.key=value, not '{override}'")
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(
                f"--set {name}: '{text}' is not a valid YAML value: {one_line(error)}"
            ) from error
        _put(tree, name.strip(), value)


def parse_config(tree: Mapping[str, Any], *, origin: str = "configuration") -> RunConfig:
    """Check a tree of settings; a bank without ``augment.colour`` turns on the recipe.

    Raises:
        ConfigError: some keys or values are invalid; the message names all of them with their
            paths.
    """
    augment = tree.get("augment")
    if isinstance(augment, Mapping):
        tree = {**tree, "augment": with_recipe(augment)}
    mistakes = [f"{name}: expected a number, not true or false" for name in _no_numbers(tree)]
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        mistakes += [_sentence(dict(mistake)) for mistake in error.errors()]
        raise ConfigError(f"{origin}: {'; '.join(mistakes)}") from error
    if mistakes:
        raise ConfigError(f"{origin}: {'; '.join(mistakes)}")
    return config


def _no_numbers(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield the settings that are true or false where pydantic would take this for a number."""
    for name, field in RunConfig.model_fields.items():
        section, kind = tree.get(name), field.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            hints = get_type_hints(kind)
            inner = section if isinstance(section, Mapping) else {}
            yield from (
                f"{name}.{key}"
                for key, value in inner.items()
                if key in hints and _is_flag_for_number(hints[key], value)
            )
        elif _is_flag_for_number(kind, section):
            yield name


def _is_flag_for_number(kind: Any, value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else (value,)
    kinds = _kinds(kind)
    return (
        any(isinstance(each, bool) for each in values)
        and bool not in kinds
        and not kinds.isdisjoint((int, float))
    )


def _kinds(kind: Any) -> set[Any]:
    """Return a type, or those that it is composed of."""
    parts = get_args(kind)
    return set().union(*map(_kinds, parts)) if parts else {kind}


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    if not all((*sections, key)):
        raise ConfigError(f"--set needs section.key=value, not '{name}='")
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
    return [field.name for field in dataclass_fields(kind)] if kind and is_dataclass(kind) else []


def _plain(value: Any) -> Any:
    """Return the value with lists in place of tuples, which YAML does not have."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
