"""The model server: TensorFlow Serving's predict API over gRPC and HTTP, and `/score` for raw bytes."""
