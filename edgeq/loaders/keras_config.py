"""A Keras model's config, judged without Keras: is it free of code, will Keras 3 take it."""

import json
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from edgeq.errors import ModelError

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | float | bool | None"

# Names of Keras 3.15 without those that carry or fetch code (Lambda, TFSMLayer, JaxLayer,
# FlaxLayer, TorchModuleWrapper) or work on text; a test compares them with Keras itself.
_LAYERS = """
    Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D
    AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add
    AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
    AveragePooling2D AveragePooling3D BatchNormalization Bidirectional CategoryEncoding CenterCrop
    Concatenate Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D
    ConvLSTM2D ConvLSTM3D Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D
    DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU
    GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalAveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GroupNormalization GroupQueryAttention GroupedQueryAttention Identity InputLayer LSTM LSTMCell
    LayerNormalization LeakyReLU Masking MaxPooling1D MaxPooling2D MaxPooling3D Maximum
    MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute
    RMSNormalization RNN RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast
    RandomCrop RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale
    RandomHue RandomInvert RandomPerspective RandomPosterization RandomRotation RandomSaturation
    RandomSharpness RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape
    Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN
    SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
    SpectralNormalization StackedRNNCells Subtract ThresholdedReLU TimeDistributed
    UnitNormalization UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D
    ZeroPadding3D
"""
_OTHERS = """
    Functional Sequential Model DTypePolicy DTypePolicyMap Policy SeedGenerator
    Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal
    LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform STFT
    STFTInitializer TruncatedNormal VarianceScaling Zeros
    L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm NonNeg UnitNorm
    __keras_tensor__ __tuple__ __ellipsis__ __slice__ TensorShape
"""
KNOWN = frozenset(_LAYERS.split()) | frozenset(_OTHERS.split())
_KERAS2_ONLY = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod"})
_MODULES = (
    "keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.constraints",
    "keras.models", "keras.dtype_policies", "keras.random", "keras.ops",
)  # fmt: skip
_MODULE_FAMILIES = (
    "keras.src.layers.", "keras.src.models.", "keras.src.ops.", "keras.src.initializers.",
    "keras.src.regularizers.", "keras.src.constraints.", "keras.src.dtype_policies.",
    "keras.src.random.", "keras.ops.", "keras.layers.", "keras.src.legacy.",
)  # fmt: skip
_OPERATIONS = ("keras.src.ops.", "keras.ops.")
# Keras 2 wrote these arguments, Keras 3 has no such argument: harmless at the value given.
_DROPPED = {
    "groups": (("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D",
                "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), 1),
    "time_major": (("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
                   False),
    "ragged": (("InputLayer",), False),
    "noise_shape": (("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), None),
    "causal": (("Attention", "AdditiveAttention"), False),
    "renorm": (("BatchNormalization",), False),
    "virtual_batch_size": (("BatchNormalization",), None),
    "adjustment": (("BatchNormalization",), None),
}  # fmt: skip
# Likewise, harmless at any value: how weights that are loaded would have been made, or which of
# several equal ways of computing is taken.
_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
_DROPPED_ALWAYS = {
    **dict.fromkeys(
        ("SeparableConv1D", "SeparableConv2D", "DepthwiseConv1D", "DepthwiseConv2D"), _KERNEL
    ),
    **dict.fromkeys(("SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"), ("implementation",)),
    "BatchNormalization": ("fused",),
    "MultiHeadAttention": ("query_shape", "key_shape", "value_shape"),
}
_MAX_DEPTH = 200


def parse(text: bytes | str, name: str) -> Json:
    """The config of the file called ``name``.

    Raises:
        ModelError: it is not JSON.
    """
    try:
        tree: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the model config in {name} is damaged: not JSON") from error
    if not isinstance(tree, dict):
        raise ModelError(f"the model config in {name} is damaged: not an object")
    return tree


def refuse_code(config: Json, name: str) -> None:
    """Go through every class the config names.

    Raises:
        ModelError: one of them is code: a Lambda, or a class or function that is not Keras's own.
    """
    for node in _objects(config):
        kind = node.get("class_name")
        if not isinstance(kind, str):
            raise ModelError(f"the model config in {name} is damaged: class_name is {kind!r}")
        where = _layer_name(node)
        if kind in ("Lambda", "__lambda__"):
            raise ModelError(
                f"{name} has a Lambda layer{where}, which is code that loading would run",
                hint="if you trust its maker: --trust-model runs it, in a child process",
            )
        if kind in _KERAS2_ONLY:
            raise ModelError(
                f"{name} has the op layer {kind}{where}, which only Keras 2 can load",
                hint="save it as a SavedModel with the Keras 2 that made it: model.export(FOLDER)",
            )
        if not _is_keras(node, kind):
            raise ModelError(
                f"{name} names {_shown(node, kind)}{where}, custom code that is not Keras's own",
                hint="save it as a SavedModel, which holds the graph instead of the code: "
                "model.export(FOLDER)",
            )


def foreign_class(config: Json) -> str | None:
    """The first class that is not Keras's own and whose code the config does not carry."""
    for node in _objects(config):
        kind = node.get("class_name")
        is_code = kind in ("Lambda", "__lambda__")
        if isinstance(kind, str) and not is_code and not _is_keras(node, kind):
            return _shown(node, kind)
    return None


def mend(config: Json) -> Json:
    """The same model as Keras 3 wants it; the very same config where there is nothing to mend."""
    match config:
        case list():
            return [mend(item) for item in config]
        case dict():
            node = {k: mend(v) for k, v in config.items() if k != "compile_config"}
            return _mend_object(node) if isinstance(node.get("class_name"), str) else node
        case _:
            return config


def _mend_object(node: dict[str, Json]) -> Json:
    kind, inner = str(node["class_name"]), node.get("config")
    if kind == "TensorShape":  # Keras 2's build_input_shape
        return node.get("items")
    if kind == "Sequential" and isinstance(inner, list):  # Keras before 2.2.3
        return {**node, "config": {"name": "sequential", "layers": _with_input(inner)}}
    if not isinstance(inner, dict):
        return node
    if kind == "Sequential":
        return {**node, "config": {**inner, "layers": _with_input(inner.get("layers"))}}
    if kind == "Policy":  # Keras 2.4's name of a dtype policy
        return inner.get("name")
    if kind == "Model" and "layers" in inner:  # Functional, before Keras 2.3
        node = {**node, "class_name": "Functional"}
    if kind in ("BatchNormalizationV1", "BatchNormalizationV2"):
        kind = "BatchNormalization"
        node = {**node, "class_name": kind}
    dropped = set(_DROPPED_ALWAYS.get(kind, ())) | {
        key
        for key, (kinds, neutral) in _DROPPED.items()
        if kind in kinds and inner.get(key, ...) == neutral
    }
    return {**node, "config": {k: v for k, v in inner.items() if k not in dropped}}


def _with_input(layers: Json) -> Json:
    """Keras before 2.4 wrote a Sequential's input as an argument of its first layer."""
    first = layers[0] if isinstance(layers, list) and layers else None
    inner = first.get("config") if isinstance(first, dict) else None
    if not isinstance(layers, list) or not isinstance(first, dict) or not isinstance(inner, dict):
        return layers
    if first.get("class_name") == "InputLayer" or "batch_input_shape" not in inner:
        return layers
    given: dict[str, Json] = {
        "batch_input_shape": inner["batch_input_shape"],
        "dtype": "int32" if first.get("class_name") == "Embedding" else "float32",
        "name": f"{inner.get('name', 'first')}_input",
    }
    plain = {k: v for k, v in inner.items() if k not in ("batch_input_shape", "input_length")}
    entry: Json = {"class_name": "InputLayer", "config": given}
    return [entry, {**first, "config": plain}, *layers[1:]]


def _objects(config: Json, depth: int = 0) -> Iterator[Mapping[str, Json]]:
    if depth > _MAX_DEPTH:
        raise ModelError("the model config is nested too deeply")
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for key, value in config.items():
            if key != "compile_config":  # an optimizer and metrics: never loaded, see mend
                yield from _objects(value, depth + 1)
    elif isinstance(config, list):
        for item in config:
            yield from _objects(item, depth + 1)


def _is_keras(node: Mapping[str, Json], kind: str) -> bool:
    module = node.get("module")
    if module is None:
        return kind in KNOWN or kind in ("BatchNormalizationV1", "BatchNormalizationV2")
    if not isinstance(module, str):
        return False
    if module.startswith(_OPERATIONS):
        return kind.isidentifier() and kind[0].isupper()
    return kind in KNOWN and (module in _MODULES or module.startswith(_MODULE_FAMILIES))


def _shown(node: Mapping[str, Json], kind: str) -> str:
    if kind == "function":
        return f"the function {node.get('config')!r}"
    module = node.get("module")
    return f"the class {module}.{kind}" if module else f"the class {kind}"


def _layer_name(node: Mapping[str, Json]) -> str:
    inner = node.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return f" ({name!r})" if isinstance(name, str) else ""
