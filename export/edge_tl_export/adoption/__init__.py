"""The parts of `edge_tl_export.adoption.adopt`: reading a foreign ONNX file, understanding its two ends, and putting ours on."""
