// Numbers and times as people read them.

const UNITS = ["", "k", "M", "G", "T"];

/** 1234 as "1.23k": three digits, whatever the size. */
function short(number) {
  if (number === null || number === undefined) return "–";
  let power = 0;
  let value = Math.abs(number);
  while (value >= 999.5 && power < UNITS.length - 1) {
    value /= 1000;
    power += 1;
  }
  const digits = value >= 99.5 || Number.isInteger(value) ? 0 : value >= 9.95 ? 1 : 2;
  return (number < 0 ? "-" : "") + value.toFixed(digits) + UNITS[power];
}

/** Octets: 1234 as "1.23 kB". */
function octets(number) {
  const text = short(number);
  if (text === "–") return text;
  const unit = /[a-zA-Z]$/.exec(text);
  return unit ? `${text.slice(0, -1)} ${unit[0]}B` : `${text} B`;
}

/** Seconds: 0.0123 as "12.3 ms". */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.9995) return `${short(seconds * 1000)} ms`;
  if (seconds < 99.5) return `${short(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** How long ago something began: 3725 as "1 h 2 min". */
function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

const clock = (time) => CLOCK.format(time * 1000);
const minute = (time) => MINUTE.format(time * 1000);
const full = (time) => new Date(time * 1000).toISOString();
