"""Fine-tunes any encoder on words with tags: names, parts of speech.

    python scripts/finetune_token_classification.py configs/finetune/ner_wikiann_tr.json --model_name_or_path out
"""

import sys

try:
    import datasets

    from turkbert.console import set_up_script, show
    from turkbert.errors import is_main_process, user_errors, write_status
    from turkbert.finetuning.arguments import parse_finetuning_args
    from turkbert.finetuning.output import open_output
    from turkbert.finetuning.run import finetune
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        run = parse_finetuning_args("token_classification", description=__doc__)
        set_up_script()
        datasets.disable_progress_bars()  # of some seconds each
    with user_errors(run.debug):  # a folder of others stays as it is
        if not open_output(run):
            return
    with user_errors(run.debug, run.output_dir):
        result = finetune(run)
        write_status(run.output_dir, "finished")
    if is_main_process():
        show([f"\n{result.summary()}\n\nThe model is in {run.output_dir}\n"])


if __name__ == "__main__":
    main()
