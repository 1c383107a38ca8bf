// Local times, a cursor over every row, a filter, and what changes. The page says everything without it.
(() => {
  const $ = (s, from = document) => from.querySelector(s), $$ = (s, from = document) => [...from.querySelectorAll(s)];
  const words = JSON.parse(document.body.dataset.words), lang = document.documentElement.lang;
  const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const zone = new Intl.DateTimeFormat(lang, { timeZoneName: "short" }).formatToParts(new Date()).find(p => p.type === "timeZoneName").value;
  const time = /\d\d:\d\d(?=(:\d\d)?$)/;

  // Times are UTC as served. Where the text is a time of the day, it becomes the reader's own; the title stays UTC.
  function localise(root) {
    for (const t of $$("time[datetime]", root)) if (time.test(t.textContent)) t.textContent = t.textContent.replace(time, clock.format(new Date(t.dateTime)));
    for (const t of $$("text[data-at]", root)) t.textContent = t.textContent.replace(time, clock.format(new Date(t.dataset.at)));
    for (const z of $$(".zone", root)) z.textContent = zone;
    for (const z of $$(".zoned", root)) z.textContent = words.zoned;
  }

  // The cursor: what it meets is read out below the rows.
  let quiet = "";
  const cursor = { share: 1 };
  function showAt(share) {
    const board = $("#board"), line = $(".cursor", board), read = $("#read"), seconds = +board.dataset.seconds;
    cursor.share = share = Math.max(0, Math.min(1, share));
    for (const x of ["x1", "x2"]) line.setAttribute(x, 100 * share + "%");
    line.style.opacity = .5;
    const at = new Date(Date.parse(board.dataset.until) - (1 - share) * seconds * 1000);
    const within = (e, unit) => { const x = parseFloat(e.getAttribute("x") || e.getAttribute("cx")), w = parseFloat(e.getAttribute("width") || 0); return share * unit >= x - unit / 120 && share * unit <= x + w + unit / 120; };
    const near = $$("[data-say]", board).filter(e => within(e, 100)).map(e => e.dataset.say);
    const odds = { "r-down": words.down, "r-slow": words.degraded, "r-plan": words.maintenance };
    const odd = $$(".row", board).flatMap(row => $$("rect", row).filter(r => odds[r.getAttribute("class")] && +r.getAttribute("x") <= share * 1000 && share * 1000 <= +r.getAttribute("x") + +r.getAttribute("width")).map(r => odds[r.getAttribute("class")].replace("{name}", row.dataset.name)));
    const day = seconds > 86400 ? at.toLocaleDateString(lang, { day: "numeric", month: "short" }) + " " : "";
    read.textContent = [day + clock.format(at) + " " + zone, ...near, ...odd].join("  ·  ") + (near.length + odd.length ? "" : "  ·  " + words.nothing);
  }
  addEventListener("pointermove", e => {
    const board = $("#board"), cover = board && $(".cover", board);
    if (!cover || !board.contains(e.target)) { if (quiet && board) { $("#read").textContent = quiet; $(".cursor", board).style.opacity = 0; } return; }
    const box = cover.getBoundingClientRect(), share = (e.clientX - box.left) / box.width;
    if (share >= 0 && share <= 1) showAt(share);
  });

  // What is connected with the event at which one points, or on which the focus is.
  let pointed = document.body;
  function light() {
    const one = pointed.closest("[data-group]");
    $("main").classList.toggle("lit", !!one);
    for (const other of $$("[data-group]")) { const is = !!one && other.dataset.group === one.dataset.group; other.classList.toggle("lit", is); other.classList.toggle("dim", !is); }
  }
  for (const kind of ["pointerover", "focusin"]) addEventListener(kind, e => { pointed = e.target; light(); });

  function filter(value, root = document) {
    const want = value.trim().toLowerCase();
    for (const e of $$("[data-name]", root)) e.hidden = want !== "" && !e.dataset.name.toLowerCase().includes(want);
    if (want) for (const one of $$("details", root)) one.open = true;
  }
  addEventListener("input", e => { if (e.target.id === "filter") filter(e.target.value); });
  addEventListener("keydown", e => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "/" && !e.target.matches("input, textarea, select") && $("#filter")) { e.preventDefault(); $("#filter").focus(); }
    else if (e.key === "Escape" && e.target.id === "filter") { e.target.value = ""; filter(""); e.target.blur(); }
    else if (step && e.target.id === "board") { e.preventDefault(); showAt(cursor.share + step / 180); }
  });

  // What changes arrives as lines of the page's text, and only elements that differ are touched: so scroll, focus, open
  // parts, selection and what is typed stay. Silence is shown.
  const silence = 15000, most = 60000, body = document.body, isMoving = matchMedia("(prefers-reduced-motion: no-preference)");
  const code = root => $$("style, script:not([type])", root).map(e => e.textContent).join();
  const pause = ms => new Promise(over => { wake = over; setTimeout(over, ms); });
  const isSelecting = () => !(getSelection() || { isCollapsed: true }).isCollapsed;
  let wake, stream, lines, tag, isLate, heard = Date.now();

  // Once a minute at most: two versions behind one address, or a proxy that refuses streams, must not load it for ever.
  function reload() {
    if (history.state > Date.now() - most) return;
    history.replaceState(Date.now(), "");
    location.reload();
  }
  function morph(old, next, known) {
    if (next.nodeName === "DETAILS") next.open = old.open;
    if (old.isEqualNode(next)) return;
    if (old.nodeType !== 1) { old.data = next.data; return; }
    if (old.matches(".cursor, #read")) return;
    if (old.matches(".row") && old.className !== next.className && isMoving.matches) old.animate({ background: "var(--plan-wash)", offset: 0 }, 1600);
    for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const children = [...next.childNodes], ids = new Set(children.map(e => e.id));
    for (const e of [...old.children]) if (e.id && !ids.has(e.id)) e.remove();
    let at = old.firstChild;
    const drop = () => { const gone = at; at = at.nextSibling; gone.remove(); };
    for (const child of children) {
      const same = child.id ? known.get(child.id) : at && !at.id && at;
      if (child.id && same && same.parentNode === old) while (at && at !== same && !at.id) drop();
      if (!same || same.nodeName !== child.nodeName) { old.insertBefore(child, at); continue; }
      if (same === at) at = at.nextSibling; else old.insertBefore(same, at);
      morph(same, child, known);
    }
    while (at) drop();
  }
  function draw() {
    const next = new DOMParser().parseFromString(lines.join("\n"), "text/html"), icon = $("#icon", next).href;
    // A page of another version needs its script and style.
    if (code(next) !== code(document)) reload();
    if (document.title !== next.title) $("#said").textContent = document.title = next.title;
    if ($("#icon").href !== icon) $("#icon").href = icon;
    // A selection would be lost. The time beside the light says how old the rest is.
    if (isLate = isSelecting()) return;
    body.classList.remove("stale");
    localise(next);
    if ($("#filter")) filter($("#filter").value, next);
    const held = document.activeElement || body, link = held.getAttribute("href"), top = e => e.getBoundingClientRect().top;
    const spot = scrollY && $$("main > *, .row, li").find(e => top(e) >= 0), before = spot && top(spot);
    morph($(".page"), $(".page", next), new Map($$(".page [id]").map(e => [e.id, e])));
    if (spot && spot.isConnected) scrollBy({ top: top(spot) - before, behavior: "instant" });
    const again = held.isConnected ? held : [...document.links].find(a => link && a.getAttribute("href") === link);
    if (again && again !== body && again !== document.activeElement) again.focus({ preventScroll: true });
    if ($(".cursor") && +$(".cursor").style.opacity) showAt(cursor.share);
    light();
  }
  function stale() {
    if (body.matches(".stale")) return;
    body.classList.add("stale");
    $("#said").textContent = $("#fresh").textContent = words.silent.replace("{time}", clock.format(heard) + " " + zone);
    $("#fresh").prepend(document.createElement("i"));
    document.title = "? " + document.title;
    $("#icon").href = "data:image/svg+xml," + encodeURIComponent('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><circle cx="12" cy="12" r="12" fill="#5d676d"/><path d="M9 9.5a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7m0 3v.1" fill="none" stroke="#fff" stroke-width="2.4" stroke-linecap="round"/></svg>');
  }
  // Follows until the stream ends. False where there is none, and the page was read instead.
  async function follow() {
    let timer;
    const hear = () => { heard = Date.now(); clearTimeout(timer); timer = setTimeout(() => stream.abort(), silence); };
    const ask = async (cache, headers) => {
      const response = await fetch(location.href, { cache, headers, signal: stream.signal });
      if (response.redirected || [401, 403].includes(response.status)) reload();
      hear();
      return response;
    };
    const read = async cache => {
      const response = await ask(cache);
      if (!response.ok) throw response.status;
      lines = (await response.text()).split("\n");
      tag = response.headers.get("etag");
      draw();
    };
    stream = new AbortController();
    timer = setTimeout(() => stream.abort(), silence);
    try {
      // The browser has the page that it shows.
      if (!lines) await read("force-cache");
      const response = await ask("no-store", { Accept: "text/event-stream", "Last-Event-ID": tag });
      if (!/event-stream/.test(response.headers.get("content-type"))) { await read("no-cache"); return false; }
      if (body.matches(".stale")) draw();
      const frames = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await frames.read();
        if (done) return true;
        hear();
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const [, id, data] of parts.map(part => /^id: (.*)\nevent: page\ndata: (.*)$/.exec(part) || [])) if (id) {
          lines = JSON.parse(data).flatMap(part => part.trim ? part : lines.slice(part[0], part[0] + part[1]));
          tag = id;
          draw();
        }
      }
    } finally { clearTimeout(timer); }
  }
  async function live() {
    for (let wait = 1000; ;) {
      try { if (!document.hidden) wait = await follow() ? 1000 : Math.min(wait * 2, most); }
      catch { if (!document.hidden) { stale(); wait = Math.min(wait * 2, most / 2); } }
      await pause(document.hidden ? 2 ** 31 - 1 : wait * (.5 + Math.random() / 2));
    }
  }
  localise(document);
  quiet = $("#read") ? $("#read").textContent : "";
  document.documentElement.style.overflowAnchor = "none";
  document.addEventListener("selectionchange", () => { if (isLate && !isSelecting()) draw(); });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) wake(); else if (stream) stream.abort(); });
  addEventListener("online", () => wake());
  live();
})();
