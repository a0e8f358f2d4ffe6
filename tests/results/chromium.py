"""A page in a real browser: what it holds when it has been drawn, and what was logged meanwhile."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_BROWSER = pytest.mark.skipif(BROWSER is None, reason="no Chromium: apt-get install chromium")

_ASK = """
<script>
const said = [];
window.addEventListener("error", event => said.push(String(event.message || event.target.tagName)), true);
for (const level of ["error", "warn"]) console[level] = (...what) => said.push(level + ": " + what.join(" "));
window.addEventListener("load", () => {
  const out = document.createElement("template");
  out.id = "asked";
  out.setAttribute("data-answer", JSON.stringify({said, answer: (() => { %s })()}));
  document.body.append(out);
});
</script>
"""

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0"),
    *("--proxy-server=127.0.0.1:9", "--window-size=1200,1000"),  # whatever it would fetch, it cannot
)


@dataclass(frozen=True)
class Visit:
    """`answer`: what the script returned; `said`: errors and warnings of the page; `console`: what Chromium logged of it."""

    answer: Any
    said: list[str]
    console: list[str]


def visit(page: Path, script: str) -> Visit:
    """Open a copy of the page with `script` (a function's body) run once it is drawn."""
    assert BROWSER is not None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(page.read_text().replace("<head>", "<head>" + _ASK % script, 1))
        done = subprocess.run(
            [BROWSER, *_FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", copy.as_uri()],
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    found = done.stdout.rpartition('data-answer="')[2].partition('"')[0]
    heard = json.loads(unescape(found))
    return Visit(heard["answer"], heard["said"], [line for line in done.stderr.splitlines() if "CONSOLE" in line])
