// Swaps the main part of the page every two seconds while somebody can see it, until it says that nothing changes.
const main = document.getElementById("overview");
const freshness = document.getElementById("freshness");
const news = document.getElementById("news");

function headings() {
  return [...main.querySelectorAll("article h3, summary")].map((heading) => heading.textContent.replace(/\s+/g, " ").trim());
}

// Who reads by keyboard, has scrolled a table sideways or has opened details stays where they were.
function swap(html) {
  const focused = main.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  const places = [...main.querySelectorAll(".wide")].map((wide) => wide.scrollLeft);
  const opened = [...main.querySelectorAll("details[open]")].map((details) => details.id);
  main.innerHTML = html;
  opened.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  main.querySelectorAll(".wide").forEach((wide, index) => { wide.scrollLeft = places[index] ?? 0; });
  if (focused) main.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

async function refresh() {
  if (document.hidden || main.querySelector("[data-ended]")) return;
  try {
    const answer = await fetch(`${location.pathname}?part=${main.dataset.part}`, { signal: AbortSignal.timeout(10000) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const before = headings();
    swap(await answer.text());
    freshness.textContent = "";
    const changed = headings().filter((heading) => !before.includes(heading));
    if (changed.length) news.textContent = changed.join("; ");
  } catch (error) {
    freshness.textContent = `The server does not answer (${error.message}); what you see may be old.`;
  }
}

setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
