"""Fill the secrets from the environment into config.json, and start Crossbar with it.

Needs nothing but Python's own library and Crossbar, so that it runs in Crossbar's stock image.

SISOCK_SERVER_SECRET, SISOCK_CONSUMER_SECRET
    Required; nothing starts without them.
SISOCK_OPERATOR_SECRET
    Without it nobody but nodes and the gateway may call control procedures.
SISOCK_GATEWAY_SECRET
    Without it the gateway logs in as consumer and operator, and nodes do not learn for whom it calls.
SISOCK_SERVER_USER, SISOCK_CONSUMER_USER, SISOCK_OPERATOR_USER, REALM
    Other names than those of the roles and the realm of config.json.
"""

import json
import os
import sys
from pathlib import Path


def fill(config, environment):
    """Return the configuration with the users, their secrets and the realm that the environment gives."""
    users = {}
    for role in ("server", "consumer", "operator"):
        secret = environment.get(f"SISOCK_{role.upper()}_SECRET")
        if not secret and role == "operator":
            continue
        if not secret:
            sys.exit(f"set SISOCK_{role.upper()}_SECRET to the secret of the {role} role")
        users[environment.get(f"SISOCK_{role.upper()}_USER") or role] = {"secret": secret, "role": role}
    if "gateway" in users:
        sys.exit("gateway is the account of the gateway itself; give the role another user")
    if secret := environment.get("SISOCK_GATEWAY_SECRET"):
        users["gateway"] = {"secret": secret, "role": "gateway"}
    worker = config["workers"][0]
    worker["realms"][0]["name"] = environment.get("REALM") or worker["realms"][0]["name"]
    for transport in worker["transports"]:
        for listening in (transport, *transport.get("paths", {}).values()):
            if "auth" in listening:
                listening["auth"]["wampcra"]["users"] = users
    return config


def main(template, folder):
    """Write the filled configuration, readable by its owner only, and become Crossbar."""
    config = fill(json.loads(Path(template).read_text()), os.environ)
    Path(folder, "run").mkdir(parents=True, exist_ok=True)
    target = Path(folder, ".crossbar")
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").unlink(missing_ok=True)
    with os.fdopen(os.open(target / "config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(config, file, indent=2)
    os.execvp("crossbar", ["crossbar", "start", "--cbdir", str(target), "--loglevel", "warn"])  # noqa: S606, S607


if __name__ == "__main__":
    main(*sys.argv[1:])
