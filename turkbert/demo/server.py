"""The page on the air: on loopback alone, and asking nothing of other machines.

    serve(build_page(load_model("out")))    ->  "http://127.0.0.1:7860/"
"""

import threading

import gradio as gr

from turkbert.demo.views import STYLE
from turkbert.errors import config_error

# The fonts come with Gradio. Of this family the weights 400 and 700 have the Turkish letters, 600 lacks them.
THEME = gr.themes.Soft(
    primary_hue="teal",
    secondary_hue="teal",
    neutral_hue="slate",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"],
).set(  # darker than Soft's own, to be read easily
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_600",
    block_title_background_fill="none",
    block_title_background_fill_dark="none",
    block_title_text_color="*body_text_color",
    block_title_text_color_dark="*body_text_color",
    block_title_padding="0",
)


def serve(page: gr.Blocks, host: str | None = "127.0.0.1", port: int | None = None) -> str:
    """Begin to answer browsers, and return the address.

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
            enable_monitoring=False,
            mcp_server=False,
            footer_links=[],
            theme=THEME,
            css=STYLE,
        )
    except OSError as error:
        raise config_error("port", f"{port or '7860 to 7959'} is taken", "give another one with --port") from error
    return url


def wait(page: gr.Blocks) -> None:
    """Until Ctrl-C, which is how a demo ends."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        page.close(verbose=False)
