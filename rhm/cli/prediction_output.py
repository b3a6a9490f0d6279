"""What ``rhm predict`` prints: notes, results, failures and estimates."""

import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhm.cli.commands.merge_footprints import merged_line
from rhm.cli.output import complain, counted, duration, emit, say, size
from rhm.inference.prediction_config import PredictionConfig

if TYPE_CHECKING:
    from rhm.inference.cost_estimate import TileClock
    from rhm.inference.many_scenes import SceneResult
    from rhm.inference.prediction import Prediction
    from rhm.inference.runtime.backends import Backend
    from rhm.inference.scene_lists.scene_names import NamedScene
    from rhm.mapping.merged_layer import MergedLayer

_ADDED = ("tiles", "seconds", "disk_bytes")
"""Costs that scenes have one after the other; memory is free again after each."""


def short_name(scene: "str | NamedScene") -> str:
    """Return the file name of a scene, without the query of an address, which may be secret."""
    from rhm.inference.scene_lists.scene_names import place_of

    return Path(place_of(scene)).name


def say_notes(result: "SceneResult") -> None:
    """Print the notes on one scene."""
    if result.prediction is not None:
        for note in filter(None, (*result.prediction.notes, result.prediction.warning)):
            say(f"{short_name(result.scene)}: {note}")


def say_of_all(results: "list[SceneResult]", home: float | None) -> str | None:
    """Print every note once, with the number of its scenes; return the warning for all scenes.

    The expected IoU is estimated for all scenes together, because that of a single small scene
    means little.
    """
    from functools import reduce

    from rhm.inference.suitability import domain_note
    from rhm.models.expected_iou import ExpectedIoU

    noted = [(short_name(each.scene), each.prediction.notes) for each in results if each.prediction]
    for line in _each_once(noted, len(results)):
        say(line)
    expectations = [
        result.prediction.expectation
        for result in results
        if result.prediction is not None and result.prediction.expectation is not None
    ]
    warning = domain_note(home, reduce(ExpectedIoU.merge, expectations)) if expectations else None
    if warning:
        say(f"all scenes together: {warning}")
    return warning


def _each_once(noted: Iterable[tuple[str, Iterable[str]]], count: int) -> list[str]:
    """Return a line for each note of scenes, with the scene or the number of those that have it.

    Args:
        noted: scenes, which may have the same name, and their notes.
        count: number of all scenes.
    """
    scenes: dict[str, list[str]] = {}
    for name, notes in noted:
        for note in notes:
            scenes.setdefault(note, []).append(name)
    return [
        f"{names[0] if len(names) == 1 else f'{len(names)} of {count} scenes'}: {note}"
        for note, names in scenes.items()
    ]


def report_results(
    results: "list[SceneResult]",
    runtime: str,
    warning: str | None,
    merged: "MergedLayer | None",
    *,
    chose: bool,
    as_json: bool,
) -> None:
    """Print the results of the scenes, and then raise an error if some of them failed.

    Args:
        results: results of all scenes.
        runtime: runtime that executed the model.
        warning: warning for all scenes together, if there is one.
        merged: the layer of all scenes, if one was asked for.
        chose: whether thresholds were chosen by the probabilities, and are told.
        as_json: whether to print JSON.

    Raises:
        RhmError: scenes failed, all of them because of their input.
        Exception: the first defect that made a scene fail.
    """
    done = [result for result in results if result.prediction is not None]
    outside = [result for result in results if result.is_outside]
    failed = [result for result in results if result.error is not None and not result.is_outside]
    values = [_values(result.scene, result.prediction) for result in done if result.prediction]
    lines = [f"{counted(value['count'], 'building')} in {value['buildings']}" for value in values]
    if chose:
        lines = [
            f"{line} (threshold {value['threshold']:.3f})"
            for line, value in zip(lines, values, strict=True)
        ]
    if values:
        errors = [{"scene": result.scene, "error": result.failure} for result in failed]
        found: dict[str, Any] = {"runtime": runtime, "scenes": values, "warning": warning}
        found |= {"failed": errors, "outside": [result.scene for result in outside]}
        if merged is not None:
            found["merged"] = asdict(merged)
            lines.append(merged_line(merged))
        emit(found, lines, as_json=as_json)
    _tell_outside(outside, len(results), none_left=not values and not failed)
    if failed:
        _raise(failed, len(results))


def _tell_outside(outside: "list[SceneResult]", count: int, *, none_left: bool) -> None:
    """Say which scenes lie outside the area of interest.

    Raises:
        OutsideAreaError: all of them do.
    """
    from rhm.errors import OutsideAreaError

    if outside and none_left:
        message = f"all {count} scenes lie outside the area of interest"
        raise OutsideAreaError(outside[0].failure if count == 1 else message)
    for result in outside:
        say(f"skipped: {result.failure}")


def _raise(failed: "list[SceneResult]", count: int) -> None:
    """Print why scenes failed if there are several, and raise an error.

    Raises:
        RhmError: all of them failed because of their input.
        Exception: the first defect.
    """
    from rhm.errors import RhmError, printable

    errors = [result.error for result in failed if result.error is not None]
    if count > 1:
        for result in failed:
            complain(f"failed: {printable(result.failure)}")
    for error in errors:
        if not isinstance(error, RhmError):
            raise error
    raise errors[0] if count == 1 else type(errors[0])(f"{len(failed)} of {count} scenes failed")


def _values(scene: str, prediction: "Prediction") -> dict[str, Any]:
    """Return the JSON values of a prediction."""
    values = {"scene": scene, **asdict(prediction), "expected_iou": prediction.expected_iou}
    del values["expectation"]
    return values


def tell_estimates(
    network: "Backend",
    scenes: "list[NamedScene]",
    output: Path,
    config: PredictionConfig,
    *,
    as_json: bool,
) -> None:
    """Print the estimated cost of every scene, and then raise an error if some are refused.

    Raises:
        RhmError: scenes are refused, all of them because of their input.
        Exception: the first defect that made a scene fail.
    """
    from rhm.inference.cost_estimate import TileClock
    from rhm.inference.many_scenes import SceneResult

    # What this process has done so far is what a prediction does before its first scene.
    start, clock = time.process_time(), TileClock(network)
    values, lines, failed = [], [], []
    noted: list[tuple[str, Iterable[str]]] = []
    for scene in scenes:
        try:
            value, told = _estimate(network, clock, scene, output, config)
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are estimated)
            failed.append(SceneResult(scene.path, None, error))
            continue
        values.append(value)
        lines.append(told)
        noted.append((short_name(scene), value["notes"]))
    lines += _each_once(noted, len(scenes))
    total = _total(values) | {"start_seconds": start}
    if values:
        lines.append(f"besides, it takes about {duration(start)} to start")
    if len(values) > 1:
        lines.append(_cost(f"all {len(values)} scenes: {total['tiles']} tiles", total))
    outside = [result for result in failed if result.is_outside]
    failed = [result for result in failed if not result.is_outside]
    if values:
        errors = [{"scene": result.scene, "error": result.failure} for result in failed]
        names = [result.scene for result in outside]
        found = {"scenes": values, "total": total, "failed": errors, "outside": names}
        emit(found, lines, as_json=as_json)
    _tell_outside(outside, len(scenes), none_left=not values and not failed)
    if failed:
        _raise(failed, len(scenes))


def _estimate(
    network: "Backend",
    clock: "TileClock",
    scene: "NamedScene",
    output: Path,
    config: PredictionConfig,
) -> tuple[dict[str, Any], str]:
    """Return the estimated cost of a scene, as JSON values and as a line."""
    from rhm.inference.cost_estimate import estimate
    from rhm.inference.plan import plan_prediction
    from rhm.inference.scenes import is_finished

    plan = plan_prediction(network, scene, output, config)
    there = is_finished(plan)
    if not (config.resume and there):
        plan.check_free()
    cost = asdict(estimate(clock, plan))
    size = f"{plan.scene.width} x {plan.scene.height} pixels"
    tiles = f"{len(plan.grid.strips)} strips, {cost['tiles']} tiles of {plan.grid.tiling.tile}"
    line = _cost(f"{scene.path}: {size}, {tiles}", cost)
    line += "; the results already exist" if there else ""
    return {"scene": scene.path, "there": there, "notes": plan.notes, **cost}, line


def _total(values: "list[dict[str, Any]]") -> dict[str, Any]:
    """Return the cost of scenes that are predicted one after the other."""
    memory = [value["memory_bytes"] for value in values if value["memory_bytes"] is not None]
    added = {name: sum(value[name] for value in values) for name in _ADDED}
    return added | {"memory_bytes": max(memory, default=None)}


def _cost(what: str, cost: dict[str, Any]) -> str:
    memory = cost["memory_bytes"]
    return (
        f"{what}: about {duration(cost['seconds'])}, "
        f"{'unknown' if memory is None else size(memory)} of memory, at most "
        f"{size(cost['disk_bytes'])} of disk"
    )
