// Asks the server that this page came from. A token, where one is needed, lives as long as the tab.

import { parse } from "/spell.js";

const KEPT = "tideline-token";
let asking = null;

function token() {
  return sessionStorage.getItem(KEPT);
}

// Opens the dialog once, however many requests were refused; resolves when a token was given.
function askForToken(why) {
  const dialog = document.getElementById("token");
  asking ??= new Promise((done) => {
    dialog.querySelector("p").textContent = why;
    dialog.querySelector("form").onsubmit = () => {
      sessionStorage.setItem(KEPT, dialog.querySelector("input").value.trim());
      dialog.querySelector("input").value = "";
      asking = null;
      done();
    };
    if (!dialog.open) dialog.showModal();
  });
  return asking;
}

export async function ask(path, body) {
  const headers = { ...(token() && { Authorization: `Bearer ${token()}` }), ...(body && { "Content-Type": "application/json" }) };
  const options = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(30000) });
  if (response.status === 401) {
    await askForToken(token() ? "This token is not valid." : "This server asks for a token.");
    return ask(path, body);
  }
  const answer = parse(await response.text());
  if (answer.error && answer.error.condition) throw new Error([answer.error.message, answer.error.hint].filter(Boolean).join(". "));
  return answer;
}
