"""Trains a Turkish WordPiece tokenizer on the corpus, into tokenizer_dir.

    python scripts/train_tokenizer.py configs/small.json --corpus "texts/*.txt" --cased false
"""

import sys

try:
    from turkbert.arguments import parse_args
    from turkbert.artifacts import all_or_none
    from turkbert.console import set_up_script, show
    from turkbert.data.prepare import prepare_documents, prepare_tokenizer
    from turkbert.errors import user_errors
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)

EXAMPLE = "İstanbul'un 19. yüzyıldaki IŞIKLI sokaklarında dolaşıyorduk."


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__)
        set_up_script()
    with user_errors(args.debug):
        with all_or_none():
            tokenizer = prepare_tokenizer(args, prepare_documents(args))
        show([f"{len(tokenizer):,} tokens in {args.tokenizer.tokenizer_dir}\n{EXAMPLE}\n"])
        show([f"    {' '.join(tokenizer.tokenize(EXAMPLE))}\n"])


if __name__ == "__main__":
    main()
