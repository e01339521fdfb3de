// Asks the server that this page came from. A token, where one is needed, lives as long as the tab.

import { parse } from "/spell.js";

const KEPT = "tideline-token", TIMEOUT = 30000, APART = 2000;
const token = () => sessionStorage.getItem(KEPT);
let asking = null, declined = false, ahead = 0;

// How long people have been asked for tokens, in milliseconds: no server was slow meanwhile.
export const held = { milliseconds: 0 };

// Seconds since the epoch by the server's clock, which its answers tell.
export const now = () => (Date.now() + ahead) / 1000;

// What the server refuses, by the name that errors have in its API.
export class Refused extends Error {
  constructor({ condition, message, hint }) {
    super([message, hint].filter(Boolean).join(". "));
    this.condition = condition;
  }
}

// Opens the dialog once, however many requests were refused; rejects where it is closed without a token.
export function giveToken(why) {
  const dialog = document.getElementById("token"), input = dialog.querySelector("input"), began = Date.now();
  document.getElementById("other-token").hidden = false;
  asking ??= new Promise((done, refuse) => {
    let given = false;
    dialog.querySelector("p").textContent = why;
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(KEPT, input.value.trim());
      given = true;
    };
    dialog.onclose = () => {
      input.value = "";
      asking = null;
      declined = !given;
      held.milliseconds += Date.now() - began;
      if (given) done();
      else refuse(new Error(why));
    };
    dialog.showModal();
  });
  return asking;
}

export async function ask(path, body) {
  const headers = { ...(token() && { Authorization: `Bearer ${token()}` }), ...(body && { "Content-Type": "application/json" }) };
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(TIMEOUT) });
  const text = await response.text(), apart = Date.parse(response.headers.get("Date")) - Date.now();
  ahead = Math.abs(apart) > APART ? apart : 0;
  if (token()) document.getElementById("other-token").hidden = false;
  if (response.status === 401) {
    const why = token() ? "This token is not valid." : "This server asks for a token.";
    if (declined) throw new Error(why);
    await giveToken(why);
    return ask(path, body);
  }
  const answer = parse(text);
  if (answer.error && answer.error.condition) throw new Refused(answer.error);
  return answer;
}
