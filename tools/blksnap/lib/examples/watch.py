#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""watch.py ID FILE - give a snapshot more storage whenever it runs short.

The storage is in FILE.1, FILE.2, ... on another disk than those of the snapshot.
"""
import sys

import blksnap

identifier, path = sys.argv[1:]
nr_files = 0
with blksnap.Module() as module:
    snapshot = module.snapshot(identifier)
    for event in snapshot.events():
        if event.code == "low_free_space":
            nr_files += 1
            size = max(event.requested_sectors * blksnap.SECTOR_SIZE, 4 << 20)
            blksnap.Storage.reserve(f"{path}.{nr_files}", size)
            with blksnap.Storage.file(f"{path}.{nr_files}") as storage:
                snapshot.append(storage)
                print(f"appended {storage.sectors} sectors", flush=True)
        elif event.code == "corrupted":
            print(f"the image of {event.device} is lost: errno {event.error}", flush=True)
print("destroyed")
