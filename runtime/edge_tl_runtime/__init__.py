"""edge-tl on the device: the model contract, preprocessing, classification. numpy, onnxruntime and OpenCV only."""
