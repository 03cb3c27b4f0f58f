"""One module for each family of formats. A reader takes a path and the document's id, and yields results."""
