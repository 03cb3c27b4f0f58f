"""Every error that ai-docs raises on purpose. All subclasses of PlatformError are defined here: an error may cross a
process boundary, and the process that receives it must be able to import its class.

PlatformError
├── ConfigurationError         a setting, a path or a machine is unusable; the service refuses to start
├── InvalidInput               the caller can correct the request
│   ├── UnreadableDocument     a file or a text cannot be split into passages
│   ├── PayloadTooLarge        the body is over the limit
│   ├── MalformedJson          the body is not JSON
│   └── UnsupportedMediaType   the body's Content-Type is not JSON
├── NotFound                   no such collection, document or model
├── Conflict                   the request is valid but does not fit the state, such as a collection of another model
│   └── ActiveIndexChanged     another reindexing has activated an index in the meantime
├── Overloaded                 nothing was done; try again later
├── DeadlineExceeded           not finished in time
├── VerificationFailed         a new index lacks documents, or ranks worse than the old one
└── Unavailable                a required part does not respond
    ├── StoreUnavailable
    │   ├── StoreLocked        another process owns the store's folder
    │   ├── StoreBroken        the store's process must be restarted
    │   └── StoreFull          the store's disk has no room for the write
    ├── StateUnavailable       releases, flags, consents and keys cannot be read or changed
    └── EngineUnavailable

Each adapter translates its library's errors into these; `api/problems.py` maps them to HTTP.
"""


class PlatformError(Exception):
    """Base of all errors. `code` is stable and for programs, `title` is for people, `str(error)` says what to do."""

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


class MalformedJson(InvalidInput):
    code, title = "malformed-json", "Malformed JSON"


class UnsupportedMediaType(InvalidInput):
    code, title = "unsupported-media-type", "Unsupported media type"


class NotFound(PlatformError):
    code, title = "not-found", "Not found"


class Conflict(PlatformError):
    code, title = "conflict", "Conflict"


class ActiveIndexChanged(Conflict):
    """Another reindexing has activated its index, which has writes that the index of this reindexing lacks."""

    code, title = "active-index-changed", "Active index changed"


class Overloaded(PlatformError):
    code, title = "overloaded", "Overloaded"

    def __init__(self, detail: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = max(retry_after_s, 1.0)


class DeadlineExceeded(PlatformError):
    code, title = "deadline-exceeded", "Deadline exceeded"


class VerificationFailed(PlatformError):
    """The new index failed its checks. The old index stays active."""

    code, title = "verification-failed", "Verification failed"


class Unavailable(PlatformError):
    code, title = "unavailable", "Unavailable"


class StoreUnavailable(Unavailable):
    code, title = "store-unavailable", "Store unavailable"


class StoreLocked(StoreUnavailable):
    code, title = "store-locked", "Store locked by another process"


class StoreBroken(StoreUnavailable):
    """The store's engine is in an unknown state. A new process can read everything that was acknowledged."""


class StoreFull(StoreUnavailable):
    """The write was not done, or only in part. Repeat it once there is room. Open collections can still be searched."""


class StateUnavailable(Unavailable):
    code, title = "state-unavailable", "State unavailable"


class EngineUnavailable(Unavailable):
    code, title = "engine-unavailable", "Engine unavailable"
