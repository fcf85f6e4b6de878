"""What vLLM draws in a second, what a sync of weights costs, and how far its log-probabilities are from the policy's.

    make test-vllm && .venv-vllm/bin/python tests/benchmarks/rollouts.py
    .venv-vllm/bin/python tests/benchmarks/rollouts.py --models smolvlm --batches 32 --tokens 32 --repeats 3
    .venv-vllm/bin/python tests/benchmarks/rollouts.py --parity --tokens 24

The first two: responses from vLLM in this process, through rlperc's adapter, against those that TRL's trainer draws with
transformers: the same weights, prompts with an image, sampling, groups of 8, and a fixed number of tokens. The two take turns,
on other prompts each time, and vLLM gets the weights before each of its turns, as after every step of training: it has no
embedding and no prefix from before. Counted is what happens once the trainer has its ids: for transformers the images are ready
by then, vLLM prepares its own; vLLM encodes an image once for its group, transformers for every response (`--tokens 1` shows
what that makes). `tiny` is the quickstart's model, `smolvlm` one of SmolVLM-256M's shape, both with random weights.

The third: mean and largest difference in log-probability between vLLM and the trainer's own forward, of TRL's colocated vLLM as
it comes and of rlperc's, as it trains and with the image token let in again; and whether rows without images go through.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "on_vllm"))  # before this folder, which has a rollouts.py too
os.environ["VLLM_LOGGING_LEVEL"] = os.environ.get("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from rollouts import ARCHITECTURES, build, every_kind, rolling
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from trainers import reason_stage, tiny_model
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)
from trl import GRPOConfig, GRPOTrainer
from trl.generation import vllm_generation

from rlperc.process import quiet
from rlperc.train.data import load_rows
from rlperc.train.models import load_model
from rlperc.train.parity import measure, spread
from rlperc.train.rollout import Rollouts
from rlperc.train.stages import make_trainer, stage_config
from rlperc.train.tiny.idefics3 import CHAT_TEMPLATE, END, IMAGE, PAD, SPECIAL, UNKNOWN
from rlperc.train.trl_overrides import with_images_in_place
from rlperc.words.response import Tags

GROUP = 8
CONTEXT = {"tiny": 256, "smolvlm": 512}  # tokens; the longest prompt has about 30 and 110
VOCABULARY = 49_280


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(CONTEXT), default=["tiny"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parity", action="store_true", help="differences instead of speed")
    parser.add_argument("--architectures", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES, help="of --parity")
    options = parser.parse_args()
    quiet(tiny=True)
    if options.parity:
        parity(options)
    else:
        speed(options)


# --- speed ------------------------------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> None:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; {options.tokens} new tokens, groups of {GROUP}; median of {options.repeats} (lowest to highest)")
    print("| model | batch | transformers, tokens/s | vLLM, tokens/s | vLLM / transformers | sync, s | sync / vLLM's turn |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name, batch in itertools.product(options.models, options.batches):
        with tempfile.TemporaryDirectory() as folder:
            start = (tiny_model if name == "tiny" else save_smolvlm)(Path(folder, "start"))
            theirs, ours, syncs = seconds(start, Path(folder), CONTEXT[name], batch, options)
        tokens = batch * options.tokens
        cells = [
            middle([tokens / one for one in theirs], ".0f"),
            middle([tokens / one for one in ours], ".0f"),
            middle([a / b for a, b in zip(theirs, ours, strict=True)], ".2f"),
            middle(syncs, ".3f"),
            middle([sync / turn for sync, turn in zip(syncs, ours, strict=True)], ".1%"),
        ]
        print(f"| {name} | {batch} | {' | '.join(cells)} |", flush=True)


def seconds(start: Path, folder: Path, context: int, batch: int, options: argparse.Namespace) -> list[list[float]]:
    """Seconds of each turn of transformers, of each turn of vLLM, and of the sync before the latter."""
    groups = batch // GROUP
    rows = load_rows(reason_stage()[1].data.model_copy(update={"rows": (options.repeats + 1) * groups}), options.seed)
    vllm = f"stages.reason.rollout={{engine: vllm, vllm: {{max_model_len: {context}}}, parity: {{rows: 0}}}}"
    theirs = trainer_on(start, folder, rows, batch, options, f"{{min_new_tokens: {options.tokens}}}")
    ours = trainer_on(start, folder, rows, batch, options, f"{{min_tokens: {options.tokens}}}", vllm)
    spent: list[list[float]] = [[], [], []]
    with closing(ours.vllm_generation):
        for repeat in range(options.repeats + 1):
            chosen = [rows[repeat * groups + group] for group in range(groups) for _ in range(GROUP)]
            # There and back again, so that a drifting machine favours neither.
            for trainer in (theirs, ours) if repeat % 2 else (ours, theirs):
                if trainer is ours:
                    spent[2].append(timed(ours.vllm_generation.sync_weights)[1])
                spent[trainer is ours].append(turn(trainer, chosen, options.tokens))
    return [took[1:] for took in spent]  # the first of each warms up


def turn(trainer: Any, rows: list[dict[str, Any]], tokens: int) -> float:
    """Seconds that a trainer takes to draw the responses."""
    ids, images, fields = trainer._tokenize_prompts([with_images_in_place(row) for row in rows])
    if trainer.use_vllm:
        (_, written, *_), took = timed(lambda: trainer.vllm_generation.generate(ids, images, GROUP))
    else:
        (written, _), took = timed(lambda: trainer._generate_single_turn(ids, images, fields, GROUP))
    assert {len(one) for one in written} == {tokens}
    return float(took)


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found, time.perf_counter() - began


def trainer_on(start: Path, folder: Path, rows: Any, batch: int, options: argparse.Namespace, full: str, *more: str) -> Any:
    sizes = {"per_device_train_batch_size": batch, "num_generations": GROUP, "max_completion_length": options.tokens}
    changed = [f"stages.reason.train.{name}={value}" for name, value in {**sizes, "generation_kwargs": full}.items()]
    half = ["stages.reason.model.dtype=bfloat16"] if torch.cuda.is_available() else []
    recipe, stage = reason_stage(f"seed={options.seed}", *changed, *half, *more)
    model, processor = load_model(start, stage.model)
    return make_trainer(recipe, stage, stage_config(recipe, stage, folder), model, processor, rows, [])


def middle(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


@contextmanager
def closing(generation: Any) -> Iterator[None]:
    """The engine's end, TRL's own too."""
    try:
        yield
    finally:
        Rollouts.close(generation)
        gc.collect()


# --- a model of SmolVLM-256M's shape ----------------------------------------------------------------------------------


def save_smolvlm(folder: Path) -> Path:
    """Random weights. One tile of 512 x 512 pixels for an image, which is 64 tokens."""
    tokenizer = _tokenizer()
    ends = {
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    text |= {"num_key_value_heads": 3, "head_dim": 64, "vocab_size": len(tokenizer), "max_position_embeddings": 8192}
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        scale_factor=4,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        vision_config={**vision, "image_size": 512, "patch_size": 16},
        text_config={"model_type": "llama", **text, **ends, "tie_word_embeddings": False},
    )
    size = {"longest_edge": 512}
    images = Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.update(**ends)
    model.save_pretrained(folder)
    Idefics3Processor(images, tokenizer, image_seq_len=64, chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    return folder


def _tokenizer() -> PreTrainedTokenizerFast:
    """As many tokens as SmolVLM's: the bytes, and pairs of them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    single = [*SPECIAL, *alphabet]
    pairs = list(itertools.islice(itertools.product(alphabet, alphabet), VOCABULARY - len(single)))
    vocabulary = {token: place for place, token in enumerate([*single, *map("".join, pairs)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, padding_side="left", model_max_length=8192
    )


# --- parity -----------------------------------------------------------------------------------------------------------


def parity(options: argparse.Namespace) -> None:
    print(f"{options.repeats} draws of {options.tokens} tokens at most for each row with images, seed {options.seed}; nats")
    print("| architecture | vLLM | mean (lowest to highest draw) | largest | tokens | with rows without images |")
    print("|---|---|---|---|---|---|", flush=True)
    for architecture in options.architectures:
        with tempfile.TemporaryDirectory() as folder:
            start = build(architecture, Path(folder, "start"))
            for name, make in (("TRL's", trl_trainer), ("rlperc's", rlperc_trainer)):
                trainer = make(start, Path(folder, name), options)
                # TRL's own sync fails on CPU, and both sides have the same weights.
                trainer._last_loaded_step = trainer.state.global_step
                with closing(trainer.vllm_generation):
                    differences, whole = (outcome(partial(act, trainer, options)) for act in (differing, on_all_rows))
                    print(f"| {architecture} | {name} | {differences} | {whole} |", flush=True)
                    if trainer.vllm_generation.generation_kwargs:
                        trainer.vllm_generation.generation_kwargs = {}
                        print(f"| | with the image token | {outcome(partial(differing, trainer, options))} | |", flush=True)
                del trainer


def differing(trainer: Any, options: argparse.Namespace) -> str:
    """Draws for the rows with images, held against the trainer's model."""
    rows = [row for row in every_kind() if row["images"]]
    draws = []
    for _ in range(options.repeats):
        ids, images, _ = trainer._tokenize_prompts([with_images_in_place(row) for row in rows])
        _, written, logprobs, _ = trainer.vllm_generation.generate(ids, images, 1)
        draws.append(measure(trainer, rows, ids, images, written, [[one[0] for one in row] for row in logprobs]))
    everything = list(itertools.chain.from_iterable(draws))
    mean, largest = spread(everything)
    means = [spread(draw)[0] for draw in draws]
    counted = sum(len(one.differences) for one in everything)
    return f"{mean:.2g} ({min(means):.2g} to {max(means):.2g}) | {largest:.2g} | {counted}"


def on_all_rows(trainer: Any, _: argparse.Namespace) -> str:
    """A whole round of the trainer's, on rows of which two have no image."""
    trainer._generate_and_score_completions([row for row in every_kind() for _ in range(trainer.num_generations)])
    return "works"


def outcome(act: Callable[[], str]) -> str:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - that is what is asked
        return f"fails: {type(error).__name__}: {' '.join(str(error).split())[:160]}"


def rlperc_trainer(start: Path, folder: Path, options: argparse.Namespace) -> Any:
    limits = [f"stages.reason.train.{name}={value}" for name, value in _limits(options).items()]
    return rolling(start, folder, every_kind(), f"seed={options.seed}", *limits)


def trl_trainer(start: Path, folder: Path, options: argparse.Namespace) -> Any:
    """TRL's trainer and its own way to vLLM; on CPU with no more than what lets it start."""
    model, processor = load_model(start, reason_stage()[1].model)
    cuda = torch.cuda.is_available()
    settings = {"use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": 512, "use_cpu": not cuda, "bf16": cuda}
    settings |= {"report_to": "none", "seed": options.seed, "gradient_checkpointing": False, **_limits(options)}
    started = vllm_generation.LLM
    if not cuda:
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        vllm_generation.LLM = partial(started, enforce_eager=True, kv_cache_memory_bytes=2**30)
    try:
        trainer = GRPOTrainer(
            model=model,
            args=GRPOConfig(output_dir=str(folder), **settings),
            train_dataset=every_kind(),
            processing_class=processor,
            reward_funcs=[lambda completions, **_: [float(len(one[0]["content"])) for one in completions]],
        )
    finally:
        vllm_generation.LLM = started
    trainer.tags = Tags()
    return trainer


def _limits(options: argparse.Namespace) -> dict[str, int]:
    return {"per_device_train_batch_size": 16, "num_generations": 2, "max_completion_length": options.tokens}


if __name__ == "__main__":
    main()
