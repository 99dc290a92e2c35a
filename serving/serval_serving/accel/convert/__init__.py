"""Converts a SavedModel into an artifact for a device. docs/conversion.md explains it to users.

The modules here that import TensorFlow, tf2onnx, onnx or onnxruntime run in processes of their own, which
`child` starts: no other process has to bear their memory, and one that is killed takes nothing else down.

===============  =============================================================================================
`pipeline`       the whole conversion: runs the steps one after another and writes ``conversion.json``
`children`       a step as a child process: limits, progress, the end of its log
`child`          the program of the child; `steps` names what it can do
`saved_model`    loads a SavedModel and makes one graph of it, without weights
`training`       gives flags of training mode the value False
`cut`            finds the network's input
`device_graph`   the graph behind the cut, and what it must not contain
`host_graph`     the graph before the cut
`to_onnx`        TensorFlow to ONNX
`photos`         what the calibration sees
`onnx_parts`     folds constants, and splits the classifier from the device part
`quantize`       float to int8
`accuracy`       how far int8 is from float
===============  =============================================================================================
"""
