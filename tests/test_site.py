"""The docs site builds without a warning, and every page of it is whole."""

import functools
import html.parser
import http.server
import inspect
import os
import shutil
import subprocess
import sys
import threading
import urllib.parse
import zlib
from pathlib import Path

import jupytext
import nbformat
import pytest

import keras_free_adv
from keras_free_adv import datasets, optimizers, plotting, recipes, teaching, zoo
from tests.conftest import by_hand

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("[0-9]_*.py"))
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DESKTOP, PHONE = (1280, 900), (360, 740)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


class Page(html.parser.HTMLParser):
    """What a page has: anchors, links, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded = {""}, [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")}
        if tag == "a" and "href" in attrs:
            self.links.append(attrs["href"])
        if "src" in attrs:
            self.loaded.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(attrs["href"])


@pytest.fixture(scope="module")
def pages(site):
    # Of the page for what is not found, links begin at the root of the server.
    found = [path for path in site.rglob("*.html") if path.name != "404.html"]
    return {path: Page(path) for path in found}


def leads_somewhere(path, link, pages):
    """Whether a link within the site leads to a file, and to an anchor there."""
    address = urllib.parse.urlparse(link)
    target = path
    if address.path:
        target = (path.parent / urllib.parse.unquote(address.path)).resolve()
    if target.is_dir():
        target /= "index.html"
    if target not in pages:
        return target.exists()
    return urllib.parse.unquote(address.fragment) in pages[target].anchors


def test_no_link_is_dead_and_no_picture_missing(pages):
    dead = [
        f"{path.parent.name}: {link}"
        for path, page in pages.items()
        for link in page.links + page.loaded
        if not link.startswith(("https://", "http://", "data:", "mailto:"))
        and not leads_somewhere(path, link, pages)
    ]
    assert not dead
    assert len(pages) > 25
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_other_servers(pages):
    for path, page in pages.items():
        assert not [one for one in page.loaded if one.startswith("http")], path


def test_the_reference_has_every_public_name(site):
    # Sphinx' format: four lines of text, and then compressed ones.
    text = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = [line.split() for line in zlib.decompress(text).decode().splitlines()]
    listed = {line[0] for line in lines if line[1] != "py:module"}
    public = [
        f"keras_free_adv.{name}"
        for name in keras_free_adv.__all__
        if not inspect.ismodule(getattr(keras_free_adv, name))
    ]
    for module in (datasets, optimizers, plotting, recipes, teaching, zoo):
        public += [f"{module.__name__}.{name}" for name in module.__all__]
    # Two functions are named after their modules.
    missing = [n for n in public if not {n, f"{n}.{n.split('.')[-1]}"} & listed]
    assert not missing


def test_examples_of_docstrings_are_shown_as_code(site):
    text = (site / "reference/training/index.html").read_text()
    assert "&gt;&gt;&gt;" in text  # in a block of code
    assert "<blockquote>" not in text


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_python_file(path):
    """Else: python docs/site/notebooks.py."""
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert cells == [
        (cell.cell_type, cell.source) for cell in jupytext.read(path).cells
    ]
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@pytest.fixture(scope="module")
def server(site):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.mark.skipif(not CHROMIUM, reason="needs chromium on the PATH")
@pytest.mark.parametrize("size", [PHONE, by_hand(DESKTOP)], ids=["phone", "desktop"])
def test_every_page_opens_in_a_browser(site, pages, server, size):
    """No error of a script, nothing that cannot be loaded, nothing too wide."""
    from playwright.sync_api import sync_playwright

    wrong = []
    shots = os.environ.get("KERAS_FREE_ADV_SCREENSHOTS")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": size[0], "height": size[1]})
        tab.on("pageerror", lambda error: wrong.append(f"{tab.url}: {error}"))
        tab.on(
            "console",
            lambda said: (
                said.type == "error" and wrong.append(f"{tab.url}: {said.text}")
            ),
        )
        tab.on("requestfailed", lambda asked: wrong.append(f"not loaded: {asked.url}"))
        for path in sorted(pages):
            name = path.parent.relative_to(site).as_posix()
            tab.goto(f"{server}/{name}/".replace("/./", "/"), wait_until="networkidle")
            width = tab.evaluate("document.documentElement.scrollWidth")
            if width > size[0]:
                wrong.append(f"{tab.url}: {width} pixels wide")
            broken = tab.evaluate(
                "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
            )
            wrong += [f"{tab.url}: no picture {each}" for each in broken]
            if shots:
                file = f"{name.replace('/', '-').strip('.') or 'home'}-{size[0]}.png"
                tab.screenshot(path=Path(shots) / file, full_page=True)
        browser.close()
    assert not wrong


def test_every_page_says_the_version_and_where_the_source_is(site):
    from keras_free_adv import __version__

    for page in ("index.html", "results/index.html", "reference/training/index.html"):
        text = (site / page).read_text()
        assert f"keras_free_adv {__version__}" in text
        assert ">source and issues</a>" in text
