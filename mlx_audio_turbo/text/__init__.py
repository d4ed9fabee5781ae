"""Text to the ids of a tokenizer, in segments that the model speaks well."""
