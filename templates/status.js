// Local times, a cursor over every row, a filter, and fresh content. The page says everything without it.
(() => {
  const $ = (s, from = document) => from.querySelector(s), $$ = (s, from = document) => [...from.querySelectorAll(s)];
  const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const zone = new Intl.DateTimeFormat(undefined, { timeZoneName: "short" }).formatToParts(new Date()).find(p => p.type === "timeZoneName").value;
  const time = /\d\d:\d\d(?=(:\d\d)?$)/;

  // Times are UTC as served. Where the text is a time of the day, it becomes the reader's own; the title stays UTC.
  function localise(root) {
    for (const t of $$("time[datetime]", root)) if (time.test(t.textContent)) t.textContent = t.textContent.replace(time, clock.format(new Date(t.dateTime)));
    for (const t of $$("text[data-at]", root)) t.textContent = t.textContent.replace(time, clock.format(new Date(t.dataset.at)));
    for (const z of $$(".zone", root)) z.textContent = zone;
    for (const z of $$(".zoned", root)) z.textContent = "Times are yours; UTC when you point at one.";
  }

  // The cursor: what it meets is read out below the rows.
  let quiet = "";
  const spot = { share: 1 };
  function showAt(share) {
    const board = $("#board"), line = $(".cursor", board), read = $("#read"), seconds = +board.dataset.seconds;
    spot.share = share = Math.max(0, Math.min(1, share));
    for (const x of ["x1", "x2"]) line.setAttribute(x, 100 * share + "%");
    line.style.opacity = .5;
    const at = new Date(Date.parse(board.dataset.until) - (1 - share) * seconds * 1000);
    const within = (e, unit) => { const x = parseFloat(e.getAttribute("x") || e.getAttribute("cx")), w = parseFloat(e.getAttribute("width") || 0); return share * unit >= x - unit / 120 && share * unit <= x + w + unit / 120; };
    const near = $$("[data-say]", board).filter(e => within(e, 100)).map(e => e.dataset.say);
    const words = { "r-down": "down", "r-slow": "degraded", "r-plan": "in maintenance" };
    const odd = $$(".row", board).flatMap(row => $$("rect", row).filter(r => words[r.getAttribute("class")] && +r.getAttribute("x") <= share * 1000 && share * 1000 <= +r.getAttribute("x") + +r.getAttribute("width")).map(r => row.dataset.name + " " + words[r.getAttribute("class")]));
    const day = seconds > 86400 ? at.toLocaleDateString(undefined, { day: "numeric", month: "short" }) + " " : "";
    read.textContent = [day + clock.format(at) + " " + zone, ...near, ...odd].join("  ·  ") + (near.length + odd.length ? "" : "  ·  nothing unusual");
  }
  addEventListener("pointermove", e => {
    const board = $("#board"), cover = board && $(".cover", board);
    if (!cover || !board.contains(e.target)) { if (quiet && board) { $("#read").textContent = quiet; $(".cursor", board).style.opacity = 0; } return; }
    const box = cover.getBoundingClientRect(), share = (e.clientX - box.left) / box.width;
    if (share >= 0 && share <= 1) showAt(share);
  });

  // What is connected with the event at which one points, or on which the focus is.
  for (const kind of ["pointerover", "focusin"]) addEventListener(kind, e => {
    const one = e.target.closest("[data-group]"), main = $("main");
    main.classList.toggle("lit", !!one);
    for (const other of $$("[data-group]")) { const is = !!one && other.dataset.group === one.dataset.group; other.classList.toggle("lit", is); other.classList.toggle("dim", !is); }
  });

  function filter(value) {
    const want = value.trim().toLowerCase();
    for (const e of $$("[data-name]")) e.hidden = want !== "" && !e.dataset.name.toLowerCase().includes(want);
    if (want) for (const one of $$("details")) one.open = true;
  }
  addEventListener("input", e => { if (e.target.id === "filter") filter(e.target.value); });
  addEventListener("keydown", e => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "/" && e.target === document.body && $("#filter")) { e.preventDefault(); $("#filter").focus(); }
    else if (e.key === "Escape" && e.target.id === "filter") { e.target.value = ""; filter(""); e.target.blur(); }
    else if (step && e.target.id === "board") { e.preventDefault(); showAt(spot.share + step / 180); }
  });

  // Fresh content replaces the old one. Focus, open parts and what is typed stay. Silence is shown.
  const every = 10000, limit = 8000;
  let busy = false, seen = $("#fresh time").textContent;
  const selecting = () => { const chosen = getSelection(); return chosen && !chosen.isCollapsed; };
  function stale() {
    document.body.classList.add("stale");
    const live = $("#fresh");
    live.textContent = "No response since " + seen + " " + zone;
    live.prepend(document.createElement("i"));
    document.title = "? " + document.title.replace(/^\? /, "");
    $("#icon").href = "data:image/svg+xml," + encodeURIComponent('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="12" fill="#5d676d"/><path d="M9 9.5a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7m0 3v.1" fill="none" stroke="#fff" stroke-width="2.4" stroke-linecap="round"/></svg>');
  }
  async function refresh() {
    if (busy || document.hidden || selecting() || document.activeElement.id === "filter") return;
    busy = true;
    try {
      const response = await fetch(location.href, { cache: "no-cache", signal: AbortSignal.timeout(limit) });
      if (!response.ok) throw new Error(response.status);
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      const held = document.activeElement, key = held.id ? "#" + held.id : held.getAttribute("href");
      const tones = new Map($$(".row").map(row => [row.id, row.className]));
      const open = new Set($$("details[open]").map(one => one.id)), shut = new Set($$("details:not([open])").map(one => one.id));
      localise(next);
      for (const one of $$("details", next)) if (open.has(one.id) || shut.has(one.id)) one.open = open.has(one.id);
      for (const row of $$(".row", next)) if (tones.has(row.id) && tones.get(row.id) !== row.className) row.classList.add("fresh");
      for (const id of ["live", "fresh", "foot", "icon"]) document.getElementById(id).replaceWith(next.getElementById(id));
      if (key && document.activeElement === document.body) { const again = key[0] === "#" ? $(key) : [...document.links].find(a => a.getAttribute("href") === key); if (again) again.focus({ preventScroll: true }); }
      document.title = next.title;
      document.body.classList.remove("stale");
      seen = $("#fresh time").textContent;
    } catch { stale(); }
    busy = false;
  }
  localise(document);
  quiet = $("#read") ? $("#read").textContent : "";
  seen = $("#fresh time").textContent;
  setInterval(refresh, every);
  document.addEventListener("visibilitychange", refresh);
})();
