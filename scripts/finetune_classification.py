"""Fine-tunes any encoder on single texts or pairs: classes, or a number.

    python scripts/finetune_classification.py configs/finetune/sentiment_mixed.json --model_name_or_path out
"""

import sys

try:
    from turkbert.finetuning.script import run_script
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    run_script("classification", description=__doc__)


if __name__ == "__main__":
    main()
