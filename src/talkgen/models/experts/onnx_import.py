"""ONNX graphs as torch modules, so that gradients go through recognisers that are published as ONNX files.

    network = OnnxNetwork(Path("w600k_mbf.onnx"))
    embedding = network(images)  # the same numbers as onnxruntime, differentiable

Covered: feed-forward graphs of one image input and one output, with the operators in `OPERATIONS`; a graph
with any other is refused by the operator's name. Nothing of the file is run: it is a list of operators and
arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talkgen.errors import FileError, MissingPackage

# An operator's inputs: tensors, and whole-number constants (shapes, axes, starts) as tuples; None is "left
# out".
Value = Tensor | tuple[int, ...] | None
Attributes = dict[str, Any]


def _conv(inputs: list[Any], attributes: Attributes) -> Tensor:
    image, weight, *rest = inputs
    bias = rest[0] if rest else None
    pads = attributes.get("pads", [0, 0, 0, 0])
    stride, dilation = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        padding = [top, left]
    else:  # unequal sides
        image, padding = F.pad(image, (left, right, top, bottom)), [0, 0]
    return F.conv2d(image, weight, bias, stride, padding, dilation, attributes.get("group", 1))


def _batch_norm(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, weight, bias, mean, variance = inputs
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, attributes.get("epsilon", 1e-5))


def _gemm(inputs: list[Any], attributes: Attributes) -> Tensor:
    a, b, *rest = inputs
    a = a.mT if attributes.get("transA", 0) else a
    b = b if attributes.get("transB", 0) else b.mT
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    if alpha == 1.0 and beta == 1.0:
        return F.linear(a, b, rest[0] if rest else None)
    product = alpha * F.linear(a, b)
    return product + beta * rest[0] if rest else product


def _reshape(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, shape = inputs
    # 0 keeps a dimension. A leading 1 is the batch of a graph that was exported with one image: keep it too,
    # so that any batch works.
    sizes = [x.shape[i] if size == 0 or (i == 0 and size == 1) else size for i, size in enumerate(shape)]
    return x.reshape(sizes)


def _slice(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, starts, ends, *rest = inputs
    axes = rest[0] if rest and rest[0] is not None else range(len(starts))
    steps = rest[1] if len(rest) > 1 and rest[1] is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def _split(inputs: list[Any], attributes: Attributes) -> tuple[Tensor, ...]:
    x, *rest = inputs
    sizes = rest[0] if rest else attributes["split"]
    return torch.split(x, list(sizes), attributes.get("axis", 0))


def _squeeze(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, *rest = inputs
    axes = rest[0] if rest else attributes["axes"]
    return x.squeeze(tuple(axes))


def _axes(inputs: list[Any], attributes: Attributes) -> tuple[int, ...]:
    return tuple(inputs[1] if len(inputs) > 1 else attributes["axes"])


def _clip(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, *bounds = inputs
    low, high = [*bounds, None, None][:2]
    return torch.clamp(
        x,
        attributes.get("min") if low is None else low,
        attributes.get("max") if high is None else high,
    )


def _expand(inputs: list[Any], attributes: Attributes) -> Tensor:
    x, shape = inputs
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def _mean(inputs: list[Any], attributes: Attributes) -> Tensor:
    return inputs[0].mean(_axes(inputs, attributes), keepdim=bool(attributes.get("keepdims", 1)))


def _l2(inputs: list[Any], attributes: Attributes) -> Tensor:
    keep = bool(attributes.get("keepdims", 1))
    return torch.linalg.vector_norm(inputs[0], dim=_axes(inputs, attributes), keepdim=keep)


def _prelu(inputs: list[Any], attributes: Attributes) -> Tensor:
    return F.prelu(inputs[0], inputs[1].flatten())


def _flatten(inputs: list[Any], attributes: Attributes) -> Tensor:
    return inputs[0].flatten(attributes.get("axis", 1))


def _transpose(inputs: list[Any], attributes: Attributes) -> Tensor:
    return inputs[0].permute(attributes["perm"])


def _concat(inputs: list[Any], attributes: Attributes) -> Tensor:
    return torch.cat(inputs, attributes["axis"])


def _softmax(inputs: list[Any], attributes: Attributes) -> Tensor:
    return inputs[0].softmax(attributes.get("axis", -1))


def _global_average_pool(inputs: list[Any], attributes: Attributes) -> Tensor:
    return inputs[0].mean((2, 3), keepdim=True)


def _arithmetic(function: Callable[..., Tensor], inputs: list[Any], attributes: Attributes) -> Tensor:
    return function(*inputs)


OPERATIONS: dict[str, Callable[[list[Any], Attributes], Tensor | tuple[Tensor, ...]]] = {
    "Add": partial(_arithmetic, torch.add),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": partial(_arithmetic, torch.div),
    "Erf": partial(_arithmetic, torch.erf),
    "Expand": _expand,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "MatMul": partial(_arithmetic, torch.matmul),
    "Mul": partial(_arithmetic, torch.mul),
    "PRelu": _prelu,
    "Pow": partial(_arithmetic, torch.pow),
    "ReduceL2": _l2,
    "ReduceMean": _mean,
    "Relu": partial(_arithmetic, torch.relu),
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sqrt": partial(_arithmetic, torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": partial(_arithmetic, torch.sub),
    "Transpose": _transpose,
}


@dataclass(frozen=True)
class _Step:
    """One operator of the graph."""

    operation: str
    attributes: Attributes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last_use_of: tuple[str, ...]  # values that nobody reads afterwards: their memory is given back


class OnnxNetwork(nn.Module):
    """A network read from an ONNX file.

    Its arrays are buffers: it moves between devices, is never trained, and ``train()`` changes nothing.

    Args:
        file: the ONNX file.

    Raises:
        FileError: not an ONNX file, an operator outside `OPERATIONS`, or not one input and one output.
        MissingPackage: the package ``onnx`` is absent.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            import onnx
        except ImportError as error:
            raise MissingPackage("reading ONNX weights needs the package onnx: pip install onnx") from error
        try:
            graph = onnx.load(str(file)).graph
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise FileError(file, "cannot be read") from error
        except Exception as error:  # protobuf's own class, which onnx does not re-export
            raise FileError(file, "is not an ONNX file") from error
        unknown = sorted({node.op_type for node in graph.node} - set(OPERATIONS) - {"Constant"})
        if unknown:
            raise FileError(file, f"uses ONNX operators that are not covered: {', '.join(unknown)}")

        arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                arrays[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
        inputs = [value.name for value in graph.input if value.name not in arrays]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise FileError(
                file, f"has {len(inputs)} inputs and {len(graph.output)} outputs, expected one each"
            )
        self.input_name, self.output_name = inputs[0], graph.output[0].name

        self._numbers: dict[str, tuple[int, ...]] = {}
        self._buffer_of: dict[str, str] = {}
        for index, (name, array) in enumerate(arrays.items()):
            if array.dtype.kind in "iu":
                self._numbers[name] = tuple(int(number) for number in array.reshape(-1))
            else:
                self._buffer_of[name] = f"array_{index}"
                self.register_buffer(f"array_{index}", torch.from_numpy(array.copy()))

        nodes = [node for node in graph.node if node.op_type != "Constant"]
        last_reader = {name: place for place, node in enumerate(nodes) for name in node.input}
        computed = {name for node in nodes for name in node.output} | {self.input_name}
        self._steps = tuple(
            _Step(
                node.op_type,
                {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute},
                tuple(node.input),
                tuple(node.output),
                tuple(name for name in set(node.input) if name in computed and last_reader[name] == place),
            )
            for place, node in enumerate(nodes)
        )
        for step in self._steps:
            if step.attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
                raise FileError(file, f"uses automatic padding in {step.operation}, which is not covered")

    def forward(self, images: Tensor) -> Tensor:
        """Run the graph.

        Args:
            images: (b, …) as the graph wants them.

        Returns:
            the graph's output, with gradients to ``images``.
        """
        values: dict[str, Value] = {self.input_name: images, "": None, **self._numbers}
        values |= {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()}
        for step in self._steps:
            result = OPERATIONS[step.operation]([values[name] for name in step.inputs], step.attributes)
            outputs = (result,) if isinstance(result, Tensor) else result
            values.update(zip(step.outputs, outputs, strict=True))
            for name in step.last_use_of:
                del values[name]
        output = values[self.output_name]
        assert isinstance(output, Tensor)
        return output
