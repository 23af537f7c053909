"""The site: Sphinx, MyST (notebooks included) and furo; `make docs` builds it, and a warning is an error."""

from importlib.metadata import version as version_of

project = "Probe or Tune"
author = "The authors of Probe or Tune"
version = release = version_of("probe-or-tune")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["Thumbs.db"]
nb_execution_mode = "off"  # notebooks show what `make notebooks` stored, which a test holds against today

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # so that a link to a heading is checked

default_role = "code"  # `x` in a docstring is code, as it is on the pages
highlight_language = "text"  # a block without a language is a command line
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = False

html_theme = "furo"  # brings its own fonts' names and scripts: nothing is fetched from elsewhere when a page is opened
html_title = "Probe or Tune"
html_static_path: list[str] = []
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#3f51b5", "color-brand-content": "#3f51b5"},
    "dark_css_variables": {"color-brand-primary": "#9fa8da", "color-brand-content": "#9fa8da"},
}
