"""The parts of `edge_tl_export.adopt`: reading a foreign ONNX file, understanding its two ends, and putting ours on."""
