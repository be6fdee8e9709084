"""Corpus in, rows out: every data stage up to the pairs of each block size, in data_dir.

    python scripts/prepare_data.py configs/small.json --corpus "texts/*.txt" --data_dir data
    python scripts/prepare_data.py configs/small.json --push_to_hub --hub_dataset_id ada/rows    publishes the text
"""

import sys
from pathlib import Path

try:
    from turkbert.arguments import parse_args
    from turkbert.console import set_up_script, show
    from turkbert.data import prepare_dataset
    from turkbert.data.share import push_rows
    from turkbert.errors import user_errors
    from turkbert.hub import Destination, check_hub_access
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__, extra={"hub_dataset_id": ""})
        set_up_script()
    # A config may say push_to_hub for the model: the rows go up only if a name is given for them.
    name = args.given["hub_dataset_id"] if args.setting("push_to_hub") else ""
    with user_errors(args.debug):
        if name:
            check_hub_access(name, "hub_dataset_id")
        prepared = prepare_dataset(args)
        show([f"{Path(args.data.data_dir, 'report', 'report.html')} tells what is in the rows\n"])
        if name:
            to = Destination(name, "dataset", private=args.setting("hub_private_repo") is not False)
            push_rows(prepared.rows, prepared.tokenizer, Path(args.data.data_dir), args.resolved(), to)


if __name__ == "__main__":
    main()
