"""See the package."""

import ctypes
import os
import sys
import time
from pathlib import Path

import numpy as np


class Interpreter:
    """One float32 input of shape (1, 2), one output that is the same."""

    def __init__(self, model_path, num_threads):
        data = Path(model_path).read_bytes()
        # a real model is run as one that does well: the agent tries a runtime with one
        self.word = "fine" if data[4:8] == b"TFL3" else data.decode("ascii")
        self.threads = num_threads
        self.value = np.zeros((1, 2), np.float32)
        self.hoard = []
        sys.stdout.write("noise on standard output\n")
        sys.stdout.flush()
        os.write(1, b'{"type": "Done"}\n')
        sys.stderr.write("noise on standard error\n")
        if self.word == "refuse":
            raise ValueError("model is not a model")
        if self.word == "many":
            sys.stderr.write("line\n" * 100_000)

    def get_input_details(self):
        return [self._detail("x")]

    def get_output_details(self):
        return [self._detail("y")]

    def allocate_tensors(self):
        pass

    def set_tensor(self, index, value):
        assert index == 0
        self.value = value

    def get_tensor(self, index):
        assert index == 0
        return self.value

    def invoke(self):
        getattr(self, "_" + self.word.partition(" ")[0])()

    def _fine(self):
        time.sleep(0.001)

    _many = _fine

    def _crash(self):
        ctypes.string_at(0)

    def _abort(self):
        os.abort()

    def _hang(self):
        time.sleep(3600)

    def _leave(self):
        os._exit(7)

    def _bug(self):
        raise KeyError("a bug")

    def _fail(self):
        raise RuntimeError("node 3 failed to invoke")

    def _hog(self):
        while True:
            self.hoard.append(b"x" * (8 << 20))
            time.sleep(0.001)

    def _greedy(self):
        raise MemoryError

    def _murdered(self):
        os.kill(os.getpid(), 9)

    def _family(self):
        """Start a process that outlives this one unless somebody sees to it."""
        parent = os.getpid()
        if not os.fork():
            while os.getppid() == parent:  # an orphan is not left behind by the tests
                time.sleep(0.1)
            os._exit(0)
        pid_file = self.word.partition(" ")[2]
        Path(pid_file).write_text(str(os.getpid()), "ascii")
        time.sleep(3600)

    def _detail(self, name):
        return {
            "name": name,
            "index": 0,
            "shape": np.array([1, 2], np.int32),
            "shape_signature": np.array([1, 2], np.int32),
            "dtype": np.float32,
            "quantization": (0.0, 0),
        }
