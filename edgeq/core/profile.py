"""What a kind of device is, and how to convert and measure for it."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from edgeq.core import cpulist

Architecture = Literal["aarch64", "armv7l", "armv6l", "x86_64", "i686", "riscv64"]
Format = Literal["tflite", "onnx"]
Precision = Literal["int8", "int8-dynamic", "int16x8", "int4-weights", "fp16", "mixed", "float32"]
RuntimeKind = Literal["litert", "tflite_runtime", "onnxruntime", "benchmark_model"]
Provider = Literal["TensorRT", "CUDA", "XNNPACK", "CPU"]
TensorType = Literal["float32", "int8", "uint8"]
Delegate = Literal["cpu", "none", "xnnpack", "gpu", "nnapi", "hexagon"]
RUNTIMES: dict[Format, tuple[RuntimeKind, ...]] = {
    "tflite": ("litert", "tflite_runtime", "benchmark_model"),
    "onnx": ("onnxruntime",),
}
_VERSION_PATTERN = r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$"
_SOURCE_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
_FLAG_PATTERN = r"^--[a-z0-9][A-Za-z0-9_]{0,63}(=[ -~]{0,1000})?$"


def _version(text: str) -> str:
    if not re.fullmatch(_VERSION_PATTERN, text):
        raise ValueError(f'"{text}" is not a version such as "3.11"')
    return text


def _source_name(text: str) -> str:
    if not re.fullmatch(_SOURCE_PATTERN, text):
        raise ValueError(f'"{text}" is not the name of a source such as "hwmon"')
    return text


Flag = Annotated[str, Field(pattern=_FLAG_PATTERN)]
Version = Annotated[
    str,
    AfterValidator(_version),
    WithJsonSchema({"type": "string", "pattern": _VERSION_PATTERN}),
]
SourceName = Annotated[
    str,
    AfterValidator(_source_name),
    WithJsonSchema({"type": "string", "pattern": _SOURCE_PATTERN}),
]


def _none_word(value: object) -> object:
    """TOML has no null: the word ``none`` stands for it."""
    return None if value == "none" else value


VersionOrNone = Annotated[
    Version | None,
    BeforeValidator(_none_word),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _VERSION_PATTERN},
                {"const": "none"},
                {"type": "null"},
            ]
        }
    ),
]


def _cpus(value: object) -> object:
    """The kernel's way of listing them, or a list of numbers."""
    if isinstance(value, str):
        return cpulist.parse(value)
    return tuple(value) if isinstance(value, list) else value


Cpus = Annotated[
    tuple[Annotated[int, Field(ge=0, le=cpulist.MOST_CPU)], ...],
    BeforeValidator(_cpus),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"},
                {"type": "array", "items": {"type": "integer", "minimum": 0}},
            ]
        }
    ),
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Machine(_Table):
    """The hardware.

    Attributes:
        models: Beginnings of /proc/device-tree/model, informative.
        architectures: Names of ``uname -m``; empty for any.
    """

    models: tuple[str, ...] = ()
    cpu: str | None = None
    instruction_set: str | None = None
    cores: Annotated[int, Field(ge=1)] | None = None
    architectures: tuple[Architecture, ...] = ()
    memory_min_mib: Annotated[int, Field(ge=1)] | None = None


class System(_Table):
    """The operating system.

    Attributes:
        glibc_min: ``"none"``: not a glibc system, so no manylinux wheels (Android).
    """

    kind: Literal["linux", "android"] = "linux"
    python_min: Version = "3.8"
    glibc_min: VersionOrNone = "2.17"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == "android" and self.glibc_min is not None:
            raise ValueError('glibc_min must be "none" where kind is "android", which has bionic')
        return self


_FLOATS = ("float32", "float32")


class Conversion(_Table):
    """What the artifact is.

    Attributes:
        input_dtype: Of the int8 artifact's own tensors, like ``output_dtype``.
        activations: Type of an int8 .onnx's activations: TensorRT takes signed ones only; on CPUs
            the faster one differs; ``auto``: as the runtime's first provider needs it.
        keep_float: Names of tensors that ``mixed`` leaves in float32.
        opset_max: The newest ONNX opset that the device's ONNX Runtime takes; None: any.
        ir_max: The newest IR version of a .onnx, likewise.
    """

    format: Format = "tflite"
    precision: Precision = "int8"
    input_dtype: TensorType = "float32"
    output_dtype: TensorType = "float32"
    activations: Literal["auto", "int8", "uint8"] = "auto"
    keep_float: tuple[str, ...] = ()
    opset_max: Annotated[int, Field(ge=11, le=99)] | None = None
    ir_max: Annotated[int, Field(ge=3, le=99)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.precision != "int8" and (self.input_dtype, self.output_dtype) != _FLOATS:
            raise ValueError(
                "input_dtype and output_dtype must be"
                f' "float32" where precision is "{self.precision}"'
            )
        return self


class RuntimeChoice(_Table):
    """Runtimes in order of preference; those of the artifact's format are tried.

    Attributes:
        providers: ONNX Runtime's execution providers in order; CPU always ends the list.
        arena: ONNX Runtime keeps memory that it once took.
        graph_optimization: ONNX Runtime's level.
        benchmark_model: The program of TFLite or LiteRT: a path here, which is sent, or
            ``device:/…``, one there. Where it is named neither here nor with the device, the one
            in /data/local/tmp is taken.
        delegate: What benchmark_model runs the model with; ``cpu``: what the build does by itself,
            ``none``: without XNNPACK.
        flags: More of its flags, such as ``--nnapi_accelerator_name=…``.
    """

    kinds: Annotated[tuple[RuntimeKind, ...], Field(min_length=1)] = (
        "litert",
        "tflite_runtime",
        "onnxruntime",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    providers: tuple[Provider, ...] = ("CPU",)
    arena: bool = True
    graph_optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    benchmark_model: Annotated[str, Field(min_length=1)] | None = None
    delegate: Delegate = "cpu"
    flags: tuple[Flag, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if "benchmark_model" in self.kinds and len(self.kinds) > 1:
            raise ValueError('"benchmark_model" stands alone in kinds: it needs no Python there')
        if not self.native and (self.benchmark_model or self.flags or self.delegate != "cpu"):
            raise ValueError(
                'benchmark_model, delegate and flags go with kinds = ["benchmark_model"]'
            )
        if len(set(self.kinds)) != len(self.kinds):
            raise ValueError("a runtime stands twice in kinds")
        if len(set(self.providers)) != len(self.providers):
            raise ValueError("a provider stands twice in providers")
        if "CPU" in self.providers[:-1]:
            raise ValueError("CPU runs everything: it can only be the last of providers")
        return self

    @property
    def native(self) -> bool:
        """Whether a program of the device's own runs the model, without a Python there."""
        return self.kinds == ("benchmark_model",)

    def kinds_for(self, format_: Format) -> tuple[RuntimeKind, ...]:
        """Those that run a format."""
        return tuple(kind for kind in self.kinds if kind in RUNTIMES[format_])


class Access(_Table):
    """How devices of this kind are reached unless the device says otherwise."""

    transport: Literal["local", "ssh", "adb"] = "ssh"
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    python: str | None = None


class Telemetry(_Table):
    """Sources that this kind of device may have, the best first; the device is asked what is there.

    Attributes:
        sample_hz: 0 for no sampler.
    """

    power: tuple[SourceName, ...] = ()
    thermal: tuple[SourceName, ...] = ()
    throttling: tuple[SourceName, ...] = ()
    sample_hz: Annotated[float, Field(ge=0, le=1000)] = 10.0


class Budgets(_Table):
    """Limits that fail the deploy (exit 3) when exceeded; None: no limit."""

    latency_p90_ms: Annotated[float, Field(gt=0)] | None = None
    peak_memory_mib: Annotated[float, Field(gt=0)] | None = None
    energy_mj: Annotated[float, Field(gt=0)] | None = None
    artifact_mib: Annotated[float, Field(gt=0)] | None = None


class RunProtocol(_Table):
    """How it is measured: at least ``runs`` and ``seconds`` over ``processes`` fresh processes.

    Attributes:
        timeout_seconds: A model's process that gives no sign of life for so long is hung; the time
            that a run takes altogether has no limit.
        cpus: The only CPUs that the model may use, as the kernel lists them: ``"2-3"``; none: all.
        energy_windows: An interval of the energy takes so many windows of the measured time, of
            ``energy_window_seconds`` each or a little more.
    """

    processes: Annotated[int, Field(ge=1, le=64)] = 3
    runs: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    seconds: Annotated[float, Field(ge=0, le=86_400)] = 10.0
    warmup_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.5
    warmup_max_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    idle_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    cpus: Cpus = ()
    energy_windows: Annotated[int, Field(ge=5, le=1000)] = 5
    energy_window_seconds: Annotated[float, Field(ge=10, le=86_400)] = 10.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.warmup_seconds > self.warmup_max_seconds:
            raise ValueError(
                f"warmup_max_seconds ({self.warmup_max_seconds:g}) is less than"
                f" warmup_seconds ({self.warmup_seconds:g})"
            )
        return self


class Profile(_Table):
    """A kind of device; ``device_profiles/<name>.toml``, the file name is the name."""

    version: Literal[1] = 1
    description: Annotated[str, Field(min_length=1, max_length=200)]
    machine: Machine = Machine()
    system: System = System()
    conversion: Conversion = Conversion()
    runtime: RuntimeChoice = RuntimeChoice()
    access: Access = Access()
    telemetry: Telemetry = Telemetry()
    budgets: Budgets = Budgets()
    run: RunProtocol = RunProtocol()


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedProfile:
    """A profile with its file. ``name`` is the file's name without ``.toml``."""

    name: str
    path: Path
    profile: Profile
