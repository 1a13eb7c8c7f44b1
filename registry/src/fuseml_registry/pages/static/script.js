// Makes the pages nicer; everything works without it.
"use strict";
document.documentElement.classList.add("js");

// Copy buttons appear only where they can work.
for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const status = document.querySelector("[data-copied]");
  const label = button.firstChild;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const done = await copy(source);
    label.data = done ? "Copied" : "Select and copy";
    status.textContent = done ? "The install command was copied." : "Copying is not allowed here; the command is selected.";
    setTimeout(() => { label.data = "Copy"; status.textContent = ""; }, 4000);
  });
}

async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}

// Search as you type: the same page is asked for, and its results take the place of the old ones.
const form = document.querySelector("form[data-live]");
if (form) {
  let timer = 0;
  let asked = null;
  const address = () => {
    const pairs = [...new FormData(form)].filter(([, value]) => value);
    return `${form.getAttribute("action")}?${new URLSearchParams(pairs)}`;
  };
  const show = async (url, remember) => {
    asked?.abort();
    asked = new AbortController();
    try {
      const answer = await fetch(url, { signal: asked.signal, headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      replace(page);
      if (remember) history.replaceState(null, "", url);
    } catch (error) {
      if (error.name !== "AbortError") location.assign(url);
    }
  };
  const replace = (page) => {
    const old = document.getElementById("results");
    const active = document.activeElement;
    const name = active?.name, value = active?.value, open = old.querySelector("details").open;
    const fresh = document.importNode(page.getElementById("results"), true);
    fresh.querySelector("details").open = open;
    old.replaceWith(fresh);
    document.title = page.title;
    if (name && !document.contains(active)) {
      [...form.elements].find((e) => e.name === name && (e.type !== "checkbox" || e.value === value))?.focus();
    }
    document.getElementById("announcer").textContent = document.getElementById("found-title").textContent;
  };
  const announcer = Object.assign(document.createElement("p"), { id: "announcer", className: "hidden" });
  announcer.setAttribute("role", "status");
  form.append(announcer);
  form.addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => show(address(), true), event.target.type === "search" ? 180 : 0);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    show(address(), true);
  });
}
