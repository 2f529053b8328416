"""Devices without Python: TFLite's ``benchmark_model`` runs the model, a shell does the rest."""
