// Keeps a phone's screen on while somebody is in a room, where the browser can.

export function keepAwake() {
  let wanted = false;
  let lock = null;
  const ask = async () => {
    if (!wanted || lock || document.hidden || !navigator.wakeLock) return;
    try {
      lock = await navigator.wakeLock.request("screen");
      lock.addEventListener("release", () => {
        lock = null;
      });
      if (!wanted) lock.release();
    } catch {
      // A battery that runs low, or a policy: the screen may go dark.
    }
  };
  // A hidden page loses its lock.
  document.addEventListener("visibilitychange", ask);
  return {
    on() {
      wanted = true;
      ask();
    },
    off() {
      wanted = false;
      lock?.release();
    },
  };
}
