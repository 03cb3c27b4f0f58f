"""`make docs` or `python -m docs.generate`: writes docs/reference/ from the code that it describes.

A test compares the committed pages with what this writes, so that they are never out of date.
"""

from __future__ import annotations

from docs.generate.pages import PAGES, REFERENCE


def main() -> None:
    for name, render in PAGES.items():
        (REFERENCE / name).write_text(render())
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
