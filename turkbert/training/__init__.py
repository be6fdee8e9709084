"""Rows -> a trained model. Start reading at trainer.py."""
