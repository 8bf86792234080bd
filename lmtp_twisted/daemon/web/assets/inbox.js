// The list of messages follows what comes: a request waits for the next change, and then the page is loaded anew.
"use strict";

const state = document.getElementById("state");
const known = document.getElementById("messages").dataset.revision;

function sleep(seconds) {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

async function follow() {
  for (;;) {
    try {
      state.dataset.state = "live";
      const answer = await fetch(`inbox.json?wait=25&after=${encodeURIComponent(known)}`);
      if (!answer.ok) throw new Error(answer.status);
      if ((await answer.json()).revision !== known) {
        // Not more often than people can look, however much comes.
        await sleep(0.5);
        location.reload();
        return;
      }
    } catch {
      state.dataset.state = "lost";
      await sleep(2);
    }
  }
}

follow();
