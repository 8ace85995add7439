"""Strangers' bytes, and safe writing: files are read here with limits, without running or believing them.

`reading` opens files, `json`, `yaml` and `settings` give plain values, `images` pixels, `onnx` a graph, `weights` a
state dict and `pickles` lists of images; `writing` puts whole files into folders that may hold links; `limits` bounds
what running a file may take. Nothing above `errors` is imported.
"""
