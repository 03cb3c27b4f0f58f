from serve_app.embedding.calibration import MODULES, calibration_texts, module_docstrings


def test_the_same_texts_each_time_and_as_many_as_asked() -> None:
    assert len(calibration_texts(300)) == 300
    assert calibration_texts(300) == calibration_texts(300)
    assert len(set(calibration_texts(300))) > 280


def test_every_module_is_there() -> None:
    assert [module for module in MODULES if not any(module_docstrings(module))] == []
    assert list(module_docstrings("absent")) == []
