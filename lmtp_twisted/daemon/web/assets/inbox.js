// The list of messages follows what comes: one request waits for the next change, and then the list is loaded anew. What
// it is made of was escaped by the server, and nothing in a document that is only parsed runs or loads.
"use strict";

const state = document.getElementById("state");

function sleep(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

async function follow() {
  for (;;) {
    try {
      const main = document.getElementById("messages");
      const known = main.dataset.revision;
      const answer = await fetch(`inbox.json?wait=25&after=${encodeURIComponent(known)}`);
      if (!answer.ok) throw new Error(answer.status);
      state.dataset.state = "live";
      if ((await answer.json()).revision === known) continue;
      const page = await (await fetch("inbox")).text();
      const fresh = new DOMParser().parseFromString(page, "text/html");
      main.replaceWith(fresh.getElementById("messages"));
      state.textContent = fresh.getElementById("state").textContent;
      document.title = fresh.title;
    } catch {
      state.dataset.state = "lost";
      await sleep(2);
    }
  }
}

follow();
