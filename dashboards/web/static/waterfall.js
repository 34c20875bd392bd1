// The events of an interaction over time, each opening to what it said.
import { h } from "./dom.js";
import { format } from "./units.js";

const BODIES = [["error_message", "error"], ["content", "content"], ["tool_arguments", "arguments"], ["tool_result", "result"], ["reason", "words"]];

function depths(events) {
  const parent = new Map(events.map((e) => [e.event_id, e.parent_id]));
  return (event) => {
    let depth = 0;
    for (let at = event.parent_id; at && parent.has(at) && depth < 8; at = parent.get(at)) depth += 1;
    return depth;
  };
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function body(event) {
  const counts = [["model", event.model], ["tokens in", event.input_tokens], ["tokens out", event.output_tokens], ["first token", event.time_to_first_token_ms === null ? null : format(event.time_to_first_token_ms, "ms")], ["cost", event.cost_usd === null ? null : format(event.cost_usd, "currencyUSD")], ["value", event.value], ["error", event.error_type]];
  const known = counts.filter(([, v]) => v !== null && v !== undefined && v !== "").map(([k, v]) => `${k} ${v}`).join(", ");
  return [known && h("p", { class: "soft" }, known), BODIES.filter(([key]) => event[key]).map(([key, name]) => [h("strong", {}, name), h("pre", { tabindex: "0" }, pretty(event[key]))]),
    event.attributes && event.attributes !== "{}" && h("details", {}, h("summary", {}, "attributes"), h("pre", { tabindex: "0" }, pretty(event.attributes)))];
}

export function waterfall({ events, events_total: total }) {
  const ends = events.map((e) => Date.parse(e.time));
  const starts = events.map((e, i) => ends[i] - (e.duration_ms || 0));
  const from = Math.min(...starts), span = Math.max(1, Math.max(...ends) - from);
  const depth = depths(events);
  const rows = events.map((event, i) => {
    const failed = event.status === "error";
    const name = event.name || event.kind;
    const left = ((starts[i] - from) / span) * 100, width = Math.max(0.2, ((ends[i] - starts[i]) / span) * 100);
    const details = h("details", {}, h("summary", {},
      h("span", { class: `name ${failed ? "bad" : ""}`, style: { paddingLeft: `${depth(event) * 12}px` } }, name, failed ? " (failed)" : ""),
      h("span", { class: "kind soft" }, event.kind.replaceAll("_", " ")),
      h("span", { class: "lane", "aria-hidden": "true" }, h("i", { class: failed ? "error" : "", style: { left: `${Math.min(left, 99.5)}%`, width: `${Math.min(width, 100 - Math.min(left, 99.5))}%` } })),
      h("span", { class: "took" }, event.duration_ms === null ? "" : format(event.duration_ms, "ms"))));
    details.addEventListener("toggle", () => { if (details.open && details.childElementCount === 1) details.append(h("div", {}, body(event))); });
    return h("li", {}, details);
  });
  return h("div", {}, h("ol", { class: "waterfall" }, rows), total > events.length && h("p", { class: "soft" }, `${total - events.length} more events are not shown.`));
}
