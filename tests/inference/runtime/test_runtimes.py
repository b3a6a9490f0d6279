"""The registry of runtimes: its entries can be chosen, and appear in help without an import."""

import subprocess
import sys

import pytest

from rhm.errors import ConfigError
from rhm.inference.runtime.runtimes import AUTO, RUNTIMES, Runtime, RuntimeConfig, runtime_names
from rhm.inference.settings.option import options_of


def test_auto_ends_with_what_takes_any_model_anywhere() -> None:
    assert set(AUTO) <= set(RUNTIMES)
    last = RUNTIMES[AUTO[-1]]
    assert set(last.devices) == {
        device for runtime in RUNTIMES.values() for device in runtime.devices
    }
    assert not last.packages
    assert not last.worthwhile_px


def test_help_tells_every_runtime() -> None:
    told = options_of(RuntimeConfig)["runtime"].told()
    for name, runtime in RUNTIMES.items():
        assert f"{name} ({runtime.about} on " in told
    assert runtime_names() == ["auto", *RUNTIMES]


def test_an_unknown_runtime_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match="unknown runtime 'abacus': choose auto, torch, onnx"):
        RuntimeConfig(runtime="abacus")


def test_missing_packages_are_one_line_that_says_what_to_install() -> None:
    def never(model: object, place: str) -> None:
        raise AssertionError

    runtime = Runtime(
        "Abacus",
        never,  # type: ignore[arg-type]
        ("cpu",),
        packages=("json", "no_such_abacus"),
        extra="beads",
    )
    with pytest.raises(ConfigError) as caught:
        runtime.require()
    assert str(caught.value) == (
        "Abacus needs packages that are not installed (No module named 'no_such_abacus'): "
        "pip install 'rhm[beads]'"
    )


def test_listing_runtimes_imports_none() -> None:
    code = (
        "import sys, rhm.inference.runtime.runtimes\n"
        "print(*sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
