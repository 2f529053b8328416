"""What a Keras config becomes, and where int8 rounds."""

import pytest

from edgeq.errors import ModelError
from edgeq.qat import keras_plan
from edgeq.qat.plan import Entry, Plan, Step, rounded

ENTRY = Entry(name="x", shape=(8,), dtype="float32")


def layer(kind, name, **config):
    return {"class_name": kind, "module": "keras.layers", "config": {"name": name, **config}}


def entry(name="x", shape=(None, 8)):
    return layer("InputLayer", name, batch_shape=list(shape), dtype="float32")


def chain(*layers):
    return {"name": "net", "layers": [entry(), *layers]}


def tensor(name, place=0):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, place]}}


def fed(node, *sources):
    given = [tensor(source) for source in sources]
    nodes = [{"args": given if len(given) == 1 else [given], "kwargs": {}}]
    return {**node, "name": node["config"]["name"], "inbound_nodes": nodes}


def graph(*layers, inputs=("x",), outputs=("y",)):
    return {
        "name": "net",
        "layers": [{**entry(i), "name": i, "inbound_nodes": []} for i in inputs] + list(layers),
        "input_layers": [[name, 0, 0] for name in inputs],
        "output_layers": [[name, 0, 0] for name in outputs],
    }


def steps(plan):
    return [(step.name, step.kind, step.sources) for step in plan.steps]


def test_an_activation_of_a_layer_is_a_step_of_its_own():
    plan = keras_plan.parse(chain(layer("Dense", "d", units=2, activation="softmax")), "Sequential")
    assert steps(plan) == [("d", "Dense", ("x",)), ("d_1", "Softmax", ("d",))]
    assert plan.outputs == ("d_1",)
    assert plan.ends == ("softmax",)


def test_a_convolution_rounds_once_with_its_normalization_and_relu():
    plan = keras_plan.parse(
        chain(
            layer("Conv2D", "c", filters=2, kernel_size=[3, 3], activation="linear"),
            layer("BatchNormalization", "n", axis=-1),
            layer("ReLU", "r", max_value=6.0, negative_slope=0.0, threshold=0.0),
            layer("Flatten", "f"),
            layer("Dense", "d", units=2, activation="linear"),
        ),
        "Sequential",
    )
    assert rounded(plan) == {"x", "r", "d"}


def test_a_value_that_two_layers_read_is_rounded():
    config = graph(
        fed(layer("Dense", "d", units=8), "x"),
        fed(layer("ReLU", "r"), "d"),
        fed(layer("Add", "y"), "d", "r"),
    )
    assert rounded(keras_plan.parse(config, "Functional")) == {"x", "d", "r", "y"}


def test_a_leaky_relu_takes_rounded_values():
    config = chain(layer("Dense", "d", units=8), layer("ReLU", "r", negative_slope=0.1))
    assert rounded(keras_plan.parse(config, "Sequential")) == {"x", "d", "r"}


def test_probabilities_at_the_end_are_not_rounded_even_when_they_are_reshaped():
    config = chain(
        layer("Dense", "d", units=1, activation="sigmoid"), layer("Reshape", "s", target_shape=[1])
    )
    plan = keras_plan.parse(config, "Sequential")
    assert plan.ends == ("sigmoid",)
    assert rounded(plan) == {"x", "d"}


def test_a_whole_number_input_is_not_rounded():
    plan = Plan(
        entries=(ENTRY, Entry(name="n", shape=(1,), dtype="int32")),
        steps=(Step(name="y", kind="Add", sources=("x", "n")),),
        outputs=("y",),
    )
    assert rounded(plan) == {"x", "y"}


def test_a_separable_convolution_is_two_and_both_belong_to_the_users_layer():
    config = chain(
        layer("SeparableConv2D", "s", filters=4, kernel_size=[3, 3], depth_multiplier=2,
              strides=[2, 2], padding="same", dilation_rate=[1, 1], use_bias=True,
              activation="relu")
    )  # fmt: skip
    plan = keras_plan.parse(config, "Sequential")
    first, second, relu = plan.steps
    assert (first.kind, first.options["strides"], first.options["use_bias"]) == (
        "DepthwiseConv2D",
        [2, 2],
        False,
    )
    assert (second.kind, second.options["filters"], second.options["kernel_size"]) == (
        "Conv2D",
        4,
        1,
    )
    assert first.owner == second.owner == ("s",)
    assert relu.kind == "ReLU"


def test_a_nested_model_becomes_part_of_the_list():
    inner = {"class_name": "Sequential", "module": "keras", "config": {"name": "inner", "layers": [
        entry("i"), layer("Dense", "d", units=4, activation="relu")]}}  # fmt: skip
    config = graph(fed(inner, "x"), fed(layer("Dense", "d", units=2), "inner"), outputs=("d",))
    plan = keras_plan.parse(config, "Functional")
    assert steps(plan) == [
        ("inner_d", "Dense", ("x",)),
        ("inner_d_1", "ReLU", ("inner_d",)),
        ("d", "Dense", ("inner_d_1",)),
    ]
    assert plan.steps[0].owner == ("inner", "d")


def test_layers_are_put_in_an_order_that_can_be_run():
    config = graph(
        fed(layer("Add", "y"), "a", "b"),
        fed(layer("Dense", "b", units=8), "a"),
        fed(layer("Dense", "a", units=8), "x"),
    )
    assert [s.name for s in keras_plan.parse(config, "Functional").steps] == ["a", "b", "y"]


def test_names_that_tensorflow_refuses_are_mended_and_stay_apart():
    config = chain(layer("Flatten", "a/b"), layer("Flatten", "a_b"), layer("Flatten", "_c"))
    names = [s.name for s in keras_plan.parse(config, "Sequential").steps]
    assert len(set(names)) == 3
    assert all(name.replace("_", "").isalnum() and name[0] != "_" for name in names)


@pytest.mark.parametrize("kind", ["LSTM", "Embedding", "MultiHeadAttention", "Lambda", "Mine"])
def test_a_layer_that_is_not_covered_is_named(kind):
    config = chain(layer(kind, "the_one"))
    with pytest.raises(ModelError, match=f"does not cover {kind}, the class of layer 'the_one'"):
        keras_plan.parse(config, "Sequential")


def test_a_foreign_class_with_a_known_name_is_refused():
    config = chain({**layer("Dense", "mine", units=2), "module": "somewhere"})
    with pytest.raises(ModelError, match="'mine'"):
        keras_plan.parse(config, "Sequential")


def test_a_layer_inside_a_nested_model_is_named_with_its_path():
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [
        entry("i"), layer("GRU", "g", units=4)]}}  # fmt: skip
    with pytest.raises(ModelError, match="'inner/g'"):
        keras_plan.parse(graph(fed(inner, "x"), outputs=("inner",)), "Functional")


def test_an_op_that_is_no_layer_is_refused():
    op = {"class_name": "Multiply", "module": "keras.src.ops.numpy", "config": {"name": "times"}}
    with pytest.raises(ModelError, match="'times'"):
        keras_plan.parse(graph(fed(op, "x"), outputs=("times",)), "Functional")


def test_a_layer_that_is_used_twice_is_named():
    twice = fed(layer("Dense", "d", units=8), "x")
    twice["inbound_nodes"] = [*twice["inbound_nodes"], {"args": [tensor("d")], "kwargs": {}}]
    with pytest.raises(ModelError, match="'d' is used 2 times"):
        keras_plan.parse(graph(twice, outputs=("d",)), "Functional")


def test_an_activation_that_is_not_covered_is_named_with_its_layer():
    with pytest.raises(ModelError, match="activation 'mish' of layer 'd'"):
        keras_plan.parse(chain(layer("Dense", "d", units=2, activation="mish")), "Sequential")


def test_a_subclassed_model_is_refused():
    with pytest.raises(ModelError, match="the model is a MyNet"):
        keras_plan.parse({}, "MyNet")


def test_layers_that_only_matter_in_training_do_nothing():
    config = chain(layer("RandomFlip", "flip", mode="horizontal"), layer("GaussianNoise", "noise"))
    assert [s.kind for s in keras_plan.parse(config, "Sequential").steps] == ["Identity"] * 2
