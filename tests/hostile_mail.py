"""Messages that want to do harm where they are shown."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP

#: In each of these something would run, or be fetched, if it were part of a page.
SCRIPTS = (
    "<script>document.title = 'ran'</script>",
    "<img src=x onerror=\"document.title = 'ran'\">",
    '"><svg onload="document.title = \'ran\'">',
    "</title></textarea></pre><script>document.title = 'ran'</script>",
    "<iframe srcdoc=\"<script>parent.document.title = 'ran'</script>\"></iframe>",
    "javascript:document.title='ran'",
    "' onmouseover='document.title=1' x='",
)


def harmful_html(web: int) -> str:
    """
    HTML that tries all that HTML can.

    :param web: the port of a server of ours that remembers what it is asked for.
    """
    there = f"http://127.0.0.1:{web}"
    return f"""<!doctype html><html><head><title>mail</title>
<base href="{there}/base/">
<meta http-equiv="refresh" content="0;url={there}/refresh">
<meta http-equiv="Content-Security-Policy" content="default-src *">
<link rel="stylesheet" href="{there}/style.css">
<link rel="prefetch" href="{there}/prefetch"><link rel="preload" as="image" href="{there}/preload">
<link rel="icon" href="{there}/icon"><link rel="manifest" href="{there}/manifest">
<style>@import url("{there}/import.css"); body {{ background: url("{there}/background.png") }}
@font-face {{ font-family: f; src: url("{there}/font.woff") }} p {{ font-family: f }}</style>
<script src="{there}/script.js"></script>
<script>top.document.title = 'ran'; parent.postMessage('ran', '*'); fetch('{there}/fetch')</script>
</head><body onload="top.location = '{there}/top'">
<h1 id="shown">It is shown</h1>
<p style="background: url('{there}/inline.png')">text</p>
<img src="{there}/img.png" srcset="{there}/srcset.png 2x"><img src="//127.0.0.1:{web}/relative.png">
<img src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'%3E%3Cimage href='{there}/svg.png'/%3E%3C/svg%3E">
<svg><image href="{there}/svgimage.png"/><use href="{there}/use.svg#x"/><script>top.document.title='ran'</script></svg>
<video src="{there}/video.mp4" poster="{there}/poster.png" autoplay></video><audio src="{there}/audio.mp3"></audio>
<object data="{there}/object"></object><embed src="{there}/embed"><iframe src="{there}/frame"></iframe>
<iframe src="data:text/html,<script>top.document.title='ran'</script>"></iframe>
<form action="{there}/form" method="post" id="form"><input name="a" autofocus onfocus="this.form.submit()">
<button id="submit">Send</button></form>
<a id="js" href="javascript:top.document.title='ran'">js</a>
<a id="out" href="{there}/link" target="_top">out</a> <a id="in" href="{there}/inner">in</a>
<a id="blank" href="{there}/blank" target="_blank" ping="{there}/ping">blank</a>
<a id="data" href="data:text/html,<script>alert(1)</script>">data</a>
</body></html>"""


def harmful(web: int, script: str = SCRIPTS[0]) -> bytes:
    """A message in which everything that a page would show is a script, and its HTML."""
    message = EmailMessage(policy=SMTP)
    message["From"] = f'"{script.replace(chr(34), "")}" <a@example.net>'
    message["Subject"] = script
    message.set_content(script)
    message.add_alternative(harmful_html(web), subtype="html")
    message.add_attachment(b"<script>document.title = 'ran'</script>", "text", "html", filename=script)
    message.add_attachment(
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='ran'</script></svg>",
        "image",
        "svg+xml",
        filename="../../picture.svg",
    )
    message.attach(_oddly_typed(script))
    return message.as_bytes()


def _oddly_typed(script: str) -> EmailMessage:
    part = EmailMessage(policy=SMTP)
    part.set_payload("odd")
    part["Content-Type"] = "text/x-odd"
    part["Content-ID"] = f"<{script.replace('<', '').replace('>', '')}>"
    return part
