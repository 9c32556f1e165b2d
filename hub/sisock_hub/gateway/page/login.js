import { doorbell, get, post } from "./api.js";
import { byId, say } from "./dom.js";
import { tellError } from "./form.js";

/**
 * Ask who somebody is when the gateway wants to know, and let them go.
 * @param {() => void} come called when they are in
 * @returns {Promise<{user: string|null, operator: boolean}|null>} who they are; null when they have to log in first
 */
export async function enter(come) {
  const [dialog, form, error] = ["login", "login-form", "login-error"].map(byId);
  doorbell.addEventListener("login", () => !dialog.open && dialog.showModal());
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    tellError(error, "");
    try {
      await post("/login", Object.fromEntries(new FormData(form)));
    } catch (failure) {
      tellError(error, failure.message);
      return;
    }
    form.reset();
    dialog.close();
    come();
  });
  byId("logout").addEventListener("click", async () => {
    await post("/logout", {}).catch(() => {});
    location.reload();
  });
  return who();
}

/** Return who somebody is, and show it; null where they have to log in first. */
export async function who() {
  const found = await get("/api/v1/who").catch((error) => (error.status === 401 ? null : { user: null, operator: false }));
  if (!found) return null;
  byId("who").hidden = found.user === null;
  say(byId("who-name"), found.user ?? "");
  return found;
}
