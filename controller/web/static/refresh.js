// Swaps the main part of the page every two seconds while somebody can see it.
const main = document.getElementById("overview");
const freshness = document.getElementById("freshness");

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/?part=overview", { signal: AbortSignal.timeout(10000) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    main.innerHTML = await answer.text();
    freshness.textContent = "";
  } catch (error) {
    freshness.textContent = `The server does not answer (${error.message}); what you see may be old.`;
  }
}

setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
