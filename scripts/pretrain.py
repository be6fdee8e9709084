"""Text in, a trained BERT out: builds the tokenizer and the data if they are missing, trains, writes output_dir.

    accelerate launch scripts/pretrain.py configs/scratch.json
    python scripts/pretrain.py configs/base.json --estimate    says what that would cost, and does nothing else
"""

import sys

try:
    from turkbert.arguments import parse_args
    from turkbert.console import set_up_script, show
    from turkbert.data import prepare_dataset
    from turkbert.errors import is_main_process, user_errors, write_status
    from turkbert.training.estimate import describe, estimate_run
    from turkbert.training.run import check_run, pretrain
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__, extra={"estimate": False})
        set_up_script()
    if args.given["estimate"]:
        with user_errors(args.debug):  # no output_dir: nothing is written
            if is_main_process():
                show([describe(estimate_run(args))])
        return
    with user_errors(args.debug, args.output_dir):
        check_run(args)
        prepared = prepare_dataset(args)
        result = pretrain(args, args.training(), prepared.tokenizer, prepared.rows)
        write_status(args.output_dir, "finished")
    if result and is_main_process():
        show([f"\n{result.predictions}\n\n{result.summary()}\n"])


if __name__ == "__main__":
    main()
