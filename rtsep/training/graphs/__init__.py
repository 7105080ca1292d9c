"""Streaming ONNX graphs of the nets, and the proofs that they do what torch does."""
