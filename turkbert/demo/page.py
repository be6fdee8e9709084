"""The page: tabs, what they say in both languages, and what happens on a click.

    serve(build_page(load_model("out")))

Nothing leaves the machine: no analytics, no fonts or scripts of other hosts, no share link.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from turkbert.demo.curves import find_curves
from turkbert.demo.fill import fill_blanks
from turkbert.demo.models import DemoModel
from turkbert.demo.next_sentence import judge_continuation
from turkbert.demo.pieces import read_casing, split_text
from turkbert.demo.similarity import compare_sentences
from turkbert.demo.strings import LANGUAGES, say
from turkbert.demo.views import STYLE, render
from turkbert.errors import config_error

FIRST_LANGUAGE = "tr"  # until the browser has said which it prefers
MAX_CHARACTERS = 5000  # of a text box
FILL_EXAMPLES = [
    "Türkiye'nin başkenti [MASK].",
    "Kışın dağlara [MASK] yağar.",
    "Sabahları bir bardak [MASK] içerim.",
    "İstanbul, Türkiye'nin en [MASK] şehridir.",
]
PAIR_EXAMPLES = [
    ["Sabah erkenden yola çıktık.", "Öğlene doğru köye vardık."],
    ["Sabah erkenden yola çıktık.", "Kimyasal tepkimelerde kütle korunur."],
]
SENTENCES = "Takım maçı iki golle kazandı.\nFutbolcular sahada çok iyi oynadı.\nYazar yeni romanını yayımladı.\n"
SENTENCES += "Kitap bu yıl ödül aldı."
PIECE_EXAMPLES = ["Çekoslovakyalılaştıramadıklarımızdan mısınız?", "IĞDIR'dan İzmir'e ılık bir İLKBAHAR günü gittik 🌷."]
_SET_PAGE_LANGUAGE = "(...values) => { document.documentElement.lang = values[0]; return values; }"


class Page:
    """What has to change with the language: the words of the components, and the results shown so far."""

    def __init__(self, model: DemoModel):
        self.model = model
        self.worded: list[tuple[Any, dict[str, str]]] = []  # component, {its property: key of the table}
        self.results: list[tuple[gr.State, gr.HTML]] = []
        self.language: gr.Radio

    def worded_as(self, component_class: Callable[..., Any], words: dict[str, str], **options: Any) -> Any:
        """A new component some of whose texts come from the table: {"label": "fill_text"}."""
        texts = {name: say(key, FIRST_LANGUAGE) for name, key in words.items()}
        component = component_class(**texts, **options)
        self.worded.append((component, words))
        return component

    def tab(self, key: str) -> gr.Tab:
        return self.worded_as(gr.Tab, {"label": key}, id=key, elem_id=f"{key}-tab")

    def about(self, key: str) -> None:
        self.worded_as(gr.HTML, {"value": f"{key}_about"}, elem_classes="tb-about", padding=False)

    def show(self, result: Any, name: str) -> gr.State:
        """A place for a result, of which only the state is ever set without the language."""
        state = gr.State(result)
        html = gr.HTML(render(result, FIRST_LANGUAGE), elem_id=f"{name}-answer", elem_classes="tb", padding=False)
        self.results.append((state, html))
        return state

    def answer(self, key: str, triggers: list[Any], inputs: list[Any], compute: Callable[..., Any]) -> None:
        """On any trigger compute a result from the inputs and show it."""
        state = self.show(None, key)
        html = self.results[-1][1]

        def respond(language: str, *values: Any) -> tuple[Any, str]:
            result = compute(*values)
            return result, render(result, language)

        # One at a time, for all tabs together: the tokenizers cannot be called from two threads at once.
        listener = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
        gr.on(triggers, respond, [self.language, *inputs], [state, html], show_progress="minimal", **listener)

    def in_language(self, language: str, *results: Any) -> list[Any]:
        """New words for all components, and all results said anew."""
        words = [{name: say(key, language) for name, key in words.items()} for _, words in self.worded]
        return [*(gr.update(**texts) for texts in words), *(render(result, language) for result in results)]

    def follow_language(self, page: gr.Blocks) -> None:
        """Speak the browser's language at first, then the one that is chosen."""
        places = [*(component for component, _ in self.worded), *(html for _, html in self.results)]
        states = [state for state, _ in self.results]
        options: dict[str, Any] = {"js": _SET_PAGE_LANGUAGE, "show_progress": "hidden", "api_visibility": "private"}
        self.language.input(self.in_language, [self.language, *states], places, **options)
        first = page.load(preferred_language, None, self.language, show_progress="hidden", api_visibility="private")
        first.then(self.in_language, [self.language, *states], places, **options)


def build_page(model: DemoModel) -> gr.Blocks:
    """The whole page for one model."""
    page = Page(model)
    with gr.Blocks(title=f"{model.name} · turkbert", analytics_enabled=False) as blocks:
        with gr.Row(equal_height=True, elem_classes="tb-head"):
            with gr.Column(scale=4):
                page.show(Heading(model.name, model.sizes), "heading")
            choices = [(name, code) for code, name in LANGUAGES.items()]
            page.language = gr.Radio(
                choices, value=FIRST_LANGUAGE, show_label=False, container=False, elem_id="language", min_width=180
            )
        with gr.Tabs():
            for build in (_build_fill, _build_next_sentence, _build_similarity, _build_pieces, _build_curves):
                build(page)
        page.follow_language(blocks)
    return blocks


def serve(page: gr.Blocks, host: str | None = "127.0.0.1", port: int | None = None, wait: bool = True) -> str:
    """Answer browsers at `http://host:port`, which is returned where `wait` is false.

    Args:
        host: loopback, which nobody else can reach; None for what GRADIO_SERVER_NAME says, as Spaces set it.
        port: None for the first free one from 7860 on.

    Raises:
        UserError: the port is taken.
    """
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            run_history=False,
            footer_links=[],
            enable_monitoring=False,
            mcp_server=False,
            theme=gr.themes.Soft(
                primary_hue="teal",
                secondary_hue="teal",
                neutral_hue="slate",
                font=["system-ui", "Segoe UI", "Noto Sans", "sans-serif"],
                font_mono=["ui-monospace", "Consolas", "monospace"],
            ),
            css=STYLE,
        )
    except OSError as error:
        raise config_error("port", f"{port or '7860 to 7959'} is taken", "give another one with --port") from error
    return url


def preferred_language(request: gr.Request) -> str:
    """Turkish if the browser's first language is, else English."""
    return "tr" if request.headers.get("accept-language", "").lower().startswith("tr") else "en"


def _build_fill(page: Page) -> None:
    with page.tab("fill"):
        page.about("fill")
        with gr.Row(equal_height=True):
            text = page.worded_as(
                gr.Textbox, {"label": "fill_text"}, value=FILL_EXAMPLES[0], max_length=MAX_CHARACTERS, scale=4,
                elem_id="fill-text",
            )  # fmt: skip
            count = page.worded_as(
                gr.Slider, {"label": "fill_count"}, minimum=1, maximum=20, step=1, value=8, min_width=180
            )
        go = page.worded_as(gr.Button, {"value": "fill_go"}, variant="primary", elem_id="fill-go")
        page.answer("fill", [go.click, text.submit], [text, count], partial(fill_blanks, page.model))
        _build_examples(page, [[example] for example in FILL_EXAMPLES], [text])


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
        go = page.worded_as(gr.Button, {"value": "next_sentence_go"}, variant="primary", elem_id="next_sentence-go")
        triggers = [go.click, *(box.submit for box in boxes)]
        page.answer("next_sentence", triggers, boxes, partial(judge_continuation, page.model))
        _build_examples(page, PAIR_EXAMPLES, boxes)


def _build_similarity(page: Page) -> None:
    with page.tab("similarity"):
        page.about("similarity")
        lines = page.worded_as(
            gr.Textbox, {"label": "similarity_text"}, value=SENTENCES, lines=4, max_lines=12,
            max_length=MAX_CHARACTERS, elem_id="similarity-text",
        )  # fmt: skip
        go = page.worded_as(gr.Button, {"value": "similarity_go"}, variant="primary", elem_id="similarity-go")
        page.answer("similarity", [go.click, lines.submit], [lines], partial(compare_sentences, page.model))


def _build_pieces(page: Page) -> None:
    tokenizer = page.model.tokenizer
    with page.tab("pieces"):
        page.about("pieces")
        text = page.worded_as(
            gr.Textbox, {"label": "pieces_text"}, value=PIECE_EXAMPLES[-1], max_length=MAX_CHARACTERS,
            elem_id="pieces-text",
        )  # fmt: skip
        go = page.worded_as(gr.Button, {"value": "pieces_go"}, variant="primary", elem_id="pieces-go")
        page.answer("pieces", [go.click, text.submit], [text], partial(split_text, tokenizer))
        _build_examples(page, [[example] for example in PIECE_EXAMPLES], [text])
        page.show(read_casing(tokenizer), "casing")


def _build_curves(page: Page) -> None:
    with page.tab("curves"):
        page.about("curves")
        page.show(find_curves(page.model.folder), "curves")


def _build_examples(page: Page, examples: list[list[str]], inputs: list[Any]) -> None:
    label = say("examples", FIRST_LANGUAGE)
    built = gr.Examples(examples, inputs, label=label, cache_examples=False, api_visibility="private")
    page.worded.append((built.dataset, {"label": "examples"}))
