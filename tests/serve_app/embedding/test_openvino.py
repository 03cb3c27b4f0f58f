"""Details of the OpenVINO backend. test_golden.py and test_engine.py check its vectors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as operations
import pytest

from serve_app.embedding.backends.openvino import quantised_together

# Prints that all have ended; a thread that waits holding the GIL stops every other, this one's timeouts as well.
FIRST_PASSES_AT_ONCE = """
import sys, threading
from pathlib import Path
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import EmbeddingSettings

engine = EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), Path(sys.argv[1]))
encodings = engine.tokenizer.encode(["a few words"])
together = threading.Barrier(32)
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=lambda: (together.wait(), engine.infer(encodings))) for _ in range(32)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("ended")
"""

# Prints that the main thread, which loaded an engine, has handled a signal after another thread let go of the engine.
SIGNAL_AFTER_AN_ENGINE = """
import signal, sys, threading
from pathlib import Path
from serve_app.embedding.engine import EmbeddingEngine
from serve_app.settings import EmbeddingSettings

engines = [EmbeddingEngine.load(EmbeddingSettings(precision="fp32"), Path(sys.argv[1]))]
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize(
    ("widths", "together"),
    [((384, 1_536), 192), ((768, 3_072), 192), ((512, 2_048), 128), ((1_024, 768), 128), ((320,), 64), ((50,), 128)],
)
def test_activations_are_quantised_in_equal_parts_of_every_layer(widths: tuple[int, ...], together: int) -> None:
    layer = tokens = operations.parameter([-1, widths[0]], np.float32)
    for width, following in zip(widths, [*widths[1:], 7], strict=True):
        layer = operations.matmul(layer, np.zeros((following, width), np.float32), False, True)
    scores = operations.matmul(layer, layer, False, True)  # of activations, which have no width to share
    assert quantised_together(ov.Model([scores], [tokens])) == together


@pytest.mark.parametrize("process", range(3))
def test_the_first_passes_of_a_process_may_be_many_at_once(process: int, model_data_dir: Path) -> None:
    """Four of five processes hung where no pass had been made alone before."""
    command = [sys.executable, "-c", FIRST_PASSES_AT_ONCE, str(model_data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ended\n", done.stderr


def test_ctrl_c_after_another_thread_has_let_go_of_the_engine(model_data_dir: Path) -> None:
    """OpenVINO freed the stack on which the main thread takes signals: a segmentation fault."""
    command = [sys.executable, "-c", SIGNAL_AFTER_AN_ENGINE, str(model_data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
