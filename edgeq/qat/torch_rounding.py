"""A PyTorch program with int8 rounding in its way, by torchao's PT2E.

Rounding is as in ``keras_rounding``: weights symmetric per output channel, activations by one range
for a tensor, from calibration.

Imports torch, so it is itself imported late.
"""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch.utils import _pytree as pytree
from torchao.quantization.pt2e import (
    FakeQuantize,
    MinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpec,
    Quantizer,
)

from edgeq.qat import torch_plan
from edgeq.qat.plan import LINEAR, Plan, rounded

Array = npt.NDArray[Any]
_ACTIVATION = QuantizationSpec(
    dtype=torch.int8,
    quant_min=-128,
    quant_max=127,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=FakeQuantize.with_args(observer=MinMaxObserver),
)
# A kernel is (outputs, inputs, …) in PyTorch, of a transposed convolution (inputs, outputs, …).
_OUTPUT_AXES = {"Conv2DTranspose": 1}
_FROZEN_NORM = torch.ops.aten._native_batch_norm_legit_no_training.default  # noqa: SLF001 - an op


class Rounding:
    """A program's module that rounds; its weights have the program's names.

    Args:
        program: A ``torch.export.ExportedProgram``, which stays as it is.

    Raises:
        ModelError: an op is not covered; with its layer's name.
    """

    def __init__(self, program: Any) -> None:  # noqa: ANN401  untyped library
        module = program.module()
        self.plan = torch_plan.parse(module.graph)
        self.module = prepare_qat_pt2e(module, _Annotator(self.plan))
        rounders = [m for m in self.module.modules() if isinstance(m, FakeQuantize)]
        self._activations = [m for m in rounders if not m.is_per_channel]
        self._kernels = [m for m in rounders if m.is_per_channel]
        self._spec = program.call_spec.in_spec
        self._types = [getattr(torch, entry.dtype) for entry in self.plan.entries]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The program's outputs, flat."""
        arguments, words = pytree.tree_unflatten(list(inputs), self._spec)
        leaves: list[Any] = pytree.tree_leaves(self.module(*arguments, **words))
        return leaves

    def tensors(self, inputs: Sequence[Array]) -> list[Any]:
        """Arrays in the types that the program takes."""
        pairs = zip(inputs, self._types, strict=True)
        return [torch.from_numpy(array).to(kind) for array, kind in pairs]

    def parameters(self) -> dict[str, Any]:
        """What learns, by name."""
        named = self.module.named_parameters()
        return {name: p for name, p in named if p.dtype.is_floating_point}

    def round_nothing(self) -> None:
        """Compute as the program does, and forget all ranges; what is run then sets new ones."""
        for rounder in self._activations:
            rounder.activation_post_process.reset_min_max_vals()
            rounder.enable_observer()
        for rounder in (*self._activations, *self._kernels):
            rounder.disable_fake_quant()

    def round_all(self) -> None:
        """Round by the ranges seen since ``round_nothing``; those of kernels follow the weights."""
        for rounder in self._activations:
            rounder.disable_observer()
        for rounder in (*self._activations, *self._kernels):
            rounder.enable_fake_quant()


class _Annotator(Quantizer):  # type: ignore[misc]  # untyped library
    """Tells torchao where to round: where the plan does."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._kinds = {step.name: step.kind for step in plan.steps}
        self._rounded = rounded(plan)
        self._stand_ins: dict[str, str] = {}

    def transform_for_annotation(self, model: Any) -> Any:  # noqa: ANN401  untyped library
        """Put an op in the place of each batch normalization that torchao does not merge.

        It would make one that learns its statistics out of what was exported with fixed ones.
        """
        for node in list(model.graph.nodes):
            if self._kinds.get(node.name) == "BatchNormalization":
                self._freeze(model.graph, node)
        model.recompile()
        return model

    def annotate(self, model: Any) -> Any:  # noqa: ANN401  untyped library
        for node in model.graph.nodes:
            name = self._stand_ins.get(node.name, node.name)
            kernel = self._kinds.get(name)
            edges = {node.args[1]: _kernel(kernel)} if kernel in LINEAR else {}
            if edges or name in self._rounded:
                node.meta["quantization_annotation"] = QuantizationAnnotation(
                    input_qspec_map=edges,
                    output_qspec=_ACTIVATION if name in self._rounded else None,
                    _annotated=True,
                )
        return model

    def validate(self, model: Any) -> None:  # noqa: ANN401  untyped library
        pass

    def _freeze(self, graph: Any, node: Any) -> None:  # noqa: ANN401  untyped library
        values, weight, bias, mean, variance, _, momentum, epsilon, _ = node.args
        with graph.inserting_before(node):
            arguments = (values, weight, bias, mean, variance, momentum, epsilon)
            norm = graph.call_function(_FROZEN_NORM, arguments)
            first = graph.call_function(_first, (norm,))
        first.meta = dict(node.meta)
        self._stand_ins[first.name] = node.name
        node.replace_all_uses_with(first)
        graph.erase_node(node)


def _first(values: Sequence[Any]) -> Any:  # noqa: ANN401  untyped library
    return values[0]


def _kernel(kind: str | None) -> Any:  # noqa: ANN401  untyped library
    observer = FakeQuantize.with_args(
        observer=MovingAveragePerChannelMinMaxObserver, averaging_constant=1.0
    )
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=_OUTPUT_AXES.get(kind or "", 0),
        observer_or_fake_quant_ctr=observer,
    )
