"""What is in a file of Weights & Biases."""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def read_records(file: Path) -> Iterator[Any]:
    """The records of W&B's own file: a LevelDB log, with a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, record = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if (rest := 32768 - at % 32768) < 7:
            at += rest
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(record)
            record = b""


def points(records: Iterable[Any]) -> list[tuple[int, float]]:
    """Step and validation accuracy of each epoch."""
    return [point(record) for record in records if record.WhichOneof("record_type") == "history"]


def point(record: Any) -> tuple[int, float]:
    values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
    return values["_step"], values["val_accuracy"]
