"""Corpus in, rows out: every data stage up to the pairs of each block size, in data_dir.

    python scripts/prepare_data.py configs/small.json --corpus "texts/*.txt" --data_dir data
"""

import sys
from pathlib import Path

try:
    from turkbert.arguments import parse_args
    from turkbert.console import set_up_script, show
    from turkbert.data import prepare_dataset
    from turkbert.errors import user_errors
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse_args(description=__doc__)
        set_up_script()
    with user_errors(args.debug):
        prepare_dataset(args)
        show([f"{Path(args.data.data_dir, 'report', 'report.html')} tells what is in the rows\n"])


if __name__ == "__main__":
    main()
