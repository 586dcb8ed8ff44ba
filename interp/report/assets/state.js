// What the reader has chosen, kept in the URL hash so that a link or a reload shows the same view.

const STATE = {};
const LISTENERS = [];

function onState(keys, listener) {
  LISTENERS.push([keys, listener]);
}

function readHash() {
  const text = location.hash.slice(1);
  return text.includes("=") ? Object.fromEntries(new URLSearchParams(text)) : {};
}

// Merge `changes` (null removes a key), write the hash, tell those who listen to a changed key.
function setState(changes, write = true) {
  const changed = new Set();
  for (const [key, value] of Object.entries(changes)) {
    const text = value === null || value === undefined || value === "" ? undefined : String(value);
    if (STATE[key] === text) continue;
    if (text === undefined) delete STATE[key];
    else STATE[key] = text;
    changed.add(key);
  }
  if (!changed.size) return;
  if (write) {
    const hash = new URLSearchParams(STATE).toString();
    try {
      history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
    } catch {
      // A page shown inside another document (srcdoc) has no URL of its own; the view still works.
    }
  }
  for (const [keys, listener] of LISTENERS) if (keys.some((key) => changed.has(key))) listener();
}

function restoreState() {
  const read = readHash();
  const gone = Object.fromEntries(Object.keys(STATE).filter((key) => !(key in read)).map((key) => [key, null]));
  setState({ ...gone, ...read }, false);
}

const chosenPrompt = () => {
  const index = Number(STATE.prompt ?? 0);
  return Number.isInteger(index) && index >= 0 && index < DATA.prompts.length ? index : 0;
};
const promptName = (index) => `${index}. ${shown(DATA.prompts[index] ?? "prompt")}`;
const chosenPosition = () => (STATE.position === undefined || !/^\d+$/.test(STATE.position) ? null : Number(STATE.position));
