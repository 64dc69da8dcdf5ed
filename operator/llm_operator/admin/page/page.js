// What the page does in the browser itself: dialogs, the clipboard, colours, and the loss of the
// connection. Everything else is decided on the server.
"use strict";

window.llmb = {
  // A native modal dialog keeps the focus in it and closes by Esc; the focus goes back by itself.
  open(id) {
    const dialog = document.getElementById(id);
    if (dialog && !dialog.open) dialog.showModal();
  },

  close(id) {
    document.getElementById(id)?.close();
  },

  focus(id) {
    document.getElementById(id)?.focus();
  },

  // Opens every group that hides the element, so that it can be seen and have the focus.
  reveal(name) {
    const found = document.getElementsByName(name)[0] ?? document.getElementById(name);
    for (let at = found; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    found?.focus();
  },

  async copy(id) {
    const source = document.getElementById(id);
    try {
      await navigator.clipboard.writeText(source.textContent);
    } catch {
      // Without https there is no clipboard for scripts: select the text, for Ctrl-C.
      getSelection().selectAllChildren(source);
      return document.execCommand("copy");
    }
    return true;
  },

  scheme(name) {
    document.documentElement.style.colorScheme = name === "system" ? "light dark" : name;
  },

  address(path) {
    history.replaceState(history.state, "", path);
  },

  values(form) {
    return Object.fromEntries(new FormData(form));
  },
};

// NiceGUI makes its socket once the page is there.
const waiting = setInterval(() => {
  if (!window.socket) return;
  clearInterval(waiting);
  const shown = document.getElementById("lost");
  const lost = (away) => {
    shown.hidden = !away;
    document.documentElement.toggleAttribute("data-lost", away);
  };
  window.socket.on("connect", () => lost(false));
  window.socket.on("disconnect", () => lost(true));
  // A server that was started anew knows no session: say so instead of trying for ever.
  window.socket.io.on("reconnect_attempt", async () => {
    try {
      const answer = await fetch("/_nicegui_ws/alive", { cache: "no-store" });
      if (answer.status === 401) location.reload();
    } catch {
      lost(true);
    }
  });
}, 50);
