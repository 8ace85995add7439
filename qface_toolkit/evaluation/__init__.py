"""What a model is judged by: sets of face images, and the embeddings a model makes of them."""
