"""The predict API on the wire: message classes, RPC names and the tensor codec, without TensorFlow."""
