# SPDX-License-Identifier: GPL-2.0-or-later
"""How the documentation is built: `./dev docs`."""

import importlib.metadata
import os
import sys
from pathlib import Path

from pygments.lexers.shell import BashLexer
from sphinx.application import Sphinx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "libnetfilterqueue"
version = release = importlib.metadata.version(project)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "examples",
    "links",
    "parameters",
    "signatures",
    "since",
    "sphinx_copybutton",
    "sphinx_inline_tabs",
    "sphinxext.opengraph",
]
exclude_patterns = ["_extensions"]

# Nothing is fetched: the build works offline. links.py knows the pages of Python's types; all other
# names from elsewhere need no target.
nitpicky = True
nitpick_ignore_regex = [(r"py:(class|obj)", r"(?!libnetfilterqueue\.|Netfilter)[\w.]+")]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autoclass_content = "both"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"{project} {version}"
html_use_index = False  # the search finds what it would list
html_domain_indices = False
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_search_scorer = str(HERE / "_extensions" / "scorer.js")
html_favicon = "_static/favicon.svg"

# Link previews name their picture by its whole address, so who publishes the pages says where.
ogp_site_url = html_baseurl = os.environ.get("DOCS_URL", "")
ogp_site_name = project
ogp_image = "_static/preview.png"
ogp_image_alt = "A rule sends a packet to a queue, the program gives its verdict"
ogp_social_cards = {"enable": False}

copybutton_exclude = ".linenos, .gp, .go"  # of a dialogue with Python's shell only what is typed


def setup(app: Sphinx) -> None:
    """Called by Sphinx: files of rules look like the languages that are nearest to them."""
    app.add_lexer("iptables", BashLexer)
    app.add_lexer("nft", BashLexer)
