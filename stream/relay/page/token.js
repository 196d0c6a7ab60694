// Keys to rooms: found in the address, kept for the tab, and read as far as the page may know them.

const RIGHTS = ["publish-speaker", "publish-language", "listen", "admin"];

/** The token in an address's fragment, "" where there is none. */
export const tokenIn = (fragment) =>
  new URLSearchParams(fragment.replace(/^#/, "")).get("token") ?? "";

/** What a token says, unverified: only the server knows whether it is true. Null: unreadable. */
function claimsOf(token) {
  try {
    const middle = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(middle), (letter) => letter.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims && typeof claims === "object" ? claims : null;
  } catch {
    return null;
  }
}

/** The rights that a token names, wherever in it they stand. Null: it can't be read. */
export function rightsOf(token) {
  const claims = claimsOf(token);
  if (!claims) return null;
  const words = Object.values(claims)
    .flat()
    .filter((value) => typeof value === "string")
    .flatMap((value) => value.split(/[\s,]+/));
  const rights = RIGHTS.filter((right) => words.includes(right));
  return rights.length ? new Set(rights) : null;
}

/** Whether a token's time is over. */
export function isExpired(token, wallClock = Date.now()) {
  const exp = claimsOf(token)?.exp;
  return typeof exp === "number" && 1000 * exp <= wallClock;
}

/** The name or language that a token is for, "" where it is for any. */
export function boundTo(token, claim) {
  const value = claimsOf(token)?.[claim];
  return typeof value === "string" && value !== "*" ? value : "";
}
