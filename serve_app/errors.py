"""Every error that ai-docs raises on purpose. All subclasses of PlatformError are here and nowhere else: any of them
may cross a process, and the process that receives it must be able to import it.

PlatformError
├── ConfigurationError         a setting, a path or a machine that cannot work; stops the start
├── InvalidInput               the caller can mend the request
│   ├── UnreadableDocument     a file or a text that cannot become passages
│   ├── PayloadTooLarge        a body over the limit
│   ├── MalformedJson          a body that is not JSON
│   └── UnsupportedMediaType   a body whose Content-Type is not JSON
├── NotFound                   no such collection, document or model
├── Conflict                   right request, wrong state: a collection made with another model
│   └── ActiveIndexChanged     another reindexing has activated an index in the meantime
├── Overloaded                 try again later; nothing was done
├── DeadlineExceeded           not finished in time
├── VerificationFailed         a new index lacks documents, or ranks worse than the old one
└── Unavailable                a part that is needed does not answer
    ├── StoreUnavailable
    │   ├── StoreLocked        another process owns the store's folder
    │   ├── StoreBroken        the store's process must end and be started again
    │   └── StoreFull          the store's disk has no room for the write
    ├── StateUnavailable       releases, flags, consents and keys cannot be read or changed
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


class MalformedJson(InvalidInput):
    code, title = "malformed-json", "Malformed JSON"


class UnsupportedMediaType(InvalidInput):
    code, title = "unsupported-media-type", "Unsupported media type"


class NotFound(PlatformError):
    code, title = "not-found", "Not found"


class Conflict(PlatformError):
    code, title = "conflict", "Conflict"


class ActiveIndexChanged(Conflict):
    """Another reindexing has activated its index, which has writes that this reindexing's index lacks."""

    code, title = "active-index-changed", "Active index changed"


class Overloaded(PlatformError):
    code, title = "overloaded", "Overloaded"

    def __init__(self, detail: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = max(retry_after_s, 1.0)


class DeadlineExceeded(PlatformError):
    code, title = "deadline-exceeded", "Deadline exceeded"


class VerificationFailed(PlatformError):
    """The new index is not as it should be. The old one stays active."""

    code, title = "verification-failed", "Verification failed"


class Unavailable(PlatformError):
    code, title = "unavailable", "Unavailable"


class StoreUnavailable(Unavailable):
    code, title = "store-unavailable", "Store unavailable"


class StoreLocked(StoreUnavailable):
    code, title = "store-locked", "Store locked by another process"


class StoreBroken(StoreUnavailable):
    """The store's engine is in an unknown state. A new process reads everything that was acknowledged."""


class StoreFull(StoreUnavailable):
    """The write was not done, or only partly: repeat it once there is room. Open collections can still be searched."""


class StateUnavailable(Unavailable):
    code, title = "state-unavailable", "State unavailable"


class EngineUnavailable(Unavailable):
    code, title = "engine-unavailable", "Engine unavailable"
