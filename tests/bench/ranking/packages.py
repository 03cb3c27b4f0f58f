"""Long documents that every machine has, and queries with one relevant document each: the sentence with which a package
or module describes itself. The sentence is removed from the document."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from importlib.metadata import distributions

from jobs.evaluate.beir import Dataset
from serve_app.types import Document
from tests.bench.corpus import package_documents
from tests.bench.ranking.index import SEED

MIN_CHARS = 1_500  # shortest document, so that it has several passages
MIN_WORDS = 4  # shortest query
FIRST_SENTENCE = re.compile(r"\A# \S+\n\n([^#`>|*\n][^.\n]*(?:\n[^#\n.][^.\n]*)*)\.?(?:\n\n|\s)")


def package_summaries(questions: int) -> Dataset:
    """All documents of the installed packages, and queries for long ones, sampled uniformly."""
    summaries = {
        re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): one.metadata["Summary"] or "" for one in distributions()
    }
    documents: list[Document] = []
    asked: dict[str, str] = {}
    for document in package_documents():
        package, _, part = document.id.partition("/")
        question = summaries.get(package, "") if part == "README" else module_sentence(document.text)
        text = without(question, document.text)
        documents.append(replace(document, text=text, title=""))
        if len(text) >= MIN_CHARS and len(question.split()) >= MIN_WORDS:
            asked[document.id] = question
    chosen = random.Random(SEED).sample(sorted(asked), min(questions, len(asked)))
    return Dataset(
        "installed packages",
        tuple(document for document in documents if document.text.strip()),
        {id: asked[id] for id in chosen},
        {id: {id: 1} for id in chosen},
    )


def module_sentence(text: str) -> str:
    found = FIRST_SENTENCE.match(text)
    return " ".join(found[1].split()) if found else ""


def without(sentence: str, text: str) -> str:
    """The text without the sentence, wherever its lines are broken."""
    words = sentence.split()
    return re.sub(r"\s+".join(map(re.escape, words)), "", text) if words else text
