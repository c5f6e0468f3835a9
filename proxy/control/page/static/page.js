// What the page does by itself. Without this file everything works, but stands
// still until it is reloaded.
"use strict";

// Values that are to be copied get a button.
function addCopyButtons(root) {
	if (!navigator.clipboard) return; // not over plain HTTP from afar
	for (const code of root.querySelectorAll("code[data-copy]")) {
		if (code.nextElementSibling) continue;
		const button = document.createElement("button");
		button.type = "button";
		button.className = "quiet";
		button.textContent = "Copy";
		button.setAttribute("aria-label", "Copy " + code.dataset.copy);
		button.addEventListener("click", async () => {
			try {
				await navigator.clipboard.writeText(code.dataset.copy);
				button.textContent = "Copied";
			} catch {
				getSelection().selectAllChildren(code);
				button.textContent = "Selected";
			}
			setTimeout(() => { button.textContent = "Copy"; }, 2000);
		});
		code.after(button);
	}
}

// Parts that change by themselves are fetched anew, and replaced where they differ.
const main = document.getElementById("main");
const every = 2000, longest = 30000;
const before = new Map(); // what each part was, as the server has sent it
let wait = every, timer = 0, notice = null;

function parts(root) { return root.querySelectorAll("[data-part]"); }

function busy(part) {
	const selection = getSelection();
	return part.contains(document.activeElement) || !selection.isCollapsed && selection.containsNode(part, true);
}

function replace(fresh) {
	for (const now of parts(fresh)) {
		const name = now.dataset.part, html = now.innerHTML;
		const part = main.querySelector(`[data-part="${CSS.escape(name)}"]`);
		if (!part || before.get(name) === html) continue;
		if (busy(part)) continue; // its own parts still get their turn
		before.set(name, html);
		part.replaceChildren(...[...now.childNodes].map(n => document.importNode(n, true)));
		addCopyButtons(part);
	}
}

function tell(text, link) {
	if (notice) notice.remove();
	notice = null;
	if (!text) return;
	notice = document.createElement("p");
	notice.className = "note wait";
	notice.setAttribute("role", "status");
	notice.append(text);
	if (link) {
		const a = document.createElement("a");
		a.href = location.href;
		a.textContent = link;
		notice.append(" ", a);
	}
	main.prepend(notice);
}

async function poll() {
	try {
		const answer = await fetch(main.dataset.live, { credentials: "same-origin", redirect: "error", cache: "no-store" });
		if (answer.status == 401) return tell("Your session has ended.", "Sign in again");
		if (answer.status == 404) return tell("This is not there any more.", "Reload");
		if (!answer.ok) throw new Error(answer.status);
		replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
		wait = every;
		tell("");
	} catch {
		wait = Math.min(2 * wait, longest);
		if (!notice) tell("There is no connection right now. What you see may be old; it goes on by itself.");
	}
	next();
}

function next() {
	clearTimeout(timer);
	if (!document.hidden) timer = setTimeout(poll, wait);
}

for (const part of parts(main)) before.set(part.dataset.part, part.innerHTML);
addCopyButtons(document);
if (main.dataset.live) {
	document.addEventListener("visibilitychange", () => { wait = every; next(); });
	next();
}
