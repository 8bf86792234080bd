// What has been told of the last 15 minutes, and what is drawn of it.

const KEPT = 900;

// As a tick comes: see lmtp_twisted/daemon/web/telling.py.
const COLUMNS = [
  "time", "seconds", "open", "members", "sessions", "messages", "octets", "ok", "deferred", "refused", "early",
  "buckets",
];
const COUNTED = ["sessions", "messages", "octets", "ok", "deferred", "refused", "early"];

/**
 * What the upper ends of the buckets and the deliveries in each say of a share of them, as Prometheus reckons:
 * evenly spread within a bucket.
 */
function quantile(share, ends, counts) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  const rank = share * total;
  let below = 0;
  for (let i = 0; i < ends.length; i += 1) {
    if (counts[i] > 0 && below + counts[i] >= rank) {
      const start = i === 0 ? 0 : ends[i - 1];
      return start + (ends[i] - start) * ((rank - below) / counts[i]);
    }
    below += counts[i];
  }
  return ends[ends.length - 1];
}

class History {
  constructor() {
    this.ends = [];
    this.ticks = [];
  }

  get last() {
    return this.ticks.length ? this.ticks[this.ticks.length - 1] : null;
  }

  /** The server's time of now, whatever the clock here says. */
  get now() {
    return this.last ? this.last.time : 0;
  }

  /** Another server begins. What was told before stays, but for what its clock says is still to come. */
  begin(rows) {
    if (rows.length) this.ticks = this.ticks.filter((tick) => tick.time < rows[0][0]);
  }

  /** Take ticks as they come. */
  add(rows) {
    for (const row of rows) {
      const tick = Object.fromEntries(COLUMNS.map((name, i) => [name, row[i]]));
      if (!this.last || tick.time > this.last.time) this.ticks.push(tick);
    }
    const oldest = this.now - KEPT;
    while (this.ticks.length && this.ticks[0].time <= oldest) this.ticks.shift();
  }

  /**
   * Ticks put together by so many seconds of the clock, as sums; a null where nothing is known of the time between.
   * Seconds that are not all over yet make no point: it would jump about until they are.
   */
  points(step) {
    const points = [];
    let point = null;
    let before = null;
    for (const tick of this.ticks) {
      const slot = Math.ceil(tick.time / step);
      const isGap = before !== null && tick.time - before.time > Math.max(tick.seconds, step);
      if (isGap) points.push(null);
      if (point === null || isGap || point.slot !== slot) {
        point = { slot, seconds: 0, buckets: tick.buckets.map(() => 0) };
        for (const name of COUNTED) point[name] = 0;
        points.push(point);
      }
      point.time = tick.time;
      point.open = tick.open;
      point.seconds += tick.seconds;
      for (const name of COUNTED) point[name] += tick[name];
      tick.buckets.forEach((count, i) => { point.buckets[i] += count; });
      before = tick;
    }
    if (points.length > 1 && point.time % step !== 0) points.pop();
    return points;
  }

  /** The sum of the last seconds; null where there are none. */
  latest(seconds) {
    const recent = new History();
    recent.ticks = this.ticks.filter((tick) => tick.time > this.now - seconds);
    return recent.points(Infinity).at(-1) || null;
  }

  quantile(share, point) {
    return quantile(share, this.ends, point.buckets);
  }
}
