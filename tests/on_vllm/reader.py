"""A text model with weights written by hand: what it says is known, so a test knows what a judge must have said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END, ASSISTANT, TOOL = "<|pad|>", "<|im_end|>", "<|assistant|>", "<|tool|>"
SPECIAL = [PAD, END, "<|system|>", "<|user|>", ASSISTANT, TOOL]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|im_end|>{% endfor %}<|assistant|>"
# What the reader writes: after this token comes that one, how likely by itself, and how much more with words of the prompt.
NEXT: list[tuple[str, str, float, dict[str, float]]] = [
    (ASSISTANT, "<answer>", 0, {"facts": -100}),
    (ASSISTANT, "[0, 0]", 0, {"question": -100}),
    (ASSISTANT, "[1, 0]", -1, {"question": -100, "spider": 8}),
    (ASSISTANT, "[1, 1]", -1, {"question": -100, "bird": 8, TOOL: 8}),
    (ASSISTANT, "la", -50, {"sings": 1000}),
    (ASSISTANT, END, -50, {"silent": 1000}),
    ("la", "la", 0, {}),
    ("<answer>", "</answer>", 0, {}),
    ("<answer>", "8", -1, {"spider": 8}),
    ("<answer>", "2", -1, {"bird": 8}),
    ("<answer>", "1", -1, {"Which": 8}),
    ("<answer>", "東京", -1, {"パリ": 8}),
    *((said, "</answer>", 0, {}) for said in ("8", "2", "1", "東京")),
    *((said, END, 0, {}) for said in ("</answer>", "[0, 0]", "[1, 0]", "[1, 1]")),
]
WIDTH, HEAD, CONTEXT = 512, 32, 2048


def save_reader(folder: Path) -> Path:
    """A Llama of one layer: its head looks for the words of NEXT anywhere in the prompt, its output layer is that table."""
    words = sorted({word for *_, words in NEXT for word in words})
    tokenizer = _tokenizer([*(token for pair in NEXT for token in pair[:2]), *words])
    ids, one = tokenizer.get_vocab(), WIDTH - 1  # the last dimension is 1 in every token
    assert len(ids) + len(words) < one
    config = LlamaConfig(
        vocab_size=len(ids),
        hidden_size=WIDTH,
        intermediate_size=HEAD,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=HEAD,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 1e30},
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    unit = (WIDTH / 2) ** 0.5  # what the norm makes of each of a token's two ones
    slow = HEAD // 2 - 1  # the dimension that positions turn the least
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name else 0.0)
        model.model.embed_tokens.weight[:, : len(ids)] = torch.eye(len(ids))
        model.model.embed_tokens.weight[:, one] = 1.0
        look = model.model.layers[0].self_attn
        look.q_proj.weight[slow, one] = 1.0
        for place, word in enumerate(words):
            look.k_proj.weight[slow, ids[word]] = 30 * HEAD**0.5 / unit**2
            look.v_proj.weight[place, ids[word]] = 1 / unit
            look.o_proj.weight[len(ids) + place, place] = 10.0
        for last, then, usual, more in NEXT:
            row = model.lm_head.weight[ids[then]]
            row[ids[last]] += 100.0
            row[one] += usual
            for word, much in more.items():
                row[len(ids) + words.index(word)] += much
    model.generation_config.update(max_new_tokens=2, repetition_penalty=1e6)  # as some models have it, if not so much
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(tokens: Sequence[str]) -> PreTrainedTokenizerFast:
    """Bytes, and these tokens wherever a text spells them."""
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: place for place, byte in enumerate(bytes_)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in dict.fromkeys(tokens) if token not in SPECIAL])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, chat_template=TEMPLATE)
