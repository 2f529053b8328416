"""The float model against the artifact, on data of any size."""
