"""The page in a browser: Chromium, driven by Playwright. Without either, these tests skip."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary

from .conftest import CLIP
from .serving import Running, app_of

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1000, "height": 900}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    VoiceLibrary(folder).add("anna", voice)
    return folder


@pytest.fixture(scope="module")
def server(model: ChatterboxTurbo, folder: Path) -> Iterator[Running]:
    running = Running(app_of(model, folder))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        # Chromium does not start as root with its sandbox.
        arguments += ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, server: Running) -> Iterator[Any]:
    yield from opened(browser, server.url)


def opened(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page that is ready. What its script or its console reports as an error fails the test."""
    context = browser.new_context(viewport=WIDE, accept_downloads=True, **options)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(20_000)
    page.goto(url)
    state(page, "idle")
    yield page
    context.close()
    assert not faults


def state(page: Any, name: str) -> None:
    page.wait_for_selector(f"body[data-state={name}]")


def said(page: Any) -> str:
    return page.text_content("#state")


def choose(page: Any, **options: Any) -> None:
    page.evaluate("document.querySelector('details').open = true")
    for name, value in options.items():
        page.fill(f"#o-{name}", str(value))


def test_a_text_is_heard_while_it_is_made_and_downloaded(page: Any) -> None:
    page.fill("#text", "Hello there. [laugh]\n\nHow are you?\n\n" * 6)
    choose(page, seed=3, max_tokens=60)
    page.click("#speak")
    page.wait_for_function("document.body.dataset.samples > 0")
    assert page.get_attribute("body", "data-state") == "speaking", "the audio came at the end only"
    first = int(page.get_attribute("body", "data-samples"))
    page.wait_for_function("speech.heard() > 0.2")
    assert page.is_enabled("#stop") and page.is_disabled("#speak")
    state(page, "done")
    total = int(page.get_attribute("body", "data-samples"))
    assert total > 2 * first and "s of speech" in said(page)
    assert page.evaluate("new Set(new Uint32Array(document.querySelector('canvas').getContext('2d')"
                         ".getImageData(0, 0, 900, 80).data.buffer)).size") > 2  # fmt: skip
    with page.expect_download() as download:
        page.click("#history a")
    assert download.value.suggested_filename == "speech.wav"
    samples, rate = soundfile.read(download.value.path())
    assert rate == 24_000 and len(samples) == total and np.abs(samples).max() > 0.01


def test_stop_ends_the_work(page: Any, model: ChatterboxTurbo) -> None:
    page.fill("#text", "One more sentence is said here.\n\n" * 40)
    page.click("#speak")
    page.wait_for_function("document.body.dataset.samples > 0")
    page.click("#stop")
    state(page, "idle")
    assert said(page) == "Stopped" and page.is_enabled("#speak")
    page.wait_for_timeout(1_500)
    assert not model._speaking._scheduler._sessions


def test_a_voice_is_made_by_upload(page: Any, folder: Path) -> None:
    page.click("#maker summary")
    for filled, message in (
        (lambda: None, "Upload a clip"),
        (lambda: page.set_input_files("#clip", CLIP), "name of letters"),
        (lambda: page.fill("#name", "bob"), "Say who allowed"),
    ):
        filled()
        page.click("#keep")
        state(page, "error")
        assert message in said(page)
    page.fill("#consent", "Bob, by mail")
    page.click("#keep")
    page.wait_for_function("document.getElementById('state').textContent.includes('is kept')")
    assert page.input_value("#voice") == "bob"
    assert VoiceLibrary(folder).get("bob").consent == "Bob, by mail"
    choose(page, max_tokens=20)
    page.click("#speak")
    state(page, "done")
    assert "bob" in page.text_content("#history")


def test_a_clip_is_recorded(page: Any) -> None:
    page.click("#maker summary")
    page.click("#record")
    page.wait_for_function("recorder !== null")
    page.wait_for_timeout(800)
    assert page.get_attribute("#record", "aria-pressed") == "true"
    page.click("#record")
    page.wait_for_function("recorded !== null")
    assert "Recorded" in said(page)
    page.fill("#name", "carol")
    page.fill("#consent", "Carol, by mail")
    page.click("#keep")
    state(page, "error")
    assert "more than 5" in said(page), "the server did not read the recording"


def test_errors_of_the_server_are_shown(page: Any) -> None:
    page.fill("#text", "...")
    page.click("#speak")
    state(page, "error")
    assert "no letter or digit" in said(page) and page.is_enabled("#speak")
    page.click("#maker summary")
    content = io.BytesIO(b"hello " * 100).getvalue()
    page.set_input_files("#clip", {"name": "a.wav", "mimeType": "audio/wav", "buffer": content})
    page.fill("#name", "eve")
    page.fill("#consent", "yes")
    page.click("#keep")
    page.wait_for_function("document.getElementById('state').textContent.includes('audio')")
    assert page.get_attribute("body", "data-state") == "error"
    page.context.set_offline(True)
    page.fill("#text", "Hello.")
    page.click("#speak")
    page.wait_for_function("document.getElementById('state').textContent.includes('not answer')")


def test_the_keyboard_does_all(page: Any) -> None:
    page.focus("#text")
    page.keyboard.press("Control+A")
    page.keyboard.type("Hello there.")
    choose(page, max_tokens=20)
    page.focus("#text")
    page.keyboard.press("Control+Enter")
    state(page, "done")
    page.focus("#text")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"model", "voice", "speak", "SUMMARY", "o-seed", "AUDIO", "A"} <= reached
    names = page.evaluate(
        """[...document.querySelectorAll('input, select, textarea')].filter(
        each => !each.labels?.length).map(each => each.id)"""
    )
    assert names == [], "fields without a label"


def test_tags_are_inserted_where_the_cursor_is(page: Any) -> None:
    page.fill("#text", "Hello.")
    page.evaluate("document.getElementById('text').setSelectionRange(0, 0)")
    page.click("#tags button >> nth=0")
    tag = page.text_content("#tags button >> nth=0")
    assert page.input_value("#text") == f"{tag} Hello."


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
def test_it_fits_and_can_be_read(browser: Any, server: Running, scheme: str, size: Any) -> None:
    for page in opened(browser, server.url, color_scheme=scheme):
        page.set_viewport_size(size)
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(CONTRAST) >= 4.5


CONTRAST = """(() => {
  const pair = (text, ground) => {
    const light = name => {
      const probe = document.createElement("i"); probe.style.color = `var(${name})`; document.body.append(probe);
      const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number); probe.remove();
      const [r, g, b] = parts.map(x => x / 255).map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
      return .2126 * r + .7152 * g + .0722 * b;
    };
    const [a, b] = [light(text), light(ground)].sort((x, y) => y - x); return (a + .05) / (b + .05);
  };
  return Math.min(...[["--text", "--page"], ["--text", "--card"], ["--soft", "--card"], ["--soft", "--page"],
    ["--on-accent", "--accent"], ["--accent", "--card"], ["--bad", "--bad-page"]].map(each => pair(...each)));
})()"""  # noqa: E501


def test_a_server_with_a_key_asks_for_it(
    browser: Any, model: ChatterboxTurbo, folder: Path
) -> None:
    running = Running(app_of(model, folder, api_keys=("secret",)))
    context = browser.new_context(viewport=WIDE)
    try:
        page = context.new_page()
        page.goto(running.url)
        page.wait_for_selector("#access:not([hidden])")
        assert "API key" in said(page)
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        state(page, "idle")
        assert page.is_hidden("#access")
        choose(page, max_tokens=20)
        page.click("#speak")
        state(page, "done")
    finally:
        context.close()
        running.stop()
