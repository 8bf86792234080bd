// What the page is told, and what it then shows.

const FAILURES_KEPT = 500;
// Seconds without a word after which the connection is taken to be dead.
const SILENCE = 15;

const found = (id) => document.getElementById(id);
const table = (id, definition) => new Table(definition, document.querySelector(`#${id} table`));

class Page {
  constructor() {
    this.history = new History();
    this.about = {};
    this.told = { failures: [], domains: [], other: {}, slowest: [], sessions: { total: 0, sessions: [] } };
    this.step = 10;
    this.isPaused = false;
    this.charts = CHARTS.map((definition) => new Chart(definition, found("charts")));
    this.tables = {
      failures: table("failures", FAILURES),
      domains: table("domains", DOMAINS),
      slowest: table("slowest", SLOWEST),
      sessions: table("sessions", SESSIONS),
    };
    found("zone").textContent = ` (${Intl.DateTimeFormat().resolvedOptions().timeZone})`;
    this.listen();
    this.draw();
  }

  listen() {
    found("steps").addEventListener("change", (event) => {
      this.step = Number(event.target.value);
      this.draw();
    });
    found("filter").addEventListener("input", () => this.isTold && this.drawFailures());
    found("minutes").addEventListener("toggle", () => this.drawMinutes());
    found("pause").addEventListener("click", () => {
      this.isPaused = !this.isPaused;
      found("pause").setAttribute("aria-pressed", String(this.isPaused));
      this.draw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const chart of this.charts) chart.redraw();
    });
    document.addEventListener("visibilitychange", () => this.draw());
  }

  /** The whole of it: at the beginning, and when the server is another or too much was missed. */
  begin(state) {
    this.about = state.about;
    this.history.ends = state.about.buckets;
    this.history.begin(state.ticks);
    this.told.failures = [];
    this.go(state);
  }

  /** What is new since. */
  go(news) {
    this.history.add(news.ticks);
    // Some come twice, where the server could not know what we have.
    const failures = new Map([...this.told.failures, ...news.failures].map((row) => [FAILURES.key(row), row]));
    this.told.failures = [...failures.values()].sort((a, b) => b.time - a.time).slice(0, FAILURES_KEPT);
    for (const name of ["domains", "other", "slowest", "sessions"]) {
      if (name in news) this.told[name] = news[name];
    }
    this.draw();
  }

  get isTold() {
    return "host" in this.about;
  }

  draw() {
    if (this.isPaused || document.hidden) return;
    const { history, told } = this;
    this.drawAbout();
    this.drawNow();
    const points = history.points(this.step);
    for (const chart of this.charts) chart.draw(points, history);
    this.drawMinutes();
    // What has not been told is not said to be nothing.
    if (!this.isTold) return;
    this.drawFailures();
    const domains = told.domains.map((row) => ({ ...row, isOther: false }));
    if (told.other["2xx"] || told.other["4xx"] || told.other["5xx"]) domains.push({ ...told.other, isOther: true });
    this.tables.domains.draw(domains, history.now);
    this.tables.slowest.draw(told.slowest, history.now);
    const { total, sessions } = told.sessions;
    const others = total - sessions.length;
    found("connected").textContent = others > 0 ? `${total} sessions, of which the oldest ${sessions.length}.`
      : total === 1 ? "1 session." : `${total} sessions.`;
    this.tables.sessions.draw(sessions, history.now);
  }

  drawAbout() {
    const { about, history } = this;
    if (!this.isTold) return;
    const members = history.last ? history.last.members : 0;
    const facts = [`lmtp-twisted ${about.version}`, `up ${age(history.now - about.started)}`];
    if (about.workers > 1) facts.push(`${members} of ${about.workers} workers serve`);
    found("host").textContent = about.host;
    found("about").textContent = facts.join(" · ");
    found("about").classList.toggle("bad", about.workers > 1 && members < about.workers);
    document.title = `${about.host} · lmtp-twisted`;
  }

  drawNow() {
    const point = this.history.latest(this.step) || { seconds: 1, buckets: [] };
    const rate = (name) => (point[name] === undefined ? null : point[name] / point.seconds);
    const answered = point.ok + point.deferred + point.refused;
    const failed = answered ? (100 * (point.deferred + point.refused)) / answered : null;
    const values = [
      ["Connected", short(point.open), ""],
      ["Messages", short(rate("messages")), "/s"],
      ["Recipients", Number.isNaN(answered) ? "–" : short(answered / point.seconds), "/s"],
      ["Not delivered", failed === null ? "–" : short(failed), failed === null ? "" : "%"],
      ["Content", octets(rate("octets")), "/s"],
      ["p95 from dot to reply", duration(this.history.quantile(0.95, point)), ""],
    ];
    const list = found("now");
    if (!list.children.length) {
      for (const [name] of values) {
        list.append(element("div", {}, element("dt", { textContent: name }), element("dd", {}, element("b"), element("small"))));
      }
    }
    values.forEach(([, value, unit], i) => {
      const [number, small] = list.children[i].lastChild.children;
      number.textContent = value;
      small.textContent = unit;
    });
    list.title = `Over the last ${this.step === 1 ? "second" : `${this.step} seconds`}`;
  }

  drawMinutes() {
    const details = found("minutes");
    if (!details.open) return;
    const columns = [
      ["Time", (point) => minute(point.time - 1)],
      ...CHARTS.flatMap((chart) => chart.series.map((series) => [
        chart.series.length > 1 ? series.label : chart.title,
        (point) => chart.format(series.of(point, this.history)),
      ])),
    ];
    const cells = (name, list) => list.map((string) => element(name, { textContent: string }));
    const heads = cells("th", columns.map(([title]) => title));
    for (const head of heads) head.scope = "col";
    details.querySelector("thead tr").replaceChildren(...heads);
    const points = this.history.points(60).filter((point) => point !== null).reverse();
    details.querySelector("tbody").replaceChildren(...points.map((point) => {
      const [first, ...others] = columns.map(([, content]) => content(point));
      const head = element("th", { scope: "row", textContent: first });
      return element("tr", {}, head, ...cells("td", others));
    }));
  }

  drawFailures() {
    const wanted = found("filter").value.trim().toLowerCase();
    const all = this.told.failures;
    const shown = all.filter((row) => [row.recipient || "", row.id, row.sender, row.peer, row.reply]
      .some((string) => string.toLowerCase().includes(wanted)));
    this.tables.failures.draw(shown, this.history.now, wanted && all.length ? "None of the failures is like that." : undefined);
    const said = wanted ? `${shown.length} of ${all.length}` : "";
    if (found("found").textContent !== said) found("found").textContent = said;
  }
}

/**
 * The connection. The browser comes again by itself where the server has gone, but not after an answer such as 503,
 * and does not notice a connection that is dead: those are for us.
 */
class Connection {
  constructor(page) {
    this.page = page;
    this.last = "";
    this.heard = 0;
    this.delay = 1;
    this.open();
    setInterval(() => this.look(), 1000);
  }

  open() {
    if (this.source) this.source.close();
    this.heard = performance.now();
    this.again = null;
    this.source = new EventSource(this.last ? `events?after=${encodeURIComponent(this.last)}` : "events");
    this.source.addEventListener("state", (event) => this.hear(event, (state) => this.page.begin(state)));
    this.source.addEventListener("tick", (event) => this.hear(event, (news) => this.page.go(news)));
    this.source.addEventListener("error", () => this.lose());
  }

  hear(event, take) {
    this.last = event.lastEventId;
    this.heard = performance.now();
    this.delay = 1;
    take(JSON.parse(event.data));
    this.say("live", this.page.isPaused ? "Paused" : "Live");
    if (!found("lost").hidden) found("lost").hidden = true;
  }

  lose() {
    this.say("lost", "Not connected");
    const banner = found("lost");
    if (banner.hidden) {
      const { now } = this.page.history;
      banner.textContent = now ? `The connection is lost: what stands here is of ${clock(now)}. Trying again.`
        : "The server does not answer. Trying again.";
      banner.hidden = false;
    }
    if (this.source.readyState === EventSource.CLOSED && this.again === null) {
      this.again = performance.now() + this.delay * 1000;
      this.delay = Math.min(2 * this.delay, 15);
    }
  }

  look() {
    const now = performance.now();
    if (this.again !== null) {
      if (now >= this.again) this.open();
    } else if (now - this.heard > SILENCE * 1000) {
      this.source.close();
      this.lose();
    }
  }

  say(state, string) {
    const shown = found("connection");
    if (shown.dataset.state === state && shown.textContent === string) return;
    shown.dataset.state = state;
    shown.textContent = string;
  }
}

// Where a backend keeps messages to be looked at, there is an inbox.
fetch("inbox.json?count=0").then((answer) => answer.json()).then(({ backends }) => {
  found("inbox").hidden = !backends.length;
}).catch(() => {});

const page = new Page();
const connection = new Connection(page);
