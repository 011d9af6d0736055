"""How long the certificate that an edge has is good."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kubeedge_tx.errors import CertificateError
from kubeedge_tx.keadm.probes import Result
from kubeedge_tx.security.authority import GRACE_DAYS, load_certificate
from kubeedge_tx.security.files import pem_to_der

_JOIN: Final = (
    "set modules.edgeHub.token to what `keadm gettoken` prints at the cloud, or join again"
)


def certificate(file: Path, now: float) -> Result:
    """The certificate has not ended, or can still renew itself.

    :param now: seconds since 1970.
    """
    try:
        der = pem_to_der(file.read_bytes(), "CERTIFICATE", str(file))
        ends = load_certificate(der, str(file)).not_valid_after_utc
    except FileNotFoundError:
        return Result("certificate", "skip", "none yet; joining gets one")
    except (OSError, CertificateError) as error:
        return Result("certificate", "fail", f"{file}: {error}", _JOIN)
    days = (ends.timestamp() - now) / 86_400
    if days >= 0:
        return Result("certificate", "ok", f"ends {ends:%Y-%m-%d}, in {days:.0f} days")
    text = f"ended {ends:%Y-%m-%d}, {-days:.0f} days ago"
    if -days <= GRACE_DAYS:
        return Result(
            "certificate",
            "warn",
            f"{text}; it renews itself as soon as the cloud can be reached",
            f"do not wait longer than {GRACE_DAYS} days from its end",
        )
    return Result("certificate", "fail", f"{text}: too long ago to renew itself", _JOIN)
