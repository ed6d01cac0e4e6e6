/**
 * Answers for the server, for two things that a folder on a plain web server cannot do: it keeps the page's files, so
 * that the page works offline, and adds the headers that let its threads share memory (cross-origin isolation).
 *
 * Files whose addresses change with their content (the network, ONNX Runtime) come from the store; all others from the
 * server while there is one, so that a page that was made anew is seen at once.
 */

const STORE = `featherseg ${self.registration.scope}`; // stores of pages beside this one are another's
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

self.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const store = await caches.open(STORE);
      const facts = await (await fetch("page.json", { cache: "no-cache" })).json();
      await store.addAll(facts.shell.map((file) => new Request(file, { cache: "no-cache" })));
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  const isOurs = request.url.startsWith(self.registration.scope) || /\/onnxruntime-web@/.test(address.pathname);
  if (request.method !== "GET" || !isOurs || request.headers.has("range")) return;
  const isPage = request.mode === "navigate";
  if (isPage && !/\/(index\.html)?$/.test(address.pathname)) return; // another page below this one
  event.respondWith(answer(request, address));
});

/** The page says which lasting files it needs; those of a network that it had before are let go. */
self.addEventListener("message", (event) => {
  event.waitUntil(
    (async () => {
      const store = await caches.open(STORE);
      const needed = new Set(event.data.needed);
      for (const { url } of await store.keys())
        if (isLasting(new URL(url)) && !needed.has(url)) await store.delete(url);
    })(),
  );
});

function isLasting({ pathname }) {
  return /\/(files|onnxruntime-web@[^/]+)\//.test(pathname);
}

async function answer(request, address) {
  const store = await caches.open(STORE);
  const kept = () => store.match(request, { ignoreSearch: true, ignoreVary: true });
  if (isLasting(address)) {
    const found = await kept();
    if (found) return isolated(found);
  }
  try {
    const response = await fetch(request, isLasting(address) ? {} : { cache: "no-cache" });
    if (response.ok && response.type !== "opaque") await keep(store, address, response.clone());
    return isolated(response);
  } catch (error) {
    const found = await kept();
    if (found) return isolated(found);
    throw error;
  }
}

async function keep(store, address, response) {
  try {
    await store.put(address.origin + address.pathname, response);
  } catch {
    // The store is full: the page works, but not offline.
  }
}

function isolated(response) {
  if (response.type === "opaque" || response.type === "cors") return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
