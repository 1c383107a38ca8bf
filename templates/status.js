(() => {
  const every = 10000, limit = 8000, stale = document.getElementById("stale");
  let busy = false, seen = document.getElementById("live").dataset.at;
  const selecting = () => { const chosen = getSelection(); return chosen && !chosen.isCollapsed; };
  async function refresh() {
    if (busy || document.hidden || selecting()) return;
    busy = true;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(limit) });
      if (!answer.ok) throw new Error(answer.status);
      const next = new DOMParser().parseFromString(await answer.text(), "text/html"), live = next.getElementById("live");
      const held = document.activeElement && document.activeElement.getAttribute("href");
      for (const id of ["live", "facts", "icon"]) document.getElementById(id).replaceWith(next.getElementById(id));
      if (held && document.activeElement === document.body)
        for (const link of document.links) if (link.getAttribute("href") === held) { link.focus({ preventScroll: true }); break; }
      document.title = next.title;
      seen = live.dataset.at;
      stale.hidden = true;
    } catch {
      stale.textContent = "The gateway does not answer. What you see here is from " + seen + ".";
      stale.hidden = false;
    }
    busy = false;
  }
  setInterval(refresh, every);
  document.addEventListener("visibilitychange", refresh);
})();
