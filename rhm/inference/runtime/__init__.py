"""Runtimes: the engines that execute a network, and its export to ONNX."""
