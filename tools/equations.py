"""Equations as HTML that needs no script and no network: KaTeX, run once for each equation.

KaTeX (the files under ``tools/katex``) runs in the small JavaScript engine of dukpy while a page is
written. The page carries the result: HTML that looks the same in every browser, and MathML for
screen readers. `style` gives the style sheet that it needs, with its fonts inside.
"""

from __future__ import annotations

import base64
import functools
import html
import re
from pathlib import Path

import dukpy

KATEX = Path(__file__).resolve().parent / "katex"
ERROR_CLASS = "katex-error"
"""The class of an equation that KaTeX cannot read; its TeX is shown in its place."""


@functools.cache
def _engine() -> dukpy.JSInterpreter:
    engine = dukpy.JSInterpreter()
    engine.evaljs((KATEX / "katex.min.js").read_text(encoding="utf-8") + "; null")
    return engine


@functools.cache
def render_equation(tex: str, display: bool) -> str:
    """Render an equation as HTML.

    Args:
        tex: its source, without dollar signs.
        display: whether it stands on a line of its own.

    Returns:
        The HTML; for TeX that cannot be read an element of the class `ERROR_CLASS` with the source
        and, as its title, the reason.

    Examples:
        >>> "katex-error" in render_equation(r"\\tilde V_f", display=False)
        False
    """
    tex = tex.strip()
    try:
        return _engine().evaljs(
            "katex.renderToString(dukpy.tex, {displayMode: dukpy.display, strict: 'ignore'})",
            tex=tex,
            display=display,
        )
    except dukpy.JSRuntimeError as error:
        reason = html.escape(str(error).strip().splitlines()[0])
        return f'<code class="{ERROR_CLASS}" title="{reason}">{html.escape(tex)}</code>'


@functools.cache
def style() -> str:
    """Return KaTeX's style sheet with its fonts inside."""

    def embedded(match: re.Match[str]) -> str:
        font = base64.b64encode((KATEX / match[1]).read_bytes()).decode()
        return f'src:url(data:font/woff2;base64,{font}) format("woff2")'

    sheet = (KATEX / "katex.min.css").read_text(encoding="utf-8")
    return re.sub(r"src:url\(([^)]+\.woff2)\)[^};]*", embedded, sheet)
