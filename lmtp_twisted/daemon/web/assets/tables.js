// The tables. Whatever comes from the mail gets into the page as text, and in no other way.

// Lines of a table that is not shown whole.
const SHORT = 15;

const text = (className, string) => element("span", { className, textContent: string });
// Parts that may be written from right to left must not turn what stands around them.
const foreign = (string) => element("bdi", { textContent: string });
const when = (time) => element("time", { dateTime: full(time), title: full(time), textContent: clock(time) });

/** Two lines in one cell: what matters, and what belongs to it. */
function both(first, title, second) {
  const below = element("span", { className: "below" }, text("", title), second);
  return element("div", {}, first, below);
}

function reply(string) {
  const names = { 2: "ok", 4: "deferred", 5: "refused" };
  return element("span", { className: `reply ${names[string[0]] || ""}` }, foreign(string));
}

/** A bar of the shares of those delivered, to be tried again, and refused. */
function bar(row) {
  const made = element("span", { className: "shares", ariaHidden: "true" });
  const total = row["2xx"] + row["4xx"] + row["5xx"];
  for (const [name, count] of [["ok", row["2xx"]], ["deferred", row["4xx"]], ["refused", row["5xx"]]]) {
    if (!count) continue;
    const part = element("i", { className: name });
    part.style.flexGrow = count / total;
    made.append(part);
  }
  return made;
}

const from = (row) => foreign(row.sender === "" ? "<>" : row.sender);

const FAILURES = {
  empty: "Nothing has failed.",
  key: (row) => `${row.time} ${row.id} ${row.recipient}`,
  columns: [
    ["Time", "time", (row) => when(row.time)],
    ["Recipient", "main", (row) => both(
      row.recipient === null ? text("muted", row.at === "rcpt" ? "no address" : "none yet") : foreign(row.recipient),
      "from ", from(row),
    )],
    ["Reply", "wide", (row) => reply(row.reply)],
    ["Peer", "peer", (row) => both(
      foreign(row.peer), "at ", text("", [row.at, row.backend].filter(Boolean).join(", ")),
    )],
    ["Id", "id", (row) => foreign(row.id)],
  ],
};

const SLOWEST = {
  empty: "No message has been delivered in the last 15 minutes.",
  key: (row) => `${row.time} ${row.id} ${row.recipient}`,
  columns: [
    ["Took", "took", (row) => text("", duration(row.seconds))],
    ["Recipient", "main", (row) => both(foreign(row.recipient), "from ", from(row))],
    ["Reply", "wide", (row) => reply(row.reply)],
    ["Time", "time", (row) => both(when(row.time), "", text("", `${octets(row.size)}, ${row.backend}`))],
    ["Id", "id", (row) => foreign(row.id)],
  ],
};

const DOMAINS = {
  empty: "No message has been delivered in the last 15 minutes.",
  key: (row) => `${row.isOther} ${row.domain}`,
  columns: [
    ["Domain", "main", (row) => {
      if (row.isOther) return text("muted", "all others");
      return row.domain === "" ? text("muted", "without a domain") : foreign(row.domain);
    }],
    ["2xx", "number ok", (row) => text("", short(row["2xx"]))],
    ["4xx", "number deferred", (row) => text("", short(row["4xx"]))],
    ["5xx", "number refused", (row) => text("", short(row["5xx"]))],
    ["Shares", "bar", bar],
  ],
};

const since = (row, now) => element("span", { title: full(row.since), textContent: age(now - row.since) });

const SESSIONS = {
  empty: "Nobody is connected.",
  key: (row) => row.id,
  columns: [
    ["Peer", "main", (row) => both(foreign(row.peer), "", foreign(row.lhlo))],
    ["Does", "at", (row, now) => both(text("", row.doing), "for ", since(row, now))],
    ["Messages", "sent", (row) => both(
      text("", short(row.messages)), "", foreign([row.tls || "no TLS", row.user].filter(Boolean).join(", ")),
    )],
    ["Id", "id", (row) => foreign(row.id)],
  ],
};

/**
 * A table that keeps the lines that have not changed, so that what a reader has selected stays selected. The roles say
 * again what the elements are: on a phone they are no longer laid out as a table, and would lose their meaning.
 */
class Table {
  constructor(definition, table) {
    this.definition = definition;
    this.lines = new Map();
    const heads = definition.columns.map(([title, className]) => {
      const head = element("th", { scope: "col", className, textContent: title });
      head.setAttribute("role", "columnheader");
      return head;
    });
    this.head = element("thead", {}, element("tr", {}, ...heads));
    this.body = element("tbody");
    this.nothing = element("p", { className: "empty", hidden: true });
    for (const group of [this.head, this.body]) group.setAttribute("role", "rowgroup");
    this.head.firstChild.setAttribute("role", "row");
    this.more = element("button", { className: "more", type: "button", hidden: true });
    this.more.addEventListener("click", () => {
      this.isWhole = !this.isWhole;
      this.draw(...this.drawn);
    });
    this.table = table;
    table.hidden = true;
    table.append(this.head, this.body);
    table.after(this.nothing, this.more);
  }

  draw(rows, now, empty = this.definition.empty) {
    this.drawn = [rows, now, empty];
    const lines = new Map();
    for (const row of this.isWhole ? rows : rows.slice(0, SHORT)) {
      const key = this.definition.key(row);
      lines.set(key, this.line(this.lines.get(key), row, now));
    }
    this.lines = lines;
    const wanted = [...lines.values()].map((line) => line.element);
    const shown = this.body.children;
    if (wanted.length !== shown.length || wanted.some((line, i) => line !== shown[i])) {
      this.body.replaceChildren(...wanted);
    }
    this.table.hidden = rows.length === 0;
    this.nothing.hidden = rows.length !== 0;
    this.nothing.textContent = empty;
    this.more.hidden = rows.length <= SHORT;
    this.more.textContent = this.isWhole ? `Only the first ${SHORT}` : `All ${rows.length}`;
  }

  line(before, row, now) {
    const cells = this.definition.columns.map(([title, className, content]) => {
      const cell = element("td", { className }, content(row, now));
      cell.setAttribute("role", "cell");
      cell.dataset.title = title;
      return cell;
    });
    if (!before) {
      const made = element("tr", {}, ...cells);
      made.setAttribute("role", "row");
      return { element: made };
    }
    cells.forEach((cell, i) => {
      const old = before.element.children[i];
      if (!old.isEqualNode(cell)) old.replaceWith(cell);
    });
    return before;
  }
}
