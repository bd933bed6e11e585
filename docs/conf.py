# SPDX-License-Identifier: GPL-2.0-or-later
"""How the documentation is built: `./dev docs`."""

import importlib.metadata
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "libnetfilterqueue"
version = release = importlib.metadata.version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "signatures"]
exclude_patterns = ["_extensions"]

# Nothing is fetched: the build works offline, so it has no links into other projects' pages, and
# names of the standard library need no target.
nitpicky = True
nitpick_ignore_regex = [(r"py:(class|obj)", r"(?!libnetfilterqueue\.|Netfilter)[\w.]+")]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
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
