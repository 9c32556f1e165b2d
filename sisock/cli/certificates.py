"""A local certificate authority and a server certificate, for a site without public names."""

import ipaddress
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sisock.errors import BadRequest
from sisock.times import SYSTEM_CLOCK

# Current clients refuse server certificates that are valid for longer.
_SERVER_DAYS = 825
_CA_DAYS = 3650


def make_certificates(folder: Path, names: Sequence[str] = ()) -> None:
    """Make ``ca.pem``, ``ca.key``, ``server.pem`` and ``server.key`` in `folder`; only the owner can read the keys.

    Parameters
    ----------
    folder : Path
        Created if it does not exist.
    names : sequence of str
        Host names and addresses that clients use; the certificate always includes ``localhost``, ``127.0.0.1``, ``::1``
        and this machine's name.

    Raises
    ------
    BadRequest
        If one of the files exists, or a name is invalid.
    """
    files = {name: folder / name for name in ("ca.key", "ca.pem", "server.key", "server.pem")}
    if there := [str(path) for path in files.values() if path.exists()]:
        raise BadRequest(f"{', '.join(there)} exists already; move it away to make new certificates")
    alternatives = [
        _general_name(name)
        for name in dict.fromkeys([*names, "localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()])
    ]
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca, server = _signed(ca_key, server_key, names[0] if names else "localhost", alternatives)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for name, key in (("ca.key", ca_key), ("server.key", server_key)):
            _write(files[name], key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        for name, certificate in (("ca.pem", ca), ("server.pem", server)):
            _write(files[name], certificate.public_bytes(Encoding.PEM), 0o644)
    except BaseException:
        for path in files.values():
            path.unlink(missing_ok=True)  # an incomplete set is useless, and would prevent a new one
        raise


def _signed(
    ca_key: ec.EllipticCurvePrivateKey,
    server_key: ec.EllipticCurvePrivateKey,
    name: str,
    alternatives: Sequence[x509.GeneralName],
) -> tuple[x509.Certificate, x509.Certificate]:
    """Return the certificate of the authority, and that of the server, which the authority has signed."""
    now = datetime.fromtimestamp(SYSTEM_CLOCK.now() - 300.0, UTC)  # clocks of a site differ a little
    ca_name = _name("sisock site authority")
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        x509.CertificateBuilder()
        .subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(ca_name)
        .public_key(server_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=_SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(server_key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return ca, server


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise BadRequest(f"{name!r} is not a valid host name in a certificate; give its ASCII form") from error


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
