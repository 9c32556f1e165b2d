"""The settings of a site: its router, its hub, its gateway and its nodes, read from one YAML file.

Nothing here starts anything. What is wrong is told with file, line and the key's path, all at once.
"""

from sisock.site.access import Access, access_from_environment
from sisock.site.file import Site, SiteFile, check_site, load_site
from sisock.site.finding import Where, find_access, find_site, locate_site
from sisock.site.gateway import GatewaySecrets, GatewaySettings
from sisock.site.nodes import (
    AllowanceSettings,
    HistorySettings,
    NodeSettings,
    SinkSettings,
    Surroundings,
    check_node_name,
    node_types,
)
from sisock.site.router import OcsRouterSettings, RouterSettings, TlsSettings
from sisock.site.running import RunningSite, forget_running, record_running, running_sites
from sisock.site.secrets import ROLES, SECRETS_FILE, Secrets, load_secrets
from sisock.site.units import InputPath, OutputPath, Seconds, Settings, SitePath, Size, is_loopback

__all__ = [
    "ROLES",
    "SECRETS_FILE",
    "Access",
    "AllowanceSettings",
    "GatewaySecrets",
    "GatewaySettings",
    "HistorySettings",
    "InputPath",
    "NodeSettings",
    "OcsRouterSettings",
    "OutputPath",
    "RouterSettings",
    "RunningSite",
    "Seconds",
    "Secrets",
    "Settings",
    "SinkSettings",
    "Site",
    "SiteFile",
    "SitePath",
    "Size",
    "Surroundings",
    "TlsSettings",
    "Where",
    "access_from_environment",
    "check_node_name",
    "check_site",
    "find_access",
    "find_site",
    "forget_running",
    "is_loopback",
    "load_secrets",
    "load_site",
    "locate_site",
    "node_types",
    "record_running",
    "running_sites",
]
