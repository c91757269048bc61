"""The two file formats that the C++ programs and the oracle exchange, read and written without the library."""

import json
import struct

import numpy

SHARD_HEADER_WORDS = 256
SHARD_MAGIC = 20240520


def write_safetensors(path, tensors):
    """Writes name -> float32 array: u64 header length, JSON header, then the buffers row by row."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(numpy.ascontiguousarray(value, dtype="<f4").tobytes())


def read_safetensors(path):
    """Name -> float32 array."""
    with open(path, "rb") as file:
        data = file.read()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, expected F32")
        begin, end = (8 + length + at for at in entry["data_offsets"])
        # Without the prefix that some GPT-2 checkpoints carry.
        tensors[name.removeprefix("transformer.")] = (
            numpy.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"]).copy()
        )
    return tensors


def write_shard(path, tokens):
    """Writes token ids below 65,536 as an llm.c shard: 256 x int32 header, then uint16."""
    header = numpy.zeros(SHARD_HEADER_WORDS, dtype="<i4")
    header[:3] = SHARD_MAGIC, 1, len(tokens)
    with open(path, "wb") as file:
        file.write(header.tobytes() + numpy.asarray(tokens, dtype="<u2").tobytes())
