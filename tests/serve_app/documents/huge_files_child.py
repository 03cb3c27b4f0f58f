"""`python -m tests.serve_app.documents.huge_files_child FOLDER`: read all files of the folder. Prints as JSON the
results of each file and the peak memory that reading added to this process and its children."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from serve_app.documents.reading_process import ReadingProcess
from serve_app.types import Document


def peak_bytes(who: int) -> int:
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(folder: Path) -> None:
    reader = ReadingProcess()
    small = folder / "small.html"
    small.write_text("<p>text")
    assert [type(one) for one in reader.read(small, folder)] == [Document]  # all is loaded
    small.unlink()
    own_bytes = peak_bytes(resource.RUSAGE_SELF)
    results = {
        path.name: [one.id if isinstance(one, Document) else one.error for one in reader.read(path, folder)]
        for path in sorted(folder.iterdir())
    }
    reader.close()
    print(
        json.dumps(
            {
                "results": results,
                "own_bytes": peak_bytes(resource.RUSAGE_SELF) - own_bytes,
                "reader_bytes": peak_bytes(resource.RUSAGE_CHILDREN) - own_bytes,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
