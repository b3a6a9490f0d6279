"""The base of an adaptation: it decides what the network is, and must stay the model it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rhm.data import Catalog
from rhm.errors import ConfigError, ModelFileError
from rhm.models.build import SegmentationModel
from rhm.models.model_file import save_model
from rhm.models.spec import ModelSpec, load_spec
from rhm.training.base_model import base_model, check_base, remember_base, with_base
from rhm.training.config import RunConfig
from rhm.training.fitting import fit
from rhm.training.imagery import gather
from rhm.training.run import Run

Make = Callable[..., RunConfig]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model that was never trained."""
    torch.manual_seed(0)
    spec = ModelSpec("fpn", "test_efficientnet", 3, gsd_m=0.4, head="cosine")
    path = tmp_path / "base.safetensors"
    save_model(SegmentationModel(spec), path)
    return path


def adapting(tiny: Make, base: Path, **sections: Any) -> RunConfig:
    return tiny("adapted", adapter={"base": str(base), "method": "lora"}, **sections)


def test_a_run_without_a_base_stays_as_it_is(tiny: Make) -> None:
    config = tiny()
    assert with_base(config) is config


def test_the_base_decides_what_the_network_is(tiny: Make, base: Path) -> None:
    config = with_base(adapting(tiny, base))
    assert (config.model.architecture, config.model.head) == ("fpn", "cosine")
    assert (config.model.encoder, config.model.weights) == ("test_efficientnet", "none")
    assert config.data.gsd_m == 0.4
    assert with_base(config) == config
    own = with_base(adapting(tiny, base, data={"gsd_m": 1.0}))
    assert own.data.gsd_m == 1.0


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"architecture": "linknet"}, "model.architecture is linknet"),
        ({"standardize": "equalize"}, "model.standardize is equalize"),
        ({"batch_norm": "frozen"}, "model.batch_norm"),
        ({"head": "cosine", "learn_temperature": True}, "model.learn_temperature"),
    ],
)
def test_another_network_is_refused(
    tiny: Make, base: Path, model: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        with_base(adapting(tiny, base, model=model))
    assert "\n" not in str(error.value)


def test_a_base_that_is_not_there_is_one_line(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model at"):
        with_base(adapting(tiny, tmp_path / "none"))


def test_a_run_goes_on_with_the_base_it_remembers_only(tiny: Make, base: Path) -> None:
    from rhm.models.model_file import load_model

    run = Run.begin(with_base(adapting(tiny, base)))
    check_base(run)  # killed before it was remembered
    model = load_model(base)
    remember_base(run, model)
    check_base(run)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    save_model(model, base)
    with pytest.raises(ConfigError, match=r"base\.safetensors"):
        check_base(run)


@pytest.mark.parametrize(
    ("of_base", "given", "both"),
    [
        ("", "", ""),
        ("CC-BY-4.0", "", "CC-BY-4.0"),
        ("", "ODbL-1.0", "unknown; ODbL-1.0"),
        ("CC-BY-4.0", "ODbL-1.0", "CC-BY-4.0; ODbL-1.0"),
        ("CC-BY-4.0; ODbL-1.0", "ODbL-1.0", "CC-BY-4.0; ODbL-1.0"),
    ],
)
def test_the_licences_of_all_imagery_are_kept(
    tiny: Make, tmp_path: Path, of_base: str, given: str, both: str
) -> None:
    spec = ModelSpec("fpn", "test_efficientnet", 3, gsd_m=0.4, licence=of_base)
    save_model(SegmentationModel(spec), tmp_path / "base.safetensors")
    config = with_base(adapting(tiny, tmp_path / "base.safetensors", data={"licence": given}))
    assert base_model(config, gather(config)).spec.licence == both


@pytest.mark.parametrize("method", ["threshold", "adabn"])
def test_what_is_only_measured_trains_nothing_whatever_the_method(
    tiny: Make, base: Path, method: str
) -> None:
    target = {"domains": ["birch_satellite"], "method": method, "source_free": True}
    config = with_base(adapting(tiny, base, target=target, data={"sources": []}))
    assert (config.adapter.method, config.adapter.batch_norm) == ("batch-norm", "statistics")
    assert config.adapter.update() is None


@pytest.mark.parametrize(
    ("asked", "kept"),
    [({"threshold": None}, 0.3), ({"threshold": 0.5}, 0.5), ({"threshold": 0.7}, 0.7)],
)
def test_without_validation_the_threshold_is_that_of_the_base(
    tiny: Make, catalog_path: Path, tmp_path: Path, asked: dict[str, Any], kept: float
) -> None:
    torch.manual_seed(0)
    spec = ModelSpec("unet", "test_efficientnet", 3, gsd_m=0.5, threshold=0.3)
    base, catalog = tmp_path / "base.safetensors", tmp_path / "train.parquet"
    save_model(SegmentationModel(spec), base)
    Catalog(Catalog.load(catalog_path).frame.assign(split="train")).save(catalog)
    config = adapting(tiny, base, model=asked, data={"catalog": str(catalog)}, trainer={"steps": 1})
    assert load_spec(fit(config).model).threshold == kept
