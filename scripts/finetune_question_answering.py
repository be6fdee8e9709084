"""Fine-tunes any encoder to find answers in a context, in SQuAD's form.

    python scripts/finetune_question_answering.py configs/finetune/qa_tquad.json --model_name_or_path out
"""

import sys

try:
    from turkbert.finetuning.script import run_script
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    run_script("question_answering", description=__doc__)


if __name__ == "__main__":
    main()
