"""A Keras model's config as a plain list of steps.

Needs no Keras: the config is JSON. A layer that does two things (convolve and activate) becomes two
steps, nested models become part of the list.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgeq.errors import ModelError
from edgeq.qat.plan import LINEAR, Entry, Plan, Step

Json = Mapping[str, Any]

# Arguments that say what a layer computes; how it was first filled or regularized does not matter.
_CONVOLUTION = "kernel_size strides padding data_format dilation_rate use_bias"
_FIELDS = {
    "Dense": "units use_bias",
    "Conv1D": f"filters groups {_CONVOLUTION}",
    "Conv2D": f"filters groups {_CONVOLUTION}",
    "DepthwiseConv2D": f"depth_multiplier {_CONVOLUTION}",
    "SeparableConv2D": f"filters depth_multiplier {_CONVOLUTION}",
    "Conv2DTranspose": f"filters output_padding {_CONVOLUTION}",
    "BatchNormalization": "axis epsilon center scale",
    "ReLU": "max_value negative_slope threshold",
    "LeakyReLU": "negative_slope",
    "ELU": "alpha",
    "Softmax": "axis",
    "Activation": "",
    "Add": "",
    "Subtract": "",
    "Multiply": "",
    "Average": "",
    "Maximum": "",
    "Minimum": "",
    "Concatenate": "axis",
    "MaxPooling1D": "pool_size strides padding data_format",
    "MaxPooling2D": "pool_size strides padding data_format",
    "AveragePooling1D": "pool_size strides padding data_format",
    "AveragePooling2D": "pool_size strides padding data_format",
    "GlobalMaxPooling1D": "data_format keepdims",
    "GlobalMaxPooling2D": "data_format keepdims",
    "GlobalAveragePooling1D": "data_format keepdims",
    "GlobalAveragePooling2D": "data_format keepdims",
    "Flatten": "data_format",
    "Reshape": "target_shape",
    "Permute": "dims",
    "RepeatVector": "n",
    "ZeroPadding1D": "padding",
    "ZeroPadding2D": "padding data_format",
    "Cropping1D": "cropping",
    "Cropping2D": "cropping data_format",
    "UpSampling1D": "size",
    "UpSampling2D": "size data_format interpolation",
    "Rescaling": "scale offset",
    "Dropout": "rate noise_shape",
    "SpatialDropout1D": "rate",
    "SpatialDropout2D": "rate",
    "Identity": "",
}
# They change nothing outside training; fine-tuning does without them.
_IDLE = frozenset(
    {"GaussianNoise", "GaussianDropout", "AlphaDropout", "ActivityRegularization", "RandomFlip",
     "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast", "RandomBrightness"}
)  # fmt: skip
_ACTIVATIONS = frozenset(
    {"relu", "relu6", "softmax", "sigmoid", "tanh", "elu", "selu", "gelu", "silu", "softplus",
     "softsign", "exponential"}
)  # fmt: skip
_MODELS = frozenset({"Functional", "Sequential", "Model"})


def parse(config: Json, kind: str) -> Plan:
    """The plan of a model's ``get_config()``; ``kind``: its class.

    Raises:
        ModelError: a layer that quantization-aware training does not cover; with its name.
    """
    if kind not in _MODELS:
        raise ModelError(
            f"the model is a {kind}, whose layers are run by code that training cannot follow",
            hint="build it as a Sequential or functional model: keras.Model(inputs, outputs)",
        )
    parser = _Parser()
    read = parser.chain if kind == "Sequential" else parser.graph
    outputs = read(config, (), ())
    return Plan(entries=tuple(parser.entries), steps=tuple(parser.steps), outputs=outputs)


class _Parser:
    """Collects steps; ``where`` is the path of nested models, and so of an owner."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.steps: list[Step] = []
        self._names: set[str] = set()

    def chain(self, config: Json, where: tuple[str, ...], given: Sequence[str]) -> tuple[str, ...]:
        """A Sequential; ``given``: what feeds a nested one."""
        current = tuple(given)
        for layer in config["layers"]:
            if layer["class_name"] == "InputLayer":
                current = current or (self._enter(layer),)
            else:
                current = self._layer(layer, where, current)
        return current

    def graph(self, config: Json, where: tuple[str, ...], given: Sequence[str]) -> tuple[str, ...]:
        """A functional model."""
        made: dict[str, tuple[str, ...]] = {}
        feeds = [key[0] for key in _ends(config["input_layers"])]
        if given:
            made |= {name: (source,) for name, source in zip(feeds, given, strict=True)}
        layers = {layer["name"]: layer for layer in config["layers"]}
        for name in feeds:
            if name not in made:
                made[name] = (self._enter(layers[name]),)
        for layer in layers.values():
            _refuse_shared(layer)
        for layer in _in_order(layers, made):
            made[layer["name"]] = self._layer(layer, where, _feeding(layer, made))
        return tuple(made[name][place] for name, _, place in _ends(config["output_layers"]))

    def _enter(self, layer: Json) -> str:
        config = layer["config"]
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        name = self._unique(config["name"])
        dtype = str(config.get("dtype", "float32"))
        self.entries.append(Entry(name=name, shape=tuple(shape[1:]), dtype=dtype))
        return name

    def _layer(
        self, layer: Json, where: tuple[str, ...], sources: tuple[str, ...]
    ) -> tuple[str, ...]:
        kind, config = layer["class_name"], layer["config"]
        owner = (*where, str(config.get("name", kind)))
        if kind in _MODELS:
            return (self.chain if kind == "Sequential" else self.graph)(config, owner, sources)
        kind = "Identity" if kind in _IDLE else kind
        if kind not in _FIELDS or not _is_layer(layer):
            raise ModelError(
                f"quantization-aware training does not cover {kind}, the class of layer "
                f"{'/'.join(owner)!r}",
                hint="convert the model without it: edgeq convert, perhaps with --precision auto",
            )
        options = {key: config[key] for key in _FIELDS[kind].split() if key in config}
        steps = _split(kind, options) if kind == "SeparableConv2D" else [(kind, options)]
        if "activation" in config:
            steps += _activation(config["activation"], "/".join(owner))
        for place, (step_kind, step_options) in enumerate(steps):
            name = self._unique("_".join(owner) + (f"_{place}" if place else ""))
            self.steps.append(
                Step(
                    name=name,
                    kind=step_kind,
                    options=step_options,
                    sources=sources,
                    owner=owner if step_kind in LINEAR | {"BatchNormalization"} else (),
                )
            )
            sources = (name,)
        return sources

    def _unique(self, name: str) -> str:
        safe = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in name)
        while safe in self._names or not safe[:1].isalnum():
            safe = f"x{safe}"
        self._names.add(safe)
        return safe


def _is_layer(layer: Json) -> bool:
    module = layer.get("module") or "keras.layers"
    return str(module) == "keras.layers" or str(module).startswith("keras.src.layers")


def _split(kind: str, options: Json) -> list[tuple[str, Json]]:
    """A separable convolution is a depthwise one and one of 1 x 1."""
    first = {**options, "use_bias": False}
    filters = first.pop("filters")
    second = {
        "filters": filters,
        "kernel_size": 1,
        "use_bias": options.get("use_bias", True),
        "data_format": options.get("data_format"),
    }
    return [(kind.replace("Separable", "Depthwise"), first), ("Conv2D", second)]


def _activation(activation: object, where: str) -> list[tuple[str, Json]]:
    name = {"swish": "silu"}.get(str(activation), activation)
    match name:
        case None | "linear":
            return []
        case "relu":
            return [("ReLU", {})]
        case "relu6":
            return [("ReLU", {"max_value": 6})]
        case "softmax":
            return [("Softmax", {})]
        case str() if name in _ACTIVATIONS:
            return [("Activation", {"activation": name})]
    raise ModelError(
        f"quantization-aware training does not cover the activation {activation!r} of layer "
        f"{where!r}",
        hint=f"it covers {', '.join(sorted(_ACTIVATIONS))}",
    )


def _refuse_shared(layer: Json) -> None:
    if len(layer["inbound_nodes"]) > 1:
        raise ModelError(
            f"layer {layer['name']!r} is used {len(layer['inbound_nodes'])} times; "
            "quantization-aware training takes layers that are used once",
            hint="its uses need ranges of their own: give each a layer of its own",
        )


def _in_order(layers: Mapping[str, Json], made: Mapping[str, object]) -> Iterator[Json]:
    """Each layer after those that feed it."""
    waiting = [layer for name, layer in layers.items() if name not in made]
    while waiting:
        ready = [w for w in waiting if all(n in made for n, _, _ in _sources(w))]
        if not ready:
            raise ModelError(f"layer {waiting[0]['name']!r} is fed by nothing")
        yield ready[0]
        waiting.remove(ready[0])


def _feeding(layer: Json, made: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(made[name][place] for name, _, place in _sources(layer))


def _sources(layer: Json) -> list[tuple[str, int, int]]:
    """What feeds a layer; Keras writes tensors as objects anywhere among the arguments."""
    found: list[tuple[str, int, int]] = []

    def collect(node: object) -> None:
        if isinstance(node, Mapping):
            if node.get("class_name") == "__keras_tensor__":
                name, use, place = node["config"]["keras_history"]
                found.append((str(name), int(use), int(place)))
            else:
                _each(collect, node.values())
        elif isinstance(node, list | tuple):
            _each(collect, node)

    collect(layer["inbound_nodes"])
    return found


def _each(call: Callable[[object], None], nodes: Any) -> None:  # noqa: ANN401  JSON
    for node in nodes:
        call(node)


def _ends(node: object) -> list[tuple[str, int, int]]:
    """``input_layers`` and ``output_layers``: one end, or a list or dict of them."""
    if isinstance(node, Mapping):
        return [end for value in node.values() for end in _ends(value)]
    if isinstance(node, list | tuple):
        if len(node) == 3 and isinstance(node[0], str):  # noqa: PLR2004  name, use, place
            return [(node[0], int(node[1]), int(node[2]))]
        return [end for value in node for end in _ends(value)]
    return []
