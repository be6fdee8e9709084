"""A trained BERT -> the form that somebody else wants, in a committed folder, and on the Hub if asked.

    export_model("out", "onnx", Path("out-onnx"))       # model.onnx, tokenizer, card, MANIFEST.json

Start reading at folder.py; formats.py has the table of forms, onnx.py and space.py the two that need more than a page.
"""

from turkbert.export.folder import SPACE, default_dir, export_model, load_source, push_export
from turkbert.export.formats import FORMATS

__all__ = ["FORMATS", "SPACE", "default_dir", "export_model", "load_source", "push_export"]
