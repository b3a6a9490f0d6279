"""Options of merging are checked."""

import pytest

from rhm.errors import ConfigError
from rhm.mapping.merge_config import MergeConfig


@pytest.mark.parametrize("value", [{"same": 0.0}, {"same": 1.5}, {"readers": 0}])
def test_a_value_that_is_not_allowed_is_refused(value: dict[str, float]) -> None:
    (name,) = value
    with pytest.raises(ConfigError, match=name):
        MergeConfig(**value)  # type: ignore[arg-type]
