import { get, loginEvents, post } from "./api.js";
import { byId, setText } from "./dom.js";
import { showError } from "./form.js";

/**
 * Show the login dialog when the gateway requires it, and connect the logout button.
 * @param {() => void} onLogin called after a login
 * @returns {Promise<{user: string|null, operator: boolean}|null>} the principal; null if a login is required
 */
export async function handleLogin(onLogin) {
  const [dialog, form, error] = ["login", "login-form", "login-error"].map(byId);
  loginEvents.addEventListener("login", () => !dialog.open && dialog.showModal());
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    showError(error, "");
    try {
      await post("/login", Object.fromEntries(new FormData(form)));
    } catch (failure) {
      showError(error, failure.message);
      return;
    }
    form.reset();
    dialog.close();
    onLogin();
  });
  byId("logout").addEventListener("click", async () => {
    await post("/logout", {}).catch(() => {});
    location.reload();
  });
  return loadPrincipal();
}

/** Return the principal, and show its name; null if a login is required. */
export async function loadPrincipal() {
  const found = await get("/api/v1/who").catch((error) => (error.status === 401 ? null : { user: null, operator: false }));
  if (!found) return null;
  byId("who").hidden = found.user === null;
  setText(byId("who-name"), found.user ?? "");
  return found;
}
