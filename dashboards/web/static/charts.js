// Series over time, drawn by uPlot, with the same numbers as a table for who cannot see a canvas.
import { h } from "./dom.js";
import { clock, format } from "./units.js";

const LIGHT = ["#1f6fb5", "#b3471d", "#2d7d46", "#7a4fa3", "#a1671b", "#b02e63", "#1d7c86", "#5b6670", "#8a7a00", "#4659c4"];
const DARK = ["#6cb2f2", "#f0905f", "#72cf8f", "#c09ae6", "#e3b062", "#f085b0", "#62c7d1", "#b3bec8", "#d6c64a", "#97a6ff"];
const dark = () => matchMedia("(prefers-color-scheme: dark)").matches;
export const colour = (i) => (dark() ? DARK : LIGHT)[i % LIGHT.length];
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Rows with a time, labels and numbers become one series per label set and number.
export function toSeries(result, displayName) {
  const time = result.columns.findIndex((c) => c.type === "time");
  if (time < 0) return { times: [], series: [] };
  const labels = result.columns.map((c, i) => ({ ...c, i })).filter((c) => c.type === "string");
  const numbers = result.columns.map((c, i) => ({ ...c, i })).filter((c) => c.type === "number");
  const times = [...new Set(result.values[time])].filter((t) => t !== null).sort((a, b) => a - b);
  const at = new Map(times.map((t, i) => [t, i]));
  const found = new Map();
  result.values[time].forEach((t, row) => {
    if (t === null) return;
    for (const column of numbers) {
      const names = labels.map((l) => result.values[l.i][row]);
      const key = JSON.stringify([column.name, ...names]);
      if (!found.has(key)) found.set(key, { column: column.name, name: nameOf(displayName, column.name, labels, names), values: new Array(times.length).fill(null) });
      found.get(key).values[at.get(t)] = result.values[column.i][row];
    }
  });
  return { times, series: [...found.values()] };
}

function nameOf(displayName, column, labels, names) {
  if (displayName) return displayName.replace(/\$\{__field\.labels\.(\w+)\}/g, (_, l) => names[labels.findIndex((x) => x.name === l)] ?? "") || "(none)";
  return names.length ? `${names.join(" ")} ${column}` : column;
}

function stack(series) {
  const total = [];
  return series.map((s) => ({ ...s, raw: s.values, values: s.values.map((v, i) => (total[i] = (total[i] || 0) + (v || 0))) }));
}

export function chart(title, times, given, options = {}) {
  const series = options.stacked ? stack(given) : given;
  const box = h("div", { class: "chart" });
  const holder = h("div", {}, box, legend(series, options), asTable(title, times, given, options));
  if (!times.length) { box.replaceChildren(h("p", { class: "soft" }, "No data in this time range.")); return holder; }
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", `${title}: ${series.length} series over ${times.length} points; the numbers are in the table below`);
  const low = series.findIndex((s) => s.band === "low"), high = series.findIndex((s) => s.band === "high");
  const draw = (width) => new window.uPlot({
    width, height: options.height || 200,
    cursor: { drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { distr: options.log ? 3 : 1, range: options.range } },
    tzDate: (ts) => window.uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
    axes: [{ stroke: ink("--soft"), grid: { stroke: ink("--grid") }, values: (_, ticks) => ticks.map((t, i) => hour(t, i ? ticks[i - 1] : null)) },
      { stroke: ink("--soft"), grid: { stroke: ink("--grid") }, size: 66, values: (_, ticks) => ticks.map((t) => (t === null ? "" : format(t, options.unit))) }],
    series: [{}, ...series.map((s, i) => ({
      label: s.name, stroke: s.hidden ? "transparent" : colour(i), width: s.hidden ? 0 : 1.5, fill: options.stacked ? `${colour(i)}40` : undefined,
      points: { show: options.points || undefined, size: 5 }, spanGaps: false, paths: options.points ? () => null : undefined,
    }))],
    bands: low >= 0 && high >= 0 ? [{ series: [high + 1, low + 1], fill: `${colour(0)}33` }] : [],
  }, [times.map((t) => t / 1000), ...series.map((s) => s.values)], box);
  let plot = null;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (!width || !box.isConnected) return;
    if (plot === null) plot = draw(width);
    else if (plot.width !== width) plot.setSize({ width, height: options.height || 200 });
  }).observe(box);
  return holder;
}

// Hour and minute in UTC; the day where it changes.
function hour(tick, before) {
  const text = new Date(tick * 1000).toISOString(), day = text.slice(5, 10);
  return before !== null && new Date(before * 1000).toISOString().slice(5, 10) === day ? text.slice(11, 16) : `${text.slice(11, 16)}\n${day}`;
}

function legend(series, options) {
  const shown = series.map((s, i) => [s, i]).filter(([s]) => !s.hidden);
  return h("ul", { class: "legend" }, shown.slice(0, 20).map(([s, i]) => {
    const values = (s.raw || s.values).filter((v) => v !== null);
    return h("li", {}, h("i", { style: { background: colour(i) } }), `${s.name}: ${format(values[values.length - 1], options.unit)}`);
  }), shown.length > 20 && h("li", {}, `and ${shown.length - 20} more`));
}

function asTable(title, times, series, options) {
  const details = h("details", {}, h("summary", { class: "soft" }, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const rows = times.slice(-200).map((t, i) => h("tr", {}, h("td", {}, clock(t)), series.map((s) => h("td", { class: "number" }, format(s.values[i + Math.max(0, times.length - 200)], options.unit)))));
    details.append(h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Numbers of ${title}` },
      h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "time (UTC)"), series.map((s) => h("th", { scope: "col", class: "number" }, s.name)))), h("tbody", {}, rows))));
  });
  return details;
}
