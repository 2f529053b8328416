"""A stand-in for TFLite's ``benchmark_model``, for tests where no Android runs.

It really loads the model with LiteRT (or tflite-runtime) and runs it: the times are real, the
program is not. It takes the flags and prints the lines of the real one (tensorflow/lite/tools/
benchmark); for delegates it says what the real one says when they take nothing, since it has none.
``--stand_in=WORDS`` makes it behave like other builds: ``old`` (before 2.3: no percentiles, no
output file, other summary), ``crash``, ``hang``, ``silent``, ``wrong`` (other answers),
``contradict``.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

DEFAULTS = {
    "graph": "", "num_runs": "50", "min_secs": "1", "max_secs": "150", "warmup_runs": "1",
    "warmup_min_secs": "0.5", "num_threads": "-1", "input_layer": "", "input_layer_shape": "",
    "input_layer_value_files": "", "output_filepath": "", "report_peak_memory_footprint": "false",
    "enable_op_profiling": "false", "use_xnnpack": "true", "use_gpu": "false",
    "use_nnapi": "false", "stand_in": "",
}  # fmt: skip


def main() -> int:
    flags, unknown = read_flags(sys.argv[1:])
    old = "old" in flags["stand_in"].split(",")
    say = tell if old else tell_info
    say("STARTING!")
    if old:
        flags["output_filepath"] = ""
    elif unknown:
        tell(f"WARN: Unconsumed cmdline flags: {' '.join(unknown)}")
    say(f"Graph: [{flags['graph']}]")
    start_mib, start = rss_mib(), time.perf_counter()
    try:
        interpreter = Interpreter(flags["graph"], num_threads=max(1, int(flags["num_threads"])))
    except (ValueError, RuntimeError) as error:
        tell(f"ERROR: Failed to mmap model {flags['graph']}: {error}")
        tell("ERROR: Benchmarking failed.")
        return 1
    say(f"Loaded model {flags['graph']}")
    interpreter.allocate_tensors()
    tell_delegates(flags, say)
    init_us, init_mib = (time.perf_counter() - start) * 1e6, rss_mib() - start_mib
    say(f"Initialized session in {init_us / 1e3:g}ms.")
    misbehave(flags["stand_in"].split(","))
    feed = inputs(interpreter, flags)
    series = []
    for runs, seconds in (("warmup_runs", "warmup_min_secs"), ("num_runs", "min_secs")):
        say(f"Running benchmark for at least {flags[runs]} iterations and at least {flags[seconds]}"
            f" seconds but terminate if exceeding {flags['max_secs']} seconds.")  # fmt: skip
        series.append(run(interpreter, feed, int(flags[runs]), float(flags[seconds])))
        if "silent" in flags["stand_in"] and len(series) > 1:
            return 0
        say(stat(series[-1], old=old) + "\n")
    summary = tell_old_summary if old else tell_summary
    summary(series, init_us, flags)
    if not old:
        tell_memory(init_mib, rss_mib() - start_mib, flags)
    write_outputs(interpreter, flags["output_filepath"], wrong="wrong" in flags["stand_in"])
    return 0


def tell_delegates(flags: dict[str, str], say: Callable[[str], None]) -> None:
    if flags["use_xnnpack"] == "true":
        say("Created TensorFlow Lite XNNPACK delegate for CPU.")
    for name in ("gpu", "nnapi"):
        if flags[f"use_{name}"] == "true":
            say(f"Though {name.upper()} delegate is explicitly applied, the model graph will not be"
                " executed by the delegate.")  # fmt: skip


def misbehave(ways: list[str]) -> None:
    if "crash" in ways:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in ways:
        time.sleep(3600)


def tell_summary(series: list[list[int]], init_us: float, flags: dict[str, str]) -> None:
    warmup, measured = series
    mean = np.mean(measured) * (2 if "contradict" in flags["stand_in"] else 1)
    tell_info(f"Inference timings in us: Init: {init_us:.0f}, First inference: {warmup[0]},"
              f" Warmup (avg): {np.mean(warmup):g}, Inference (avg): {mean:g}")  # fmt: skip


def tell_old_summary(series: list[list[int]], init_us: float, _: dict[str, str]) -> None:
    warmup, measured = series
    tell(f"Average inference timings in us: Warmup: {np.mean(warmup):g}, Init: {init_us:.0f},"
         f" no stats: {np.mean(measured):g}")  # fmt: skip


def tell_memory(init_mib: float, overall_mib: float, flags: dict[str, str]) -> None:
    tell_info("Note: as the benchmark tool itself affects memory footprint, the following is only"
              " APPROXIMATE to the actual memory footprint of the model at runtime. Take the"
              " information at your discretion.")  # fmt: skip
    tell_info("Memory footprint delta from the start of the tool (MB):"
              f" init={init_mib:g} overall={overall_mib:g}")  # fmt: skip
    if flags["report_peak_memory_footprint"] == "true":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tell_info(f"Overall peak memory footprint (MB) via periodic monitoring: {peak:g}")


def read_flags(words: list[str]) -> tuple[dict[str, str], list[str]]:
    flags, unknown = dict(DEFAULTS), []
    for word in words:
        key, _, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and key in flags:
            flags[key] = value
        else:
            unknown.append(word)
    return flags, unknown


def inputs(interpreter: Interpreter, flags: dict[str, str]) -> dict[int, np.ndarray]:
    """The value of each input, by its index."""
    found = {}
    noise = np.random.default_rng(0)
    files = dict(
        pair.replace("::", "\0").split(":") for pair in flags["input_layer_value_files"].split(",")
        if pair
    )  # fmt: skip
    files = {name.replace("\0", ":"): path.replace("\0", ":") for name, path in files.items()}
    names = flags["input_layer"].split(",")
    for place, tensor in enumerate(interpreter.get_input_details()):
        shape, dtype = tensor["shape"], tensor["dtype"]
        path = files.get(names[place]) if place < len(names) else None
        if path and names[place] != tensor["name"]:
            tell(f"WARN: Tensor # {place} is named {tensor['name']} but flags call it"
                  f" {names[place]}")  # fmt: skip
        if path:
            value = np.fromfile(path, dtype=dtype).reshape(shape)
        elif np.dtype(dtype).kind == "f":
            value = noise.uniform(-0.5, 0.5, shape).astype(dtype)
        else:
            value = noise.integers(-127, 127, shape).astype(dtype)
        found[tensor["index"]] = value
    return found


def run(interpreter: Interpreter, feed: dict, count: int, seconds: float) -> list[int]:
    times: list[int] = []
    start = time.perf_counter()
    while len(times) < count or time.perf_counter() - start < seconds:
        for index, value in feed.items():  # an invocation may overwrite them
            interpreter.set_tensor(index, value)
        before = time.perf_counter_ns()
        interpreter.invoke()
        times.append((time.perf_counter_ns() - before) // 1000)
    return times


def stat(times: list[int], *, old: bool) -> str:
    if min(times) == max(times):
        told = f"count={len(times)} curr={times[-1]}" + ("(all same)" if len(times) > 1 else "")
    else:
        told = (
            f"count={len(times)} first={times[0]} curr={times[-1]} min={min(times)}"
            f" max={max(times)} avg={np.mean(times):g} std={int(np.std(times))}"
        )
    if old:
        return told
    ordered = sorted(times)
    p5, median, p95 = (ordered[len(times) * percent // 100] for percent in (5, 50, 95))
    return f"{told} p5={p5} median={median} p95={p95}"


def write_outputs(interpreter: Interpreter, path: str, *, wrong: bool) -> None:
    if not path:
        return
    with Path(path).open("wb") as file:
        for tensor in interpreter.get_output_details():
            value = interpreter.get_tensor(tensor["index"])
            file.write((value[..., ::-1] if wrong else value).tobytes())


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20)


def tell(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def tell_info(text: str) -> None:
    tell(f"INFO: {text}")


if __name__ == "__main__":
    sys.exit(main())
