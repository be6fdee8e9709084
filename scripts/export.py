"""A trained model in the form that others want, in a folder of its own, and to the Hub if asked.

    python scripts/export.py out --onnx
    python scripts/export.py out --sentence_transformers --output_dir embedder
    python scripts/export.py out --space
    python scripts/export.py out --fp16 --push_to_hub --hub_model_id ada/my-bert-fp16
"""

import sys
from argparse import Namespace
from pathlib import Path

try:
    from turkbert.console import ToolParser, set_up_script, show
    from turkbert.errors import user_errors
    from turkbert.export import FORMATS, SPACE, default_dir, export_model, push_export
    from turkbert.hub import Destination, check_hub_access
except KeyboardInterrupt:  # the libraries take seconds to load
    sys.stderr.write("turkbert: error: interrupted; run the same command again\n")
    sys.exit(130)


def parse() -> Namespace:
    parser = ToolParser(__doc__)
    parser.add_argument("model", metavar="MODEL", help="a folder or a Hub id")
    form = parser.add_mutually_exclusive_group(required=True)
    for name, entry in FORMATS.items():
        form.add_argument(f"--{name}", dest="form", action="store_const", const=name, help=entry.help)
    help_space = "a Hugging Face Space: the web demo with the model"
    form.add_argument("--space", dest="form", action="store_const", const=SPACE, help=help_space)
    parser.add_argument("--output_dir", type=Path, help="the folder to write (MODEL-FORM)")
    overwrite = {"nargs": "?", "choices": ("true", "false"), "const": "true", "default": "false"}
    parser.add_argument("--overwrite", **overwrite, help="replace another export")
    parser.add_argument("--push_to_hub", action="store_true", help="upload the folder's files")
    parser.add_argument("--hub_model_id", metavar="ID", help="name or owner/name on the Hub (the folder's name)")
    parser.add_argument("--hub_revision", metavar="BRANCH", help="a branch other than main")
    parser.add_argument("--hub_private_repo", choices=("true", "false"), default="true", help="(%(default)s)")
    args = parser.parse_args()
    if args.push_to_hub and args.form == SPACE:
        parser.error("--push_to_hub is for models; for a Space: hf upload NAME FOLDER --repo-type space")
    return args


def main() -> None:
    with user_errors():
        args = parse()
        set_up_script()
    with user_errors(args.debug):
        folder = args.output_dir or default_dir(args.model, args.form)
        name = args.hub_model_id or folder.resolve().name
        if args.push_to_hub:
            check_hub_access(name)
        export_model(args.model, args.form, folder, args.overwrite == "true", args.hub_model_id)
        show([f"{folder} holds {args.model} as {args.form}\n"])
        if args.push_to_hub:
            to = Destination(name, private=args.hub_private_repo == "true", revision=args.hub_revision)
            show([f"pushed to {push_export(folder, to)}\n"])


if __name__ == "__main__":
    main()
