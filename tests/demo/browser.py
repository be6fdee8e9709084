"""The demo as its users have it: the script in a process of its own, and Chromium without a screen to look at it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update",
    "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
LOOPBACK = {"127.0.0.1", "localhost"}
# Python's own door for each connection: what goes elsewhere than to this machine is noted in the file of $OUTGOING.
WATCH_OUTGOING = """
import os, sys

def watch(event, args):
    if event == "socket.connect":
        host = args[1][0] if isinstance(args[1], tuple) else "127.0.0.1"
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    if host not in (None, "", "127.0.0.1", "::1", "localhost", "0.0.0.0"):
        with open(os.environ["OUTGOING"], "a") as file:
            file.write(f"{event} {host}\\n")

sys.addaudithook(watch)
"""


def find_chromium() -> str | None:
    """The browser of the system: playwright would otherwise want to download one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def what_is_missing() -> str | None:
    """Why there can be no test in a browser, or None."""
    missing = [name for name in ("gradio", "playwright") if find_spec(name) is None]
    if missing:
        return f'{" and ".join(missing)} not installed: pip install -e ".[test]"'
    return None if find_chromium() else "no chromium on this machine: apt-get install chromium"


@contextmanager
def started_demo(command: list[str], folder: Path, cwd: Path = ROOT) -> Iterator[tuple[str, subprocess.Popen]]:
    """(address, process) of a program that prints where it answers.

    Args:
        folder: gets `errors`, what the program says on stderr, and `outgoing`, its connections to elsewhere if any.
        cwd: where it runs and finds turkbert.
    """
    watcher = folder / "watch" / "sitecustomize.py"
    watcher.parent.mkdir(exist_ok=True)
    watcher.write_text(WATCH_OUTGOING)
    paths = os.pathsep.join([str(watcher.parent), str(cwd)])
    environment = {**os.environ, "PYTHONPATH": paths, "OUTGOING": str(folder / "outgoing")}
    environment["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    errors = open(folder / "errors", "w+")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=cwd, preexec_fn=_hear_ctrl_c
    )
    try:
        first = process.stdout.readline()
        found = re.search(r"http://\S+", first)
        if found is None:
            raise RuntimeError(f"no address but {first!r}: {(folder / 'errors').read_text()}")
        yield found.group(), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        errors.close()


def _hear_ctrl_c() -> None:
    """As in a terminal: what a shell starts in the background ignores it, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def demo_command(model: Path) -> list[str]:
    return [sys.executable, str(ROOT / "scripts" / "demo.py"), str(model)]


@contextmanager
def opened_page(url: str, folder: Path, language: str, scale: float = 1) -> Iterator[tuple[Any, list[str]]]:
    """(the page, all that it asks for) in a Chromium with a new profile that prefers `language` and light colours.

    Args:
        scale: pixels of a screenshot for one of the page.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / f"profile-{language}",
            executable_path=find_chromium(),
            args=FLAGS,
            locale={"tr": "tr-TR", "en": "en-US"}[language],
            viewport={"width": 1120, "height": 800},
            device_scale_factor=scale,
            color_scheme="light",
        )
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        page.wait_for_function("lang => document.documentElement.lang == lang", arg=language)
        yield page, requests
        context.close()


def hosts(urls: list[str]) -> set[str | None]:
    """The machines that were asked for something."""
    return {urlsplit(url).hostname for url in urls if urlsplit(url).scheme not in ("data", "blob")}


def ask(page: Any, tab: str) -> None:
    """Open a tab, click its button, wait for the answer."""
    page.locator(f"#{tab}-tab-button").click()
    page.locator(f"#{tab}-go").click()
    page.locator(f"#{tab}-answer .tb-result").wait_for()
