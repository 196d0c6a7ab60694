"""The run times of a bundle's generator: ONNX Runtime, OpenVINO and TensorRT, one interface."""
