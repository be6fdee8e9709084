"""Pretraining on rows made elsewhere: unlike scripts/pretrain.py it wants neither the corpus nor the other stages.

    python benchmarks/pretrain_prepared.py configs/base.json --data_dir data --tokenizer_dir tokenizer
"""

import sys

from turkbert.arguments import parse_args
from turkbert.console import set_up_script
from turkbert.data import load_prepared
from turkbert.errors import user_errors
from turkbert.tokenization import load_tokenizer
from turkbert.training.run import pretrain


def main() -> None:
    """pretrain(), with the rows as they are."""
    with user_errors():
        args = parse_args(description=__doc__)
    set_up_script()
    with user_errors(args.debug, args.output_dir):
        tokenizer = load_tokenizer(args.tokenizer.tokenizer_dir)
        rows = load_prepared(args.data.data_dir, args.data.block_sizes)
        result = pretrain(args, args.training(), tokenizer, rows)
    if result:
        sys.stdout.write(f"{result.summary()}\n")


if __name__ == "__main__":
    main()
