// Requests to the pipeline that serves this page, and to nobody else.

const TOKEN_KEY = "irst-stream token";

export class NoToken extends Error {}

/** Take the token from the address (#token=...), which is never sent, and out of sight. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    setToken(given);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN_KEY, token);
}

async function ask(path, query, signal) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, { headers, signal, cache: "no-store" });
  if (answer.status === 401) throw new NoToken();
  if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  return answer;
}

export async function askJson(path, query = {}, signal = undefined) {
  return (await ask(path, query, signal)).json();
}

/** A frame's head, its pixels as they were sent, and how long the transfer of these bytes took; null for no frame. */
export async function askFrame(path, query, signal) {
  const answer = await ask(path, query, signal);
  const began = performance.now();
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (answer.status === 204 || bytes.length < 4) return null;
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  return { head, data: bytes.subarray(4 + length), bytes: bytes.length, ms: performance.now() - began };
}
