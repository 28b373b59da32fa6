"""What MkDocs does not do by itself: the tutorials' notebooks become pages."""

import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

NOTEBOOKS = "tutorials/*.ipynb"
VERSION = Path("keras_free_adv/version.py")
DOWNLOAD = (
    "Read it here as it was run, or run it yourself: "
    "[the notebook]({stem}.ipynb){{ download }}, [the Python file]({stem}.py)"
    "{{ download }}.\n"
)


def on_config(config: Any) -> Any:
    """Every page's footer says the version, and where the source is.

    Not `repo_url`: with it each page asks GitHub for the number of stars.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    version = re.search(r'__version__ = "(.+)"', VERSION.read_text())
    config.copyright = (
        f"{project['name']} {version[1] if version else ''} &middot; "
        f'<a href="{project["urls"]["Homepage"]}">source and issues</a>'
    )
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds a page, and its pictures, for each notebook as it was run."""
    docs = Path(config.docs_dir)
    for path in sorted(docs.glob(NOTEBOOKS)):
        page = path.relative_to(docs).with_suffix("")
        notebook = nbformat.read(path, as_version=4)
        exporter = MarkdownExporter(exclude_input_prompt=True)
        text, resources = exporter.from_notebook_node(
            notebook, {"output_files_dir": f"{page.name}_files"}
        )
        title, rest = text.split("\n", 1)
        text = f"{title}\n\n{DOWNLOAD.format(stem=page.name)}{rest}"
        files.append(File.generated(config, f"{page.as_posix()}.md", content=text))
        for name, picture in resources["outputs"].items():
            name = posixpath.join(page.parent.as_posix(), name)
            files.append(File.generated(config, name, content=picture))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links between tutorials lead to their pages; to download is said."""
    return re.sub(
        r"(\]\((?:\.\./)*(?:tutorials/)?\d_\w+)\.ipynb\)(?!\{)", r"\1.md)", markdown
    )
