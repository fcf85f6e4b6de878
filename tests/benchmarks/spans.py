"""What finding the regions of completions' tokens costs, against decoding them and against training on them.

    python tests/benchmarks/spans.py

`region_of_tokens` over a batch of completions; TRL's one `batch_decode` of the same batch; and one forward and backward
pass over as many tokens of the quickstart's tiny model, in turn and in one run. That model has 0.4 M parameters and its
completions need no generating here, so that a real training step takes many times as long. The tokenizer is a byte-level
BPE trained on words drawn from a seed; a fifth of each completion is a perception of numbers, the rest is thought.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerFast

from rlperc.process import quiet
from rlperc.recipe.schema import TinyModel
from rlperc.train.tiny import save_tiny_model
from rlperc.train.tokens import region_of_tokens
from rlperc.words.response import Tags

WORDS = 8000
VOCABULARY = 8192
END = "<|end|>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=[64, 2000])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    quiet(tiny=True)
    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgkjqxz", k=rng.randint(1, 9))) for _ in range(WORDS)]

    def prose(count: int) -> str:
        return " ".join(rng.choices(words, weights=[1 / (rank + 1) for rank in range(WORDS)], k=count))

    tokenizer = train_tokenizer([prose(100) for _ in range(2000)])
    with tempfile.TemporaryDirectory() as folder:
        save_tiny_model(Path(folder), TinyModel(), [prose(100)], Tags(), seed=0)
        model = AutoModelForImageTextToText.from_pretrained(folder)
    print(f"{options.batch} completions a batch, {len(tokenizer)} tokens in the vocabulary, medians of {options.rounds} rounds")
    print(
        "| tokens each | decodings each | batch_decode | region_of_tokens | forward, backward | regions / decode | / training |"
    )
    print("|---|---|---|---|---|---|---|")
    for length in options.tokens:
        batch = [completion(tokenizer, rng, prose(2 * length), length) for _ in range(options.batch)]
        print(row(tokenizer, model, batch, options.rounds))


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def completion(tokenizer: PreTrainedTokenizerFast, rng: random.Random, thought: str, length: int) -> list[int]:
    """A response of exactly `length` tokens with its three regions."""
    grid = [[rng.randrange(100) for _ in range(3)] for _ in range(max(1, length // 40))]
    begin = tokenizer.encode(f"<perception>{grid}</perception>\n<think>")
    finish = tokenizer.encode(f"</think>\n<answer>{rng.randrange(100)}</answer>{END}")
    return [*begin, *tokenizer.encode(thought)[: length - len(begin) - len(finish)], *finish]


def row(tokenizer: PreTrainedTokenizerFast, model: torch.nn.Module, batch: list[list[int]], rounds: int) -> str:
    decodings = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal decodings
        decodings += 1
        return tokenizer.decode(ids, skip_special_tokens=True)

    pieces: dict[int, str] = {}  # as a trainer keeps them

    def find() -> None:
        for ids in batch:
            assert set(region_of_tokens(ids, decode, Tags(), pieces)) == {0, 1, 2, 3}

    vocabulary = len(model.get_input_embeddings().weight)
    inputs = torch.randint(vocabulary // 2, vocabulary, (len(batch), len(batch[0])))  # no special tokens among them
    ways = {
        "decode": lambda: tokenizer.batch_decode(batch, skip_special_tokens=True),
        "regions": find,
        "train": lambda: model(input_ids=inputs, labels=inputs).loss.backward(),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for counted in range(-1, rounds):  # the first round warms up
        for name, way in ways.items():
            seconds = clock(way)
            if counted >= 0:
                spent[name].append(seconds)
    ms = {name: 1000 * statistics.median(found) for name, found in spent.items()}
    each = decodings / (rounds + 1) / len(batch)
    return (
        f"| {len(batch[0])} | {each:.0f} | {ms['decode']:.2f} ms | {ms['regions']:.2f} ms | {ms['train']:.0f} ms"
        f" | {ms['regions'] / ms['decode']:.1f} | {ms['regions'] / ms['train']:.4f} |"
    )


def clock(way: Callable[[], object]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
