// The panels of a dashboard's JSON.
import { api, h, id, to } from "./dom.js";
import { chart, toSeries } from "./charts.js";
import { clock, colourOf, format, unknown } from "./units.js";

const PAGES = { interaction_id: "interaction", latest_example: "interaction", example: "interaction", session_id: "session", finding_id: "incident", incident: "incident", cluster: "cluster" };

export function settings(panel, column) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig || {};
  const found = { ...defaults, custom: { ...defaults.custom } };
  for (const { matcher, properties } of overrides) {
    if (matcher.id !== "byName" || matcher.options !== column) continue;
    for (const { id: key, value } of properties) {
      if (key.startsWith("custom.")) found.custom[key.slice(7)] = value;
      else found[key] = value;
    }
  }
  return found;
}

export function panelElement(panel) {
  const kind = panel.type;
  const body = h("div", { class: "body" }, h("p", { class: "soft" }, "..."));
  const element = h("div", { class: `panel is-${kind}`, role: "group", "data-panel": panel.id, "aria-label": panel.title, style: { gridColumn: `span ${panel.gridPos.w}` } },
    h("h3", {}, h("span", {}, panel.title), panel.description && h("details", { class: "about" }, h("summary", { "aria-label": `About ${panel.title}` }, "?"), h("p", {}, panel.description))), body);
  return { element, body };
}

export async function fill(panel, body, uid, query) {
  if (panel.type === "alertlist") { body.replaceChildren(h("p", { class: "soft" }, "Rules of a Grafana show here; on the board, see ", h("a", { href: to("/incidents") }, "Incidents"), ".")); return; }
  if (panel.type === "text") { body.replaceChildren(h("pre", {}, panel.options?.content || "")); return; }
  try {
    const results = await api(`board/${uid}/panel/${panel.id}?${query}`);
    body.replaceChildren(...(DRAW[panel.type] || drawTable)(panel, results));
  } catch (error) {
    body.replaceChildren(h("p", { class: "error-box" }, error.message));
  }
}

function drawStat(panel, results) {
  const parts = [];
  for (const result of results) {
    result.columns.forEach((column, i) => {
      if (column.type === "time") return;
      const set = settings(panel, column.name);
      const values = result.values[i];
      const value = values.length ? values[values.length - 1] : null;
      const shown = format(value, set.unit, set.decimals);
      const text = value === null || value === undefined ? unknown : shown;
      if (parts.length) { parts.push(h("small", {}, `${column.name} ${text}`)); return; }
      const inner = /success|fail/i.test(panel.title) ? h("a", { href: to("/interactions", { ...chosen(), outcome: 0 }), "aria-label": `${panel.title} ${text}: show failed conversations` }, text) : text;
      parts.push(h("span", { class: colourOf(value, set.thresholds) || (value === null ? "unknown" : "") }, inner));
    });
  }
  return [h("div", { class: "stat" }, parts.length ? parts : h("span", { class: "unknown" }, unknown))];
}

export function chosen() {
  const query = new URLSearchParams(location.search), found = {};
  for (const name of ["agent", "environment"]) if (query.get(`var-${name}`)) found[name] = query.get(`var-${name}`);
  return found;
}

function drawSeries(panel, results) {
  const defaults = panel.fieldConfig?.defaults || {}, custom = defaults.custom || {};
  const parts = results.map((r) => toSeries(r, defaults.displayName));
  const times = [...new Set(parts.flatMap((p) => p.times))].sort((a, b) => a - b);
  const series = parts.flatMap((p) => p.series.map((s) => ({ ...s, values: times.map((t) => { const i = p.times.indexOf(t); return i < 0 ? null : s.values[i]; }) })));
  for (const s of series) {
    const set = settings(panel, s.column);
    if (set.custom.fillBelowTo) { s.band = "high"; series.filter((o) => o.column === set.custom.fillBelowTo).forEach((o) => { o.band = "low"; }); }
    s.hidden = set.custom.lineWidth === 0;
  }
  const range = defaults.min !== undefined && defaults.max !== undefined ? [defaults.min, defaults.max] : undefined;
  return [chart(panel.title, times, series, {
    unit: defaults.unit, range, stacked: custom.stacking?.mode === "normal", points: custom.drawStyle === "points",
    log: custom.scaleDistribution?.type === "log", height: Math.max(160, panel.gridPos.h * 24),
  })];
}

function drawTable(panel, results) {
  return results.map((result) => {
    const shown = result.columns.map((c, i) => ({ ...c, i, set: settings(panel, c.name) })).filter((c) => !c.set.custom?.hidden);
    const rows = (result.values[0] || []).map((_, row) => {
      const record = Object.fromEntries(result.columns.map((c, i) => [c.name, result.values[i][row]]));
      return h("tr", {}, shown.map((c) => cell(c, record)));
    });
    if (!rows.length) return h("p", { class: "soft" }, "Nothing in this time range.");
    return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": `Rows of ${panel.title}` },
      h("table", {}, h("thead", {}, h("tr", {}, shown.map((c) => h("th", { scope: "col", class: c.type === "number" ? "number" : "" }, c.set.displayName || c.name.replaceAll("_", " "))))), h("tbody", {}, rows)));
  });
}

function cell(column, record) {
  const value = record[column.name];
  if (value === null || value === undefined) return h("td", { class: "unknown" }, unknown);
  if (column.type === "time") return h("td", { class: "time" }, clock(value));
  const text = column.type === "number" ? format(value, column.set.unit, column.set.decimals) : Array.isArray(value) ? value.join(", ") : String(value);
  const href = text === "" ? null : linkOf(column.name, value, record) || ownLink(column.set.links, record);
  const inner = href ? h("a", { href }, text) : text;
  return h("td", { class: [column.type === "number" ? "number" : text.length > 24 && text.includes(" ") ? "long" : "", column.set.custom?.cellOptions ? colourOf(value, column.set.thresholds) : ""].join(" ").trim() }, inner);
}

// A link of the dashboard's JSON as one of the board; null where it needs more than we know.
function ownLink(links, record) {
  const url = links?.[0]?.url;
  const match = /^\/d\/([\w-]+)\?(.*)$/.exec(url || "");
  if (!match) return null;
  const query = new URLSearchParams();
  for (const part of match[2].split("&")) {
    const variable = /^\$\{(\w+):queryparam\}$/.exec(part);
    const field = /^([\w-]+)=\$\{__(?:data\.fields|field\.labels)\.(\w+)(?::\w+)?\}$/.exec(part);
    if (variable && variable[1] !== "__url_time_range") for (const v of new URLSearchParams(location.search).getAll(`var-${variable[1]}`)) query.append(`var-${variable[1]}`, v);
    else if (field && record[field[2]] === undefined) return null;
    else if (field) query.append(field[1], record[field[2]]);
    else if (/^[\w-]+=[\w-]*$/.test(part)) query.append(...part.split("="));
  }
  const from = new URLSearchParams(location.search).get("from");
  if (from) query.set("from", from);
  return `/board/${match[1]}?${query}`;
}

// Where the interactions behind a value are.
export function linkOf(name, value, record) {
  if (PAGES[name]) return id(PAGES[name], value);
  const { environment, agent } = record, version = record.agent_version;
  if (name === "fingerprint") return to("/interactions", { fingerprint: value, outcome: 0 });
  if (name === "agent" || name === "agent_version") return to("/interactions", { environment, agent, agent_version: version });
  if (/^(success|failed|success_rate|error_rate|failure_share|low|high)$/.test(name) && agent) return to("/interactions", { environment, agent, agent_version: version, outcome: 0 });
  return null;
}

const DRAW = { stat: drawStat, gauge: drawStat, timeseries: drawSeries, table: drawTable };
