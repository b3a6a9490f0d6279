"""Options of comparisons are checked."""

import pytest

from rhm.errors import ConfigError
from rhm.mapping.compare_config import CompareConfig


@pytest.mark.parametrize("value", [{"same": 0.0}, {"touching": -0.1}, {"most_shift_m": 1e6}])
def test_a_value_that_is_not_allowed_is_refused(value: dict[str, float]) -> None:
    (name,) = value
    with pytest.raises(ConfigError, match=name):
        CompareConfig(**value)  # type: ignore[arg-type]
