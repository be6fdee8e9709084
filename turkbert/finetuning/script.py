"""The frame of the three finetune scripts.

    run_script("classification", description=__doc__)    # command line -> a model in output_dir, or one line
"""

import datasets

from turkbert.console import set_up_script, show
from turkbert.errors import is_main_process, user_errors, write_status
from turkbert.finetuning.arguments import parse_finetuning_args
from turkbert.finetuning.output import open_output
from turkbert.finetuning.run import finetune


def run_script(task: str, description: str | None) -> None:
    """Fine-tune as the command line says; ends the process with the code of a user's mistake."""
    with user_errors():
        run = parse_finetuning_args(task, description=description)
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
