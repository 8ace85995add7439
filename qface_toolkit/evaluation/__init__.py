"""The image side of an evaluation: verification sets and folders of people, from their files to embeddings."""

from qface_toolkit.evaluation._base import Embedder, FaceImages, Rows, shown_text
from qface_toolkit.evaluation.align import align, similarity
from qface_toolkit.evaluation.embed import BATCH, embed_images, stream_embeddings
from qface_toolkit.evaluation.groups import Groups, read_groups
from qface_toolkit.evaluation.ijb import IjbSet, read_ijb
from qface_toolkit.evaluation.pairs import PairSet, check_kinds, read_pairs
from qface_toolkit.evaluation.people import PeopleSet, read_people
from qface_toolkit.evaluation.suite import SUITE_KEYS, PublishedRow, Suite, find_suite, published_rows
from qface_toolkit.evaluation.synthetic import synthetic_people
from qface_toolkit.evaluation.tones import BY_TONE, drawn_tones, tones_of_photographs

__all__ = [
    "BATCH",
    "BY_TONE",
    "SUITE_KEYS",
    "Embedder",
    "FaceImages",
    "Groups",
    "IjbSet",
    "PairSet",
    "PeopleSet",
    "PublishedRow",
    "Rows",
    "Suite",
    "align",
    "check_kinds",
    "synthetic_people",
    "drawn_tones",
    "embed_images",
    "find_suite",
    "published_rows",
    "read_groups",
    "read_ijb",
    "read_pairs",
    "read_people",
    "shown_text",
    "similarity",
    "stream_embeddings",
    "tones_of_photographs",
]
