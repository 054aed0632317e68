"""The text files that are shipped to hosts, rendered from `files/templates`."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("piclusterops.files", "templates"),
        undefined=StrictUndefined,
        auto_reload=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """The text of a template.

    Raises:
        jinja2.UndefinedError: a value that the template uses is missing.
        jinja2.TemplateNotFound: there is no such template.
    """
    return _environment().get_template(template).render(**values)
