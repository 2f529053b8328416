"""Source formats, one a file: each turns a model into the pivot, a float .tflite."""
