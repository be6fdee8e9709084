"""Raw documents -> Arrow rows -> batches. Start reading at prepare.py."""

from turkbert.data.collator import DataCollatorForPretraining
from turkbert.data.prepare import load_prepared, prepare_dataset
from turkbert.data.sentences import split_sentences

__all__ = ["DataCollatorForPretraining", "load_prepared", "prepare_dataset", "split_sentences"]
