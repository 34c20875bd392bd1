// Values with their units. What is not known reads "unknown", never 0.

const number = (value, digits = 3) => {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return value.toExponential(1);
  return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : digits });
};

function scaled(value, steps) {
  const size = Math.abs(value);
  const [factor, suffix] = steps.find(([at]) => size >= at) || steps[steps.length - 1];
  return `${number(value / factor)} ${suffix}`.trim();
}

const SHORT = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k", 1e3], [0, ""]].map(([at, s, f]) => [f || at || 1, s, at]);
const short = (v) => { const s = SHORT.find(([, , at]) => Math.abs(v) >= at); return `${number(v / s[0])}${s[1] ? ` ${s[1]}` : ""}`; };
const BYTES = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [1024, "KiB"], [1, "B"]];
const ms = (v) => (Math.abs(v) < 1000 ? `${number(v)} ms` : seconds(v / 1000));

function seconds(v) {
  const size = Math.abs(v);
  if (size < 1) return `${number(v * 1000)} ms`;
  if (size < 60) return `${number(v)} s`;
  if (size < 3600) return `${Math.floor(v / 60)} min ${Math.round(v % 60)} s`;
  if (size < 86400) return `${Math.floor(v / 3600)} h ${Math.round((v % 3600) / 60)} min`;
  return `${number(v / 86400)} d`;
}

const FORMATS = {
  percentunit: (v, d) => `${(v * 100).toFixed(d ?? 1)} %`,
  percent: (v, d) => `${v.toFixed(d ?? 1)} %`,
  ms, s: seconds, short, none: (v) => number(v), sci: (v) => (Math.abs(v) >= 1e4 ? v.toExponential(1) : number(v)),
  currencyUSD: (v) => `$${number(v, 4)}`, reqpm: (v) => `${number(v)} /min`, reqps: (v) => `${number(v)} /s`,
  rowsps: (v) => `${number(v)} rows/s`, bytes: (v) => scaled(v, BYTES), decbytes: (v) => scaled(v, BYTES), Bps: (v) => `${scaled(v, BYTES)}/s`,
};

export const unknown = "unknown";

export function format(value, unit, decimals) {
  if (value === null || value === undefined || value === "") return unknown;
  if (typeof value !== "number") return String(value);
  return (FORMATS[unit] || ((v) => `${number(v)}${unit && unit !== "none" ? ` ${unit}` : ""}`))(value, decimals);
}

export function clock(value) {
  if (value === null || value === undefined) return unknown;
  const text = new Date(value).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}`;
}

const COLOURS = { green: "good", orange: "warn", yellow: "warn", red: "bad", blue: "info" };

export function colourOf(value, thresholds) {
  if (typeof value !== "number" || !thresholds) return "";
  const steps = (thresholds.steps || []).filter((s) => s.value === null || value >= s.value);
  const colour = steps.length ? steps[steps.length - 1].color : "";
  return COLOURS[String(colour).replace(/^(semi-dark|dark|light|super-light)-/, "")] || "";
}
