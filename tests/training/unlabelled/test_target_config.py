"""The section ``target``: its mistakes, and the weight of a method over the steps."""

from typing import Any

import pytest

from rhm.training.unlabelled.target_config import METHODS, TargetConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "guess"}, "unknown method 'guess': choose none, entropy"),
        ({"split": "rest"}, "unknown split 'rest': choose train, val, test, all"),
        ({"paste": "roofs"}, "unknown paste 'roofs'"),
        ({"teacher_statistics": "shared"}, "unknown teacher_statistics 'shared': choose own, run"),
        ({"statistics": "own"}, "method none has no statistics"),
        ({"statistics": "none"}, "unknown statistics 'none': choose own, running, shared"),
        ({"method": "coral"}, "method coral needs unlabelled images: give target.domains"),
        ({"weight": 0.0}, "weight must be above 0"),
        ({"warmup": 1.5}, "warmup must be a share"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1"),
        ({"certainty": -0.1}, "certainty must be at least 0"),
        ({"features": ()}, "features must name at least one layer"),
        ({"discriminator_width": 0}, "discriminator_width from 1"),
        ({"chips": 0}, "chips must be at least 1"),
        ({"building_share": 1.0}, "building_share must be between 0 and 1"),
        ({"paste_margin_px": 65}, "paste_margin_px must be from 0 to 64"),
        ({"method": "coral", "domains": ("a",), "source_free": True}, "coral needs labelled chips"),
        ({"method": "shot", "domains": ("a",)}, "shot adapts a finished model: set source_free"),
        (
            {"method": "entropy", "domains": ("a",), "source_free": True, "paste": "class"},
            "paste needs labelled chips",
        ),
        (
            {"method": "entropy", "domains": ("a",), "source_free": True, "statistics": "own"},
            "statistics needs labelled chips",
        ),
    ],
)
def test_mistakes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TargetConfig(**settings)


def test_without_a_method_nothing_is_named() -> None:
    assert TargetConfig().names == ()
    assert TargetConfig(domains=("a",), method="entropy").names == ("entropy",)


@pytest.mark.parametrize(("method", "usual"), [("entropy", "own"), ("mean-teacher", "running")])
def test_statistics_are_named_unless_they_are_those_of_the_method(method: str, usual: str) -> None:
    def of(statistics: str | None) -> TargetConfig:
        return TargetConfig(domains=("a",), method=method, statistics=statistics)

    assert (of(None).statistics_used, of(None).names) == (usual, (method,))
    assert of(usual).names == (method,)
    assert of("shared").names == (method, "shared statistics")


def test_the_weight_rises_over_the_warm_up_and_then_stays() -> None:
    config = TargetConfig(domains=("a",), method="coral", weight=2.0, warmup=0.5)
    weights = [config.weight_at(step, 8) for step in range(8)]
    assert weights == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0])
    without = TargetConfig(domains=("a",), method="coral", weight=2.0, warmup=0.0)
    assert [without.weight_at(step, 8) for step in (0, 7)] == [2.0, 2.0]


def test_a_method_has_a_weight_of_its_own() -> None:
    config = TargetConfig(domains=("a",), method="adversarial")
    assert config.weight_at(99, 100) == METHODS["adversarial"].weight
