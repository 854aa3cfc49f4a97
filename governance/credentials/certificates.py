"""The certificates behind content credentials: a root of the home's own, and below it the leaf that signs.

C2PA demands of the leaf a critical key usage of digital signature alone, an extended key usage for claims, both key identifiers,
and that it is no authority. A claim is judged at the time of reading, since no time-stamping authority is asked; so both
certificates last longer than what is signed is likely to be of interest. Neither names a person, a host or an organisation.
"""

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from governance.errors import IntegrityError

C2PA_CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"
_VALID_YEARS = 25
_LEAF_YEARS = 20
_YEAR = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)
_SHOWN_DIGITS = 16


def root_certificate(key: ec.EllipticCurvePrivateKey, *, now: datetime) -> x509.Certificate:
    """Returns the certificate of a root, signed by itself.

    Args:
        key: The root's key.
        now: From when it is valid, with a time zone.
    """
    name = _name("root", key.public_key())
    builder = _builder(name, name, key.public_key(), now, _VALID_YEARS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def leaf_certificate(
    public_key: ec.EllipticCurvePublicKey, *, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, now: datetime
) -> x509.Certificate:
    """Returns the certificate of a key that signs claims.

    Args:
        public_key: The key.
        root: Who issues it.
        root_key: The issuer's key.
        now: From when it is valid, with a time zone.
    """
    builder = _builder(_name("claims", public_key), root.subject, public_key, now, _LEAF_YEARS)
    usages = [ObjectIdentifier(C2PA_CLAIM_SIGNING), ExtendedKeyUsageOID.EMAIL_PROTECTION]  # the latter for older readers
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    issuer = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
    return builder.sign(root_key, hashes.SHA256())


def certificate_pem(certificate: x509.Certificate) -> str:
    """Returns a certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM).decode()


def parse_certificate(pem: str) -> x509.Certificate:
    """Returns the one certificate of a PEM text.

    Raises:
        IntegrityError: It holds none, or more than one.
    """
    try:
        (certificate,) = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise IntegrityError("there is not one certificate in PEM") from error
    return certificate


def check_issued(certificate: x509.Certificate, root: x509.Certificate) -> None:
    """Checks that a root has issued a certificate.

    Raises:
        IntegrityError: It has not.
    """
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise IntegrityError("the certificate of content credentials is not issued by the home's root") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, years: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + years * _YEAR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(role: str, public_key: ec.EllipticCurvePublicKey) -> x509.Name:
    """Returns a name that no other home's certificate has: it ends in digits of the key's fingerprint."""
    digits = hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    common_name = f"groundswell content credentials {role} {digits[:_SHOWN_DIGITS]}"
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "groundswell"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
