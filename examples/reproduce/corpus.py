"""Turns source files into token shards: a folder for each context, all with the same tokenizer."""

import re
import time
from pathlib import Path

import numpy as np

from files import ReproduceError, lock, name_of, read_json, write_json
from programs import ProgramRefused, run_to_end
from runs import options_of
from scales import CONTEXT, CORPUS_SEED, SCALES

PROJECT = Path(__file__).resolve().parents[2]

# llm.c's token shards: a header of 256 int32 with the magic number first and the number of tokens third.
HEADER_BYTES = 1024
TOKEN_TYPES = {20240520: np.uint16, 20240801: np.uint32}


def read_shard(path):
    """The tokens of a shard, mapped into memory."""
    header = np.fromfile(path, dtype="<i4", count=3)
    if len(header) < 3 or int(header[0]) not in TOKEN_TYPES:
        raise ReproduceError(f"{path} is not a token shard; remove its folder to rebuild it.")
    return np.memmap(path, TOKEN_TYPES[int(header[0])], "r", HEADER_BYTES, (int(header[2]),))


def write_half(folder, context):
    """Writes the first half of the held-out windows, selection.bin, for choices that are then tested on the
    other half. The halves have no file in common, except one that may span the border."""
    held_out = folder / "val.bin"
    header = np.fromfile(held_out, dtype="<i4", count=HEADER_BYTES // 4)
    tokens = read_shard(held_out)
    header[2] = len(tokens) // context // 2 * context
    if header[2] == 0:
        raise ReproduceError(f"{held_out} has no two windows, so it cannot be halved; give a larger --corpus.")
    half = folder / "selection.bin.part"
    half.write_bytes(header.tobytes() + tokens[: header[2]].tobytes())
    about = read_json(folder / "val.json") or {}
    about.pop("documents", None)
    write_json(folder / "selection.json", about | {"tokens": int(header[2])})
    half.replace(folder / "selection.bin")


def unigram_loss(folder, context):
    """Evaluation loss, in nats, of the model that knows only the token frequencies of the training data (plus
    one for each token, so that none has probability 0)."""
    train, held_out = (read_shard(folder / name) for name in ("train.bin", "val.bin"))
    targets = np.asarray(held_out).reshape(-1, context)[:, 1:].ravel()
    counts = np.ones(int(max(train.max(), targets.max())) + 1)
    for part in np.array_split(train, max(1, len(train) >> 24)):
        counts += np.bincount(part, minlength=len(counts))
    return float(np.mean(np.log(counts.sum()) - np.log(counts[targets])))


def require_one_shard(folder):
    """Refuses a prepared folder that has several shards for a split: all that reads it here expects one."""
    report = read_json(folder / "corpus.json") or {}
    for split in ("train", "held_out"):
        shards = report.get(split, {}).get("shards", [])
        if len(shards) > 1:
            raise ReproduceError(
                f"the corpus is too large: a split fills {len(shards)} shards, {folder / shards[0]} and the next, where "
                "one shard was expected; give a smaller --corpus."
            )


def skips_invalid(asked, folder):
    """Whether prepare_corpus is to skip invalid documents. A prepared folder is kept if that makes no
    difference because nothing was invalid."""
    report = read_json(folder / "corpus.json") or {}
    before = report.get("arguments", {}).get("skip_invalid", asked)
    counts = report.get("documents", {})
    if before and not asked and counts.get("invalid", 0) + counts.get("unreadable", 0) > 0:
        raise ReproduceError(
            f"the corpus in {folder.parent} was prepared with --skip-invalid; give it again, or another --out."
        )
    return before


def in_our_words(refusal, folder):
    """The refusal of prepare_corpus, with advice that applies here, where --scale determines its other
    options."""
    fact, semicolon, advice = str(refusal).partition("; ")
    if "--overwrite" in advice:
        advice = f"remove {folder} to rebuild it, or give another --out."
    elif "vocabulary" in advice or set(re.findall(r"--[a-z-]+", advice)) - {"--skip-invalid"}:
        advice = "give a larger --corpus, or another --scale."
    return ReproduceError(fact + semicolon + advice)


def prepare(arguments, contexts, halved, stop, with_text=False):
    """Prepares the shards, train.bin and val.bin in a folder for each context, and also selection.bin in the
    `halved` ones, and binds the root to them. With `with_text` the held-out files of the default context are
    also written as held_out.jsonl. Returns ({context: folder}, the content of corpus.json)."""
    own = arguments.corpus is not None
    root = arguments.out / "corpus" if own else PROJECT / "out" / "corpus"
    place = root if own else root / arguments.scale
    folders = {context: place / f"T{context}" for context in sorted({CONTEXT, *contexts})}
    waited = False
    while (held := lock(root / ".lock")) is None:
        if not waited:
            print("waiting: another run is preparing the corpus", flush=True)
        waited = True
        stop.check()
        time.sleep(1)
    scale = SCALES[arguments.scale]
    sources = root / ("sources" if scale.sources == "small" else f"sources-{scale.sources}")
    with held:
        if not own:
            print("corpus: Python sources of Debian packages", flush=True)
            run_to_end(
                [PROJECT / "examples" / "fetch_corpus.sh", "--set", scale.sources, "--out", sources],
                root / "log.txt",
                stop,
                "fetching the corpus",
            )
        given = arguments.tokenizer is not None
        print(f"corpus: removing duplicates, {'' if given else 'training the tokenizer, '}writing shards", flush=True)
        options = scale.corpus | (scale.corpus_own if own else {})
        with_tokenizer = {name: options[name] for name in ("held_out", "max_train_tokens") if name in options}
        if given:
            options = with_tokenizer | {"tokenizer": arguments.tokenizer}
        held_out = () if own else scale.held_out_packages
        for context, folder in folders.items():
            if context != CONTEXT and not given:
                options = with_tokenizer | {"tokenizer": folders[CONTEXT] / "tokenizer.model"}
            command = [
                arguments.programs / "prepare_corpus",
                "--input",
                arguments.corpus if own else sources,
                "--out",
                folder,
                "--context",
                context,
                "--seed",
                CORPUS_SEED,
                *options_of(options),
                *(word for name in held_out for word in ("--held-out-input", sources / f"python3-{name}")),
            ]
            is_new = not (folder / "corpus.json").exists()
            if with_text and context == CONTEXT and (is_new or not (folder / "held_out.jsonl").exists()):
                command += ["--held-out-text", folder / "held_out.jsonl"]
            # Without corpus.json, the files are from an interrupted preparation.
            command += ["--overwrite"] if is_new else []
            folder.parent.mkdir(parents=True, exist_ok=True)
            # In the many packages, some files have other encodings.
            skip = arguments.skip_invalid or not own and scale.sources != "small"
            command += ["--skip-invalid"] if skips_invalid(skip, folder) else []
            try:
                run_to_end(command, root / "log.txt", stop, "preparing the corpus")
            except ProgramRefused as refusal:
                raise in_our_words(refusal, folder) from refusal
            require_one_shard(folder)
            if context in halved:
                write_half(folder, context)
    corpus = {"input": name_of(arguments.corpus) if own else "Python sources of Debian packages"}
    corpus |= {} if own else {"sources": read_json(sources / "sources.json")}
    prepared = {str(context): read_json(folder / "corpus.json") for context, folder in folders.items()}
    return folders, bind(arguments.out / "corpus.json", corpus, prepared, folders)


def differ(known, report):
    """Whether two reports of prepare_corpus are of different shards, wherever their sources are. Entries that
    only one of them has, for example since it is of an earlier version, are ignored."""
    if not (isinstance(known, dict) and isinstance(report, dict)):
        return known != report
    names = known.keys() & report.keys() - {"arguments", "inputs", "folder"}
    return any(differ(known[name], report[name]) for name in names)


def bind(path, corpus, prepared, folders):
    """Writes or extends corpus.json, `prepared` by context; refuses another corpus than the recorded one."""
    bound = read_json(path) or corpus | {"prepared": {}, "unigram_loss": {}}
    known = bound["prepared"]
    if any(bound.get(name) != value for name, value in corpus.items()) or any(
        differ(known.get(context, report), report) for context, report in prepared.items()
    ):
        raise ReproduceError(
            f"the corpus in {folders[CONTEXT].parent} is no longer the one that {path.parent} was started with; "
            "give another --out."
        )
    if not set(prepared) <= set(known):
        known |= prepared
        for context, folder in folders.items():
            bound["unigram_loss"].setdefault(str(context), unigram_loss(folder, context))
        write_json(path, bound)
    return bound
