# SPDX-License-Identifier: GPL-2.0
"""The functions of libblksnap.so.1 and the structures of <linux/blksnap.h>."""

import ctypes
from ctypes import (CFUNCTYPE, POINTER, c_bool, c_char, c_char_p, c_int, c_int32, c_int64,
                    c_size_t, c_ubyte, c_uint, c_uint8, c_uint16, c_uint32, c_uint64,
                    c_void_p)

SECTOR_SIZE = 512
STORAGE_FORCE = 1
EVENT_LOW_FREE_SPACE = 0
EVENT_CORRUPTED = 1
INFO_CREATOR_ENDED = 1


class Version(ctypes.Structure):
    _fields_ = [("major", c_uint16), ("minor", c_uint16), ("revision", c_uint16),
                ("build", c_uint16)]


class Dev(ctypes.Structure):
    _fields_ = [("mj", c_uint32), ("mn", c_uint32)]


class Uuid(ctypes.Structure):
    _fields_ = [("b", c_uint8 * 16)]


class CbtInfo(ctypes.Structure):
    _fields_ = [("dev_id", Dev), ("blk_size", c_uint32), ("device_capacity", c_uint64),
                ("blk_count", c_uint32), ("generation_id", Uuid), ("snap_number", c_uint8)]


class BlockRange(ctypes.Structure):
    _fields_ = [("sector_offset", c_uint64), ("sector_count", c_uint64)]


class ImageInfo(ctypes.Structure):
    _fields_ = [("orig_dev_id", Dev), ("image_dev_id", Dev)]


class SnapshotInfo(ctypes.Structure):
    _fields_ = [("id", Uuid), ("count", c_uint32), ("flags", c_uint32),
                ("dev_id_array", c_uint64), ("state", c_uint32), ("pid", c_uint32),
                ("age_ms", c_uint64), ("comm", c_char * 16)]


class SnapshotEvent(ctypes.Structure):
    _fields_ = [("id", Uuid), ("timeout_ms", c_uint32), ("code", c_uint32),
                ("time_label", c_int64), ("data", c_ubyte * (4096 - 32))]


class LowFreeSpace(ctypes.Structure):
    _fields_ = [("requested_nr_sect", c_uint64)]


class Corrupted(ctypes.Structure):
    _fields_ = [("orig_dev_id", Dev), ("err_code", c_int32)]


EventHandler = CFUNCTYPE(c_int, POINTER(SnapshotEvent), c_void_p)

lib = ctypes.CDLL("libblksnap.so.1")
free = ctypes.CDLL(None).free
free.argtypes = [c_void_p]
free.restype = None

_handle = c_void_p
_id = POINTER(Uuid)
_count = POINTER(c_uint)
_prototypes = {
    "open": (c_int, POINTER(_handle)),
    "close": (None, _handle),
    "error": (c_char_p,),
    "version": (c_int, _handle, POINTER(Version)),
    "tracker_collect": (c_int, _handle, POINTER(POINTER(CbtInfo)), _count),
    "tracker_info": (c_int, _handle, Dev, POINTER(CbtInfo)),
    "tracker_remove": (c_int, _handle, Dev),
    "tracker_read_cbt_map": (c_int, _handle, Dev, c_uint, c_uint, c_void_p),
    "tracker_mark_dirty_blocks": (c_int, _handle, Dev, POINTER(BlockRange), c_uint),
    "cbt_load": (c_int, _handle, Dev, POINTER(_handle)),
    "cbt_info": (POINTER(CbtInfo), _handle),
    "cbt_map": (c_void_p, _handle),
    "cbt_check": (c_int, _handle, _id, c_uint),
    "cbt_extents": (c_int, _handle, c_uint, POINTER(POINTER(BlockRange)),
                    POINTER(c_size_t)),
    "cbt_free": (None, _handle),
    "snapshot_create": (c_int, _handle, POINTER(Dev), c_uint, _id),
    "snapshot_destroy": (c_int, _handle, _id),
    "snapshot_take": (c_int, _handle, _id),
    "snapshot_collect": (c_int, _handle, POINTER(POINTER(Uuid)), _count),
    "snapshot_collect_images": (c_int, _handle, _id, POINTER(POINTER(ImageInfo)), _count),
    "snapshot_info": (c_int, _handle, _id, POINTER(SnapshotInfo), POINTER(POINTER(Dev))),
    "snapshot_wait_event": (c_int, _handle, _id, c_uint, POINTER(SnapshotEvent)),
    "snapshot_watch": (c_int, _handle, _id, c_int64, EventHandler, c_void_p),
    "snapshot_append_storage": (c_int, _handle, _id, Dev, POINTER(BlockRange), c_uint),
    "snapshot_pin_file": (c_int, _handle, _id, c_int),
    "storage_reserve_file": (c_int, c_char_p, c_uint64, c_uint),
    "storage_find_file": (c_int, c_char_p, c_uint64, c_uint64, c_uint, POINTER(_handle)),
    "storage_find_device": (c_int, Dev, c_uint, POINTER(_handle)),
    "storage_from_ranges": (c_int, Dev, POINTER(BlockRange), c_uint, POINTER(_handle)),
    "storage_dev": (Dev, _handle),
    "storage_ranges": (c_uint, _handle, POINTER(POINTER(BlockRange))),
    "storage_nr_sectors": (c_uint64, _handle),
    "storage_append": (c_int, _handle, _id, _handle),
    "storage_free": (None, _handle),
    "device_share_disk": (c_bool, Dev, Dev),
    "format_uuid": (None, _id, c_char_p),
}

for _name, (_result, *_arguments) in _prototypes.items():
    _function = getattr(lib, "blksnap_" + _name)
    _function.restype = _result
    _function.argtypes = _arguments
