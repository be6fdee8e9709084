"""Turkish text -> a WordPiece tokenizer that the whole Hugging Face ecosystem can load.

    >>> tokenizer = train_tokenizer(["Ankara'nın ırmağı ..."], vocab_size=32000, cased=False)
    >>> tokenizer.tokenize("IRMAK İstanbul’un")
    ['ırmak', 'istanbul', "'", 'un']

All the Turkish rules (the case pairs I/ı and İ/i, curly apostrophes, composed characters) live in `tokenizer.json`,
so `AutoTokenizer` gives the same ids in a fresh process without turkbert. Training the same text gives the same
vocabulary every time.
"""

import hashlib
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

import numpy as np
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tqdm.auto import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import cached_file

from turkbert.errors import BAD_INPUT, ENVIRONMENT, UserError, config_error
from turkbert.hub_ids import is_hub_id

logger = logging.getLogger(__name__)

# The ids 0 to 4, in this order, under the names that transformers gives them.
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
# Without token_type_ids in this list transformers leaves them out, and every pair would silently be of type 0.
MODEL_INPUT_NAMES = ["input_ids", "token_type_ids", "attention_mask"]
# Quotes, modifier letters, prime and acute accent, as they are typed for an apostrophe.
_APOSTROPHES = Regex("[\u2018\u2019\u201b\u02bb\u02bc\u2032\u00b4]")
_MAX_CHARS_PER_WORD = 100  # WordPiece's own limit: a longer word is [UNK]
_MAX_CHUNKS = 5_000_000  # different chunks between white space that are counted at once: about 600 MB
_HUB_SECONDS = 10  # to wait for an answer of the Hub
_NO_VOCABULARY = ("no vocabulary there", "give a folder or Hub id with tokenizer.json or vocab.txt")
_LONG_RUN = 5_000_000  # words from which on training takes long enough to show its progress


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int = 32000,
    limit_alphabet: int = 200,
    min_frequency: int = 2,
    cased: bool = True,
) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer on `texts`, which are read once and never held together.

    The vocabulary depends on the multiset of words alone, not on threads, nor, up to five million different words,
    on the order of the texts.

    Args:
        texts: documents; a generator will do. Memory grows with the number of different words, to a limit.
        vocab_size: tokens in the vocabulary, special tokens included; reached exactly.
        limit_alphabet: the most frequent characters that are kept (ties: the lower code point); others are [UNK].
        min_frequency: how often a pair of pieces must occur to be merged.
        cased: keep upper case; else lower-case by the Turkish rules (I to ı, İ to i).

    Raises:
        UserError: the texts cannot fill `vocab_size`, or it is smaller than the alphabet needs.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = _turkish_normalizer(cased)
    # A suffix after an apostrophe, each digit and each mark is a word of its own.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation()]
    )
    counts = _count_words(texts, tokenizer)
    vocab = _train_vocab(counts, vocab_size, limit_alphabet, min_frequency)
    tokenizer.model = models.WordPiece(
        vocab, unk_token=SPECIAL_TOKENS["unk_token"], max_input_chars_per_word=_MAX_CHARS_PER_WORD
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=MODEL_INPUT_NAMES,
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, output_dir: str | os.PathLike) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, which transformers 4.57 and 5 load with equal ids.

    Not `save_pretrained`: it names a class that transformers 4 does not know (`TokenizersBackend`) or one that
    rebuilds the normaliser without the Turkish rules (`BertTokenizer`).
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": MODEL_INPUT_NAMES,
        "model_max_length": tokenizer.model_max_length,
        "clean_up_tokenization_spaces": False,
        **{name: getattr(tokenizer, name) for name in SPECIAL_TOKENS},
    }
    (folder / "tokenizer.json").write_text(_canonical_json(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(name_or_path: str | os.PathLike, revision: str | None = None) -> PreTrainedTokenizerFast:
    """Load any WordPiece tokenizer (ours, BERTurk's, Google's) from a folder or the Hub; never runs its code.

    Args:
        name_or_path: a folder, or a Hub id (see `is_hub_id`).
        revision: branch, tag or commit on the Hub.

    Raises:
        UserError: no such folder; not found or no network; not WordPiece; a special token missing; a
            `tokenizer_config.json` that brings code (`auto_map`) or names files outside its folder.
    """
    name = os.fspath(name_or_path)
    path = Path(name).expanduser()
    is_folder = path.is_dir()
    if is_folder:
        name = str(path)
    elif not is_hub_id(name, bare=True):
        raise UserError(name, "no such folder", "give a folder or a Hub id (organisation/name)")
    exit_code = BAD_INPUT
    try:
        if not is_folder and not _is_reachable(name, revision):
            exit_code = ENVIRONMENT
        options = {"revision": revision, "local_files_only": is_folder or exit_code == ENVIRONMENT}
        # Read before transformers acts on it; None where there is none.
        config_file = cached_file(
            name, "tokenizer_config.json", _raise_exceptions_for_missing_entries=False, **options
        )
        if config_file is not None:
            _refuse_unsafe_config(name, json.loads(Path(config_file).read_text(encoding="utf-8")))
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **options)
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception on a broken file
        if is_folder and not any((path / file).exists() for file in ("tokenizer.json", "vocab.txt")):
            raise UserError(name, *_NO_VOCABULARY) from error
        mend = f"check the id and the network, or write ./{name} for a folder that is to be made"
        mend = "check its tokenizer files" if is_folder else mend
        reason = str(error).partition("\n")[0].strip(" .:")
        raise UserError(name, f"no tokenizer could be loaded ({reason})", mend, exit_code) from error
    return _require_wordpiece(name, tokenizer)


def word_start_table(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """(V,) bool, indexed by token id: True where the token starts a word, False where it continues one (`##...`)."""
    vocab = tokenizer.get_vocab()
    prefix = tokenizer.backend_tokenizer.model.continuing_subword_prefix
    table = np.ones(max(vocab.values()) + 1, dtype=bool)
    table[[index for token, index in vocab.items() if token.startswith(prefix)]] = False
    table[tokenizer.all_special_ids] = True
    return table


def maskable_table(word_starts: np.ndarray, special_ids: list[int]) -> np.ndarray:
    """(V,) bool: tokens that begin a word which may be hidden, from a table of word_start_table's kind."""
    table = word_starts.copy()
    table[special_ids] = False
    return table


def letter_table(tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """(V,) bool: tokens that begin a word of letters, not a mark, a number or a special token."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    table = np.array([token[:1].isalpha() for token in tokens])
    table[tokenizer.all_special_ids] = False
    return table


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """sha256 of the `tokenizer.json` that `save_tokenizer` writes: the key of data made with this tokenizer."""
    return hashlib.sha256(_canonical_json(tokenizer).encode()).hexdigest()


def _turkish_normalizer(cased: bool) -> normalizers.Normalizer:
    steps = [
        # Before NFKC, which turns the acute accent into a space and a combining mark.
        normalizers.Replace(_APOSTROPHES, "'"),
        # Also composes I + U+0307 to İ, so that the dot is not lost on a dotless letter below.
        normalizers.NFKC(),
        # What str.lower() of other programs leaves of İ; it has no composed form.
        normalizers.Replace("i\u0307", "i"),
    ]
    if not cased:
        # Lowercase alone gives İ -> i + U+0307 and I -> i.
        steps += [normalizers.Replace("İ", "i"), normalizers.Replace("I", "ı"), normalizers.Lowercase()]
    return normalizers.Sequence(steps)


def _count_words(texts: Iterable[str], tokenizer: Tokenizer) -> Counter[str]:
    """How often each pre-token occurs. The tokenizer's rules see each different chunk between white space once.

    Where there are too many different ones, those met once so far are forgotten: memory has a limit on any corpus.
    """
    chunks: Counter[str] = Counter()
    for text in tqdm(texts, desc="counting words", unit=" documents", delay=5, disable=None):
        chunks.update(text.split())
        if len(chunks) > _MAX_CHUNKS:
            chunks = Counter({chunk: count for chunk, count in chunks.items() if count > 1})
    counts: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(chunk)):
            counts[word] += count
    return counts


def _train_vocab(counts: Counter[str], vocab_size: int, limit_alphabet: int, min_frequency: int) -> dict[str, int]:
    """Train on word counts: token -> id, special tokens first, then single characters, then merges."""
    char_counts: Counter[str] = Counter()
    for word, count in counts.items():
        for char in word:
            char_counts[char] += count
    ranked = sorted(char_counts, key=lambda char: (-char_counts[char], char))
    alphabet = sorted(ranked[:limit_alphabet])
    # Words that can only become [UNK] teach nothing (the trainer would close the gap and learn what nobody wrote).
    known = set(alphabet)
    words = {w: n for w, n in counts.items() if len(w) <= _MAX_CHARS_PER_WORD and known.issuperset(w)}
    logger.info("%d different words, %d of them in the alphabet of %d", len(counts), len(words), len(alphabet))
    continuing = sorted({"##" + char for char in set().union(*(word[1:] for word in words))})
    base_size = len(SPECIAL_TOKENS) + len(alphabet) + len(continuing)
    if base_size > vocab_size:
        raise config_error(
            "vocab_size",
            f"{vocab_size} is less than the {base_size} special tokens and single characters",
            "raise vocab_size or lower limit_alphabet",
        )

    # The trainer numbers single characters in the order of a randomly seeded hash map, and breaks ties between merges
    # by these numbers. Giving it all of them beforehand, in order, makes it deterministic: the alphabet has an option
    # for that, the ## characters can only come in as special tokens (the caller rebuilds the model from the
    # vocabulary, so they do not stay special).
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_TOKENS.values(), *continuing],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=sum(words.values()) > _LONG_RUN and sys.stderr.isatty(),
    )
    learner = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator(_repeat_words(words), trainer)
    vocab = learner.get_vocab()
    if len(vocab) < vocab_size:
        raise config_error(
            "vocab_size",
            f"the texts yield only {len(vocab)} of the {vocab_size} tokens asked for",
            f"set vocab_size to {len(vocab)} or less, or give more text",
        )
    return dict(sorted(vocab.items(), key=lambda item: item[1]))


def _repeat_words(counts: dict[str, int]) -> Iterator[str]:
    """Text that holds each word as often as it was counted: the library has no door for counts."""
    block = 10_000  # keeps the strings short
    for word, count in counts.items():
        for done in range(0, count, block):
            yield f"{word} " * min(block, count - done)


def _canonical_json(tokenizer: PreTrainedTokenizerFast) -> str:
    """`tokenizer.json` without truncation and padding, which every call of the tokenizer may leave behind in it."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps(content | {"truncation": None, "padding": None}, ensure_ascii=False, indent=2)


def _is_reachable(name: str, revision: str | None) -> bool:
    """Whether the Hub has it, asked once and shortly: transformers would try each file six times, for a minute.

    Raises:
        UserError: there is no such repository.
    """
    try:
        HfApi().model_info(name, revision=revision, timeout=_HUB_SECONDS)
    except RepositoryNotFoundError as error:
        what = "no such folder, and no such tokenizer on the Hub"
        raise UserError(name, what, f"check the name, or write ./{name} for a folder that is to be made") from error
    except (HTTPError, OSError):  # it may still be in the cache
        return False
    return True


def _refuse_unsafe_config(name: str, config: dict) -> None:
    """Raise UserError if a tokenizer_config.json asks for code of its own or for files outside its folder."""
    if "auto_map" in config:
        mend = "turkbert runs no code from a model; use a tokenizer without it"
        raise UserError(name, "tokenizer_config.json carries code (auto_map)", mend)
    for key, value in config.items():
        if not key.endswith("_file") or not isinstance(value, str):
            continue
        # Old versions of transformers left the author's absolute special_tokens_map_file behind; nobody opens it.
        absolute = PurePath(value).is_absolute() and key != "special_tokens_map_file"
        if absolute or ".." in PurePath(value).parts:
            mend = f"take {key} out of it if you trust the rest"
            raise UserError(name, f"tokenizer_config.json names a file outside its folder ({key}: {value})", mend)


def _require_wordpiece(name: str, tokenizer: object) -> PreTrainedTokenizerFast:
    """The tokenizer, if it is WordPiece and its own vocabulary holds the five special tokens; else UserError."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", tokenizer)
    if not isinstance(tokenizer, PreTrainedTokenizerFast) or not isinstance(model, models.WordPiece):
        mend = "give a WordPiece one, such as BERTurk's, or train your own"
        raise UserError(name, f"a {type(model).__name__} tokenizer", mend)
    # transformers makes a BertTokenizer of five tokens where there is no vocabulary file at all, and otherwise adds
    # what is missing behind the vocabulary, where no pretrained model has an embedding.
    vocab = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    if len(vocab) <= len(SPECIAL_TOKENS):
        raise UserError(name, *_NO_VOCABULARY)
    missing = [token for key, token in SPECIAL_TOKENS.items() if getattr(tokenizer, key) not in vocab]
    if missing:
        raise UserError(name, f"the vocabulary has no {', '.join(missing)}", "add what is missing, or train your own")
    return tokenizer
