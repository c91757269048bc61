"""Compares lnfree's reader of tokenizer.json with Hugging Face's tokenizers, token by token.

    compare_tokenizers.py ENCODE_TEXTS ENVIRONMENT

Trains byte-level tokenizers of several kinds on one half of the texts and compares the tokens of the other
half: 1 MB of Python code and 1 MB in eight scripts. Both directions must agree everywhere. ENVIRONMENT is a
folder for the environment of peers.py.
"""

import json
import random
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from peers import environment

SCRIPTS = {  # letters of each script, and its other characters
    "Latin": ([(0x61, 0x7A), (0x41, 0x5A), (0xC0, 0xFF), (0x100, 0x17F), (0x1E00, 0x1EFF)], [(0x300, 0x30F)]),
    "Greek": ([(0x391, 0x3A1), (0x3B1, 0x3C9), (0x1F00, 0x1F07)], [(0x384, 0x385)]),
    "Cyrillic": ([(0x410, 0x44F), (0x400, 0x40F), (0x48A, 0x4FF)], [(0x483, 0x487)]),
    "Hebrew": ([(0x5D0, 0x5EA)], [(0x5B0, 0x5BD)]),
    "Arabic": ([(0x621, 0x63A), (0x641, 0x64A)], [(0x64B, 0x652), (0x660, 0x669)]),
    "Devanagari": ([(0x905, 0x939)], [(0x93E, 0x94D), (0x966, 0x96F)]),
    "Han": ([(0x4E00, 0x9FA5)], [(0x3001, 0x3011), (0xFF10, 0xFF19)]),
    "Hangul": ([(0xAC00, 0xD7A3)], [(0x1100, 0x1112)]),
}
SPACES = [" "] * 12 + ["\n", "\n\n", "  ", "   ", "\t", "\r\n", " \n", "\n  ", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085"]
OTHERS = ["'s", "'ll", "'Re", "'ſ", "don't", "I'M", "...", "!?", "—", "«", "12", "3456789", "½", "²", "Ⅳ", "_", "$", "\u200b",
          "\u180e", "\u200d", "\ufeff", "😀", "👩‍💻", "\U00020000", "\x00", "\x1c", "\x7f", "Ġ", "Ċ", "<|endoftext|>", "<mask>"]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


# Matches are removed, so that the tokens show them.
PATTERNS = [r"(?i:'s|'t|k|s+s|a[b-f]?)", r"(?i)[^\p{L}\p{N}]", r"(?i:\p{Lu})", r"(?i)[^\s\w]", r"\w", r"\W", r"[\w]", r"[^\w]", r"\s|\d"]


def python_code(size):
    """Two sets of documents from Python's own sources, each of at least that many bytes, shortest file names
    first."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"), key=lambda p: (len(p.name), p.name))
    sides = [[], []]
    for i, file in enumerate(files):
        side = sides[i % 2]
        if sum(map(len, side)) < size:
            side.append(file.read_text(encoding="utf-8", errors="ignore"))
    return sides


def scripts(size, seed):
    """Documents in each of the eight scripts and in all of them mixed, made of random words; `size` bytes in
    total."""
    draw = random.Random(seed)
    characters = lambda ranges: [chr(c) for low, high in ranges for c in range(low, high + 1)]
    alphabets = [tuple(map(characters, ranges)) for ranges in SCRIPTS.values()]
    words = [["".join(draw.choices(letters, k=draw.randint(1, 7))) + ("".join(draw.choices(marks, k=1)) if i % 5 == 0 else "")
              for i in range(400)] for letters, marks in alphabets]
    documents, total = [], 0
    while total < size:
        script, parts = len(documents) % (len(words) + 1), []
        for _ in range(draw.randint(1, 400)):
            own = words[script if script < len(words) else draw.randrange(len(words))]
            parts += [draw.choice(own), draw.choice(SPACES) if draw.random() < 0.9 else ""]
            if draw.random() < 0.2:
                parts += [draw.choice(OTHERS), draw.choice(SPACES) if draw.random() < 0.5 else ""]
        documents.append("".join(parts))
        total += len(documents[-1].encode())
    return documents


def make_tokenizers(texts, folder):
    """Yields names and files of tokenizers trained on the texts, of each kind in use."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    byte_level = pre_tokenizers.ByteLevel
    makes = {
        "gpt2": byte_level(add_prefix_space=False),
        "llama3": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
                                           byte_level(add_prefix_space=False, use_regex=False)]),
        "cl100k": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "removed", invert=True),
                                           byte_level(add_prefix_space=False, use_regex=False)]),
        "starcoder": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                              byte_level(add_prefix_space=False)]),
        "roberta": byte_level(add_prefix_space=True),
        "pythia": byte_level(add_prefix_space=False),
        "words": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+|\s"), "isolated"),
                                          pre_tokenizers.Split(".", "isolated"), byte_level(add_prefix_space=False)]),
    }
    for name, pre_tokenizer in makes.items():
        tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>"]
        if name == "pythia":
            tokenizer.normalizer = normalizers.NFC()
        if name == "roberta":
            special += [AddedToken("<mask>", lstrip=True), AddedToken("<pad>", rstrip=True)]
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=3000, initial_alphabet=byte_level.alphabet(), special_tokens=special, show_progress=False))
        if name in ("starcoder", "pythia"):
            tokenizer.add_tokens(["    ", "  ", "self.", AddedToken("import ", normalized=False)])
        if name == "llama3":  # whole words that merges alone would not give
            content = json.loads(tokenizer.to_str())
            content["model"]["merges"] = content["model"]["merges"][::3] + content["model"]["merges"][1::3]
            tokenizer = Tokenizer.from_str(json.dumps(content))
        path = folder / f"{name}.json"
        tokenizer.save(str(path))
        yield name, path
        if name == "gpt2":  # merges as they were written before tokenizers 0.20
            content = json.loads(path.read_text())
            content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
            path = folder / "code-search-net.json"
            path.write_text(json.dumps(content))
            yield "code-search-net", path


def make_splitters(folder):
    """Yields patterns and files of tokenizers that drop what matches them, without any merges."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    for i, pattern in enumerate(PATTERNS):
        tokenizer = Tokenizer(models.BPE(vocab={letter: id for id, letter in enumerate(alphabet)}, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "removed"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        path = folder / f"pattern_{i}.json"
        tokenizer.save(str(path))
        yield pattern, path


def ours(program, tokenizer, texts):
    """(ids, text) for each text."""
    blocks = [text.encode() for text in texts]
    given = b"".join(struct.pack("<I", len(block)) + block for block in blocks)
    answer = subprocess.run([program, tokenizer], input=given, check=True, stdout=subprocess.PIPE).stdout
    at = 0

    def take(width):
        nonlocal at
        (count,) = struct.unpack_from("<I", answer, at)
        at += 4 + width * count
        return answer[at - width * count : at]

    return [(list(struct.unpack(f"<{len(ids) // 4}i", ids)), text)
            for ids, text in ((take(4), take(1)) for _ in blocks)]


def compare(program):
    from tokenizers import Tokenizer

    code, training_code = python_code(1_000_000)
    texts = [*code, *scripts(1_000_000, seed=1), "", " ", "\n", "a", "<|endoftext|>", "  <mask>  <pad>  x<mask>"]
    size = sum(len(text.encode()) for text in texts)
    assert size > 2_000_000, f"only {size} bytes of text"
    differences = 0
    with tempfile.TemporaryDirectory(prefix="lnfree-test-") as folder:
        for name, path in make_tokenizers([*training_code, *scripts(300_000, seed=2)], Path(folder)):
            theirs = Tokenizer.from_file(str(path))
            tokens = 0
            compared = texts if name in ("gpt2", "code-search-net", "llama3") else texts[::4] + texts[-6:]
            size = sum(len(text.encode()) for text in compared)
            for text, (ids, back) in zip(compared, ours(program, path, compared), strict=True):
                expected = theirs.encode(text, add_special_tokens=False).ids
                tokens += len(expected)
                if ids != expected:
                    at = next((i for i, pair in enumerate(zip(ids, expected)) if pair[0] != pair[1]), min(len(ids), len(expected)))
                    print(f"{name}: tokens differ from {at} on: {ids[at:at + 8]} where {expected[at:at + 8]} was expected, "
                          f"{[theirs.id_to_token(i) for i in expected[max(at - 2, 0):at + 8]]}", file=sys.stderr)
                    differences += 1
                elif back.decode(errors="replace") != theirs.decode(expected, skip_special_tokens=False):
                    print(f"{name}: the text of {len(ids)} tokens differs", file=sys.stderr)
                    differences += 1
            print(f"{name}: {tokens} tokens of {size} bytes compared")
        # Every letter that has another case, and some more.
        letters = [chr(code) for code in range(0x20000) if chr(code).lower() != chr(code).upper()]
        text = "".join(before + letter for letter in letters for before in " sx") + "".join(OTHERS)
        for pattern, path in make_splitters(Path(folder)):
            expected = Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False).ids
            if ours(program, path, [text])[0][0] != expected:
                print(f"{pattern} matches other text", file=sys.stderr)
                differences += 1
        print(f"{len(PATTERNS)} patterns compared on {len(text)} characters")
    return 1 if differences else 0


if __name__ == "__main__":
    if len(sys.argv) == 2:  # only in the environment
        sys.exit(compare(sys.argv[1]))
    sys.exit(subprocess.run([environment(Path(sys.argv[2])), "-B", __file__, sys.argv[1]]).returncode)
