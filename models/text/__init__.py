"""From files to tokens: documents, their tokenizer, and the windows that are searched and trained on."""
