"""The certificates of a real node: one authority of its own, and who is known by it."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass(slots=True)
class Authority:
    """Signs certificates into one folder: NAME.crt and NAME.key, its own as ca.crt."""

    folder: Path
    _key: ec.EllipticCurvePrivateKey
    _name: x509.Name

    @classmethod
    def new(cls, folder: Path) -> "Authority":
        """An authority with a new key."""
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(
            folder=folder, _key=ec.generate_private_key(ec.SECP256R1()), _name=_named("llmb")
        )
        usage = x509.BasicConstraints(ca=True, path_length=None)
        certificate = made._begun(made._name, made._key).add_extension(usage, critical=True)
        made._write("ca", made._key, certificate)
        return made

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def issue(
        self,
        name: str,
        *,
        common: str,
        group: str = "",
        hosts: tuple[str, ...] = (),
    ) -> tuple[Path, Path]:
        """A certificate for a client, or for a server of these hosts. Its file and its key's.

        `common` and `group` are the user and the group that Kubernetes takes it for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        begun = self._begun(_named(common, group=group), key)
        begun = begun.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
            begun = begun.add_extension(alternatives, critical=False)
        return self._write(name, key, begun)

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
        )

    def _write(
        self, name: str, key: ec.EllipticCurvePrivateKey, begun: x509.CertificateBuilder
    ) -> tuple[Path, Path]:
        signed = begun.sign(self._key, hashes.SHA256())
        certificate, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        # NB: the API server takes the public half out of this older form only, not out of PKCS 8.
        form = serialization.PrivateFormat.TraditionalOpenSSL
        plain = serialization.NoEncryption()
        secret.touch(mode=0o600)
        secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        return certificate, secret


def _named(common: str, *, group: str = "") -> x509.Name:
    told = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if group:
        told.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    return x509.Name(told)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
