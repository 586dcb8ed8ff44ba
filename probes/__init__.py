"""Behaviours to test for: each probe turns a model's tokenizer into prompts."""
