"""What the Blob service refuses, and what the operator can do about it.

May import the standard library.
"""

from __future__ import annotations

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""

SKEW = 300.0
"""Seconds that the clocks of client and service may differ; Azure allows fifteen minutes."""

ADVICE = {
    "AuthenticationFailed": "the account key, the shared access signature or the token is not one "
    "of this account, or has run out; compare accountkey with the keys of the account",
    "InvalidAuthenticationInfo": "the credentials are malformed, or of another kind than the "
    "account expects; look at storage.azure.accountkey and storage.azure.credentials",
    "NoAuthenticationInformation": "the service saw no credentials; look at "
    "storage.azure.accountkey and storage.azure.credentials",
    "KeyBasedAuthenticationNotPermitted": "shared keys are switched off for this account; use "
    "credentials.type client_secret or default_credentials",
    "AuthorizationPermissionMismatch": 'the identity lacks permission; give it the role "Storage '
    'Blob Data Contributor" on the container, or sign the shared access signature with racwdl',
    "AuthorizationFailure": "the account's firewall or a missing permission forbids it; allow "
    'this machine\'s network and the role "Storage Blob Data Contributor"',
    "AuthorizationResourceTypeMismatch": "the shared access signature does not cover containers "
    "and blobs; sign it with sr=c, or with srt=co",
    "AuthorizationServiceMismatch": "the shared access signature is not for the Blob service",
    "AuthorizationProtocolMismatch": "the shared access signature allows https only",
    "AuthorizationSourceIPMismatch": "the shared access signature is for other addresses than ours",
    "ContainerNotFound": "create the container, or correct storage.azure.container",
    "ContainerDisabled": "the container is disabled; look at the account",
    "AccountIsDisabled": "the account is disabled; look at the subscription",
    "InvalidBlobType": "another program has written a blob of another type under this name",
    "UnauthorizedBlobOverwrite": "the shared access signature may not overwrite; add w and d to it",
}
"""Sentences for the operator, by error code."""


class AzureError(Exception):
    """A request that did not succeed.

    :param operation: what was tried, in the service's words.
    :param status: the HTTP status, 0 when there was no answer.
    :param code: the service's error code.
    :param request_id: what the service calls the request; its support asks for it.
    :param skew: seconds that this machine's clock is ahead of the service's.
    :param retry_after: seconds that the service asks to wait.
    """

    def __init__(
        self,
        operation: str,
        status: int,
        code: str,
        message: str,
        request_id: str = "",
        skew: float = 0.0,
        retry_after: float = 0.0,
    ) -> None:
        self.operation = operation
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.skew = skew
        self.retry_after = retry_after
        super().__init__(self._text())

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == 0 or self.status in TRANSIENT

    @property
    def advice(self) -> str:
        """What the operator can do; empty where nobody knows."""
        if self.status == 403 and abs(self.skew) > SKEW:
            where = "ahead of" if self.skew > 0 else "behind"
            return (
                f"this machine's clock is {abs(self.skew):.0f} s {where} Azure's; "
                "synchronise it, since signatures are good for minutes only"
            )
        return ADVICE.get(self.code, "")

    def _text(self) -> str:
        answer = f"{self.status} {self.code}" if self.status else self.code
        parts = [f"{self.operation}: {answer}: {self.message}".rstrip(": ")]
        if self.advice:
            parts.append(self.advice)
        if self.request_id:
            parts.append(f"request id {self.request_id}")
        return "; ".join(parts)


class Unreachable(AzureError):
    """There was no answer, or not all of it."""

    def __init__(self, operation: str, message: str) -> None:
        super().__init__(operation, 0, "no answer", message)
