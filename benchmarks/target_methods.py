"""Cost of a training step with each method that learns from unlabelled chips.

    python benchmarks/target_methods.py

The default network is trained on eight labelled chips of 96 x 96 pixels, beside as many unlabelled
ones, on one thread; the chips are in memory. The steps of all methods take turns, and their
processor time is counted, so that other work on the machine hardly matters. A step without a method
but with twice the chips is the control: all methods see as many. AdaBN is the time of its only
pass, per eight chips.
"""

import time
from collections.abc import Callable

import torch
from machine import machine, medians_ms

from rhm.augmentation.mixstyle import MixStyle
from rhm.data.chips import TargetSample, UnlabelledChip
from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.spec import ModelSpec
from rhm.training.losses import LOSSES, LossConfig
from rhm.training.unlabelled.batch_statistics import measure_statistics
from rhm.training.unlabelled.target_config import ALONE, METHODS, TargetConfig

SIDE = 96
BATCH = 8
RUNS = 15


def network() -> SegmentationModel:
    """Return the default network with its pretrained encoder, in training."""
    torch.manual_seed(0)
    model = SegmentationModel(ModelSpec("unet", "tf_efficientnet_lite0", 3))
    load_encoder_weights(model, "bundled")
    return model.to(memory_format=torch.channels_last).train()


def samples(chips: int) -> TargetSample:
    """Return random chips with some buildings."""
    shape = (chips, 3, SIDE, SIDE)
    mask = (torch.rand(chips, 1, 12, 12) < 0.2).long()
    mask = mask.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    valid = torch.ones(chips, 1, SIDE, SIDE, dtype=torch.bool)
    target = UnlabelledChip(image=torch.randn(shape), valid=valid, strong=torch.randn(shape))
    return TargetSample(image=torch.randn(shape), mask=mask, target=target)


def step_of(config: TargetConfig, chips: int = BATCH, mixstyle: float = 0.0) -> Callable[[], None]:
    """Return a training step of a network of its own."""
    model, loss, batch = network(), LOSSES["bce-dice"](LossConfig()), samples(chips)
    method = config.build(model, loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    styles = MixStyle(model.encoder, (1, 2), p=mixstyle, alpha=0.1, bands=3)
    if method is not None:
        method.train()

    def step() -> None:
        optimizer.zero_grad()
        with styles:
            if method is None:
                images = batch["image"].contiguous(memory_format=torch.channels_last)
                total = loss(model(images), batch["mask"])
            else:
                found = method.step(model, batch)
                total = loss(found.logits, batch["mask"]) + 0.1 * found.loss
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if method is not None:
            method.after_batch(model, stepped=True)

    return step


def main() -> None:
    """Measure and print a table."""
    torch.set_num_threads(1)
    target = {"domains": ("there",)}
    candidates = {"none": step_of(TargetConfig()), "none, 16 chips": step_of(TargetConfig(), 16)}
    candidates["none, mixstyle"] = step_of(TargetConfig(), mixstyle=1.0)
    for name, entry in METHODS.items():
        if entry.build is not None and entry.needs != ALONE:
            candidates[name] = step_of(TargetConfig(method=name, **target))
    pasting = TargetConfig(method="mean-teacher", paste="instances", paste_margin_px=4, **target)
    candidates["mean-teacher, paste"] = step_of(pasting)
    model, chips = network(), samples(BATCH)["target"]
    candidates["adabn"] = lambda: measure_statistics(model, [chips])
    found = medians_ms(candidates, RUNS, clock=time.process_time)
    print("| method | ms a step | of a step without | of a step with as many chips |")
    print("|---|---|---|---|")
    for name, cost in found.items():
        shares = (f"{cost / found[base]:.0%}" for base in ("none", "none, 16 chips"))
        print(f"| {name} | {cost:.0f} | {' | '.join(shares)} |")
    print(f"\n{machine('torch', 'segmentation-models-pytorch', 'timm')}")


if __name__ == "__main__":
    main()
