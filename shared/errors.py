"""Every error a caller can see.

HubError                          500 server_error
├── InvalidRequest                400 invalid_request_error
│   ├── MissingParameter          400 missing_required_parameter
│   ├── InvalidType               400 invalid_type
│   ├── InvalidValue              400 invalid_value
│   ├── UnsupportedParameter      400 unsupported_parameter
│   ├── UnsupportedValue          400 unsupported_value
│   ├── ContextLengthExceeded     400 context_length_exceeded
│   ├── InvalidApiKey             401 invalid_api_key
│   ├── PermissionDenied          403 insufficient_permissions
│   │   └── ModelNotAllowed       403 model_not_allowed
│   ├── NotFound                  404
│   │   └── ModelNotFound         404 model_not_found
│   ├── Conflict                  409 conflict
│   ├── MethodNotAllowed          405
│   ├── BodyTooLarge              413
│   ├── RangeNotSatisfiable       416
│   ├── StorageExhausted          400 storage_quota_exceeded
│   └── ClientClosed              499 client_closed_request (log only)
├── RateLimited                   429 rate_limit_exceeded
│   └── QueueFull                 429 rate_limit_exceeded
├── BudgetExhausted               429 insufficient_quota
├── EngineFailed                  500 engine_failed
├── Unavailable                   503 server_is_overloaded
│   ├── ShuttingDown              503 shutting_down
│   ├── QueueUnavailable          503 queue_unavailable
│   └── ModelUnavailable          503 model_unavailable
└── RequestTimeout                504 request_timeout
"""

from __future__ import annotations

from typing import ClassVar

from shared.wire.event import Failed


class HubError(Exception):
    """Something in the hub broke; the message says what."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def failed(self) -> Failed:
        """The same error as a reply item."""
        return Failed(self.status, self.type, self.code, self.param, self.message, self.retry_after)


class InvalidRequest(HubError):
    status = 400
    type = "invalid_request_error"


class MissingParameter(InvalidRequest):
    code = "missing_required_parameter"


class InvalidType(InvalidRequest):
    code = "invalid_type"


class InvalidValue(InvalidRequest):
    code = "invalid_value"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class UnsupportedValue(InvalidRequest):
    code = "unsupported_value"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class InvalidApiKey(InvalidRequest):
    status = 401
    code = "invalid_api_key"


class PermissionDenied(InvalidRequest):
    status = 403
    code = "insufficient_permissions"


class ModelNotAllowed(PermissionDenied):
    code = "model_not_allowed"


class NotFound(InvalidRequest):
    status = 404


class ModelNotFound(NotFound):
    code = "model_not_found"


class Conflict(InvalidRequest):
    status = 409
    code = "conflict"


class MethodNotAllowed(InvalidRequest):
    status = 405


class BodyTooLarge(InvalidRequest):
    status = 413


class RangeNotSatisfiable(InvalidRequest):
    status = 416


class StorageExhausted(InvalidRequest):
    """No 429: asking again does not help until something is deleted."""

    code = "storage_quota_exceeded"


class ClientClosed(InvalidRequest):
    status = 499
    code = "client_closed_request"


class RateLimited(HubError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class QueueFull(RateLimited):
    """It is the hub that has no room, not the caller who asks too often."""


class BudgetExhausted(HubError):
    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"


class EngineFailed(HubError):
    code = "engine_failed"


class Unavailable(HubError):
    status = 503
    code = "server_is_overloaded"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class QueueUnavailable(Unavailable):
    code = "queue_unavailable"


class ModelUnavailable(Unavailable):
    code = "model_unavailable"


class RequestTimeout(HubError):
    status = 504
    code = "request_timeout"
