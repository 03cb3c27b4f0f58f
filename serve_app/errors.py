"""Every error that ai-docs raises on purpose.

PlatformError
├── ConfigurationError      a setting, a path or a machine that cannot work; stops the start
├── InvalidInput            the caller can mend the request
│   ├── UnreadableDocument  a file or a text that cannot become passages
│   └── PayloadTooLarge     a body over the limit
├── NotFound                no such collection, document or model
├── Conflict                right request, wrong state: a collection made with another model
├── Overloaded              try again later; nothing was done
├── DeadlineExceeded        not finished in time
└── Unavailable             a part that is needed does not answer
    ├── StoreUnavailable
    │   └── StoreLocked     another process owns the store's folder
    └── EngineUnavailable

Adapters translate their library's errors into these at the seam; `api/problems.py` maps them to HTTP.
"""


class PlatformError(Exception):
    """Base of all. `code` is stable and for machines, `title` is for people, `str(error)` says what to do."""

    code = "internal"
    title = "Internal error"


class ConfigurationError(PlatformError):
    code, title = "configuration", "Configuration error"


class InvalidInput(PlatformError):
    code, title = "invalid-input", "Invalid input"


class UnreadableDocument(InvalidInput):
    code, title = "unreadable-document", "Unreadable document"


class PayloadTooLarge(InvalidInput):
    code, title = "payload-too-large", "Payload too large"


class NotFound(PlatformError):
    code, title = "not-found", "Not found"


class Conflict(PlatformError):
    code, title = "conflict", "Conflict"


class Overloaded(PlatformError):
    code, title = "overloaded", "Overloaded"

    def __init__(self, detail: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = max(retry_after_s, 1.0)


class DeadlineExceeded(PlatformError):
    code, title = "deadline-exceeded", "Deadline exceeded"


class Unavailable(PlatformError):
    code, title = "unavailable", "Unavailable"


class StoreUnavailable(Unavailable):
    code, title = "store-unavailable", "Store unavailable"


class StoreLocked(StoreUnavailable):
    code, title = "store-locked", "Store locked by another process"


class EngineUnavailable(Unavailable):
    code, title = "engine-unavailable", "Engine unavailable"
