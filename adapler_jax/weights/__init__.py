"""BERT checkpoints <-> our parameter tree, and saved model directories.

`read.load_pretrained` reads what others published, `save.save_model` and `save.load_model` handle what we trained.
"""
