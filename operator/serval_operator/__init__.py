"""The Serval operator: puts TensorFlow models on accelerator nodes and says the truth about them."""
