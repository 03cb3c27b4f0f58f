"""One file per family of formats. Each reader takes a path and the document's id and yields results lazily."""
