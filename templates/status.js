// Local times, a cursor over every row, a filter, and what changes. The page says everything without it.
(() => {
  const doc = document, html = doc.documentElement, body = doc.body, on = addEventListener, $ = (s, from = doc) => from.querySelector(s), $$ = (s, from = doc) => [...from.querySelectorAll(s)];
  const words = JSON.parse(body.dataset.words), lang = html.lang;
  const clock = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const zone = new Intl.DateTimeFormat(lang, { timeZoneName: "short" }).formatToParts(new Date()).find(p => p.type === "timeZoneName").value;
  const time = /\d\d:\d\d(?=(:\d\d)?$)/;

  const date = t => new Date(t.dateTime), short = at => at.getDate() + " " + words.months[at.getMonth()];
  const long = new Intl.DateTimeFormat(lang === "en" ? "en-GB" : lang, { dateStyle: "long" });

  // Times are of the page's zone as served. Where the text is a time of the day, it becomes the reader's own, with the date
  // where that is another one; the title stays UTC. What is listed by day is listed by the reader's days.
  function localise(root) {
    const fresh = $("#fresh time", root), today = fresh && short(date(fresh));
    for (const t of $$("time[datetime]", root)) if (time.test(t.textContent)) {
      const at = date(t), day = today && !t.matches("div.story li > time") && short(at) !== today ? short(at) + ", " : "";
      t.textContent = day + t.textContent.replace(/^\d+ \S+, /, "").replace(time, clock.format(at));
    }
    for (const story of $$("div.story", root)) {
      const items = $$("ol > li", story);
      let day;
      story.textContent = "";
      for (const item of items) {
        const its = long.format(date($("time", item)));
        if (its !== day) story.insertAdjacentHTML("beforeend", `<h3>${day = its}</h3><ol></ol>`);
        story.lastChild.append(item);
      }
    }
    for (const t of $$("text[data-at]", root)) t.textContent = t.textContent.replace(time, clock.format(new Date(t.dataset.at)));
    for (const z of $$(".zone", root)) z.textContent = zone;
    for (const z of $$(".zoned", root)) z.textContent = words.zoned;
  }

  // The cursor: what it meets stands below the rows. Only who moves it by keyboard hears it: neither every place that a
  // mouse passes nor every update of the page is announced.
  let quiet = "";
  const cursor = { share: 1 };
  function showAt(share, live = "off") {
    const board = $("#board"), line = $(".cursor", board), read = $("#read"), seconds = +board.dataset.seconds;
    cursor.share = share = Math.max(0, Math.min(1, share));
    for (const x of ["x1", "x2"]) line.setAttribute(x, 100 * share + "%");
    line.style.opacity = .5;
    const at = new Date(Date.parse(board.dataset.until) - (1 - share) * seconds * 1000);
    const within = (e, unit, slack = unit / 120) => { const x = parseFloat(e.getAttribute("x") || e.getAttribute("cx")), w = parseFloat(e.getAttribute("width") || 0); return share * unit >= x - slack && share * unit <= x + w + slack; };
    const near = $$("[data-say]", board).filter(e => within(e, 100)).map(e => e.dataset.say);
    const odds = { "r-down": words.down, "r-slow": words.degraded, "r-plan": words.maintenance }, kind = r => odds[r.getAttribute("class")];
    const odd = $$(".row", board).flatMap(row => $$("rect", row).filter(r => kind(r) && within(r, 1000, 0)).map(r => kind(r).replace("{name}", row.dataset.name)));
    const day = seconds > 86400 ? short(at) + " " : "";
    read.ariaLive = live;
    read.textContent = [day + clock.format(at) + " " + zone, ...near, ...odd].join("  ·  ") + (near.length + odd.length ? "" : "  ·  " + words.nothing);
  }
  on("pointermove", e => {
    const board = $("#board"), cover = board && $(".cover", board);
    if (!cover || !board.contains(e.target)) { if (quiet && board) { $("#read").textContent = quiet; $(".cursor", board).style.opacity = 0; } return; }
    const box = cover.getBoundingClientRect(), share = (e.clientX - box.left) / box.width;
    if (share >= 0 && share <= 1) showAt(share);
  });

  // What is connected with the event at which one points, or on which the focus is.
  let pointed = body;
  function light() {
    const one = pointed.closest("[data-group]");
    $("main").classList.toggle("lit", !!one);
    for (const other of $$("[data-group]")) { const is = !!one && other.dataset.group === one.dataset.group; other.classList.toggle("lit", is); other.classList.toggle("dim", !is); }
  }
  for (const kind of ["pointerover", "focusin"]) on(kind, e => { pointed = e.target; light(); });

  function filter(value, root = doc) {
    const want = value.trim().toLowerCase();
    for (const e of $$("[data-name]", root)) e.hidden = want !== "" && !e.dataset.name.toLowerCase().includes(want);
    if (want) for (const one of $$("details", root)) one.open = true;
  }
  on("input", e => { if (e.target.id === "filter") filter(e.target.value); });
  on("keydown", e => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "/" && !e.target.matches("input, textarea, select") && $("#filter")) { e.preventDefault(); $("#filter").focus(); }
    else if (e.key === "Escape" && e.target.id === "filter") { e.target.value = ""; filter(""); e.target.blur(); }
    else if (step && e.target.id === "board") { e.preventDefault(); showAt(cursor.share + step / 180, "polite"); }
  });

  // What changes arrives as lines of the page's text, and only elements that differ are touched: so scroll, focus, open
  // parts, selection and what is typed stay. Silence is shown.
  const silence = 15e3, most = 6e4, isMoving = matchMedia("(prefers-reduced-motion: no-preference)");
  const code = root => $$("style, script:not([type])", root).map(e => e.textContent).join();
  const pause = ms => new Promise(over => { wake = over; setTimeout(over, ms); });
  const isSelecting = () => !(getSelection() || { isCollapsed: true }).isCollapsed;
  let wake, stream, lines, tag, isLate, isSent, heard = Date.now();

  // Once a minute at most: two versions behind one address, or a proxy that refuses streams, must not load it for ever.
  // Never while a form is sent: the page that it leads to would be lost.
  on("submit", () => isSent = 1);
  on("pageshow", () => isSent = 0);
  function reload() {
    if (isSent || history.state > Date.now() - most) return;
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
    if (code(next) !== code(doc)) reload();
    if (doc.title !== next.title) $("#said").textContent = doc.title = next.title;
    if ($("#icon").href !== icon) $("#icon").href = icon;
    // A selection would be lost. The time beside the light says how old the rest is.
    if (isLate = isSelecting()) return;
    body.classList.remove("stale");
    localise(next);
    if ($("#filter")) filter($("#filter").value, next);
    const held = doc.activeElement || body, link = held.getAttribute("href"), top = e => e.getBoundingClientRect().top;
    const spot = scrollY && $$("main > *, .row, li").find(e => top(e) >= 0), before = spot && top(spot);
    morph($(".page"), $(".page", next), new Map($$(".page [id]").map(e => [e.id, e])));
    if (spot && spot.isConnected) scrollBy({ top: top(spot) - before, behavior: "instant" });
    const again = held.isConnected ? held : [...doc.links].find(a => link && a.getAttribute("href") === link);
    if (again && again !== body && again !== doc.activeElement) again.focus({ preventScroll: true });
    if ($(".cursor") && +$(".cursor").style.opacity) showAt(cursor.share);
    light();
  }
  function stale() {
    if (body.matches(".stale")) return;
    body.classList.add("stale");
    $("#said").textContent = $("#fresh").textContent = words.silent.replace("{time}", clock.format(heard) + " " + zone);
    $("#fresh").prepend(doc.createElement("i"));
    doc.title = "? " + doc.title;
    $("#icon").href = words.icon;
  }
  // A browser has six connections to one gateway, and a stream holds one of them. So at most three windows have a stream:
  // who wants one asks (with its number), and those that have one, or have asked with a smaller number, say so. The others
  // read the page again and again. A busy browser delivers some of that too late: so a window with a stream ends it when
  // three with smaller numbers say that they have one.
  const windows = new BroadcastChannel("tentaculo"), me = Math.random(), smaller = new Set();
  let rank = 2, others, frames;
  windows.onmessage = ({ data: [asker, by, holds] }) => {
    if (!by) { smaller.clear(); if (asker > rank) windows.postMessage([asker, me, !rank]); }
    else if (asker === me) others++;
    else if (holds && by < me && !rank && smaller.add(by).size > 2 && frames) frames.cancel();
  };
  async function hasRoom() {
    others = 0;
    windows.postMessage([rank = me]);
    await new Promise(over => setTimeout(over, 99));
    return others < 3;
  }

  // Follows until the stream ends. Returns milliseconds to wait; 0 where there is no stream, and the page was read instead.
  async function follow() {
    let timer;
    const hear = () => { heard = Date.now(); clearTimeout(timer); timer = setTimeout(() => stream.abort(), silence); };
    const ask = async (cache, headers) => {
      const response = await fetch(location.href, { cache, headers, signal: stream.signal });
      if (response.redirected || /40[13]/.test(response.status)) reload();
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
      if (!await hasRoom()) { await read("no-cache"); return 5000; }
      rank = 0;
      const response = await ask("no-store", { Accept: "text/event-stream", "Last-Event-ID": tag });
      if (!/event-stream/.test(response.headers.get("content-type"))) { await read("no-cache"); return 0; }
      if (body.matches(".stale")) draw();
      frames = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        const { value, done } = await frames.read();
        if (done) return 1000;
        hear();
        const parts = (rest + value).split("\n\n");
        rest = parts.pop();
        for (const [, id, data] of parts.map(part => /^id: (.*)\nevent: page\ndata: (.*)$/.exec(part) || [])) if (id) {
          lines = JSON.parse(data).flatMap(part => part.trim ? part : lines.slice(part[0], part[0] + part[1]));
          tag = id;
          draw();
        }
      }
    } finally { clearTimeout(timer); rank = 2; frames = 0; }
  }
  async function live() {
    for (let wait = 1000; ;) {
      try { if (!doc.hidden) wait = await follow() || Math.min(wait * 2, most); }
      catch { if (!doc.hidden) { stale(); wait = Math.min(wait * 2, most / 2); } }
      await pause(doc.hidden ? 2 ** 31 - 1 : wait * (.5 + Math.random() / 2));
    }
  }
  localise(doc);
  quiet = $("#read") ? $("#read").textContent : "";
  html.style.overflowAnchor = "none";
  doc.addEventListener("selectionchange", () => { if (isLate && !isSelecting()) draw(); });
  on("visibilitychange", () => { if (!doc.hidden) wake(); else if (stream) stream.abort(); });
  on("online", () => wake());
  live();
})();
