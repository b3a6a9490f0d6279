"""Time and peak memory of a training step with adapters, compared with LoRA in PEFT.

    python benchmarks/adapters.py

The benchmark trains four timm backbones with a linear classifier on 8 images of 224 x 224, with
rank 8 on the same layers: all layers that PEFT can adapt, which are linear layers and ungrouped
convolutions. PEFT sends the activations through two thin layers, whereas rhm adds the update to the
weight once per step. PEFT is not a dependency of rhm: unless you install it as well, only rhm is
measured. Memory is the growth of a separate process during its first steps.
"""

import gc
import importlib.util
import math
import subprocess
import sys

import timm
import torch
from machine import machine, medians_ms, peak_growth_mb
from torch import Tensor, nn

from rhm.adapters import DeepLoRA, LoRA, attach, parameter_groups

BACKBONES = (
    "tf_efficientnet_lite0",
    "resnet18",
    "convnext_atto",
    "vit_tiny_patch16_224",
)
CONVOLUTIONAL = BACKBONES[:3]
RANK, BATCH, SIDE = 8, 8, 224
HAS_PEFT = importlib.util.find_spec("peft") is not None
WAYS = ("rhm LoRA", "rhm Deep LoRA", *(("peft LoRA",) if HAS_PEFT else ()))


def network(name: str) -> nn.Module:
    """Return a backbone with the same weights each time."""
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=10).train()


def layers(model: nn.Module) -> list[str]:
    """Return the layers that every method adapts."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
        if min(module.weight.shape[0], module.weight[0].numel()) >= RANK
    ]


def stepper(name: str, way: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return an adapted backbone and its optimiser."""
    model = network(name)
    wanted = layers(model)
    if way == "peft LoRA":
        import peft

        adapted = peft.get_peft_model(model, peft.LoraConfig(r=RANK, target_modules=wanted))
        trained = [each for each in adapted.parameters() if each.requires_grad]
        return adapted, torch.optim.AdamW(trained, lr=1e-4)
    attach(model, LoRA(RANK) if way == "rhm LoRA" else DeepLoRA(RANK), wanted)
    return model, torch.optim.AdamW(parameter_groups(model, 1e-4))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor) -> None:
    """Take one step."""
    optimizer.zero_grad()
    model(images).square().mean().backward()
    optimizer.step()


def grown_mb(name: str, way: str) -> float:
    """Return by how many megabytes this process grows during the first steps."""
    model, optimizer = stepper(name, way)
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    gc.collect()
    return peak_growth_mb(lambda: [step(model, optimizer, images) for _ in range(2)])


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(grown_mb(*sys.argv[1:]))
        return
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    print(machine("torch", "timm", *(("peft",) if HAS_PEFT else ())))
    ratios: dict[str, list[float]] = {}
    for name in BACKBONES:
        ways = {way: stepper(name, way) for way in WAYS}
        found = medians_ms(
            {way: (lambda of=of: step(*of, images)) for way, of in ways.items()}, runs=9
        )
        for way in WAYS:
            command = [sys.executable, __file__, name, way]
            grown = float(subprocess.run(command, capture_output=True, check=True).stdout)
            ratio = found[way] / found[WAYS[-1]]
            if name in CONVOLUTIONAL:
                ratios.setdefault(way, []).append(ratio)
            print(
                f"{name:<24} {way:<14} {found[way]:7.0f} ms per step  {ratio:5.2f} of {WAYS[-1]}  "
                f"{grown:6.0f} MB"
            )
    for way, values in ratios.items():
        print(f"convolutional backbones, geometric mean, {way}: {_geometric_mean(values):.2f}")


def _geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


if __name__ == "__main__":
    main()
