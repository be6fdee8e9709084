"""Asks any Hugging Face BERT: words for [MASK], whether one text follows another, texts as vectors.

    python scripts/predict.py out --fill_mask "Türkiye'nin başkenti [MASK]."
    python scripts/predict.py out --next_sentence "Yağmur başladı." "Şemsiyemi açtım."
    python scripts/predict.py out --embed "Yağmur başladı."          of two texts, the vector of the pair
    python scripts/predict.py out --embed --file texts.txt --output vectors.parquet
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

try:
    from turkbert import prediction
    from turkbert.console import ToolParser, set_up_script, show
    from turkbert.errors import user_errors
    from turkbert.pipelines import POOLINGS
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse()
        set_up_script()
    with user_errors(args.debug):
        show(next(tell(args) for task, tell in TASKS.items() if getattr(args, task) is not None))


def parse() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument("model", metavar="MODEL", help="a folder or a Hub id")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--fill_mask", metavar="TEXT", nargs="*", help="a text with [MASK], or several")
    task.add_argument("--next_sentence", metavar="TEXT", nargs="*", help="two texts: does the second follow?")
    task.add_argument("--embed", metavar="TEXT", nargs="*", help="a text, or the two of a pair")
    parser.add_argument("--file", type=Path, help="one text a line, or a pair with a tab between")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where vectors go: .npy or .parquet")
    parser.add_argument("--top_k", type=int, default=5, help="words for a [MASK] (%(default)s)")
    parser.add_argument("--pooling", choices=POOLINGS, default="mean", help="of the tokens' vectors (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="texts at once (%(default)s)")
    args = parser.parse_args()
    if args.output and args.embed is None:
        parser.error("--output is for vectors, so it goes with --embed")
    return args


def tell_words(args: Namespace) -> Iterator[str]:
    texts = prediction.gather_texts(args.fill_mask, args.file)
    pipe = prediction.load_pipeline("fill-mask", args.model, args.batch_size)
    for text, masks in zip(texts, prediction.fill_masks(pipe, texts, args.top_k), strict=True):
        yield f"{text}\n"
        yield from ("    " + "  ".join(f"{w['token_str']} {w['score']:.3f}" for w in mask) + "\n" for mask in masks)


def tell_next(args: Namespace) -> Iterator[str]:
    pairs = prediction.gather_texts(args.next_sentence, args.file, as_pair=True)
    pipe = prediction.load_pipeline("next-sentence-prediction", args.model, args.batch_size)
    for pair, score in zip(pairs, prediction.predict_next(pipe, pairs), strict=True):
        yield f"{pair['text']} → {pair['text_pair']}\n    B follows A: {score:.3f}\n"


def tell_vectors(args: Namespace) -> Iterator[str]:
    texts = prediction.gather_texts(args.embed, args.file, as_pair=True)
    if args.output:
        prediction.check_output(args.output)
    embed = prediction.load_pipeline("text-embedding", args.model, args.batch_size, pooling=args.pooling)
    if args.output:
        prediction.save_embeddings(embed, texts, args.output)
        yield f"{len(texts):,} vectors of {embed.model.config.hidden_size} numbers are in {args.output}\n"
    else:
        yield from (" ".join(f"{n:.6f}" for n in vector) + "\n" for vector in prediction.embed_texts(embed, texts))


TASKS = {"fill_mask": tell_words, "next_sentence": tell_next, "embed": tell_vectors}

if __name__ == "__main__":
    main()
