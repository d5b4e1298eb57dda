"""Painted scenes, which came before `experiments.world`.

The embedded CLIP, the shipped network and the ablation were trained on them and recorded with
them; nothing else uses them, and they go once these three are made anew.
"""
