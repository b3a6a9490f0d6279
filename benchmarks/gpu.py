"""What a GPU makes of training, matching and prediction, in the few minutes that one is at hand.

    python benchmarks/gpu.py --work /tmp/gpu --until 420        # at most seven minutes
    python benchmarks/gpu.py --work /tmp/gpu --tiny --device cpu  # the rehearsal

Each step prints its rows and appends them to ``WORK/gpu.jsonl`` at once. A step that fails is a row
with its error, and the next one follows; a step for which not enough of ``--until`` is left is not
begun. Steps on imagery (``--data``, by default ``RHM_DATA`` or ``../shared/data``) come last, and
the training runs of the experiment on new cities at the very end, as many as fit. Times are
medians of repetitions in milliseconds, measured with the device's own events, with random inputs.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from gpu_device import DEVICE_STEPS
from gpu_imagery import IMAGERY_STEPS
from gpu_steps import Row, Setting, Step


def main() -> None:
    """Run all steps that fit into the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--until", type=float, default=480.0, help="seconds for everything")
    parser.add_argument("--tiny", action="store_true", help="sizes for a rehearsal")
    parser.add_argument("--only", nargs="+", help="steps to run")
    asked = parser.parse_args()
    setting = Setting(
        asked.device, asked.tiny, asked.data, asked.work, time.monotonic() + asked.until
    )
    asked.work.mkdir(parents=True, exist_ok=True)
    with (asked.work / "gpu.jsonl").open("a", encoding="utf-8") as file:
        for name, step in (DEVICE_STEPS | IMAGERY_STEPS).items():
            if asked.only and name not in asked.only:
                continue
            for row in attempted(name, step, setting):
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())


def attempted(name: str, step: Step, setting: Setting) -> Iterator[Row]:
    """Yield the rows of a step, or why there are none."""
    seconds = 1.0 if setting.tiny else step.seconds
    if setting.left() < seconds:
        yield {"step": name, "skipped": f"{setting.left():.0f} s are left, it takes {seconds:.0f}"}
        return
    begun = time.monotonic()
    try:
        for row in step.run(setting):
            yield {"step": name, **row}
    except Exception as error:  # noqa: BLE001 (the other steps are worth having)
        yield {"step": name, "error": f"{type(error).__name__}: {error}"[:300]}
    yield {"step": name, "took_s": round(time.monotonic() - begun, 1)}


if __name__ == "__main__":
    main()
