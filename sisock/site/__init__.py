"""The settings of a site: its router, its hub, its gateway and its nodes, read from one YAML file.

Nothing here starts anything. Errors are reported with file, line and the key's path, all at once.
"""

import warnings
from importlib import import_module
from typing import Any

from sisock.site.file import Site, SiteFile, check_site, load_site
from sisock.site.finding import Where, find_access, find_site, locate_site
from sisock.site.gateway import GatewaySecrets, GatewaySettings
from sisock.site.router import OcsRouterSettings, RouterSettings, TlsSettings
from sisock.site.secrets import ROLES, SECRETS_FILE, Secrets, load_secrets

__all__ = [
    "ROLES",
    "SECRETS_FILE",
    "GatewaySecrets",
    "GatewaySettings",
    "OcsRouterSettings",
    "RouterSettings",
    "Secrets",
    "Site",
    "SiteFile",
    "TlsSettings",
    "Where",
    "check_site",
    "find_access",
    "find_site",
    "load_secrets",
    "load_site",
    "locate_site",
]

# Names that third parties imported from here before these modules existed.
_MOVED = {
    "Access": "sisock.access:Access",
    "AllowanceSettings": "sisock.settings:AllowanceSettings",
    "HistorySettings": "sisock.settings:HistorySettings",
    "InputPath": "sisock.settings:InputPath",
    "NodeSettings": "sisock.nodetype:NodeSettings",
    "OutputPath": "sisock.settings:OutputPath",
    "Seconds": "sisock.settings:Seconds",
    "Settings": "sisock.settings:Settings",
    "SinkSettings": "sisock.nodetype:SinkSettings",
    "SitePath": "sisock.settings:SitePath",
    "Size": "sisock.settings:Size",
    "Surroundings": "sisock.nodetype:NodeContext",
    "access_from_environment": "sisock.access:access_from_environment",
    "check_node_name": "sisock.nodetype:check_node_name",
    "node_types": "sisock.nodetype:node_types",
}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, there = _MOVED[name].partition(":")
    warnings.warn(f"sisock.site.{name} has moved: import {there} from {module}", DeprecationWarning, stacklevel=2)
    return getattr(import_module(module), there)
