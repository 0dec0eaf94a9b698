# SPDX-License-Identifier: GPL-2.0
"""Snapshots of block devices in use, by libblksnap.

    import blksnap

    with blksnap.Module() as module, blksnap.Storage.file("/srv/storage") as storage:
        with module.create([blksnap.device("/dev/sda1")]) as snapshot:
            snapshot.append(storage)
            snapshot.take()
            image = snapshot.images()[blksnap.device("/dev/sda1")]
            ...read the image...

Offsets and sizes of ranges are in sectors of 512 bytes.  What the kernel refuses raises
blksnap.Error, an OSError whose text says why and what can be done.
"""

import ctypes
import dataclasses
import errno
import os
import time
import uuid
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from . import _native
from ._native import SECTOR_SIZE, lib

__all__ = ["SECTOR_SIZE", "ChangeMap", "Device", "Error", "Event", "Module", "Range",
           "Snapshot", "SnapshotInfo", "Storage", "TrackerInfo", "device", "share_disk"]

# A wait in C cannot be interrupted by what Python does with a signal, except by ending.
_WAIT_MS = 0xffffffff


class Error(OSError):
    """A call that failed: errno, and why in words."""


class Device(NamedTuple):
    """The number of a block device."""

    major: int
    minor: int


class Range(NamedTuple):
    """A run of sectors."""

    start: int
    count: int


@dataclasses.dataclass(frozen=True)
class TrackerInfo:
    """The state of a tracked device; generation and number are kept with a backup."""

    device: Device
    capacity: int
    block_size: int
    block_count: int
    generation: uuid.UUID
    number: int


@dataclasses.dataclass(frozen=True)
class SnapshotInfo:
    """What a snapshot holds, since when, and for whom."""

    devices: List[Device]
    state: int
    age_ms: int
    pid: int
    comm: str
    creator_ended: bool


@dataclasses.dataclass(frozen=True)
class Event:
    """What a snapshot has to tell.

    code is "low_free_space", with the sectors that are wanted, or "corrupted", with the
    device whose image is lost and the errno of the reason, or else a number.
    """

    code: object
    time_ns: int
    requested_sectors: int = 0
    device: Optional[Device] = None
    error: int = 0


def _check(ret: int) -> int:
    if ret < 0:
        raise Error(-ret, lib.blksnap_error().decode(errors="replace"))
    return ret


def _from_dev(dev: _native.Dev) -> Device:
    return Device(dev.mj, dev.mn)


def _from_uuid(value: _native.Uuid) -> uuid.UUID:
    return uuid.UUID(bytes=bytes(value.b))


def _to_uuid(value: uuid.UUID) -> _native.Uuid:
    return _native.Uuid((ctypes.c_uint8 * 16)(*value.bytes))


def _to_ranges(ranges: Sequence[Range]) -> "ctypes.Array[_native.BlockRange]":
    return (_native.BlockRange * len(ranges))(*[_native.BlockRange(*r) for r in ranges])


def _from_info(info: _native.CbtInfo) -> TrackerInfo:
    return TrackerInfo(_from_dev(info.dev_id), info.device_capacity, info.blk_size,
                       info.blk_count, _from_uuid(info.generation_id), info.snap_number)


def _take(array: "ctypes._Pointer", count: int, convert) -> list:
    """Convert the entries of an array that the library has allocated, and free it."""
    try:
        return [convert(array[i]) for i in range(count)]
    finally:
        _native.free(array)


def device(path: "os.PathLike[str] | str") -> Device:
    """Return the number of the block device with this path."""
    number = os.stat(path).st_rdev
    return Device(os.major(number), os.minor(number))


def share_disk(a: Device, b: Device) -> bool:
    """Say whether two devices lie on a common disk."""
    return lib.blksnap_device_share_disk(_native.Dev(*a), _native.Dev(*b))


class _Object:
    """An object of the library, which is freed when it is closed."""

    _free = None

    def __init__(self, handle: ctypes.c_void_p) -> None:
        self._handle = handle

    def close(self) -> None:
        """Free it; more calls with it fail."""
        handle, self._handle = self._handle, None
        if handle:
            type(self)._free(handle)

    def _open(self) -> ctypes.c_void_p:
        if not self._handle:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    def __enter__(self):
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()


class Storage(_Object):
    """Where difference storage is; a context manager that forgets it at the end."""

    _free = lib.blksnap_storage_free

    @staticmethod
    def reserve(path: str, size: int, force: bool = False) -> None:
        """Make sure that the first size bytes of a file have blocks."""
        _check(lib.blksnap_storage_reserve_file(os.fsencode(path), size,
                                                _native.STORAGE_FORCE * force))

    @classmethod
    def file(cls, path: str, offset: int = 0, size: int = 0, force: bool = False) -> "Storage":
        """Take a reserved file, or a piece of it; all up to its end with size 0."""
        handle = ctypes.c_void_p()
        _check(lib.blksnap_storage_find_file(os.fsencode(path), offset, size,
                                             _native.STORAGE_FORCE * force,
                                             ctypes.byref(handle)))
        return cls(handle)

    @classmethod
    def whole_device(cls, number: Device, force: bool = False) -> "Storage":
        """Take all of a device that nothing else uses."""
        handle = ctypes.c_void_p()
        _check(lib.blksnap_storage_find_device(_native.Dev(*number),
                                               _native.STORAGE_FORCE * force,
                                               ctypes.byref(handle)))
        return cls(handle)

    @classmethod
    def parts(cls, number: Device, ranges: Sequence[Range]) -> "Storage":
        """Take parts of a device, whatever they hold."""
        handle = ctypes.c_void_p()
        _check(lib.blksnap_storage_from_ranges(_native.Dev(*number), _to_ranges(ranges),
                                               len(ranges), ctypes.byref(handle)))
        return cls(handle)

    @property
    def device(self) -> Device:
        """The device that it is on."""
        return _from_dev(lib.blksnap_storage_dev(self._open()))

    @property
    def ranges(self) -> List[Range]:
        """Where on the device it is."""
        ranges = ctypes.POINTER(_native.BlockRange)()
        count = lib.blksnap_storage_ranges(self._open(), ctypes.byref(ranges))
        return [Range(ranges[i].sector_offset, ranges[i].sector_count)
                for i in range(count)]

    @property
    def sectors(self) -> int:
        """How much it is."""
        return lib.blksnap_storage_nr_sectors(self._open())


class ChangeMap(_Object):
    """The change map of a device, as of its last snapshot."""

    _free = lib.blksnap_cbt_free

    @property
    def info(self) -> TrackerInfo:
        """What the map belongs to."""
        return _from_info(lib.blksnap_cbt_info(self._open()).contents)

    def __bytes__(self) -> bytes:
        """One byte for each tracking block: the number when it changed last."""
        handle = self._open()
        return ctypes.string_at(lib.blksnap_cbt_map(handle), self.info.block_count)

    def covers(self, generation: Optional[uuid.UUID], since: int) -> bool:
        """Say whether it tells all changes since this snapshot; if not, back up in full."""
        wanted = ctypes.byref(_to_uuid(generation)) if generation else None
        ret = lib.blksnap_cbt_check(self._open(), wanted, since)
        if ret == -errno.ESTALE:
            return False
        _check(ret)
        return True

    def extents(self, since: int) -> List[Range]:
        """Return what changed after the snapshot of this number, in order."""
        extents = ctypes.POINTER(_native.BlockRange)()
        count = ctypes.c_size_t()
        _check(lib.blksnap_cbt_extents(self._open(), since, ctypes.byref(extents),
                                       ctypes.byref(count)))
        return _take(extents, count.value,
                     lambda e: Range(e.sector_offset, e.sector_count))


class Snapshot:
    """A snapshot; a context manager that destroys it at the end."""

    def __init__(self, module: "Module", identifier: uuid.UUID) -> None:
        self.id = identifier
        self._module = module
        self._uuid = _to_uuid(identifier)

    def _call(self, name: str, *arguments: object) -> int:
        function = getattr(lib, "blksnap_" + name)
        return _check(function(self._module._open(), ctypes.byref(self._uuid), *arguments))

    def append(self, storage: Storage) -> None:
        """Hand difference storage to it; a file is kept in its place from then on."""
        self._call("storage_append", storage._open())

    def take(self) -> None:
        """Take it: all of its devices at one instant."""
        self._call("snapshot_take")

    def destroy(self) -> None:
        """Give it up; its images disappear."""
        self._call("snapshot_destroy")

    def images(self) -> Dict[Device, str]:
        """Return the paths of the images by device; there are none before the take."""
        images = ctypes.POINTER(_native.ImageInfo)()
        count = ctypes.c_uint()
        self._call("snapshot_collect_images", ctypes.byref(images), ctypes.byref(count))
        return dict(_take(images, count.value, lambda i: (
            _from_dev(i.orig_dev_id), f"/dev/blksnap-image{i.image_dev_id.mn}")))

    def info(self) -> SnapshotInfo:
        """Ask what it holds, since when, and for whom."""
        info = _native.SnapshotInfo()
        devs = ctypes.POINTER(_native.Dev)()
        self._call("snapshot_info", ctypes.byref(info), ctypes.byref(devs))
        return SnapshotInfo(_take(devs, info.count, _from_dev), info.state, info.age_ms,
                            info.pid, info.comm.decode(errors="replace"),
                            bool(info.flags & _native.INFO_CREATOR_ENDED))

    def wait_event(self, timeout: Optional[float] = None) -> Optional[Event]:
        """Wait for an event, at most timeout seconds; None if none arises in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        event = _native.SnapshotEvent()
        while True:
            ms = _WAIT_MS
            if deadline is not None:
                ms = max(0, min(_WAIT_MS, round((deadline - time.monotonic()) * 1000)))
            try:
                self._call("snapshot_wait_event", ms, ctypes.byref(event))
            except Error as error:
                if error.errno == errno.ENOENT and ms != _WAIT_MS:
                    return None
                # Python has its own way to treat a signal before the loop goes on.
                if error.errno not in (errno.EINTR, errno.ENOENT):
                    raise
            else:
                return _make_event(event)

    def events(self) -> Iterator[Event]:
        """Yield each event until the snapshot is destroyed."""
        while True:
            try:
                event = self.wait_event()
            except Error as error:
                if error.errno == errno.ESRCH:
                    return
                raise
            if event:
                yield event

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(self, *_exception) -> None:
        try:
            self.destroy()
        except Error as error:
            if error.errno != errno.ENODEV:
                raise


def _make_event(event: _native.SnapshotEvent) -> Event:
    if event.code == _native.EVENT_LOW_FREE_SPACE:
        low = _native.LowFreeSpace.from_buffer(event.data)
        return Event("low_free_space", event.time_label, low.requested_nr_sect)
    if event.code == _native.EVENT_CORRUPTED:
        lost = _native.Corrupted.from_buffer(event.data)
        return Event("corrupted", event.time_label, 0, _from_dev(lost.orig_dev_id),
                     lost.err_code)
    return Event(event.code, event.time_label)


class Module(_Object):
    """A connection to the module; a context manager that closes it at the end.

    Snapshots stay until they are destroyed.
    """

    _free = lib.blksnap_close

    def __init__(self) -> None:
        handle = ctypes.c_void_p()
        _check(lib.blksnap_open(ctypes.byref(handle)))
        super().__init__(handle)

    def version(self) -> Tuple[int, int, int, int]:
        """Return the version of the module."""
        version = _native.Version()
        _check(lib.blksnap_version(self._open(), ctypes.byref(version)))
        return version.major, version.minor, version.revision, version.build

    def trackers(self) -> List[TrackerInfo]:
        """List the tracked devices; one that has gone away has no blocks."""
        infos = ctypes.POINTER(_native.CbtInfo)()
        count = ctypes.c_uint()
        _check(lib.blksnap_tracker_collect(self._open(), ctypes.byref(infos),
                                           ctypes.byref(count)))
        return _take(infos, count.value, _from_info)

    def tracker(self, number: Device) -> TrackerInfo:
        """Find the state of one tracked device."""
        info = _native.CbtInfo()
        _check(lib.blksnap_tracker_info(self._open(), _native.Dev(*number),
                                        ctypes.byref(info)))
        return _from_info(info)

    def untrack(self, number: Device) -> None:
        """Stop tracking a device: its next backup is a full one."""
        _check(lib.blksnap_tracker_remove(self._open(), _native.Dev(*number)))

    def mark_dirty(self, number: Device, ranges: Sequence[Range]) -> None:
        """Mark ranges as changed, of a device or of an image of it."""
        _check(lib.blksnap_tracker_mark_dirty_blocks(
            self._open(), _native.Dev(*number), _to_ranges(ranges), len(ranges)))

    def changes(self, number: Device) -> ChangeMap:
        """Read the change map of the last snapshot of a device."""
        handle = ctypes.c_void_p()
        _check(lib.blksnap_cbt_load(self._open(), _native.Dev(*number),
                                    ctypes.byref(handle)))
        return ChangeMap(handle)

    def create(self, devices: Iterable[Device]) -> Snapshot:
        """Prepare a snapshot of devices, which are tracked from now on."""
        devs = [_native.Dev(*number) for number in devices]
        identifier = _native.Uuid()
        _check(lib.blksnap_snapshot_create(self._open(), (_native.Dev * len(devs))(*devs),
                                           len(devs), ctypes.byref(identifier)))
        return Snapshot(self, _from_uuid(identifier))

    def snapshot(self, identifier: "uuid.UUID | str") -> Snapshot:
        """Return a snapshot that was created elsewhere."""
        if isinstance(identifier, str):
            identifier = uuid.UUID(identifier)
        return Snapshot(self, identifier)

    def snapshots(self) -> List[Snapshot]:
        """List the snapshots."""
        ids = ctypes.POINTER(_native.Uuid)()
        count = ctypes.c_uint()
        _check(lib.blksnap_snapshot_collect(self._open(), ctypes.byref(ids),
                                            ctypes.byref(count)))
        return [Snapshot(self, i) for i in _take(ids, count.value, _from_uuid)]
