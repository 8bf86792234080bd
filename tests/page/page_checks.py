"""What JavaScript sees of the page that Selenium has no words for."""

#: Whether the table of failures has lines, and all of them have a text.
FAILURES_HAVE = """
const lines = [...document.querySelectorAll('#failures tbody tr')].map((line) => line.innerText);
return lines.length > 0 && lines.every((line) => line.includes(arguments[0]));
"""

#: The elements that stand out to the right of a screen, but for those in a box that is scrolled by itself.
TOO_WIDE = """
const all = [...document.querySelectorAll('body *')];
return all.filter((e) => !e.closest('.scroll, .u-wrap, .unseen, thead'))
  .filter((e) => e.getBoundingClientRect().right > arguments[0])
  .map((e) => e.outerHTML.slice(0, 200));
"""

#: What can be pressed, but is lower than it should be.
TOO_LOW = """
const all = [...document.querySelectorAll('button, input[type=search], .choice span, summary')];
return all.filter((e) => e.offsetHeight > 0 && e.offsetHeight < arguments[0]).map((e) => e.outerHTML);
"""

#: How many texts are seen, and those whose contrast to what is behind them is too low (WCAG 2.2, "contrast ratio").
UNREADABLE = """
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (p) => (p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4);
const light = (colour) => {
  const [r, g, b] = parts(colour).map((p) => linear(p / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (e) => {
  const colour = getComputedStyle(e).backgroundColor;
  return parts(colour)[3] === 0 ? behind(e.parentElement) : colour;
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
let count = 0;
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !e.checkVisibility() || e.closest('script, noscript')) continue;
  count += 1;
  const [low, high] = [light(getComputedStyle(e).color), light(behind(e))].sort((a, b) => a - b);
  if ((high + 0.05) / (low + 0.05) < 4.5) found.push(e.outerHTML);
}
return [count, [...new Set(found)]];
"""

#: From now on ``spoken`` has the ids of live regions that have changed.
LISTEN = """
window.spoken = [];
new MutationObserver((all) => all.forEach((change) => {
  const e = change.target.closest ? change.target : change.target.parentElement;
  const region = e.closest('[role=status], [role=alert], [aria-live], output');
  if (region) spoken.push(region.id);
})).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
return page.history.now;
"""
