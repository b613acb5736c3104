"""The tokenizer: words and ids against a twin (tests/bpe_twin.py), any bytes, hostile files."""
import codecs
import json
import os
import random
import re
import subprocess
import unicodedata

import numpy as np
import pytest

import bpe_twin
from bpe_twin import END, GPT2, LLAMA3, PATTERNS, QWEN2, Twin

IDS = os.environ.get("BPE_IDS", "bpe_ids")
TEXT = bpe_twin.some_text()
# Characters that are newer than this Python's tables would make the twin wrong, not the program.
KNOWN = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
NUMBERS = [c for c in KNOWN if unicodedata.category(chr(c))[0] == "N"]
POOLS = ["ab c.\n1'", " \t\n\r'stremvldSTREMVLDax\u017f\u212a0123.,!?", "\u00a0\u2003\u3000\u200b\u0085\x1c\x1f\x0b ab'12\r\n",
         "aäß日本語한국ابجदेवนา\u0301🙂👩½²٣五Ⅷ' \n", "".join(map(chr, range(0x250)))]


def lay_open(tokenizer, what, data, expect=0):
    done = subprocess.run([IDS, str(tokenizer), what], input=data, capture_output=True, timeout=300)
    assert done.returncode == expect, done.stderr
    return done.stderr.decode() if expect else done.stdout


def ids(tokenizer, data, what="ids"):
    return np.frombuffer(lay_open(tokenizer, what, data), "<i4").tolist()


def words(data, number):
    lengths, at = ids("-", data, f"words-{number}"), 0
    out = []
    for length in lengths:
        out.append(data[at:at + length])
        at += length
    assert at == len(data)
    return out


def hostile(seed, n, pool=None):
    """Text of characters of one pool, or of all there are."""
    draw = random.Random(seed)
    chars = pool or [chr(draw.choice(KNOWN)) for _ in range(n)]
    return "".join(draw.choice(chars) for _ in range(n)).encode()


@pytest.fixture(scope="module")
def merges():
    return bpe_twin.train(TEXT[:60000], 400)


@pytest.fixture(scope="module")
def gpt2(merges, tmp_path_factory):
    return Twin(merges), Twin(merges).save_pair(tmp_path_factory.mktemp("gpt2"))


def test_tiny_shakespeare(gpt2, merges, tmp_path):
    twin, folder = gpt2
    got = ids(folder, TEXT)
    assert got == twin.encode(TEXT)
    assert lay_open(folder, "decode", np.array(got, "<i4").tobytes()) == TEXT
    for k in range(1, len(merges)):  # the first exchange with merge 0 that matters
        other = Twin([merges[k], *merges[1:k], merges[0], *merges[k + 1:]])
        other.ids, other.tokens = twin.ids, twin.tokens
        if other.encode(TEXT[:20000]) != twin.encode(TEXT[:20000]):
            break
    control = ids(other.save_pair(tmp_path), TEXT)
    assert control != got
    assert control == other.encode(TEXT)


@pytest.mark.parametrize("number", range(3))
def test_words(number):
    for seed, pool in enumerate([*POOLS, None]):
        text = hostile(seed, 20000, pool)
        assert words(text, number) == bpe_twin.words(text, PATTERNS[number])
    text = hostile(0, 20000, POOLS[1])
    assert words(text, number) != words(text, (number + 1) % 3)


def test_every_character(monkeypatch):
    text = "".join(chr(c) + "a " + chr(c) for c in KNOWN).encode()
    for number in range(3):
        assert words(text, number) == bpe_twin.words(text, PATTERNS[number])
    true = bpe_twin.stand_in
    monkeypatch.setattr(bpe_twin, "stand_in", lambda char: "!" if char == "ª" else true(char))
    assert words(text, 0) != bpe_twin.words(text, GPT2)


def test_any_bytes(gpt2):
    """What is no UTF-8 is told apart as Python does, encoded, and comes back."""
    twin, folder = gpt2
    draw = random.Random(7)
    pieces = [b"\x80", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xe0\x80\x80",
              b"\xf4\x90\x80\x80", "é".encode(), b"a", b" ", b"1", b"\0", "🙂".encode(), b"\n"]
    texts = [bytes(draw.randrange(256) for _ in range(20000)), b"".join(draw.choice(pieces) for _ in range(20000)), b""]
    for text in texts:
        got = ids(folder, text)
        assert got == twin.encode(text)
        assert lay_open(folder, "decode", np.array(got, "<i4").tobytes()) == text


def test_long_words(gpt2):
    twin, folder = gpt2
    draw = random.Random(11)
    for text in (b"a" * 700, b"th" * 300, b" " * 500 + b"x", bytes(draw.choice(b"etaoinshr") for _ in range(900))):
        assert ids(folder, text) == twin.encode(text)
    text = bytes(draw.choice(b"etaoinshr") for _ in range(400000))  # quadratic work would take hours
    assert lay_open(folder, "decode", np.array(ids(folder, text), "<i4").tobytes()) == text


def test_cuts(gpt2):
    """The words of both sides are those of the whole at every cut; elsewhere often not."""
    _, folder = gpt2
    fails = 0
    for seed, pool in enumerate(["ab .\n1", "a日ا \u2003½1.\r\n'st"]):
        text = hostile(seed, 40, pool)
        cuts = np.array(ids(folder, text, "cuts")).reshape(-1, 2)
        assert set(cuts[:, 1]) <= set(cuts[:, 0]) | {len(text)}
        for place in range(1, len(text)):
            for number in range(3):
                same = words(text[:place], number) + words(text[place:], number) == words(text, number)
                fails += not same
                assert same or place not in cuts[:, 0]
        assert len(set(cuts[:, 0])) > 10
    assert fails > 10


@pytest.mark.parametrize("pattern", [LLAMA3, QWEN2])
@pytest.mark.parametrize("as_lists", [False, True])
def test_tokenizer_json(merges, tmp_path, pattern, as_lists):
    """With a pattern of its own, merges in both spellings, and words that are tokens by themselves."""
    base = Twin(merges, pattern)
    twin = Twin(merges, pattern, whole_words=True)
    path = twin.save(tmp_path / "tokenizer.json", as_lists=as_lists)
    text = TEXT[:20000] + hostile(3, 3000, POOLS[1]) + hostile(4, 3000, POOLS[3])
    assert ids(path, text) == ids(tmp_path, text) == twin.encode(text)
    assert twin.encode(text) != Twin(merges, GPT2).encode(text)
    # A token that no merge of its parts leads to: only whole words find it.
    for kind in (base, twin):
        kind.tokens.append(b" QQ")
        kind.ids[b" QQ"] = len(kind.tokens) - 1
        assert ids(kind.save(path), b"x QQ") == kind.merge(b"x") + kind.merge(b" QQ")
    assert len(twin.merge(b" QQ")) == 1 < len(base.merge(b" QQ"))


def test_digits_apart(merges, tmp_path):
    """Digits, then ByteLevel (SmolLM, StarCoder): each character of a number is a word, and ends what is before it as the end of a text does."""
    def wanted(text):
        pieces = re.split("([%s])" % "".join(map(chr, NUMBERS)), text.decode())
        return [word for piece in pieces for word in bpe_twin.words(piece.encode())]

    differs = 0
    for seed, pool in enumerate([*POOLS, "a \t1½٣,'s", None]):
        text = hostile(seed, 20000, pool)
        assert words(text, 3) == wanted(text), seed
        differs += wanted(text) != bpe_twin.words(text)
    assert differs > 4
    text = hostile(1, 40, "ab .\n1½")
    cuts = np.array(ids(Twin(merges).save(tmp_path / "plain.json"), text, "cuts")).reshape(-1, 2)[:, 0]
    for place in {int(place) for place in cuts if 0 < place < len(text)}:
        assert words(text[:place], 3) + words(text[place:], 3) == words(text, 3)

    twin = Twin(bpe_twin.train(b"in 1603, and   22 more\n" * 50 + TEXT[:20000], 100))  # knows numbers of several digits
    text = TEXT[:20000] + b" in 1603, and   22 more\t3\n" + hostile(5, 3000, POOLS[3])
    content = twin.tokenizer()
    level = content["pre_tokenizer"]
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    assert ids(path, text) == [i for word in wanted(text) for i in twin.merge(word)] != twin.encode(text)
    content["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = False
    path.write_text(json.dumps(content))
    assert "individual_digits" in lay_open(path, "ids", b"", expect=4)


def test_added_tokens(merges, tmp_path):
    """Special ones are found in prompts only, others everywhere; the longest of those that fit."""
    twin = Twin(merges)
    content = twin.tokenizer()
    n = len(twin.tokens)
    content["added_tokens"] += [bpe_twin.added(n + 1, "<|pad|>"), bpe_twin.added(n + 2, "  ", special=False),
                                bpe_twin.added(n + 3, "    ", special=False)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    text = b"it's" + END.encode() + b"  so" + b"    " + b"<|pad|>\n"
    a, so, feed = (twin.encode(part) for part in (b"it's", b"so", b"\n"))
    assert ids(tmp_path, text, "prompt") == [*a, n, n + 2, *so, n + 3, n + 1, *feed]
    assert ids(tmp_path, text) == [*twin.encode(b"it's" + END.encode()), n + 2, *so, n + 3,
                                   *twin.encode(b"<|pad|>\n")]
    assert lay_open(tmp_path, "decode", np.array(ids(tmp_path, text, "prompt"), "<i4").tobytes()) == text
    cuts = np.array(ids(tmp_path, text, "cuts")).reshape(-1, 2)[:, 0]
    inside = [i for i in range(len(text)) if text[:i + 1].endswith(b"end")]
    assert not set(inside) & set(cuts)


def test_streaming(gpt2):
    """Whole characters only, as Python's own incremental decoder gives them out."""
    _, folder = gpt2
    text = "né 日本 🙂👩 ".encode() * 3 + b"\xe2\x82 \xf0\x9f\x98A\xe0\x80\xf4\x90\xff\xc3" + "ü".encode()[:1]
    tokens = ids(folder, text)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    want, splits = "", 0
    for token in tokens:
        part = lay_open(folder, "decode", np.array([token], "<i4").tobytes())
        splits += part.decode("utf-8", "replace") != part.decode("utf-8", "ignore")
        want += decoder.decode(part) + "\n"
    want += decoder.decode(b"", final=True)
    assert splits > 5
    assert lay_open(folder, "stream", np.array(tokens, "<i4").tobytes()).decode() == want


def change(tokenizer, path, value):
    *front, last = path
    for key in front:
        tokenizer = tokenizer[key]
    if value is KeyError:
        del tokenizer[last]
    else:
        tokenizer[last] = value


@pytest.mark.parametrize("path, value, words_of_it", [
    (["model", "type"], "WordPiece", ["model: the type WordPiece"]),
    (["model", "byte_fallback"], True, ["byte_fallback"]),
    (["model", "dropout"], 0.1, ["dropout"]),
    (["model", "end_of_word_suffix"], "</w>", ["end_of_word_suffix"]),
    (["model", "vocab"], KeyError, ["`vocab`"]),
    (["model", "vocab", "!"], "x", ["`!`", "whole number"]),
    (["model", "vocab", "!"], 100000, ["`!`", "100000"]),
    (["model", "vocab", "!"], -1, ["`!`", "-1"]),
    (["model", "vocab", "!"], 5, ["second token", "id 5"]),
    (["model", "vocab", "!"], KeyError, ["gaps"]),
    (["model", "vocab", "日"], 277, ["`日`", "alphabet"]),
    (["model", "merges", 3], "Q", ["merge 3", "two tokens"]),
    (["model", "merges", 3], "Q Q", ["merge 3", "Q Q", "not in the vocabulary"]),
    (["model", "merges", 3], "QQ Q", ["merge 3", "`QQ`", "not in the vocabulary"]),
    (["model", "merges", 3], ["Q"], ["merge 3"]),
    (["model", "merges", 3], 7, ["merge 3"]),
    (["normalizer"], {"type": "NFC"}, ["normalizer NFC"]),
    (["decoder"], {"type": "WordPiece"}, ["decoder WordPiece"]),
    (["pre_tokenizer"], None, ["pre_tokenizer"]),
    (["pre_tokenizer"], {"type": "Whitespace"}, ["Whitespace"]),
    (["pre_tokenizer", "add_prefix_space"], True, ["add_prefix_space"]),
    (["pre_tokenizer", "use_regex"], False, ["use_regex"]),
    (["pre_tokenizer"], {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]}, [r"\w+", "Llama 3"]),
    (["added_tokens", 0, "lstrip"], True, ["lstrip", END]),
    (["added_tokens", 0, "id"], 3, ["second token", "id 3"]),
    (["added_tokens", 0, "content"], KeyError, ["content"]),
])
def test_what_is_refused(merges, tmp_path, path, value, words_of_it):
    content = Twin(merges[:20]).tokenizer()
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    assert ids(tmp_path, b"x")
    change(content, path, value)
    file.write_text(json.dumps(content))
    message = lay_open(tmp_path, "ids", b"x", expect=4)
    for part in [str(file), *words_of_it]:
        assert part in message


@pytest.mark.parametrize("name, old, new, words_of_it", [
    ("vocab.json", '"!": 0,', '"!": 0, "!": 0,', ["vocab.json:1:", "duplicate"]),
    ("vocab.json", "{", "", ["vocab.json:1:", "JSON"]),
    ("vocab.json", "{", "[{", ["vocab.json:1:", "JSON"]),
    ("vocab.json", '"!": 0, ', "", ["<|endoftext|>", "257", "gaps"]),
    ("merges.txt", "0.2\n", "0.2\nQ Q\n", ["merges.txt:2", "Q Q"]),
    ("merges.txt", "0.2\n", "0.2\n! \n", ["merges.txt:2", "two tokens"]),
    ("merges.txt", "0.2\n", "0.2\n\u0120 t\n", ["merges.txt:3", "twice"]),
    ("merges.txt", None, None, ["merges.txt"]),
    ("vocab.json", None, None, ["neither"]),
])
def test_what_is_refused_in_two_files(tmp_path, name, old, new, words_of_it):
    Twin([(b" ", b"t")]).save_pair(tmp_path)
    assert ids(tmp_path, b" t") == [256]
    file = tmp_path / name
    if old is None:
        file.unlink()
    else:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))
    message = lay_open(tmp_path, "ids", b"x", expect=4)
    for part in words_of_it:
        assert part in message


def test_other_names(gpt2, tmp_path):
    """gpt2-vocab.json looks for gpt2-merges.txt; line ends of Windows do no harm."""
    twin, folder = gpt2
    (tmp_path / "gpt2-vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    (tmp_path / "gpt2-merges.txt").write_bytes((folder / "merges.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert ids(tmp_path / "gpt2-vocab.json", TEXT[:5000]) == twin.encode(TEXT[:5000])
    assert "no such tokenizer" in lay_open(tmp_path / "absent", "ids", b"", expect=4)
