"""Evaluates a checkpoint or any Hugging Face BERT on the prepared validation rows; trains nothing.

    python scripts/evaluate.py configs/scratch.json --model_name_or_path out
"""

import sys
from pathlib import Path

try:
    from turkbert.arguments import parse_args
    from turkbert.artifacts import write_json
    from turkbert.console import set_up_script, show
    from turkbert.errors import is_main_process, user_errors
    from turkbert.training.evaluation import evaluate_model
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__)
        set_up_script()
    with user_errors(args.debug):
        metrics = evaluate_model(args)
        if is_main_process():
            path = Path(args.output_dir, "evaluation.json")
            write_json(path, {"model": args.model.model_name_or_path, **metrics})
            show(f"{name:<20}{value:>12.4f}\n" for name, value in metrics.items())
            show([f"written to {path}\n"])


if __name__ == "__main__":
    main()
