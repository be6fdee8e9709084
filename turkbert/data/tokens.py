"""Documents -> token ids and sentence ends, each different word tokenized once.

    {"text": ["Ankara başkenttir. Şehir ..."]}  ->  {"input_ids": [[2841, 907, ...]], "sentence_ends": [[5, ...]]}
"""

import re
from itertools import chain, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from transformers import PreTrainedTokenizerFast

from turkbert.data.arrow import list_array
from turkbert.data.sentences import split_sentences

MAX_WORDS = 1_000_000  # different words that are remembered: about 200 MB


class _Numbers(dict[str, int]):
    """Numbers words in the order in which they are first asked for."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class DocumentTokenizer:
    """The `.map` function from texts to tokens.

    WordPiece never looks beyond white space, and a corpus has far fewer different words than words: remembering the
    tokens of each makes this faster than tokenizing every text. Special tokens that stand in a text become U+FFFD, an
    unknown character: no row may hold a [SEP] that does not separate.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        self.tokenizer = tokenizer.backend_tokenizer
        self.special = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
        self._forget()

    def __getstate__(self) -> dict:
        """Worker processes begin with an empty memory."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._forget()

    def __call__(self, table: pa.Table) -> pa.Table:
        sentences = [split_sentences(text) for text in table["text"].to_pylist()]
        words = pc.utf8_split_whitespace(pa.array(chain.from_iterable(sentences), pa.string()))  # of each sentence
        tokens, word_lengths = self._tokenize(words.flatten())

        word_ends = np.concatenate([[0], np.cumsum(word_lengths)])
        lengths = np.diff(word_ends[words.offsets.to_numpy()])  # of sentences, in tokens
        num_documents = len(sentences)
        document = np.repeat(np.arange(num_documents), [len(of_document) for of_document in sentences])
        document_lengths = np.bincount(document, weights=lengths, minlength=num_documents).astype(np.int64)
        ends = np.cumsum(lengths) - (np.cumsum(document_lengths) - document_lengths)[document]
        not_empty = lengths > 0
        num_ends = np.bincount(document[not_empty], minlength=num_documents)
        return pa.table(
            {
                "input_ids": list_array(pa.array(tokens), document_lengths),
                "sentence_ends": list_array(pa.array(ends[not_empty], pa.int32()), num_ends),
            }
        )

    def _tokenize(self, words: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
        """Words -> (their tokens end to end, the number of tokens of each word), both int32."""
        if len(self._numbers) > MAX_WORDS:
            self._forget()
        num_known = len(self._numbers)
        encoded = pc.dictionary_encode(words)
        different = encoded.dictionary.to_pylist()
        numbers = np.fromiter(map(self._numbers.__getitem__, different), dtype=np.int32, count=len(different))
        self._remember(list(islice(self._numbers, num_known, None)))
        numbers = numbers[encoded.indices.to_numpy()]
        starts, lengths = self._starts[numbers], self._starts[numbers + 1] - self._starts[numbers]
        first = np.cumsum(lengths, dtype=np.int32) - lengths
        source = np.repeat(starts - first, lengths)
        source += np.arange(source.size, dtype=np.int32)
        return self._tokens[source], lengths

    def _remember(self, words: list[str]) -> None:
        # A thousand words a text: a third of the time of a thousand texts.
        groups = ["\n".join(words[first : first + 1000]) for first in range(0, len(words), 1000)]
        texts = [self.special.sub("\ufffd", group).split("\n") for group in groups]
        lengths, tokens = [np.zeros(0, dtype=np.int32)], [self._tokens]
        encodings = self.tokenizer.encode_batch(texts, is_pretokenized=True, add_special_tokens=False)
        for text, encoding in zip(texts, encodings, strict=True):
            tokens.append(np.array(encoding.ids, dtype=np.int32))
            lengths.append(np.bincount(np.array(encoding.word_ids, dtype=np.int64), minlength=len(text)))
        ends = self._starts[-1] + np.cumsum(np.concatenate(lengths), dtype=np.int32)
        self._starts, self._tokens = np.concatenate([self._starts, ends]), np.concatenate(tokens)

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._starts = np.zeros(1, dtype=np.int32)  # where each word's tokens begin in _tokens, and the end
        self._tokens = np.empty(0, dtype=np.int32)
