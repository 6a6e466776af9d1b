"""`python -m scripts.graph_pb2tb OUT_DIR GRAPH`: a graph for TensorBoard's graph page."""

from retrain.cli.graph_pb2tb import command

if __name__ == "__main__":
    command()
