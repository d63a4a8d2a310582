"""Parts of the deployed graph: the network proper and the decoding behind its last convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def readers_of(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Nodes by the tensors that they read."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def final_convolutions(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions that give scores, corner offsets and surface points: those behind which no other
    convolution comes."""
    readers = readers_of(graph)
    leads_to_one: set[str] = set()
    last = []
    for node in reversed(graph.node):  # a graph's nodes are in the order of computation
        behind = [reader for name in node.output for reader in readers.get(name, [])]
        before_one = any(reader.op_type == 'Conv' or reader.name in leads_to_one for reader in behind)
        if before_one:
            leads_to_one.add(node.name)
        elif node.op_type == 'Conv':
            last.append(node.name)
    return sorted(last)


def decoding(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that are not on the way from the image to a final convolution: they turn its output into
    cells, or make the grid of cells."""
    maker = {name: node for node in graph.node for name in node.output}
    network: set[str] = set()
    by_name = {node.name: node for node in graph.node}
    left = [by_name[name] for name in final_convolutions(graph)]
    while left:
        node = left.pop()
        if node.name not in network:
            network.add(node.name)
            left += [maker[name] for name in node.input if name in maker]
    return [node.name for node in graph.node if node.name not in network]
