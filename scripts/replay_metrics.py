"""Sends to MLflow what it missed of a run: python scripts/replay_metrics.py OUT

MLFLOW_TRACKING_URI says where to, sqlite:///mlflow.db without it. Metrics that MLflow has already are not doubled.
"""

import os
import sys
from pathlib import Path

try:
    from turkbert.arguments import MLFLOW_ENVIRONMENT
    from turkbert.console import ToolParser, set_up_script
    from turkbert.errors import ENVIRONMENT, UserError, config_error, user_errors
    from turkbert.training.run_record import RUN_FILE, read_record
    from turkbert.training.tracking import replay
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    parser = ToolParser(__doc__)
    parser.add_argument("output_dir", metavar="OUT", type=Path, help="output folder of the run")
    with user_errors():
        args = parser.parse_args()
    folder = args.output_dir
    for name, value in {**MLFLOW_ENVIRONMENT, "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}.items():  # no run is held up
        os.environ.setdefault(name, value)
    set_up_script()
    with user_errors(args.debug):
        if read_record(folder) is None:
            raise config_error(folder, f"no {RUN_FILE} here", "name the output folder of a run")
        if not replay(folder):
            mend = "see that it answers, and try again"
            raise UserError(folder, "MLflow does not have everything", mend, ENVIRONMENT)
        sys.stdout.write(f"MLflow has all metrics of {folder}\n")


if __name__ == "__main__":
    main()
