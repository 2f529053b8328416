"""What is sent: the bundle, and what the report says of it, from a conversion or from a file."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeq import arrays
from edgeq.convert import Converted
from edgeq.core import bundle as bundles
from edgeq.core import gates, summary
from edgeq.core.bundle import Bundle
from edgeq.core.gates import Limits
from edgeq.core.model import TensorSpec
from edgeq.core.profile import Budgets
from edgeq.core.project import Input
from edgeq.core.report import ArtifactSection, Gate, ModelSection, QualitySection
from edgeq.core.searched import SearchSection
from edgeq.core.telemetry import Missing
from edgeq.errors import BundleError
from edgeq.ports import Array, Floats
from edgeq.search.find import Searched
from edgeq.verify import Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What a release is called, and where it belongs."""

    name: str
    version: int
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProvedBundle:
    """A bundle and its proof.

    Attributes:
        expected: The golden outputs, one array of shape (samples, …) per output.
        gates: Of its quality, on the host.
        missing: Why a figure of its quality is null.
        searched: How it was chosen; None: it was asked for.
    """

    bundle: Bundle
    model: ModelSection
    artifact: ArtifactSection
    quality: QualitySection
    expected: tuple[Floats, ...]
    gates: tuple[Gate, ...]
    missing: tuple[Missing, ...]
    warnings: tuple[str, ...]
    searched: Searched | None = None

    @property
    def search(self) -> SearchSection | None:
        """For the report."""
        return self.searched.section if self.searched else self.bundle.manifest.search


def pack_model(
    converted: Converted,
    verified: Verified,
    labels: Labels,
    settings: Input,
    budgets: Budgets,
    limits: Limits,
    searched: Searched | None = None,
) -> ProvedBundle:
    """Put a converted model and its proof into a bundle.

    ``searched``: how it was chosen; None: it was asked for.
    """
    files = {
        bundles.model_file(converted.artifact.format): converted.artifact.path.read_bytes(),
        bundles.GOLDEN_INPUTS: arrays.pack(verified.golden_inputs),
        bundles.GOLDEN_OUTPUTS: arrays.pack(verified.golden_outputs),
        bundles.PREPROCESSING: settings.model_dump_json(indent=1).encode() + b"\n",
    }
    named = converted.evaluation or converted.calibration
    if named and named.label_names:
        files[bundles.LABELS] = "".join(f"{name}\n" for name in named.label_names).encode()
    manifest = _manifest(converted, verified, labels, budgets, files)
    if searched:
        warnings = (*manifest.warnings, *searched.warnings)
        # measured anew every time: the same release would have another name with it
        section = searched.section.without_device()
        manifest = manifest.model_copy(update={"search": section, "warnings": warnings})
    quality = summary.quality_section(verified.quality)
    return ProvedBundle(
        bundle=bundles.seal(manifest, files),
        model=summary.model_section(converted.pivot.source),
        artifact=summary.artifact_section(converted.artifact, converted.pivot.source),
        quality=quality,
        expected=verified.golden_outputs,
        gates=(
            *_gates(quality, verified.quality.source, limits),
            *(searched.gates if searched else ()),
        ),
        missing=summary.quality_missing(verified.quality.reasons),
        warnings=(*manifest.warnings, *_unproved(verified.quality.source)),
        searched=searched,
    )


def pack_bundle(bundle: Bundle, limits: Limits) -> ProvedBundle:
    """A bundle that was made before; its own figures are taken over, and judged again.

    Raises:
        BundleError: its golden set cannot be read.
    """
    manifest = bundle.manifest
    quality = QualitySection.model_validate(manifest.quality.model_dump(exclude={"origin"}))
    model = manifest.files[manifest.model_file]
    return ProvedBundle(
        bundle=bundle,
        model=ModelSection(
            name=manifest.source.name,
            sha256=manifest.source.sha256,
            size_bytes=manifest.source.size_bytes,
            source=manifest.source.kind,
        ),
        artifact=ArtifactSection(
            format=manifest.format,
            precision=manifest.precision,
            sha256=model.sha256,
            size_bytes=model.size_bytes,
            compression_ratio=summary.ratio(manifest.source.size_bytes, model.size_bytes),
        ),
        quality=quality,
        expected=_golden(bundle),
        gates=_gates(quality, manifest.quality.origin, limits),
        missing=(),
        warnings=(*manifest.warnings, *_unproved(manifest.quality.origin)),
    )


def _manifest(
    converted: Converted,
    verified: Verified,
    labels: Labels,
    budgets: Budgets,
    files: dict[str, bytes],
) -> bundles.Manifest:
    pivot, artifact, quality = converted.pivot, converted.artifact, verified.quality
    calibration = None
    if artifact.calibration_sha256:
        calibration = bundles.CalibrationEntry(
            sha256=artifact.calibration_sha256, samples=artifact.calibration_samples
        )
    return bundles.Manifest(
        name=labels.name,
        version=labels.version,
        profile=labels.profile,
        format=artifact.format,
        precision=artifact.precision,
        requested_precision=artifact.requested,
        inputs=_tensors(artifact.inputs),
        outputs=_tensors(artifact.outputs),
        files=bundles.describe(files),
        source=bundles.SourceEntry(
            name=pivot.source.name,
            kind=pivot.source.kind,
            sha256=pivot.source.sha256,
            size_bytes=pivot.source.size_bytes,
        ),
        calibration=calibration,
        tools={**pivot.tools, **artifact.tools},
        quality=bundles.QualityEntry(
            samples=quality.samples,
            origin=quality.source,
            sqnr_db=quality.sqnr_db,
            cosine=quality.cosine,
            top1_agreement=quality.top1_agreement,
            float_accuracy=quality.float_accuracy,
            artifact_accuracy=quality.artifact_accuracy,
            accuracy_drop=quality.accuracy_drop,
        ),
        budgets=budgets,
        warnings=(*converted.warnings, *verified.warnings),
    )


def _gates(quality: QualitySection, origin: str, limits: Limits) -> tuple[Gate, ...]:
    return gates.quality_gates(quality, has_real_data=origin != "random", limits=limits)


def _tensors(specs: Sequence[TensorSpec]) -> tuple[bundles.Tensor, ...]:
    return tuple(
        bundles.Tensor(
            name=spec.name,
            shape=spec.shape,
            dtype=spec.dtype,
            scale=spec.scale,
            zero_point=spec.zero_point,
        )
        for spec in specs
    )


def _unproved(origin: str) -> tuple[str, ...]:
    if origin == "random":
        return (
            "quality was measured on random inputs, which proves little:"
            " give real samples with --calibration or --evaluate",
        )
    return ()


def _golden(bundle: Bundle) -> tuple[Floats, ...]:
    """The golden outputs; inputs and outputs are as the manifest says, sample for sample."""
    manifest = bundle.manifest
    inputs = _arrays(bundle, bundles.GOLDEN_INPUTS)
    outputs = _arrays(bundle, bundles.GOLDEN_OUTPUTS)
    for arrays_, tensors in ((inputs, manifest.inputs), (outputs, manifest.outputs)):
        shapes = [array.shape[1:] for array in arrays_]
        if shapes != [tensor.shape[1:] for tensor in tensors]:
            raise BundleError("the bundle's golden set does not fit the tensors of its manifest")
    if len({len(array) for array in (*inputs, *outputs)}) != 1 or not len(inputs[0]):
        raise BundleError("the bundle's golden set has not as many outputs as inputs")
    return tuple(array.astype(np.float32) for array in outputs)


def _arrays(bundle: Bundle, name: str) -> list[Array]:
    try:
        with np.load(io.BytesIO(bundle.files[name]), allow_pickle=False) as file:
            found = [file[str(number)] for number in range(len(file.files))]
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"the bundle's {name} cannot be read") from error
    if not found or any(not array.ndim or array.dtype.kind not in "fiub" for array in found):
        raise BundleError(f"the bundle's {name} holds no arrays of numbers")
    return found
