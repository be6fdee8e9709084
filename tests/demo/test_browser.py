"""The demo as people use it: the script, and Chromium that types, clicks and reads.

Without Chromium the test is skipped and says so. TURKBERT_NEEDS_BROWSER=1 makes that a failure: set it wherever
Chromium can be installed (`apt-get install chromium`), so that no change of the machine hides a broken page.
"""

import os
import re
import signal

import pytest

from tests.demo.browser import LOOPBACK, ask, demo_command, hosts, opened_page, started_demo, what_is_missing
from tests.tiny_models import model_dirs  # noqa: F401
from turkbert.demo.fill import fill_blanks
from turkbert.demo.models import load_model
from turkbert.demo.strings import percent, say

TEXT = "Güneş [MASK] doğar."


@pytest.fixture(scope="module")
def chromium():
    if reason := what_is_missing():
        (pytest.fail if os.environ.get("TURKBERT_NEEDS_BROWSER") == "1" else pytest.skip)(reason)


@pytest.mark.slow
def test_a_visit(chromium, model_dirs, tmp_path):  # noqa: F811
    model = load_model(str(model_dirs["stock"]))
    best, second = fill_blanks(model, TEXT, 2).blanks[0]
    with started_demo(demo_command(model_dirs["stock"]), tmp_path) as (url, process):
        with opened_page(url, tmp_path, "tr") as (page, requests):
            # Type, click, read
            page.locator("#fill-text textarea").fill(TEXT)
            ask(page, "fill")
            bars = page.locator("#fill-answer .tb-bar")
            assert bars.count() == 8
            assert bars.first.inner_text().split("\n") == [best.token, percent(best.probability, "tr")]
            # The other language, at once, of the answer too
            page.get_by_label("English").click()
            page.get_by_role("tab", name="Fill the blank").wait_for()
            assert bars.nth(1).inner_text().split("\n") == [second.token, percent(second.probability, "en")]
            # The other tabs
            ask(page, "next_sentence")
            shown = page.locator("#next_sentence-answer").inner_text()
            assert sum(map(float, re.findall(r"([\d.]+)%", shown))) == pytest.approx(100, abs=0.11)
            ask(page, "similarity")
            assert page.locator("#similarity-answer .tb-matrix td").count() == 16
            ask(page, "pieces")
            assert page.locator("#pieces-answer .tb-unknown").count() == 1  # the cup of tea
            assert page.locator("#casing-answer .tb-letters tr").count() == 5
            page.locator("#curves-tab-button").click()
            assert page.locator("#curves-answer").inner_text() == say("no_curves", "en")
            assert len(page.screenshot(path=tmp_path / "page.png")) > 10_000
            assert hosts(requests) <= LOOPBACK and len(requests) > 5
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not (tmp_path / "outgoing").exists()
    assert "Traceback" not in (tmp_path / "errors").read_text()
