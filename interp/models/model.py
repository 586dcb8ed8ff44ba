"""A loaded model: the user's own Hugging Face object, its tokenizer, its sites, and what stands at position 0."""
