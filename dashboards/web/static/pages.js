// Pages that a Grafana cannot give: incidents, conversations, clusters, senders.
import { api, h, id, params, to } from "./dom.js";
import { chart } from "./charts.js";
import { clock, format, unknown } from "./units.js";
import { waterfall } from "./waterfall.js";

const tag = (text, kind) => h("span", { class: `tag ${kind}` }, text);
const status = (f) => (f.active ? tag(f.status, f.severity === "critical" || f.severity === "page" ? "bad" : "warn") : tag(f.status, "good"));
const outcome = (r) => (r.success === 1 ? tag("succeeded", "good") : r.success === 0 ? tag("failed", "bad") : tag("not known", "soft"));
const short = (text, n = 160) => (text && text.length > n ? `${text.slice(0, n)} ...` : text || "");

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, v]) => v !== undefined && v !== "" && v !== null).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function table(label, columns, rows, empty = "Nothing here.") {
  if (!rows || !rows.length) return h("p", { class: "soft" }, empty);
  return h("div", { class: "scroll card", tabindex: "0", role: "group", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, columns.map(([name]) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, columns.map(([, value]) => { const v = value(row); return h("td", { class: v === unknown ? "unknown" : "" }, v === null || v === undefined ? unknown : v); }))))));
}

const generic = (rows) => Object.keys(rows[0] || {}).map((name) => [name.replaceAll("_", " "), (r) => (r[name] === null ? unknown : typeof r[name] === "object" ? JSON.stringify(r[name]) : String(r[name]))]);

const change = (f) => {
  const unit = ["", "share"].includes(f.unit ?? "") ? "percentunit" : f.unit;
  return f.baseline === null && f.observed === null ? null : `${format(f.baseline, unit)} → ${format(f.observed, unit)}`;
};

export async function whatIsWrong() {
  const open = (await api("incidents")).filter((f) => f.active);
  if (!open.length) return h("p", { class: "card" }, h("strong", { class: "good" }, "No open incident."), " Detectors have found no change that lasts.");
  return h("div", { class: "card wrong" }, h("strong", { class: "bad" }, `${open.length} open incident${open.length > 1 ? "s" : ""}`),
    h("ul", {}, open.slice(0, 8).map((f) => h("li", {}, h("a", { href: id("incident", f.finding_id) }, f.title), h("span", { class: "soft" }, ` since ${clock(f.began)}`)))));
}

async function incidents() {
  const rows = await api("incidents");
  return [h("h1", {}, "Incidents"), h("p", { class: "lead" }, "Changes that the detectors are sure of, of the last 30 days; those that last come first."),
    table("Incidents", [["state", status], ["severity", (f) => f.severity], ["what", (f) => h("a", { href: id("incident", f.finding_id) }, f.title)], ["agent", (f) => f.agent], ["environment", (f) => f.environment], ["began (UTC)", (f) => clock(f.began)], ["ended (UTC)", (f) => (f.ended ? clock(f.ended) : "lasts")], ["n", (f) => format(f.n, "short")]], rows, "No incident in 30 days.")];
}

function causeRows(f) {
  if (f.causes.length) return table("Causes", [["what they have in common", (c) => `${c.attribute} ${c.value}`], ["lift", (c) => format(c.lift, "none")], ["share of those hit", (c) => format(c.share, "percentunit")]], f.causes);
  return table("Failures before and since", [["reason", (e) => e.reason], ["tool", (e) => e.tool || "none"], ["message", (e) => e.template || ""], ["since", (e) => format(e.since, "short")], ["before", (e) => format(e.before, "short")]], f.evidence, "No cause is known yet.");
}

async function incident(name) {
  const f = await api(`incident/${encodeURIComponent(name)}`);
  const times = f.timeline.map((t) => Date.parse(t.time));
  const series = [["failed", "rate", false], ["low", "low", true], ["high", "high", true]].map(([n, key, hidden]) => ({ name: n, hidden, band: hidden ? n : null, values: f.timeline.map((t) => t[key]) }));
  const told = f.notifications || [];
  return [h("h1", {}, f.title), h("p", { class: "lead" }, status(f), " ", f.severity),
    h("section", { class: "card" }, facts([["agent", f.agent && h("a", { href: to("/interactions", { agent: f.agent, environment: f.environment, outcome: 0 }) }, f.agent)], ["environment", f.environment], ["version", f.agent_version], ["tool", f.tool], ["before → since", change(f)], ["interactions", format(f.n, "short")], ["e-value (evidence against chance)", format(f.e_value, "sci")], ["users hit", f.users === undefined ? undefined : format(f.users, "short")], ["began (UTC)", clock(f.began)], ["found (UTC)", clock(f.found)], ["ended (UTC)", f.ended ? clock(f.ended) : "lasts"]])),
    h("h2", {}, "Share of failed interactions"), h("div", { class: "card" }, chart("Share of failed interactions", times, series, { unit: "percentunit" })),
    h("h2", {}, "Cause"), causeRows(f),
    h("h2", {}, "Conversations that failed"), interactionTable(f.failures),
    f.members.length > 0 && [h("h2", {}, `Members (${f.members.length})`), table("Members", [["state", status], ["what", (m) => h("a", { href: id("incident", m.finding_id) }, m.title)], ["began (UTC)", (m) => clock(m.began)], ["before → since", change]], f.members)],
    h("h2", {}, "Who was told"), table("Notifications", [["when (UTC)", (n) => clock(n.planned)], ["receiver", (n) => n.receiver], ["event", (n) => n.event], ["state", (n) => n.state], ["attempts", (n) => n.attempts], ["error", (n) => n.error]], told, "Nobody; see the settings notify.*")];
}

function interactionTable(rows) {
  return table("Conversations", [["ended (UTC)", (r) => clock(r.end)], ["outcome", outcome], ["request", (r) => h("a", { href: id("interaction", r.interaction_id) }, short(r.request) || r.interaction_id)], ["agent", (r) => `${r.agent} ${r.agent_version}`], ["why", (r) => [r.failure_reason, r.failure_tool].filter(Boolean).join(" in ")], ["took", (r) => format(r.duration_ms, "ms")], ["conversation", (r) => h("a", { href: id("session", r.session_id), "aria-label": `whole conversation ${r.session_id}` }, "whole")]], rows, "No conversation fits.");
}

const FIELDS = [["search", "Words or id"], ["agent", "Agent"], ["agent_version", "Version"], ["environment", "Environment"], ["tool", "Tool"], ["failure_reason", "Reason"], ["fingerprint", "Fingerprint"]];

async function interactions() {
  const query = params();
  if (!query.get("from")) query.set("from", "6h");
  const rows = await api(`interactions?${query}`);
  const select = h("select", { name: "outcome", "aria-label": "Outcome" }, [["", "any outcome"], ["0", "failed"], ["1", "succeeded"]].map(([v, t]) => h("option", { value: v, selected: query.get("outcome") === v }, t)));
  const form = h("form", { class: "filters", onsubmit: (e) => {
    e.preventDefault();
    const given = Object.fromEntries([...new FormData(e.target)].filter(([, v]) => v));
    history.pushState(null, "", to("/interactions", given));
    dispatchEvent(new PopStateEvent("popstate"));
  } }, FIELDS.map(([name, label]) => h("label", {}, label, h("input", { name, value: query.get(name) || "", size: 12 }))), select, h("button", {}, "Search"));
  return [h("h1", {}, "Conversations"), h("p", { class: "lead" }, `User requests that ended in the time range, newest first${rows.length >= 100 ? "; the first 100" : ""}.`), form, interactionTable(rows)];
}

function evaluations(rows) {
  return rows.length > 0 && [h("h2", {}, "What was said of it"), table("Evaluations", [["when (UTC)", (e) => clock(e.time)], ["kind", (e) => e.kind], ["name", (e) => e.name], ["value", (e) => format(e.value, "none")], ["words", (e) => e.reason], ["user", (e) => e.user_id]], rows)];
}

function resultFacts(r) {
  return facts([["agent", `${r.agent} ${r.agent_version}`], ["environment", r.environment], ["user", r.user_id], ["start (UTC)", clock(r.start)], ["took", format(r.duration_ms, "ms")], ["why it failed", [r.failure_reason, r.failure_tool].filter(Boolean).join(" in ")], ["decided by", r.success_source], ["model calls", r.llm_calls], ["tool calls", `${r.tool_calls} (${r.tool_errors} failed)`], ["tokens in, out", `${format(r.input_tokens, "short")}, ${format(r.output_tokens, "short")}`], ["cost", format(r.cost_usd, "currencyUSD")], ["satisfaction", format(r.satisfaction, "percentunit")]]);
}

async function interaction(name) {
  const found = await api(`interaction/${encodeURIComponent(name)}`), r = found.interactions[0];
  return [h("h1", {}, short(r.request, 90) || name), h("p", { class: "lead" }, outcome(r), " ", h("a", { href: id("session", r.session_id) }, "whole conversation")),
    h("section", { class: "card" }, resultFacts(r)), h("h2", {}, `What happened (${found.events_total} events)`), waterfall(found), evaluations(found.evaluations)];
}

async function session(name) {
  const found = await api(`session/${encodeURIComponent(name)}`);
  return [h("h1", {}, `Conversation ${name}`), h("p", { class: "lead" }, `${found.interactions.length} request${found.interactions.length > 1 ? "s" : ""}; open one to see its calls.`),
    found.interactions.map((r) => {
      const events = found.events.filter((e) => e.interaction_id === r.trace_id);
      const words = events.filter((e) => ["user_message", "agent_message"].includes(e.kind) && e.content);
      const said = words.length ? words.map((e) => [e.kind === "user_message" ? "user" : "agent", e.content]) : [["user", r.request], ["agent", r.answer]];
      return h("section", { "aria-label": short(r.request, 60) || r.interaction_id },
        said.filter(([, text]) => text).map(([who, text]) => h("div", { class: `said ${who}` }, h("strong", {}, who === "user" ? "User" : "Agent"), "\n", text)),
        h("details", { class: "card" }, h("summary", {}, outcome(r), ` ${events[0]?.of_trace ?? 0} events, ${format(r.duration_ms, "ms")} `, r.failure_reason ? h("span", { class: "bad" }, [r.failure_reason, r.failure_tool].filter(Boolean).join(" in ")) : ""),
          h("p", {}, h("a", { href: id("interaction", r.interaction_id) }, "open this request")), waterfall({ events, events_total: events[0]?.of_trace ?? 0 })));
    }), evaluations(found.evaluations)];
}

async function clusters() {
  const { clusters: rows } = await api("clusters");
  const head = [h("h1", {}, "Failure clusters"), h("p", { class: "lead" }, "Failures that resemble each other in reason, tool, message and words.")];
  return [...head, table("Clusters", [["status", (c) => c.status], ["name", (c) => h("a", { href: id("cluster", c.cluster) }, c.name || c.cluster)], ["agent", (c) => c.agent], ["failures", (c) => format(c.size, "short")], ["share of interactions", (c) => format(c.opportunities ? c.size / c.opportunities : null, "percentunit")], ["tool", (c) => c.tool], ["first seen (UTC)", (c) => clock(c.first_seen)], ["last seen (UTC)", (c) => clock(c.last_seen)]], rows, "No cluster yet.")];
}

async function cluster(name) {
  const c = await api(`cluster/${encodeURIComponent(name)}`);
  return [h("h1", {}, c.name || c.cluster), h("p", { class: "lead" }, tag(c.status, c.status === "quiet" ? "good" : "warn")),
    h("section", { class: "card" }, facts([["agent", c.agent], ["environment", c.environment], ["failures", format(c.size, "short")], ["interactions since", format(c.opportunities, "short")], ["reason", c.reason], ["tool", c.tool], ["message", c.template], ["versions", (c.agent_versions || []).join(", ")], ["first seen (UTC)", clock(c.first_seen)], ["last seen (UTC)", clock(c.last_seen)]])),
    h("h2", {}, "Examples"), interactionTable(c.interactions), c.lineage.length > 0 && [h("h2", {}, "Lineage"), table("Lineage", generic(c.lineage), c.lineage)]];
}

async function senders() {
  const { senders: rows } = await api("senders");
  return [h("h1", {}, "Senders"), h("p", { class: "lead" }, "Which services send what, and what they leave out."),
    rows ? table("Senders", generic(rows), rows, "Nobody has sent anything yet.") : h("p", { class: "card" }, "This version does not record senders; see `driftline status` and the pipeline dashboard.")];
}

export const PAGES = { incidents, incident, interactions, interaction, session, clusters, cluster, senders };
