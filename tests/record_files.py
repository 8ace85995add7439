"""RecordIO files as MXNet and insightface write them, for tests: records, an index, and who is on which image."""

import struct

MAGIC = struct.pack("<I", 0xCED7230A)


def body(image=b"", labels=0.0, flag=None):
    """Return a record's header, labels and image; a list of labels follows the header, as MXNet's `pack` writes it."""
    listed = isinstance(labels, list)
    more = struct.pack(f"<{len(labels)}f", *labels) if listed else b""
    given = len(labels) if listed else 0
    header = struct.pack("<IfQQ", given if flag is None else flag, 0.0 if listed else labels, 7, 0)
    return header + more + image


def part(content, place=0):
    """Return one part of a record, padded: 0 is a whole record, 1 the first part, 2 one in between, 3 the last."""
    return MAGIC + struct.pack("<I", place << 29 | len(content)) + content + bytes(-len(content) % 4)


def record(content):
    """Return a record, cut where the magic number stands in it on a multiple of four, as dmlc's writer does."""
    cuts = [at for at in range(0, len(content) // 4 * 4, 4) if content[at : at + 4] == MAGIC]
    ends, starts = [*cuts, len(content)], [0, *(at + 4 for at in cuts)]
    pieces = [content[start:end] for start, end in zip(starts, ends, strict=True)]
    last = len(pieces) - 1
    places = [0] if not last else [1, *([2] * (last - 1)), 3]
    return b"".join(part(piece, place) for piece, place in zip(pieces, places, strict=True))


def write_records(path, records, keys=None):
    """Write bodies of records, and the index beside them; keys count from 0 unless they are given."""
    lines, place = [], 0
    with path.open("wb") as file:
        for key, content in zip(keys or range(len(records)), records, strict=True):
            lines.append(f"{key}\t{place}\n")
            place += file.write(record(content))
    path.with_suffix(".idx").write_text("".join(lines))
    return path


def insightface(people, header_labels=None):
    """Return the bodies that insightface writes for lists of images, one a person: see datasets/recordio.py."""
    images = [(label, image) for label, own in enumerate(people) for image in own]
    labels = header_labels or [label for label, _ in images]
    first = 1 + len(images)
    bodies = [body(labels=[float(first), float(first + len(people))])]
    bodies += [body(image, [float(label), 0.0]) for label, (_, image) in zip(labels, images, strict=True)]
    start = 1
    for own in people:
        bodies.append(body(labels=[float(start), float(start + len(own))]))
        start += len(own)
    return bodies
