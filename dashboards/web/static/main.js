// What the address asks for, and the frame around it.
import { Refused, api, h, params, say, setToken, takeToken, to } from "./dom.js";
import { fill, panelElement } from "./panels.js";
import * as pages from "./pages.js";

const RANGES = { "15m": "15 minutes", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days" };
const DATA = [["/incidents", "Incidents"], ["/interactions", "Conversations"], ["/clusters", "Failure clusters"], ["/senders", "Senders"]];
const main = document.getElementById("main");
let shown = 0;

function go(path) { history.pushState(null, "", path); render(true); }

addEventListener("popstate", () => render(true));
addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/']");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

function set(name, value) {
  const query = params();
  if (value) query.set(name, value); else query.delete(name);
  go(`${location.pathname}?${query}`);
}

function picker(label, name, values, current, every) {
  const names = new Set([...(every ? [] : []), ...values]);
  if (current) names.add(current);
  return h("label", {}, label, h("select", { onchange: (e) => set(name, e.target.value) },
    every && h("option", { value: "" }, every),
    [...names].map((v) => h("option", { value: v, selected: v === current }, RANGES[v] && name === "from" ? RANGES[v] : v))));
}

function controls(board, options) {
  const from = params().get("from") || "6h";
  const own = (board?.templating.list || []).filter((v) => v.type !== "datasource").map((v) => (
    v.type === "textbox"
      ? h("label", {}, v.label, h("input", { value: params().get(`var-${v.name}`) || "", onchange: (e) => set(`var-${v.name}`, e.target.value) }))
      : picker(v.label, `var-${v.name}`, options[v.name] || [], params().get(`var-${v.name}`), "all")));
  document.getElementById("controls").replaceChildren(...own, picker("Range", "from", Object.keys(RANGES), from), h("button", { type: "button", onclick: () => render(false) }, "Refresh"));
}
document.getElementById("controls").addEventListener("submit", (e) => e.preventDefault());

function navigation(boards) {
  const links = [...boards.map((b, i) => [i ? `/board/${b.uid}` : "/", b.title.replace(/^Driftline /i, "").replace(/^./, (c) => c.toUpperCase())]), ...DATA];
  document.getElementById("nav").replaceChildren(h("ul", {}, links.map(([path, name]) => h("li", {}, h("a", { href: to(path), "aria-current": location.pathname === path ? "page" : null }, name)))));
}

async function boardPage(uid, first, isCurrent) {
  const board = await api(`board/${uid}`);
  const query = params();
  if (!query.get("from")) query.set("from", "6h");
  const panels = board.panels.map((p) => [p, p.type === "row" ? { element: h("h2", { class: "row" }, p.title) } : panelElement(p)]);
  if (!isCurrent()) return;
  controls(board, {});
  main.replaceChildren(h("h1", {}, board.title), h("p", { class: "lead" }, board.description), h("div", { id: "wrong" }), h("div", { class: "grid" }, panels.map(([, p]) => p.element)));
  api(`board/${uid}/options?${query}`).then((options) => isCurrent() && controls(board, options), () => {});
  if (first) pages.whatIsWrong().then((e) => isCurrent() && document.getElementById("wrong").replaceChildren(e), () => {});
  await Promise.all(panels.filter(([, p]) => p.body).map(([p, { body }]) => fill(p, body, uid, query)));
}

async function route(boards, isCurrent) {
  const [, kind = "", ...rest] = location.pathname.split("/");
  const name = decodeURIComponent(rest.join("/"));
  if (kind === "" || kind === "board") return boardPage(name || boards[0].uid, !name, isCurrent);
  controls(null, {});
  const page = pages.PAGES[kind];
  if (!page) throw new Refused(404, "There is no such page.");
  const elements = await page(name);
  if (isCurrent()) main.replaceChildren(...elements.flat(9).filter(Boolean));
}

function askToken() {
  const field = h("input", { id: "token", type: "password", autocomplete: "off", size: 44 });
  main.replaceChildren(h("h1", {}, "This board needs its token"), h("p", { class: "lead" }, "`driftline board` prints its address with the token."),
    h("form", { class: "filters", onsubmit: (e) => { e.preventDefault(); setToken(field.value.trim()); render(true); } }, h("label", { for: "token" }, "Token"), field, h("button", {}, "Open")));
}

async function render(moved) {
  const mine = ++shown, isCurrent = () => mine === shown;
  say("Loading ...");
  try {
    const boards = await api("boards");
    navigation(boards);
    await route(boards, isCurrent);
    const heading = main.querySelector("h1");
    document.title = `${heading ? heading.textContent : "board"} - driftline`;
    if (moved && isCurrent()) main.focus({ preventScroll: true });
  } catch (error) {
    if (isCurrent() && error.status === 401) askToken();
    else if (isCurrent()) main.replaceChildren(h("h1", {}, error.status === 404 ? "Not found" : "This does not work now"), h("p", { class: "error-box" }, error.message));
  } finally {
    if (isCurrent()) say("");
  }
}

takeToken();
render(false);
