// Elements and requests. Text from events only ever becomes a text node, so markup in it is inert.

export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false).map(visible));
  return element;
}

// Control characters and changes of direction would let a name look like another: they are shown.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const visible = (child) => (child instanceof Node ? child : String(child).replace(HIDDEN, "\ufffd"));

const KEY = "driftline-token";

export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  localStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname + location.search);
}

export const setToken = (token) => localStorage.setItem(KEY, token);

export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

let running = 0;
const waiting = [];

// Four at a time, so that the engine answers the first panels first.
async function slot() {
  if (running >= 4) await new Promise((resolve) => waiting.push(resolve));
  running += 1;
}

export async function api(path) {
  await slot();
  try {
    const answer = await fetch(`/api/${path}`, { headers: { Authorization: `Bearer ${localStorage.getItem(KEY) || ""}` } });
    const body = await answer.json();
    if (!answer.ok) throw new Refused(answer.status, body.error || `HTTP ${answer.status}`);
    return body;
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

export function say(text) { document.getElementById("status").textContent = text; }

export const params = () => new URLSearchParams(location.search);

// A link to a page of the board that keeps the time range.
export function to(path, query = {}) {
  const kept = new URLSearchParams();
  for (const name of ["from", "to"]) if (params().get(name)) kept.set(name, params().get(name));
  for (const [name, value] of Object.entries(query)) if (value !== null && value !== undefined && value !== "") kept.set(name, value);
  const text = kept.toString();
  return path + (text ? `?${text}` : "");
}

export const id = (kind, value) => to(`/${kind}/${encodeURIComponent(value)}`);
