from serve_app.embedding.sample_texts import MODULES, module_docstrings, sample_texts


def test_the_same_texts_each_time_and_as_many_as_asked() -> None:
    texts = sample_texts(300)
    assert len(texts) == 300
    assert len(set(texts)) > 280
    assert sample_texts(300) == texts


def test_every_module_is_there() -> None:
    assert [module for module in MODULES if not any(module_docstrings(module))] == []
    assert list(module_docstrings("absent")) == []
