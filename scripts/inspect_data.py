"""Shows prepared rows as people read them: A and B apart, hidden words as ⟦what stood there→what the model sees⟧.

    python scripts/inspect_data.py configs/small.json --num_rows 5
"""

import sys
from functools import partial
from pathlib import Path

try:
    from turkbert.arguments import RunArguments, parse_args
    from turkbert.console import set_up_script, show
    from turkbert.data import load_prepared
    from turkbert.data.examples import Example, read_examples
    from turkbert.data.prepare import build_masker, check_tokenizer
    from turkbert.data.random_words import RandomWordSet
    from turkbert.errors import config_error, user_errors
    from turkbert.tokenization import load_tokenizer
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__, extra={"num_rows": 5})
        set_up_script()
    with user_errors(args.debug):
        for block_size, examples in examples_of(args, args.given["num_rows"]).items():
            show([f"Block size {block_size}, training rows\n\n", *map(describe, examples)])


def examples_of(args: RunArguments, num_rows: int) -> dict[int, list[Example]]:
    """Training rows of every block size, spread over all of them; dynamic ones as the first epoch hides words."""
    if num_rows < 1:
        raise config_error("num_rows", f"{num_rows} is out of range", "1 or more rows")
    data_dir = Path(args.data.data_dir)
    prepared = load_prepared(data_dir, args.data.block_sizes)
    tokenizer = load_tokenizer(args.tokenizer.tokenizer_dir)
    check_tokenizer(data_dir, tokenizer)
    masker = build_masker(args.data, tokenizer, RandomWordSet.load(data_dir / "random_words"))
    mask = partial(masker, seed=args.setting("seed"), epoch=0)
    return {size: read_examples(splits["train"], num_rows, tokenizer, mask) for size, splits in prepared.items()}


def describe(example: Example) -> str:
    """One row as a paragraph."""
    row = example.text()
    padding = f", {row['padding']} of padding" if row["padding"] else ""
    return f"row {row['row']}: {row['label']}, {row['length']} tokens{padding}\n  A: {row['a']}\n  B: {row['b']}\n\n"


if __name__ == "__main__":
    main()
