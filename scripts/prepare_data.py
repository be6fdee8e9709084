"""Corpus in, rows out: every data stage up to the pairs of each block size, in data_dir.

    python scripts/prepare_data.py configs/small.json --corpus "texts/*.txt" --data_dir data
    python scripts/prepare_data.py configs/small.json --push_to_hub --hub_dataset_id ada/rows    publishes the text
"""

import sys
from pathlib import Path

from turkbert.arguments import parse_args
from turkbert.console import set_up_script
from turkbert.data import prepare_dataset
from turkbert.data.prepare import load_stats
from turkbert.data.share import push_rows
from turkbert.errors import user_errors
from turkbert.hub import Destination, check_hub_access


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__, extra={"hub_dataset_id": ""})
        set_up_script()
    # A config may say push_to_hub for the model: the rows go up only if a name is given for them.
    name = args.given["hub_dataset_id"] if args.setting("push_to_hub") else ""
    with user_errors(args.debug):
        if name:
            check_hub_access(name, "hub_dataset_id")
        prepared = prepare_dataset(args)
        for block_size in prepared.rows:
            for split, stats in load_stats(args.data.data_dir, block_size).items():
                padding = stats["padding_tokens"] / (stats["rows"] * block_size)
                sys.stdout.write(
                    f"block {block_size:>4} {split:<10} {stats['rows']:>10,} rows, {stats['documents']:,} documents, "
                    f"B follows A in {stats['is_next'] / stats['rows']:.1%}, padding {padding:.2%}\n"
                )
        if name:
            to = Destination(name, "dataset", private=args.setting("hub_private_repo") is not False)
            push_rows(prepared.rows, prepared.tokenizer, Path(args.data.data_dir), args.resolved(), to)


if __name__ == "__main__":
    main()
