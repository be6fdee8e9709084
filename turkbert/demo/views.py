"""What a tab computed -> its HTML in one of the languages (templates: views.html.jinja). Texts are escaped."""

import base64
from pathlib import Path
from typing import Any

import jinja2

from turkbert.demo.curves import CurvePictures
from turkbert.demo.fill import FilledText
from turkbert.demo.models import Heading
from turkbert.demo.next_sentence import Continuation
from turkbert.demo.notes import Note
from turkbert.demo.pieces import LETTERS, Casing, SplitText, code_points
from turkbert.demo.similarity import Similarities
from turkbert.demo.strings import decimal, has_string, percent, say

_VIEWS = {
    Note: "note",
    Heading: "heading",
    FilledText: "filled",
    Continuation: "continuation",
    Similarities: "similarities",
    SplitText: "split",
    Casing: "casing",
    CurvePictures: "curves",
}
STYLE = (Path(__file__).parent / "style.css").read_text("utf-8")
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals.update(say=say, has_string=has_string, lower_case=LETTERS)
_TEMPLATES.filters.update(
    decimal=decimal,
    percent=percent,
    code_points=code_points,
    base64=lambda data: base64.b64encode(data).decode("ascii"),
)


def render(result: Any, language: str) -> str:
    """HTML of a result of any tab; nothing of None, before the first answer."""
    if result is None:
        return ""
    macro = getattr(_TEMPLATES.get_template("views.html.jinja").module, _VIEWS[type(result)])
    return f'<div class="tb-result">{macro(result, language)}</div>'
