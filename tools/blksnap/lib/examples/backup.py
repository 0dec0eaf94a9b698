#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""backup.py DEVICE STORAGE COPY - copy a device in use into a file.

All of it the first time, and then what has changed since.
"""
import json
import os
import sys
import uuid

import blksnap

path, storage_path, copy_path = sys.argv[1:]
device = blksnap.device(path)
with blksnap.Module() as module:
    blksnap.Storage.reserve(storage_path, 64 << 20)
    with blksnap.Storage.file(storage_path) as storage, module.create([device]) as snapshot:
        snapshot.append(storage)
        snapshot.take()
        changes = module.changes(device)
        state = {"generation": "", "number": 0}
        if os.path.exists(copy_path + ".state"):
            with open(copy_path + ".state") as file:
                state = json.load(file)
        full = (not state["generation"] or
                not changes.covers(uuid.UUID(state["generation"]), state["number"]))
        extents = ([blksnap.Range(0, changes.info.capacity // blksnap.SECTOR_SIZE)] if full
                   else changes.extents(state["number"]))
        image = os.open(snapshot.images()[device], os.O_RDONLY)
        copy = os.open(copy_path, os.O_WRONLY | os.O_CREAT, 0o600)
        for start, count in extents:
            offset, left = start * blksnap.SECTOR_SIZE, count * blksnap.SECTOR_SIZE
            while left:
                done = os.pwrite(copy, os.pread(image, min(left, 1 << 20), offset), offset)
                offset, left = offset + done, left - done
        os.fsync(copy)
        os.close(image)
        with open(copy_path + ".state", "w") as file:
            json.dump({"generation": str(changes.info.generation),
                       "number": changes.info.number}, file)
print("full" if full else "incremental", len(extents))
