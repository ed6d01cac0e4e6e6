/** The service worker's part in the page's start: see service_worker.js. */

const TRIED = "featherseg: reloaded for threads";
const PATIENCE_MS = 4000; // browsers that begin no service worker, as some do in private windows, go on without

/**
 * Have a service worker answer for the server. The page is loaded anew, once, where its threads gain by that.
 *
 * @returns {Promise<void>} does not end where the page is being loaded anew
 */
export async function isolate() {
  if (!("serviceWorker" in navigator)) return; // http:// without TLS from another machine, or a private window
  try {
    await navigator.serviceWorker.register("service_worker.js");
    await Promise.race([underControl(), new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
    if (self.crossOriginIsolated) {
      sessionStorage.removeItem(TRIED);
    } else if (navigator.serviceWorker.controller && !sessionStorage.getItem(TRIED)) {
      sessionStorage.setItem(TRIED, "yes");
      location.reload();
      await new Promise(() => {});
    }
  } catch {
    // One thread, and not offline.
  }
}

/** Tell the service worker which lasting files the page needs. */
export function keepOnly(addresses) {
  navigator.serviceWorker?.controller?.postMessage({ needed: addresses });
}

function underControl() {
  if (navigator.serviceWorker.controller) return Promise.resolve();
  return new Promise((resolve) =>
    navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }),
  );
}
