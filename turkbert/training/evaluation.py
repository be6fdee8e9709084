"""A trained BERT, ours or any other, on prepared validation rows, beside what needs no model."""

import logging
from pathlib import Path

from turkbert.arguments import RunArguments
from turkbert.data.prepare import build_collator, check_tokenizer, load_prepared
from turkbert.errors import config_error
from turkbert.hub_ids import is_hub_id
from turkbert.ranks import leave_group
from turkbert.tokenization import load_tokenizer
from turkbert.training.run import build_model
from turkbert.training.trainer import PretrainingTrainer
from turkbert.training.unigrams import unigram_baselines

logger = logging.getLogger(__name__)


def evaluate_model(args: RunArguments) -> dict[str, float]:
    """model_name_or_path on the validation rows of data_dir.

    Returns:
        mlm_loss, mlm_accuracy, mlm_perplexity, nsp_loss, nsp_accuracy, nsp_f1, and the two lines that mean "learned
        nothing" on the same rows: unigram_loss (cross-entropy of the training tokens' frequencies) and
        majority_accuracy (always the most common token).

    Raises:
        UserError: no model is named, there are no rows, or they were made with another tokenizer.
    """
    if args.model.model_name_or_path is None:
        raise config_error("model_name_or_path", "no model is named", "add --model_name_or_path FOLDER_OR_ID")
    rows = load_prepared(args.data.data_dir, args.data.block_sizes)
    tokenizer_dir = args.tokenizer.tokenizer_dir
    if not is_hub_id(tokenizer_dir) and not Path(tokenizer_dir).is_dir():
        raise config_error("tokenizer_dir", f"there is no folder {tokenizer_dir}", "name the one of the rows")
    tokenizer = load_tokenizer(tokenizer_dir)
    check_tokenizer(args.data.data_dir, tokenizer)
    training = args.training()
    collator = build_collator(args, tokenizer, training.seed)
    model = build_model(args, tokenizer, checkpoint=None)
    trainer = PretrainingTrainer(model, training, rows, collator, tokenizer, dict.fromkeys(rows, [1.0, 1.0]))
    metrics = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()}
    block_size = training.eval_block_size or max(rows)
    leave_group()
    baselines = unigram_baselines(rows[block_size]["train"], trainer.eval_dataset, tokenizer)
    return {name: value for name, value in metrics.items() if name[:4] in ("mlm_", "nsp_")} | baselines
