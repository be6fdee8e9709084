"""Fine-tunes any encoder on words with tags: names, parts of speech.

    python scripts/finetune_token_classification.py configs/finetune/ner_wikiann_tr.json --model_name_or_path out
"""

import sys

try:
    from turkbert.finetuning.script import run_script
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    run_script("token_classification", description=__doc__)


if __name__ == "__main__":
    main()
