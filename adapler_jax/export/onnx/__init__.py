"""Write a saved model as an ONNX file that drops tokens, for engines without JAX."""
