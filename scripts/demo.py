"""Any Hugging Face BERT in a browser on this machine: masked words, next sentence, similarity, tokenizer, curves.

    python scripts/demo.py out
"""

import sys
from argparse import Namespace

try:
    from turkbert.console import ToolParser, set_up_script, show
    from turkbert.errors import user_errors
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def main() -> None:
    with user_errors():
        args = parse()
        set_up_script()
    with user_errors(args.debug):
        from turkbert.demo.models import load_model
        from turkbert.demo.server import serve, wait  # Gradio comes with the extra `demo`
        from turkbert.demo.tabs import build_page

        page = build_page(load_model(args.model))
        show([f"The demo is at {serve(page, port=args.port)} (Ctrl-C ends it)\n"])
        wait(page)


def parse() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument("model", metavar="MODEL", help="a folder or a Hub id")
    parser.add_argument("--port", type=int, help="where to answer; the first free one from 7860 on if left out")
    args = parser.parse_args()
    if args.port is not None and not 1 <= args.port <= 65535:
        parser.error("--port is a number from 1 to 65535")
    return args


if __name__ == "__main__":
    main()
