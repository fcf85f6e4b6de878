"""Places in text and places among tokens, whatever the tokenizer merges, splits, replaces or deletes."""

import json
import random
from collections.abc import Callable, Sequence
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlperc.train.tokens import REGIONS, region_of_tokens, token_range
from rlperc.words.response import Tags, find_regions

PLAIN = ("It's 8, isn't it? I don't know.", "the grid [[8,7],[1,2]] . Look !", "naïve café 図 🍎🍏 你好", "we've 'em ' s")
MARKS = [f"<{slash}{tag}>" for tag in ("perception", "think", "answer") for slash in ("", "/")]
TEXTS = [f"<perception>{a}</perception><think>{b}</think><answer>{c}</answer>" for a in PLAIN for b in PLAIN for c in PLAIN]
SPECIAL = ["<unk>", "<pad>", "<eos>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def wrapped(tokenizer: Tokenizer, clean_up: bool = False) -> PreTrainedTokenizerFast:
    names = dict(zip(("unk_token", "pad_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=clean_up, **names)


def byte_level(words: bool) -> PreTrainedTokenizerFast:
    """As GPT-2 and Qwen have; without `words`, tokens reach over everything, tags too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, max_token_length=12, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return wrapped(tokenizer)


def byte_fallback(kind: str) -> PreTrainedTokenizerFast:
    """As Llama 2 and Gemma have: what is not ASCII is written in byte tokens, and a run of them decodes as one or not at all."""
    bpe = kind == "BPE"
    tokenizer = Tokenizer(models.BPE() if bpe else models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    settings = {"special_tokens": SPECIAL, "show_progress": False, "vocab_size": 250}
    if bpe:
        trainer = trainers.BpeTrainer(**settings, max_token_length=12)
    else:
        trainer = trainers.UnigramTrainer(**settings, unk_token="<unk>", max_piece_length=12)
    tokenizer.train_from_iterator([text.encode("ascii", "ignore").decode() for text in TEXTS], trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    if bpe:
        vocabulary = {piece: index for index, piece in enumerate([*trained["vocab"], *BYTES])}
        merges = [tuple(pair) for pair in trained["merges"]]
        tokenizer.model = models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True)
    else:
        pieces = [tuple(piece) for piece in trained["vocab"]]
        tokenizer.model = models.Unigram([*pieces, *((byte, -9.0) for byte in BYTES)], unk_id=0, byte_fallback=True)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return wrapped(tokenizer, clean_up=not bpe)


def cleaned_up(kind: str) -> PreTrainedTokenizerFast:
    """As BERT has: tokens are joined by spaces, and some spaces deleted afterwards."""
    tokenizer = Tokenizer(getattr(models, kind)(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if kind == "WordPiece":
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
    trainer = getattr(trainers, f"{kind}Trainer")(vocab_size=300, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(PLAIN, trainer)
    tokenizer.add_tokens(MARKS)
    return wrapped(tokenizer, clean_up=True)


TOKENIZERS = {
    "byte-level": byte_level(words=True),
    "byte-level, merged": byte_level(words=False),
    "byte fallback, BPE": byte_fallback("BPE"),
    "byte fallback, Unigram": byte_fallback("Unigram"),
    "WordPiece": cleaned_up("WordPiece"),
    "word level": cleaned_up("WordLevel"),
}
each_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())

WORDS = st.sampled_from(
    [*MARKS, *MARKS, *SPECIAL, "8", "it's", "don't", " n't", " . ", " ' ", "中", "中文🍎", "é", "　", "<percep"]
)
# U+FFFD that is meant cannot be told from a character that is unfinished.
WRITTEN = st.lists(WORDS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=3), max_size=6)


@st.composite
def sampled_ids(draw: st.DrawFn, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """As a model samples: pieces encoded apart, tokens at random, and an end anywhere."""
    pieces = draw(st.lists(WRITTEN.map("".join) | st.integers(0, len(tokenizer) - 1), max_size=8))
    ids = [i for piece in pieces for i in ([piece] if isinstance(piece, int) else tokenizer.encode(piece))]
    return ids[: draw(st.integers(0, len(ids)) | st.just(len(ids)))]


def decoding(tokenizer: PreTrainedTokenizerFast) -> Callable[[Sequence[int]], str]:
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


@each_tokenizer
@given(data=st.data())
def test_the_range_is_what_decoding_every_prefix_finds(tokenizer: PreTrainedTokenizerFast, data: st.DataObject) -> None:
    ids, decode = data.draw(sampled_ids(tokenizer)), decoding(tokenizer)
    text = decode(ids)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    found = token_range(ids, decode, start, end)
    if start == end:
        assert found == range(0)
        return
    prefixes = [decode(ids[:count]) for count in range(len(ids) + 1)]
    # With one token less at its end, the tokens no longer write the span; there is no shorter way.
    assert found.stop == min(count for count, prefix in enumerate(prefixes) if prefix.startswith(text[:end]))
    # The tokens before it write no letter of the span; with one token more they write some of it, or begin to.
    shared = [sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prefix, text, strict=False))) for prefix in prefixes]
    assert shared[found.start] <= start
    silent = [n for n, prefix in enumerate(prefixes) if shared[n] <= start and not prefix[shared[n] :].strip(" ")]
    crossing = min(count for count, prefix in enumerate(prefixes) if prefix.startswith(text[:start])) - 1
    assert found.start == max(silent[-1], crossing)


@each_tokenizer
@given(data=st.data())
def test_every_token_belongs_to_the_last_region_to_open_of_those_it_writes(
    tokenizer: PreTrainedTokenizerFast, data: st.DataObject
) -> None:
    ids, decode = data.draw(sampled_ids(tokenizer)), decoding(tokenizer)
    text = decode(ids)
    spans = {}
    for name, start, end in find_regions(text, Tags()):
        tokens = spans[start, name] = token_range(ids, decode, start, end)
        assert text[start:end] in decode(ids[tokens.start : tokens.stop])
    expected = [max([found for found, tokens in spans.items() if i in tokens], default=(0, "rest"))[1] for i in range(len(ids))]
    assert [REGIONS[region] for region in region_of_tokens(ids, decode, Tags())] == expected
    assert [REGIONS[region] for region in region_of_tokens(ids, decode, Tags(), {})] == expected


# Tokens that merge a tag with its neighbours, hold one byte of a letter, or nothing at all.
PIECES = [b"<perception>", b"<percep", b"tion>", b"[[", b"8", b">[", b"</", b" ", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x8d\x8e", b""]


def join_pieces(ids: Sequence[int]) -> str:
    return b"".join(PIECES[i] for i in ids).decode("utf-8", errors="replace")


def test_by_hand() -> None:
    ids = [1, 2, 3, 4, 5, 6, 7]  # <percep|tion>|[[|8|>[|</|_
    assert join_pieces(ids) == "<perception>[[8>[</ "
    assert token_range(ids, join_pieces, 12, 15) == range(2, 4)
    assert token_range(ids, join_pieces, 15, 16) == range(4, 5)  # a token that the span shares with what follows
    assert token_range(ids, join_pieces, 0, 20) == range(0, 7)
    assert token_range(ids, join_pieces, 16, 99) == range(4, 7)  # an end behind the text is the end of the text


def test_by_hand_the_bytes_of_a_letter_and_tokens_without_text() -> None:
    ids = [12, 4, 12, 10, 11, 12, 8, 9, 12]  # |8||🍎's first two bytes|its last two||é's first|its last|
    assert join_pieces(ids) == "8🍎é"
    assert token_range(ids, join_pieces, 0, 1) == range(1, 2)
    assert token_range(ids, join_pieces, 1, 2) == range(3, 5)
    assert token_range(ids, join_pieces, 2, 3) == range(6, 8)
    assert token_range(ids, join_pieces, 0, 3) == range(1, 8)


def test_by_hand_bytes_that_unmake_the_letters_before_them() -> None:
    tokenizer = TOKENIZERS["byte fallback, BPE"]
    decode = decoding(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(["a", *["<0xE4>", "<0xB8>", "<0xAD>"] * 2, "t"])
    assert [decode(ids[:count]) for count in (3, 4, 5)] == ["a\ufffd\ufffd", "a中", "a\ufffd\ufffd\ufffd\ufffd"]
    assert decode(ids) == "a中中t"
    spans = {(0, 1): range(0, 1), (0, 2): range(0, 4), (1, 2): range(1, 4), (2, 3): range(4, 7), (3, 4): range(7, 8)}
    assert {span: token_range(ids, decode, *span) for span in spans} == spans


def test_by_hand_a_long_run_of_bytes() -> None:
    tokenizer = TOKENIZERS["byte fallback, BPE"]
    ids = tokenizer.convert_tokens_to_ids([*"a" * 40, *["<0xE4>", "<0xB8>", "<0xAD>"] * 20])
    for start in range(20):
        for end in range(start + 1, 21):
            expected = range(40 + 3 * start, 40 + 3 * end)
            assert token_range(ids, decoding(tokenizer), 40 + start, 40 + end) == expected


def test_by_hand_bytes_of_a_wide_space_in_a_broken_run() -> None:
    tokenizer = TOKENIZERS["byte fallback, BPE"]
    decode = decoding(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(["</answer>", "<0xE3>", "<0x80>", "<0x80>", "<0xFF>"])
    assert (decode(ids[:4]), decode(ids)) == ("</answer>\u3000", "</answer>\ufffd\ufffd\ufffd\ufffd")
    assert token_range(ids, decode, 9, 10) == range(1, 2)


def test_by_hand_spaces_deleted_afterwards() -> None:
    tokenizer = TOKENIZERS["WordPiece"]
    decode = decoding(tokenizer)
    ids = tokenizer.convert_tokens_to_ids(["It", "'", "s", ".", "</think>"])
    assert (decode(ids[:2]), decode(ids)) == ("It '", "It's. </think>")
    spans = {(0, 2): range(0, 1), (2, 4): range(1, 3), (3, 4): range(2, 3), (4, 5): range(3, 4), (6, 14): range(4, 5)}
    assert {span: token_range(ids, decode, *span) for span in spans} == spans
    tokenizer = TOKENIZERS["byte fallback, Unigram"]
    ids = tokenizer.convert_tokens_to_ids(["8", "▁", ".", "t"])
    assert decoding(tokenizer)(ids) == "8.t"
    assert token_range(ids, decoding(tokenizer), 1, 3) == range(2, 4)


@pytest.mark.parametrize(
    ("tokens", "regions"),
    [
        ("<perception>|8|</perception>|<think>|a|</think>|<answer>|7|</answer>", "111222333"),
        ("so|<think|>4</think|><ans|wer>|7|</answer>.|", "0223333" + "0"),  # a token in both belongs to the later one
        ("<think>|a|<answer>|7|</answer>|b|</think>|c", "22333220"),  # nested
        ("<answer>|7|<think>|a|</answer>|b|</think>", "3322222"),  # crossed
        ("||<answer>||7|</answer>||", "00333300"),  # padding, and a token within that decodes to nothing
        ("<think>|a|</think>|<ans", "2220"),  # cut off within an opening tag
        ("<think>|a|</think>|<answer>|7|</ans|", "2223330"),  # cut off within a closing one
        ("</answer>|<answer>|7", "033"),
        ("<answer>|7|</answer>|<answer>|8|</answer>|<think>|a|</think>", "000000222"),  # repeated
        ("no| tags", "00"),
        ("<think>| |</think>", "222"),
    ],
)
def test_regions_by_hand(tokens: str, regions: str) -> None:
    pieces = tokens.split("|")

    def decode(ids: Sequence[int]) -> str:
        return "".join(pieces[i] for i in ids)

    assert "".join(map(str, region_of_tokens(range(len(pieces)), decode, Tags()))) == regions


def test_regions_under_other_tags_and_of_nothing() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("<info>8</info>")
    assert region_of_tokens(ids, decoding(tokenizer), Tags(perception="info")) == [1] * len(ids)
    assert region_of_tokens(ids, decoding(tokenizer), Tags()) == [0] * len(ids)
    assert region_of_tokens([], decoding(tokenizer), Tags()) == []


def test_a_region_cut_off_within_a_letter_has_its_bytes() -> None:
    tokenizer = TOKENIZERS["byte fallback, Unigram"]
    ids = [*tokenizer.encode("8<answer>中"), *tokenizer.convert_tokens_to_ids(["<0xE4>", "<0xB8>", "<eos>", "<pad>"])]
    regions = region_of_tokens(ids, decoding(tokenizer), Tags())
    outside = len(tokenizer.encode("8"))
    assert regions == [0] * outside + [3] * (len(ids) - outside - 2) + [0, 0]


def test_with_known_pieces_one_decoding_is_enough() -> None:
    tokenizer = TOKENIZERS["byte-level"]
    ids = tokenizer.encode("<perception>[[1,2]]</perception><think>It's 1 and 2 and 3</think><answer>7</answer><eos>")
    calls: list[int] = []

    def decode(some: Sequence[int]) -> str:
        calls.append(len(some))
        return decoding(tokenizer)(some)

    pieces: dict[int, str] = {}
    regions = region_of_tokens(ids, decode, Tags(), pieces)
    assert set(pieces) == set(ids)
    calls.clear()
    assert region_of_tokens(ids, decode, Tags(), pieces) == regions == region_of_tokens(ids, decoding(tokenizer), Tags())
    assert calls == [len(ids)]


@pytest.mark.parametrize("name", ["byte-level", "byte fallback, BPE", "WordPiece"])
def test_long_completions_take_few_decodings(name: str) -> None:
    draw = random.Random(0)
    grid, thought = ("".join(draw.choices(words, k=1500)) for words in (["1", ",", "[", "中"], ["8 ", "It's ", "the ", "know "]))
    ids = TOKENIZERS[name].encode(f"<perception>{grid}</perception><think>{thought}</think><answer>7</answer><eos>")
    assert len(ids) > 1500
    calls = 0

    def decode(some: Sequence[int]) -> str:
        nonlocal calls
        calls += 1
        return decoding(TOKENIZERS[name])(some)

    assert set(region_of_tokens(ids, decode, Tags())) == {0, 1, 2, 3}
    assert calls <= 25  # halving alone would take about 40
