"""The running deployment's configuration, as Pulumi's engine hands it to the program.

Owns what the settings, which know nothing of an engine, can't give: secrets as outputs, and faults as the errors that
Pulumi prints without a traceback.
"""

import pulumi
from pulumi.runtime.config import CONFIG

from components.settings import PROJECT, ConfigurationError, Settings, structured
from components.settings.pki import pem_warnings, read


def load() -> Settings:
    """The settings of the deployment that is running; raises RunError with every fault."""
    prefix = f"{PROJECT}:"
    raw = {key.removeprefix(prefix): value for key, value in CONFIG.get().items() if key.startswith(prefix)}
    secrets = {key for key in raw if pulumi.runtime.is_config_secret(prefix + key)}
    config = {key: structured(value) for key, value in raw.items()}
    try:
        settings = Settings.parse(config, secrets)
    except ConfigurationError as error:
        raise pulumi.RunError(str(error)) from error
    for warning in pem_warnings(config, settings.authority):
        pulumi.log.warn(warning)
    return settings


def secret(key: str) -> pulumi.Output[str]:
    """A top-level secret key's content, without white space around it."""
    return pulumi.Config(PROJECT).require_secret(key).apply(str.strip)


def pems(settings: Settings) -> dict[str, pulumi.Output[str]]:
    """Every PEM that the configuration names, by its key below `pki`, secret."""
    return {
        key: pulumi.Output.secret(read(source)) if source.kind == "file" else secret(source.value)
        for key, source in settings.pki.sources.items()
    }
