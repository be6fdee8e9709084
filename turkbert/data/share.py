"""Prepared rows to the Hub as a data set: Parquet files, the tokenizer they need, and a card, in one private commit.

    load_dataset("ada/my-rows", "block_128")["train"][0]  ->  {"input_ids": [...], "labels": [...], ...}
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features
from huggingface_hub import DatasetCard, DatasetCardData
from transformers import PreTrainedTokenizerFast

from turkbert.artifacts import remove
from turkbert.errors import ENVIRONMENT, UserError
from turkbert.hub import Destination, brief, is_public, push_files
from turkbert.tokenization import save_tokenizer

logger = logging.getLogger(__name__)

FILE_BYTES = 500_000_000
CARD = """---
{{ card_data }}
---

# {{ name }}

Rows to pretrain a Turkish BERT with, prepared by turkbert: sentence pairs `[CLS] A [SEP] B [SEP]` of token ids. The
text can be read back from them with the tokenizer in `tokenizer/`.

    from datasets import load_dataset
    rows = load_dataset("{{ name }}", "{{ first }}")

| rows of | training | validation | B follows A in |
|---:|---:|---:|---:|
{% for size, split in stats.items() -%}
| {{ size }} tokens | {{ "{:,}".format(split.train.rows) }} | {{ "{:,}".format(split.validation.rows) }} | \
{{ "%.1f" | format(100 * split.train.is_next / split.train.rows) }} % |
{% endfor %}
{{ "{:,}".format(documents) }} documents, cut into {{ "%.1f" | format(100 * share) }} % for validation by document. \
Masks are {{ masking }}. `next_sentence_label`: 0 = B follows A, 1 = B is from elsewhere. Masks that \
are drawn in training are null. Columns:
{% for column in columns %}`{{ column }}`{{ ", " if not loop.last }}{% endfor %}.
"""


def push_rows(
    rows: Mapping[int, DatasetDict],
    tokenizer: PreTrainedTokenizerFast,
    data_dir: Path,
    settings: Mapping[str, Any],
    to: Destination,
) -> str:
    """Upload the rows of every block size, after a warning that this hands out the corpus. The full id comes back.

    Args:
        settings: of the data stages: `masking`, `validation_fraction`.

    Raises:
        UserError: the repository is public though nobody asked for that, or the Hub did not take the rows.
    """
    staging = data_dir / "_staging-hub"
    remove(staging)
    try:
        if to.private and is_public(to):
            mend = "choose another hub_dataset_id, or say --hub_private_repo false"
            raise UserError(to.name, "this data set is public already", mend)
        who = "only you and whom you let in" if to.private else "EVERYBODY"
        logger.warning(
            "publishing the corpus: the text of every document can be read back from the rows; %s can read %s",
            who,
            to.name,
        )
        files = _write_files(rows, tokenizer, data_dir, settings, to.name, staging)
        repo_id = push_files(files, to, "Rows prepared with turkbert")
    except UserError:
        raise
    except Exception as error:  # of the Hub, the network or the upload
        mend = f"the rows are in {data_dir}: run the same command again"
        raise UserError(to.name, f"not pushed ({brief(error)})", mend, ENVIRONMENT) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    logger.info("pushed to %s", repo_id)
    return repo_id


def _write_files(
    rows: Mapping[int, DatasetDict],
    tokenizer: PreTrainedTokenizerFast,
    data_dir: Path,
    settings: Mapping[str, Any],
    name: str,
    staging: Path,
) -> dict[str, Path]:
    for block_size, splits in rows.items():
        features = Features({name: kind for part in splits.values() for name, kind in part.features.items()})
        for split, part in splits.items():
            _write_parquet(part, features, staging / f"block_{block_size}", split)
    (staging / "tokenizer").mkdir()
    save_tokenizer(tokenizer, staging / "tokenizer")
    (staging / "README.md").write_text(_render_card(rows, data_dir, settings, name), "utf-8")
    return {path.relative_to(staging).as_posix(): path for path in sorted(staging.rglob("*")) if path.is_file()}


def _write_parquet(part: Dataset, features: Features, folder: Path, split: str) -> None:
    """All splits have the same columns, as load_dataset wants it; masks that are drawn in training are null."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = features.arrow_schema
    count = max(1, -(-part.data.nbytes // FILE_BYTES))
    for number in range(count):
        table = part.shard(count, number, contiguous=True).with_format("arrow")[:]
        for column in schema:
            if column.name not in table.column_names:
                table = table.append_column(column.name, pa.nulls(table.num_rows, column.type))
        path = folder / f"{split}-{number:05}-of-{count:05}.parquet"
        pq.write_table(table.select(schema.names).cast(schema), path)


def _render_card(rows: Mapping[int, DatasetDict], data_dir: Path, settings: Mapping[str, Any], name: str) -> str:
    """From counts and settings alone: names of files and folders are nobody else's business."""
    ledger = json.loads((data_dir / "documents" / "ledger.json").read_text("utf-8"))
    card = DatasetCard.from_template(
        DatasetCardData(language="tr", task_categories=["fill-mask"], tags=["turkbert"], configs=_configs(rows)),
        template_str=CARD,
        name=name,
        first=f"block_{min(rows)}",
        stats={size: json.loads((data_dir / f"block_{size}" / "stats.json").read_text("utf-8")) for size in rows},
        documents=ledger["documents_kept"],
        share=settings["validation_fraction"],
        masking=settings["masking"],
        columns=rows[min(rows)]["validation"].column_names,
    )
    return str(card)


def _configs(rows: Mapping[int, DatasetDict]) -> list[dict[str, Any]]:
    return [
        {
            "config_name": f"block_{size}",
            "data_files": [{"split": split, "path": f"block_{size}/{split}-*.parquet"} for split in splits],
        }
        for size, splits in rows.items()
    ]
