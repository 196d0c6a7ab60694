"""The relay's certificate."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Never

from engine.errors import ConfigError


def tls_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """TLS 1.2 and up, with a certificate.

    Args:
        certificate: it and its chain, PEM.
        key: PEM; in the certificate's file where None.

    Raises:
        ConfigError: a file is missing, holds something else, or the two do not belong together.
    """
    for path in (certificate, key):
        if path is None:
            continue
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise ConfigError(
                f"{path} can't be read ({error.strerror}); check the path."
            ) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password of ours OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise ConfigError(_why_not(error, certificate, key or certificate)) from error
    return context


def _no_password() -> Never:
    raise ConfigError("The TLS key has a password; the relay needs one without.")


def _why_not(error: ssl.SSLError, certificate: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"The key {key} does not belong to the certificate {certificate}; name its own key."
    return (
        f"{certificate} and {key} hold no certificate with its key in PEM form"
        f" ({error.reason or 'unreadable'}); name such files."
    )
