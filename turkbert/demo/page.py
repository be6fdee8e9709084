"""A page that speaks two languages: components whose words come from the table, results that can be said anew.

    page.worded_as(gr.Button, {"value": "fill_go"})
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from turkbert.demo.models import DemoModel
from turkbert.demo.strings import say
from turkbert.demo.views import render

FIRST_LANGUAGE = "tr"  # until the browser has said which it prefers
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

    def button(self, key: str) -> gr.Button:
        options = {"variant": "primary", "elem_id": f"{key}-go", "elem_classes": "tb-go"}
        return self.worded_as(gr.Button, {"value": f"{key}_go"}, **options)

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


def preferred_language(request: gr.Request) -> str:
    """Turkish if the browser's first language is, else English."""
    return "tr" if request.headers.get("accept-language", "").lower().startswith("tr") else "en"
