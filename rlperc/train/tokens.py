"""From places in a completion's text to places among its tokens, by decoding what was sampled.

Encoding the text again would not do: the model may have written it with other tokens than its tokenizer would have.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import ceil

from rlperc.words.response import Tags, find_regions

Decode = Callable[[Sequence[int]], str]
Pieces = dict[int, str]
"""What single tokens decode to, filled as it is used: one for a tokenizer spares a batch most of its decodings."""
BROKEN = "\ufffd"
REGIONS = ("rest", "perception", "think", "answer")


class Prefixes:
    """How much of its text a completion's first tokens write, asked with few decodings.

    A prefix of the tokens may decode to more than a prefix of the text: to U+FFFD for the first bytes of a letter, to a
    space that a later token deletes. Its *settled* letters are those that it shares with the text from the start. Where a
    SentencePiece decoder replaces bytes, they can become fewer as tokens are added, by as much as a whole run of byte
    tokens. Among the *clean* prefixes, which decode to settled letters and then at most spaces, they do not.

    Mostly a text is nothing but what its tokens write one by one (`pieces`), and then all of this is a sum of lengths.
    """

    def __init__(self, ids: Sequence[int], decode: Decode, pieces: Pieces | None = None) -> None:
        self.text = decode(ids)
        self._ids, self._decode = ids, decode
        self._read = {0: (0, True), len(ids): (len(self.text), True)}
        self._lengths = None if pieces is None else self._sums(pieces)

    def _sums(self, pieces: Pieces) -> list[int] | None:
        """Letters of the first 0, 1, 2, … tokens; None where the tokens one by one write something else than together."""
        for token in self._ids:
            if token not in pieces:
                pieces[token] = self._decode([token])
        written = [pieces[token] for token in self._ids]
        if BROKEN in self.text or "".join(written) != self.text:
            return None
        return [0, *accumulate(map(len, written))]

    def token_range(self, start: int, end: int) -> range:
        """See the function of this name."""
        end = min(end, len(self.text))
        if end <= start:
            return range(0)
        first = self._needed(start + 1) - 1
        # Back over tokens that hold the first bytes of the letter at `start`.
        while not self._settled(first)[1] and first >= self._needed(start):
            first -= 1
        return range(first, self._needed(end))

    def _needed(self, end: int) -> int:
        """The smallest number of tokens whose decoding begins with `text[:end]`."""
        if self._lengths is not None:
            return bisect_left(self._lengths, end)
        high = min(count for count, (letters, _) in self._read.items() if letters >= end)
        low = max((count for count, (letters, clean) in self._read.items() if clean and letters < end), default=high - 1)
        last, one_before, probes = high, low, 0
        while high - low > 1:
            probes += 1
            probe = (low + high) // 2
            written, span = self._settled(last)[0], self._settled(last)[0] - self._settled(one_before)[0]
            if span and probes % 4:
                # Letters spread evenly over nearby tokens, more or less; where they do not, halving keeps the probes few.
                probe = last + ceil((end - written) * (last - one_before) / span)
                probe = max(low + 1, min(probe, high - 1))
            one_before, last = last, probe
            found = probe
            # An unclean prefix tells nothing about shorter ones.
            while found > low and self._settled(found)[0] < end and not self._settled(found)[1]:
                found -= 1
            if self._settled(found)[0] >= end:
                high = found
            else:
                low = probe
        return high

    def _settled(self, count: int) -> tuple[int, bool]:
        """The number of settled letters of the first `count` tokens, and whether these decode to nothing else."""
        if self._lengths is not None:
            return self._lengths[count], True
        if count not in self._read:
            written = self._decode(self._ids[:count])
            letters = len(written)
            if not self.text.startswith(written):
                letters = bisect_left(range(letters), True, key=lambda last: not self.text.startswith(written[: last + 1]))
            self._read[count] = letters, not written[letters:].strip(" ")
        return self._read[count]


def token_range(ids: Sequence[int], decode: Decode, start: int, end: int) -> range:
    """The tokens that any of `text[start:end]` comes from, where `text` is `decode(ids)`.

    It ends with the last of the fewest tokens whose decoding begins with `text[:end]`, and begins with the first token that
    writes any of the letter at `start`, be it only a byte. Tags merge with their neighbours: a token that also holds letters
    before or after the span belongs to it. One that adds nothing to what is decoded, as special tokens and the later bytes
    of a broken letter may, belongs to it only between others that do. An empty span has `range(0)`.

    Exact as long as decoding more tokens changes earlier letters only by completing or breaking a run of bytes, or by deleting
    spaces, as byte-level, SentencePiece, WordPiece and word-level decoders do, also with `clean_up_tokenization_spaces`. One
    exception: a U+FFFD that is meant, written byte by byte, cannot be told from an unfinished character.
    """
    return Prefixes(ids, decode).token_range(start, end)


def region_of_tokens(ids: Sequence[int], decode: Decode, tags: Tags, pieces: Pieces | None = None) -> list[int]:
    """For each token, the index in `REGIONS` of the region it belongs to (`find_regions`), 0 outside of all.

    A token in several regions, which are nested or share it at a border, belongs to the one that opens last.
    """
    prefixes = Prefixes(ids, decode, pieces)
    regions = [0] * len(ids)
    for name, start, end in find_regions(prefixes.text, tags):
        tokens = prefixes.token_range(start, end)
        regions[tokens.start : tokens.stop] = [REGIONS.index(name)] * len(tokens)
    return regions
