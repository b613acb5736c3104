"""Byte-level BPE once more, in Python and naively: what the tests of the tokenizer compare with.

Words come from the real regular expressions, run over a text in which every character is replaced by an
ASCII one of its class, since `re` knows no \\p{L}. Bytes that are no UTF-8 are surrogates here.
"""
import collections
import functools
import json
import re
import unicodedata

from reprise import SHARED, SOURCE

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
PATTERNS = [GPT2, LLAMA3, QWEN2]
END = "<|endoftext|>"


def some_text():
    """A megabyte of Shakespeare where there is any, else what this project's pages say."""
    shakespeare = SHARED / "tinyshakespeare.txt"
    if shakespeare.exists():
        return shakespeare.read_bytes()
    return b"\n".join(path.read_bytes() for path in sorted(SOURCE.glob("*/**/*.[mch]*")) if path.suffix in (".md", ".c"))


@functools.cache
def stand_in(char):
    """An ASCII character of the same class, the same where an expression names it."""
    if char in " \r\n'" or char in "stremvldSTREMVLD":
        return char
    if char == "\u017f":
        return "\u017f"
    if char in "\x1c\x1d\x1e\x1f":
        return "!"
    category = unicodedata.category(char)[0]
    if category in "LN":
        return "a" if category == "L" else "0"
    return "\t" if char.isspace() else "!"


def expression(pattern):
    """The pattern for stand-ins; the long s, a letter, is an s when case does not count."""
    pattern = pattern.replace("(?i:'s", "(?i:'s|'\u017f").replace(r"[^\s\p{L}\p{N}]", r"[^\s\p{L}0]")
    for inner in (r"[^\r\n\p{L}\p{N}]", r"[^\s\p{L}0]"):
        pattern = pattern.replace(inner, inner.replace(r"\p{L}", "A-Za-z\u017f").replace(r"\p{N}", "0"))
    return re.compile(pattern.replace(r"\p{L}", "[A-Za-z\u017f]").replace(r"\p{N}", "0"))


def words(data, pattern=GPT2):
    """The words of bytes, as bytes."""
    text = data.decode("utf-8", "surrogateescape")
    found, last = [], 0
    for match in expression(pattern).finditer("".join(map(stand_in, text))):
        assert match.start() == last
        found.append(text[last:match.end()].encode("utf-8", "surrogateescape"))
        last = match.end()
    assert last == len(text)
    return found


def alphabet():
    """The character that each byte is written as."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {**{byte: chr(byte) for byte in shown}, **{byte: chr(256 + i) for i, byte in enumerate(hidden)}}


ALPHABET = alphabet()


def written(token):
    return "".join(ALPHABET[byte] for byte in token)


def train(data, n_merges, pattern=GPT2):
    """Merges of the most frequent pairs, the first in bytewise order where two are equal."""
    counts = collections.Counter(words(data, pattern))
    split = {word: [word[i:i + 1] for i in range(len(word))] for word in counts}
    merges = []
    for _ in range(n_merges):
        pairs = collections.Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, parts in split.items():
            split[word] = join(parts, best)
    return merges


def join(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if tuple(parts[i:i + 2]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


class Twin:
    """Ids 0 to 255 are the bytes in the order of their characters, then the merges in order."""

    def __init__(self, merges, pattern=GPT2, whole_words=False):
        self.merges, self.pattern, self.whole_words = merges, pattern, whole_words
        self.tokens = sorted((bytes([byte]) for byte in range(256)), key=written)
        for left, right in merges:
            if left + right not in self.tokens:
                self.tokens.append(left + right)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.cache = {}

    def merge(self, word):
        """The pair of lowest rank, the leftmost of equal ones, until there is none."""
        if self.whole_words and word in self.ids:
            return [self.ids[word]]
        parts = [word[i:i + 1] for i in range(len(word))]
        while True:
            best = None
            for i, pair in enumerate(zip(parts, parts[1:])):
                rank = self.ranks.get(pair)
                if rank is not None and (best is None or rank < best[0]):
                    best = (rank, i)
            if best is None:
                return [self.ids[part] for part in parts]
            i = best[1]
            parts[i:i + 2] = [parts[i] + parts[i + 1]]

    def encode(self, data):
        out = []
        for word in words(data, self.pattern):
            if word not in self.cache:
                self.cache[word] = self.merge(word)
            out += self.cache[word]
        return out

    def vocabulary(self):
        return {written(token): i for i, token in enumerate(self.tokens)}

    def save_pair(self, folder, end=True):
        """vocab.json and merges.txt, as GPT-2 has them."""
        folder.mkdir(parents=True, exist_ok=True)
        vocabulary = self.vocabulary()
        if end:
            vocabulary[END] = len(vocabulary)
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        lines = ["#version: 0.2", *(f"{written(a)} {written(b)}" for a, b in self.merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n")
        return folder

    def tokenizer(self, end=True, as_lists=False):
        """The content of a tokenizer.json."""
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        split = {"type": "Split", "pattern": {"Regex": self.pattern}, "behavior": "Isolated", "invert": False}
        plain = self.pattern == GPT2
        pre = {**level, "use_regex": True} if plain else {
            "type": "Sequence", "pretokenizers": [split, {**level, "use_regex": False}]}
        merges = [[written(a), written(b)] if as_lists else f"{written(a)} {written(b)}" for a, b in self.merges]
        return {
            "version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [added(len(self.tokens), END)] if end else [],
            "normalizer": None, "pre_tokenizer": pre, "post_processor": None, "decoder": level,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": self.whole_words, "vocab": self.vocabulary(), "merges": merges}}

    def save(self, path, **how):
        path.write_text(json.dumps(self.tokenizer(**how)))
        return path


def added(i, content, special=True):
    return {"id": i, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": special}
