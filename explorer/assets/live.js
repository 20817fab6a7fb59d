// Live pages: the server says when the index has moved, the page asks for
// itself again and takes over what changed. Nothing here is needed to read.

const units = [[86400, " days"], [3600, " h"], [60, " min"], [1, " s"]];

function relative(ms) {
  const seconds = Math.floor(Math.abs(ms) / 1000);
  if (ms >= 0 && seconds < 1) return "now";
  const [size, unit] = units.find(([s], i) => seconds >= (i === 0 ? 2 * s : s)) ?? units[3];
  const text = Math.floor(seconds / size) + unit;
  return ms < 0 ? "in " + text : text + " ago";
}

function refreshTimes(root, now) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const text = relative(now - Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}

// What is equal stays as it is, so that focus and selection survive.
function takeOver(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  const keyed = (node) => [...node.children].filter((child) => child.dataset.key);
  const known = new Map(keyed(old).map((child) => [child.dataset.key, child]));
  if (known.size === 0 || keyed(fresh).length !== fresh.children.length) {
    old.replaceChildren(...document.importNode(fresh, true).childNodes);
    for (const name of fresh.getAttributeNames()) old.setAttribute(name, fresh.getAttribute(name));
    return;
  }
  let at = old.firstElementChild;
  for (const child of [...fresh.children]) {
    let mine = known.get(child.dataset.key);
    known.delete(child.dataset.key);
    if (!mine) {
      mine = document.importNode(child, true);
      mine.classList.add("fresh");
      old.insertBefore(mine, at);
      continue;
    }
    if (mine !== at) old.insertBefore(mine, at);
    at = mine.nextElementSibling;
    mine.classList.remove("fresh");
    if (mine.classList.length === 0) mine.removeAttribute("class");
    if (!mine.isEqualNode(child)) mine.replaceChildren(...document.importNode(child, true).childNodes);
  }
  for (const gone of known.values()) gone.remove();
}

let busy = false;
let again = false;
let paused = false;

async function refresh() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const response = await fetch(location.href, { headers: { Accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const now = Date.now();
    refreshTimes(document, now);
    refreshTimes(fresh, now);
    showCopies(fresh);
    for (const old of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(old.id);
      if (next) takeOver(old, next);
    }
  } catch {
    // The next event tries again.
  }
  busy = false;
  if (again) {
    again = false;
    await refresh();
  }
}

function showCopies(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("button.copy")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.classList.add("copied");
  document.getElementById("said").textContent = "Copied.";
  setTimeout(() => button.classList.remove("copied"), 1500);
});

showCopies(document);
setInterval(() => paused || refreshTimes(document, Date.now()), 1000);

if (document.body.dataset.page === "live") {
  const stream = new EventSource("/live");
  let first = Number(document.body.dataset.height);
  stream.addEventListener("head", (event) => {
    if (paused || document.hidden || JSON.parse(event.data).height === first) return;
    first = -1;
    refresh();
  });
  document.addEventListener("visibilitychange", () => document.hidden || paused || refresh());
  const button = document.getElementById("pause");
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Resume" : "Pause";
    document.body.classList.toggle("paused", paused);
    if (!paused) refresh();
  });
}
