"""The image side of an evaluation: verification sets and folders of people, from their files to embeddings."""

from qface_toolkit.evaluation._base import Embedder, FaceImages, Rows
from qface_toolkit.evaluation.embed import BATCH, embed_images, stream_embeddings
from qface_toolkit.evaluation.groups import Groups, read_groups
from qface_toolkit.evaluation.pairs import PairSet, read_pairs
from qface_toolkit.evaluation.people import PeopleSet, read_people
from qface_toolkit.evaluation.synthetic import draw_people

__all__ = [
    "BATCH",
    "Embedder",
    "FaceImages",
    "Groups",
    "PairSet",
    "PeopleSet",
    "Rows",
    "draw_people",
    "embed_images",
    "read_groups",
    "read_pairs",
    "read_people",
    "stream_embeddings",
]
