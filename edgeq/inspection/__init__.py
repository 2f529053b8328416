"""Looking into model files: figures of the graph, and the error of each layer."""
