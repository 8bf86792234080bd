// The charts: what each shows of a point, and uPlot to draw it.

const rate = (name) => (point) => point[name] / point.seconds;
const recipients = (point) => (point.ok + point.deferred + point.refused) / point.seconds;
const share = (part) => (point, history) => history.quantile(part, point);

const CHARTS = [
  {
    name: "mail", title: "Messages and recipients", unit: "per second", format: short,
    series: [
      { label: "Recipients", colour: "--line-2", of: recipients },
      { label: "Messages", colour: "--line-1", of: rate("messages") },
    ],
  },
  {
    name: "replies", title: "Replies by class", unit: "per second", format: short,
    series: [
      { label: "2xx", colour: "--ok", of: rate("ok") },
      { label: "4xx", colour: "--deferred", of: rate("deferred"), dash: [6, 3] },
      { label: "5xx", colour: "--refused", of: rate("refused"), dash: [2, 2] },
      { label: "before DATA", colour: "--line-4", of: rate("early") },
    ],
  },
  {
    name: "latency", title: "From dot to reply", unit: "logarithmic", format: duration, isLogarithmic: true,
    series: [
      { label: "p50", colour: "--line-1", of: share(0.5) },
      { label: "p95", colour: "--line-2", of: share(0.95), dash: [6, 3] },
      { label: "p99", colour: "--line-3", of: share(0.99), dash: [2, 2] },
    ],
  },
  {
    name: "octets", title: "Content", unit: "octets per second", format: octets,
    series: [{ label: "Octets", colour: "--line-1", of: rate("octets"), isFilled: true }],
  },
  {
    name: "sessions", title: "Sessions", unit: "connected", format: short,
    series: [{ label: "Connected", colour: "--line-1", of: (point) => point.open, isFilled: true }],
  },
  {
    name: "arrivals", title: "New sessions", unit: "per second", format: short,
    series: [{ label: "New", colour: "--line-1", of: rate("sessions"), isFilled: true }],
  },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** One chart, its legend beside the title: the latest values, or those under the pointer. */
class Chart {
  constructor(definition, parent) {
    this.definition = definition;
    this.values = definition.series.map(() => element("span"));
    const legend = element("dl", { className: "legend" });
    definition.series.forEach((series, i) => {
      const swatch = element("i");
      swatch.style.borderTopColor = `var(${series.colour})`;
      if (series.dash) swatch.style.borderTopStyle = series.dash[0] > 3 ? "dashed" : "dotted";
      legend.append(element("div", {}, element("dt", {}, swatch, series.label), element("dd", {}, this.values[i])));
    });
    this.canvas = element("div", { className: "plot" });
    this.canvas.setAttribute("role", "img");
    const title = element("h3", {}, definition.title, " ", element("small", {}, definition.unit));
    this.figure = element("figure", {}, element("figcaption", {}, title, legend), this.canvas);
    parent.append(this.figure);
    this.plot = new uPlot(this.options(), this.columns([], null), this.canvas);
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.canvas);
  }

  size() {
    return { width: Math.max(120, this.canvas.clientWidth), height: this.canvas.clientHeight };
  }

  options() {
    const { definition } = this;
    const axis = { stroke: () => colour("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };
    const grid = { stroke: () => colour("--grid"), width: 1 };
    return {
      ...this.size(),
      padding: [8, 8, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: "lmtp" }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => this.range || [0, KEPT] },
        y: definition.isLogarithmic
          ? { distr: 3, range: (_, low, high) => (low === null ? [0.001, 1] : uPlot.rangeLog(low, high, 10, true)) }
          : { range: (_, low, high) => [0, uPlot.rangeNum(0, Math.max(high || 0, 1), 0.1, true)[1]] },
      },
      axes: [
        { ...axis, grid, size: 24, space: 70, values: (_, splits) => splits.map(minute) },
        {
          ...axis, grid, size: 58, space: 28,
          values: (_, splits) => splits.map((value) => (value === null ? "" : definition.format(value))),
        },
      ],
      series: [
        {},
        ...definition.series.map((series) => ({
          label: series.label,
          stroke: () => colour(series.colour),
          fill: series.isFilled ? () => colour("--fill") : undefined,
          width: 1.5,
          dash: series.dash,
          points: { size: 4 },
        })),
      ],
      hooks: { setCursor: [() => this.say()] },
    };
  }

  columns(points, history) {
    const times = [];
    const columns = this.definition.series.map(() => []);
    for (const point of points) {
      // Where nothing is known the line is broken by a point without a value.
      times.push(point ? point.time : times[times.length - 1] + 0.5);
      this.definition.series.forEach((series, i) => columns[i].push(point ? series.of(point, history) : null));
    }
    return [times, ...columns];
  }

  draw(points, history) {
    this.range = [history.now - KEPT, history.now];
    this.plot.setData(this.columns(points, history));
    this.say();
  }

  /** The values under the pointer, or else the latest. */
  say() {
    if (!this.plot) return;
    const { idx } = this.plot.cursor;
    const at = idx === null || idx === undefined ? this.plot.data[0].length - 1 : idx;
    const texts = this.values.map((_, i) => this.definition.format(this.plot.data[i + 1][at]));
    this.values.forEach((value, i) => {
      if (value.textContent !== texts[i]) value.textContent = texts[i];
    });
    const spoken = this.definition.series.map((series, i) => `${series.label} ${texts[i]}`).join(", ");
    this.canvas.setAttribute("aria-label", `Chart: ${this.definition.title}, ${this.definition.unit}: ${spoken}`);
  }

  /** In the colours of now. */
  redraw() {
    this.plot.redraw(false, false);
  }
}
