"""Convert BERT checkpoints to our parameter tree, and save and load models.

`pretrained.load_pretrained` loads published checkpoints. `save.save_model` and `save.load_model`
handle trained models.
"""
