from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from talkgen.errors import FileError
from talkgen.models.experts.onnx_import import OnnxNetwork

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)


def save(file: Path, nodes: list, arrays: dict[str, np.ndarray], shape: tuple, out: str = "out") -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, ("b", "dim"))],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    return file


def random(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def recogniser(file: Path) -> Path:
    """The operators of a face recogniser, with an asymmetric padding and a transposed matrix product."""
    arrays = {
        "w1": random(4, 3, 3, 3), "b1": random(4), "slope": np.abs(random(4, 1, 1)),
        "w2": random(4, 1, 3, 3), "scale": random(4), "shift": random(4), "mean": random(4),
        "var": np.abs(random(4)) + 0.5, "fc": random(64, 5), "bias": random(5),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[0, 0, 1, 1], strides=[2, 2]),
        helper.make_node("PRelu", ["c1", "slope"], ["p"]),
        helper.make_node("Conv", ["p", "w2"], ["c2"], pads=[1, 1, 1, 1], group=4),
        helper.make_node("BatchNormalization", ["c2", "scale", "shift", "mean", "var"], ["n"], epsilon=1e-3),
        helper.make_node("Add", ["n", "p"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "bias"], ["out"], alpha=0.5, beta=2.0),
    ]
    return save(file, nodes, arrays, ("n", 3, 8, 8))


def attention(file: Path) -> Path:
    """The operators of a transformer block, exported with a batch of one as such files are."""
    numbers = {
        "shape": np.array([1, 6, 2, 3, -1]), "back": np.array([0, 6, 6]), "starts": np.array([0]),
        "ends": np.array([6]), "axes": np.array([2]), "full": np.array([1, 2, 1, 6]),
    }  # fmt: skip
    arrays = numbers | {
        name: np.array(value, np.float32) for name, value in (("two", 2), ("least", 0.1), ("eps", 1e-6))
    }
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[-1]),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Pow", ["d", "two"], ["sq"]),
        helper.make_node("ReduceMean", ["sq"], ["v"], axes=[-1]),
        helper.make_node("Add", ["v", "eps"], ["ve"]),
        helper.make_node("Sqrt", ["ve"], ["sd"]),
        helper.make_node("Div", ["d", "sd"], ["n"]),
        helper.make_node("Reshape", ["n", "shape"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[2, 0, 3, 1, 4]),
        helper.make_node("Split", ["t"], ["q5", "k5"], axis=0, split=[1, 1]),
        helper.make_node("Squeeze", ["q5"], ["q"], axes=[0]),
        helper.make_node("Squeeze", ["k5"], ["k"], axes=[0]),
        helper.make_node("ReduceL2", ["q"], ["l"], axes=[-1], keepdims=1),
        helper.make_node("Clip", ["l", "least"], ["lc"]),
        helper.make_node("Div", ["q", "lc"], ["qn"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["qn", "kt"], ["a"]),
        helper.make_node("Softmax", ["a"], ["as"], axis=3),
        helper.make_node("Erf", ["as"], ["e"]),
        helper.make_node("Mul", ["e", "as"], ["g"]),
        helper.make_node("Concat", ["g", "g"], ["c"], axis=3),
        helper.make_node("Slice", ["c", "starts", "ends", "axes"], ["s"]),
        helper.make_node("Relu", ["s"], ["rl"]),
        helper.make_node("GlobalAveragePool", ["rl"], ["gap"]),
        helper.make_node("Flatten", ["gap"], ["out"]),
    ]
    return save(file, nodes, arrays, (1, 6, 12))


def runtime(file: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("make", "shape"), [(recogniser, (3, 3, 8, 8)), (attention, (1, 6, 12))])
def test_the_numbers_of_onnxruntime(make, shape: tuple[int, ...], tmp_path: Path) -> None:
    file = make(tmp_path / "network.onnx")
    x = random(*shape)
    network = OnnxNetwork(file)
    torch.testing.assert_close(network(torch.from_numpy(x)).numpy(), runtime(file, x), atol=1e-5, rtol=1e-5)


def test_a_graph_exported_with_one_image_takes_any_batch(tmp_path: Path) -> None:
    file = attention(tmp_path / "network.onnx")
    x = random(4, 6, 12)
    together = OnnxNetwork(file)(torch.from_numpy(x)).numpy()
    apart = np.concatenate([runtime(file, x[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_gradients_are_right_and_no_array_is_trained(tmp_path: Path) -> None:
    network = OnnxNetwork(recogniser(tmp_path / "network.onnx")).train().double()
    x = torch.from_numpy(random(2, 3, 8, 8)).double().requires_grad_()
    assert torch.autograd.gradcheck(network, (x,))
    assert not list(network.parameters())


def test_it_can_be_pickled(tmp_path: Path) -> None:
    network = OnnxNetwork(recogniser(tmp_path / "network.onnx"))
    x = torch.from_numpy(random(1, 3, 8, 8))
    torch.testing.assert_close(pickle.loads(pickle.dumps(network))(x), network(x))


def test_what_is_not_covered_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sin", ["x"], ["y"]), helper.make_node("Tan", ["y"], ["out"])]
    with pytest.raises(FileError, match="not covered: Sin, Tan"):
        OnnxNetwork(save(tmp_path / "odd.onnx", nodes, {}, (1, 2)))
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(FileError, match="not an ONNX file"):
        OnnxNetwork(tmp_path / "text.onnx")
    with pytest.raises(FileError, match="cannot be read"):
        OnnxNetwork(tmp_path / "absent.onnx")
