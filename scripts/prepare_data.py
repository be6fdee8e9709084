"""Corpus in, rows out: every data stage up to the pairs of each block size, in data_dir.

    python scripts/prepare_data.py configs/small.json --corpus "texts/*.txt" --data_dir data
"""

import sys

from turkbert.arguments import parse_args
from turkbert.console import set_up_script
from turkbert.data import prepare_dataset
from turkbert.data.prepare import load_stats
from turkbert.errors import user_errors


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__)
        set_up_script()
    with user_errors(args.debug):
        for block_size in prepare_dataset(args).rows:
            for split, stats in load_stats(args.data.data_dir, block_size).items():
                padding = stats["padding_tokens"] / (stats["rows"] * block_size)
                sys.stdout.write(
                    f"block {block_size:>4} {split:<10} {stats['rows']:>10,} rows, {stats['documents']:,} documents, "
                    f"B follows A in {stats['is_next'] / stats['rows']:.1%}, padding {padding:.2%}\n"
                )


if __name__ == "__main__":
    main()
