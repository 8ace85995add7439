"""The image side of an evaluation: verification sets and folders of people, from their files to embeddings."""

from qface_toolkit.evaluation._base import Embedder, FaceImages, Rows
from qface_toolkit.evaluation.embed import BATCH, embed_images, stream_embeddings

__all__ = ["BATCH", "Embedder", "FaceImages", "Rows", "embed_images", "stream_embeddings"]
