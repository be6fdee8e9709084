"""Fine-tunes models on every task of a suite, several seeds each, and compares them; run it again to go on.

    python scripts/benchmark.py out dbmdz/bert-base-turkish-cased configs/finetune/suite.json --untrained
"""

import sys

try:
    import datasets

    from turkbert.console import set_up_script, show
    from turkbert.errors import user_errors
    from turkbert.finetuning.benchmark import parse_suite, run_suite
    from turkbert.finetuning.benchmark_report import markdown_table, write_reports
    from turkbert.finetuning.comparison import compare
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        suite = parse_suite(sys.argv[1:], description=__doc__)
        set_up_script()
        datasets.disable_progress_bars()  # a bar for each split of each model
    with user_errors(bool(suite.changes.get("debug")), suite.output_dir):
        rows = compare(run_suite(suite))
        paths = write_reports(rows, suite.output_dir)
        show([f"\n{markdown_table(rows)}\n", *(f"written to {path}\n" for path in paths)])


if __name__ == "__main__":
    main()
