"""The lab's own kubeconfig: one context per cluster, its user the deployer's client certificate.

The deployer is a user of its own, so that an audit log can tell a deployment from the control plane's parts,
which all share kwokctl's admin. Nobody else's kubeconfig is read or written.
"""

import datetime
import os
import warnings
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEPLOYER = "deployer"
CERTIFICATE = "deployer.crt"
KEY = "deployer.key"


def issue(cluster: Path) -> None:
    """Write the deployer's key and certificate, signed by the cluster's own CA, into the cluster's folder."""
    with warnings.catch_warnings():
        # kwokctl's CA bears the serial number 0. Only its name is read here.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        authority = x509.load_pem_x509_certificate((cluster / "pki/ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((cluster / "pki/ca.key").read_bytes(), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DEPLOYER)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(cast(ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, signer), hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(cluster / KEY, private)
    (cluster / CERTIFICATE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def server(cluster: Path) -> str:
    """The address of a cluster's API server, from the kubeconfig that kwokctl keeps for itself."""
    document: Any = yaml.safe_load((cluster / "kubeconfig.yaml").read_text())
    return document["clusters"][0]["cluster"]["server"]


def write(path: Path, clusters: Sequence[Path]) -> None:
    """Write the kubeconfig for the clusters in these folders.

    No context is made the current one, so that a command which names none fails instead of landing somewhere.
    """
    users = {cluster.name: f"{DEPLOYER}@{cluster.name}" for cluster in clusters}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster.name,
                "cluster": {
                    "server": server(cluster),
                    "certificate-authority-data": _encoded(cluster / "pki/ca.crt"),
                },
            }
            for cluster in clusters
        ],
        "users": [
            {
                "name": users[cluster.name],
                "user": {
                    "client-certificate-data": _encoded(cluster / CERTIFICATE),
                    "client-key-data": _encoded(cluster / KEY),
                },
            }
            for cluster in clusters
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}} for name, user in users.items()],
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    part.replace(path)


def _encoded(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()
