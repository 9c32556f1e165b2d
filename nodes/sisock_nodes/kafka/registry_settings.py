"""Where the schemas of messages are, in the settings of ``type: kafka``."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from sisock.settings import InputPath, Seconds, Settings

# Of digits alone it is a number in YAML; the message about that would show it.
Secret = Annotated[SecretStr, BeforeValidator(lambda value: value if isinstance(value, SecretStr) else str(value))]


class RegistrySettings(Settings):
    """A schema registry that speaks Confluent's REST interface."""

    url: str = Field(min_length=1)
    """Its address: ``http`` or ``https``; several with commas."""
    user: str | None = Field(None, min_length=1, pattern="^[^:]+$")
    """The user, where it asks for one."""
    secret: Secret | None = None
    """The user's secret; it is not shown anywhere."""
    ca: InputPath | None = None
    """The certificate (PEM) of the authority that signed the registry's; the public ones when not given."""
    timeout: Annotated[Seconds, Field(gt=0)] = 5.0
    """How long to wait for an answer."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # Not a validator of the field: its messages would show the value, which may contain a secret.
        for each in self.url.split(","):
            try:
                parts = urlsplit(each.strip())
            except ValueError:
                raise ValueError("url is not an address; give http://host:port or https://host:port") from None
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("url is not a supported address; give http://host:port or https://host:port")
            if "@" in parts.netloc:
                raise ValueError("url has a user in it; give user and secret by themselves")
        if (self.user is None) is not (self.secret is None):
            raise ValueError("user and secret belong together; give both or none")
        return self

    def client(self) -> dict[str, object]:
        """Return the settings of confluent-kafka's client."""
        config: dict[str, object] = {"url": self.url, "timeout": self.timeout, "max.retries": 0}  # we try again
        if self.user is not None and self.secret is not None:
            config["basic.auth.user.info"] = f"{self.user}:{self.secret.get_secret_value()}"
        if self.ca is not None:
            config["ssl.ca.location"] = str(self.ca)
        return config
