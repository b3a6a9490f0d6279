"""Watch neural collapse in any PyTorch network.

During training of a classifier, the features within each class contract from layer to layer at a
geometric rate (compression), while the classes move apart (discrimination). In the end, each class
is a single point (NC1). `ClassMoments` reads every feature vector once and stores none.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import nn

from rhm.analysis import ClassMoments, collapse, separation
from rhm.analysis.taps import Taps

CLASSES, WIDTH, LAYERS, STEPS = 3, 64, 6, 400

torch.manual_seed(0)
centres = torch.randn(CLASSES, 16)
labels = torch.randint(0, CLASSES, (600,))
inputs = centres[labels] + 1.2 * torch.randn(600, 16)
blocks = [nn.Sequential(nn.Linear(16 if not n else WIDTH, WIDTH), nn.ReLU()) for n in range(LAYERS)]
network = nn.Sequential(*blocks, nn.Linear(WIDTH, CLASSES))
names = [str(number) for number in range(LAYERS)]
optimizer = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1e-4)


def measured() -> dict[str, ClassMoments]:
    """Return the moments of every block's features."""
    moments = {name: ClassMoments(CLASSES, WIDTH) for name in names}
    with torch.no_grad(), Taps(network, names) as taps:
        network(inputs)
        for name, features in taps.features.items():
            moments[name].update(features, labels)
    return moments


steps, nc1, layers = [], [], {}
for step in range(STEPS + 1):
    if step % 40 == 0:
        moments = measured()
        steps.append(step)
        nc1.append(collapse(moments[names[-1]]).nc1)
        if step in (0, 80, STEPS):
            layers[step] = [separation(each).compression for each in moments.values()]
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(inputs), labels).backward()
    optimizer.step()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.semilogy(steps, nc1, color="#0072b2")
left.set(xlabel="step", ylabel="NC1 of the last features")
for step, values in layers.items():
    right.semilogy(range(1, LAYERS + 1), values, marker="o", label=f"step {step}")
right.set(xlabel="layer", ylabel="compression $C_l$")
right.legend(frameon=False)
for axis in (left, right):
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig(Path(sys.argv[1]), dpi=120)
