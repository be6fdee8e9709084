"""Any Hugging Face BERT asked about any number of texts: what the prediction script and the web demo stand on.

    pipe = load_pipeline("fill-mask", "out")
    fill_masks(pipe, ["Türkiye'nin başkenti [MASK]."])[0][0][0]     ->  {"token_str": "Ankara", "score": 0.4, ...}
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from safetensors import SafetensorError
from tqdm.auto import tqdm
from transformers import Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from turkbert.errors import CORRUPT_ARTIFACT, UserError, config_error
from turkbert.pipelines import NSP_LABELS, EmbeddingPipeline, max_length
from turkbert.tokenization import load_tokenizer

logger = logging.getLogger(__name__)

NEXT_SENTENCE, EMBEDDING, FILL_MASK = "next-sentence-prediction", "text-embedding", "fill-mask"
CHUNK = 4096  # texts that are sorted by length, so that a batch has little padding, and held as vectors

Text = str | dict[str, str]  # a text, or a pair {"text": A, "text_pair": B}
Chunks = Iterator[tuple[Sequence[Text], np.ndarray]]  # some texts and their vectors (n, H)


class MissingHead(UserError):
    """The model has no weights for what it was asked to do."""


def load_pipeline(
    task: str, model_name_or_path: str | os.PathLike, batch_size: int = 32, **parameters: Any
) -> Pipeline:
    """`transformers.pipeline` for a folder or Hub id, which never computes with weights that nobody trained.

    Args:
        batch_size: texts that are computed at once.
        parameters: of the pipeline, such as `pooling`.

    Raises:
        UserError: no such model, a broken one, one without the head of `task` (MissingHead), or with fewer tokens than
            its tokenizer; `batch_size` is less than 1.
    """
    if batch_size < 1:
        raise config_error("batch_size", f"{batch_size} is out of range", "1 or more texts at once")
    name = os.fspath(model_name_or_path)
    tokenizer = load_tokenizer(name)
    name = os.path.expanduser(name)
    (auto_class,) = PIPELINE_REGISTRY.check_task(task)[1]["pt"]
    model, missing = _load_model(auto_class, name)
    if missing := [part for part in missing if task == NEXT_SENTENCE or "pooler" not in part]:
        if of_encoder := [part for part in missing if _is_of_encoder(model, part)]:
            raise UserError(name, f"its weights lack {of_encoder[0]}", "get the model anew", CORRUPT_ARTIFACT)
        mend = "use a model that was trained for it, as the output folder of a run holds one"
        raise MissingHead(name, f"this model has no head for {task} (no {missing[0]})", mend)
    if len(tokenizer) > model.config.vocab_size:
        what = f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}"
        raise UserError(name, what, "put the model's own tokenizer there")
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, batch_size=batch_size, **parameters)


def _is_of_encoder(model: Any, parameter: str) -> bool:
    """False for what a task puts on top; the pooler counts as that, for many models are saved without."""
    is_encoder = not hasattr(model, model.base_model_prefix) or parameter.startswith(f"{model.base_model_prefix}.")
    return is_encoder and "pooler" not in parameter


def _load_model(auto_class: Any, name: str) -> tuple[Any, list[str]]:
    """The model and the names of the parameters that its files lack."""
    with model_errors(name):
        model, info = auto_class.from_pretrained(name, output_loading_info=True, trust_remote_code=False)
    return model, sorted(info["missing_keys"])


@contextmanager
def model_errors(name: str) -> Iterator[None]:
    """Refuse, as a UserError, a model that is not there, is no BERT, or is broken; transformers itself stays silent.

    It would print a table of the heads that a task leaves out, and of all weights of a broken file.
    """
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    except (ValueError, OSError) as error:
        # Of a model of another kind transformers names every class that it knows.
        reason = str(error).removeprefix(f"{name}: ").partition("\nModel type should be one of")[0].rstrip(".")
        raise UserError(name, reason, "name a folder or Hub id of a BERT") from error
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        reason = str(error).partition(". ")[0] or type(error).__name__
        if "ignore_mismatched_sizes" in reason:  # a hint for who calls transformers
            reason = "their shapes are not those of its config.json"
        raise UserError(name, f"its weights cannot be read ({reason})", "get it anew", CORRUPT_ARTIFACT) from error
    except (AttributeError, KeyError, TypeError) as error:
        reason = f"its config.json cannot be used ({type(error).__name__}: {error})"
        raise UserError(name, reason, "get it anew", CORRUPT_ARTIFACT) from error
    finally:
        transformers.logging.set_verbosity(verbosity)


def fill_masks(pipe: Pipeline, texts: Sequence[Text], top_k: int = 5) -> list[list[list[dict[str, Any]]]]:
    """For each text, for each [MASK] in it, the `top_k` likeliest tokens as transformers' fill-mask gives them.

    Raises:
        UserError: a text is a pair or has no [MASK] within the model's length, or there are not `top_k` tokens.
    """
    if not 1 <= top_k <= pipe.model.config.vocab_size:
        raise config_error("top_k", f"{top_k} is out of range", f"1 to {pipe.model.config.vocab_size}")
    limit, mask = max_length(pipe), pipe.tokenizer.mask_token
    cut = {"truncation": True, "max_length": limit}
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise UserError(f"text {number}", "is a pair", "give one text at a time, without a tab")
        if pipe.tokenizer.mask_token_id not in pipe.tokenizer(text, **cut)["input_ids"]:
            within = f" within its first {limit} tokens" if mask in text else ""
            raise UserError(f"text {number}", f"there is no {mask}{within}", f"put {mask} where a word is missing")
    warn_of_long(pipe, texts)
    results = pipe(list(texts), top_k=top_k, tokenizer_kwargs=cut)
    results = [results] if len(texts) == 1 else results  # transformers takes a list of one apart
    return [[result] if isinstance(result[0], dict) else result for result in results]


def predict_next(pipe: Pipeline, pairs: Sequence[Text]) -> list[float]:
    """For each pair {"text": A, "text_pair": B} the probability that B follows A.

    Raises:
        UserError: one of them is no pair.
    """
    for number, pair in enumerate(pairs, 1):
        if isinstance(pair, str):
            raise UserError(f"text {number}", "is no pair", "give two texts, in a file with a tab between them")
    warn_of_long(pipe, pairs)
    return [r["score"] if r["label"] == NSP_LABELS[0] else 1 - r["score"] for r in pipe(list(pairs))]


def embed_texts(embed: EmbeddingPipeline, texts: Sequence[Text]) -> np.ndarray:
    """(N, H) float32, a row a text or pair, computed in order of length so that batches have little padding."""
    warn_of_long(embed, texts)
    return np.concatenate([vectors for _, vectors in _embed(embed, texts)])


def warn_of_long(pipe: Pipeline, texts: Sequence[Text]) -> int:
    """Say how many of the texts are longer than the model, and so cut off, if any; the number is returned."""
    limit, number = max_length(pipe), 0
    for text in texts:
        parts = {"text": text} if isinstance(text, str) else text
        number += len(pipe.tokenizer(**parts, truncation=False, verbose=False)["input_ids"]) > limit
    if number:
        logger.warning("%d of %d texts are longer than %d tokens and were cut off there", number, len(texts), limit)
    return number


def gather_texts(typed: list[str], path: Path | None, as_pair: bool = False) -> list[Text]:
    """The texts of a command: those of a file, or those typed; of two typed ones where `as_pair` one pair.

    Raises:
        UserError: neither or both are there, too many are typed, one is not UTF-8, or the file is wrong (see
            `read_texts`).
    """
    if bool(typed) == bool(path) or (as_pair and len(typed) > 2):
        what = f"{len(typed)} texts are typed and {'a' if path else 'no'} file is named"
        raise config_error(
            "command line", what, f"type {'one or two texts' if as_pair else 'texts'}, or name a --file"
        )
    if path is not None:
        return read_texts(path)
    for number, text in enumerate(typed, 1):
        try:
            text.encode()
        except UnicodeEncodeError:  # what Python keeps bytes as that are none; the tokenizer would show a traceback
            raise UserError(f"text {number}", "is not UTF-8", "set the terminal to UTF-8, or name a --file") from None
    return [{"text": typed[0], "text_pair": typed[1]}] if as_pair and len(typed) == 2 else list(typed)


def read_texts(path: Path) -> list[Text]:
    """The lines of a UTF-8 file; a line with a tab is a pair. A blank line is an empty text, so that rows are lines.

    Raises:
        UserError: the file cannot be read, is not UTF-8, has no line, or a line has more than one tab.
    """
    try:
        lines = path.read_text("utf-8-sig").removesuffix("\n").split("\n")  # splitlines knows more ends
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "name a text file") from None
    except UnicodeDecodeError as error:
        raise UserError(path, f"is not UTF-8 (byte {error.start})", "save it as UTF-8 text") from None
    if lines == [""]:
        raise UserError(path, "is empty", "one text a line, or two with a tab between them")
    return [_text_of(path, number, line) for number, line in enumerate(lines, 1)]


def _text_of(path: Path, number: int, line: str) -> Text:
    parts = line.split("\t")
    if len(parts) > 2:
        raise UserError(f"{path}:{number}", f"{len(parts) - 1} tabs in a line", "one tab, between the texts of a pair")
    return line if len(parts) == 1 else {"text": parts[0], "text_pair": parts[1]}


def save_embeddings(embed: EmbeddingPipeline, texts: Sequence[Text], path: Path) -> None:
    """Write the vectors of `texts`, in their order, to a .npy (N, H) or a .parquet (text, text_pair, embedding).

    The file is written beside its name and renamed when it is whole; memory is bounded by CHUNK vectors.

    Raises:
        UserError: another ending, or no folder to write to.
    """
    check_output(path)
    warn_of_long(embed, texts)
    beside = path.with_name(f"_staging-{path.name}")
    try:
        with open(beside, "wb") as file:
            _WRITERS[path.suffix](file, texts, embed.model.config.hidden_size, _embed(embed, texts))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """Raise UserError, before the work, if `save_embeddings` could not write there."""
    if path.suffix not in _WRITERS:
        raise config_error(path, "embeddings are written as .npy or .parquet", "choose one of these endings")
    if not path.absolute().parent.is_dir():
        raise config_error(path, f"there is no folder {path.parent}", "make it, or choose another one")
    if path.is_dir():
        raise config_error(path, "is a folder", "name a file")


def _embed(embed: EmbeddingPipeline, texts: Sequence[Text]) -> Chunks:
    """Chunk by chunk: texts and their (n, H) vectors, in order."""
    with tqdm(total=len(texts), desc="embedding", unit=" texts", delay=5, disable=None) as bar:
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            order = np.argsort([len(t) if isinstance(t, str) else len("".join(t.values())) for t in chunk])
            vectors = np.empty((len(chunk), embed.model.config.hidden_size), np.float32)
            vectors[order] = embed([chunk[index] for index in order])
            yield chunk, vectors
            bar.update(len(chunk))


def _write_npy(file: BinaryIO, texts: Sequence[Text], width: int, chunks: Chunks) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (len(texts), width)}
    np.lib.format.write_array_header_1_0(file, header)
    for _, vectors in chunks:
        file.write(vectors.astype("<f4").tobytes())


def _write_parquet(file: BinaryIO, texts: Sequence[Text], width: int, chunks: Chunks) -> None:
    embedding = pa.list_(pa.float32(), width)
    schema = pa.schema([("text", pa.string()), ("text_pair", pa.string()), ("embedding", embedding)])
    with pq.ParquetWriter(file, schema) as writer:
        for chunk, vectors in chunks:
            pairs = [{"text": text} if isinstance(text, str) else text for text in chunk]
            columns = [pa.array([pair.get(name) for pair in pairs], pa.string()) for name in ("text", "text_pair")]
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=embedding))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


_WRITERS: dict[str, Callable] = {".npy": _write_npy, ".parquet": _write_parquet}
