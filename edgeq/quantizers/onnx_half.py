"""float16 inside, float32 at the inputs and outputs."""

from collections.abc import Collection

from edgeq.formats.onnx import Model


def halved(model: Model, skip: Collection[str]) -> Model:
    """The model in float16; a processor without it computes in float32 from the same file.

    Args:
        model: Every node named; it is changed.
        skip: Names of nodes that stay in float32.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # its own list of ops without a float16 kernel stays in float32
    return convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True, node_block_list=sorted(skip)
    )
