"""Encoding faster than by torch: the encoder as an ONNX graph, used where it is measured to be faster and no worse."""
