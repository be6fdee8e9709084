"""Makes the pictures of the demo that the documentation shows; look at each of them.

    python tests/demo/screenshots.py MODEL docs/images
"""

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.demo.browser import ask, demo_command, opened_page, started_demo

TABS = ("fill", "next_sentence", "similarity", "pieces", "curves")


def main() -> None:
    model, images = Path(sys.argv[1]).absolute(), Path(sys.argv[2])
    with TemporaryDirectory() as name, started_demo(demo_command(model), Path(name)) as (url, _):
        for language in ("tr", "en"):
            with opened_page(url, Path(name), language, scale=1.25) as (page, _):
                for tab in TABS:
                    take_picture(page, tab, images / f"demo_{tab}_{language}.png")


def take_picture(page: Page, tab: str, path: Path) -> None:
    """A tab with its answer, as high as it is; of the curves, the first."""
    if tab == "curves":
        page.locator("#curves-tab-button").click()
    else:
        ask(page, tab)
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)  # the ends of Gradio's own animations
    shot = Image.open(io.BytesIO(page.screenshot(full_page=tab != "curves")))
    shot.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    main()
