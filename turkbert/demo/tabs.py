"""The five tabs: their boxes and buttons, what they begin with, and who computes the answer."""

from functools import partial
from typing import Any

import gradio as gr

from turkbert.demo.curves import find_curves
from turkbert.demo.fill import fill_blanks
from turkbert.demo.models import DemoModel
from turkbert.demo.next_sentence import judge_continuation
from turkbert.demo.page import FIRST_LANGUAGE, Page
from turkbert.demo.pieces import read_casing, split_text
from turkbert.demo.similarity import compare_sentences
from turkbert.demo.strings import LANGUAGES, say

MAX_CHARACTERS = 5000  # of a text box
FILL_EXAMPLES = [
    "Türkiye'nin başkenti [MASK].",
    "Kışın dağlara [MASK] yağar.",
    "Sabahları bir bardak [MASK] içerim.",
    "İstanbul, Türkiye'nin en [MASK] şehridir.",
]
PAIR_EXAMPLES = [
    ["Sabah yola çıktık.", "Öğlen köye vardık."],
    ["Sabah yola çıktık.", "Tepkimelerde kütle korunur."],
]
SENTENCES = """Takım maçı iki golle kazandı.
Futbolcular sahada çok iyi oynadı.
Yazar yeni romanını yayımladı.
Kitap bu yıl ödül aldı."""
PIECE_EXAMPLES = [
    "Çekoslovakyalılaştıramadıklarımızdan mısınız?",
    "IĞDIR'da ılık bir İLKBAHAR günü çay içtik ☕.",
]


def build_page(model: DemoModel) -> gr.Blocks:
    """The whole page for one model."""
    page = Page(model)
    with gr.Blocks(title=f"{model.heading.name} · turkbert", analytics_enabled=False) as blocks:
        with gr.Row(equal_height=True, elem_classes="tb-head"):
            with gr.Column(scale=4):
                page.show(model.heading, "heading")
            choices = [(name, code) for code, name in LANGUAGES.items()]
            page.language = gr.Radio(
                choices, value=FIRST_LANGUAGE, show_label=False, container=False, elem_id="language", min_width=240
            )
        with gr.Tabs():
            for build in (_build_fill, _build_next_sentence, _build_similarity, _build_pieces, _build_curves):
                build(page)
        page.follow_language(blocks)
    return blocks


def _build_fill(page: Page) -> None:
    with page.tab("fill"):
        page.about("fill")
        with gr.Row(equal_height=True):
            text = page.worded_as(
                gr.Textbox, {"label": "fill_text"}, value=FILL_EXAMPLES[0], max_length=MAX_CHARACTERS, scale=4,
                elem_id="fill-text",
            )  # fmt: skip
            count = page.worded_as(
                gr.Slider, {"label": "fill_count"}, minimum=1, maximum=20, step=1, value=8, min_width=200, buttons=[]
            )
        _build_examples(page, [[example] for example in FILL_EXAMPLES], [text])
        go = page.button("fill")
        page.answer("fill", [go.click, text.submit], [text, count], partial(fill_blanks, page.model))


def _build_next_sentence(page: Page) -> None:
    with page.tab("next_sentence"):
        page.about("next_sentence")
        with gr.Row():
            boxes = [
                page.worded_as(
                    gr.Textbox, {"label": f"sentence_{side}"}, value=value, max_length=MAX_CHARACTERS,
                    elem_id=f"sentence-{side}",
                )
                for side, value in zip("ab", PAIR_EXAMPLES[0], strict=True)
            ]  # fmt: skip
        _build_examples(page, PAIR_EXAMPLES, boxes)
        go = page.button("next_sentence")
        triggers = [go.click, *(box.submit for box in boxes)]
        page.answer("next_sentence", triggers, boxes, partial(judge_continuation, page.model))


def _build_similarity(page: Page) -> None:
    with page.tab("similarity"):
        page.about("similarity")
        lines = page.worded_as(
            gr.Textbox, {"label": "similarity_text"}, value=SENTENCES, lines=4, max_lines=12,
            max_length=MAX_CHARACTERS, elem_id="similarity-text",
        )  # fmt: skip
        go = page.button("similarity")
        page.answer("similarity", [go.click, lines.submit], [lines], partial(compare_sentences, page.model))


def _build_pieces(page: Page) -> None:
    tokenizer = page.model.tokenizer
    with page.tab("pieces"):
        page.about("pieces")
        text = page.worded_as(
            gr.Textbox, {"label": "pieces_text"}, value=PIECE_EXAMPLES[-1], max_length=MAX_CHARACTERS,
            elem_id="pieces-text",
        )  # fmt: skip
        _build_examples(page, [[example] for example in PIECE_EXAMPLES], [text])
        go = page.button("pieces")
        page.answer("pieces", [go.click, text.submit], [text], partial(split_text, tokenizer))
        page.show(read_casing(tokenizer), "casing")


def _build_curves(page: Page) -> None:
    with page.tab("curves"):
        page.about("curves")
        page.show(find_curves(page.model.folder), "curves")


def _build_examples(page: Page, examples: list[list[str]], inputs: list[Any]) -> None:
    label = say("examples", FIRST_LANGUAGE)
    names = [" → ".join(example) for example in examples]
    built = gr.Examples(
        examples, inputs, label=label, example_labels=names, cache_examples=False, api_visibility="private"
    )
    page.worded.append((built.dataset, {"label": "examples"}))
