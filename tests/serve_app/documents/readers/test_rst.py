from __future__ import annotations

from tests.serve_app.documents.readers.conftest import Read, only

SOURCE = """
=========
The Title
=========

Intro with ``code``, :func:`~a.b.c`, :ref:`a page <target>`, `a link <http://x>`_ and |name|.

.. |name| replace:: substituted
.. a comment

Install
-------

.. note:: Take care.

.. versionadded:: 3.2
   New :class:`Foo`.

.. code-block:: python
   :caption: not known to docutils

   x = 1

Then::

    literal

Linux
~~~~~

- item
  goes on
- last

1. a
2. b

term
   Its definition.

=====  =====
A      B
=====  =====
1      2
3      4
=====  =====

.. toctree::

   file
.. include:: /etc/passwd
"""


def test_structure_becomes_markdown(read: Read) -> None:
    document = only(read("a.rst", SOURCE))
    assert document.title == "The Title"
    assert document.text.split("\n\n") == [
        "# The Title",
        "Intro with code, a.b.c, a page, a link and substituted.",
        "## Install",
        "Take care.",
        "versionadded 3.2",
        "New Foo.",
        "```python\nx = 1\n```",
        "Then:",
        "```\nliteral\n```",
        "### Linux",
        "- item goes on\n- last",
        "1. a\n2. b",
        "- term: Its definition.",
        "| A | B |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |",
    ]


def test_sections_without_a_title_begin_at_level_1(read: Read) -> None:
    document = only(read("a.rst", "A\n=\n\nx\n\nB\n=\n\ny\n"))
    assert (document.title, document.text) == ("a", "# A\n\nx\n\n# B\n\ny")


def test_broken_markup_keeps_its_words(read: Read) -> None:
    text = only(
        read("a.rst", "A *broken `mess |of [markup_\n\n.. unknown-thing:: argument\n   :option: x\n\n   body words\n")
    ).text
    assert all(word in text for word in ("broken", "mess", "markup", "unknown-thing argument", "body words"))


def test_what_docutils_cannot_read_is_its_own_text(read: Read) -> None:
    deep = "".join(" " * depth + "x\n\n" for depth in range(400))
    assert only(read("a.rst", deep)).text.count("x") == 400
    assert only(read("a.rst", ".. all of it\n   a comment\n")).text == ".. all of it\n   a comment\n"
    assert len(only(read("a.rst", "word " * 10_000)).text) > 49_000  # one line


def test_files_are_not_included(read: Read) -> None:
    document = only(
        read("a.rst", "Text.\n\n.. csv-table:: T\n   :file: /etc/passwd\n\n.. raw:: html\n   :file: /etc/passwd\n")
    )
    assert "root:" not in document.text


def test_only_options_of_a_directive_are_left_out(read: Read) -> None:
    source = """T
=

.. versionchanged:: 3.5
   :func:`winch` now lifts a tonne.
   It was weaker before.

.. function:: lift(w)
   :no-index:
   :deprecated: yes

   Lifts.

   :returns: the height in metres
"""
    assert only(read("a.rst", source)).text.split("\n\n") == [
        "# T",
        "versionchanged 3.5",
        "winch now lifts a tonne. It was weaker before.",
        "function lift(w)",
        "Lifts.",
        ":returns: the height in metres",
    ]
