"""Configuration of Sphinx. Nothing is fetched from the network: the build is the same everywhere."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "lmtp-twisted"
author = "The lmtp-twisted maintainers"
copyright = author
version = release = installed_version("lmtp-twisted")

extensions = [
    "sphinx.ext.autodoc",
    "abuse_figures",
    "benchmark_figures",
    "lmtp_reference",
    "peer_facts",
    "proofs",
    "session_states",
]
exclude_patterns = ["_build"]

# They would make one dash of the two hyphens of an option.
smartquotes = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/logo.svg"
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo.svg",
    "light_css_variables": {"color-brand-primary": "#8a2c2c", "color-brand-content": "#8a2c2c"},
    "dark_css_variables": {"color-brand-primary": "#e58a7d", "color-brand-content": "#e58a7d"},
}
html_title = f"lmtp-twisted {release}"
html_copy_source = False
html_show_sphinx = False

python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
# autodoc knows no interfaces, and writes what Python prints for them.
_INTERFACES = ("IConnectionPolicy", "IDeliveryBackendPlugin", "ILMTPDelivery", "ILMTPDeliveryFactory")
_INTERFACES += ("IReceivedMessage", "ISessionObserver")
autodoc_type_aliases = {name: f"lmtp_twisted.interfaces.{name}" for name in _INTERFACES}
autodoc_type_aliases |= {"IAddress": "twisted.internet.interfaces.IAddress"}
autodoc_type_aliases |= {name: name for name in ("MessageCallable", "RecipientCallable")}

# A reference to a name of ours that does not exist is an error; those of others, and to modules, are plain text.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!lmtp_twisted\.).*"), (r"py:mod", r".*"), (r"py:class", r".*\.T")]
