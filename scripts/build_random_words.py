"""Groups the corpus's words by number of tokens, the replacements of masking, into data_dir/random_words.

    python scripts/build_random_words.py configs/small.json --min_word_frequency 50
"""

import sys

try:
    from turkbert.arguments import parse_args
    from turkbert.artifacts import all_or_none
    from turkbert.console import set_up_script, show
    from turkbert.data.prepare import prepare_documents, prepare_random_words, prepare_tokenizer, prepare_tokens
    from turkbert.data.random_words import RandomWordSet
    from turkbert.errors import user_errors
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__)
        set_up_script()
    with user_errors(args.debug):
        with all_or_none():
            documents_dir = prepare_documents(args)
            tokenizer = prepare_tokenizer(args, documents_dir)
            words_dir = prepare_random_words(args, prepare_tokens(args, documents_dir, tokenizer), tokenizer)
        for length, words in sorted(RandomWordSet.load(words_dir).groups.items()):
            shown = ", ".join(tokenizer.decode(word) for word in words[:10])
            show([f"{length} tokens: {len(words):,} words: {shown} ...\n"])


if __name__ == "__main__":
    main()
